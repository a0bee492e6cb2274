//! A shard of the swarms: who is in which one, and who gets which offer and answer. Pure.
//!
//! Whoever owns a [`Relay`] gives it batches of requests to decide, and between batches lets it do
//! a slice of its background work: forgetting and counting.
//!
//! - **A peer belongs to its connection.** Nobody else can announce, answer or leave in its name,
//!   until that connection has ended. Who tries to announce makes it show that it still lives (see
//!   [`Session::challenge`](crate::session::Session::challenge)).
//! - **An offer is open** from the moment it is handed to a peer until that peer has answered it,
//!   or `max_offer_age` has passed. It is kept with the peer that made it: 64 bits of a keyed hash
//!   of its name and the peer that may answer, and when it ends. An answer without an open offer
//!   goes nowhere; so nobody can send anything to a peer that has not offered to be sent it.
//! - IPv4 and IPv6 are in one swarm: browsers meet by other means. Peers are counted by family;
//!   torrents, which have none, are counted with those of IPv4.

use std::hash::Hasher;
use std::sync::Arc;

use aquatic_access_list::AccessListReader;
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
use thin_vec::ThinVec;

use crate::census::{Census, Visitor};
use crate::config::Config;
use crate::counters::WorkerCounters;
use crate::messages::{Announce, Answer, Batch, Member, Offer, Outcome, Request, What};
use crate::refusal::Refusal;

/// Requests whose memory is fetched together.
const TOUCH_BATCH: usize = 32;

/// Open offers that are kept per peer; older ones are forgotten for newer ones. With ten offers per
/// announce, those of twelve announces within `max_offer_age`.
const OPEN_OFFERS_MAX: usize = 120;

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
    /// Which torrents stay.
    pub access_list: AccessListReader,
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
    swarms: TorrentMap<PeerId, Peer<V>>,
    rng: fastrand::Rng,
    offer_hasher: SipHasher13,
    census: Census,
    cleaning: Cleaning<()>,
    /// The keys of the requests that are being decided.
    keys: Vec<TorrentKey>,
    /// Whom the offers of the announce that is being decided go to.
    chosen: Vec<(PeerId, Member)>,
    /// Of the cleaning that is going on, if they are wanted.
    histograms: Option<PeerHistograms>,
    report: Arc<ShardReport>,
    next_report_seconds: Seconds,
    counters: Arc<WorkerCounters>,
    settings: Settings,
}

#[derive(Clone, Copy)]
struct Settings {
    peer_age_seconds_max: u32,
    offer_age_seconds_max: u32,
    report_interval_seconds: u32,
}

/// What is kept with a peer.
#[derive(Debug)]
pub(crate) struct Peer<V> {
    member: Member,
    pub(crate) family: IpFamily,
    pub(crate) is_seeder: bool,
    pub(crate) tag: V,
    /// What it has offered, the oldest first.
    open_offers: ThinVec<OpenOffer>,
}

#[derive(Clone, Copy, Debug)]
struct OpenOffer {
    /// Of its name, and of who may answer it.
    hash: u64,
    deadline: Seconds,
}

