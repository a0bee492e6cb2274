//! A shard of the swarms: who is in which one, and who gets which offer and answer. Pure.
//!
//! Whoever owns a [`SignallingShard`] has batches of requests [decided](Signalling) there, and
//! maintains it between batches, a slice at a time: forgetting empty torrents and counting.
//!
//! - **A peer is a peer id at a connection.** Peer ids are names that anybody can give themselves:
//!   two connections with one peer id are two peers, and so are two peer ids at one connection.
//!   Nobody can announce, answer or leave for a peer of another connection.
//!   It stays until the worker that holds the connection says that it leaves: that worker alone
//!   knows whether there is life in the connection, and keeps the book of its peers
//!   ([`Membership`](crate::membership::Membership)). So peers have no time of their own here. Only
//!   when memory is used up, some have to give way; their workers are told ([`Batch::evicted`]).
//! - **Offers go to any other peers** of the torrent, seeders to seeders as well: many applications
//!   have every page seed the same file, and want nothing but the connections. Only those with the
//!   offerer's own peer id get none: that is the offerer, over another connection. As long as there
//!   are others, one connection gets one offer of an announce, and one network
//!   [`OFFERS_OF_NETWORK_MAX`]: peer ids and connections are free, so a choice that is fair to each
//!   peer would be unfair to each person.
//! - **An offer is open** from the moment it is handed to a peer until that peer has answered it,
//!   or `max_offer_age` has passed. It is kept with the peer that may answer, with the connection
//!   that it came from, where the answer goes. An answer without an open offer goes nowhere; so
//!   nobody can send anything to a peer that has not offered to be sent it.
//! - **Members of other nodes** of a cluster are members like any other, but that they are believed
//!   to be there for a time only, and are handed no offers while their node is not heard:
//!   [`ClusterSignalling`].
//! - IPv4 and IPv6 are in one swarm: browsers meet by other means. Peers are counted by family;
//!   torrents, which have none, are counted with those of IPv4.

mod live;
mod persist;
mod read;
mod remote;
mod room;

pub use remote::ClusterSignalling;

use std::hash::Hasher;
use std::mem;
use std::num::NonZeroUsize;

use aquatic_daemon::clock::Now;
use aquatic_swarm::{
    Announced, BoundedMaps, HashKey, Limits, PREFETCH_BATCH, PeerChange, TorrentKey, TorrentMap,
};
use aquatic_tracker::limits::{bytes_per_shard, per_shard_and_address};
use aquatic_tracker::shard::client_stats::{ClientStats, ClientTag, PeerTag};
use aquatic_tracker::shard::maintenance::{Maintenance, MaintenanceSettings, Reporting};
use aquatic_tracker::shard::{BatchProcessor, Shard};
use aquatic_types::{IpFamily, PeerId, PeerStatus, Seconds};
use aquatic_ws_protocol::OfferId;
use siphasher::sip::SipHasher13;

use crate::cluster::sharing::{Presence, Sharing};
use crate::config::Config;
use crate::members::{MemberCounts, Members, NO_DEADLINE, Newcomer, Peer, Until};
use crate::memory::{bytes_for_offers, bytes_for_swarms, weighed_network};
use crate::messages::{
    Announce, Answer, Batch, ConnectionRef, Decision, Evicted, MemberKey, Offer, Receiver, Request,
    RequestKind,
};
use crate::open_offers::OpenOffer;
use crate::refusal::Refusal;

pub use live::follow;

/// Offers of an announce that go to peers of one network, as long as there are others.
const OFFERS_OF_NETWORK_MAX: usize = 3;

/// One of the parts into which the torrents are divided by info hash, with its owner's tools.
pub type SignallingShard = ClientStats<SignallingSwarms<()>, SignallingSwarms<ClientTag>>;

