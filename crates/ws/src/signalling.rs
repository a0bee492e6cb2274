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
//! - IPv4 and IPv6 are in one swarm: browsers meet by other means. Peers are counted by family;
//!   torrents, which have none, are counted with those of IPv4.

mod live;
mod persist;
mod read;
mod room;

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
use aquatic_types::{IpFamily, PeerId, PeerStatus};
use aquatic_ws_protocol::OfferId;
use siphasher::sip::SipHasher13;

use crate::config::Config;
use crate::members::{MemberCounts, Members, NO_DEADLINE, Peer};
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
        Self {
            members: Members {
                swarms: TorrentMap::new(parts.hash_key, limits(config)),
                counts: MemberCounts::new(bytes_max.map(bytes_for_offers)),
            },
            rng: fastrand::Rng::with_seed(parts.rng_seed),
            maintenance: Maintenance::new(settings, parts.hash_key, parts.reporting),
            offer_hasher: SipHasher13::new_with_keys(key0, key1),
            offer_age_seconds_max: config.cleaning.max_offer_age,
            chosen: Vec::new(),
            evicted: Vec::new(),
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
        let member = ConnectionRef {
            worker,
            connection: request.connection,
        };
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
                self.leave(key, &name(peer_id));
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
        let mut announced = self.tell(key, &told, family);
        if matches!(announced, Err(aquatic_swarm::Refusal::MemoryLimit))
            && self.make_room(weighed_network(&me), key, |shard| {
                shard.members.swarms.is_full()
            })
        {
            announced = self.tell(key, &told, family);
        }
        let change = announced.as_ref().map(|announced| &announced.change);
        let is_kept = !matches!(change, Ok(PeerChange::NotAdded));
        match change {
            Ok(PeerChange::Added) => self.note_added(weighed_network(&me)),
            Ok(PeerChange::Removed(peer)) => {
                let clients = &mut self.maintenance.clients;
                self.members.counts.has_left(clients, peer);
            }
            Ok(PeerChange::Updated | PeerChange::Absent | PeerChange::NotAdded) | Err(_) => {}
        }
        let finished = self.members.swarms.completed() - completed;
        self.members.counts.downloads_finished(family, finished);
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

    fn tell(
        &mut self,
        key: &TorrentKey,
        announce: &aquatic_swarm::Announce<MemberKey>,
        family: IpFamily,
    ) -> Result<Announced<Peer<V>>, aquatic_swarm::Refusal> {
        let is_seeder = announce.status == PeerStatus::Seeder;
        let Members { swarms, counts } = &mut self.members;
        let clients = &mut self.maintenance.clients;
        let policy = &mut counts.joining(clients, family, is_seeder, &announce.peer.peer_id());
        swarms.announce(key, announce, NO_DEADLINE, policy, &mut self.rng, |_, _| ())
    }

    /// Each offer goes to another peer, which can answer it from now on. Not to one of the same
    /// peer id: that is the same client, over another connection.
    fn hand_out(&mut self, now: Now, key: &TorrentKey, me: &MemberKey, mut handed: Handed<'_>) {
        let mut chosen = mem::take(&mut self.chosen);
        chosen.clear();
        let mut held_back = false;
        self.hand_out_to(now, key, me, handed.behind(0), |other| {
            let of_network = |it: &&MemberKey| it.network_number() == other.network_number();
            let is_first = chosen.iter().all(|it| it.member() != other.member());
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
        let memory = &mut counts.offers;
        let deadline = now.seconds + self.offer_age_seconds_max;
        let wanted = handed.offers.len();
        let mut offers = handed.offers.iter().zip(handed.receivers);
        let accept = |other: &MemberKey, peer: &mut Peer<V>| {
            if other.peer_id() == peer_id || !may_have(other) {
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
            peer.open_offers.open(now.seconds, opened, may_grow);
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

    fn leave(&mut self, key: &TorrentKey, me: &MemberKey) {
        let Members { swarms, counts } = &mut self.members;
        if let Some(peer) = swarms.remove_peer(key, me) {
            counts.has_left(&mut self.maintenance.clients, &peer);
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
