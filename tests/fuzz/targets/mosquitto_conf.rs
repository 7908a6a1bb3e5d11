//! A mosquitto.conf: it is converted, whatever stands in it, and each key of the result is good by itself.
#![no_main]

use std::ffi::OsString;
use std::io::ErrorKind;

use libfuzzer_sys::fuzz_target;
use oncemq::cli::{MosquittoFile, action, convert};
use oncemq_fuzz::text;

fuzz_target!(|input: &[u8]| {
    let Some(text) = text(input) else { return };
    let main = MosquittoFile { name: "m.conf".to_owned(), text: text.to_owned() };
    let conversion = convert(&main, |_| Err(ErrorKind::NotFound.into()));
    assert!(conversion.summary().contains("carried over"));
    let arguments = ["oncemq", "config", "check", "--config=it.toml"].map(OsString::from);
    if let Err(error) = action(&arguments, |_| Ok(conversion.text.clone())) {
        let error = error.to_string();
        // Whether they fit together is for who starts the broker to see.
        assert!(!error.contains("it.toml:") || error.contains(" has "), "{error}\n{}", conversion.text);
    }
});
