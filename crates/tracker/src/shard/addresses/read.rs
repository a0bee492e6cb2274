//! Swarms of addresses, as an operator sees them.

use aquatic_daemon::clock::Now;
use aquatic_swarm::{Counts, TorrentMap, WalkCursor};
use aquatic_types::{CompactV4, CompactV6, InfoHash, IpFamily, PerFamily};

use super::{AddressSwarms, AddressTag, PeerAddr, Swarms};
use crate::torrents::readable::{Readable, TorrentCounts, TorrentPeer};

impl<V: AddressTag> Readable for AddressSwarms<V> {
    const MAPS: usize = IpFamily::ALL.len();

    fn family(map: usize) -> IpFamily {
        match map {
            0 => IpFamily::V4,
            _ => IpFamily::V6,
        }
    }

    fn walk(
        &self,
        map: usize,
        cursor: &mut WalkCursor,
        budget: usize,
        show: impl FnMut(&InfoHash, Counts),
    ) -> bool {
        match Self::family(map) {
            IpFamily::V4 => self.maps.swarms.v4.walk(cursor, budget, show),
            IpFamily::V6 => self.maps.swarms.v6.walk(cursor, budget, show),
        }
    }

    fn counts(&self, info_hash: &InfoHash) -> TorrentCounts {
        let key = self.key(*info_hash);
        TorrentCounts::ByFamily(PerFamily::new(|family| self.scrape(family, &key)))
    }

    fn counts_besides(&self, map: usize, info_hash: &InfoHash, counts: Counts) -> TorrentCounts {
        let Swarms { v4, v6 } = &self.maps.swarms;
        TorrentCounts::ByFamily(match Self::family(map) {
            IpFamily::V4 => PerFamily {
                v4: counts,
                v6: counts_of(v6, info_hash),
            },
            IpFamily::V6 => PerFamily {
                v4: counts_of(v4, info_hash),
                v6: counts,
            },
        })
    }

    fn peers(
        &self,
        now: Now,
        info_hash: &InfoHash,
        peers_max: usize,
        mut show: impl FnMut(TorrentPeer),
    ) {
        let shown = self.show_peers::<CompactV4>(now, info_hash, peers_max, &mut show);
        let rest = peers_max.saturating_sub(shown);
        self.show_peers::<CompactV6>(now, info_hash, rest, &mut show);
    }
}

/// Of a torrent that may not be there. Many trackers have hardly any torrents of one family.
fn counts_of<K: PeerAddr, V>(swarms: &TorrentMap<K, V>, info_hash: &InfoHash) -> Counts {
    match swarms.torrents() {
        0 => Counts::default(),
        _ => swarms.scrape(&swarms.key(*info_hash)),
    }
}

impl<V: AddressTag> AddressSwarms<V> {
    /// Shows peers of one family. Returns how many.
    fn show_peers<K: PeerAddr>(
        &self,
        now: Now,
        info_hash: &InfoHash,
        peers_max: usize,
        show: &mut impl FnMut(TorrentPeer),
    ) -> usize {
        let (swarms, clients) = (K::swarms(&self.maps.swarms), &self.maintenance.clients);
        let mut shown = 0;
        let key = self.key(*info_hash);
        swarms.show_peers_of(&key, now.seconds, peers_max, |peer, tag| {
            shown += 1;
            show(TorrentPeer {
                family: K::FAMILY,
                address: Some(peer.key.socket_addr()),
                is_seeder: peer.is_seeder,
                client: tag.prefix(clients),
                seconds_left: Some(peer.seconds_left),
            });
        });
        shown
    }
}
