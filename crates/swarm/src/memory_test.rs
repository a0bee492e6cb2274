//! What maps say that they take, to the byte: limits that operators have set mean this.

use aquatic_types::{CompactAddr, CompactV4, InfoHash, PeerStatus, Seconds};

use crate::{Announce, HashKey, Keep, Limits, TorrentMap};

struct World {
    map: TorrentMap<CompactV4>,
    rng: fastrand::Rng,
}

fn peer(number: u32) -> CompactV4 {
    CompactV4::new(number.into(), 6_881)
}

impl World {
    fn new() -> Self {
        Self {
            map: TorrentMap::new(HashKey::new([3, 4]), Limits::default()),
            rng: fastrand::Rng::with_seed(5),
        }
    }

    /// So many torrents of so many peers, each with an address of its own.
    fn with(torrents: u32, peers: u32) -> Self {
        let mut world = Self::new();
        for torrent in 0..torrents {
            for number in 0..peers {
                world.announce(torrent, number, PeerStatus::Leecher);
            }
        }
        world
    }

    fn announce(&mut self, torrent: u32, number: u32, status: PeerStatus) {
        let mut info_hash = [0; 20];
        info_hash[..4].copy_from_slice(&torrent.to_be_bytes());
        let key = self.map.key(InfoHash(info_hash));
        let announce = Announce {
            peer: peer(number),
            status,
            completed: false,
            num_want: 0,
        };
        let rng = &mut self.rng;
        let announced = self.map.announce(
            &key,
            &announce,
            Seconds(1_200),
            &mut Keep(()),
            rng,
            |_, ()| (),
        );
        assert!(announced.is_ok());
    }
}

#[test]
fn bytes_follow_from_what_is_there() {
    for (torrents, peers, bytes) in [
        (0, 0, 432),
        (1, 1, 480),
        (1, 2, 480),
        (1, 3, 544),
        (1, 5, 576),
        (1, 64, 1_024),
        (1, 65, 2_344),
        (1, 1_000, 17_016),
        (1, 20_000, 309_008),
        (5, 100, 12_832),
        (1_000, 1, 60_752),
        (5_000, 1, 297_312),
    ] {
        let taken = World::with(torrents, peers).map.bytes();
        assert_eq!(taken, bytes, "{torrents} torrents of {peers}");
    }
}

/// Places in a list are made four at a time, and at most eight lie idle, so that a peer that comes
/// and goes has nothing copied.
#[test]
fn lists_grow_and_shrink_in_steps() {
    const PEER: usize = size_of::<u64>();
    const HEAD: usize = 32;
    let mut world = World::with(1, 1);
    let mut places = 0;
    for len in 2..=64 {
        world.announce(0, len, PeerStatus::Leecher);
        if len > 2 && len > places {
            places += 4;
        }
        let expected = if len == 2 {
            0
        } else {
            HEAD + places as usize * PEER
        };
        assert_eq!(world.map.swarm_bytes, expected, "{len} peers");
    }
    for len in (0..64_u32).rev() {
        world.announce(0, len + 1, PeerStatus::Stopped);
        if places - len > 8 {
            places = len;
        }
        let expected = if len < 2 {
            0
        } else {
            HEAD + places as usize * PEER
        };
        assert_eq!(world.map.swarm_bytes, expected, "{len} peers");
    }
}