/// What shards share with each other and with the rest of the daemon.
pub struct SignallingParts {
    /// Drawn at random at start; the same for all shards.
    pub hash_key: HashKey,
    /// Drawn at random at start.
    pub offer_key: [u64; 2],
    /// Seeds this shard's choice of peers.
    pub rng_seed: u64,
    /// Where this shard tells about itself.
    pub reporting: Reporting,
    /// What it has to do with other nodes, if there are any.
    pub sharing: Option<Sharing>,
}

/// An empty shard.
#[must_use]
pub fn new(config: &Config, parts: SignallingParts) -> SignallingShard {
    if config.metrics.peer_clients {
        ClientStats::On(SignallingSwarms::new(config, parts))
    } else {
        ClientStats::Off(SignallingSwarms::new(config, parts))
    }
}

/// A [`SignallingShard`] that keeps a `V` with each peer, to count clients.
pub struct SignallingSwarms<V> {
    pub(crate) members: Members<V>,
    pub(crate) rng: fastrand::Rng,
    pub(crate) maintenance: Maintenance,
    offer_hasher: SipHasher13,
    offer_age_seconds_max: u32,
    /// Whom the offers of an announce have gone to.
    chosen: Vec<MemberKey>,
    /// Peers that have had to give way, and whose connections have not been told.
    pub(crate) evicted: Vec<Evicted>,
    /// When it was last told something.
    pub(crate) now: Seconds,
}

/// What has become of a peer that has announced, or was told of.
struct Noted<V> {
    announced: Result<Announced<Peer<V>>, aquatic_swarm::Refusal>,
    /// It has come, or has become a seeder, or ceased to be one.
    is_news: bool,
}

/// Offers of one announce, and whom each goes to.
struct Handed<'a> {
    offers: &'a [Offer],
    receivers: &'a mut [Option<Receiver>],
}

impl Handed<'_> {
    /// Without the first ones.
    fn behind(&mut self, first: usize) -> Handed<'_> {
        Handed {
            offers: self.offers.get(first..).unwrap_or_default(),
            receivers: self.receivers.get_mut(first..).unwrap_or_default(),
        }
    }
}

/// What a shard may hold.
fn limits(config: &Config) -> Limits {
    let shards = config.topology().shards();
    // Whom offers go to is decided here.
    let of_tracker = &config.limits.connections.tracker;
    per_shard_and_address(of_tracker, shards, &config.limits.addresses, 0)
}

fn bytes_max(config: &Config) -> Option<NonZeroUsize> {
    let shards = config.topology().shards();
    bytes_per_shard(&config.limits.connections.tracker, shards)
}

/// How a shard is looked after.
fn maintenance(config: &Config) -> MaintenanceSettings {
    MaintenanceSettings {
        bytes_max: bytes_max(config).map(bytes_for_swarms),
        cleaning_interval_seconds: config.cleaning.torrent_cleaning_interval,
        report_interval_seconds: u32::try_from(config.metrics.interval).unwrap_or(u32::MAX),
        peer_histograms: config.metrics.torrent_peer_histograms,
    }
}

impl<V: PeerTag> SignallingSwarms<V> {
    fn new(config: &Config, parts: SignallingParts) -> Self {
        let bytes_max = bytes_max(config);
        let settings = maintenance(config);
        let [key0, key1] = parts.offer_key;
        let mut sharing = parts.sharing.map(Box::new);
        if let Some(sharing) = &mut sharing {
            sharing.set_cleaning_interval(config.cleaning.torrent_cleaning_interval);
        }
        Self {
            members: Members {
                swarms: TorrentMap::new(parts.hash_key, limits(config)),
                counts: MemberCounts::new(bytes_max.map(bytes_for_offers), sharing),
            },
            rng: fastrand::Rng::with_seed(parts.rng_seed),
            maintenance: Maintenance::new(settings, parts.hash_key, parts.reporting),
            offer_hasher: SipHasher13::new_with_keys(key0, key1),
            offer_age_seconds_max: config.cleaning.max_offer_age,
            chosen: Vec::new(),
            evicted: Vec::new(),
            now: Seconds(0),
        }
    }

