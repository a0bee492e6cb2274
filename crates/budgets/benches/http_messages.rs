//! How many instructions the usual messages cost (needs `valgrind`):
//!
//! ```text
//! cargo bench -p aquatic_budgets --bench http_messages
//! ```

#![forbid(unsafe_code)]

use std::error::Error;
use std::hint::black_box;

use aquatic_budgets::{Case, Work};
use aquatic_http_protocol::{
    AnnounceResponse, Connection, FailureResponse, Framing, Head, PeerForm, Request, Response,
    ResponseHead, Retry, ScrapeFile, ScrapeResponse,
};
use aquatic_types::{InfoHash, PerFamily};

const FRAMING: Framing = Framing {
    connection: Connection::KeepAlive,
    omit_body: false,
};

const CASES: [Case; 8] = [
    ("read the head of an announce", Work::Buffer(read_head)),
    (
        "read the head and the query of an announce",
        Work::Buffer(read_announce),
    ),
    ("read a scrape of 50 torrents", Work::Buffer(read_scrape)),
    (
        "write an announce answer, no peers",
        Work::Buffer(write_no_peers),
    ),
    (
        "write an announce answer, 50 peers",
        Work::Buffer(write_50_peers),
    ),
    (
        "write a scrape answer, 50 torrents",
        Work::Buffer(write_scrape),
    ),
    ("write a failure", Work::Buffer(write_failure)),
    (
        "read an announce answer, 50 peers",
        Work::Buffer(read_answer),
    ),
];

const ANNOUNCE: &[u8] = b"GET /announce?info_hash=%5e%a1%0d%3c%aaP%f4%84%1c%9bQ%b0%bez%e6%c5%1e%e2\
    %d9I&peer_id=-TR4060-3tbn4lz8qo1v&port=51413&uploaded=0&downloaded=0&left=734003200&numwant=80\
    &key=5A3C8B1E&compact=1&supportcrypto=1&event=started HTTP/1.1\r\n\
    Host: tracker.example.org:3000\r\n\
    User-Agent: Transmission/4.0.6\r\n\
    Accept: */*\r\n\
    Accept-Encoding: deflate, gzip, br, zstd\r\n\
    Connection: keep-alive\r\n\
    \r\n";

fn read_head(_: &mut Vec<u8>) {
    black_box(Head::parse(black_box(ANNOUNCE)).unwrap().unwrap());
}

fn read_announce(_: &mut Vec<u8>) {
    let head = Head::parse(black_box(ANNOUNCE)).unwrap().unwrap();
    black_box(Request::parse(head.path, head.query).unwrap());
}

fn read_scrape(out: &mut Vec<u8>) {
    if out.is_empty() {
        out.extend_from_slice(b"GET /scrape?");
        out.extend(b"info_hash=%5e%a1%0d%3c%aaP%f4%84%1c%9bQ%b0%bez%e6%c5%1e%e2%d9I&".repeat(50));
        out.extend_from_slice(b" HTTP/1.1\r\nHost: tracker.example.org:3000\r\n\r\n");
    }
    let head = Head::parse(black_box(out)).unwrap().unwrap();
    let Request::Scrape(scrape) = Request::parse(head.path, head.query).unwrap() else {
        panic!("not read as a scrape");
    };
    assert_eq!(scrape.info_hashes.iter().map(black_box).count(), 50);
}

fn announce_response(rows: &[u8]) -> AnnounceResponse<'_> {
    AnnounceResponse {
        seeders: 1234,
        completed: 56_789,
        leechers: 321,
        interval_seconds: 120,
        min_interval_seconds: None,
        external_ip: Some([192, 0, 2, 7].into()),
        peers: PerFamily {
            v4: rows.into(),
            v6: (&[]).into(),
        },
        peer_form: PeerForm::Compact,
    }
}

fn write_no_peers(out: &mut Vec<u8>) {
    out.clear();
    black_box(announce_response(&[])).write(black_box(FRAMING), out);
}

fn write_50_peers(out: &mut Vec<u8>) {
    out.clear();
    black_box(announce_response(&[7; 6 * 50])).write(black_box(FRAMING), out);
}

fn write_scrape(out: &mut Vec<u8>) {
    out.clear();
    let file = |byte| ScrapeFile {
        info_hash: InfoHash([byte; 20]),
        seeders: 12,
        completed: 345,
        leechers: 6,
        downloaders: 6,
    };
    let mut files = black_box((0..50).rev().map(file).collect());
    ScrapeResponse::new(&mut files).write(black_box(FRAMING), out);
}

fn write_failure(out: &mut Vec<u8>) {
    out.clear();
    let failure = FailureResponse {
        reason: b"info hash is not allowed",
        interval_seconds: None,
        min_interval_seconds: None,
        retry: Some(Retry::Never),
    };
    black_box(failure).write(black_box(FRAMING), out);
}

fn read_answer(out: &mut Vec<u8>) {
    if out.is_empty() {
        write_50_peers(out);
    }
    let head = ResponseHead::parse(black_box(out)).unwrap().unwrap();
    black_box(Response::parse(&out[head.size..]).unwrap());
}

fn main() -> Result<(), Box<dyn Error>> {
    aquatic_budgets::report("http_messages", &CASES)
}
