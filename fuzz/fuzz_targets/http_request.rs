//! Any bytes as an HTTP request: where the head ends does not depend on what follows, and what can
//! be read, is written the same.
#![no_main]

use aquatic_http_protocol::{Head, Request, Target};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(head)) = Head::parse(bytes) else {
        return;
    };
    let whole = &bytes[..head.size];
    assert!(Head::may_end(whole, 0), "its end would be overlooked");
    assert_eq!(Head::parse(whole).as_ref(), Ok(&Some(head)));
    let mut headers = head.headers();
    let is_last = |value| headers.any(|(_, other)| other == value);
    assert!(head.last_header("X-Forwarded-For").is_none_or(is_last));
    if let Ok(request) = Request::parse(head.path, head.query) {
        let mut written = Vec::new();
        let target = Target {
            host: "tracker.example",
            announce_path: "/announce",
            keep_alive: true,
        };
        request.write(target, &mut written);
        let head = Head::parse(&written).expect("a head").expect("all of it");
        assert_eq!(Request::parse(head.path, head.query), Ok(request));
    }
});
