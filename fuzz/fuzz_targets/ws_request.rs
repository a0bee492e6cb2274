//! Any bytes as a message of a WebTorrent client.
#![no_main]

use aquatic_ws_protocol::{Message, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut request) = Request::parse(bytes) else {
        return;
    };
    // What is said about offers that were skipped is not said in what is written of the others.
    if let Request::Announce(announce) = &mut request {
        announce.skipped = None;
    }
    let mut written = Vec::new();
    match &request {
        Request::Announce(announce) => announce.write(&mut written),
        Request::Answer(answer) => answer.write(&mut written),
        Request::Scrape(scrape) => scrape.write(&mut written),
    }
    assert_eq!(Request::parse(&written), Ok(request));
});
