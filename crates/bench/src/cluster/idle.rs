//! What a node costs that has nothing to do.

use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;

use crate::cluster::{Context, Table, to_f64};
use crate::trackers::Protocol;

/// What a start costs is not looked at.
const SETTLE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);

/// How to measure it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// idle: for how long a node is looked at.
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub idle_seconds: u32,
}

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        let mut table = Table::new("idle");
        for (name, is_in_cluster) in [("in a cluster of two", true), ("by itself", false)] {
            let place = context.place()?;
            let server = is_in_cluster.then(|| place.server(context)).transpose()?;
            let mut setup = context.setup(Protocol::Udp)?;
            setup.server = server.as_ref().map(super::Server::url);
            let count = if is_in_cluster { 2 } else { 1 };
            let nodes = setup.start_all(place.folder(), count, context.interrupt)?;
            thread::sleep(SETTLE);
            for node in nodes.iter().take(1) {
                let (clock, before) = (Clock::start(), node.usage()?);
                while clock.elapsed() < Duration::from_secs(self.idle_seconds.into()) {
                    context.interrupt.check()?;
                    thread::sleep(PAUSE);
                }
                let used = node.usage()?.since(&before);
                let micros = to_f64(used.user_micros + used.system_micros);
                let share = micros / clock.elapsed().as_secs_f64() / 1e6;
                table.add(format!("{name}: CPU time"), "% of a core", share * 100.0);
                let mebibytes = to_f64(used.resident_bytes) / super::MEBIBYTE;
                table.add(format!("{name}: resident memory"), "MiB", mebibytes);
            }
        }
        Ok(table)
    }
}
