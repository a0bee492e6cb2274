//! A shard of the swarms: who is in which one, and who gets which offer and answer. Pure.
//!
//! Whoever owns a [`Relay`] gives it batches of requests to decide, and between batches lets it do
//! a slice of its background work: forgetting empty torrents and counting.
//!
//! - **A peer is a peer id at a connection.** Peer ids are names that anybody can give themselves:
//!   two connections with one peer id are two peers, and so are two peer ids at one connection.
//!   Nobody can announce, answer or leave for a peer of another connection.
//!   It stays until the worker that holds the connection says that it leaves: that worker alone
//!   knows whether there is life in the connection, and keeps the book of its peers
//!   ([`Membership`](crate::membership::Membership)). So peers have no time of their own here.
//! - **Offers go to any other peers** of the torrent, seeders to seeders as well: many applications
//!   have every page seed the same file, and want nothing but the connections. Only those with the
//!   offerer's own peer id get none: that is the offerer, over another connection.
//! - **An offer is open** from the moment it is handed to a peer until that peer has answered it,
//!   or `max_offer_age` has passed. It is kept with the peer that may answer, with the connection
//!   that it came from, where the answer goes. An answer without an open offer goes nowhere; so
//!   nobody can send anything to a peer that has not offered to be sent it.
//! - IPv4 and IPv6 are in one swarm: browsers meet by other means. Peers are counted by family;
//!   torrents, which have none, are counted with those of IPv4.

use std::hash::Hasher;
use std::mem;
use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_swarm::{HashKey, TorrentKey, TorrentMap};
use aquatic_tracker::cleaning::{Cleaning, Slice};
use aquatic_tracker::clients::{ClientTag, MaybeCounting, PeerTag};
use aquatic_tracker::limits::per_shard;
use aquatic_tracker::report::{PeerHistograms, ShardReport, empty_histograms};
use aquatic_tracker::router;
use aquatic_types::{IpFamily, PeerId, PeerStatus, Seconds};
use aquatic_ws_protocol::OfferId;
use siphasher::sip::SipHasher13;

use crate::census::{Census, Visitor};
use crate::config::Config;
use crate::counters::WorkerCounters;
use crate::messages::{
    Announce, Answer, Batch, Member, MemberKey, Offer, Outcome, Receiver, Request, What,
};
use crate::open_offers::{OpenOffer, OpenOffers};
use crate::refusal::Refusal;

/// What swarms are told instead of a time: with it as both the deadline and the present, no peer
/// is ever too old.
const NO_DEADLINE: Seconds = Seconds(0);

/// Requests whose memory is fetched together.
const TOUCH_BATCH: usize = 32;

/// One of the parts into which the torrents are divided by info hash, with its owner's tools.
pub type Relay = MaybeCounting<TaggedRelay<()>, TaggedRelay<ClientTag>>;

/// What relays share with each other and with the rest of the daemon.
pub struct RelayParts {
    /// Drawn at random at start; the same for all relays.
    pub hash_key: HashKey,
    /// Drawn at random at start.
    pub offer_key: [u64; 2],
    /// Seeds this relay's choice of peers.
    pub rng_seed: u64,
    /// Where this relay reports what is too large for counters.
    pub report: Arc<ShardReport>,
    /// Those of its owner.
    pub counters: Arc<WorkerCounters>,
}

/// An empty relay.
#[must_use]
pub fn new(config: &Config, parts: RelayParts) -> Relay {
    if config.metrics.peer_clients {
        MaybeCounting::Counting(TaggedRelay::new(config, parts))
    } else {
        MaybeCounting::Plain(TaggedRelay::new(config, parts))
    }
}

