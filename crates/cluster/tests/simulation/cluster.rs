//! Nodes, what they are connected by, and who announces to them; on one clock, which nobody sees
//! but the simulation.

use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_cluster::counters::Counters;
use aquatic_cluster::simulation::{Conditions, Network};
use aquatic_tracker::shard::addresses::Taken;
use fastrand::Rng;

use crate::measures::{Among, Figures, Seen};
use crate::node::{Intervals, Known, Node, NodeSettings, Question};
use crate::population::{Population, SECOND, info_hash};

/// When a simulation begins. Nodes have started shortly before.
pub(crate) const START: u64 = 100 * SECOND;

/// How a cluster is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) peers: usize,
    pub(crate) intervals: Intervals,
    /// Microseconds between two looks at the clock, and at what there is to publish.
    pub(crate) tick: u64,
    pub(crate) flush: u64,
    pub(crate) conditions: Conditions,
    /// Whether nodes read the log.
    pub(crate) history: bool,
    /// Clocks are wrong by up to so many milliseconds.
    pub(crate) skew_millis: i64,
    /// The part of announces that go to another node.
    pub(crate) moving: f64,
    pub(crate) publish_buffer: usize,
    /// Nodes are compared with the model each time after so many ticks; 0: never.
    pub(crate) ticks_per_sample: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 4,
            peers: 1_500,
            intervals: Intervals::default(),
            tick: 50_000,
            flush: 100_000,
            conditions: Conditions::default(),
            history: true,
            skew_millis: 0,
            moving: 0.02,
            publish_buffer: 64 << 20,
            ticks_per_sample: 199,
        }
    }
}

/// See the [module](self).
pub(crate) struct Cluster {
    pub(crate) settings: Settings,
    pub(crate) network: Network,
    /// `None` while one does not run.
    pub(crate) nodes: Vec<Option<Node>>,
    /// Nodes that nobody announces to, though they run.
    pub(crate) shunned: Vec<usize>,
    pub(crate) population: Population,
    /// By node.
    pub(crate) access_lists: Vec<SharedAccessList>,
    pub(crate) figures: Figures,
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    seen: Seen,
    ticks: u64,
}

impl Cluster {
    pub(crate) fn new(settings: Settings) -> Self {
        let mut rng = Rng::with_seed(settings.seed);
        let intervals = settings.intervals;
        let network = Network::new(settings.conditions, intervals.age, rng.u64(..));
        network.set_now(START);
        let access_list = || SharedAccessList::new(AccessListMode::Deny, AccessList::default());
        let population =
            Population::new(settings.peers, intervals, settings.moving, START, &mut rng);
        let mut cluster = Self {
            settings,
            network,
            nodes: Vec::new(),
            shunned: Vec::new(),
            population,
            access_lists: (0..settings.nodes).map(|_| access_list()).collect(),
            figures: Figures::default(),
            now: START,
            rng,
            seen: Seen::default(),
            ticks: 0,
        };
        for number in 0..settings.nodes {
            let started = START - cluster.rng.u64(..10 * SECOND);
            let node = cluster.make(number, started);
            cluster.nodes.push(Some(node));
        }
        cluster
    }

    fn make(&mut self, number: usize, started: u64) -> Node {
        let name = format!("node-{number}");
        let Settings {
            intervals,
            history,
            flush,
            publish_buffer,
            skew_millis,
            ..
        } = self.settings;
        let settings = NodeSettings {
            name: &name,
            shards: 1 + number % 2,
            intervals,
            history,
            flush_interval_micros: flush,
            publish_buffer_bytes: publish_buffer,
            access_list: &self.access_lists[number],
            skew_millis: self.rng.i64(-skew_millis..=skew_millis),
            started,
        };
        Node::new(settings, self.network.connect(&name), &mut self.rng)
    }

    /// A node is stopped: clients go elsewhere, others are told the last of them, and it leaves.
    pub(crate) fn stop(&mut self, number: usize) {
        self.shunned = vec![number];
        self.pass(1);
        let now = self.now;
        let node = self.node(number);
        let time = node.time(now);
        assert!(node.engine.leave(time), "the bus has room");
        self.kill(number);
    }

    /// A node ends. Its connection ends with it.
    pub(crate) fn kill(&mut self, number: usize) {
        self.nodes[number] = None;
    }

    /// A node starts, and knows nothing.
    pub(crate) fn start(&mut self, number: usize) {
        let node = self.make(number, self.now);
        self.nodes[number] = Some(node);
    }

    pub(crate) fn node(&mut self, number: usize) -> &mut Node {
        self.nodes[number].as_mut().expect("it runs")
    }

    pub(crate) fn counters(&self, number: usize) -> &Counters {
        &self.nodes[number].as_ref().expect("it runs").counters
    }

    /// A node has a connection, or not.
    pub(crate) fn set_connected(&mut self, number: usize, is_connected: bool) {
        let endpoint = self.node(number).engine.bus_mut().number();
        self.network.set_connected(endpoint, is_connected);
    }

    /// Nothing crosses a node's connection any more, and it has not noticed.
    pub(crate) fn hang(&mut self, number: usize) {
        let endpoint = self.node(number).engine.bus_mut().number();
        self.network.hang(endpoint);
    }

