//! Bytes as a packet of 5.0; see [`check_decoding`].
#![no_main]

use libfuzzer_sys::fuzz_target;
use oncemq::proto::Version;
use oncemq_fuzz::check_decoding;

fuzz_target!(|input: &[u8]| check_decoding(Version::V5, input));
