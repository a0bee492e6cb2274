//! All clients of a soak test: asks when a request is due, and judges the answers.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_load_test::core::arrivals::Arrivals;
use aquatic_types::{AnnounceEvent, InfoHash};
use aquatic_udp_protocol::ScrapeRow;
use fastrand::Rng;

use super::model::{Announce, Model, Turn};
use super::operator::{DENIABLE, Fault, Listed, Note, Totals, deniable};
use super::samples::Counting;
use super::wire::{Answer, Answers, NOBODY, Order, Request, Wire};

/// Requests that are sent before answers are looked for.
const BURST: usize = 64;

/// How long nothing is done if there is nothing to do.
const PAUSE: Duration = Duration::from_micros(200);

/// How often timers are looked after, in microseconds.
const TICK_MICROS: u64 = 100_000;

/// After this, a datagram is sent again; and how often.
const REPEAT_MICROS: u64 = 2_000_000;
const TRIES_MAX: u32 = 10;

/// After this, a request over TCP is lost.
const LOST_MICROS: u64 = 10_000_000;

/// How long a tracker may take to use a list, beyond the signal.
const RELOAD_MICROS: u64 = 3_000_000;

/// Torrents of a scrape of many.
const SCRAPE_TORRENTS: usize = 50;

/// Of a hundred requests: scrapes of one torrent, of many, and announces of torrents that are
/// sometimes denied.
const SCRAPES_OF_ONE: u32 = 2;
const SCRAPES_OF_MANY: u32 = 1;
const PROBES: u32 = 2;

/// Faults that are kept in words.
const FAULTS_MAX: usize = 10;

/// How long the end may take beyond what it must, in microseconds.
const END_MICROS_MAX: u64 = 60_000_000;

/// How the run goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) rate: f64,
    /// While peers come and go.
    pub(super) load_micros: u64,
    /// After this, whoever has left without a word must have been forgotten.
    pub(super) settle_micros: u64,
    pub(super) sample_micros: u64,
}

/// What is wrong.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) count: u64,
    /// The first ones.
    pub(super) first: Vec<Fault>,
}

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Driven {
    pub(super) faults: Faults,
    pub(super) requests: u64,
    /// Announces that were refused because of the access list.
    pub(super) denied: u64,
    pub(super) repeated: u64,
    pub(super) opened: u64,
    pub(super) offers: u64,
    pub(super) answers: u64,
    /// Torrents that were compared, and those whose downloads were.
    pub(super) compared: u64,
    pub(super) compared_downloads: u64,
    pub(super) peers: u64,
}

struct Pending {
    order: Order,
    due_micros: u64,
    sent_micros: u64,
    tries: u32,
    what: What,
}

enum What {
    Announce(Announce),
    Probe {
        number: u32,
        listed: Listed,
    },
    Scrape {
        torrents: Vec<u32>,
        /// Peers of the first one that were there, and departures, at that time.
        before: (u32, u32),
        is_final: bool,
    },
}

pub(super) struct Driver {
    it: Parts,
    pending: HashMap<u32, Pending>,
    counting: Counting,
    driven: Driven,
    rng: Rng,
    next_id: u32,
    /// The next torrent to be compared.
    next_final: u32,
    /// What has become of an announce, nobody knows: peers on the way stay there for ever.
    is_unsure: bool,
    phase: Phase,
}

/// How far the run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Peers come and go.
    Load,
    /// Those who are there stay, and those who have vanished are forgotten.
    Settling,
    /// All torrents are scraped.
    Scraping,
    /// The metrics are compared.
    Comparing,
    Done,
}

/// What a driver needs.
pub(super) struct Parts {
    pub(super) clock: Clock,
    pub(super) times: Times,
    pub(super) lanes: u32,
    pub(super) repeats: bool,
    pub(super) model: Model,
    pub(super) wire: Box<dyn Wire>,
    pub(super) info_hashes: Vec<InfoHash>,
    pub(super) listed: Arc<Mutex<Listed>>,
    pub(super) notes: Sender<Note>,
    pub(super) operator_faults: Receiver<Fault>,
}

