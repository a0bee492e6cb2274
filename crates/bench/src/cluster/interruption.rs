//! Nodes that cannot reach each other for some time, and know everybody some time after: the runs
//! of which `outage` and `partition` are made.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use anyhow::bail;
use aquatic_daemon::clock::Clock;

use crate::cluster::answers::Answers;
use crate::cluster::cost::parse_refresh;
use crate::cluster::load::{Demand, Load};
use crate::cluster::node::{Node, wait_until_met};
use crate::cluster::proxy::Proxy;
use crate::cluster::server::Log;
use crate::cluster::{Context, MEBIBYTE, Server, to_f64};
use crate::trackers::Protocol;

pub(crate) const NODES: u32 = 2;

/// For how long nodes publish before, at most, so that something is on its way then.
const LEAD_SECONDS: u32 = 5;

/// Who does not know everybody so long after is told of.
pub(crate) const SOON_SECONDS: u32 = 10;

/// The default of `cluster.refresh_interval` over UDP.
const REFRESH_DEFAULT: u32 = 128;

/// Beyond a refresh interval and an announce interval: then a node will never know everybody.
const BEYOND_SECONDS: u32 = 60;

/// How often processes are looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// What is done to two nodes under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Nothing,
    /// The server is killed.
    Server,
    /// Nothing gets from the second node to the server any more, or back.
    Connection,
}

/// For how long, and under which load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interruption {
    /// Announces per second of new peers at each node. When it is over, the same announce again:
    /// so it stays clear how many there are.
    pub(crate) rate: u32,
    pub(crate) seconds: u32,
    /// Seconds (`cluster.refresh_interval`); 0: the default.
    pub(crate) refresh: u32,
    pub(crate) log: Log,
}

/// What has happened.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) answers: Answers,
    /// When requests were due before, during and after it, in milliseconds.
    pub(crate) before: Range<u32>,
    pub(crate) during: Range<u32>,
    pub(crate) after: Range<u32>,
    /// The most by which a node has grown.
    pub(crate) grown_mebibytes: f64,
    /// The most that has waited to be published at a node.
    pub(crate) buffered_mebibytes: f64,
    /// The most peers that a node did not know at its end, and [`SOON_SECONDS`] later.
    pub(crate) missing: f64,
    pub(crate) missing_soon: f64,
    /// From its end until all nodes knew everybody.
    pub(crate) seconds: f64,
    /// How often the log was read after it, by all nodes.
    pub(crate) replays: f64,
}

/// Two nodes with their server, and what has been seen of them.
struct Fixture<'a> {
    context: &'a Context<'a>,
    cut: Cut,
    nodes: Vec<Node>,
    // After the nodes: those are ended first.
    server: Server,
    proxy: Proxy,
    expected: f64,
    resident_before: Vec<u64>,
    replays_before: Vec<f64>,
    grown: u64,
    buffered: f64,
}

/// A node at some time.
struct Look {
    missing: f64,
    has_read_log: bool,
    replays: f64,
}

/// 0: the default.
pub(crate) fn parse_refresh_or_0(text: &str) -> Result<u32, String> {
    match text {
        "0" => Ok(0),
        other => parse_refresh(other),
    }
}

impl Interruption {
    fn lead(&self) -> u32 {
        LEAD_SECONDS.min(self.seconds)
    }

    /// Peers at each node.
    fn peers(&self) -> u32 {
        self.rate.saturating_mul(self.lead() + self.seconds)
    }

    /// For how long it may take until everybody is known by all.
    fn known_max(&self) -> u32 {
        let refresh = match self.refresh {
            0 => REFRESH_DEFAULT,
            seconds => seconds,
        };
        refresh + self.lead() + self.seconds + BEYOND_SECONDS
    }

    /// Does it once, to nodes that have just begun.
    ///
    /// # Errors
    /// If it cannot be done, or nodes never know everybody.
    pub(crate) fn run(&self, cut: Cut, context: &Context<'_>) -> anyhow::Result<Course> {
        let place = context.place()?;
        let server = place.server_with(self.log, context)?;
        let proxy = Proxy::start(server.address())?;
        let mut setup = context.setup(Protocol::Udp)?;
        setup.refresh_interval = self.refresh;
        let urls = [server.url(), format!("nats://{}", proxy.address)];
        let nodes = urls.into_iter().zip(0..NODES).map(|(url, number)| {
            setup.server = Some(url);
            let name = format!("node-{number}");
            setup.start(place.folder(), &name, context.interrupt)
        });
        let nodes = nodes.collect::<anyhow::Result<Vec<_>>>()?;
        wait_until_met(&nodes, self.log, context.interrupt)?;
        let expected = f64::from(NODES) * f64::from(self.peers());
        let mut fixture = Fixture::new(context, cut, nodes, server, proxy, expected)?;

        let demand = Demand {
            rate: self.rate,
            peers: 0..self.peers(),
        };
        let load = Load::start(&fixture.nodes, demand)?;
        load.wait_until_sent(self.rate * self.lead(), context.interrupt)?;
        let begun = load.millis();
        fixture.begin();
        while load.millis() < begun + self.seconds * 1_000 {
            fixture.look()?;
            thread::sleep(PAUSE);
        }
        load.wait_until_sent(self.peers(), context.interrupt)?;
        let ended = load.millis();
        let course = self.end(&mut fixture, &load)?;
        Ok(Course {
            before: 0..begun,
            during: begun..ended,
            after: ended..load.millis(),
            answers: load.end()?,
            ..course
        })
    }

