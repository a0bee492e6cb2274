//! How many instructions the usual messages cost (needs `valgrind`):
//!
//! ```text
//! cargo bench -p aquatic_budgets --bench ws_messages
//! ```

#![forbid(unsafe_code)]

mod messages;

use std::error::Error;
use std::hint::black_box;
use std::sync::OnceLock;

use aquatic_budgets::{Case, Work};
use aquatic_types::InfoHash;
use aquatic_ws_protocol::{
    AnnounceResponse, ForwardedOffer, Message, OfferId, Request, RequestError, RequestErrorKind,
    Response, ScrapeFile, ScrapeRequest, ScrapeResponse,
};

use messages::{INFO_HASH, PEER_ID, announce, answer, bytes_20, session_description};

const CASES: [Case; 8] = [
    (
        "read an announce with 10 offers",
        Work::Buffer(read_announce),
    ),
    ("read an answer", Work::Buffer(read_answer)),
    ("read a scrape of 50 torrents", Work::Buffer(read_scrape)),
    ("write an announce reply", Work::Buffer(write_reply)),
    ("write an offer", Work::Buffer(write_offer)),
    (
        "write a scrape reply, 50 torrents",
        Work::Buffer(write_scrape_reply),
    ),
    ("write a failure", Work::Buffer(write_failure)),
    ("read an offer", Work::Buffer(read_offer)),
];

fn main() -> Result<(), Box<dyn Error>> {
    aquatic_budgets::report("ws_messages", &CASES)
}

fn read_announce(_: &mut Vec<u8>) {
    let request = Request::parse(black_box(announce()));
    assert!(
        matches!(black_box(request), Ok(Request::Announce(request)) if request.offers.len() == 10)
    );
}

fn read_answer(_: &mut Vec<u8>) {
    let request = Request::parse(black_box(answer()));
    assert!(matches!(black_box(request), Ok(Request::Answer(_))));
}

fn read_scrape(out: &mut Vec<u8>) {
    if out.is_empty() {
        let info_hashes = vec![INFO_HASH; 50];
        Request::Scrape(ScrapeRequest { info_hashes }).write(out);
    }
    let Ok(Request::Scrape(scrape)) = Request::parse(black_box(out)) else {
        panic!("not read as a scrape");
    };
    assert_eq!(black_box(scrape).info_hashes.len(), 50);
}

fn write_reply(out: &mut Vec<u8>) {
    out.clear();
    let reply = AnnounceResponse {
        info_hash: INFO_HASH,
        seeders: 1234,
        leechers: 321,
        interval_seconds: 120,
        warning: None,
    };
    black_box(reply).write(out);
}

fn offer() -> ForwardedOffer<'static> {
    static OFFER: OnceLock<String> = OnceLock::new();
    ForwardedOffer {
        info_hash: INFO_HASH,
        peer_id: PEER_ID,
        offer_id: OfferId(bytes_20(3)),
        offer: OFFER.get_or_init(|| session_description("offer")),
    }
}

fn write_offer(out: &mut Vec<u8>) {
    out.clear();
    black_box(offer()).write(out);
}

fn read_offer(out: &mut Vec<u8>) {
    if out.is_empty() {
        write_offer(out);
    }
    let response = Response::parse(black_box(out));
    assert!(matches!(black_box(response), Ok(Response::Offer(_))));
}

fn write_scrape_reply(out: &mut Vec<u8>) {
    out.clear();
    let file = |seed| ScrapeFile {
        info_hash: InfoHash(bytes_20(seed)),
        seeders: 12,
        completed: 345,
        leechers: 6,
    };
    let mut files = black_box((0..50).rev().map(file).collect());
    ScrapeResponse::new(&mut files).write(out);
}

fn write_failure(out: &mut Vec<u8>) {
    out.clear();
    let error = RequestError {
        kind: RequestErrorKind::PeerIdSize,
        action: aquatic_ws_protocol::Action::Announce,
        info_hash: Some(INFO_HASH),
    };
    black_box(error).response().write(out);
}