    fn decide(
        &mut self,
        now: Now,
        worker: u16,
        key: &TorrentKey,
        request: &Request,
        offers: &[Offer],
        receivers: &mut Vec<Option<Receiver>>,
    ) -> Decision {
        let member = ConnectionRef::here(worker, request.connection);
        let name = |peer_id: &PeerId| MemberKey::new(member, request.network, peer_id);
        match &request.kind {
            RequestKind::Announce(announce) => {
                let range = announce.offers.clone();
                receivers.resize(range.end, None);
                let handed = Handed {
                    offers: offers.get(range.clone()).unwrap_or_default(),
                    receivers: receivers.get_mut(range).unwrap_or_default(),
                };
                let me = name(&announce.peer_id);
                self.announce(now, key, me, request.family, announce, handed)
            }
            RequestKind::Answer(answer) => match self.answer_offer(now, key, name, answer) {
                Ok(offerer) => Decision::AnswerTo(offerer),
                Err(refusal) => Decision::Refused(refusal),
            },
            RequestKind::Scrape { .. } => Decision::Scraped(self.members.swarms.scrape(key)),
            RequestKind::Check { peer_id } => {
                let peer = self.members.swarms.peer(key, &name(peer_id));
                Decision::IsInSwarm(peer.is_some())
            }
            RequestKind::Leave { peer_id } => {
                self.leave(now, key, &name(peer_id));
                Decision::Noted
            }
            RequestKind::Withdraw(receiver) => {
                self.withdraw(now, key, receiver);
                Decision::Noted
            }
        }
    }

    fn announce(
        &mut self,
        now: Now,
        key: &TorrentKey,
        me: MemberKey,
        family: IpFamily,
        announce: &Announce,
        handed: Handed<'_>,
    ) -> Decision {
        let told = aquatic_swarm::Announce {
            peer: me,
            status: announce.status,
            completed: announce.completed,
            // Whom it meets is decided below.
            num_want: 0,
        };
        let completed = self.members.swarms.completed();
        let newcomer = Newcomer {
            family,
            status: announce.status,
            is_finished: announce.completed || announce.status == PeerStatus::Seeder,
            client: announce.peer_id.client_prefix(),
            until: Until::default(),
        };
        let Noted { announced, is_news } = self.note(now, key, &told, newcomer);
        let change = announced.as_ref().map(|announced| &announced.change);
        let is_kept = !matches!(change, Ok(PeerChange::NotAdded));
        if let Ok(PeerChange::Removed(peer)) = change {
            let (clients, counts) = (&mut self.maintenance.clients, &mut self.members.counts);
            counts.has_left(now.seconds, clients, (&key.info_hash(), &me), peer);
        }
        let finished = self.members.swarms.completed() - completed;
        self.members.counts.downloads_finished(family, finished);
        if let Some(sharing) = &mut self.members.counts.sharing
            && (is_news || finished > 0)
        {
            let presence = Presence {
                family,
                status: announce.status,
                has_completed: finished > 0,
                is_finished: newcomer.is_finished,
            };
            sharing.note(now.seconds, key.info_hash(), &me, presence);
        }
        let stays = announced.is_ok() && announce.status != PeerStatus::Stopped;
        if stays && !handed.offers.is_empty() {
            self.hand_out(now, key, &me, handed);
        }
        match announced {
            Ok(announced) => Decision::Accepted {
                counts: announced.counts,
                is_in_swarm: stays && is_kept,
            },
            Err(refusal) => Decision::Refused(refusal.into()),
        }
    }

    /// Notes what a peer says, or what is said of it; if memory is used up, others may have to give
    /// way.
    fn note(
        &mut self,
        now: Now,
        key: &TorrentKey,
        told: &aquatic_swarm::Announce<MemberKey>,
        newcomer: Newcomer,
    ) -> Noted<V> {
        self.now = now.seconds;
        let mut noted = self.tell(key, told, newcomer);
        let network = weighed_network(&told.peer);
        if matches!(noted.announced, Err(aquatic_swarm::Refusal::MemoryLimit))
            && self.make_room(network, key, |shard| shard.members.swarms.is_full())
        {
            noted = self.tell(key, told, newcomer);
        }
        if let Ok(announced) = &noted.announced
            && matches!(announced.change, PeerChange::Added)
        {
            self.note_added(network);
        }
        noted
    }

