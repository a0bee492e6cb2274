//! The tracker and everything around it: what is delivered, what must come of it, what did.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use aquatic_access_list::SharedAccessList;
use aquatic_swarm_log::{Contents, SystemTime};
use aquatic_types::{InfoHash, IpFamily};
use aquatic_udp::Now;
use aquatic_udp::config::Config;
use aquatic_udp::connection_id::GRACE_SECONDS;
use aquatic_udp::counters::{Label as _, Reason, RequestKind, ResponseKind};
use aquatic_udp::messages::BATCHES_MAX;
use aquatic_udp_protocol::{ConnectionId, ErrorResponse, Response, TransactionId};
use aquatic_udp_socket::ReturnPath;
use fastrand::Rng;

use super::clients::{Clients, Datagram, Meaning, some_torrents};
use super::coverage::Coverage;
use super::keys::{Keys, NO_SCRAPES};
use super::limits::{Allowed, Rates};
use super::model::{Announce, Model, OpenAnnounce, OpenScrape};
use super::restarts::persistence;
use super::states::Torrent;
use super::tracker::{Counts, Packet, SOCKETS, Sending, Tracker, add};

/// What a client is told whose connection id is no good.
const CONNECT_AGAIN: &str = "connection id expired";

pub(crate) struct World {
    pub(crate) rng: Rng,
    micros: u64,
    pub(crate) config: Config,
    pub(crate) tracker: Tracker,
    pub(crate) model: Model,
    access_list: SharedAccessList,
    keys: Keys,
    pub(crate) allowed: Allowed,
    pub(crate) clients: Clients,
    /// Who has been given which connection id, and when.
    issued: HashMap<(IpAddr, ConnectionId), u32>,
    rates: Rates,
    /// Requests without an answer so far, by socket worker.
    open: Vec<BTreeMap<TransactionId, Vec<Open>>>,
    /// Scrapes that were dropped after they had been delivered, by socket worker.
    given_up: Vec<u64>,
    /// What must have been counted so far.
    pub(crate) expected: Counts,
    /// What may have been counted besides.
    pub(crate) possible: Counts,
    pub(crate) coverage: Coverage,
    /// Nothing else is going on.
    pub(crate) is_calm: bool,
    /// What snapshots hold.
    pub(crate) contents: Contents,
    /// What the system's clocks said when the last one was begun.
    pub(crate) snapshot_began: SystemTime,
}

/// A request that must be answered, once, in this way.
pub(crate) struct Open {
    pub(crate) family: IpFamily,
    socket: usize,
    path: ReturnPath,
    pub(crate) request: OpenRequest,
}

pub(crate) enum OpenRequest {
    Announce(OpenAnnounce),
    Scrape(OpenScrape),
}

impl Open {
    /// Messages between workers that it can take.
    fn parts(&self) -> usize {
        match &self.request {
            OpenRequest::Announce(_) => 1,
            OpenRequest::Scrape(scrape) => scrape.rows(),
        }
    }
}