impl Faults {
    fn add(&mut self, fault: Fault) {
        self.count += 1;
        if self.first.len() < FAULTS_MAX {
            self.first.push(fault);
        }
    }
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            it: parts,
            pending: HashMap::new(),
            counting: Counting::new(),
            driven: Driven::default(),
            rng: Rng::with_seed(11),
            next_id: 0,
            next_final: 0,
            is_unsure: false,
            phase: Phase::Load,
        }
    }

    /// Lives through all phases.
    pub(super) fn run(mut self) -> anyhow::Result<Driven> {
        let clock = self.it.clock;
        let start = clock.micros();
        let mut arrivals = Arrivals::new(self.it.times.rate, start, &mut self.rng);
        let (mut tick, mut sample, mut answers) = (start, start, Answers::new());
        sample += self.it.times.sample_micros;
        while self.phase != Phase::Done {
            let now = clock.micros();
            let mut asked = 0;
            while asked < BURST
                && let Some(due) = arrivals.due(now, &mut self.rng)
            {
                self.ask(due, now);
                asked += 1;
            }
            match self.it.wire.look(Duration::ZERO, &mut answers) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => result?,
            }
            let is_idle = answers.is_empty() && asked == 0;
            let now = clock.micros();
            for (id, answer) in answers.drain(..) {
                self.hear(id, answer, now);
            }
            if now >= tick {
                tick += TICK_MICROS;
                self.tick(now, now - start)?;
            }
            if now >= sample {
                sample += self.it.times.sample_micros;
                self.take_sample((now - start) / 1_000_000);
            }
            if is_idle {
                thread::sleep(PAUSE);
            }
        }
        Ok(self.finish())
    }

    fn take_sample(&mut self, seconds: u64) {
        let is_load = self.phase == Phase::Load;
        let (connections, _) = self.it.wire.connections();
        let interval = self.counting.take(seconds, is_load, connections);
        self.driven.requests += interval.requests;
        self.driven.repeated += interval.repeated;
        // An operator who has ended has an error to tell.
        let _ = self.it.notes.send(Note::Passed(interval));
    }

    fn finish(mut self) -> Driven {
        self.driven.requests += self.counting.interval.requests;
        self.driven.repeated += self.counting.interval.repeated;
        let forwarded = self.it.wire.forwarded();
        let (_, opened) = self.it.wire.connections();
        let swarms = self.it.model.swarms().iter();
        Driven {
            opened,
            offers: forwarded.offers,
            answers: forwarded.answers,
            peers: swarms.map(|swarm| u64::from(swarm.peers_min())).sum(),
            ..self.driven
        }
    }

    /// Something is due.
    fn ask(&mut self, due_micros: u64, now_micros: u64) {
        if self.phase == Phase::Scraping && self.next_id.is_multiple_of(2) {
            let torrents = self.next_final_torrents();
            if !torrents.is_empty() {
                return self.scrape(torrents, true, due_micros, now_micros);
            }
        }
        let lot = self.rng.u32(..100);
        if lot < SCRAPES_OF_ONE + SCRAPES_OF_MANY {
            let count = if lot < SCRAPES_OF_ONE {
                1
            } else {
                SCRAPE_TORRENTS
            };
            let mut torrents = Vec::new();
            torrents.extend((0..count).map(|_| self.it.model.draw(&mut self.rng)));
            return self.scrape(torrents, false, due_micros, now_micros);
        }
        if lot < SCRAPES_OF_ONE + SCRAPES_OF_MANY + PROBES {
            return self.probe(due_micros, now_micros);
        }
        while let Some(turn) = self.it.model.turn(now_micros, &mut self.rng) {
            match turn {
                Turn::Vanish(lane) => self.it.wire.vanish(lane),
                Turn::Announce(announce) => {
                    let request = Request::Announce {
                        info_hash: self.info_hash(announce.torrent),
                        port: announce.port,
                        event: announce.event,
                        is_seeder: announce.is_seeder,
                    };
                    let what = What::Announce(announce);
                    return self.send(announce.lane, request, what, due_micros, now_micros);
                }
            }
        }
    }

    fn next_final_torrents(&mut self) -> Vec<u32> {
        let start = self.next_final;
        let all = u32::try_from(self.it.info_hashes.len()).unwrap_or(u32::MAX);
        let size = u32::try_from(SCRAPE_TORRENTS).unwrap_or(u32::MAX);
        self.next_final = start.saturating_add(size).min(all);
        (start..self.next_final).collect()
    }

    fn info_hash(&self, torrent: u32) -> InfoHash {
        let place = usize::try_from(torrent).unwrap_or(usize::MAX);
        self.it.info_hashes[place]
    }

    fn scrape(&mut self, mut torrents: Vec<u32>, is_final: bool, due: u64, now: u64) {
        torrents.sort_unstable_by_key(|torrent| self.info_hash(*torrent));
        torrents.dedup();
        let before = torrents.first().map_or((0, 0), |torrent| {
            let swarm = self.it.model.swarm(*torrent);
            (swarm.peers_min(), swarm.departures)
        });
        let info_hashes = torrents.iter().map(|torrent| self.info_hash(*torrent));
        let request = Request::Scrape(info_hashes.collect());
        let lane = self.rng.u32(..self.it.lanes);
        let what = What::Scrape {
            torrents,
            before,
            is_final,
        };
        self.send(lane, request, what, due, now);
    }

    /// Announces a torrent that may be denied.
    fn probe(&mut self, due_micros: u64, now_micros: u64) {
        let number = self.rng.u32(..DENIABLE);
        let lane = self.rng.u32(..self.it.lanes);
        let listed = self.listed();
        let request = Request::Announce {
            info_hash: deniable(number),
            port: 1,
            event: AnnounceEvent::None,
            is_seeder: false,
        };
        let what = What::Probe { number, listed };
        self.send(lane, request, what, due_micros, now_micros);
    }

    fn send(&mut self, lane: u32, request: Request, what: What, due: u64, now: u64) {
        let id = self.next_id;
        self.next_id = (id + 1) % (1 << 31);
        let order = Order { id, lane, request };
        self.counting.interval.requests += 1;
        self.it.model.ask(lane);
        let sent = self.it.wire.send(&order, now);
        let pending = Pending {
            order,
            due_micros: due,
            sent_micros: now,
            tries: 1,
            what,
        };
        self.pending.insert(id, pending);
        if let Err(error) = sent
            && !self.it.repeats
        {
            self.hear(id, Answer::Failed(format!("cannot be sent: {error}")), now);
        }
    }

    /// An answer has come, or will not come.
    fn hear(&mut self, id: u32, answer: Answer, now: u64) {
        let Some(pending) = self.pending.remove(&id) else {
            // Beside failures of connections: a second answer, to what was sent twice.
            if let (NOBODY, Answer::Failed(reason)) = (id, answer) {
                self.fault(reason);
            }
            return;
        };
        self.it.model.hear(pending.order.lane);
        let is_answered = matches!(answer, Answer::Swarm | Answer::Rows(_));
        self.is_unsure |= !is_answered && matches!(pending.what, What::Announce(_));
        if let Answer::Failed(reason) = &answer {
            self.counting.interval.lost += 1;
            self.fault(format!("a request was lost: {reason}"));
            return;
        }
        self.counting.took(now.saturating_sub(pending.due_micros));
        match (pending.what, answer) {
            (What::Announce(announce), Answer::Swarm) => {
                self.it.model.answered(&announce, now);
            }
            (What::Probe { number, listed }, answer) => {
                self.judge_probe(number, listed, pending.sent_micros, &answer);
            }
            (
                What::Scrape {
                    torrents,
                    before,
                    is_final,
                },
                Answer::Rows(rows),
            ) => self.judge_rows(&torrents, before, is_final, &rows),
            (_, Answer::Refused(reason)) => {
                self.counting.interval.refused += 1;
                self.fault(format!("a request was refused: {reason}"));
            }
            (_, answer) => {
                self.fault(format!("an answer to something else: {answer:?}"));
            }
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.driven.faults.add(fault);
    }

    fn listed(&self) -> Listed {
        let listed = self.it.listed.lock();
        *listed.unwrap_or_else(PoisonError::into_inner)
    }

    fn judge_probe(&mut self, number: u32, listed: Listed, sent: u64, answer: &Answer) {
        let is_denied = matches!(answer, Answer::Refused(reason) if reason.contains("not allowed"));
        self.driven.denied += u64::from(is_denied);
        let now = self.listed();
        // While the tracker reloads, either list may be in use.
        let is_certain = now == listed && sent >= listed.since_micros + RELOAD_MICROS;
        let is_wrong = match answer {
            Answer::Swarm => is_certain && listed.list.denies(number),
            _ if is_denied => is_certain && !listed.list.denies(number),
            _ => true,
        };
        if is_wrong {
            self.counting.interval.refused += u64::from(is_denied);
            let list = listed.list;
            let fault = format!("torrent {number} of the list {list:?} got {answer:?}");
            self.fault(fault);
        }
    }

    fn judge_rows(
        &mut self,
        torrents: &[u32],
        before: (u32, u32),
        is_final: bool,
        rows: &[ScrapeRow],
    ) {
        if rows.len() != torrents.len() {
            let (rows, torrents) = (rows.len(), torrents.len());
            let fault = format!("{rows} rows in the answer to a scrape of {torrents}");
            return self.fault(fault);
        }
        if is_final {
            for (torrent, row) in torrents.iter().zip(rows) {
                let swarm = self.it.model.swarm(*torrent);
                self.driven.compared += 1;
                self.driven.compared_downloads += u64::from(swarm.completed().is_some());
                let difference = swarm.difference(row.seeders, row.leechers, row.completed);
                if let Some(difference) = difference {
                    self.fault(format!("torrent {torrent}: {difference}"));
                }
            }
            return;
        }
        let (Some(torrent), Some(row)) = (torrents.first(), rows.first()) else {
            return;
        };
        let swarm = self.it.model.swarm(*torrent);
        let (peers_min, departures) = before;
        let bounds = peers_min..=swarm.peers_max();
        let peers = row.seeders + row.leechers;
        // Who leaves meanwhile may be counted or not.
        if swarm.departures == departures && !bounds.contains(&peers) {
            self.fault(format!("torrent {torrent}: {peers} peers, not {bounds:?}"));
        }
    }

    /// Looks after what depends on the time.
    fn tick(&mut self, now: u64, elapsed: u64) -> anyhow::Result<()> {
        self.it.model.expire(now);
        self.repeat(now)?;
        loop {
            match self.it.operator_faults.try_recv() {
                Ok(fault) if !fault.is_empty() => self.fault(fault),
                Err(TryRecvError::Empty) => break,
                // Metrics were compared; or there is no operator any longer, who tells why.
                Ok(_) | Err(TryRecvError::Disconnected) => {
                    self.phase = Phase::Done;
                    return Ok(());
                }
            }
        }
        let Times {
            load_micros,
            settle_micros,
            ..
        } = self.it.times;
        let settled = load_micros + settle_micros;
        match self.phase {
            Phase::Load if elapsed >= load_micros => {
                self.phase = Phase::Settling;
                self.it.model.settle();
                let _ = self.it.notes.send(Note::DenyAll);
            }
            Phase::Settling if elapsed >= settled && self.is_at_rest() => {
                self.phase = Phase::Scraping;
            }
            Phase::Scraping if self.has_scraped() => {
                self.phase = Phase::Comparing;
                let _ = self.it.notes.send(Note::Compare(self.totals()));
            }
            _ if elapsed > settled + END_MICROS_MAX => {
                self.phase = Phase::Done;
                let waiting = self.pending.len();
                let fault = format!("the run does not come to its end: {waiting} requests wait");
                self.fault(fault);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether nobody is on the way, or that will never be known.
    fn is_at_rest(&self) -> bool {
        self.is_unsure || self.it.model.is_settled()
    }

    fn has_scraped(&self) -> bool {
        let is_final = |it: &Pending| matches!(it.what, What::Scrape { is_final: true, .. });
        let all = self.it.info_hashes.len();
        usize::try_from(self.next_final) == Ok(all) && !self.pending.values().any(is_final)
    }

    fn totals(&self) -> Totals {
        let swarms = self.it.model.swarms();
        let sum = |value: fn(&super::model::Swarm) -> u32| {
            swarms.iter().map(|swarm| u64::from(value(swarm))).sum()
        };
        Totals {
            torrents: sum(|swarm| swarm.peers_min().min(1)),
            seeders: sum(|swarm| swarm.seeders),
            leechers: sum(|swarm| swarm.leechers),
            completed: self.it.model.completed(),
        }
    }

    /// Sends again, or gives up, what has waited for too long.
    fn repeat(&mut self, now: u64) -> io::Result<()> {
        let limit = if self.it.repeats {
            REPEAT_MICROS
        } else {
            LOST_MICROS
        };
        let mut lost = Vec::new();
        for (id, pending) in &mut self.pending {
            if now < pending.sent_micros + limit {
                continue;
            }
            if !self.it.repeats || pending.tries == TRIES_MAX {
                lost.push(*id);
                continue;
            }
            pending.tries += 1;
            pending.sent_micros = now;
            self.counting.interval.repeated += 1;
            self.it.wire.send(&pending.order, now)?;
        }
        for id in lost {
            self.hear(id, Answer::Failed("no answer in time".to_owned()), now);
        }
        Ok(())
    }
}
