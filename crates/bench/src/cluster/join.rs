//! How soon a node knows everybody that joins late, or comes back, and whether clients of another
//! node notice.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use aquatic_daemon::clock::Clock;
use jiff::Timestamp;

use crate::cluster::answers::Answers;
use crate::cluster::fill::{fill, whole};
use crate::cluster::load::{Demand, Load};
use crate::cluster::node::Node;
use crate::cluster::{Context, Table, per_second, to_f64, wait};
use crate::trackers::Protocol;

/// What a node logs.
const CONNECTED: &str = "connected to the NATS server";
const COMPLETE: &str = "the swarms of all nodes of the cluster are known";

/// How long a node may take, in seconds, before it serves in any case.
const COMPLETE_MAX: u32 = 600;

/// A node that says that it is complete has counted its peers by then.
const COUNTED_MAX: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// How to measure it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// join: peers that another node has. They are ten in each torrent.
    #[arg(long, value_name = "PEERS", default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u32).range(10..))]
    pub join_peers: u32,
    /// join: announces per second at that other node meanwhile.
    #[arg(long, value_name = "RATE", default_value_t = 5_000,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub join_rate: u32,
    /// join: for how long its answers are looked at before the node joins, and at least from then.
    #[arg(long, value_name = "SECONDS", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=600))]
    pub join_seconds: u32,
}

/// What a node knows that has become complete.
struct Completion {
    seconds: f64,
    peers: f64,
}

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        let place = context.place()?;
        let server = place.server(context)?;
        let mut setup = context.setup(Protocol::Udp)?;
        setup.server = Some(server.url());
        let (folder, interrupt) = (place.folder(), context.interrupt);
        let other = [setup.start(folder, "node-0", interrupt)?];
        let [full] = &other;
        fill(context, &place, full, self.join_peers)?;
        // These announce again and again, so that it stays clear how many there are.
        let demand = Demand {
            rate: self.join_rate,
            peers: 0..self.join_rate,
        };
        let load = Load::start(&other, demand)?;
        load.wait_until_sent(self.join_rate, interrupt)?;
        let expected = f64::from(whole(self.join_peers)) + f64::from(self.join_rate);

        let begun = load.millis();
        wait(self.join_seconds, context)?;
        let before = begun..load.millis();
        setup.complete_within = COMPLETE_MAX;
        let begun = load.millis();
        let node = setup.start(folder, "node-1", interrupt)?;
        let joined = Completion::of(&node, expected)?;
        let joining = self.until_looked_at(begun, &load, context)?;
        let begun = load.millis();
        let node = node.restart(folder, interrupt)?;
        let came_back = Completion::of(&node, expected)?;
        let coming_back = self.until_looked_at(begun, &load, context)?;
        let answers = load.end()?;

        let mut table = Table::new("join");
        joined.tell("joins", expected, &mut table);
        came_back.tell("is back after SIGKILL", expected, &mut table);
        let parts = [
            ("before", before),
            ("while it joins", joining),
            ("from SIGKILL on", coming_back),
        ];
        tell_answers(&answers, parts, &mut table)?;
        Ok(table)
    }

    fn until_looked_at(
        &self,
        begun: u32,
        load: &Load,
        context: &Context<'_>,
    ) -> anyhow::Result<Range<u32>> {
        while load.millis() < begun + self.join_seconds * 1_000 {
            context.interrupt.check()?;
            thread::sleep(PAUSE);
        }
        Ok(begun..load.millis())
    }
}

impl Completion {
    /// What a node knows that has just begun to serve.
    fn of(node: &Node, expected: f64) -> anyhow::Result<Self> {
        let seconds = seconds_until_complete(&node.log()?)?;
        let clock = Clock::start();
        let mut peers = node.counted_peers()?;
        while peers < Some(expected) && clock.elapsed() < COUNTED_MAX {
            thread::sleep(PAUSE);
            peers = node.counted_peers()?;
        }
        let peers = peers.context("a node has not counted its peers")?;
        Ok(Self { seconds, peers })
    }

    fn tell(&self, what: &str, expected: f64, table: &mut Table) {
        let name = format!("{what}: complete after its connection");
        table.add(name, "s", self.seconds);
        table.add(format!("{what}: peers that it has"), "peers", self.peers);
        let share = self.peers / expected * 100.0;
        table.add(format!("{what}: of those that there are"), "%", share);
    }
}

/// Those of the other node, by what happened to this one.
fn tell_answers(
    answers: &Answers,
    parts: [(&str, Range<u32>); 3],
    table: &mut Table,
) -> anyhow::Result<()> {
    let mut before = None;
    for (when, range) in parts {
        let millis = range.end - range.start;
        let part = answers.part(range);
        part.tell(&format!("another node, {when}"), table)?;
        let rate = per_second(part.answered(), Duration::from_millis(millis.into()));
        let name = format!("another node, {when}: answers per second");
        table.add(name, "1/s", rate);
        let slowest = part.quantile(0.999)?;
        match before {
            None => before = Some(slowest),
            Some(before) => {
                let name = format!("another node, {when}: p99.9 to that before");
                table.add(name, "", slowest / before);
            }
        }
    }
    let refused = to_f64(answers.refused);
    table.add("another node: refused", "answers", refused);
    Ok(())
}

/// From the first connection in a node's log until everybody is known.
fn seconds_until_complete(log: &str) -> anyhow::Result<f64> {
    let time = |what: &str| {
        let line = log.lines().find(|line| line.contains(what));
        let time = line.and_then(|line| line.split(' ').next()?.parse::<Timestamp>().ok());
        time.with_context(|| format!("a node has not logged {what:?}"))
    };
    let (connected, complete) = (time(CONNECTED)?, time(COMPLETE)?);
    Ok(complete.duration_since(connected).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_how_long_it_took() {
        let log = "2026-11-29T07:43:55.000Z INFO  [main] x: starts\n\
                   2026-11-29T07:43:56.971Z INFO  [c] x: connected to the NATS server N, v\n\
                   2026-11-29T07:43:58.221Z INFO  [c] x: the swarms of all nodes of the cluster \
                   are known\n";
        let seconds = seconds_until_complete(log).unwrap();
        assert!((seconds - 1.25).abs() < 1e-9, "{seconds}");
        let error = seconds_until_complete("nothing").unwrap_err().to_string();
        assert!(error.contains(CONNECTED), "{error}");
    }
}
