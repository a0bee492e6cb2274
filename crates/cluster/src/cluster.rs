//! A tracker's part in a cluster, from its start on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use aquatic_channel::Waker;
use aquatic_daemon::bucket::BucketList;
use aquatic_daemon::clock::{Clock, Now};
use aquatic_daemon::heartbeat;
use aquatic_daemon::sandbox::Needs;
use aquatic_swarm::{PEER_AGE_MAX_SECONDS, RefreshInterval};
use aquatic_tracker::announces::Announces;
use aquatic_tracker::entropy::{Entropy, OsEntropy};
use aquatic_tracker::launch::Launch;
use aquatic_tracker::shard::addresses::AddressShards;
use aquatic_tracker::shard::addresses::outbox::SharedRefreshInterval;

use crate::addresses::{self, AddressReplica, RemoteProcessor};
use crate::announces::AnnouncePlan;
use crate::bus::Channel;
use crate::config::{ClusterConfig, ListConfigs, Lives, MemberLives, PeerLives};
use crate::counters::{self, Counters};
use crate::engine::{Engine, EngineSettings};
use crate::lists::{self, ListKind, ListPlan};
use crate::nats::settings::Settings;
use crate::nats::{self, Nats};
use crate::nodes::NodeStates;
use crate::replica::Replica;
use crate::thread::{self, Member, Place};
use crate::times::{PeerAges, SharedTimes, Times};

/// A tracker that is about to take part in a cluster: swarms are [shared](Self::share_addresses)
/// before it [starts](Self::start).
pub struct Cluster {
    config: ClusterConfig,
    node: String,
    settings: Settings,
    /// Lists that are kept in the servers, and their files.
    lists: Vec<ListKind>,
    copies: Vec<PathBuf>,
    announces: Option<Announces>,
    lives: Lives,
    times: SharedTimes,
    refresh: SharedRefreshInterval,
    replicas: Vec<Box<dyn Replica>>,
    states: NodeStates,
    counters: Arc<Counters>,
    place: Place,
}

/// A tracker that takes part in a cluster.
#[derive(Clone, Debug)]
pub struct StartedCluster {
    config: ClusterConfig,
    lives: Lives,
    times: SharedTimes,
    refresh: SharedRefreshInterval,
    lists: Vec<ListKind>,
    counters: Arc<Counters>,
}

