//! Puts figures together, and remembers them for rates and history.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aquatic_daemon::clock::{Clock, unix_micros};
use aquatic_daemon::heartbeat;
use aquatic_daemon::process::Process;
use aquatic_types::IpFamily;

use super::history::{History, SLOT};
use super::{Client, Environment, FamilyFigures, Figures, Part, Rates, Swarms};
use crate::metrics::approximate;
use crate::metrics::report::ShardReport;
use crate::metrics::sample::{clients_of, prefixes_of};

/// How often counters are read for rates. Each time costs some microseconds.
pub const TICK: Duration = Duration::from_secs(2);

/// Rates are averages over the time since the oldest moment that is remembered: 4 to 6 seconds.
const MOMENTS_MAX: usize = 3;

/// How old figures may be that are shown again, so that many who ask cost no more than one.
const AGE_MAX: Duration = Duration::from_millis(500);

/// Clients that are shown: anybody can invent some.
const CLIENTS_MAX: usize = 50;

/// Reads the figures of one protocol.
pub type ReadPart = Box<dyn Fn() -> Part + Send>;

/// Fills in what a protocol has besides.
pub type Extend = Box<dyn Fn(&mut Part) + Send>;

/// Where figures come from.
#[derive(Default)]
pub struct Sources {
    /// One for each protocol.
    pub parts: Vec<ReadPart>,
    /// By the names of protocols.
    pub extensions: Vec<(&'static str, Extend)>,
    /// Of all shards.
    pub reports: Vec<Arc<ShardReport>>,
}

/// See [the module](self). The thread that ticks and those that show figures share one.
struct Collector {
    parts: Vec<ReadPart>,
    extensions: Vec<(&'static str, Extend)>,
    process: Process,
    clock: Clock,
    /// The oldest comes first.
    moments: VecDeque<Moment>,
    /// The end of the newest slot of the history.
    slot_start: Option<Moment>,
    history: History,
}

/// A collector that several threads share. Each holds it for as long as it takes to read counters:
/// names of clients, of which there may be many thousands, are made without it.
#[derive(Clone)]
pub struct SharedCollector(Arc<Shared>);

struct Shared {
    collector: Mutex<Collector>,
    reports: Vec<Arc<ShardReport>>,
    /// What was shown last. Whoever makes new figures holds it meanwhile, so that others who ask
    /// get the same ones.
    shown: Mutex<Option<(Duration, Arc<Figures>)>>,
}

impl SharedCollector {
    /// Rates are known from the second tick on.
    #[must_use]
    pub fn new(sources: Sources, process: Process, clock: Clock) -> Self {
        let Sources {
            parts,
            extensions,
            reports,
        } = sources;
        let collector = Mutex::new(Collector::new(parts, extensions, process, clock));
        Self(Arc::new(Shared {
            collector,
            reports,
            shown: Mutex::default(),
        }))
    }

    /// Ticks for ever.
    pub(crate) fn run(&self) -> ! {
        loop {
            self.lock().tick();
            heartbeat::sleep(TICK);
        }
    }

    /// The figures of this moment, or of the last half second.
    #[must_use]
    pub fn figures(&self) -> Arc<Figures> {
        self.figures_with(|| clients(&self.0.reports))
    }

    fn figures_with(&self, clients: impl FnOnce() -> Clients) -> Arc<Figures> {
        let shown = &self.0.shown;
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        let (earlier, moment) = {
            let mut collector = self.lock();
            let now = collector.clock.elapsed();
            if let Some((at, figures)) = &*shown
                && now < *at + AGE_MAX
            {
                return Arc::clone(figures);
            }
            (collector.moments.front().cloned(), collector.read())
        };
        let made = Arc::new(figures(earlier.as_ref(), &moment, clients()));
        *shown = Some((moment.awake, Arc::clone(&made)));
        made
    }

    /// The figures that those of this moment are compared with; `None` at the start.
    #[must_use]
    pub fn earlier(&self) -> Option<Figures> {
        let moment = self.lock().moments.front().cloned();
        moment.map(|moment| moment.figures())
    }

    /// Something about the last hour.
    pub fn with_history<R>(&self, look: impl FnOnce(&History) -> R) -> R {
        look(&self.lock().history)
    }

    /// All totals as they are now.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.lock().read()
    }

