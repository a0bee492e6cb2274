//! How many instructions the usual datagrams cost (needs `valgrind`):
//!
//! ```text
//! cargo bench -p aquatic_budgets --bench udp_messages
//! ```

#![forbid(unsafe_code)]

use std::error::Error;
use std::hint::black_box;

use aquatic_budgets::{Case, Work};
use aquatic_udp_protocol::Request;

const CASES: [Case; 3] = [
    ("read a connect", Work::Buffer(read_connect)),
    ("read an announce", Work::Buffer(read_announce)),
    ("read a scrape of 50 torrents", Work::Buffer(read_scrape)),
];

fn main() -> Result<(), Box<dyn Error>> {
    aquatic_budgets::report("udp_messages", &CASES)
}

fn read_connect(datagram: &mut Vec<u8>) {
    if datagram.is_empty() {
        datagram.extend(0x0417_2710_1980_u64.to_be_bytes());
        datagram.extend([0; 4]);
        datagram.extend([9; 4]);
    }
    assert!(matches!(
        black_box(Request::parse(black_box(datagram))),
        Ok(Request::Connect(_))
    ));
}

fn read_announce(datagram: &mut Vec<u8>) {
    if datagram.is_empty() {
        head(datagram, 1);
        datagram.extend([0xa1; 20]);
        datagram.extend(b"-TR4060-3tbn4lz8qo1v");
        datagram.extend([0; 24]);
        datagram.extend(2_u32.to_be_bytes());
        datagram.extend([0; 8]);
        datagram.extend((-1_i32).to_be_bytes());
        datagram.extend(51_413_u16.to_be_bytes());
    }
    assert!(matches!(
        black_box(Request::parse(black_box(datagram))),
        Ok(Request::Announce(_))
    ));
}

fn read_scrape(datagram: &mut Vec<u8>) {
    if datagram.is_empty() {
        head(datagram, 2);
        datagram.extend([0xa1; 50 * 20]);
    }
    let Ok(Request::Scrape(scrape)) = Request::parse(black_box(datagram)) else {
        panic!("not read as a scrape");
    };
    assert_eq!(black_box(scrape).info_hashes.iter().count(), 50);
}

/// Connection id, action and transaction id.
fn head(datagram: &mut Vec<u8>, action: u32) {
    datagram.extend([5; 8]);
    datagram.extend(action.to_be_bytes());
    datagram.extend([9; 4]);
}
