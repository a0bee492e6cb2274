//! Any bytes as a UDP response: what can be read, is written the same.
#![no_main]

use aquatic_types::IpFamily;
use aquatic_udp_protocol::Response;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for family in IpFamily::ALL {
        if let Ok(response) = Response::parse(bytes, family) {
            let mut written = Vec::new();
            response.write(&mut written);
            assert_eq!(Response::parse(&written, family), Ok(response));
        }
    }
});
