//! What happens when.

mod arrivals;
mod changes;
mod crowds;
mod restarts;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use aquatic_access_list::AccessListMode;
use aquatic_daemon::clock::Now;
use aquatic_keys::{KeyMode, SharedKeys};
use aquatic_stream::TlsConfig;
use aquatic_test_support::certificates::Certificates;
use aquatic_test_support::lists::Lists;
use aquatic_test_support::tally::Tally;
use aquatic_types::{AnnounceEvent, InfoHash, PeerId, PeerStatus};
use aquatic_ws::config::Config;
use aquatic_ws_protocol::{AnnounceRequest, AnswerRequest, Offer, ScrapeRequest};

use super::client::Client;
use super::keys::{self, ClientKey, FREE};
use super::ledger::Ledger;
use super::model::{ConnectionRef, Model, Reply, Verdict};
use super::replies::{Replies, Sent};
use super::tracker::{Tracker, answer_all, arranged, gauges, maintain, reasons};

use arrivals::Arrived;
use restarts::persistence;

/// How long a message has before the next thing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Until all that comes of it has come.
    Patient,
    /// None.
    Hasty,
}

const STEPS: usize = 1_500;
const CLIENTS_MAX: usize = 24;
const TORRENTS: u8 = 4;

/// Bytes of the offers of those who put pressure on slow readers.
const OFFER_PADDING: usize = 600;

/// From here on, names are second ones.
const SECOND_NAMES: usize = 1_000_000;

pub(crate) struct World {
    config: Config,
    pace: Pace,
    /// Offers are large, buffers small, and rests are rare.
    is_pressed: bool,
    rng: fastrand::Rng,
    now_micros: u64,
    tracker: Tracker,
    lists: Lists,
    keys: SharedKeys,
    /// Connections are encrypted, if there are some.
    certificates: Option<Certificates<TlsConfig>>,
    /// When each certificate was followed by another, in seconds.
    outdated_since: Vec<u32>,
    pub(crate) tally: Tally,
    clients: Vec<Client>,
    ledger: Ledger,
    /// Knows only what is so in a patient run.
    model: Model,
    /// What has come since the last look, in a patient run.
    arrived: Arrived,
}

impl World {
    pub(crate) fn new(config: Config, pace: Pace, rng: fastrand::Rng) -> Self {
        let mut rng = rng;
        let lists = Lists::new(AccessListMode::Deny, BTreeSet::new());
        let certificates = (rng.u8(..4) == 0)
            .then(|| Certificates::new(|certificate, key| TlsConfig::load(certificate, key, &[])));
        let tls = certificates.as_ref().map(|it| &it.tls);
        let keys = keys::shared([KeyMode::Off, KeyMode::Require][rng.usize(..2)]);
        let (list, seed) = (lists.shared(), rng.u64(..));
        Self {
            tracker: arranged(&config, list, &keys, tls, persistence(), seed),
            lists,
            keys,
            certificates,
            outdated_since: Vec::new(),
            tally: Tally::default(),
            model: Model::new(&config),
            is_pressed: config.network.websocket_max_message_size < 10_000,
            config,
            pace,
            rng,
            now_micros: 1_000_000,
            clients: Vec::new(),
            ledger: Ledger::default(),
            arrived: Arrived::default(),
        }
    }

    pub(crate) fn run(&mut self) {
        for _ in 0..STEPS {
            self.act();
            match self.pace {
                Pace::Patient => self.rest(),
                Pace::Hasty => self.stir(),
            }
        }
        self.rest();
        for (index, client) in self.clients.iter().enumerate() {
            let has_all_replies = client.replies.values().all(Replies::is_complete);
            let waits = client.is_open && !client.is_mute && !has_all_replies;
            assert!(!waits, "client {index} waits");
        }
        self.end();
    }

