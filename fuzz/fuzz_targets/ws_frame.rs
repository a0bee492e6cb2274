//! Any bytes as WebSocket frames: each is read whole or not at all, and takes some of the bytes.
#![no_main]

use aquatic_ws::frames::Frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (payload_bytes_max, mut bytes) = input;
    while let Ok(Some(frame)) = Frame::read(bytes, payload_bytes_max.into()) {
        assert!(0 < frame.size && frame.size <= bytes.len());
        let mut payload = Vec::new();
        frame.unmask(&mut payload);
        assert_eq!(payload.len(), frame.payload_bytes());
        bytes = &bytes[frame.size..];
    }
});
