//! How many instructions announces, the choice of peers and cleaning cost (needs `valgrind`):
//!
//! ```text
//! cargo bench -p aquatic_budgets --bench swarms
//! ```

#![forbid(unsafe_code)]

use std::error::Error;
use std::hint::black_box;

use aquatic_budgets::{Case, Work};
use aquatic_swarm::{
    Announce, CleaningCursor, CleaningVisitor, Counts, HashKey, Keep, Limits, TorrentKey,
    TorrentMap,
};
use aquatic_types::{CompactV4, InfoHash, PeerStatus, Seconds};

const CASES: [Case; 5] = [
    ("announce again, one peer, none wanted", Work::State(alone)),
    ("announce again, 50 of 10 wanted", Work::State(small)),
    ("announce again, 50 of 200 wanted", Work::State(large)),
    ("look at 1,000 peers in cleaning", Work::State(look)),
    ("1,000 peers come, and expire", Work::State(expire)),
];

const NOW: Seconds = Seconds(1_000);
const DEADLINE: Seconds = Seconds(2_000);
const LATER: Seconds = Seconds(3_000);

fn main() -> Result<(), Box<dyn Error>> {
    aquatic_budgets::report("swarms", &CASES)
}

fn alone() -> Box<dyn FnMut()> {
    announce_again(1, 0)
}

fn small() -> Box<dyn FnMut()> {
    announce_again(10, 50)
}

fn large() -> Box<dyn FnMut()> {
    announce_again(200, 50)
}

fn look() -> Box<dyn FnMut()> {
    let mut swarms = Swarms::new();
    swarms.fill();
    Box::new(move || swarms.clean(NOW))
}

fn expire() -> Box<dyn FnMut()> {
    let mut swarms = Swarms::new();
    Box::new(move || {
        swarms.fill();
        swarms.clean(LATER);
        assert_eq!(swarms.map.peers(), 0);
    })
}

/// Peers of one torrent, one after the other.
fn announce_again(peers: u32, wanted: u16) -> Box<dyn FnMut()> {
    let mut swarms = Swarms::new();
    let torrent = swarms.map.key(InfoHash([7; 20]));
    (0..peers).for_each(|peer| swarms.announce(&torrent, peer, 0));
    let mut next = 0;
    Box::new(move || {
        swarms.announce(&torrent, next, wanted);
        next = (next + 1) % peers;
    })
}

struct Swarms {
    map: TorrentMap<CompactV4>,
    rng: fastrand::Rng,
}

impl Swarms {
    fn new() -> Self {
        Self {
            map: TorrentMap::new(HashKey::new([1, 2]), Limits::default()),
            rng: fastrand::Rng::with_seed(3),
        }
    }

    /// A hundred torrents of ten peers.
    fn fill(&mut self) {
        for torrent in 0..100 {
            let key = self.map.key(InfoHash([torrent; 20]));
            (0..10).for_each(|peer| self.announce(&key, peer, 0));
        }
    }

    fn announce(&mut self, torrent: &TorrentKey, peer: u32, wanted: u16) {
        let [a, b, c, d] = (0x0a00_0000 | peer).to_be_bytes();
        let announce = Announce {
            peer: CompactV4([a, b, c, d, 0x1a, 0xe1]),
            status: PeerStatus::Leecher,
            completed: false,
            num_want: wanted,
        };
        let select = |peer: &CompactV4, (): &()| {
            black_box(peer);
        };
        let (policy, rng) = (&mut Keep(()), &mut self.rng);
        let announced = self
            .map
            .announce(torrent, &announce, DEADLINE, policy, rng, select);
        black_box(announced.is_ok());
    }

    fn clean(&mut self, now: Seconds) {
        let mut cursor = CleaningCursor::default();
        while !self.map.clean(&mut cursor, now, 500, &mut All) {}
    }
}

/// Keeps all torrents.
struct All;

impl CleaningVisitor<CompactV4, ()> for All {
    fn keep(&mut self, _: &InfoHash) -> bool {
        true
    }

    fn peer_removed(&mut self, _: &CompactV4, (): ()) {}

    fn torrent_remains(&mut self, _: &InfoHash, _: Counts) {}
}
