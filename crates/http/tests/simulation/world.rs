//! What happens when: connections, requests, turns of workers, and the passing of time.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use aquatic_access_list::{AccessListMode, SharedAccessList};
use aquatic_daemon::clock::Now;
use aquatic_http::config::Config;
use aquatic_stream::{ConnectionId, Settled};
use aquatic_types::InfoHash;
use fastrand::Rng;

use super::link::Link;
use super::model::Model;
use super::requests::{Meaning, Place, Request, TORRENTS, address, torrent};
use super::tracker::{Counts, Tracker, arranged, counts};

const PHASES: usize = 6;
const STEPS: usize = 500;
const LINKS_MAX: usize = 40;

/// Their scrapes, if they are of 100 torrents, have more rows than all batches have room for.
const OVERLOAD_LINKS: usize = 150;

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
    access_list: SharedAccessList,
    allowed: Allowed,
    pub(crate) links: BTreeMap<usize, Link>,
    links_made: usize,
    /// Who asks about a torrent, and how many of those requests are open.
    leases: BTreeMap<InfoHash, (usize, usize)>,
    /// Announces of clients that vanished: they count, but nobody sees the answers.
    ghosts: Vec<Request>,
    /// Nothing else is asked: even what is said about all torrents at once is known.
    pub(crate) is_at_rest: bool,
    /// Connections whose client has not read everything.
    unread: Vec<(usize, ConnectionId)>,
    /// What must have been counted so far.
    pub(crate) expected: Counts,
}

impl World {
    pub(crate) fn new(config: Config, mut rng: Rng) -> Self {
        let allowed = Allowed {
            mode: config.access_list.mode,
            listed: some_torrents(&mut rng),
        };
        let list = allowed.listed.iter().copied().collect();
        let access_list = SharedAccessList::new(allowed.mode, list);
        Self {
            micros: 0,
            model: Model::new(&config),
            tracker: arranged(&config, &access_list, rng.u64(..)),
            access_list,
            allowed,
            links: BTreeMap::new(),
            links_made: 0,
            leases: BTreeMap::new(),
            ghosts: Vec::new(),
            is_at_rest: false,
            unread: Vec::new(),
            expected: Counts::new(),
            rng,
            config,
        }
    }

    /// Whether the access list allows a torrent.
    pub(crate) fn allows(&self, torrent: &InfoHash) -> bool {
        self.allowed.allows(torrent)
    }

    pub(crate) fn now(&self) -> Now {
        Now::from_micros(self.micros)
    }