    /// The figures of a moment that has just been read, with rates since an earlier one.
    #[must_use]
    pub fn between(&self, earlier: &Moment, moment: &Moment) -> Figures {
        figures(Some(earlier), moment, clients(&self.0.reports))
    }

    fn lock(&self) -> MutexGuard<'_, Collector> {
        let collector = &self.0.collector;
        collector.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All totals at one moment.
#[derive(Clone)]
pub struct Moment {
    /// Since the start, with the time for which the machine was suspended.
    at: Duration,
    /// The same without that: nobody can ask a machine that is suspended, so rates go by this.
    awake: Duration,
    /// When that was.
    unix_seconds: f64,
    parts: Vec<Part>,
    environment: Environment,
}

impl Moment {
    /// Its figures, without rates and clients.
    #[must_use]
    pub fn figures(&self) -> Figures {
        figures(None, self, Clients::default())
    }
}

impl Collector {
    fn new(
        parts: Vec<ReadPart>,
        extensions: Vec<(&'static str, Extend)>,
        process: Process,
        clock: Clock,
    ) -> Self {
        Self {
            parts,
            extensions,
            process,
            clock,
            moments: VecDeque::new(),
            slot_start: None,
            history: History::default(),
        }
    }

    /// To be called every [`TICK`].
    fn tick(&mut self) {
        let moment = self.read();
        self.remember(moment);
    }

    fn remember(&mut self, moment: Moment) {
        let slot = History::slot_at(moment.at);
        match &self.slot_start {
            None => self.slot_start = Some(moment.clone()),
            Some(start) if slot > self.history.newest() && start.at + SLOT / 2 < moment.at => {
                let figures = figures(Some(start), &moment, Clients::default());
                self.history.add(slot, &figures);
                self.slot_start = Some(moment.clone());
            }
            Some(_) => {}
        }
        self.moments.push_back(moment);
        let surplus = self.moments.len().saturating_sub(MOMENTS_MAX);
        self.moments.drain(..surplus);
    }

    fn read(&mut self) -> Moment {
        let mut parts: Vec<_> = self.parts.iter().map(|read| read()).collect();
        parts.iter_mut().for_each(Part::read_persistence);
        for (name, extend) in &self.extensions {
            let part = parts.iter_mut().find(|part| part.name == *name);
            part.into_iter().for_each(extend);
        }
        Moment {
            at: self.clock.elapsed_with_suspension(),
            awake: self.clock.elapsed(),
            unix_seconds: approximate(unix_micros()) / 1e6,
            parts,
            environment: Environment::read(&self.process.state()),
        }
    }
}

/// Peers by client software.
#[derive(Default)]
struct Clients {
    /// Those that are shown, most peers first.
    shown: Vec<Client>,
    /// Peers of all clients, those that are not shown among them.
    peers: u64,
}

fn clients(reports: &[Arc<ShardReport>]) -> Clients {
    let all = clients_of(&prefixes_of(reports));
    let peers = all.iter().map(|(_, peers)| peers).sum();
    let shown = all.into_iter().take(CLIENTS_MAX);
    let shown = shown.map(|(client, peers)| Client {
        client: client.to_string(),
        peers,
    });
    Clients {
        shown: shown.collect(),
        peers,
    }
}

/// What is known at `now`, with what has changed since an earlier moment. Pure.
fn figures(earlier: Option<&Moment>, now: &Moment, clients: Clients) -> Figures {
    let Moment {
        at,
        awake,
        unix_seconds,
        mut parts,
        mut environment,
    } = now.clone();
    if let Some(earlier) = earlier {
        let time = awake.saturating_sub(earlier.awake);
        for part in &mut parts {
            let mut before = earlier.parts.iter();
            if let Some(before) = before.find(|other| other.name == part.name) {
                part.compare(before, time);
            }
        }
        environment.compare(&earlier.environment, time);
    }
    let family = |family: IpFamily| {
        let mut sum = FamilyFigures::default();
        parts.iter().for_each(|part| sum.add(part.family(family)));
        // Of several kinds of swarms there is no common distribution.
        let mut found = parts
            .iter()
            .filter_map(|part| part.family(family).peers_per_torrent);
        sum.peers_per_torrent = found.next();
        sum
    };
    let [ipv4, ipv6] = IpFamily::ALL.map(family);
    let (mut swarms, mut rates) = (Swarms::default(), Rates::default());
    for family in [&ipv4, &ipv6] {
        swarms.add(&family.swarms.unwrap_or_default());
        rates.add(&family.rates);
    }
    Figures {
        program: program(&parts),
        version: env!("CARGO_PKG_VERSION"),
        time: (unix_seconds * 1e3).round() / 1e3,
        uptime_seconds: at.as_secs_f64(),
        awake,
        swarms,
        ipv4,
        ipv6,
        rates,
        protocols: parts,
        clients: clients.shown,
        clients_peers: clients.peers,
        environment,
    }
}

/// What the program is called that serves these protocols.
fn program(parts: &[Part]) -> String {
    match parts {
        [part] if !part.is_one_of_several => format!("aquatic_{}", part.name),
        _ => "aquatic".to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::launch::Counted;
    use crate::metrics::counters::WorkerCounters;
    use crate::metrics::counters::test_protocol::{Bees, Reason, RequestKind, ResponseKind};
    use crate::metrics::figures::ResponseTimes;

    type Worker = WorkerCounters<Bees>;

    /// Those of bees, at their beginning.
    pub(crate) fn figures() -> Figures {
        moment(0, vec![part(&[])]).figures()
    }

    /// Those of these parts and shards.
    pub(crate) fn figures_of(
        seconds: u64,
        parts: Vec<Part>,
        reports: &[Arc<ShardReport>],
    ) -> Figures {
        super::figures(None, &moment(seconds, parts), clients(reports))
    }

    /// Those of bees that have done something for `seconds`.
    pub(crate) fn busy_figures(seconds: u64) -> Figures {
        let worker = Arc::new(Worker::default());
        let read = || part(&[Arc::clone(&worker)]);
        let earlier = moment(0, vec![read()]);
        work(&worker, 1);
        super::figures(
            Some(&earlier),
            &moment(seconds, vec![read()]),
            Clients::default(),
        )
    }

    fn work(worker: &Worker, amount: usize) {
        let traffic = worker.traffic(IpFamily::V6);
        traffic.requests(RequestKind::Announce).add(500 * amount);
        traffic.responses(ResponseKind::Announce).add(400 * amount);
        traffic.reason(Reason::TooShort).add(60 * amount);
        traffic.reason(Reason::PeerLimit).add(40 * amount);
        traffic.received_bytes.add(5_000 * amount);
        traffic.sent_bytes.add(4_000 * amount);
        worker.swarms(IpFamily::V6).torrents.set(3);
        worker.swarms(IpFamily::V6).peers.set(8);
        worker.swarms(IpFamily::V6).seeders.set(5);
        worker.swarms(IpFamily::V6).completed.add(2 * amount);
        worker.batches_in_flight.set(7);
        worker.shard.cleaning_micros.set(1_500);
    }

    fn part(workers: &[Arc<Worker>]) -> Part {
        Part::of(&Counted::of(workers.to_vec(), Vec::new()))
    }

    fn moment(seconds: u64, parts: Vec<Part>) -> Moment {
        Moment {
            at: Duration::from_secs(seconds),
            awake: Duration::from_secs(seconds),
            unix_seconds: 1_000_000.0,
            parts,
            environment: Environment::read(&Process::open().state()),
        }
    }

    #[test]
    fn totals_and_rates_are_those_of_the_counters() {
        let figures = busy_figures(5);
        assert_eq!(figures.program, "aquatic_bees");
        let swarms = Swarms {
            torrents: 3,
            seeders: 5,
            leechers: 3,
            peers: 8,
            completed: 2,
            evicted: 0,
        };
        assert_eq!(figures.swarms, swarms);
        assert_eq!(figures.ipv6.swarms, Some(swarms));
        assert_eq!(figures.ipv4.swarms, Some(Swarms::default()));
        assert_eq!(figures.ipv6.dropped.get("too_short"), 60);
        assert_eq!(figures.ipv6.refused.get("peer_limit"), 40);
        let rates = Rates {
            requests: 100.0,
            responses: 80.0,
            dropped: 12.0,
            refused: 8.0,
            received_bytes: 1_000.0,
            sent_bytes: 800.0,
        };
        assert_eq!(figures.rates, rates);
        let [part] = &*figures.protocols else {
            panic!("{:?}", figures.protocols)
        };
        assert_eq!((part.rates, part.ipv6.rates), (rates, rates));
        assert_eq!(part.queue_batches, 7);
        assert_eq!(part.cleaning_seconds, Some(Duration::from_micros(1_500)));
    }

    /// What several protocols share is shown by one of them.
    #[test]
    fn swarms_of_several_protocols_are_counted_once() {
        let worker = Arc::new(Worker::default());
        work(&worker, 1);
        let of = |name, has_swarms| {
            let mut counted = Counted::of(vec![Arc::clone(&worker)], Vec::new());
            (counted.has_swarms, counted.is_one_of_several) = (has_swarms, true);
            Part {
                name,
                ..Part::of(&counted)
            }
        };
        let parts = vec![of("ants", true), of("bees", false), of("wasps", true)];
        let figures = moment(1, parts).figures();
        assert_eq!(figures.program, "aquatic");
        assert_eq!((figures.swarms.peers, figures.swarms.completed), (16, 4));
        assert_eq!(figures.ipv6.requests.get("announce"), 1_500);
        let json = serde_json::to_value(&figures).unwrap();
        assert_eq!(json["protocols"]["ants"]["ipv6"]["peers"], 8);
        assert!(json["protocols"]["bees"]["ipv6"]["peers"].is_null());
        assert_eq!(
            json["protocols"]["bees"]["ipv6"]["requests"]["announce"],
            500
        );
        assert_eq!(json["ipv6"]["seeders"], 10);
        assert_eq!(json["torrents"], 6);
    }

    #[test]
    fn whoever_shows_figures_gets_what_was_registered() {
        let worker = Arc::new(Worker::default());
        let counted = Counted::of(vec![Arc::clone(&worker)], Vec::new());
        let extend = |part: &mut Part| {
            part.response_time = Some(ResponseTimes {
                count: 9,
                ..ResponseTimes::default()
            });
        };
        let sources = Sources {
            parts: vec![Box::new(move || Part::of(&counted))],
            extensions: vec![("bees", Box::new(extend)), ("nobody", Box::new(|_| ()))],
            reports: Vec::new(),
        };
        let collector = SharedCollector::new(sources, Process::open(), Clock::start());
        collector.lock().tick();
        work(&worker, 1);
        let figures = collector.figures();
        assert_eq!(figures.swarms.peers, 8);
        let times = figures.protocols[0].response_time.as_ref().unwrap();
        assert_eq!(times.count, 9);
        work(&worker, 1);
        let again = collector.figures();
        assert!(Arc::ptr_eq(&figures, &again), "not read again at once");
        for _ in 0..10 {
            collector.lock().tick();
        }
        assert_eq!(collector.lock().moments.len(), MOMENTS_MAX);
        let newest = collector.with_history(History::newest);
        assert_eq!(newest, 0, "no slot has passed");
    }

    /// The thread that ticks does not wait for names, which may be many.
    #[test]
    fn names_of_clients_are_made_while_others_may_read() {
        let collector = SharedCollector::new(Sources::default(), Process::open(), Clock::start());
        let mut is_free = false;
        let _ = collector.figures_with(|| {
            is_free = collector.0.collector.try_lock().is_ok();
            Clients::default()
        });
        assert!(is_free);
    }

    /// A machine that sleeps for an hour gets nothing meanwhile: its rates are those of when it was
    /// awake, and what it knows of before is an hour old.
    #[test]
    fn a_suspension_is_a_gap_in_the_history_and_not_in_rates() {
        let worker = Arc::new(Worker::default());
        let mut collector = Collector::new(Vec::new(), Vec::new(), Process::open(), Clock::start());
        let mut at = |since_start: u64, awake: u64| {
            work(&worker, 1);
            let awake = Duration::from_secs(awake);
            let moment = Moment {
                awake,
                ..moment(since_start, vec![part(&[Arc::clone(&worker)])])
            };
            collector.remember(moment);
        };
        for (since_start, awake) in [(0, 0), (10, 10), (620, 20)] {
            at(since_start, awake);
        }
        assert_eq!(collector.history.newest(), 62);
        let json = serde_json::to_value(collector.history.after(0)).unwrap();
        let responses = json["series"]["responses"].as_array().unwrap();
        assert_eq!((responses.len(), &responses[0]), (62, &40.into()));
        assert!(responses[1..61].iter().all(serde_json::Value::is_null));
        assert_eq!(responses[61], 40, "400 in 10 seconds");
    }
}
