//! A load that lasts, and what it takes: the runs of which `cost` and `growth` are made.

use crate::cluster::load::{Counts, Demand, Load};
use crate::cluster::node::Node;
use crate::cluster::{Context, Server, per_second, to_f64, wait};
use crate::trackers::Protocol;

/// A sender that has not sent this share of what was asked for did not have the time.
const SENT_MIN: f64 = 0.9;

/// A load on each node of some.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steady {
    pub(crate) nodes: u8,
    /// Announces per second at each node.
    pub(crate) rate: u32,
    /// Seconds after which each peer announces again, and within which it is published again.
    pub(crate) interval: u32,
    pub(crate) refresh: u32,
    /// Every announce is of a peer that was not there before.
    pub(crate) is_new: bool,
    /// A node by itself knows the peers of all nodes, as one of a cluster does.
    pub(crate) knows_all: bool,
    /// For how long it is measured. That becomes a multiple of the refresh interval.
    pub(crate) seconds: u32,
}

/// What one run has come to, all nodes together. The CPU time is that of nodes only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) micros_per_answer: f64,
    /// Of the server that nodes reach each other by.
    pub(crate) server_micros: f64,
    /// Records that were published, and received, per answer.
    pub(crate) published: f64,
    pub(crate) received: f64,
    /// Peers in an answer.
    pub(crate) peers: f64,
    /// Peers that each node knows at the end.
    pub(crate) known: f64,
    /// Per second, at each node.
    pub(crate) sent: f64,
    pub(crate) answered: f64,
    /// Answers that did not come, from the first request to the last.
    pub(crate) lost: f64,
}

/// What has been counted at some time.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    cpu_micros: u64,
    server_micros: u64,
    load: Counts,
    published: f64,
    received: f64,
}

impl Steady {
    /// Measures once.
    ///
    /// # Errors
    /// If it cannot be measured, or not under this load.
    pub(crate) fn measure(self, context: &Context<'_>, is_in_cluster: bool) -> anyhow::Result<Run> {
        let run = self.try_measure(context, is_in_cluster)?;
        anyhow::ensure!(
            self.was_sent(&run),
            "the load falls behind: {:.0} of {} announces per second were sent to each node: ask \
             for a lower rate",
            run.sent,
            self.rate
        );
        Ok(run)
    }

    fn was_sent(&self, run: &Run) -> bool {
        run.sent >= SENT_MIN * f64::from(self.rate)
    }

    /// Whether this load is sent, and all of it is answered, by nodes of a cluster.
    ///
    /// # Errors
    /// If that cannot be measured.
    pub(crate) fn is_answered(self, context: &Context<'_>) -> anyhow::Result<bool> {
        let run = self.try_measure(context, true)?;
        Ok(self.was_sent(&run) && run.lost <= 0.0)
    }

    fn try_measure(self, context: &Context<'_>, is_in_cluster: bool) -> anyhow::Result<Run> {
        let place = context.place()?;
        let server = is_in_cluster.then(|| place.server(context)).transpose()?;
        let mut setup = context.setup(Protocol::Udp)?;
        setup.server = server.as_ref().map(Server::url);
        setup.refresh_interval = self.refresh;
        let count = usize::from(self.nodes);
        let nodes = setup.start_all(place.folder(), count, context.interrupt)?;
        let peers = self.rate.saturating_mul(self.interval);
        let demand = Demand {
            rate: self.rate,
            peers: 0..if self.is_new { u32::MAX } else { peers },
        };
        if self.knows_all && !is_in_cluster {
            Load::tell_of_others(&nodes, &demand, context.interrupt)?;
        }
        let load = Load::start(&nodes, demand)?;
        // All peers are there when each has announced once.
        load.wait_until_sent(peers, context.interrupt)?;
        let before = Counted::all(&nodes, &load, server.as_ref())?;
        let time = wait(self.seconds.next_multiple_of(self.refresh), context)?;
        let after = Counted::all(&nodes, &load, server.as_ref())?;
        let known = nodes.iter().map(Node::peers);
        let known = known.sum::<anyhow::Result<f64>>()? / f64::from(self.nodes);
        let lost = to_f64(load.end()?.lost());
        let answered = after.load.answered - before.load.answered;
        anyhow::ensure!(answered > 0, "nobody was answered");
        let per_answer = |value: f64| value / to_f64(answered);
        let at_each = |count| per_second(count, time) / f64::from(self.nodes);
        Ok(Run {
            micros_per_answer: per_answer(to_f64(after.cpu_micros - before.cpu_micros)),
            server_micros: per_answer(to_f64(after.server_micros - before.server_micros)),
            published: per_answer(after.published - before.published),
            received: per_answer(after.received - before.received),
            peers: per_answer(to_f64(after.load.peers - before.load.peers)),
            known,
            sent: at_each(after.load.sent - before.load.sent),
            answered: at_each(answered),
            lost,
        })
    }
}

impl Counted {
    fn all(nodes: &[Node], load: &Load, server: Option<&Server>) -> anyhow::Result<Self> {
        let mut counted = Self {
            load: load.counts(),
            ..Self::default()
        };
        // All CPU times at one time, and then the rest: to tell metrics takes a moment.
        for node in nodes {
            counted.cpu_micros += node.usage()?.cpu_micros();
        }
        if let Some(server) = server {
            counted.server_micros = server.usage()?.cpu_micros();
        }
        for node in nodes.iter().filter(|node| node.is_in_cluster()) {
            let metrics = node.metrics()?;
            counted.published += metrics.require("aquatic_cluster_records_published_total")?;
            counted.received += metrics.require("aquatic_cluster_records_received_total")?;
        }
        Ok(counted)
    }
}
