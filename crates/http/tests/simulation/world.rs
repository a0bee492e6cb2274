//! What happens when: connections, requests, turns of workers, and the passing of time.

use std::collections::BTreeMap;
use std::mem;

use aquatic_daemon::clock::Now;
use aquatic_http::config::Config;
use aquatic_keys::{KeyMode, SharedKeys};
use aquatic_stream::{ConnectionKey, IoAction, TlsConfig};
use aquatic_swarm_log::Contents;
use aquatic_test_support::certificates::Certificates;
use aquatic_test_support::lists::Lists;
use aquatic_test_support::tally::Tally;
use aquatic_types::InfoHash;
use fastrand::Rng;

use super::changes::some_torrents;
use super::keys::{self, Few};
use super::link::Link;
use super::model::Model;
use super::requests::{Meaning, Place, Request, TORRENTS, address, torrent};
use super::restarts::{BegunSnapshot, persistence};
use super::tracker::{Counts, Tracker, arranged, counts};

const PHASES: usize = 6;
const STEPS: usize = 500;
const LINKS_MAX: usize = 40;

/// Their scrapes, if they are of 200 torrents, have more rows than all batches have room for.
const OVERLOAD_LINKS: usize = 150;

/// Rounds in which most of them get through their handshakes.
const HANDSHAKE_ROUNDS: usize = 8;

/// Requests that a client sends before it waits for answers: more than a batch takes up.
const PIPELINED_MAX: usize = 20;

/// Rounds after which a tracker without new requests must be at rest.
const ROUNDS_MAX: usize = 20_000;

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) micros: u64,
    pub(crate) config: Config,
    pub(crate) tracker: Tracker,
    pub(crate) model: Model,
    pub(crate) lists: Lists,
    pub(crate) keys: SharedKeys,
    pub(crate) few: Few,
    /// Connections are encrypted, if there are some.
    pub(crate) certificates: Option<Certificates<TlsConfig>>,
    pub(crate) tally: Tally,
    pub(crate) links: BTreeMap<usize, Link>,
    pub(crate) links_made: usize,
    /// Who asks about a torrent, and how many of those requests are open.
    leases: BTreeMap<InfoHash, (usize, usize)>,
    /// Announces of clients that vanished: they count, but nobody sees the answers.
    pub(crate) ghosts: Vec<Request>,
    /// Queues may be full.
    pub(crate) is_overloaded: bool,
    /// Nothing else is asked: even what is said about all torrents at once is known.
    pub(crate) is_at_rest: bool,
    /// Connections whose client has not read everything.
    unread: Vec<(usize, ConnectionKey)>,
    /// What must have been counted so far.
    pub(crate) expected: Counts,
    /// What snapshots hold.
    pub(crate) contents: Contents,
    /// The one that is being written.
    pub(crate) snapshot: Option<BegunSnapshot>,
}