/// A [`Relay`] that keeps a `V` with each peer, to count clients.
pub struct TaggedRelay<V> {
    swarms: TorrentMap<MemberKey, Peer<V>>,
    rng: fastrand::Rng,
    offer_hasher: SipHasher13,
    census: Census,
    cleaning: Cleaning<()>,
    /// The keys of the requests that are being decided.
    keys: Vec<TorrentKey>,
    /// Of the cleaning that is going on, if they are wanted.
    histograms: Option<PeerHistograms>,
    report: Arc<ShardReport>,
    next_report_seconds: Seconds,
    counters: Arc<WorkerCounters>,
    settings: Settings,
}

#[derive(Clone, Copy)]
struct Settings {
    offer_age_seconds_max: u32,
    report_interval_seconds: u32,
}

/// What is kept with a peer.
#[derive(Debug)]
pub(crate) struct Peer<V> {
    pub(crate) family: IpFamily,
    pub(crate) is_seeder: bool,
    pub(crate) tag: V,
    /// What it may answer.
    open_offers: OpenOffers,
}

impl<V: PeerTag> TaggedRelay<V> {
    fn new(config: &Config, parts: RelayParts) -> Self {
        let limits = per_shard(&config.limits.connections.tracker, config.layout().shards());
        let interval = u32::try_from(config.metrics.interval).unwrap_or(u32::MAX);
        let [key0, key1] = parts.offer_key;
        Self {
            swarms: TorrentMap::new(parts.hash_key, limits),
            rng: fastrand::Rng::with_seed(parts.rng_seed),
            offer_hasher: SipHasher13::new_with_keys(key0, key1),
            census: Census::new(),
            cleaning: Cleaning::new(&[()], config.cleaning.torrent_cleaning_interval),
            keys: Vec::with_capacity(TOUCH_BATCH),
            histograms: config
                .metrics
                .torrent_peer_histograms
                .then(empty_histograms),
            report: parts.report,
            next_report_seconds: Seconds(0) + interval,
            counters: parts.counters,
            settings: Settings {
                offer_age_seconds_max: config.cleaning.max_offer_age,
                report_interval_seconds: interval,
            },
        }
    }

    fn decide(
        &mut self,
        now: Now,
        worker: u16,
        key: &TorrentKey,
        request: &mut Request,
        offers: &mut [Offer],
    ) {
        let member = Member {
            worker,
            connection: request.connection,
        };
        match &mut request.what {
            What::Announce(announce) => {
                announce.outcome =
                    self.announce(now, key, member, request.family, announce, offers);
            }
            What::Answer(answer) => answer.to = Some(self.answer_offer(now, key, member, answer)),
            What::Scrape { counts, .. } => *counts = self.swarms.scrape(key),
            What::Leave { peer_id } => self.leave(key, member, peer_id),
            What::Withdraw(receiver) => self.withdraw(now, key, receiver),
        }
    }

    fn announce(
        &mut self,
        now: Now,
        key: &TorrentKey,
        member: Member,
        family: IpFamily,
        announce: &mut Announce,
        offers: &mut [Offer],
    ) -> Outcome {
        let Self {
            swarms,
            rng,
            census,
            ..
        } = self;
        let me = MemberKey::new(member, &announce.peer_id);
        let known = swarms.peer_mut(key, &me);
        let open_offers = known.map(|it| mem::take(&mut it.open_offers));
        let tag = census.tag(&announce.peer_id);
        let is_seeder = announce.status == PeerStatus::Seeder;
        let told = aquatic_swarm::Announce {
            peer: me,
            value: Peer {
                family,
                is_seeder,
                tag,
                open_offers: open_offers.unwrap_or_default(),
            },
            status: announce.status,
            completed: announce.completed,
            // Whom it meets is decided below.
            peers_wanted: 0,
            deadline: NO_DEADLINE,
        };
        let completed = swarms.completed();
        let announced = swarms.announce(key, told, rng, |_| true, |_, _| ());
        let change = announced.as_ref().map(|announced| &announced.change);
        census.settle(family, tag, is_seeder, change.ok());
        census.downloads_finished(family, swarms.completed() - completed);
        announce.is_in_swarm = announced.is_ok() && announce.status != PeerStatus::Stopped;
        let offers = offers.get_mut(announce.offers.clone()).unwrap_or_default();
        if announce.is_in_swarm && !offers.is_empty() {
            self.hand_out(now, key, &me, offers);
        }
        match announced {
            Ok(announced) => Outcome::Noted(announced.counts),
            Err(refusal) => Outcome::Refused(refusal.into()),
        }
    }

