//! Any bytes at the operator's endpoint, in any pieces: answers are those to the whole, and only
//! who shows the token has something done.
#![no_main]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aquatic_daemon::endpoint::{Guard, Response, Routes, Token, answers};
use aquatic_daemon::live::LiveSettings;
use libfuzzer_sys::fuzz_target;

const TOKEN: &[u8] = b"0123456789abcdef";

/// What a client is told that waits for a word before it sends a body: it depends on how much of
/// the body has come.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    // A larger head is refused as soon as it is too large, which depends on the pieces.
    let bytes = &bytes[..bytes.len().min(4_096)];
    let (whole, done) = answers_to([bytes].into_iter());
    let (parts, done_by_parts) = answers_to(bytes.chunks(usize::from(piece).max(1)));
    assert!(whole.is_empty() || whole.starts_with(b"HTTP/1.1 "));
    assert_eq!(whole, parts);
    assert_eq!(done, done_by_parts);
    let shows_token = bytes.windows(TOKEN.len()).any(|window| window == TOKEN);
    assert!(done == 0 || shows_token);
});

fn answers_to<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, usize) {
    let done = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&done);
    let token = Token::parse(TOKEN).unwrap();
    let mut routes = Routes::default()
        .guarded_by(Guard::new(Some(LiveSettings::new(token)), &[]))
        .with("/metrics", |_| Response::ok("text/plain", "a 1\n"))
        .with_action("/do", 64, move |post| {
            counter.fetch_add(1, Ordering::Relaxed);
            assert!(post.body.len() <= 64);
            Response::ok("text/plain", post.body.escape_ascii().to_string())
        });
    let mut answers = answers(&mut routes, pieces);
    while let Some(at) = answers
        .windows(CONTINUE.len())
        .position(|window| window == CONTINUE)
    {
        answers.drain(at..at + CONTINUE.len());
    }
    (answers, done.load(Ordering::Relaxed))
}