impl Cluster {
    /// What an operator has set, for the cluster and for `lists`; `None` if swarms are shared with
    /// nobody. Reads the files that the keys name: to be called before privileges are dropped.
    /// `lives` says which swarms there are. `listener` is the protocol, and the port where clients
    /// are served, after which the node is called if it has no name.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub fn prepare(
        config: &ClusterConfig,
        lives: impl Into<Lives>,
        (protocol, port): (&str, u16),
        lists: ListConfigs<'_>,
    ) -> anyhow::Result<Option<Self>> {
        if !config.is_on() {
            return Ok(None);
        }
        let node = config.node_name(protocol, port);
        let lives = lives.into();
        let log_life = Duration::from_secs(lives.longest().into());
        let kinds = config.lists_in_buckets(lists);
        Ok(Some(Self {
            copies: kinds.iter().map(|kind| lists.path(*kind)).collect(),
            lists: kinds,
            announces: config
                .tells_announces()
                .then(|| Announces::new(node.clone())),
            settings: Settings::load(config, node.clone(), &lives.channels(), log_life)?,
            node,
            lives,
            times: SharedTimes::new(lives.times(config)),
            refresh: SharedRefreshInterval::new(lives.refresh(config)),
            config: config.clone(),
            replicas: Vec::new(),
            states: NodeStates::default(),
            counters: Arc::default(),
            place: thread::place(),
        }))
    }

    /// When shards are to tell others again of peers that are addresses.
    #[must_use]
    pub fn refresh(&self) -> SharedRefreshInterval {
        self.refresh.clone()
    }

    /// Where workers are to tell of announces, if somebody wants to hear of them.
    #[must_use]
    pub fn announces(&self) -> Option<Announces> {
        self.announces.clone()
    }

    /// To be called before workers serve anybody.
    fn announce_plan(&self, process: u64, clock: Clock) -> Option<AnnouncePlan> {
        let announces = self.announces.clone()?;
        let plan = AnnouncePlan {
            announces,
            buffer_bytes: self.config.announces_buffer,
            flush_interval: Duration::from_millis(self.config.flush_interval),
            process,
            clock,
            counters: self.counters(),
        };
        plan.set_time();
        Some(plan)
    }

    /// What wakes the thread that speaks for this process.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.place.waker.clone()
    }

    /// What is thought of other processes.
    #[must_use]
    pub fn states(&self) -> NodeStates {
        self.states.clone()
    }

    /// What is counted.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Shares swarms of any kind.
    pub fn share(&mut self, replica: impl Replica + 'static) {
        self.replicas.push(Box::new(replica));
    }

    /// Shares swarms whose peers are addresses.
    pub fn share_addresses(&mut self, shards: &mut AddressShards) {
        if self.lives.peers.is_none() {
            return;
        }
        let processor = |_| RemoteProcessor;
        let dispatcher = shards.connect_apart(&self.waker(), addresses::BATCHES_MAX, processor);
        let times = self.times.clone();
        let replica = AddressReplica::new(dispatcher, times, self.counters());
        self.share(replica.with_counts_until(shards.counted_until()));
    }

    /// What it needs of the sandbox.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let mut needs = self.settings.needs();
        needs.replaces.extend_from_slice(&self.copies);
        needs
    }

    /// Starts the thread that takes over lists out of the servers, which is called `lists`, if
    /// there are any.
    fn keep_lists(&self, launch: &Launch<'_>) -> anyhow::Result<Vec<ListPlan>> {
        if self.lists.is_empty() {
            return Ok(Vec::new());
        }
        let kept = self.lists.iter().map(|kind| {
            let list: Arc<dyn BucketList> = match kind {
                ListKind::AccessList => launch.access_list_editor(),
                ListKind::Keys => launch.keys_editor(),
            };
            (*kind, list)
        });
        let (plans, keeper) = lists::keep(kept.collect(), &self.counters, launch.clock());
        launch.supervisor().spawn("lists", move || {
            keeper.run();
            Ok(())
        })?;
        Ok(plans)
    }

    /// Starts the thread, which is called `cluster`, and waits until the swarms of all nodes are
    /// known, and lists that are kept in the servers, if the operator wants that. Meanwhile
    /// `process` has shards do what they are asked, in this thread, and returns how much that was.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(
        self,
        launch: &mut Launch<'_>,
        process: impl FnMut(Now) -> usize,
    ) -> anyhow::Result<StartedCluster> {
        let clock = launch.clock();
        let started = self.start_thread(launch)?;
        started.wait_until_complete(clock, process);
        Ok(started)
    }

    fn start_thread(self, launch: &mut Launch<'_>) -> anyhow::Result<StartedCluster> {
        let counters = self.counters();
        launch.show_also(move |text| counters::write(&counters, text));
        let started = self.started();
        log::info!("node `{}` of the cluster `{}`", self.node, self.config.name);
        let plans = self.keep_lists(launch)?;
        let (clock, process) = (launch.clock(), OsEntropy.number()?);
        let notify = Arc::clone(&self.place.source);
        let plan = self.announce_plan(process, clock);
        // What workers do until they have finished is told, too.
        let supervisor = launch.supervisor();
        let finisher = supervisor.last_finisher(move || notify.notify_one());
        launch.supervisor().spawn("cluster", move || {
            let settings = self.engine_settings(process);
            let Place { source, gate, .. } = self.place;
            let runtime = nats::runtime().context("the cluster's connection cannot be made")?;
            runtime.block_on(async move {
                let bus = Nats::connect(self.settings).await.context("[cluster]")?;
                plans.into_iter().for_each(|plan| bus.watch(plan));
                let announces = plan.map(|plan| bus.publish_announces(plan));
                let (replicas, states) = (self.replicas, self.states);
                let member = Member {
                    engine: Engine::new(bus, settings, replicas, states, self.counters),
                    announces,
                    clock,
                    notify: source,
                    gate,
                };
                member.run(finisher).await
            })
        })?;
        Ok(started)
    }

    fn started(&self) -> StartedCluster {
        StartedCluster {
            config: self.config.clone(),
            lives: self.lives,
            times: self.times.clone(),
            refresh: self.refresh.clone(),
            lists: self.lists.clone(),
            counters: self.counters(),
        }
    }

    fn engine_settings(&self, process: u64) -> EngineSettings {
        EngineSettings {
            node: self.node.clone(),
            process,
            flush_interval_micros: self.config.flush_interval * 1_000,
            history: self.config.history,
            times: self.times.clone(),
            publish_buffer_bytes: self.config.publish_buffer,
        }
    }
}

