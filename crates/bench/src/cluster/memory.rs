//! What a node of a cluster takes in memory beside its peers, and for each of them.

use crate::cluster::fill::{fill, whole};
use crate::cluster::node::Node;
use crate::cluster::{Context, MEBIBYTE, Table, to_f64, wait};
use crate::order::there_and_back;
use crate::statistics::Spread;
use crate::trackers::Protocol;

/// The larger number of peers, in terms of the smaller one. Tables double when they are full: they
/// are as full with either.
const TIMES: u32 = 4;

/// What was used on the way to be published is given back when memory has not changed for so long,
/// or never: what was published in the last five seconds is kept, to be published again if the log
/// has lost something.
const SETTLE_SECONDS: u32 = 7;
const SETTLE_TRIES: u32 = 10;

/// How to measure it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// memory: peers of a node. The second time they are four times as many.
    #[arg(long, value_name = "PEERS", default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u32).range(10..=1_000_000_000))]
    pub memory_peers: u32,
    /// memory: how often it is measured.
    #[arg(long, value_name = "ROUNDS", default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub memory_rounds: u32,
}

/// A node, and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Alone,
    /// In a cluster, and clients announce to it.
    Asked,
    /// In a cluster, and it hears of all peers from the other one.
    Told,
}

/// Resident bytes with fewer peers and with more.
#[derive(Clone, Debug, Default)]
struct Sizes([Vec<f64>; 2]);

impl Kind {
    const ALL: [Self; 3] = [Self::Alone, Self::Asked, Self::Told];

    fn name(self) -> &'static str {
        match self {
            Self::Alone => "by itself",
            Self::Asked => "in a cluster, asked by clients",
            Self::Told => "in a cluster, told by another node",
        }
    }
}

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        let mut sizes: [Sizes; 3] = Default::default();
        for turn in there_and_back(4, self.memory_rounds) {
            // Those with as many peers are neighbours in time.
            let (is_more, is_in_cluster) = (turn.contender / 2, turn.contender % 2 == 1);
            let peers = match is_more {
                0 => self.memory_peers,
                _ => self.memory_peers.saturating_mul(TIMES),
            };
            let measured = match is_in_cluster {
                true => measure(context, peers, &[Kind::Asked, Kind::Told])?,
                false => measure(context, peers, &[Kind::Alone])?,
            };
            for (kind, bytes) in measured {
                let of_kind = Kind::ALL.iter().position(|it| *it == kind);
                let of_kind = of_kind.and_then(|place| sizes.get_mut(place));
                if let Some(sizes) = of_kind.and_then(|sizes| sizes.0.get_mut(is_more)) {
                    sizes.push(bytes);
                }
            }
        }
        let mut table = Table::new("memory");
        self.tell(&sizes, &mut table);
        Ok(table)
    }

    fn tell(&self, sizes: &[Sizes; 3], table: &mut Table) {
        let fewer = f64::from(whole(self.memory_peers));
        let more = f64::from(whole(self.memory_peers.saturating_mul(TIMES)));
        let mut alone = None;
        for (kind, Sizes([with_fewer, with_more])) in Kind::ALL.into_iter().zip(sizes) {
            let median = |sizes: &Vec<f64>| Spread::of(sizes.iter().copied());
            let (Some(first), Some(second)) = (median(with_fewer), median(with_more)) else {
                continue;
            };
            let name = kind.name();
            for (peers, spread) in [(fewer, first), (more, second)] {
                let name = format!("{name}: resident memory with {peers} peers");
                table.add(name, "MiB", spread.median / MEBIBYTE);
            }
            let (per_peer, fixed) = line((fewer, first.median), (more, second.median));
            table.add(format!("{name}: bytes per peer"), "bytes", per_peer);
            table.add(format!("{name}: beside peers"), "MiB", fixed / MEBIBYTE);
            let Some((per_peer_alone, fixed_alone)) = alone else {
                alone = Some((per_peer, fixed));
                continue;
            };
            let name = format!("{name}, more than by itself");
            table.add(
                format!("{name}: bytes per peer"),
                "bytes",
                per_peer - per_peer_alone,
            );
            table.add(
                format!("{name}: beside peers"),
                "MiB",
                (fixed - fixed_alone) / MEBIBYTE,
            );
        }
    }
}

/// What each peer adds, and what there is without any.
fn line((fewer, first): (f64, f64), (more, second): (f64, f64)) -> (f64, f64) {
    let per_peer = (second - first) / (more - fewer);
    (per_peer, first - per_peer * fewer)
}

/// Resident bytes of nodes that have this many peers.
fn measure(context: &Context<'_>, peers: u32, kinds: &[Kind]) -> anyhow::Result<Vec<(Kind, f64)>> {
    let place = context.place()?;
    let is_in_cluster = kinds.len() > 1;
    let server = is_in_cluster.then(|| place.server(context)).transpose()?;
    let mut setup = context.setup(Protocol::Udp)?;
    setup.server = server.as_ref().map(super::Server::url);
    let nodes = setup.start_all(place.folder(), kinds.len(), context.interrupt)?;
    if let Some(node) = nodes.first() {
        fill(context, &place, node, peers)?;
    }
    let knows_all = |node: &Node| {
        node.wait_until("it knows all peers", context.interrupt, |metrics| {
            metrics.sum("aquatic_peers") >= Some(whole(peers).into())
        })
    };
    nodes.iter().try_for_each(knows_all)?;
    let sizes = kinds.iter().copied().zip(settled(&nodes, context)?);
    Ok(sizes.collect())
}

/// Resident bytes, when they no longer change.
fn settled(nodes: &[Node], context: &Context<'_>) -> anyhow::Result<Vec<f64>> {
    let sizes = || {
        let sizes = nodes
            .iter()
            .map(|it| Ok(to_f64(it.usage()?.resident_bytes)));
        sizes.collect::<anyhow::Result<Vec<_>>>()
    };
    let mut last = sizes()?;
    for _ in 0..SETTLE_TRIES {
        wait(SETTLE_SECONDS, context)?;
        let now = sizes()?;
        let mut pairs = now.iter().zip(&last);
        if pairs.all(|(now, last)| (now - last).abs() < MEBIBYTE / 16.0) {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_takes_is_told_from_what_is_there_without() {
        let (per_peer, fixed) = line((1_000.0, 35_000.0), (4_000.0, 80_000.0));
        assert!((per_peer - 15.0).abs() < 1e-9, "{per_peer}");
        assert!((fixed - 20_000.0).abs() < 1e-9, "{fixed}");
    }
}