    pub(crate) fn reasons(&self) -> BTreeSet<&'static str> {
        reasons(&self.tracker)
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.certificates.is_some()
    }

    pub(crate) fn answers_received(&self) -> usize {
        self.ledger.answers_received
    }

    /// All connections are closed: nothing may be left.
    fn end(&mut self) {
        for client in 0..self.clients.len() {
            self.close(client);
        }
        self.rest();
        let now = self.now();
        maintain(&mut self.tracker, now);
        let (_, peers) = gauges(&self.tracker);
        assert_eq!(peers, [0, 0], "peers outlive their sockets");
        let active = keys::active(&self.keys, now.seconds);
        assert_eq!(active, 0, "peers outlive their sockets, for their key");
        self.fill_up();
        let now = self.now();
        maintain(&mut self.tracker, now);
        let seconds = self.config.cleaning.torrent_cleaning_interval + 1;
        self.pass_time(u64::from(seconds) * 1_000_000);
        assert_eq!(gauges(&self.tracker), (0, [0, 0]));
    }

    /// There is room for as many peers as there may be: nobody is counted who has gone.
    fn fill_up(&mut self) {
        self.lists.replace(BTreeSet::new());
        let per_client = self.config.protocol.max_torrents_per_connection;
        let mut rest = self.config.limits.connections.tracker.max_peers_per_ip;
        let first = self.clients.len();
        while rest > 0 {
            let address = (
                [192, 0, 2, 1],
                u16::try_from(self.clients.len() + 1).unwrap(),
            );
            self.come_to(0, address.into(), FREE);
            let client = self.clients.len() - 1;
            for number in 0..per_client.min(rest).min(usize::from(TORRENTS)) {
                let number = 0x80 + u8::try_from(number).unwrap();
                let request = AnnounceRequest {
                    info_hash: InfoHash([number; 20]),
                    peer_id: self.peer_id_of(client),
                    bytes_uploaded: None,
                    bytes_downloaded: None,
                    bytes_left: None,
                    event: AnnounceEvent::None,
                    num_want: None,
                    offers: Vec::new(),
                    skipped: None,
                };
                let info_hash = request.info_hash;
                self.clients[client].ask(Sent::Announce, info_hash, &request, &mut self.rng);
                rest -= 1;
            }
        }
        self.rest();
        let mut replies = self.arrived.replies.iter();
        let is_noted = |(_, _, reply): &(_, _, Reply)| matches!(reply, Reply::Counts { .. });
        assert!(replies.all(is_noted), "who has gone is still counted");
        for client in first..self.clients.len() {
            self.close(client);
        }
        self.rest();
    }

    fn now(&self) -> Now {
        Now::from_micros(self.now_micros)
    }

    /// Somebody does something.
    fn act(&mut self) {
        let open: Vec<_> = self.open().collect();
        let is_full = open.len() >= CLIENTS_MAX;
        let client = self.rng.choice(open);
        match (self.rng.u8(..34), client) {
            (0..2, _) if !is_full => self.come(),
            (_, None) => self.come(),
            (2, Some(client)) if self.rng.bool() => self.close(client),
            (2, Some(client)) => self.fall_silent(client),
            (3, Some(_)) if self.is_pressed && self.rng.bool() => {}
            (3, Some(_)) => {
                let micros = match self.pace {
                    Pace::Patient => self.rng.u64(..30_000_000),
                    Pace::Hasty => self.rng.u64(..2_000_000),
                };
                self.pass_time(micros);
            }
            (4, Some(client)) => {
                let junk = [&b"{}"[..], b"[[", b"[1]", b"{\"action\":\"scrape\"}x"];
                let junk = self.rng.choice(junk).unwrap_or_default();
                self.clients[client].send_text(junk, &mut self.rng);
            }
            (5, Some(_)) if self.rng.bool() => self.change_access_list(),
            (5, Some(client)) => self.scrape(client),
            (6..18, Some(client)) => self.announce(client),
            (32, Some(_)) if self.rng.bool() => self.change_certificate(),
            (33, Some(client)) if self.pace == Pace::Hasty => self.crowd(client),
            (_, Some(client)) => self.answer(client),
        }
    }

    /// Those who take part.
    fn open(&self) -> impl Iterator<Item = usize> {
        let clients = self.clients.iter().enumerate();
        let open = clients.filter(|(_, client)| client.is_open && !client.is_mute);
        open.map(|(index, _)| index)
    }

    /// A client is gone, but its connection is not.
    fn fall_silent(&mut self, client: usize) {
        self.clients[client].is_mute = true;
        self.clients[client].wire.clear();
    }

    fn come(&mut self) {
        let worker = self.rng.usize(..self.tracker.hubs.len());
        let number = u16::try_from(self.clients.len() + 1).unwrap();
        let address: SocketAddr = match self.rng.bool() {
            true => ([192, 0, 2, 1], number).into(),
            false => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], number).into(),
        };
        let key = keys::any(&mut self.rng);
        self.come_to(worker, address, key);
    }

    fn come_to(&mut self, worker: usize, address: SocketAddr, key: ClientKey) {
        let id = self
            .tracker
            .accept(worker, self.now(), address)
            .expect("there is no limit");
        let wire = self.wire();
        if self.keys.mode() == KeyMode::Require {
            self.model.keys.0.insert(self.clients.len(), key);
        }
        let client = Client::new(worker, id, address, key.path, wire);
        self.clients.push(client);
    }

    /// A client vanishes.
    fn close(&mut self, client: usize) {
        if self.clients[client].is_open {
            let (worker, id) = (self.clients[client].worker, self.clients[client].id);
            let now = self.now();
            self.tracker.hubs[worker].failed(now, id);
            self.clients[client].is_open = false;
            self.model.leave(client);
        }
    }

    fn torrent(&mut self) -> InfoHash {
        InfoHash([0x80 + self.rng.u8(..TORRENTS); 20])
    }

    /// Mostly its own name, but some names are those of others, as who come back have, or second
    /// names of its own.
    fn peer_id(&mut self, client: usize) -> PeerId {
        let owner = match self.rng.u8(..12) {
            0 => self.rng.usize(..self.clients.len()),
            1 => {
                let mutes = (0..self.clients.len()).filter(|it| self.clients[*it].is_mute);
                self.rng.choice(mutes.collect::<Vec<_>>()).unwrap_or(client)
            }
            2 => SECOND_NAMES + client,
            _ => client,
        };
        let mut peer_id = PeerId(*b"-WW0100-____________");
        peer_id.0[12..].copy_from_slice(&u64::try_from(owner).unwrap().to_be_bytes());
        peer_id
    }

    fn announce(&mut self, client: usize) {
        let info_hash = self.torrent();
        let peer_id = self.peer_id(client);
        self.ledger.announced(client, info_hash, peer_id);
        let count = match self.is_pressed {
            true => self.rng.usize(..6),
            false => self.rng.usize(..14),
        };
        let padding = if self.is_pressed { OFFER_PADDING } else { 0 };
        let made: Vec<_> = (0..count)
            .map(|_| {
                let by = (client, peer_id);
                self.ledger.new_offer(info_hash, by, padding, &mut self.rng)
            })
            .collect();
        let offers = made.iter().map(|(offer_id, offer)| Offer {
            offer_id: *offer_id,
            offer,
        });
        let event = [
            AnnounceEvent::None,
            AnnounceEvent::Started,
            AnnounceEvent::Completed,
            AnnounceEvent::Stopped,
        ];
        let request = AnnounceRequest {
            info_hash,
            peer_id,
            bytes_uploaded: None,
            bytes_downloaded: None,
            bytes_left: [None, Some(0), Some(5)][self.rng.usize(..3)],
            event: event[self.rng.usize(..4)],
            num_want: None,
            offers: offers.collect(),
            skipped: None,
        };
        let (status, event) = (request.status(), request.event);
        self.clients[client].ask(Sent::Announce, info_hash, &request, &mut self.rng);
        if self.pace == Pace::Patient {
            self.expect_announce((client, peer_id), info_hash, status, event, made.len());
        }
    }

    fn expect_announce(
        &mut self,
        by: (usize, PeerId),
        info_hash: InfoHash,
        status: PeerStatus,
        event: AnnounceEvent,
        offers: usize,
    ) {
        self.rest();
        let now = self.now().seconds.0;
        let completed = event == AnnounceEvent::Completed;
        let is_v6 = |client: &Client| client.address.is_ipv6();
        let own = is_v6(&self.clients[by.0]);
        let neighbours = (0..self.clients.len()).filter(|it| is_v6(&self.clients[*it]) == own);
        let neighbours = neighbours.collect();
        let (reply, pool) = self
            .model
            .announce(by, info_hash, status, completed, &neighbours);
        assert_eq!(self.arrived.replies, [(by.0, info_hash, reply)]);
        let wanted = offers.min(self.config.protocol.max_offers).min(pool.len());
        // Nobody sees those that go to the mute.
        let is_mute = |(client, _): &ConnectionRef| self.clients[*client].is_mute;
        let unseen_max = pool.iter().filter(|it| is_mute(it)).count();
        let seen = wanted.saturating_sub(unseen_max)..=wanted;
        assert!(seen.contains(&self.arrived.offers.len()), "{seen:?}");
        let mut came = BTreeMap::<usize, usize>::new();
        for (receiver, offer_id) in &self.arrived.offers {
            let to = pool.iter().filter(|(client, _)| client == receiver);
            let to: BTreeSet<_> = to.copied().collect();
            let count = came.entry(*receiver).or_default();
            *count += 1;
            assert!(*count <= to.len(), "an offer too many for one of its peers");
            let open = &mut self.clients[*receiver].offers;
            let own = open.iter_mut().find(|(_, it, _)| it == offer_id);
            // Any of them may answer.
            let answerer = self.rng.choice(&to).expect("one that may be handed out");
            own.expect("it has arrived").2 = answerer.1;
            self.model.offer(info_hash, by, *offer_id, to, now);
        }
    }

    /// Answers an offer: rightly, or in one of many wrong ways.
    fn answer(&mut self, client: usize) {
        let own = self.rng.usize(..self.clients[client].offers.len().max(1));
        let own = self.clients[client].offers.get(own).copied();
        let (info_hash, offer_id, peer_id) = match (self.rng.u8(..10), own) {
            (0..8, Some(own)) => own,
            _ => {
                let Some((info_hash, offer_id)) = self.ledger.any(&mut self.rng) else {
                    return;
                };
                (info_hash, offer_id, self.peer_id(client))
            }
        };
        // Some answers are sent twice.
        if self.rng.u8(..8) > 0 {
            self.clients[client]
                .offers
                .retain(|(_, it, _)| *it != offer_id);
        }
        let (_, to_peer_id) = self.ledger.maker(&offer_id);
        let now = self.now().seconds.0;
        let by = (client, peer_id);
        let json = self.ledger.new_answer(offer_id, by, now, &mut self.rng);
        let request = AnswerRequest {
            info_hash,
            peer_id,
            to_peer_id,
            offer_id,
            answer: &json,
        };
        self.clients[client].ask(Sent::Answer, info_hash, &request, &mut self.rng);
        if self.pace == Pace::Patient {
            self.rest();
            let refused = |reason| {
                let refusal = (client, info_hash, Reply::Failure(reason));
                self.arrived.replies == [refusal] && self.arrived.answers.is_empty()
            };
            let goes = |to: usize| {
                let is_seen = self.clients[to].is_open && !self.clients[to].is_mute;
                let expected: &[usize] = if is_seen { &[to] } else { &[] };
                self.arrived.answers == expected && self.arrived.replies.is_empty()
            };
            let verdict = self.model.answer(by, info_hash, to_peer_id, offer_id, now);
            let is_right = match verdict {
                Verdict::Goes(to) => goes(to),
                Verdict::MayGo(to) => goes(to) || refused("offer_id names no open offer"),
                Verdict::Refused(reason) => refused(reason),
            };
            assert!(is_right, "{verdict:?}: {:?}", self.arrived);
        }
    }

    fn scrape(&mut self, client: usize) {
        let info_hashes: BTreeSet<_> = (0..self.rng.u8(..3)).map(|_| self.torrent()).collect();
        let request = ScrapeRequest {
            info_hashes: info_hashes.iter().copied().collect(),
        };
        self.clients[client].send(&request, &mut self.rng);
        if self.pace == Pace::Patient {
            self.rest();
            let rows = info_hashes.into_iter().map(|info_hash| {
                let (counts, completed) = self.model.scrape(info_hash);
                (info_hash, counts, completed)
            });
            let rows = (client, rows.collect::<Vec<_>>());
            let is_refused = self.model.keys.refusal(client).is_some();
            let expected = if is_refused { vec![] } else { vec![rows] };
            assert_eq!(self.arrived.scrapes, expected);
        }
    }

    fn pass_time(&mut self, micros: u64) {
        self.rest();
        self.now_micros += micros;
        let now = self.now();
        maintain(&mut self.tracker, now);
        // Who leaves now does so after that: the torrent is forgotten next time.
        let is_cleaned = self.model.clean(now.seconds.0);
        self.close_outdated();
        self.rest();
        maintain(&mut self.tracker, now);
        if self.pace == Pace::Patient {
            let age_max = self.config.cleaning.max_peer_age;
            for (index, client) in self.clients.iter().enumerate() {
                if client.is_open && now.seconds.0 >= client.heard + age_max {
                    assert!(client.is_mute, "client {index} answers pings");
                    self.model.leave(index);
                }
            }
            if is_cleaned {
                self.model.leave_forbidden();
            }
            let mut peers = [0, 0];
            for (client, _) in self.model.peers() {
                peers[usize::from(self.clients[client].address.is_ipv6())] += 1;
            }
            let (torrents, peers_told) = gauges(&self.tracker);
            assert_eq!(peers_told, peers);
            let active = keys::active(&self.keys, now.seconds);
            assert_eq!(active, self.model.active(), "peers of a key");
            let torrents_with_peers = u64::try_from(self.model.torrents().len()).unwrap();
            assert!(torrents >= torrents_with_peers);
            self.restart();
        }
    }

    /// Lets everything come to rest. Forgets what had arrived before.
    fn rest(&mut self) {
        self.arrived = Arrived::default();
        // What had to wait until its client has read is taken up in the next round.
        let mut rounds_at_rest = 0;
        while rounds_at_rest < 2 {
            let clients: Vec<_> = self.open().collect();
            for client in clients {
                self.deliver(client, usize::MAX);
            }
            for worker in 0..self.tracker.hubs.len() {
                self.work(worker, false);
            }
            let now = self.now();
            answer_all(&mut self.tracker, now);
            let is_sent = self.open().all(|it| !self.clients[it].wire.has_unsent());
            match is_sent && !self.tracker.has_pending() {
                true => rounds_at_rest += 1,
                false => rounds_at_rest = 0,
            }
        }
    }

    /// Lets a little happen.
    fn stir(&mut self) {
        self.now_micros += self.rng.u64(..50_000);
        for _ in 0..self.rng.u8(..4) {
            match self.rng.u8(..4) {
                0 => {
                    let now = self.now();
                    answer_all(&mut self.tracker, now);
                }
                1 => {
                    let worker = self.rng.usize(..self.tracker.hubs.len());
                    self.work(worker, true);
                }
                _ => {
                    let open: Vec<_> = self.open().collect();
                    if let Some(client) = self.rng.choice(open) {
                        let bytes_max = self.rng.usize(1..4_000);
                        self.deliver(client, bytes_max);
                    }
                }
            }
        }
        self.arrived = Arrived::default();
    }

    /// Bytes of a client reach the tracker.
    fn deliver(&mut self, client: usize, bytes_max: usize) {
        let (now, list, certificate) = (self.now(), self.lists.version(), self.certificate());
        let it = &mut self.clients[client];
        let hub = &mut self.tracker.hubs[it.worker];
        if hub.wants_input(it.id) && it.wire.has_next() {
            let mut bytes = it.take(bytes_max.min(16_384), list, certificate);
            it.heard = now.seconds.0;
            hub.receive(now, it.id, &mut bytes);
        }
    }

    /// A worker finishes a round, and its connections are written to.
    fn work(&mut self, worker: usize, reads_slowly: bool) {
        let now = self.now();
        self.tracker.hubs[worker].finish(now);
        self.tracker.check_account();
        let mut output = BTreeMap::<usize, Vec<u8>>::new();
        while let Some(id) = self.tracker.hubs[worker].next_queued() {
            let is_it = |it: &Client| it.worker == worker && it.id == id;
            let client = self.clients.iter().rposition(is_it).expect("a client");
            let is_lazy = self.clients[client].is_lazy;
            let bytes_max = match reads_slowly && (is_lazy || self.rng.u8(..4) == 0) {
                true => self.rng.usize(..if is_lazy { 100 } else { 2_000 }),
                false => usize::MAX,
            };
            let (bytes, settled) = self.tracker.look_after(worker, now, id, bytes_max);
            output.entry(client).or_default().extend(bytes);
            self.settle(client, settled);
        }
        // Those who read slowly read on later, and the lazy ones much later.
        for client in self.open().collect::<Vec<_>>() {
            let it = &self.clients[client];
            if it.worker == worker && !self.tracker.hubs[worker].output(it.id).is_empty() {
                let (id, is_lazy) = (it.id, it.is_lazy && reads_slowly);
                self.tally.note("clients that read in part");
                let bytes_max = if is_lazy { 100 } else { usize::MAX };
                let (bytes, settled) = self.tracker.look_after(worker, now, id, bytes_max);
                output.entry(client).or_default().extend(bytes);
                self.settle(client, settled);
            }
        }
        for (client, bytes) in output {
            if self.clients[client].is_open && !self.clients[client].is_mute {
                self.read(client, &bytes);
            }
        }
    }
}
