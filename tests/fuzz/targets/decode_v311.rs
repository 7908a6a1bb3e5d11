//! Bytes as a packet of 3.1.1; see [`check_decoding`].
#![no_main]

use libfuzzer_sys::fuzz_target;
use oncemq::proto::Version;
use oncemq_fuzz::check_decoding;

fuzz_target!(|input: &[u8]| check_decoding(Version::V311, input));
