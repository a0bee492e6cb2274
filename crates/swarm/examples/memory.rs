//! Resident memory of three populations of IPv4 peers, and of a lively one after three hours of
//! changes.
//!
//! `cargo run --release -p aquatic_swarm --example memory` (Linux: reads /proc/self/status).
//! Each population is filled in a process of its own, so that none inherits another one's heap.

use std::error::Error;
use std::num::{NonZeroU8, NonZeroU16};
use std::process::Command;

use aquatic_swarm::{
    Announce, CleaningCursor, CleaningVisitor, Counts, HashKey, Keep, Limits, TorrentMap,
};
use aquatic_types::{CompactV4, InfoHash, PeerStatus, Seconds};

type Map = TorrentMap<CompactV4>;
type Failure = Box<dyn Error>;
type Fill = fn(&mut Map) -> Result<(), Failure>;

const POPULATIONS: [(&str, Fill); 4] = [
    ("2 M torrents × 1 peer", |map| fill(map, 2_000_000, 1)),
    ("100 k torrents × 40 peers", |map| fill(map, 100_000, 40)),
    ("1 torrent × 1 M peers", |map| fill(map, 1, 1_000_000)),
    ("300 k torrents, 3 M peers, 3 h", live),
];

fn main() -> Result<(), Failure> {
    if let Some(number) = std::env::args().nth(1) {
        let (name, fill) = POPULATIONS
            .get(number.parse::<usize>()?)
            .ok_or("no such population")?;
        return measure(name, *fill);
    }
    println!(
        "{:<34}{:>14}{:>14}{:>14}",
        "population", "bytes", "per torrent", "per peer"
    );
    for number in 0..POPULATIONS.len() {
        Command::new(std::env::current_exe()?)
            .arg(number.to_string())
            .status()?;
    }
    Ok(())
}

fn measure(name: &str, fill: Fill) -> Result<(), Failure> {
    let before = resident_bytes()?;
    // As the trackers have it by default.
    let limits = Limits {
        max_peers_per_network: NonZeroU16::new(64),
        max_response_peers_per_network: NonZeroU8::new(3),
        ..Limits::default()
    };
    let mut map = Map::new(HashKey::new([1, 2]), limits);
    fill(&mut map)?;
    let bytes = resident_bytes()? - before;
    let (torrents, peers) = (map.torrents(), map.peers());
    let per = |count: usize| {
        let tenths = bytes * 10 / count;
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    println!(
        "{name:<34}{bytes:>14}{:>14}{:>14}",
        per(torrents),
        per(peers)
    );
    Ok(())
}

/// One peer after the other comes to each torrent in turn, so that all swarms grow side by side.
fn fill(map: &mut Map, torrents: u64, peers: u32) -> Result<(), Failure> {
    let mut rng = fastrand::Rng::with_seed(3);
    for peer in 0..peers {
        for torrent in 0..torrents {
            announce(map, torrent, peer, PeerStatus::Leecher, 0, &mut rng)?;
        }
    }
    Ok(())
}

/// Three hours of peers that come, finish, stop or vanish, in swarms of very different sizes:
/// shows what the heap makes of it.
fn live(map: &mut Map) -> Result<(), Failure> {
    let mut rng = fastrand::Rng::with_seed(4);
    let mut cursor = CleaningCursor::default();
    for minute in 0..3 * 60 {
        for _ in 0..150_000 {
            // The fourth power of a fraction: few torrents are very popular, most have 1 or 2
            // peers.
            let torrent = popular_torrent(&mut rng);
            let status = match rng.u8(..10) {
                0..3 => PeerStatus::Leecher,
                3..8 => PeerStatus::Seeder,
                _ => PeerStatus::Stopped,
            };
            announce(map, torrent, rng.u32(..), status, minute * 60, &mut rng)?;
        }
        if minute % 2 == 1 {
            while !map.clean(&mut cursor, Seconds(minute * 60), 10_000, &mut KeepAll) {}
        }
    }
    Ok(())
}

/// One of 450,000. The number is a fourth power: few are very popular, most have 1 or 2 peers.
fn popular_torrent(rng: &mut fastrand::Rng) -> u64 {
    let square = u64::from(rng.u32(..1 << 20)).pow(2) >> 20;
    let fourth = square.pow(2) >> 20;
    (fourth * 450_000) >> 20
}

fn announce(
    map: &mut Map,
    torrent: u64,
    peer: u32,
    status: PeerStatus,
    now: u32,
    rng: &mut fastrand::Rng,
) -> Result<(), Failure> {
    let mut info_hash = [0; 20];
    info_hash[..8].copy_from_slice(&torrent.to_le_bytes());
    let [a, b, c, d] = peer.to_be_bytes();
    let announce = Announce {
        peer: CompactV4([a, b, c, d, 0x1a, 0xe1]),
        status,
        completed: false,
        num_want: 0,
    };
    map.announce(
        &map.key(InfoHash(info_hash)),
        &announce,
        Seconds(now + 1_200),
        &mut Keep(()),
        rng,
        |_, ()| (),
    )?;
    Ok(())
}

struct KeepAll;

impl CleaningVisitor<CompactV4, ()> for KeepAll {
    fn keep(&mut self, _: &InfoHash) -> bool {
        true
    }

    fn peer_removed(&mut self, _: &CompactV4, (): ()) {}

    fn torrent_remains(&mut self, _: &InfoHash, _: Counts) {}
}

fn resident_bytes() -> Result<usize, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .ok_or("no VmRSS")?;
    Ok(kib.parse::<usize>()? * 1024)
}
