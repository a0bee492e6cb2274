//! A node, in one thread: shards, what announces to them, and what speaks to the other nodes.

use std::sync::Arc;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::{Batch, waker_pair};
use aquatic_cluster::addresses::{AddressReplica, BATCHES_MAX, RemoteProcessor};
use aquatic_cluster::config::{ClusterConfig, PeerLives};
use aquatic_cluster::counters::Counters;
use aquatic_cluster::engine::{Engine, EngineSettings, Time};
use aquatic_cluster::nodes::NodeStates;
use aquatic_cluster::simulation::SimulatedBus;
use aquatic_cluster::times::{PeerAges, SharedTimes, Times};
use aquatic_daemon::clock::Now;
use aquatic_swarm::{Announce, HashKey, Limits, RefreshInterval};
use aquatic_tracker::dispatch::dispatcher::Dispatcher;
use aquatic_tracker::dispatch::shard_set::ShardSet;
use aquatic_tracker::dispatch::topology::Topology;
use aquatic_tracker::shard::addresses::outbox::SharedRefreshInterval;
use aquatic_tracker::shard::addresses::{
    AddressProcessor, AddressShard, AddressSwarms, AddressSwarmsParts, AddressSwarmsSettings,
    AddressTag, PeerAddr,
};
use aquatic_tracker::shard::maintenance::{MaintenanceSettings, Reporting};
use aquatic_tracker::shard::swarm_worker::SwarmWorker;
use aquatic_types::{
    CompactAddr, CompactV4, CompactV6, InfoHash, IpFamily, PeerStatus, Seconds, ShardKey,
};

/// For how long a peer is remembered, how often it announces, and how often others are told of it:
/// in seconds, as UDP trackers have it.
pub(crate) const AGE: u32 = 1_200;
pub(crate) const ANNOUNCE_INTERVAL: u32 = 120;
pub(crate) const REFRESH_INTERVAL: u32 = 512;

/// What of that an operator sets, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intervals {
    pub(crate) announce: u32,
    pub(crate) age: u32,
}

impl Intervals {
    /// As the configuration chooses it.
    pub(crate) fn refresh(self) -> RefreshInterval {
        let lives = PeerLives {
            announce_interval: self.announce,
            peer_age: self.age,
            peer_age_max: self.age,
        };
        ClusterConfig::default().refresh(lives)
    }

    /// In this time all peers who are alive are told of again.
    pub(crate) fn told_within(self) -> u32 {
        self.refresh().seconds() + self.announce
    }
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            announce: ANNOUNCE_INTERVAL,
            age: AGE,
        }
    }
}

/// When a simulation begins, by clocks on the wall.
const UNIX_MILLIS: u64 = 1_795_000_000_000;

/// Rounds after which a node that is asked nothing new must be at rest.
const ROUNDS_MAX: usize = 10_000;

/// A peer's address. Peers are told apart by numbers, which are their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Address {
    V4(CompactV4),
    V6(CompactV6),
}

impl Address {
    pub(crate) fn new(number: u32, family: IpFamily) -> Self {
        let [a, b, c, d] = number.to_be_bytes();
        match family {
            IpFamily::V4 => Self::V4(CompactV4([a, b, c, d, 0x1a, 0xe1])),
            IpFamily::V6 => {
                let high = u16::from_be_bytes([a, b]);
                let low = u16::from_be_bytes([c, d]);
                let ip = [0x2001, 0xdb8, high, low, 0, 0, 0, 1].into();
                Self::V6(CompactV6::new(ip, 6_881))
            }
        }
    }

    pub(crate) fn number(self) -> u32 {
        let bytes = match self {
            Self::V4(CompactV4([a, b, c, d, ..])) => [a, b, c, d],
            Self::V6(CompactV6([_, _, _, _, a, b, c, d, ..])) => [a, b, c, d],
        };
        u32::from_be_bytes(bytes)
    }
}

/// What a shard is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Question {
    Announce {
        torrent: InfoHash,
        peer: Address,
        status: PeerStatus,
        completed: bool,
        num_want: u16,
    },
    /// Who is known of a torrent?
    Look(InfoHash),
}

/// A peer that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Known {
    pub(crate) address: Address,
    pub(crate) is_seeder: bool,
    pub(crate) seconds_left: u16,
}

/// What it answers, to all questions of a batch in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// To who announces: others.
    pub(crate) peers: Vec<Address>,
    /// To who looks: all.
    pub(crate) known: Vec<Known>,
    /// Downloads of peers of IPv4 that were counted.
    pub(crate) completed: u32,
}

