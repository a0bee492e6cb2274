//! Who is in the swarms of a shard, counted. Pure.

use aquatic_daemon::clock::Now;
use aquatic_swarm::{CleaningCursor, CleaningVisitor, Counts, PeerPolicy, TorrentMap};
use aquatic_tracker::metrics::counters::SwarmGauges;
use aquatic_tracker::shard::client_stats::{ClientPrefix, ClientTable, ClientTag, PeerTag};
use aquatic_tracker::shard::maintenance::{Cleaner, Maintained};
use aquatic_types::{InfoHash, IpFamily, PeerStatus, PerFamily, Seconds};

use crate::cluster::sharing::{Presence, Sharing};
use crate::memory::{OfferMemory, weighed_network};
use crate::messages::MemberKey;
use crate::open_offers::OpenOffers;

/// What swarms are told instead of a time: with it as both the deadline and the present, no peer
/// is ever too old. How long members of other nodes are believed to be there is kept with them.
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
    /// It has been a seeder, or completed a download that was counted.
    pub(crate) is_finished: bool,
    pub(crate) tag: V,
    /// A member of another node: for how long that is believed.
    pub(crate) until: Until,
    /// What it may answer.
    pub(crate) open_offers: OpenOffers,
}

const _: () = assert!(size_of::<Peer<()>>() == 16);
const _: () = assert!(size_of::<Peer<ClientTag>>() == 16);

/// A second, modulo 2^16. It is compared with others that are less than 2^15 away: see
/// [`PEER_AGE_MAX_SECONDS`](aquatic_swarm::PEER_AGE_MAX_SECONDS).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Until(u16);

impl Until {
    pub(crate) fn new(second: Seconds) -> Self {
        Self((second.0 & 0xffff) as u16)
    }

    /// Whether it was before that second.
    pub(crate) fn is_before(self, second: Seconds) -> bool {
        self.0.wrapping_sub(Self::new(second).0).cast_signed() < 0
    }

    /// Whether it is after that second.
    pub(crate) fn is_after(self, second: Seconds) -> bool {
        self.0.wrapping_sub(Self::new(second).0).cast_signed() > 0
    }
}

/// What is counted beside the map, which knows of no families and no offers.
pub(crate) struct MemberCounts {
    families: PerFamily<FamilyCounts>,
    pub(crate) offers: OfferMemory,
    /// If other nodes are told of members, and tell of theirs.
    pub(crate) sharing: Option<Box<Sharing>>,
}

/// A peer that announces, or is told of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newcomer {
    pub(crate) family: IpFamily,
    pub(crate) status: PeerStatus,
    pub(crate) is_finished: bool,
    pub(crate) client: ClientPrefix,
    pub(crate) until: Until,
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
    pub(crate) fn new(offer_bytes_max: Option<usize>, sharing: Option<Box<Sharing>>) -> Self {
        Self {
            families: PerFamily::default(),
            offers: OfferMemory::new(offer_bytes_max),
            sharing,
        }
    }

    pub(crate) fn downloads_finished(&mut self, family: IpFamily, count: usize) {
        self.families.get_mut(family).completed += count;
    }

    /// For a peer that announces.
    pub(crate) fn joining<'a>(
        &'a mut self,
        clients: &'a mut ClientTable,
        newcomer: Newcomer,
    ) -> Joining<'a> {
        Joining {
            counts: self,
            clients,
            newcomer,
            has_changed: false,
        }
    }

    /// Members of other nodes.
    pub(crate) fn others(&self) -> usize {
        self.sharing.as_ref().map_or(0, |it| it.others())
    }

    /// A peer has left, which the book of its connection knows or will know.
    pub(crate) fn has_left<V: PeerTag>(
        &mut self,
        now: Seconds,
        clients: &mut ClientTable,
        (info_hash, key): (&InfoHash, &MemberKey),
        peer: &Peer<V>,
    ) {
        if let Some(sharing) = &mut self.sharing
            && key.is_here()
        {
            let presence = Presence {
                family: peer.family,
                status: PeerStatus::Stopped,
                has_completed: false,
                is_finished: peer.is_finished,
            };
            sharing.note(now, *info_hash, key, presence);
        }
        self.has_gone(clients, key, peer);
    }

    /// A peer is no longer there.
    pub(crate) fn has_gone<V: PeerTag>(
        &mut self,
        clients: &mut ClientTable,
        key: &MemberKey,
        peer: &Peer<V>,
    ) {
        peer.tag.discount(clients);
        let counts = self.families.get_mut(peer.family);
        counts.peers = counts.peers.saturating_sub(1);
        counts.discount_seeder(peer.is_seeder);
        self.offers.change(peer.open_offers.bytes(), 0);
        if let Some(sharing) = &mut self.sharing
            && !key.is_here()
        {
            sharing.other_removed(key.node());
        }
    }
}