    /// Each offer goes to another peer, which can answer it from now on. Not to one of the same
    /// peer id: that is the same client, over another connection.
    fn hand_out(&mut self, now: Now, key: &TorrentKey, me: &MemberKey, offers: &mut [Offer]) {
        let (offerer, peer_id) = (me.member(), me.peer_id());
        let hasher = self.offer_hasher;
        let deadline = now.seconds + self.settings.offer_age_seconds_max;
        let wanted = offers.len();
        let mut offers = offers.iter_mut();
        let accept = |other: &MemberKey, peer: &mut Peer<V>| {
            if other.peer_id() == peer_id {
                return false;
            }
            let Some(offer) = offers.next() else {
                return false;
            };
            let hash = offer_hash(hasher, &offer.offer_id, &peer_id);
            offer.to = Some(other.receiver(hash));
            let opened = OpenOffer {
                hash,
                offerer,
                deadline,
            };
            peer.open_offers.open(now.seconds, opened);
            true
        };
        self.swarms
            .introduce(key, me, wanted, &mut self.rng, accept);
    }

    /// Returns where the offer came from. It is closed then.
    fn answer_offer(
        &mut self,
        now: Now,
        key: &TorrentKey,
        member: Member,
        answer: &Answer,
    ) -> Result<Member, Refusal> {
        let hash = offer_hash(self.offer_hasher, &answer.offer_id, &answer.to_peer_id);
        let mut close = |peer_id: &PeerId| {
            let answerer = MemberKey::new(member, peer_id);
            let answerer = self.swarms.peer_mut(key, &answerer)?;
            Some(answerer.open_offers.close(now.seconds, hash))
        };
        let own = close(&answer.peer_id).ok_or(Refusal::NOT_IN_SWARM)?;
        let offerer = own.or_else(|| answer.siblings.iter().filter_map(close).flatten().next());
        offerer.ok_or(Refusal::OFFER_UNKNOWN)
    }

    /// An offer was dropped on its way. Left open it would take the place of one that was not.
    fn withdraw(&mut self, now: Now, key: &TorrentKey, receiver: &Receiver) {
        let it = MemberKey::new(receiver.member, &receiver.peer_id);
        if let Some(peer) = self.swarms.peer_mut(key, &it) {
            peer.open_offers.close(now.seconds, receiver.hash);
        }
    }

    fn leave(&mut self, key: &TorrentKey, member: Member, peer_id: &PeerId) {
        let me = MemberKey::new(member, peer_id);
        if let Some(peer) = self.swarms.remove_peer(key, &me) {
            self.census.has_left(&peer);
        }
    }

    fn publish_gauges(&self) {
        let torrents = &self.counters.swarms(IpFamily::V4).torrents;
        torrents.set(self.swarms.torrents());
        for family in IpFamily::ALL {
            let (gauges, census) = (self.counters.swarms(family), &self.census);
            gauges.peers.set(census.peers(family));
            gauges.seeders.set(census.seeders(family));
            gauges.completed.set(census.completed(family));
        }
    }

    /// Forgets torrents without peers.
    fn clean(&mut self, now: Now) -> bool {
        let Self {
            swarms,
            census,
            histograms,
            ..
        } = self;
        let slice = self.cleaning.slice(now, |(), cursor, budget| {
            let histogram = histograms.as_mut().map(|histograms| &mut histograms.v4);
            let visitor = &mut Visitor { census, histogram };
            swarms.clean(cursor, NO_DEADLINE, budget, visitor)
        });
        if let Slice::Finished { micros } = slice {
            let micros = usize::try_from(micros).unwrap_or(usize::MAX);
            self.counters.shard.cleaning_micros.set(micros);
            if let Some(histograms) = histograms {
                let finished = mem::replace(histograms, empty_histograms());
                self.report.set_histograms(finished);
            }
        }
        slice == Slice::More
    }
}

