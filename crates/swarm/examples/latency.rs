//! How long operations take: on average in a large map, and at worst while it grows and is cleaned.
//!
//! `cargo run --release -p aquatic_swarm --example latency`

use std::hint::black_box;
use std::time::Duration;

use aquatic_swarm::{
    Announce, CleaningCursor, CleaningVisitor, Counts, HashKey, Keep, Limits, Refusal, TorrentMap,
};
use aquatic_types::{CompactV4, InfoHash, PeerStatus, Seconds};
use nix::time::ClockId;

const BATCH: usize = 32;
const DEADLINE: Seconds = Seconds(1_000);

/// Torrents or peers looked at per slice of cleaning.
const CLEANING_BUDGET: usize = 500;

fn main() -> Result<(), Refusal> {
    let mut bench = Bench::new();
    println!("1 M torrents, popularity as 1/rank, 4 M announces to fill");
    bench.fill_popular(1_000_000, 4_000_000)?;
    for round in 1..=3 {
        for fetched in [Fetched::Nothing, Fetched::Torrents, Fetched::Peers] {
            let nanoseconds = bench.time_popular(1_000_000, 2_000_000, fetched)?;
            println!("  round {round}, {fetched:<8?} fetched {nanoseconds:>6} ns per announce");
        }
    }
    bench.report_cleaning();

    let mut bench = Bench::new();
    println!("10 M torrents with one peer each");
    bench.report_growth((0..10_000_000).map(|torrent| (torrent, 1)))?;
    bench.report_cleaning();

    let mut bench = Bench::new();
    println!("1 torrent with 1 M peers");
    bench.report_growth((0..1_000_000).map(|peer| (0, peer)))?;
    bench.report_cleaning();
    Ok(())
}

/// What is fetched into the cache before a batch of announces.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Fetched {
    Nothing,
    Torrents,
    /// And torrents.
    Peers,
}

struct Bench {
    map: TorrentMap<CompactV4>,
    rng: fastrand::Rng,
}

impl Bench {
    fn new() -> Self {
        Self {
            map: TorrentMap::new(HashKey::new([1, 2]), Limits::default()),
            rng: fastrand::Rng::with_seed(3),
        }
    }

    fn fill_popular(&mut self, torrents: u32, announces: u32) -> Result<(), Refusal> {
        for torrent in 0..torrents {
            self.announce(torrent, torrent, 0)?;
        }
        for _ in 0..announces {
            let (torrent, peer) = self.popular(torrents);
            self.announce(torrent, peer, 0)?;
        }
        println!(
            "  {} torrents, {} peers",
            self.map.torrents(),
            self.map.peers()
        );
        Ok(())
    }

    /// Nanoseconds per announce; batches as a worker gets them, with keys made beforehand.
    fn time_popular(
        &mut self,
        torrents: u32,
        announces: u32,
        fetched: Fetched,
    ) -> Result<u128, Refusal> {
        let mut spent = Duration::ZERO;
        let mut batches = 0;
        for _ in 0..announces / 32 {
            let requests: [_; BATCH] = std::array::from_fn(|_| self.popular(torrents));
            let keys = requests.map(|(torrent, _)| self.map.key(info_hash(torrent)));
            let start = cpu_time();
            if fetched >= Fetched::Torrents {
                self.map.prefetch(&keys);
            }
            if fetched >= Fetched::Peers {
                let peers = requests.map(|(_, peer)| announce(peer, 0).peer);
                self.map.prefetch_peers(&keys, peers);
            }
            for (key, (_, peer)) in keys.iter().zip(requests) {
                let announce = announce(peer, 50);
                let mut answer = [0_u8; 6 * 50];
                let mut rows = answer.chunks_exact_mut(6);
                let select_peers = |peer: &CompactV4, (): &()| {
                    if let Some(row) = rows.next() {
                        row.copy_from_slice(&peer.0);
                    }
                };
                self.map.announce(
                    key,
                    &announce,
                    DEADLINE,
                    &mut Keep(()),
                    &mut self.rng,
                    select_peers,
                )?;
                black_box(&answer);
            }
            spent += cpu_time() - start;
            batches += 1;
        }
        Ok(spent.as_nanos() / (batches * BATCH as u128))
    }