#[derive(Default)]
struct Questions {
    asked: Vec<Question>,
    answers: Vec<Answer>,
}

impl Batch for Questions {
    fn is_full(&self) -> bool {
        false
    }

    fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }
}

struct Answerer {
    peer_age_seconds: u32,
}

impl AddressProcessor for Answerer {
    type Batch = Questions;

    fn process_in<V: AddressTag>(
        &mut self,
        now: Now,
        swarms: &mut AddressSwarms<V>,
        batch: &mut Questions,
    ) {
        for question in batch.asked.drain(..) {
            batch.answers.push(match question {
                Question::Announce {
                    torrent,
                    peer,
                    status,
                    completed,
                    num_want,
                } => {
                    let said = (status, completed, num_want);
                    let deadline = now.seconds + self.peer_age_seconds;
                    match peer {
                        Address::V4(peer) => {
                            announce(deadline, swarms, torrent, peer, said, Address::V4)
                        }
                        Address::V6(peer) => {
                            announce(deadline, swarms, torrent, peer, said, Address::V6)
                        }
                    }
                }
                Question::Look(torrent) => look(now, swarms, torrent),
            });
        }
    }
}

fn announce<K: PeerAddr, V: AddressTag>(
    deadline: Seconds,
    swarms: &mut AddressSwarms<V>,
    torrent: InfoHash,
    peer: K,
    (status, completed, num_want): (PeerStatus, bool, u16),
    wrap: fn(K) -> Address,
) -> Answer {
    let announce = Announce {
        peer,
        status,
        completed,
        num_want,
    };
    let key = swarms.key(torrent);
    let mut answer = Answer::default();
    let outcome = swarms.announce(deadline, &key, *b"-SM0001-", &announce, |peer| {
        answer.peers.push(wrap(*peer));
    });
    outcome.expect("there are no limits");
    answer
}

fn look<V: AddressTag>(now: Now, swarms: &AddressSwarms<V>, torrent: InfoHash) -> Answer {
    let key = swarms.key(torrent);
    let all = swarms.swarms();
    let mut answer = Answer::default();
    let known = &mut answer.known;
    all.v4
        .show_peers_of(&key, now.seconds, usize::MAX, |it, _| {
            known.push(Known {
                address: Address::V4(it.key),
                is_seeder: it.is_seeder,
                seconds_left: it.seconds_left,
            });
        });
    all.v6
        .show_peers_of(&key, now.seconds, usize::MAX, |it, _| {
            known.push(Known {
                address: Address::V6(it.key),
                is_seeder: it.is_seeder,
                seconds_left: it.seconds_left,
            });
        });
    answer.completed = all.v4.scrape(&key).completed;
    answer
}

/// What a node is made of.
#[derive(Clone, Copy)]
pub(crate) struct NodeSettings<'a> {
    pub(crate) name: &'a str,
    pub(crate) shards: usize,
    pub(crate) intervals: Intervals,
    pub(crate) history: bool,
    pub(crate) flush_interval_micros: u64,
    pub(crate) publish_buffer_bytes: usize,
    pub(crate) access_list: &'a SharedAccessList,
    /// How far its clock is ahead.
    pub(crate) skew_millis: i64,
    /// When it starts, in microseconds of the simulation.
    pub(crate) started: u64,
}

/// See the [module](self).
pub(crate) struct Node {
    pub(crate) engine: Engine<SimulatedBus>,
    pub(crate) counters: Arc<Counters>,
    workers: Vec<SwarmWorker<AddressShard>>,
    questions: Dispatcher<Answerer>,
    skew_millis: i64,
    pub(crate) started: u64,
}