impl<V: PeerTag> TaggedRelay<V> {
    fn new(config: &Config, parts: RelayParts) -> Self {
        let limits = per_shard(&config.limits.tracker, config.layout().shards());
        let interval = u32::try_from(config.metrics.interval).unwrap_or(u32::MAX);
        let [key0, key1] = parts.offer_key;
        Self {
            swarms: TorrentMap::new(parts.hash_key, limits),
            rng: fastrand::Rng::with_seed(parts.rng_seed),
            offer_hasher: SipHasher13::new_with_keys(key0, key1),
            census: Census::new(parts.access_list),
            cleaning: Cleaning::new(&[()], config.cleaning.torrent_cleaning_interval),
            keys: Vec::with_capacity(TOUCH_BATCH),
            chosen: Vec::new(),
            histograms: config
                .metrics
                .torrent_peer_histograms
                .then(empty_histograms),
            report: parts.report,
            next_report_seconds: Seconds(0) + interval,
            counters: parts.counters,
            settings: Settings {
                peer_age_seconds_max: config.cleaning.max_peer_age,
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
            chosen,
            ..
        } = self;
        let mut open_offers = ThinVec::new();
        if let Some(known) = swarms.peer_mut(key, &announce.peer_id) {
            if known.member != member {
                let holder = known.member;
                let counts = swarms.scrape(key);
                return Outcome::Contested { counts, holder };
            }
            open_offers = std::mem::take(&mut known.open_offers);
        }
        chosen.clear();
        let offers = offers.get_mut(announce.offers.clone()).unwrap_or_default();
        let told = aquatic_swarm::Announce {
            peer: announce.peer_id,
            value: Peer {
                member,
                family,
                is_seeder: announce.status == PeerStatus::Seeder,
                tag: census.tag(&announce.peer_id),
                open_offers,
            },
            status: announce.status,
            completed: announce.completed,
            peers_wanted: offers.len(),
            deadline: now.seconds + self.settings.peer_age_seconds_max,
        };
        let (tag, is_seeder) = (told.value.tag, told.value.is_seeder);
        let completed = swarms.completed();
        let announced = swarms.announce(
            key,
            told,
            rng,
            |_| true,
            |peer_id, peer| chosen.push((*peer_id, peer.member)),
        );
        let change = announced.as_ref().map(|announced| &announced.change);
        census.settle(family, tag, is_seeder, change.ok());
        census.downloads_finished(family, swarms.completed() - completed);
        announce.is_in_swarm = announced.is_ok() && announce.status != PeerStatus::Stopped;
        if !chosen.is_empty() {
            self.open_offers(now, key, &announce.peer_id, offers);
        }
        match announced {
            Ok(announced) => Outcome::Noted(announced.counts),
            Err(refusal) => Outcome::Refused(refusal.into()),
        }
    }

    /// Each offer goes to one of the chosen peers, which can answer it from now on.
    fn open_offers(&mut self, now: Now, key: &TorrentKey, peer_id: &PeerId, offers: &mut [Offer]) {
        let Some(peer) = self.swarms.peer_mut(key, peer_id) else {
            return;
        };
        let open = &mut peer.open_offers;
        open.retain(|offer| offer.deadline >= now.seconds);
        let surplus = (open.len() + self.chosen.len()).saturating_sub(OPEN_OFFERS_MAX);
        open.drain(..surplus.min(open.len()));
        open.reserve_exact(self.chosen.len());
        let deadline = now.seconds + self.settings.offer_age_seconds_max;
        for (offer, (answerer, member)) in offers.iter_mut().zip(&self.chosen) {
            offer.to = Some(*member);
            open.push(OpenOffer {
                hash: offer_hash(self.offer_hasher, &offer.offer_id, answerer),
                deadline,
            });
        }
    }

    /// Returns whose offer it is. It is closed then.
    fn answer_offer(
        &mut self,
        now: Now,
        key: &TorrentKey,
        member: Member,
        answer: &Answer,
    ) -> Result<Member, Refusal> {
        let answerer = self.swarms.peer(key, &answer.peer_id);
        if answerer.is_none_or(|answerer| answerer.member != member) {
            return Err(Refusal::NOT_IN_SWARM);
        }
        let hash = offer_hash(self.offer_hasher, &answer.offer_id, &answer.peer_id);
        let offerer = self.swarms.peer_mut(key, &answer.to_peer_id);
        let offerer = offerer.ok_or(Refusal::OFFER_UNKNOWN)?;
        let is_it = |offer: &OpenOffer| offer.hash == hash && offer.deadline >= now.seconds;
        let at = offerer.open_offers.iter().position(is_it);
        offerer
            .open_offers
            .remove(at.ok_or(Refusal::OFFER_UNKNOWN)?);
        Ok(offerer.member)
    }

    fn leave(&mut self, key: &TorrentKey, member: Member, peer_id: &PeerId) {
        let peer = self.swarms.peer(key, peer_id);
        if peer.is_some_and(|peer| peer.member == member)
            && let Some(peer) = self.swarms.remove_peer(key, peer_id)
        {
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

    /// Forgets peers that no longer announce, torrents without peers, and torrents that are no
    /// longer allowed.
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
            swarms.clean(cursor, now.seconds, budget, visitor)
        });
        if let Slice::Finished { micros } = slice {
            let micros = usize::try_from(micros).unwrap_or(usize::MAX);
            self.counters.shard.cleaning_micros.set(micros);
            if let Some(histograms) = histograms {
                let finished = std::mem::replace(histograms, empty_histograms());
                self.report.set_histograms(finished);
            }
        }
        slice == Slice::More
    }
}