/// What must become of a datagram.
enum Verdict {
    Drop(Reason),
    Refuse(Reason, &'static str),
    Connect,
    Announce(Announce),
    /// `None` stands for a torrent that is not allowed.
    Scrape(Vec<Option<Torrent>>),
}

impl World {
    pub(crate) fn new(config: Config, mut rng: Rng) -> Self {
        let mode = config.access_list.mode;
        let allowed = Allowed {
            mode,
            listed: some_torrents(&mut rng),
        };
        let list = allowed.listed.iter().copied().collect();
        let access_list = SharedAccessList::new(mode, list);
        let contents = [Contents::Swarms, Contents::Completed][usize::from(rng.u8(..6) == 0)];
        let persistence = persistence(contents);
        let keys = Keys::new(config.cleaning.max_peer_age, &mut rng);
        let (list, seed) = (access_list.clone(), rng.u64(..));
        let tracker = Tracker::new(&config, list, &keys.shared, persistence, seed);
        Self {
            micros: 0,
            model: Model::new(config.clone(), tracker.workers.shard_key),
            access_list,
            keys,
            allowed,
            clients: Clients::new(&config),
            issued: HashMap::new(),
            rates: Rates::default(),
            open: (0..tracker.socket_workers())
                .map(|_| BTreeMap::new())
                .collect(),
            given_up: vec![0; tracker.socket_workers()],
            expected: Counts::new(),
            possible: Counts::new(),
            coverage: Coverage::default(),
            is_calm: true,
            contents,
            snapshot_began: SystemTime::default(),
            rng,
            config,
            tracker,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now::from_micros(self.micros)
    }

    pub(crate) fn advance(&mut self, micros: u64) {
        self.micros += micros;
    }

    /// Another access list is in force from now on. Those who have been let in before are served.
    pub(crate) fn replace_access_list(&mut self) {
        let before = self.allowed.clone();
        self.allowed.listed = some_torrents(&mut self.rng);
        let (tally, open) = (&mut self.coverage.tally, self.open.iter());
        let open: Vec<_> = open.flat_map(BTreeMap::values).flatten().collect();
        let is_amidst = !open.is_empty();
        tally.note_if("reloads of the list with requests on their way", is_amidst);
        let is_late = |open: &&&Open| match &open.request {
            OpenRequest::Announce(open) => {
                let (_, name) = &open.announce.torrent;
                before.allows(name) && !self.allowed.allows(name)
            }
            OpenRequest::Scrape(_) => false,
        };
        let late = open.iter().filter(is_late).count() as u64;
        tally.add("announces let in just before a reload", late);
        self.access_list
            .replace(self.allowed.listed.iter().copied().collect());
    }

    /// What must become of a datagram that is delivered now.
    fn verdict(&mut self, datagram: &Datagram) -> Verdict {
        let from = datagram.from();
        if matches!(datagram.meaning, Meaning::TooLong) {
            return Verdict::Drop(Reason::TooLong);
        }
        if from.get().port() == 0 {
            return Verdict::Drop(Reason::SourcePortZero);
        }
        let rate = self.config.limits.tracker.requests_per_second_per_ip;
        if !self.rates.allow(rate, self.micros, from.ip()) {
            return Verdict::Drop(Reason::RequestRate);
        }
        let family = from.family();
        let now = self.now().seconds.0;
        let refusal = Verdict::Refuse(Reason::ConnectionId, CONNECT_AGAIN);
        let of_key = |(reason, told)| Verdict::Refuse(reason, told);
        match &datagram.meaning {
            Meaning::Connect => {
                self.expect(family, "requests", RequestKind::Connect.label(), 1);
                Verdict::Connect
            }
            Meaning::Announce(id, announce, url) => {
                self.expect(family, "requests", RequestKind::Announce.label(), 1);
                if !self.is_valid(*id, from.ip()) {
                    refusal
                } else if let Some(refusal) = self.keys.refusal(*url, announce) {
                    of_key(refusal)
                } else if !self.allowed.allows(&announce.torrent.1) {
                    Verdict::Refuse(Reason::InfoHashDenied, "torrent not allowed here")
                } else if let Some(refusal) = self.keys.admit(*url, announce, now) {
                    of_key(refusal)
                } else {
                    Verdict::Announce(*announce)
                }
            }
            Meaning::Scrape(id, info_hashes) => {
                self.expect(family, "requests", RequestKind::Scrape.label(), 1);
                if !self.is_valid(*id, from.ip()) {
                    return refusal;
                }
                if self.keys.are_required() {
                    return of_key(NO_SCRAPES);
                }
                let answered = info_hashes
                    .iter()
                    .take(self.config.protocol.max_scrape_torrents);
                let torrent =
                    |name: &InfoHash| self.allowed.allows(name).then_some((family, *name));
                Verdict::Scrape(answered.map(torrent).collect())
            }
            Meaning::Malformed(reason, Some((id, told))) if self.is_valid(*id, from.ip()) => {
                Verdict::Refuse(*reason, told)
            }
            Meaning::Malformed(_, Some(_)) => Verdict::Drop(Reason::Unconnected),
            Meaning::Malformed(reason, None) => Verdict::Drop(*reason),
            Meaning::TooLong => Verdict::Drop(Reason::TooLong),
        }
    }

    fn is_valid(&self, id: ConnectionId, ip: IpAddr) -> bool {
        let age_max = self.config.cleaning.max_connection_age + GRACE_SECONDS;
        let issued = self.issued.get(&(ip, id));
        issued.is_some_and(|issued| self.now().seconds.0 - issued <= age_max)
    }

    /// Delivers a datagram to a socket worker, and checks what comes of it at once.
    pub(crate) fn deliver(&mut self, worker: usize, datagram: &Datagram) {
        let Datagram {
            socket,
            path,
            bytes,
            ..
        } = datagram;
        let (now, family) = (self.now(), datagram.from().family());
        let verdict = self.verdict(datagram);
        self.expect(family, "received", "bytes", bytes.len() as u64);
        if matches!(datagram.meaning, Meaning::TooLong) {
            self.tracker.receive_too_long(worker, *path, bytes);
            self.expect(family, "reason", Reason::TooLong.label(), 1);
            return;
        }
        let full_before = self.tracker.count_of(worker, Reason::QueueFull);
        let appeared = self.tracker.receive(worker, now, *socket, *path, bytes);
        let full = self.tracker.count_of(worker, Reason::QueueFull) - full_before;
        if full > 0 {
            // Scrapes leave half of the batches to announces.
            let batches_min = match verdict {
                Verdict::Scrape(_) => BATCHES_MAX / 2,
                _ => BATCHES_MAX,
            };
            self.assert_queue_can_be_full(worker, full, batches_min);
        }
        let request = match verdict {
            Verdict::Drop(reason) => {
                self.expect(family, "reason", reason.label(), 1);
                assert_eq!(
                    appeared,
                    [],
                    "an answer to {datagram:?}, dropped: {reason:?}"
                );
                return;
            }
            Verdict::Refuse(reason, told) => {
                self.expect(family, "reason", reason.label(), 1);
                return self.refused(datagram, told, &appeared);
            }
            Verdict::Connect => return self.connected(datagram, &appeared),
            Verdict::Announce(_) | Verdict::Scrape(_) if full > 0 => {
                self.expect(family, "reason", Reason::QueueFull.label(), 1);
                assert_eq!(appeared, []);
                return;
            }
            Verdict::Announce(announce) => {
                OpenRequest::Announce(self.model.begin_announce(announce, now.seconds.0))
            }
            Verdict::Scrape(torrents) => OpenRequest::Scrape(self.model.begin_scrape(&torrents)),
        };
        let open = Open {
            family,
            socket: *socket,
            path: *path,
            request,
        };
        self.open[worker]
            .entry(datagram.transaction_id)
            .or_default()
            .push(open);
        // A scrape of nothing that is allowed.
        self.answered(worker, appeared);
    }

    fn refused(&mut self, datagram: &Datagram, told: &str, appeared: &[(usize, Packet)]) {
        let family = datagram.from().family();
        self.expect(family, "responses", ResponseKind::Error.label(), 1);
        let mut bytes = Vec::new();
        ErrorResponse {
            transaction_id: datagram.transaction_id,
            message: told.as_bytes(),
        }
        .write(&mut bytes);
        let path = datagram.path;
        let expected = [(datagram.socket, Packet { path, bytes })];
        assert_eq!(appeared, expected, "{datagram:?}");
    }

    fn connected(&mut self, datagram: &Datagram, appeared: &[(usize, Packet)]) {
        let from = datagram.from();
        self.expect(from.family(), "responses", ResponseKind::Connect.label(), 1);
        let [(socket, packet)] = appeared else {
            panic!("{} answers to a connect", appeared.len());
        };
        assert_eq!((*socket, packet.path), (datagram.socket, datagram.path));
        assert_eq!(
            packet.bytes.len(),
            datagram.bytes.len(),
            "the answer is no larger"
        );
        let Ok(Response::Connect(answer)) = Response::parse(&packet.bytes, from.family()) else {
            panic!("no connect response: {packet:?}");
        };
        assert_eq!(answer.transaction_id, datagram.transaction_id);
        self.issued
            .insert((from.ip(), answer.connection_id), self.now().seconds.0);
    }

    /// Each batch on its way holds a message at least.
    fn assert_queue_can_be_full(&self, worker: usize, dropped: u64, batches_min: usize) {
        assert_eq!(dropped, 1, "a request is dropped once");
        let parts: usize = self.open[worker].values().flatten().map(Open::parts).sum();
        assert!(
            parts >= batches_min,
            "dropped, but only {parts} messages are on their way"
        );
    }

    /// Ends a batch of a socket worker and checks the answers that appear.
    pub(crate) fn finish(&mut self, worker: usize) {
        let full_before = self.tracker.count_of(worker, Reason::QueueFull);
        let appeared = self.tracker.finish(worker, self.now());
        self.given_up[worker] += self.tracker.count_of(worker, Reason::QueueFull) - full_before;
        self.answered(worker, appeared);
    }

    fn answered(&mut self, worker: usize, appeared: Vec<(usize, Packet)>) {
        for (socket, packet) in appeared {
            let transaction_id = packet.bytes[4..8].try_into().map(TransactionId).unwrap();
            // More than one if copies of an announce have arrived. They are answered in order.
            let mut candidates = self.open[worker]
                .remove(&transaction_id)
                .unwrap_or_default();
            let is_its = |open: &Open| open.socket == socket && open.path == packet.path;
            let Some(place) = candidates.iter().position(is_its) else {
                panic!("an answer that nobody waits for: {packet:?}");
            };
            let open = candidates.remove(place);
            if !candidates.is_empty() {
                self.open[worker].insert(transaction_id, candidates);
            }
            self.check_answer(open, &packet.bytes);
        }
    }

    /// A slice of background work. Returns whether there is more to do.
    pub(crate) fn maintain(&mut self, shard: usize) -> bool {
        let now = self.now();
        let allowed = self.allowed.clone();
        self.model
            .may_clean(now.seconds.0, shard, |name| allowed.allows(name));
        self.tracker.maintain(shard, now)
    }

    /// The kernel takes from an outbox what `sending` says; clients get most of that.
    pub(crate) fn send(&mut self, worker: usize, socket: usize, sending: Sending) {
        let sent = self.tracker.send(worker, socket, sending);
        let family = SOCKETS[socket];
        self.expect(family, "sent", "bytes", sent.bytes);
        self.expect(family, "reason", Reason::SendFailed.label(), sent.failed);
        self.expect(
            family,
            "reason",
            Reason::SendBufferFull.label(),
            sent.dropped,
        );
        for packet in sent.packets {
            if self.rng.u8(..20) == 0 {
                self.coverage.tally.note("answers lost on their way");
                continue;
            }
            let client = packet.path.peer();
            match Response::parse(&packet.bytes, family) {
                Ok(Response::Connect(answer)) => {
                    self.clients.connected(client, answer.connection_id);
                }
                Ok(Response::Error(error)) if error.message == CONNECT_AGAIN.as_bytes() => {
                    self.clients.disconnected(client);
                }
                _ => {}
            }
        }
    }

    pub(crate) fn send_all(&mut self) {
        for worker in 0..self.tracker.socket_workers() {
            for socket in 0..SOCKETS.len() {
                let all = Sending {
                    sent: usize::MAX,
                    ..Sending::default()
                };
                self.send(worker, socket, all);
            }
        }
    }

    pub(crate) fn expect(
        &mut self,
        family: IpFamily,
        metric: &'static str,
        label: &'static str,
        amount: u64,
    ) {
        add(&mut self.expected, (family.digit(), metric, label), amount);
    }

    /// The id that an address has got last, if any.
    pub(crate) fn newest_id(&self, ip: IpAddr) -> Option<ConnectionId> {
        let of_ip = self.issued.iter().filter(|((owner, _), _)| *owner == ip);
        of_ip
            .max_by_key(|(_, issued)| **issued)
            .map(|((_, id), _)| *id)
    }

    /// Whether a copy of a scrape has not been answered yet. The answers to two copies could not
    /// be told from each other, and need not come in order.
    pub(crate) fn is_copy(&self, worker: usize, datagram: &Datagram) -> bool {
        matches!(datagram.meaning, Meaning::Scrape(..))
            && self.open[worker].contains_key(&datagram.transaction_id)
    }

    pub(crate) fn open_requests(&self) -> usize {
        self.open
            .iter()
            .flat_map(BTreeMap::values)
            .map(Vec::len)
            .sum()
    }

    /// Takes what is still open at a socket worker, and how many of these were dropped.
    pub(crate) fn take_given_up(&mut self, worker: usize) -> (Vec<Open>, u64) {
        let open = std::mem::take(&mut self.open[worker]);
        (
            open.into_values().flatten().collect(),
            std::mem::take(&mut self.given_up[worker]),
        )
    }

    /// The swarms have been cleaned completely, just now.
    pub(crate) fn must_have_cleaned(&mut self) {
        let now_seconds = self.now().seconds.0;
        self.model
            .must_have_cleaned(now_seconds, |name| self.allowed.allows(name));
    }
}
