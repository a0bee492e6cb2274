//! Showing the peers of one torrent to an operator.

use aquatic_types::Seconds;

use crate::hash::{PeerKey, TorrentKey};
use crate::snapshot::LivePeer;
use crate::torrent_map::TorrentMap;

/// For each peer that is to be shown, so many are looked at: those that are dead and have not been
/// cleaned away yet are not shown, and must not make this take long.
const LOOKED_AT_PER_SHOWN: usize = 4;

impl<K: PeerKey, V> TorrentMap<K, V> {
    /// Shows up to `peers_max` peers of a torrent that are alive, and what is kept with them:
    /// seeders first, in no particular order otherwise. Takes a time in proportion to `peers_max`.
    pub fn show_peers_of(
        &self,
        torrent: &TorrentKey,
        now: Seconds,
        peers_max: usize,
        mut f: impl FnMut(&LivePeer<K>, &V),
    ) {
        let Some(entry) = self.entry(torrent) else {
            return;
        };
        let swarm = &entry.swarm;
        let places = (0..swarm.len()).take(peers_max.saturating_mul(LOOKED_AT_PER_SHOWN));
        let alive = places.filter_map(|at| {
            let peer = swarm.get(at)?;
            let live = LivePeer {
                key: peer.key,
                is_seeder: at < swarm.seeders(),
                is_finished: peer.state.is_finished(),
                seconds_left: peer.state.seconds_left(now)?,
            };
            Some((live, &peer.value))
        });
        alive
            .take(peers_max)
            .for_each(|(peer, value)| f(&peer, value));
    }
}

#[cfg(test)]
mod tests {
    use aquatic_types::{CompactAddr, CompactV4, InfoHash, PeerStatus};

    use super::*;
    use crate::{Announce, HashKey, Keep, Limits};

    const TORRENT: InfoHash = InfoHash([1; 20]);

    /// A torrent of peers at these ports, that live until these seconds. Odd ports are seeders.
    fn map(peers: impl Iterator<Item = (u16, u32)>) -> TorrentMap<CompactV4, u16> {
        let mut map = TorrentMap::new(HashKey::new([1, 2]), Limits::default());
        let mut rng = fastrand::Rng::with_seed(3);
        let key = map.key(TORRENT);
        for (port, deadline) in peers {
            let announce = Announce {
                peer: CompactV4::new([192, 0, 2, 1].into(), port),
                status: match port % 2 {
                    0 => PeerStatus::Leecher,
                    _ => PeerStatus::Seeder,
                },
                completed: false,
                num_want: 0,
            };
            let (deadline, value) = (Seconds(deadline), &mut Keep(port));
            map.announce(&key, &announce, deadline, value, &mut rng, |_, _| ())
                .unwrap();
        }
        map
    }

    /// Ports of peers that are shown.
    fn shown(map: &TorrentMap<CompactV4, u16>, now: u32, peers_max: usize) -> Vec<u16> {
        let mut ports = Vec::new();
        map.show_peers_of(&map.key(TORRENT), Seconds(now), peers_max, |peer, value| {
            assert_eq!(peer.is_seeder, value % 2 == 1);
            assert!(peer.seconds_left >= 1, "{}", peer.seconds_left);
            assert_eq!(peer.key, CompactV4::new([192, 0, 2, 1].into(), *value));
            ports.push(*value);
        });
        ports
    }

    #[test]
    fn living_peers_are_shown_up_to_a_number_and_seeders_first() {
        for peers in [2, 10, 500] {
            let map = map((1..=peers).map(|port| (port, 100)));
            let mut all = shown(&map, 50, 1_000);
            assert!(all.is_sorted_by_key(|port| port % 2 == 0), "seeders first");
            all.sort_unstable();
            assert!(all.into_iter().eq(1..=peers));
            assert_eq!(shown(&map, 50, 2), shown(&map, 50, 1_000)[..2]);
            assert!(shown(&map, 50, 0).is_empty());
            assert!(shown(&map, 200, 1_000).is_empty(), "all are dead");
        }
    }

    #[test]
    fn the_dead_are_passed_over_for_a_while() {
        let map = map((1..=200).map(|port| (port, if port <= 100 { 100 } else { 300 })));
        let alive = shown(&map, 200, 100);
        assert!(!alive.is_empty() && alive.iter().all(|port| *port > 100));
        let unknown = map.key(InfoHash([2; 20]));
        map.show_peers_of(&unknown, Seconds(0), 10, |_, _| panic!("nobody is there"));
    }
}
