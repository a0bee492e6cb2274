//! Any bytes as a message of a WebTorrent tracker.
#![no_main]

use aquatic_ws_protocol::{Message, Response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(response) = Response::parse(bytes) else {
        return;
    };
    let mut written = Vec::new();
    match &response {
        Response::Announce(announce) => announce.write(&mut written),
        Response::Offer(offer) => offer.write(&mut written),
        Response::Answer(answer) => answer.write(&mut written),
        Response::Scrape(scrape) => scrape.write(&mut written),
        Response::Failure(failure) => failure.write(&mut written),
    }
    assert_eq!(Response::parse(&written), Ok(response));
});
