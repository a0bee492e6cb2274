//! Who is in the swarms of a shard, counted. Pure.

use aquatic_swarm::{CleaningVisitor, Counts, PeerPolicy, Room};
use aquatic_tracker::clients::{ClientPrefix, ClientTable, PeerTag};
use aquatic_types::{InfoHash, IpFamily, PeerId, PerFamily, Seconds};
use hdrhistogram::Histogram;

use crate::memory::weighed_network;
use crate::messages::MemberKey;
use crate::open_offers::OpenOffers;
use crate::relay::Peer;

/// Counts peers and their clients.
pub(crate) struct Census {
    clients: ClientTable,
    peers: PerFamily<usize>,
    seeders: PerFamily<usize>,
    /// Downloads finished since the start.
    completed: PerFamily<usize>,
    /// Peers that have had to give way, since the start.
    evicted: PerFamily<usize>,
    /// What the open offers of all peers take, beyond what each has room for anyway.
    offer_bytes: usize,
    offer_bytes_max: usize,
    /// In the present pass of cleaning, lists of open offers are halved.
    halves_offers: bool,
}

impl Census {
    /// Nobody is there. Open offers may take so many bytes; `None` means any number.
    pub(crate) fn new(offer_bytes_max: Option<usize>) -> Self {
        Self {
            clients: ClientTable::new(),
            peers: PerFamily::default(),
            seeders: PerFamily::default(),
            completed: PerFamily::default(),
            evicted: PerFamily::default(),
            offer_bytes: 0,
            offer_bytes_max: offer_bytes_max.unwrap_or(usize::MAX),
            halves_offers: false,
        }
    }

    /// Peers of a family.
    pub(crate) fn peers(&self, family: IpFamily) -> usize {
        *self.peers.get(family)
    }

    /// Those of them that have everything.
    pub(crate) fn seeders(&self, family: IpFamily) -> usize {
        *self.seeders.get(family)
    }

    /// Downloads that peers of a family have finished.
    pub(crate) fn completed(&self, family: IpFamily) -> usize {
        *self.completed.get(family)
    }

    /// Peers of a family that have had to give way.
    pub(crate) fn evicted(&self, family: IpFamily) -> usize {
        *self.evicted.get(family)
    }

    /// Bytes of open offers.
    #[cfg(test)]
    pub(crate) fn offer_bytes(&self) -> usize {
        self.offer_bytes
    }

    /// Whether there is memory for more open offers than now.
    pub(crate) fn offers_may_grow(&self) -> bool {
        self.offer_bytes < self.offer_bytes_max
    }

    /// Whether there is little memory left for more of them, or was earlier in this pass of
    /// cleaning: all are to give room back, not only those who are met first.
    fn offers_are_many(&mut self) -> bool {
        self.halves_offers |= self.offer_bytes > self.offer_bytes_max / 4 * 3;
        self.halves_offers
    }

    /// A pass of cleaning has ended.
    pub(crate) fn pass_ended(&mut self) {
        self.halves_offers = false;
    }

    /// The open offers of a peer take so many bytes now, and so many before.
    pub(crate) fn offers_change(&mut self, before: usize, now: usize) {
        self.offer_bytes = (self.offer_bytes + now).saturating_sub(before);
    }

    /// A peer has had to go to make room for another.
    pub(crate) fn gives_way<V: PeerTag>(&mut self, peer: &Peer<V>) {
        *self.evicted.get_mut(peer.family) += 1;
        self.has_left(peer);
    }

    pub(crate) fn downloads_finished(&mut self, family: IpFamily, count: usize) {
        *self.completed.get_mut(family) += count;
    }

    /// How many peers each client has.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (ClientPrefix, usize)> {
        self.clients.iter()
    }

    /// For a peer that announces.
    pub(crate) fn joining(
        &mut self,
        family: IpFamily,
        is_seeder: bool,
        peer_id: &PeerId,
    ) -> Joining<'_> {
        let [prefix @ .., _, _, _, _, _, _, _, _, _, _, _, _] = peer_id.0;
        Joining {
            census: self,
            family,
            is_seeder,
            prefix,
        }
    }

    pub(crate) fn has_left<V: PeerTag>(&mut self, peer: &Peer<V>) {
        peer.tag.discount(&mut self.clients);
        let peers = self.peers.get_mut(peer.family);
        *peers = peers.saturating_sub(1);
        self.offers_change(peer.open_offers.bytes(), 0);
        self.discount_seeder(peer);
    }

    fn discount_seeder<V>(&mut self, peer: &Peer<V>) {
        let seeders = self.seeders.get_mut(peer.family);
        *seeders = seeders.saturating_sub(usize::from(peer.is_seeder));
    }
}

/// Counts a peer that announces, if it comes in.
pub(crate) struct Joining<'a> {
    census: &'a mut Census,
    family: IpFamily,
    is_seeder: bool,
    prefix: ClientPrefix,
}

impl<V: PeerTag> PeerPolicy<MemberKey, Peer<V>> for Joining<'_> {
    fn admit(&mut self, _: &MemberKey) -> Option<Peer<V>> {
        *self.census.peers.get_mut(self.family) += 1;
        *self.census.seeders.get_mut(self.family) += usize::from(self.is_seeder);
        Some(Peer {
            family: self.family,
            is_seeder: self.is_seeder,
            tag: V::count(self.prefix, &mut self.census.clients),
            open_offers: OpenOffers::default(),
        })
    }

    fn update(&mut self, peer: &mut Peer<V>) {
        self.census.discount_seeder(peer);
        *self.census.seeders.get_mut(self.family) += usize::from(self.is_seeder);
        peer.is_seeder = self.is_seeder;
        peer.tag.recount(self.prefix, &mut self.census.clients);
    }
}

/// Counts what it sees in a cleaning. Peers leave when their workers say so, and not here.
pub(crate) struct Visitor<'a> {
    pub(crate) now: Seconds,
    pub(crate) census: &'a mut Census,
    /// Counts whose peers there are.
    pub(crate) room: &'a mut Room,
    /// Of the peers per torrent, if it is wanted.
    pub(crate) histogram: Option<&'a mut Histogram<u32>>,
}

impl<V: PeerTag> CleaningVisitor<MemberKey, Peer<V>> for Visitor<'_> {
    fn keep(&mut self, _: &InfoHash) -> bool {
        true
    }

    fn peer_remains(&mut self, key: &MemberKey, peer: &mut Peer<V>) {
        self.room.remains(weighed_network(key));
        let bytes = peer.open_offers.bytes();
        peer.open_offers.expire(self.now);
        if self.census.offers_are_many() {
            peer.open_offers.halve();
        }
        self.census.offers_change(bytes, peer.open_offers.bytes());
    }

    fn peer_removed(&mut self, _: &MemberKey, peer: Peer<V>) {
        self.census.has_left(&peer);
    }

    fn torrent_remains(&mut self, _: &InfoHash, counts: Counts) {
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(u64::from(counts.peers()));
        }
    }
}
