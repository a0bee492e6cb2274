//! Any bytes as a UDP request: what can be read, is written the same.
#![no_main]

use aquatic_udp_protocol::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = Request::parse(bytes) {
        let mut written = Vec::new();
        request.write(&mut written);
        assert_eq!(Request::parse(&written), Ok(request));
    }
});