impl Presence {
    /// Of a peer that is there.
    fn of_present<V>(peer: &Peer<V>) -> Self {
        Self {
            family: peer.family,
            status: match peer.is_seeder {
                true => PeerStatus::Seeder,
                false => PeerStatus::Leecher,
            },
            has_completed: false,
            is_finished: peer.is_finished,
        }
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
    newcomer: Newcomer,
    /// It was there, and was a seeder and is one no more, or the other way round.
    pub(crate) has_changed: bool,
}

impl<V: PeerTag> PeerPolicy<MemberKey, Peer<V>> for Joining<'_> {
    fn admit(&mut self, key: &MemberKey) -> Option<Peer<V>> {
        let Newcomer { family, status, .. } = self.newcomer;
        let is_seeder = status == PeerStatus::Seeder;
        let counts = self.counts.families.get_mut(family);
        counts.peers += 1;
        counts.seeders += usize::from(is_seeder);
        if let Some(sharing) = &mut self.counts.sharing
            && !key.is_here()
        {
            sharing.other_added(key.node());
        }
        Some(Peer {
            family,
            is_seeder,
            is_finished: self.newcomer.is_finished,
            tag: V::count(self.newcomer.client, self.clients),
            until: self.newcomer.until,
            open_offers: OpenOffers::default(),
        })
    }

    fn update(&mut self, peer: &mut Peer<V>) {
        let is_seeder = self.newcomer.status == PeerStatus::Seeder;
        let counts = self.counts.families.get_mut(peer.family);
        counts.discount_seeder(peer.is_seeder);
        counts.seeders += usize::from(is_seeder);
        self.has_changed = peer.is_seeder != is_seeder;
        peer.is_seeder = is_seeder;
        peer.is_finished |= self.newcomer.is_finished;
        peer.until = self.newcomer.until;
        peer.tag.recount(self.newcomer.client, self.clients);
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
        if let Some(sharing) = &mut self.counts.sharing {
            sharing.cleans(cleaner.now);
        }
        let visitor = &mut Visitor {
            counts: &mut self.counts,
            cleaner,
            info_hash: InfoHash([0; 20]),
            allows_others: true,
        };
        self.swarms.clean(cursor, NO_DEADLINE, budget, visitor)
    }

    fn may_clean(&self, now: Now) -> bool {
        let sharing = self.counts.sharing.as_ref();
        sharing.is_none_or(|it| it.may_clean(now.seconds))
    }

    fn pass_ended(&mut self) {
        self.counts.offers.pass_ended();
        if let Some(sharing) = &mut self.counts.sharing {
            sharing.has_cleaned();
        }
    }
}

/// Looks at everybody in a pass of cleaning.
struct Visitor<'a, 'c> {
    counts: &'a mut MemberCounts,
    cleaner: &'a mut Cleaner<'c>,
    /// The torrent that is looked at.
    info_hash: InfoHash,
    /// Whether members of it are wanted that other nodes tell of.
    allows_others: bool,
}

impl<V: PeerTag> CleaningVisitor<MemberKey, Peer<V>> for Visitor<'_, '_> {
    fn keep(&mut self, info_hash: &InfoHash) -> bool {
        if let Some(sharing) = &mut self.counts.sharing {
            self.info_hash = *info_hash;
            self.allows_others = sharing.allows(info_hash);
        }
        true
    }

    fn stays(&mut self, key: &MemberKey, peer: &Peer<V>) -> bool {
        let Some(sharing) = &self.counts.sharing else {
            return true;
        };
        let is_over = || peer.until.is_before(self.cleaner.now) || sharing.has_gone(key.node());
        key.is_here() || self.allows_others && !is_over()
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
        if let Some(sharing) = &mut self.counts.sharing
            && key.is_here()
            && sharing.is_turn_of(key)
        {
            let presence = Presence::of_present(peer);
            sharing.refresh(self.cleaner.now, self.info_hash, key, presence);
        }
    }

    /// Only those of other nodes are removed here.
    fn peer_removed(&mut self, key: &MemberKey, peer: Peer<V>) {
        self.counts.has_gone(self.cleaner.clients, key, &peer);
    }

    fn torrent_remains(&mut self, _: &InfoHash, counts: Counts) {
        self.cleaner.torrent_remains(IpFamily::V4, counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_across_the_wrap() {
        for until in [0_u32, 1, 65_535, 65_536, 1_000_000] {
            let it = Until::new(Seconds(until));
            assert!(!it.is_before(Seconds(until)) && !it.is_after(Seconds(until)));
            for distance in [1, 100, aquatic_swarm::PEER_AGE_MAX_SECONDS] {
                assert!(it.is_before(Seconds(until + distance)));
                assert!(!it.is_after(Seconds(until + distance)));
                if let Some(earlier) = until.checked_sub(distance) {
                    assert!(it.is_after(Seconds(earlier)));
                    assert!(!it.is_before(Seconds(earlier)));
                }
            }
        }
    }
}