    fn tell(
        &mut self,
        key: &TorrentKey,
        told: &aquatic_swarm::Announce<MemberKey>,
        newcomer: Newcomer,
    ) -> Noted<V> {
        let Members { swarms, counts } = &mut self.members;
        let policy = &mut counts.joining(&mut self.maintenance.clients, newcomer);
        let rng = &mut self.rng;
        let announced = swarms.announce(key, told, NO_DEADLINE, policy, rng, |_, _| ());
        let is_added = matches!(&announced, Ok(it) if matches!(it.change, PeerChange::Added));
        Noted {
            is_news: is_added || policy.has_changed,
            announced,
        }
    }

    /// Each offer goes to another peer, which can answer it from now on. Not to one of the same
    /// peer id: that is the same client, over another connection.
    fn hand_out(&mut self, now: Now, key: &TorrentKey, me: &MemberKey, mut handed: Handed<'_>) {
        let mut chosen = mem::take(&mut self.chosen);
        chosen.clear();
        let mut held_back = false;
        self.hand_out_to(now, key, me, handed.behind(0), |other| {
            let of_network = |it: &&MemberKey| it.network_number() == other.network_number();
            let is_first = chosen.iter().all(|it| !it.has_connection_of(other));
            let may_have =
                is_first && chosen.iter().filter(of_network).count() < OFFERS_OF_NETWORK_MAX;
            held_back |= !may_have;
            if may_have {
                chosen.push(*other);
            }
            may_have
        });
        // Nobody else is there, and nothing is kept back.
        if held_back {
            let rest = handed.behind(chosen.len());
            self.hand_out_to(now, key, me, rest, |other| !chosen.contains(other));
        }
        self.chosen = chosen;
    }

    fn hand_out_to(
        &mut self,
        now: Now,
        key: &TorrentKey,
        me: &MemberKey,
        handed: Handed<'_>,
        mut may_have: impl FnMut(&MemberKey) -> bool,
    ) {
        let (offerer, peer_id) = (me.member(), me.peer_id());
        let hasher = self.offer_hasher;
        let network = network_hash(hasher, weighed_network(me));
        let Members { swarms, counts } = &mut self.members;
        let (memory, sharing) = (&mut counts.offers, counts.sharing.as_deref());
        let is_silent =
            |it: &MemberKey| !it.is_here() && !sharing.is_some_and(|sharing| sharing.reaches(it));
        let deadline = now.seconds + self.offer_age_seconds_max;
        let wanted = handed.offers.len();
        let mut offers = handed.offers.iter().zip(handed.receivers);
        let accept = |other: &MemberKey, peer: &mut Peer<V>| {
            if other.peer_id() == peer_id || is_silent(other) || !may_have(other) {
                return false;
            }
            let Some((offer, receiver)) = offers.next() else {
                return false;
            };
            let hash = offer_hash(hasher, &offer.offer_id, &peer_id);
            *receiver = Some(other.receiver(hash));
            let opened = OpenOffer::new(hash, offerer, network, deadline);
            let bytes = peer.open_offers.bytes();
            let may_grow = memory.may_grow();
            let has_gone = |node| sharing.is_some_and(|it| it.has_gone(node));
            peer.open_offers
                .open(now.seconds, opened, may_grow, has_gone);
            memory.change(bytes, peer.open_offers.bytes());
            true
        };
        swarms.introduce(key, me, wanted, &mut self.rng, accept);
    }

