//! Any bytes at the endpoint for metrics, in any pieces: answers are those to the whole.
#![no_main]

use aquatic_daemon::endpoint::{Response, Routes, answers};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    // A larger head is refused as soon as it is too large, which depends on the pieces.
    let bytes = &bytes[..bytes.len().min(4_096)];
    let whole = answers(&mut routes(), [bytes].into_iter());
    let parts = answers(&mut routes(), bytes.chunks(usize::from(piece).max(1)));
    assert!(whole.is_empty() || whole.starts_with(b"HTTP/1.1 "));
    assert_eq!(whole, parts);
});

fn routes() -> Routes {
    Routes::default().with("/metrics", || Response::ok("text/plain", "a 1\n"))
}