    /// Puts nodes on sides, by their numbers.
    pub(crate) fn part(&mut self, side_of: impl Fn(usize) -> u8) {
        let endpoints: Vec<usize> = (0..self.nodes.len())
            .map(|number| self.node(number).engine.bus_mut().number())
            .collect();
        self.network.part(|endpoint| {
            let number = endpoints.iter().position(|it| *it == endpoint);
            number.map_or(0, &side_of)
        });
    }

    /// Lets so many seconds pass.
    pub(crate) fn pass(&mut self, seconds: u64) {
        let until = self.now + seconds * SECOND;
        while self.now < until {
            self.tick();
        }
    }

    pub(crate) fn tick(&mut self) {
        self.tick_with(&[]);
    }

    /// The same, where these nodes do hardly anything.
    pub(crate) fn tick_with(&mut self, slow: &[usize]) {
        self.now += self.settings.tick;
        self.ticks += 1;
        self.network.set_now(self.now);
        self.announce();
        let cleans = self.ticks.is_multiple_of(64);
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let Some(node) = node else { continue };
            if slow.contains(&number) {
                continue;
            }
            node.run(self.now);
            if cleans {
                node.maintain(self.now);
            }
        }
        let every = self.settings.ticks_per_sample;
        if every > 0 && self.ticks.is_multiple_of(every) {
            self.sample();
        }
    }

    /// Everybody announces whose time it is.
    fn announce(&mut self) {
        let is_asked =
            |number: &usize| self.nodes[*number].is_some() && !self.shunned.contains(number);
        let nodes: Vec<usize> = (0..self.nodes.len()).filter(is_asked).collect();
        let mut questions: Vec<Vec<Question>> = vec![Vec::new(); self.nodes.len()];
        while let Some(act) = self.population.act(self.now, &nodes, &mut self.rng) {
            let session = &mut self.population.sessions[act.session as usize];
            // Who leaves may have to say so to another node than before.
            if !nodes.contains(&session.node) {
                session.node = nodes[self.rng.usize(..nodes.len())];
            }
            let started = self.nodes[session.node].as_ref().map(|it| it.started);
            let age = self.settings.intervals.age;
            session.is_told(self.now, (started.expect("it runs"), age));
            questions[session.node].push(act.question);
        }
        for (number, questions) in questions.into_iter().enumerate() {
            if !questions.is_empty() {
                let now = self.now;
                self.node(number).ask(now, questions);
            }
        }
    }

    fn sample(&mut self) {
        for number in 0..self.nodes.len() {
            if self.nodes[number].is_some() {
                let figures = self.compare(number, 0);
                self.figures += figures;
            }
        }
        self.figures.samples += 1;
    }

    /// Compares what a node knows with what there is. Who has come, changed or gone within the last
    /// `grace` microseconds is left out.
    pub(crate) fn compare(&mut self, number: usize, grace: u64) -> Figures {
        self.compare_among(number, grace, &|_| true)
    }

    /// The same, for some peers.
    pub(crate) fn compare_among(&mut self, number: usize, grace: u64, among: Among<'_>) -> Figures {
        let now = self.now;
        let mut figures = Figures::default();
        for torrent in 0..self.population.torrents.len() {
            self.population.prune(torrent, now);
            let known = self.look(number, torrent);
            let model = (&self.population, torrent, among);
            self.seen
                .compare(model, &known, (number, now, grace), &mut figures);
        }
        figures
    }

    pub(crate) fn look(&mut self, number: usize, torrent: usize) -> Vec<Known> {
        let now = self.now;
        let torrent = info_hash(u32::try_from(torrent).unwrap());
        self.node(number).look(now, torrent).known
    }

    /// Lets time pass until each of these nodes knows everybody, or for so many seconds. Returns
    /// how long that took each, in seconds.
    pub(crate) fn until_complete(&mut self, nodes: &[usize], seconds_max: u64) -> Vec<Option<f64>> {
        self.until(nodes, seconds_max, &|figures| figures.missing == 0)
    }

    /// The same, until it knows of nobody who has left, too.
    pub(crate) fn until_equal(&mut self, nodes: &[usize], seconds_max: u64) -> Vec<Option<f64>> {
        self.until(nodes, seconds_max, &|figures| {
            figures.missing + figures.left == 0
        })
    }

    fn until(
        &mut self,
        nodes: &[usize],
        seconds_max: u64,
        is_reached: &dyn Fn(&Figures) -> bool,
    ) -> Vec<Option<f64>> {
        let begun = self.now;
        let mut took = vec![None; nodes.len()];
        loop {
            for (took, number) in took.iter_mut().zip(nodes) {
                if took.is_none() && is_reached(&self.compare(*number, 2 * SECOND)) {
                    *took = Some(Figures::seconds(self.now - begun));
                }
            }
            let is_over = self.now >= begun + seconds_max * SECOND;
            if is_over || took.iter().all(Option::is_some) {
                return took;
            }
            // As often as it matters.
            let until = self.now + (SECOND / 4).max((self.now - begun) / 64);
            while self.now < until {
                self.tick();
            }
        }
    }

    /// Records that all nodes together have published.
    pub(crate) fn published(&self) -> u64 {
        let nodes = self.nodes.iter().flatten();
        nodes
            .flat_map(|node| &node.counters.published)
            .map(aquatic_daemon::counter::Counter::get)
            .sum()
    }

    /// Records that a node has taken in.
    pub(crate) fn taken(&self, number: usize, outcome: Taken) -> u64 {
        Counters::of(&self.counters(number).taken, outcome).get()
    }
}