impl Node {
    pub(crate) fn new(
        settings: NodeSettings<'_>,
        bus: SimulatedBus,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let waker = || waker_pair(|| ()).1;
        let topology = Topology::Split {
            socket_workers: 0,
            swarm_workers: settings.shards,
        };
        let hash_key = HashKey::new([rng.u64(..), rng.u64(..)]);
        let age = settings.intervals.age;
        let sharing = SharedRefreshInterval::new(settings.intervals.refresh());
        let shards = (0..settings.shards).map(|_| {
            let parts = AddressSwarmsParts {
                hash_key,
                rng_seed: rng.u64(..),
                access_list: settings.access_list.reader(),
                peers_per_ip: None,
                reporting: Reporting::default(),
            };
            AddressShard::new(false, Some(sharing.clone()), shard_settings(age), parts)
        });
        let shards = shards.collect();
        let wakers: Vec<_> = (0..settings.shards).map(|_| waker()).collect();
        let key = ShardKey::new(std::array::from_fn(|_| rng.u8(..)));
        let mut set = ShardSet::new(key, topology, &wakers, shards);
        let told = set.connect_apart(&waker(), BATCHES_MAX, |_| RemoteProcessor);
        let questions = set.connect_apart(&waker(), 4, |_| Answerer {
            peer_age_seconds: age,
        });
        let counters = Arc::new(Counters::default());
        let told_within = settings.intervals.told_within();
        let times = SharedTimes::new(Times {
            ages: PeerAges {
                min_seconds: age,
                max_seconds: age,
            },
            life: age,
            peers_told_within: told_within,
            told_within,
        });
        let replica = AddressReplica::new(told, times.clone(), Arc::clone(&counters));
        let engine_settings = EngineSettings {
            node: settings.name.to_owned(),
            process: rng.u64(..),
            flush_interval_micros: settings.flush_interval_micros,
            history: settings.history,
            times,
            publish_buffer_bytes: settings.publish_buffer_bytes,
        };
        let engine = Engine::new(
            bus,
            engine_settings,
            vec![Box::new(replica)],
            NodeStates::default(),
            Arc::clone(&counters),
        );
        Self {
            engine,
            counters,
            workers: set.into_owners().swarm_workers,
            questions,
            skew_millis: settings.skew_millis,
            started: settings.started,
        }
    }

    /// What its own clocks say.
    pub(crate) fn time(&self, micros: u64) -> Time {
        let unix_millis = UNIX_MILLIS + micros / 1_000;
        Time {
            now: Now::from_micros(micros - self.started),
            unix_millis: unix_millis.saturating_add_signed(self.skew_millis),
        }
    }

    /// Does everything that is to be done at this time.
    pub(crate) fn run(&mut self, micros: u64) {
        let time = self.time(micros);
        for _ in 0..ROUNDS_MAX {
            let again = self.engine.step(time);
            let processed: usize = self.workers.iter_mut().map(|it| it.process(time.now)).sum();
            if processed == 0 && !self.engine.has_pending() && again > time.now.micros {
                return;
            }
        }
        panic!("a node never rests");
    }

    /// One step that takes no more than so many messages: of a process that has hardly any time.
    pub(crate) fn run_slowly(&mut self, micros: u64) {
        let time = self.time(micros);
        self.engine.step(time);
        for worker in &mut self.workers {
            worker.process(time.now);
        }
    }

    /// Forgets whose time is over.
    pub(crate) fn maintain(&mut self, micros: u64) {
        let now = self.time(micros).now;
        for worker in &mut self.workers {
            while worker.maintain(now) {}
        }
    }

    /// Asks the shards. Answers come in order, except that those of several shards are mixed.
    pub(crate) fn ask(
        &mut self,
        micros: u64,
        questions: impl IntoIterator<Item = Question>,
    ) -> Vec<Answer> {
        let now = self.time(micros).now;
        for question in questions {
            let (Question::Look(torrent) | Question::Announce { torrent, .. }) = question;
            let shard = self.questions.shard_of(&torrent);
            let batch = self
                .questions
                .batch_for(shard)
                .expect("nothing is on its way");
            batch.asked.push(question);
        }
        self.questions.send();
        for worker in &mut self.workers {
            worker.process(now);
        }
        let mut answers = Vec::new();
        self.questions
            .finish(now, None, |batch| answers.append(&mut batch.answers));
        answers
    }

    /// Who is known of a torrent, and how many downloads.
    pub(crate) fn look(&mut self, micros: u64, torrent: InfoHash) -> Answer {
        let answers = self.ask(micros, [Question::Look(torrent)]);
        let [answer] = <[_; 1]>::try_from(answers).expect("one answer");
        answer
    }
}

fn shard_settings(peer_age_seconds: u32) -> AddressSwarmsSettings {
    AddressSwarmsSettings {
        limits: Limits::default(),
        peer_age_seconds_max: peer_age_seconds,
        maintenance: MaintenanceSettings {
            bytes_max: None,
            cleaning_interval_seconds: 60,
            report_interval_seconds: 3_600,
            peer_histograms: false,
        },
    }
}
