//! Any bytes as the head and as the body of an HTTP response: what can be read, is written so that
//! it means the same.
#![no_main]

use aquatic_http_protocol::{BodySize, Connection, Framing, Response, ResponseHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = ResponseHead::parse(bytes);
    let Ok(response) = Response::parse(bytes) else {
        return;
    };
    let framing = Framing {
        connection: Connection::KeepAlive,
        omit_body: false,
    };
    let write = |response: &Response<'_>| {
        let mut written = Vec::new();
        response.write(framing, &mut written);
        let head = ResponseHead::parse(&written)
            .expect("a head")
            .expect("all of it");
        let body = written.split_off(head.size);
        assert_eq!(head.body, BodySize::Known(body.len().try_into().unwrap()));
        body
    };
    let body = write(&response);
    let read = Response::parse(&body).expect("a response");
    assert_eq!(write(&read), body);
});
