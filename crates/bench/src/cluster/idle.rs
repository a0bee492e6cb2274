//! What a node costs that has nothing to do.

use crate::cluster::table::Column;
use crate::cluster::{Context, Table, to_f64, wait};
use crate::order::there_and_back;
use crate::statistics::Spread;
use crate::trackers::Protocol;

/// What a start costs is not looked at.
const SETTLE_SECONDS: u32 = 3;

/// How to measure it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// idle: for how long a node is looked at.
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub idle_seconds: u32,
    /// idle: pairs of a node in a cluster and one by itself.
    #[arg(long, value_name = "PAIRS", default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub idle_pairs: u32,
}

/// What a node has used.
#[derive(Clone, Copy, Debug)]
struct Used {
    percent: f64,
    mebibytes: f64,
}

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        let mut used: [Vec<Used>; 2] = Default::default();
        for turn in there_and_back(2, self.idle_pairs) {
            let measured = self.measure(context, turn.contender == 0)?;
            if let Some(used) = used.get_mut(turn.contender) {
                used.push(measured);
            }
        }
        let [on, off] = used;
        let mut table = Table::new("idle");
        let kinds: [Column<Used>; 2] = [
            ("CPU time", "% of a core", |used| used.percent),
            ("resident memory", "MiB", |used| used.mebibytes),
        ];
        for (what, unit, value) in kinds {
            let median = |used: &[Used]| Spread::of(used.iter().map(value));
            let (Some(on), Some(off)) = (median(&on), median(&off)) else {
                continue;
            };
            let (on, off) = (on.median, off.median);
            table.add(format!("in a cluster of two: {what}"), unit, on);
            table.add(format!("by itself: {what}"), unit, off);
            table.add(format!("{what}, more in a cluster"), unit, on - off);
        }
        Ok(table)
    }

    fn measure(&self, context: &Context<'_>, is_in_cluster: bool) -> anyhow::Result<Used> {
        let place = context.place()?;
        let server = is_in_cluster.then(|| place.server(context)).transpose()?;
        let mut setup = context.setup(Protocol::Udp)?;
        setup.server = server.as_ref().map(super::Server::url);
        let count = if is_in_cluster { 2 } else { 1 };
        let nodes = setup.start_all(place.folder(), count, context.interrupt)?;
        wait(SETTLE_SECONDS.min(self.idle_seconds), context)?;
        let [node, ..] = nodes.as_slice() else {
            anyhow::bail!("there is no node");
        };
        let before = node.usage()?;
        let seconds = wait(self.idle_seconds, context)?.as_secs_f64();
        let used = node.usage()?.since(&before);
        let micros = to_f64(used.cpu_micros());
        Ok(Used {
            percent: micros / seconds / 1e6 * 100.0,
            mebibytes: to_f64(used.resident_bytes) / super::MEBIBYTE,
        })
    }
}