impl World {
    pub(crate) fn new(config: Config, mut rng: Rng) -> Self {
        let lists = Lists::new(config.access_list.mode, some_torrents(&mut rng));
        let certificates = (rng.u8(..4) == 0)
            .then(|| Certificates::new(|certificate, key| TlsConfig::load(certificate, key, &[])));
        let tls = certificates.as_ref().map(|it| &it.tls);
        let contents = [Contents::Swarms, Contents::Completed][usize::from(rng.u8(..6) == 0)];
        let keys = keys::shared([KeyMode::Off, KeyMode::Require][rng.usize(..2)]);
        Self {
            micros: 0,
            model: Model::new(&config),
            tracker: arranged(
                &config,
                lists.shared(),
                &keys,
                tls,
                persistence(contents),
                rng.u64(..),
            ),
            lists,
            keys,
            few: Few::default(),
            certificates,
            tally: Tally::default(),
            links: BTreeMap::new(),
            links_made: 0,
            leases: BTreeMap::new(),
            ghosts: Vec::new(),
            is_overloaded: false,
            is_at_rest: false,
            unread: Vec::new(),
            expected: Counts::new(),
            contents,
            snapshot: None,
            rng,
            config,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now::from_micros(self.micros)
    }

    /// A whole life of a tracker.
    pub(crate) fn run(&mut self) {
        for _ in 0..PHASES {
            for _ in 0..STEPS {
                self.step();
                self.snapshot_step();
            }
            self.come_to_rest();
            self.is_overloaded = false;
            self.check_at_rest();
            self.scrape_at_rest();
            self.announce_under_few();
            if self.rng.bool() {
                self.replace_list();
            }
            let seconds = [1, 3, 31, 40, 200, 2_000][self.rng.usize(..6)];
            self.pass_time(seconds);
        }
        self.pass_time(u64::from(self.config.cleaning.max_peer_age) + 31);
        self.check_forgotten();
    }

    /// Anything, in any order.
    fn step(&mut self) {
        let worker = self.rng.usize(..self.tracker.hubs.len());
        match self.rng.u8(..100) {
            0..8 if self.links.len() < LINKS_MAX => self.open(worker),
            0..40 => self.send_request(),
            40..65 => self.with_link(Self::deliver),
            65..82 => self.finish(worker, true),
            82..90 => self.answer_split(),
            90..93 => {
                let worker = self.rng.usize(..self.config.topology().workers());
                self.tracker.maintain(worker, self.now());
            }
            93..95 => self.with_link(Self::end_input),
            95 => self.with_link(Self::vanish),
            96 => self.micros += self.rng.u64(..500),
            97 => match self.rng.u8(..4) {
                0 => self.replace_list(),
                1 => self.change_certificate(),
                _ => {}
            },
            98 => {
                self.with_link(|world, key| world.links.get_mut(&key).unwrap().is_finished = true)
            }
            99 if self.rng.u8(..16) == 0 => self.overload(worker),
            99 if self.rng.u8(..4) == 0 => self.with_link(Self::hurry),
            _ => {}
        }
    }

    fn with_link(&mut self, act: impl FnOnce(&mut Self, usize)) {
        let keys: Vec<_> = self.links.keys().copied().collect();
        if let Some(key) = self.rng.choice(keys) {
            act(self, key);
        }
    }

    pub(crate) fn open(&mut self, worker: usize) {
        let peer = (address(&mut self.rng), self.rng.u16(1..)).into();
        let now = self.now();
        let id = self
            .tracker
            .accept(worker, now, peer)
            .expect("there is no limit");
        let wire = self.wire();
        let link = Link::new(worker, id, peer, wire, now.seconds.0);
        self.links.insert(self.links_made, link);
        self.links_made += 1;
    }

    fn send_request(&mut self) {
        self.with_link(|world, key| world.send(key));
    }

    /// Anything.
    fn send(&mut self, key: usize) {
        self.send_some(key, |place, rng| {
            if rng.u8(..60) == 0 {
                place.cut_off(rng)
            } else {
                place.request(rng)
            }
        });
    }

    pub(crate) fn send_some(&mut self, key: usize, make: impl FnOnce(&Place, &mut Rng) -> Request) {
        let link = &self.links[&key];
        if link.is_finished || link.is_closed || link.open() >= PIPELINED_MAX {
            return;
        }
        let mut rng = self.rng.fork();
        let is_free = |torrent: &InfoHash| {
            let lease = self.leases.get(torrent);
            lease.is_none_or(|(holder, _)| *holder == key)
        };
        let place = Place {
            peer: link.peer.ip(),
            keeps_alive: self.config.network.keep_alive,
            is_proxied: self.config.network.stream.runs_behind_reverse_proxy,
            scrape_torrents_max: self.config.protocol.max_scrape_torrents,
            serves_full_scrapes: self.config.protocol.max_full_scrape_torrents > 0,
            needs_keys: self.keys.mode() == KeyMode::Require,
            can_be_overloaded: self.config.topology().workers() > 1,
            torrents: (0..TORRENTS).map(torrent).filter(is_free).collect(),
        };
        let request = make(&place, &mut rng);
        for torrent in request.torrents() {
            self.leases.entry(torrent).or_insert((key, 0)).1 += 1;
        }
        self.note_request(&request);
        self.links.get_mut(&key).unwrap().send(request);
    }

    fn deliver(&mut self, key: usize) {
        let size = [1, 7, 100, 1_000, 16_384][self.rng.usize(..5)];
        self.deliver_some(key, size);
    }

    /// The next bytes of a client reach the tracker, if it reads them. Returns whether it does.
    fn deliver_some(&mut self, key: usize, bytes_max: usize) -> bool {
        let (now, list, certificate) = (self.now(), self.lists.version(), self.certificate());
        let link = self.links.get_mut(&key).unwrap();
        let hub = &mut self.tracker.hubs[link.worker];
        let is_read = !link.has_ended && link.wire.has_next() && hub.wants_input(link.id);
        if is_read {
            link.active_at = now.seconds.0;
            hub.receive(now, link.id, &mut link.take(bytes_max, list, certificate));
        }
        is_read
    }

    /// The client closes its sending half, if it has sent everything.
    fn end_input(&mut self, key: usize) {
        let now = self.now();
        let link = self.links.get_mut(&key).unwrap();
        let is_done = link.is_closed || (link.is_finished && !link.wire.has_unsent());
        if !is_done || link.has_ended {
            return;
        }
        // Some say so themselves, before the kernel does.
        let says_so = link.wire.is_encrypted() && !link.is_closed && self.rng.bool();
        if says_so {
            link.wire.end();
        }
        if !says_so || self.deliver_some(key, usize::MAX) {
            let link = self.links.get_mut(&key).unwrap();
            link.has_ended = true;
            self.tracker.hubs[link.worker].read_ended(now, link.id);
        }
    }

    /// The client sends all its requests at once, and closes its sending half right behind them or
    /// while the tracker is about them.
    fn hurry(&mut self, key: usize) {
        for _ in 0..PIPELINED_MAX {
            self.send(key);
        }
        let link = self.links.get_mut(&key).unwrap();
        link.is_finished = true;
        let worker = link.worker;
        while self.deliver_some(key, 16_384) {}
        if self.rng.bool() {
            self.finish(worker, true);
        }
        if self.links.contains_key(&key) {
            self.end_input(key);
        }
    }

    /// The client resets its connection, perhaps with requests on their way.
    fn vanish(&mut self, key: usize) {
        let now = self.now();
        let worker = self.links[&key].worker;
        // No queue is full then, and the first request that is open has been looked at.
        for _ in 0..4 {
            self.finish(worker, false);
            for swarm_worker in 0..self.tracker.swarm_workers.len() {
                self.tracker.answer(swarm_worker, now);
            }
        }
        self.finish(worker, false);
        let Some(link) = self.links.remove(&key) else {
            return;
        };
        self.tracker.hubs[worker].failed(now, link.id);
        let family = aquatic_types::CanonicalAddr::new(link.peer).family();
        let delivered = link.delivered_open();
        for request in link.into_open() {
            self.release(&request);
        }
        let mut delivered = delivered.into_iter();
        let mut reads_on = false;
        if let Some((asked, since)) = delivered.next() {
            self.tally
                .note("clients that vanished with a request on its way");
            if let Meaning::Announce(announce, _) = &asked.meaning {
                self.lists.check(since, &announce.torrent, true);
            }
            reads_on = !asked.is_last;
            self.expect_gone(family, &asked);
            self.haunt(asked);
        }
        // Of what waits behind it, only those that leave swarms are still listened to.
        for (request, _) in delivered.take_while(|(it, _)| mem::replace(&mut reads_on, !it.is_last))
        {
            if request.is_stop() {
                let request = self.denied_if_so(request);
                self.expect_absent(&request);
                self.haunt(request);
            }
        }
        self.finish(worker, false);
    }

    /// A request of somebody who has gone is carried out, if it is an announce. Nobody else asks
    /// about its torrent until the end of the phase.
    fn haunt(&mut self, request: Request) {
        if let Meaning::Announce(announce, _) = &request.meaning {
            self.leases.insert(announce.torrent, (usize::MAX, 1));
            self.ghosts.push(request);
        }
    }

    /// A request is not open any more.
    pub(crate) fn release(&mut self, request: &Request) {
        for torrent in request.torrents() {
            let lease = self.leases.get_mut(&torrent).expect("an open request");
            lease.1 -= 1;
            if lease.1 == 0 {
                self.leases.remove(&torrent);
            }
        }
    }

    /// Ends a batch of a socket worker, and lets its clients read.
    fn finish(&mut self, worker: usize, may_be_slow: bool) {
        let now = self.now();
        self.tracker.hubs[worker].finish(now);
        self.tracker.check_account();
        for (worker, id) in mem::take(&mut self.unread) {
            self.look_after(worker, id, may_be_slow);
        }
        while let Some(id) = self.tracker.hubs[worker].next_queued() {
            self.look_after(worker, id, may_be_slow);
        }
    }

    fn look_after(&mut self, worker: usize, id: ConnectionKey, may_be_slow: bool) {
        let is_slow = may_be_slow && self.rng.u8(..6) == 0;
        let bytes_max = if is_slow {
            self.rng.usize(..300)
        } else {
            usize::MAX
        };
        let now = self.now();
        let (bytes, settled) = self.tracker.look_after(worker, now, id, bytes_max);
        let is_it = |link: &Link| link.worker == worker && link.id == id;
        let Some((key, _)) = self.links.iter().find(|(_, link)| is_it(link)) else {
            assert!(bytes.is_empty(), "sent to nobody");
            return;
        };
        let key = *key;
        let has_more = !self.tracker.hubs[worker].output(id).is_empty();
        self.tally.note_if("clients that read in part", has_more);
        let answers = self.read(key, &bytes);
        let link = self.links.get_mut(&key).unwrap();
        if !answers.is_empty() {
            link.active_at = now.seconds.0;
            link.has_asked = true;
        }
        match settled {
            IoAction::Read | IoAction::DoNotRead => {
                if is_slow {
                    self.unread.push((worker, id));
                }
            }
            IoAction::CloseSendingHalf => link.is_closed = true,
            IoAction::Close | IoAction::Reset => link.is_closed = true,
        }
        for answer in answers {
            self.release(&answer.request);
            let answer = self.judge(answer);
            self.check_answer(&answer);
        }
        if matches!(settled, IoAction::Close | IoAction::Reset) {
            let link = self.links.remove(&key).unwrap();
            self.check_closed(&link);
        }
    }

    fn answer_split(&mut self) {
        if !self.tracker.swarm_workers.is_empty() {
            let worker = self.rng.usize(..self.tracker.swarm_workers.len());
            self.tracker.answer(worker, self.now());
        }
    }

    /// A worker is asked for more than its batches have room for, while nobody answers.
    fn overload(&mut self, worker: usize) {
        self.is_overloaded = true;
        for _ in 0..OVERLOAD_LINKS {
            self.open(worker);
        }
        if self.certificates.is_some() {
            for _ in 0..HANDSHAKE_ROUNDS {
                for key in self.links_of(worker) {
                    self.deliver(key);
                }
                self.finish(worker, false);
            }
        }
        for key in self.links_of(worker) {
            if !self.links.contains_key(&key) {
                continue;
            }
            self.send_some(key, |place, rng| place.scrape_of_unknown(rng));
            self.send(key);
            while self.deliver_some(key, 16_384) {}
            self.finish(worker, false);
        }
        let has_waiting = self.tracker.hubs[worker].handler().has_waiting();
        let what = "queues so full that requests waited";
        self.tally.note_if(what, has_waiting);
    }

    fn links_of(&self, worker: usize) -> Vec<usize> {
        let links = self.links.iter();
        let of_worker = links.filter(|(_, link)| link.worker == worker);
        of_worker.map(|(key, _)| *key).collect()
    }

    /// Until everything has been sent, answered and read.
    pub(crate) fn come_to_rest(&mut self) {
        for _ in 0..ROUNDS_MAX {
            for key in self.links.keys().copied().collect::<Vec<_>>() {
                self.deliver(key);
                self.end_input(key);
            }
            for worker in 0..self.tracker.hubs.len() {
                self.finish(worker, false);
            }
            for worker in 0..self.tracker.swarm_workers.len() {
                self.tracker.answer(worker, self.now());
            }
            let has_more = self.do_background();
            let is_waiting = |link: &Link| {
                link.wire.has_unsent() || !link.is_at_rest() || link.is_closed || link.is_finished
            };
            if !has_more && !self.tracker.has_pending() && !self.links.values().any(is_waiting) {
                for ghost in mem::take(&mut self.ghosts) {
                    self.apply_ghost(&ghost);
                }
                self.leases.clear();
                return;
            }
        }
        panic!("requests without answers, or connections that stay open");
    }

    /// A full scrape, while nothing else is asked.
    fn scrape_at_rest(&mut self) {
        if self.config.protocol.max_full_scrape_torrents == 0 {
            return;
        }
        let worker = self.rng.usize(..self.tracker.hubs.len());
        self.open(worker);
        let link = self.links.get_mut(&(self.links_made - 1)).unwrap();
        let request = Request::full_scrape(link.peer.ip(), self.config.network.keep_alive);
        link.send(request);
        self.is_at_rest = true;
        self.come_to_rest();
        self.is_at_rest = false;
    }

    fn do_background(&mut self) -> bool {
        let now = self.now();
        let mut has_more = false;
        for worker in 0..self.config.topology().workers() {
            has_more |= self.tracker.maintain(worker, now);
        }
        has_more
    }

    /// Hours pass, and all workers look at their clocks; and once more, for what is reported later.
    fn pass_time(&mut self, seconds: u64) {
        for seconds in [seconds, 1] {
            self.micros = (self.micros / 1_000_000 + seconds) * 1_000_000;
            while self.do_background() {}
            let now = self.now().seconds.0;
            self.note_cleaning(|world| {
                let lists = &world.lists;
                world.model.clean(now, |torrent| lists.allows(torrent));
            });
            for worker in 0..self.tracker.hubs.len() {
                self.finish(worker, false);
            }
        }
        self.come_to_rest();
        self.check_after_time();
    }

    /// Why requests were refused, or answers not delivered, so far.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = &'static str> {
        let counts = counts(&self.tracker);
        counts
            .into_keys()
            .filter(|(_, metric, _)| *metric == "reason")
            .map(|(_, _, label)| label)
    }
}
