//! The request for a WebSocket: what is decided about one does not depend on how much is received behind it, and is not decided
//! before it is there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oncemq::config::{MAX_UPGRADE_REQUEST_BYTES, WebSocketRules};
use oncemq::gate::fuzzing::{Verdict, upgrade_verdict};

fuzz_target!(|input: &[u8]| {
    let input = &input[..input.len().min(MAX_UPGRADE_REQUEST_BYTES)];
    for rules in [
        WebSocketRules::default(),
        WebSocketRules { origins: vec!["https://panel.example".into()], ..WebSocketRules::default() },
    ] {
        let Verdict::Granted { bytes } = upgrade_verdict(input, &rules) else { continue };
        assert!(input[..bytes].ends_with(b"\n"));
        assert_eq!(upgrade_verdict(&input[..bytes], &rules), Verdict::Granted { bytes });
        assert_eq!(upgrade_verdict(&input[..bytes - 1], &rules), Verdict::Incomplete);
    }
});
