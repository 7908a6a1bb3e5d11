//! The header of a proxy, in both versions: what is decided about one does not depend on how much is received behind it, and is
//! not decided for it before it is there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oncemq::config::PROXY_HEADER_BYTES_MAX;
use oncemq::gate::fuzzing::{Verdict, proxy_verdict};

fuzz_target!(|input: &[u8]| {
    match proxy_verdict(input) {
        Verdict::Incomplete => assert!(input.len() < PROXY_HEADER_BYTES_MAX),
        Verdict::Granted { bytes } => {
            assert!(bytes <= PROXY_HEADER_BYTES_MAX);
            assert_eq!(proxy_verdict(&input[..bytes]), Verdict::Granted { bytes });
            assert!((0..bytes).all(|received| proxy_verdict(&input[..received]) == Verdict::Incomplete));
        }
        // Whatever comes next makes it no better.
        Verdict::Refused => assert_eq!(proxy_verdict(&[input, &[0; 16]].concat()), Verdict::Refused),
    }
});