impl<V: PeerTag> router::Shard for TaggedRelay<V> {
    type Batch = Batch;

    fn answer(&mut self, now: Now, batch: &mut Batch) {
        let mut keys = mem::take(&mut self.keys);
        for requests in batch.requests.chunks_mut(TOUCH_BATCH) {
            keys.clear();
            keys.extend(requests.iter().map(|it| self.swarms.key(it.info_hash)));
            self.swarms.touch(&keys);
            for (request, key) in requests.iter_mut().zip(&keys) {
                self.decide(now, batch.worker, key, request, &mut batch.offers);
            }
        }
        self.keys = keys;
    }

    fn background(&mut self, now: Now) -> bool {
        self.publish_gauges();
        if now.seconds >= self.next_report_seconds {
            self.next_report_seconds = now.seconds + self.settings.report_interval_seconds;
            self.report.set_clients(self.census.clients());
        }
        self.clean(now)
    }
}

fn offer_hash(mut hasher: SipHasher13, offer_id: &OfferId, offerer: &PeerId) -> u64 {
    hasher.write(&offer_id.0);
    hasher.write(&offerer.0);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use aquatic_stream::ConnectionId;
    use aquatic_swarm::Counts;
    use aquatic_tracker::router::Shard;
    use aquatic_types::InfoHash;

    use super::*;
    use crate::membership::Asked;

    const TORRENT: InfoHash = InfoHash([1; 20]);

    /// A relay, and the connection that everyone has: peers differ by their worker.
    struct Desk {
        relay: Relay,
        counters: Arc<WorkerCounters>,
        now_seconds: u32,
    }

    impl Desk {
        fn new() -> Self {
            let counters = Arc::<WorkerCounters>::default();
            let parts = RelayParts {
                hash_key: HashKey::new([1, 2]),
                offer_key: [3, 4],
                rng_seed: 5,
                report: Arc::default(),
                counters: Arc::clone(&counters),
            };
            let mut config = Config::default();
            config.metrics.peer_clients = true;
            Self {
                relay: new(&config, parts),
                counters,
                now_seconds: 1,
            }
        }

        fn now(&self) -> Now {
            Now::from_micros(u64::from(self.now_seconds) * 1_000_000)
        }

        fn ask(&mut self, worker: u16, what: What, offers: Vec<Offer>) -> Batch {
            let mut batch = Batch::new(worker);
            batch.offers = offers;
            batch.requests.push(Request {
                connection: ConnectionId::default(),
                family: IpFamily::V6,
                info_hash: TORRENT,
                what,
            });
            let now = self.now();
            self.relay.answer(now, &mut batch);
            batch
        }

        /// Announces with so many offers, numbered from `first`. Returns which workers get them.
        fn announce(
            &mut self,
            worker: u16,
            peer_id: u8,
            first: u8,
            offers: u8,
        ) -> Result<Vec<u16>, Outcome> {
            self.announce_as(PeerStatus::Leecher, worker, peer_id, first..first + offers)
        }

        fn announce_as(
            &mut self,
            status: PeerStatus,
            worker: u16,
            peer_id: u8,
            offers: std::ops::Range<u8>,
        ) -> Result<Vec<u16>, Outcome> {
            let offer = |number| Offer {
                offer_id: OfferId([number; 20]),
                json: 0..0,
                to: None,
            };
            let offers: Vec<_> = offers.map(offer).collect();
            let announce = Announce {
                peer_id: PeerId([peer_id; 20]),
                status,
                completed: false,
                offers: 0..offers.len(),
                skipped: None,
                outcome: Outcome::Noted(Counts::default()),
                asked: Asked::Added,
                is_in_swarm: false,
            };
            let batch = self.ask(worker, What::Announce(announce), offers);
            let Some(What::Announce(announce)) = batch.requests.first().map(|it| &it.what) else {
                unreachable!("it was put there");
            };
            let is_noted = matches!(announce.outcome, Outcome::Noted(_));
            assert_eq!(announce.is_in_swarm, is_noted);
            let to = batch.offers.iter().filter_map(|offer| offer.to);
            let to = to.map(|to| to.member.worker).collect();
            is_noted.then_some(to).ok_or(announce.outcome)
        }

        fn answer(&mut self, worker: u16, by: u8, to: u8, offer: u8) -> Result<u16, Refusal> {
            self.answer_with(&[], worker, by, to, offer)
        }

        fn answer_with(
            &mut self,
            siblings: &[u8],
            worker: u16,
            by: u8,
            to: u8,
            offer: u8,
        ) -> Result<u16, Refusal> {
            let answer = Answer {
                peer_id: PeerId([by; 20]),
                siblings: siblings.iter().map(|it| PeerId([*it; 20])).collect(),
                to_peer_id: PeerId([to; 20]),
                offer_id: OfferId([offer; 20]),
                json: 0..0,
                to: None,
            };
            let batch = self.ask(worker, What::Answer(answer), Vec::new());
            let Some(What::Answer(answer)) = batch.requests.first().map(|it| &it.what) else {
                unreachable!("it was put there");
            };
            answer.to.unwrap().map(|to| to.worker)
        }

        fn leave(&mut self, worker: u16, peer_id: u8) {
            let peer_id = PeerId([peer_id; 20]);
            self.ask(worker, What::Leave { peer_id }, Vec::new());
        }

        fn peers(&mut self) -> u64 {
            let now = self.now();
            while self.relay.background(now) {}
            // Counts what is left after that.
            self.relay.background(now);
            self.counters.swarms(IpFamily::V6).peers.get()
        }
    }

    #[test]
    fn an_offer_is_answered_once_by_who_got_it() {
        let mut desk = Desk::new();
        assert_eq!(desk.announce(1, b'a', 0, 3), Ok(vec![]));
        assert_eq!(desk.announce(2, b'b', 10, 3), Ok(vec![1]));
        let mut receivers = desk.announce(3, b'c', 20, 3).unwrap();
        receivers.sort_unstable();
        assert_eq!(receivers, [1, 2]);

        assert_eq!(desk.answer(3, b'c', b'b', 10), Err(Refusal::OFFER_UNKNOWN));
        assert_eq!(desk.answer(1, b'a', b'b', 11), Err(Refusal::OFFER_UNKNOWN));
        assert_eq!(desk.answer(3, b'a', b'b', 10), Err(Refusal::NOT_IN_SWARM));
        assert_eq!(desk.answer(1, b'a', b'b', 10), Ok(2));
        assert_eq!(desk.answer(1, b'a', b'b', 10), Err(Refusal::OFFER_UNKNOWN));
    }

    #[test]
    fn an_offer_is_open_for_a_time() {
        let mut desk = Desk::new();
        desk.announce(1, b'a', 0, 0).unwrap();
        for (seconds, expected) in [(120, Ok(2)), (121, Err(Refusal::OFFER_UNKNOWN))] {
            assert_eq!(desk.announce(2, b'b', 10, 1), Ok(vec![1]));
            desk.now_seconds += seconds;
            assert_eq!(desk.answer(1, b'a', b'b', 10), expected);
        }
    }

    #[test]
    fn seeders_meet_seeders() {
        let mut desk = Desk::new();
        let seeder = PeerStatus::Seeder;
        assert_eq!(desk.announce_as(seeder, 1, b'a', 0..0), Ok(vec![]));
        assert_eq!(desk.announce_as(seeder, 2, b'b', 0..3), Ok(vec![1]));
        assert_eq!(desk.answer(1, b'a', b'b', 0), Ok(2));
    }

    #[test]
    fn a_peer_belongs_to_its_connection() {
        let mut desk = Desk::new();
        desk.announce(1, b'a', 0, 0).unwrap();
        assert_eq!(desk.announce(2, b'b', 10, 1), Ok(vec![1]));
        assert_eq!(desk.answer(3, b'a', b'b', 10), Err(Refusal::NOT_IN_SWARM));
        desk.leave(3, b'a');
        assert_eq!(desk.peers(), 2, "nobody else can say goodbye for it");
        desk.leave(1, b'a');
        assert_eq!(desk.peers(), 1);
    }

    #[test]
    fn one_peer_id_at_two_connections_is_two_peers_that_do_not_meet() {
        let mut desk = Desk::new();
        desk.announce(1, b'a', 0, 0).unwrap();
        assert_eq!(desk.announce(2, b'a', 0, 2), Ok(vec![]), "its own twin");
        assert_eq!(desk.peers(), 2);
        let mut receivers = desk.announce(3, b'c', 10, 3).unwrap();
        receivers.sort_unstable();
        assert_eq!(receivers, [1, 2], "both are met");
        for (first, twin) in [(20, 1), (30, 2)] {
            assert_eq!(desk.announce(twin, b'a', first, 2), Ok(vec![3]));
        }
        // Answers go where each offer came from, and each twin answers for itself.
        assert_eq!(desk.answer(3, b'c', b'a', 30), Ok(2));
        assert_eq!(desk.answer(3, b'c', b'a', 20), Ok(1));
        let by_twins = [10, 11].map(|offer| {
            [1, 2]
                .map(|twin| desk.answer(twin, b'a', b'c', offer))
                .iter()
                .flatten()
                .count()
        });
        assert_eq!(by_twins, [1, 1], "each offer is for one of them");
        desk.leave(1, b'a');
        assert_eq!(
            desk.announce(3, b'c', 40, 3),
            Ok(vec![2]),
            "the other one stays"
        );
    }

    #[test]
    fn two_peer_ids_at_one_connection_are_two_peers() {
        let mut desk = Desk::new();
        desk.announce(1, b'a', 0, 0).unwrap();
        assert_eq!(desk.announce(1, b'b', 10, 2), Ok(vec![1]));
        assert_eq!(desk.answer(1, b'a', b'b', 10), Ok(1));
        assert_eq!(desk.announce(2, b'c', 20, 3), Ok(vec![1, 1]));
        // Nobody has told that connection which offer is for which of them.
        for (siblings, offer) in [(&b"b"[..], 20), (b"yb", 21)] {
            assert_eq!(desk.answer_with(siblings, 1, b'a', b'c', offer), Ok(2));
        }
        desk.leave(1, b'a');
        assert_eq!(desk.announce(2, b'c', 30, 3), Ok(vec![1]));
    }

    #[test]
    fn peers_stay_until_they_leave_and_torrents_go_with_the_last_one() {
        let mut desk = Desk::new();
        desk.announce(1, b'a', 0, 0).unwrap();
        desk.announce(2, b'b', 0, 0).unwrap();
        let torrents = |desk: &Desk| desk.counters.swarms(IpFamily::V4).torrents.get();
        // More than swarms remember, and each at another place of the circle of their times.
        for _ in 0..10 {
            desk.now_seconds += 20_011;
            assert_eq!((desk.peers(), torrents(&desk)), (2, 1));
        }
        desk.leave(1, b'a');
        desk.now_seconds += 31;
        assert_eq!((desk.peers(), torrents(&desk)), (1, 1));
        desk.leave(2, b'b');
        desk.now_seconds += 31;
        assert_eq!((desk.peers(), torrents(&desk)), (0, 0));
    }
}