    /// Ends it, and looks at nodes until all of them know everybody.
    fn end(&self, fixture: &mut Fixture<'_>, load: &Load) -> anyhow::Result<Course> {
        let missing = most_missing(&fixture.look()?);
        // Gauges are a second old, so some are always missing.
        let came = f64::from(self.rate) * f64::from(self.seconds);
        if fixture.cut != Cut::Nothing && missing < came / 2.0 {
            bail!("nodes have heard of each other in spite of the interruption: {missing} missing");
        }
        let (clock, ended) = (Clock::start(), load.millis());
        let passed = |seconds: u32| clock.elapsed() >= Duration::from_secs(seconds.into());
        fixture.finish()?;
        let (mut seconds, mut missing_soon) = (None, None);
        let looks = loop {
            let looks = fixture.look()?;
            let missing = most_missing(&looks);
            if seconds.is_none() && missing <= 0.0 && self.has_been_read(fixture, &looks) {
                seconds = Some(clock.elapsed().as_secs_f64());
            }
            if missing_soon.is_none() && (passed(SOON_SECONDS) || seconds.is_some()) {
                missing_soon = Some(missing);
            }
            // Answers are looked at for as long after it, whatever was done.
            let is_late = load.millis() >= ended + self.seconds.min(SOON_SECONDS) * 1_000;
            if seconds.is_some() && is_late {
                break looks;
            }
            if passed(self.known_max()) {
                let max = self.known_max();
                bail!("nodes lack {missing} peers {max} s after, or have not read the log");
            }
            thread::sleep(PAUSE);
        };
        let replays = looks.iter().map(|look| look.replays).sum();
        Ok(Course {
            answers: Answers::default(),
            before: 0..0,
            during: 0..0,
            after: 0..0,
            grown_mebibytes: to_f64(fixture.grown) / MEBIBYTE,
            buffered_mebibytes: fixture.buffered / MEBIBYTE,
            missing,
            missing_soon: missing_soon.unwrap_or(missing),
            seconds: seconds.unwrap_or_default(),
            replays,
        })
    }

    /// Whether those nodes that were cut off have read the log.
    fn has_been_read(&self, fixture: &Fixture<'_>, looks: &[Look]) -> bool {
        let mut looks = looks.iter();
        match (self.log, fixture.cut) {
            (Log::Absent, _) | (_, Cut::Nothing) => true,
            (Log::Kept, Cut::Server) => looks.all(|look| look.has_read_log),
            (Log::Kept, Cut::Connection) => looks.next_back().is_some_and(|it| it.has_read_log),
        }
    }
}

fn most_missing(looks: &[Look]) -> f64 {
    looks.iter().map(|look| look.missing).fold(0.0, f64::max)
}

impl<'a> Fixture<'a> {
    fn new(
        context: &'a Context<'a>,
        cut: Cut,
        nodes: Vec<Node>,
        server: Server,
        proxy: Proxy,
        expected: f64,
    ) -> anyhow::Result<Self> {
        let resident = nodes.iter().map(|node| Ok(node.usage()?.resident_bytes));
        let resident_before = resident.collect::<anyhow::Result<_>>()?;
        let replays = nodes.iter().map(|node| {
            let metrics = node.metrics()?;
            metrics.require("aquatic_cluster_replays_total")
        });
        let replays_before = replays.collect::<anyhow::Result<_>>()?;
        Ok(Self {
            context,
            cut,
            nodes,
            server,
            proxy,
            expected,
            resident_before,
            replays_before,
            grown: 0,
            buffered: 0.0,
        })
    }

    fn begin(&mut self) {
        match self.cut {
            Cut::Nothing => {}
            Cut::Server => self.server.kill(),
            Cut::Connection => self.proxy.cut(),
        }
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        match self.cut {
            Cut::Nothing => Ok(()),
            Cut::Server => self.server.go_on(self.context.interrupt),
            Cut::Connection => {
                self.proxy.heal();
                Ok(())
            }
        }
    }

    fn look(&mut self) -> anyhow::Result<Vec<Look>> {
        self.context.interrupt.check()?;
        let before = self.resident_before.iter().zip(&self.replays_before);
        let mut looks = Vec::new();
        for (node, (resident, replays)) in self.nodes.iter().zip(before) {
            let grown = node.usage()?.resident_bytes.saturating_sub(*resident);
            self.grown = self.grown.max(grown);
            let metrics = node.metrics()?;
            let buffered = metrics.require("aquatic_cluster_buffered_bytes")?;
            self.buffered = self.buffered.max(buffered);
            let replays = metrics.require("aquatic_cluster_replays_total")? - replays;
            let is_reading = metrics.require("aquatic_cluster_reading_log")? > 0.0;
            looks.push(Look {
                missing: self.expected - metrics.sum("aquatic_peers").unwrap_or(0.0),
                has_read_log: replays > 0.0 && !is_reading,
                replays,
            });
        }
        Ok(looks)
    }
}
