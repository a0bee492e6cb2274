//! Who is in the swarms of a shard, counted. Pure.

use aquatic_swarm::{CleaningCursor, CleaningVisitor, Counts, PeerPolicy, TorrentMap};
use aquatic_tracker::metrics::counters::SwarmGauges;
use aquatic_tracker::shard::client_stats::{ClientPrefix, ClientTable, PeerTag};
use aquatic_tracker::shard::maintenance::{Cleaner, Maintained};
use aquatic_types::{InfoHash, IpFamily, PeerId, PerFamily, Seconds};

use crate::memory::{OfferMemory, weighed_network};
use crate::messages::MemberKey;
use crate::open_offers::OpenOffers;

/// What swarms are told instead of a time: with it as both the deadline and the present, no peer
/// is ever too old.
pub(crate) const NO_DEADLINE: Seconds = Seconds(0);

/// All of them, in one map for both IP families.
pub(crate) struct Members<V> {
    pub(crate) swarms: TorrentMap<MemberKey, Peer<V>>,
    pub(crate) counts: MemberCounts,
}

/// What is kept with a peer.
#[derive(Debug)]
pub(crate) struct Peer<V> {
    pub(crate) family: IpFamily,
    pub(crate) is_seeder: bool,
    pub(crate) tag: V,
    /// What it may answer.
    pub(crate) open_offers: OpenOffers,
}

/// What is counted beside the map, which knows of no families and no offers.
pub(crate) struct MemberCounts {
    families: PerFamily<FamilyCounts>,
    pub(crate) offers: OfferMemory,
}

#[derive(Clone, Copy, Default)]
struct FamilyCounts {
    peers: usize,
    seeders: usize,
    /// Downloads finished since the start.
    completed: usize,
}

impl MemberCounts {
    /// Of nobody. Open offers may take so many bytes; `None` means any number.
    pub(crate) fn new(offer_bytes_max: Option<usize>) -> Self {
        Self {
            families: PerFamily::default(),
            offers: OfferMemory::new(offer_bytes_max),
        }
    }

    pub(crate) fn downloads_finished(&mut self, family: IpFamily, count: usize) {
        self.families.get_mut(family).completed += count;
    }

    /// For a peer that announces.
    pub(crate) fn joining<'a>(
        &'a mut self,
        clients: &'a mut ClientTable,
        family: IpFamily,
        is_seeder: bool,
        peer_id: &PeerId,
    ) -> Joining<'a> {
        Joining {
            counts: self,
            clients,
            family,
            is_seeder,
            client: peer_id.client_prefix(),
        }
    }

    pub(crate) fn has_left<V: PeerTag>(&mut self, clients: &mut ClientTable, peer: &Peer<V>) {
        peer.tag.discount(clients);
        let counts = self.families.get_mut(peer.family);
        counts.peers = counts.peers.saturating_sub(1);
        counts.discount_seeder(peer.is_seeder);
        self.offers.change(peer.open_offers.bytes(), 0);
    }
}

impl FamilyCounts {
    fn discount_seeder(&mut self, is_one: bool) {
        self.seeders = self.seeders.saturating_sub(usize::from(is_one));
    }
}

/// Counts a peer that announces, if it comes in.
pub(crate) struct Joining<'a> {
    counts: &'a mut MemberCounts,
    clients: &'a mut ClientTable,
    family: IpFamily,
    is_seeder: bool,
    client: ClientPrefix,
}

impl<V: PeerTag> PeerPolicy<MemberKey, Peer<V>> for Joining<'_> {
    fn admit(&mut self, _: &MemberKey) -> Option<Peer<V>> {
        let counts = self.counts.families.get_mut(self.family);
        counts.peers += 1;
        counts.seeders += usize::from(self.is_seeder);
        Some(Peer {
            family: self.family,
            is_seeder: self.is_seeder,
            tag: V::count(self.client, self.clients),
            open_offers: OpenOffers::default(),
        })
    }

    fn update(&mut self, peer: &mut Peer<V>) {
        let counts = self.counts.families.get_mut(self.family);
        counts.discount_seeder(peer.is_seeder);
        counts.seeders += usize::from(self.is_seeder);
        peer.is_seeder = self.is_seeder;
        peer.tag.recount(self.client, self.clients);
    }
}

/// Forgets torrents without peers, and offers that nobody can answer any more. Peers leave when
/// their workers say so.
impl<V: PeerTag> Maintained for Members<V> {
    const MAPS: usize = 1;

    fn publish(&self, gauges: &PerFamily<SwarmGauges>) {
        gauges.v4.torrents.set(self.swarms.torrents());
        for family in IpFamily::ALL {
            let (gauges, counts) = (gauges.get(family), self.counts.families.get(family));
            gauges.peers.set(counts.peers);
            gauges.seeders.set(counts.seeders);
            gauges.completed.set(counts.completed);
        }
    }

    fn clean(
        &mut self,
        _: usize,
        cursor: &mut CleaningCursor,
        budget: usize,
        cleaner: &mut Cleaner<'_>,
    ) -> bool {
        let visitor = &mut Visitor {
            counts: &mut self.counts,
            cleaner,
        };
        self.swarms.clean(cursor, NO_DEADLINE, budget, visitor)
    }

    fn pass_ended(&mut self) {
        self.counts.offers.pass_ended();
    }
}

/// Looks at everybody in a pass of cleaning.
struct Visitor<'a, 'c> {
    counts: &'a mut MemberCounts,
    cleaner: &'a mut Cleaner<'c>,
}

impl<V: PeerTag> CleaningVisitor<MemberKey, Peer<V>> for Visitor<'_, '_> {
    fn keep(&mut self, _: &InfoHash) -> bool {
        true
    }

    fn peer_remains(&mut self, key: &MemberKey, peer: &mut Peer<V>) {
        self.cleaner.room.remains(weighed_network(key));
        let offers = &mut self.counts.offers;
        let bytes = peer.open_offers.bytes();
        peer.open_offers.expire(self.cleaner.now);
        if offers.are_many() {
            peer.open_offers.halve();
        }
        offers.change(bytes, peer.open_offers.bytes());
    }

    fn peer_removed(&mut self, _: &MemberKey, peer: Peer<V>) {
        self.counts.has_left(self.cleaner.clients, &peer);
    }

    fn torrent_remains(&mut self, _: &InfoHash, counts: Counts) {
        self.cleaner.torrent_remains(IpFamily::V4, counts);
    }
}