impl Lives {
    /// What is to be heard of other nodes.
    fn channels(&self) -> Vec<Channel> {
        let peers = self.peers.map(|_| Channel::Peers);
        let members = self.members.map(|_| [Channel::Members, Channel::Parcels]);
        let members = members.into_iter().flatten();
        peers
            .into_iter()
            .chain(members)
            .chain([Channel::Nodes])
            .collect()
    }

    /// Nothing is remembered for more seconds.
    fn longest(&self) -> u32 {
        let peers = self.peers.map(|it| it.peer_age_max);
        peers.max(self.members.map(MemberLives::life)).unwrap_or(0)
    }

    fn times(&self, config: &ClusterConfig) -> Times {
        let within = |lives: PeerLives| {
            let refresh = config.refresh(lives).seconds();
            refresh.saturating_add(lives.announce_interval)
        };
        let (peers, members) = (self.peers.map(within), self.members);
        let ages = self.peers.map(|lives| PeerAges {
            min_seconds: lives.peer_age,
            max_seconds: lives.peer_age_max,
        });
        let told_within = peers.max(members.map(MemberLives::told_within));
        Times {
            ages: ages.unwrap_or_default(),
            life: self.longest(),
            peers_told_within: peers.unwrap_or(0),
            told_within: told_within.unwrap_or(0),
        }
    }

    /// When others are told again of addresses.
    fn refresh(&self, config: &ClusterConfig) -> RefreshInterval {
        let longest = RefreshInterval::longest(0, PEER_AGE_MAX_SECONDS);
        self.peers.map_or(longest, |lives| config.refresh(lives))
    }
}

impl StartedCluster {
    /// Peers are remembered for another time from now on, or announce after another time; or there
    /// is another time between two cleanings. Which swarms there are does not change, and neither
    /// does when others are told again of members.
    pub fn set_lives(&self, lives: impl Into<Lives>) {
        let new = lives.into();
        let Lives { peers, members } = self.lives;
        let lives = Lives {
            peers: peers.and(new.peers).or(peers),
            members: members.map(|started| MemberLives {
                cleaning_interval: new.members.unwrap_or(started).cleaning_interval,
                ..started
            }),
        };
        self.refresh.set(lives.refresh(&self.config));
        self.times.set(lives.times(&self.config));
    }

    fn has_read(&self, list: ListKind) -> bool {
        self.counters.bucket(list).reads.get() > 0
    }

    /// The swarms of all nodes are known, and lists have been read in the servers.
    fn is_complete(&self) -> bool {
        self.counters.is_complete() && self.lists.iter().all(|list| self.has_read(*list))
    }

    /// What of that is not so yet.
    fn missing(&self) -> String {
        let swarms = (!self.counters.is_complete()).then(|| "the swarms of the cluster".to_owned());
        let unread = self.lists.iter().filter(|list| !self.has_read(**list));
        let unread = unread.map(|list| {
            let bucket = list.bucket(&self.config.name);
            format!("the entries of the bucket {bucket} (`{}`)", list.key())
        });
        let missing: Vec<String> = swarms.into_iter().chain(unread).collect();
        missing.join(" and ")
    }