impl<V: PeerTag> router::Shard for TaggedRelay<V> {
    type Batch = Batch;

    fn answer(&mut self, now: Now, batch: &mut Batch) {
        let mut keys = std::mem::take(&mut self.keys);
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

fn offer_hash(mut hasher: SipHasher13, offer_id: &OfferId, answerer: &PeerId) -> u64 {
    hasher.write(&offer_id.0);
    hasher.write(&answerer.0);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
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
        access_list: SharedAccessList,
        now_seconds: u32,
    }

    impl Desk {
        fn new() -> Self {
            let access_list = SharedAccessList::new(AccessListMode::Deny, AccessList::default());
            let counters = Arc::<WorkerCounters>::default();
            let parts = RelayParts {
                hash_key: HashKey::new([1, 2]),
                offer_key: [3, 4],
                rng_seed: 5,
                access_list: access_list.reader(),
                report: Arc::default(),
                counters: Arc::clone(&counters),
            };
            let mut config = Config::default();
            config.metrics.peer_clients = true;
            Self {
                relay: new(&config, parts),
                counters,
                access_list,
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
            let offer = |number| Offer {
                offer_id: OfferId([number; 20]),
                json: 0..0,
                to: None,
            };
            let offers: Vec<_> = (first..first + offers).map(offer).collect();
            let announce = Announce {
                peer_id: PeerId([peer_id; 20]),
                status: PeerStatus::Leecher,
                completed: false,
                offers: 0..offers.len(),
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
            let to = to.map(|to| to.worker).collect();
            is_noted.then_some(to).ok_or(announce.outcome)
        }

        fn answer(&mut self, worker: u16, by: u8, to: u8, offer: u8) -> Result<u16, Refusal> {
            let answer = Answer {
                peer_id: PeerId([by; 20]),
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
    fn the_oldest_of_too_many_offers_are_closed() {
        let mut desk = Desk::new();
        desk.announce(1, b'a', 0, 0).unwrap();
        for number in 0..=u8::try_from(OPEN_OFFERS_MAX).unwrap() {
            assert_eq!(desk.announce(2, b'b', number, 1), Ok(vec![1]));
        }
        assert_eq!(desk.answer(1, b'a', b'b', 0), Err(Refusal::OFFER_UNKNOWN));
        assert_eq!(desk.answer(1, b'a', b'b', 1), Ok(2));
    }

    #[test]
    fn a_peer_belongs_to_its_connection() {
        let mut desk = Desk::new();
        desk.announce(1, b'a', 0, 0).unwrap();
        let contested = Outcome::Contested {
            counts: Counts {
                leechers: 1,
                ..Counts::default()
            },
            holder: Member {
                worker: 1,
                connection: ConnectionId::default(),
            },
        };
        assert_eq!(desk.announce(2, b'a', 0, 2), Err(contested));
        desk.leave(2, b'a');
        assert_eq!(desk.peers(), 1, "nobody else can say goodbye for it");
        desk.leave(1, b'a');
        assert_eq!(desk.peers(), 0);
        assert_eq!(desk.announce(2, b'a', 0, 0), Ok(vec![]));
    }

    #[test]
    fn cleaning_forgets_the_silent_and_the_forbidden() {
        let mut desk = Desk::new();
        desk.announce(1, b'a', 0, 0).unwrap();
        desk.now_seconds += 170;
        desk.announce(2, b'b', 0, 0).unwrap();
        assert_eq!(desk.peers(), 2);
        desk.now_seconds += 31;
        assert_eq!(desk.peers(), 1);
        let denied = AccessList::parse("01".repeat(20).as_bytes()).unwrap();
        desk.access_list.replace(denied);
        desk.now_seconds += 31;
        assert_eq!(desk.peers(), 0);
        assert_eq!(desk.counters.swarms(IpFamily::V4).torrents.get(), 0);
    }
}
