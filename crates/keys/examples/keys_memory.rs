//! Resident memory of keys, and of the peers that are active under them.
//!
//! `cargo run --release -p aquatic_keys --example keys_memory` (Linux: reads /proc/self/status).

use std::error::Error;
use std::fmt::Write;
use std::fs;

use aquatic_keys::{Announcer, KeyList, KeyMode, SharedKeys};
use aquatic_types::Seconds;

const KEYS: u32 = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let before = resident_bytes()?;
    let plain = SharedKeys::new(KeyMode::Require, list("")?);
    let with_plain = resident_bytes()?;
    let limited = SharedKeys::new(KeyMode::Require, list(" peers=1000")?);
    let with_limited = resident_bytes()?;
    println!("a key: {} bytes", (with_plain - before) / KEYS as usize);
    println!(
        "a key with a limit: {} bytes",
        (with_limited - with_plain) / KEYS as usize
    );
    let mut reader = limited.reader();
    let mut peers = 0;
    for peers_each in [1, 5, 20, 50] {
        for key in 0..KEYS {
            let text = format!("{key:032x}");
            for peer in peers..peers_each {
                let announcer = Announcer {
                    now: Seconds(0),
                    age_seconds_max: Some(1_200),
                    peer: (key, peer),
                };
                reader.admit(Some(text.as_bytes()), announcer)?;
            }
        }
        let bytes = resident_bytes()? - with_limited;
        let per_peer = bytes / (KEYS * peers_each) as usize;
        println!("an active peer, {peers_each} per key: {per_peer} bytes");
        peers = peers_each;
    }
    drop((plain, limited));
    Ok(())
}

/// Keys of 32 digits.
fn list(attributes: &str) -> Result<KeyList, Box<dyn Error>> {
    let mut file = String::new();
    for key in 0..KEYS {
        writeln!(file, "{key:032x}{attributes}")?;
    }
    Ok(KeyList::parse(file.as_bytes())?)
}

fn resident_bytes() -> Result<usize, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kibibytes.ok_or("no VmRSS")?.parse::<usize>()? * 1_024)
}