    /// Waits until everything is known, but not for longer than the operator has set.
    fn wait_until_complete(&self, clock: Clock, mut process: impl FnMut(Now) -> usize) {
        let wait_max = Duration::from_secs(self.config.start_complete_within);
        let started = clock.elapsed();
        while !wait_max.is_zero() && !self.is_complete() {
            if clock.elapsed() - started >= wait_max {
                log::warn!(
                    "{} are not known after {} s: serving nevertheless",
                    self.missing(),
                    wait_max.as_secs()
                );
                return;
            }
            heartbeat::beat();
            if process(Now::read(clock)) == 0 {
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// While there is nothing to do before a process serves.
const PAUSE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use aquatic_daemon::clock::unix_micros;
    use aquatic_tracker::announces::ServedAnnounce;
    use aquatic_types::{AnnounceEvent, InfoHash, PeerId};

    use super::*;

    fn announce() -> ServedAnnounce<'static> {
        ServedAnnounce {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId([2; 20]),
            ip: [192, 0, 2, 1].into(),
            port: Some(6881),
            uploaded: Some(0),
            downloaded: Some(0),
            left: Some(0),
            event: AnnounceEvent::Started,
            key: None,
        }
    }

    fn prepared(config: &ClusterConfig, lives: impl Into<Lives>) -> Cluster {
        let lists = ListConfigs {
            access_list: &Default::default(),
            keys: &Default::default(),
        };
        let cluster = Cluster::prepare(config, lives, ("udp", 3_000), lists);
        cluster.unwrap().unwrap()
    }

    fn config() -> ClusterConfig {
        ClusterConfig {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            ..ClusterConfig::default()
        }
    }

    const PEERS: PeerLives = PeerLives {
        announce_interval: 120,
        peer_age: 1_200,
        peer_age_max: 1_200,
    };

    /// The thread may take a while until it fetches announces for the first time.
    #[test]
    fn the_first_announces_are_of_today() {
        let config = ClusterConfig {
            announces: true,
            ..config()
        };
        let cluster = prepared(&config, PEERS);
        let announces = cluster.announces().unwrap();
        let mut tap = announces.tap("udp");
        let (clock, began) = (Clock::start(), unix_micros());
        let plan = cluster.announce_plan(1, clock).unwrap();
        tap.note(Now::read(clock), &announce());
        let mut lines = Vec::new();
        plan.announces.take(|it| lines.extend(it.bytes));
        let line: serde_json::Value = serde_json::from_slice(&lines).unwrap();
        let time = line["time"].as_u64().unwrap();
        assert!((began..=unix_micros()).contains(&time), "{time}, {began}");
    }

    #[test]
    fn a_reload_changes_for_how_long_what_is_shared_lives() {
        let members = MemberLives {
            refresh: 64,
            cleaning_interval: 30,
        };
        let cleaned_seldom = MemberLives {
            refresh: 2,
            cleaning_interval: 300,
        };
        let announced_seldom = PeerLives {
            announce_interval: 900,
            peer_age: 2_000,
            peer_age_max: 3_000,
        };
        let times = |lives: Lives, new: Lives| {
            let started = prepared(&config(), lives).started();
            let read = |started: &StartedCluster| {
                let Times {
                    life, told_within, ..
                } = started.times.get();
                (life, told_within, started.refresh.get().seconds())
            };
            let before = read(&started);
            started.set_lives(new);
            (before, read(&started))
        };
        let (before, after) = times(members.into(), cleaned_seldom.into());
        assert_eq!((before.0, before.1), (188, 94));
        assert_eq!((after.0, after.1), (930, 600));
        let (before, after) = times(PEERS.into(), announced_seldom.into());
        assert_eq!((before, after), ((1_200, 632, 512), (3_000, 1_412, 512)));
        let both = Lives {
            peers: Some(PEERS),
            members: Some(members),
        };
        let (_, after) = times(both, cleaned_seldom.into());
        assert_eq!(after, (1_200, 632, 512), "peers live longer");
        let (_, after) = times(PEERS.into(), cleaned_seldom.into());
        assert_eq!(after, (1_200, 632, 512), "there are no members");
    }

    #[test]
    fn whoever_waits_in_vain_is_told_for_what() {
        let lives = Lives::default();
        let config = ClusterConfig::default();
        let started = StartedCluster {
            times: SharedTimes::new(lives.times(&config)),
            refresh: SharedRefreshInterval::new(lives.refresh(&config)),
            lists: vec![ListKind::AccessList, ListKind::Keys],
            counters: Arc::default(),
            config,
            lives,
        };
        let access = "the entries of the bucket aquatic_main_access (`cluster.access_list_bucket`)";
        let keys = "the entries of the bucket aquatic_main_keys (`cluster.keys_bucket`)";
        let all = format!("the swarms of the cluster and {access} and {keys}");
        assert_eq!(started.missing(), all);
        started.counters.set_complete(true);
        assert_eq!(started.missing(), format!("{access} and {keys}"));
        started.counters.bucket(ListKind::AccessList).reads.add(1);
        assert_eq!(started.missing(), keys);
        assert!(!started.is_complete());
        started.counters.bucket(ListKind::Keys).reads.add(1);
        assert_eq!(started.missing(), "");
        assert!(started.is_complete());
        started.counters.set_complete(false);
        assert_eq!(started.missing(), "the swarms of the cluster");
    }
}