    /// A whole life of a tracker.
    pub(crate) fn run(&mut self) {
        for _ in 0..PHASES {
            for _ in 0..STEPS {
                self.step();
            }
            self.come_to_rest();
            self.check_at_rest();
            self.scrape_at_rest();
            if self.rng.bool() {
                self.allowed.listed = some_torrents(&mut self.rng);
                self.access_list
                    .replace(self.allowed.listed.iter().copied().collect());
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
                let worker = self.rng.usize(..self.config.layout().workers());
                self.tracker.background(worker, self.now());
            }
            93..95 => self.with_link(Self::end_input),
            95 => self.with_link(Self::vanish),
            96..98 => self.micros += self.rng.u64(..500),
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

    fn open(&mut self, worker: usize) {
        let peer = (address(&mut self.rng), self.rng.u16(1..)).into();
        let now = self.now();
        let id = self
            .tracker
            .accept(worker, now, peer)
            .expect("there is no limit");
        let link = Link::new(worker, id, peer, now.seconds.0);
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

    fn send_some(&mut self, key: usize, make: impl FnOnce(&Place<'_>, &mut Rng) -> Request) {
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
            can_be_overloaded: self.config.layout().workers() > 1,
            is_allowed: &|torrent| self.allowed.allows(torrent),
            torrents: (0..TORRENTS).map(torrent).filter(is_free).collect(),
        };
        let request = make(&place, &mut rng);
        for torrent in request.torrents() {
            self.leases.entry(torrent).or_insert((key, 0)).1 += 1;
        }
        self.links.get_mut(&key).unwrap().send(request);
    }

    fn deliver(&mut self, key: usize) {
        let size = [1, 7, 100, 1_000, 16_384][self.rng.usize(..5)];
        let now = self.now();
        let link = self.links.get_mut(&key).unwrap();
        let hub = &mut self.tracker.hubs[link.worker];
        if !link.has_ended && link.has_unsent() && hub.wants_input(link.id) {
            link.active_at = now.seconds.0;
            let mut bytes = link.chunk(size);
            hub.receive(now, link.id, &mut bytes);
        }
    }

    /// The client closes its sending half, if it has sent everything.
    fn end_input(&mut self, key: usize) {
        let now = self.now();
        let link = self.links.get_mut(&key).unwrap();
        let is_done = link.is_closed || (link.is_finished && !link.has_unsent());
        if is_done && !link.has_ended {
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
        let now = self.now();
        let link = self.links.get_mut(&key).unwrap();
        link.is_finished = true;
        let hub = &mut self.tracker.hubs[link.worker];
        while !link.has_ended && link.has_unsent() && hub.wants_input(link.id) {
            link.active_at = now.seconds.0;
            hub.receive(now, link.id, &mut link.chunk(16_384));
        }
        let worker = link.worker;
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
        if let Some(asked) = delivered.next() {
            reads_on = !asked.is_last;
            self.expect_gone(family, &asked);
            self.haunt(asked);
        }
        // Of what waits behind it, only those that leave swarms are still listened to.
        for request in delivered.take_while(|it| mem::replace(&mut reads_on, !it.is_last)) {
            if request.is_stop() {
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
        while let Some(id) = self.tracker.hubs[worker].next_dirty() {
            self.look_after(worker, id, may_be_slow);
        }
    }

    fn look_after(&mut self, worker: usize, id: ConnectionId, may_be_slow: bool) {
        let is_slow = may_be_slow && self.rng.u8(..6) == 0;
        let bytes_max = if is_slow {
            self.rng.usize(..300)
        } else {
            usize::MAX
        };
        let now = self.now();
        let (bytes, settled) = self.tracker.look_after(worker, now, id, bytes_max);
        let is_it = |link: &Link| link.worker == worker && link.id == id;
        let Some((key, link)) = self.links.iter_mut().find(|(_, link)| is_it(link)) else {
            assert!(bytes.is_empty(), "sent to nobody");
            return;
        };
        let key = *key;
        let answers = link.receive(&bytes);
        if !answers.is_empty() {
            link.active_at = now.seconds.0;
            link.has_asked = true;
        }
        match settled {
            Settled::Read | Settled::DoNotRead => {
                if is_slow {
                    self.unread.push((worker, id));
                }
            }
            Settled::CloseSendingHalf => link.is_closed = true,
            Settled::Close | Settled::Reset | Settled::ReadRest => link.is_closed = true,
        }
        for answer in answers {
            self.release(&answer.request);
            self.check_answer(&answer);
        }
        if matches!(settled, Settled::Close | Settled::Reset) {
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
        for _ in 0..OVERLOAD_LINKS {
            self.open(worker);
        }
        for key in self.links.keys().copied().collect::<Vec<_>>() {
            if self
                .links
                .get(&key)
                .is_some_and(|link| link.worker == worker)
            {
                self.send_some(key, |place, rng| place.scrape_of_unknown(rng));
                self.send(key);
                for _ in 0..4 {
                    if self.links.get(&key).is_some_and(Link::has_unsent) {
                        self.deliver(key);
                    }
                }
                self.finish(worker, false);
            }
        }
    }

    /// Until everything has been sent, answered and read.
    fn come_to_rest(&mut self) {
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
                link.has_unsent() || !link.is_at_rest() || link.is_closed || link.is_finished
            };
            if !has_more && !self.tracker.has_mail() && !self.links.values().any(is_waiting) {
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
        for worker in 0..self.config.layout().workers() {
            has_more |= self.tracker.background(worker, now);
        }
        has_more
    }

    /// Hours pass, and all workers look at their clocks; and once more, for what is reported later.
    fn pass_time(&mut self, seconds: u64) {
        for seconds in [seconds, 1] {
            self.micros = (self.micros / 1_000_000 + seconds) * 1_000_000;
            while self.do_background() {}
            let now = self.now().seconds.0;
            self.model
                .clean(now, |torrent| self.allowed.allows(torrent));
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

/// The access list.
struct Allowed {
    mode: AccessListMode,
    listed: BTreeSet<InfoHash>,
}

impl Allowed {
    fn allows(&self, torrent: &InfoHash) -> bool {
        match self.mode {
            AccessListMode::Off => true,
            AccessListMode::Allow => self.listed.contains(torrent),
            AccessListMode::Deny => !self.listed.contains(torrent),
        }
    }
}

fn some_torrents(rng: &mut Rng) -> BTreeSet<InfoHash> {
    let all = (0..TORRENTS).map(torrent);
    all.filter(|_| rng.bool()).collect()
}