    /// Returns where the offer came from. It is closed then.
    fn answer_offer(
        &mut self,
        now: Now,
        key: &TorrentKey,
        name: impl Fn(&PeerId) -> MemberKey,
        answer: &Answer,
    ) -> Result<ConnectionRef, Refusal> {
        let hash = offer_hash(self.offer_hasher, &answer.offer_id, &answer.to_peer_id);
        let mut close = |peer_id: &PeerId| self.close(now, key, &name(peer_id), hash);
        let own = close(&answer.peer_id).ok_or(Refusal::NOT_IN_SWARM)?;
        let offerer = own.or_else(|| answer.siblings.iter().filter_map(close).flatten().next());
        offerer.ok_or(Refusal::OFFER_UNKNOWN)
    }

    /// An offer was dropped on its way. Left open it would take the place of one that was not.
    fn withdraw(&mut self, now: Now, key: &TorrentKey, receiver: &Receiver) {
        let it = MemberKey::new(receiver.member, receiver.network, &receiver.peer_id);
        self.close(now, key, &it, receiver.hash);
    }

    /// Closes an offer to a peer, if the peer is here: whose it was, if it was open.
    fn close(
        &mut self,
        now: Now,
        key: &TorrentKey,
        peer: &MemberKey,
        hash: u64,
    ) -> Option<Option<ConnectionRef>> {
        let Members { swarms, counts } = &mut self.members;
        let offers = &mut swarms.peer_mut(key, peer)?.open_offers;
        let bytes = offers.bytes();
        let closed = offers.close(now.seconds, hash);
        counts.offers.change(bytes, offers.bytes());
        Some(closed)
    }

    fn leave(&mut self, now: Now, key: &TorrentKey, me: &MemberKey) {
        let Members { swarms, counts } = &mut self.members;
        if let Some(peer) = swarms.remove_peer(key, me) {
            let clients = &mut self.maintenance.clients;
            counts.has_left(now.seconds, clients, (&key.info_hash(), me), &peer);
        }
    }
}

impl<V: PeerTag> SignallingSwarms<V> {
    fn process(&mut self, now: Now, batch: &mut Batch) {
        let Batch {
            worker,
            requests,
            offers,
            decisions,
            receivers,
            evicted,
            ..
        } = batch;
        for requests in requests.chunks(PREFETCH_BATCH) {
            let swarms = &self.members.swarms;
            let keys = swarms.keys(requests.iter().map(|it| it.info_hash));
            swarms.prefetch(&keys);
            for (request, key) in requests.iter().zip(&keys) {
                decisions.push(self.decide(now, *worker, key, request, offers, receivers));
            }
        }
        debug_assert_eq!(decisions.len(), requests.len(), "one for each");
        evicted.append(&mut self.evicted);
    }
}

impl<V: PeerTag> Shard for SignallingSwarms<V> {
    fn maintain(&mut self, now: Now) -> bool {
        self.share_memory();
        let sharing = &self.members.counts.sharing;
        if sharing.as_ref().is_some_and(|it| it.is_to_sweep()) {
            self.maintenance.clean_soon(now);
        }
        self.maintenance.step(now, &mut self.members)
    }
}

/// How requests are processed in a [`SignallingShard`]: it decides about each.
pub struct Signalling;

impl BatchProcessor for Signalling {
    type Shard = SignallingShard;
    type Batch = Batch;

    fn process(&mut self, now: Now, shard: &mut SignallingShard, batch: &mut Batch) {
        match shard {
            ClientStats::Off(shard) => shard.process(now, batch),
            ClientStats::On(shard) => shard.process(now, batch),
        }
    }
}

/// Strangers choose their networks, so a secret decides whose have one number.
fn network_hash(mut hasher: SipHasher13, network: u64) -> u16 {
    hasher.write(&network.to_ne_bytes());
    (hasher.finish() & 0xffff) as u16
}

fn offer_hash(mut hasher: SipHasher13, offer_id: &OfferId, offerer: &PeerId) -> u64 {
    hasher.write(&offer_id.0);
    hasher.write(&offerer.0);
    hasher.finish()
}

#[cfg(test)]
mod tests;
