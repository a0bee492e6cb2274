//! Any bytes as a PROXY header: nothing that follows changes what has been said.
#![no_main]

use aquatic_stream::proxy_header::{PROXY_HEADER_SIZE_MAX, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    assert!(whole != Ok(None) || bytes.len() < PROXY_HEADER_SIZE_MAX);
    if let Ok(Some(header)) = whole {
        assert!(header.size <= bytes.len());
    }
    for end in 0..bytes.len().min(256) {
        let part = parse(&bytes[..end]);
        assert!(part == Ok(None) || part == whole, "{end} bytes");
    }
});