    /// A torrent with a chance of about 1/rank, and one of as many peers as befits its rank.
    fn popular(&mut self, torrents: u32) -> (u32, u32) {
        let rank = f64::from(torrents).powf(self.rng.f64());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and the number of torrents"
        )]
        let rank = rank as u32;
        (rank - 1, self.rng.u32(..400_000 / rank + 2))
    }

    fn announce(&mut self, torrent: u32, peer: u32, wanted: u16) -> Result<(), Refusal> {
        let key = self.map.key(info_hash(torrent));
        self.map.announce(
            &key,
            &announce(peer, wanted),
            DEADLINE,
            &mut Keep(()),
            &mut self.rng,
            |_, ()| (),
        )?;
        Ok(())
    }

    fn report_growth(&mut self, peers: impl Iterator<Item = (u32, u32)>) -> Result<(), Refusal> {
        let mut slowest = Slowest::default();
        for (torrent, peer) in peers {
            let start = cpu_time();
            self.announce(torrent, peer, 50)?;
            slowest.note(cpu_time() - start);
        }
        slowest.report("announces while growing");
        Ok(())
    }

    /// A pass in which all stay, then one in which all go.
    fn report_cleaning(&mut self) {
        for (name, now_seconds) in [
            ("slices, nothing expired", 0),
            ("slices, all expired", 1_001),
        ] {
            let mut slowest = Slowest::default();
            let mut cursor = CleaningCursor::default();
            let mut finished = false;
            while !finished {
                let start = cpu_time();
                let now = Seconds(now_seconds);
                finished = self
                    .map
                    .clean(&mut cursor, now, CLEANING_BUDGET, &mut KeepAll);
                slowest.note(cpu_time() - start);
            }
            slowest.report(name);
        }
    }
}

/// The longest of many durations. Interrupts and page faults fall into one or the other, so the
/// longest few say more than the longest one.
#[derive(Default)]
struct Slowest {
    all: Vec<u32>,
    total: Duration,
}

impl Slowest {
    fn note(&mut self, duration: Duration) {
        self.total += duration;
        self.all
            .push(u32::try_from(duration.as_nanos()).unwrap_or(u32::MAX));
    }

    fn report(mut self, name: &str) {
        self.all.sort_unstable_by(|a, b| b.cmp(a));
        let microseconds = |at: usize| self.all.get(at).map_or(0, |longest| longest / 1_000);
        println!(
            "  {name}: {} in {:.2?}, mean {} ns, longest {} µs, 10th {} µs, 100th {} µs",
            self.all.len(),
            self.total,
            self.total.as_nanos() / self.all.len() as u128,
            microseconds(0),
            microseconds(9),
            microseconds(99),
        );
    }
}

fn address(peer: u32) -> CompactV4 {
    let [a, b, c, d] = peer.to_be_bytes();
    CompactV4([a, b, c, d, 0x1a, 0xe1])
}

fn announce(peer: u32, wanted: u16) -> Announce<CompactV4> {
    Announce {
        peer: address(peer),
        status: if peer.is_multiple_of(3) {
            PeerStatus::Leecher
        } else {
            PeerStatus::Seeder
        },
        completed: false,
        num_want: wanted,
    }
}

fn info_hash(torrent: u32) -> InfoHash {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&torrent.to_le_bytes());
    InfoHash(bytes)
}

/// CPU time of this thread: what other processes take from us does not count.
fn cpu_time() -> Duration {
    ClockId::CLOCK_THREAD_CPUTIME_ID
        .now()
        .map_or(Duration::ZERO, Duration::from)
}

struct KeepAll;

impl CleaningVisitor<CompactV4, ()> for KeepAll {
    fn keep(&mut self, _: &InfoHash) -> bool {
        true
    }

    fn peer_removed(&mut self, _: &CompactV4, (): ()) {}

    fn torrent_remains(&mut self, _: &InfoHash, _: Counts) {}
}
