//! One flood beside honest clients, from start to end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use aquatic_daemon::clock::Clock;

use crate::catalogue::{self, Attack, Flood, Protocol};
use crate::connections::Done;
use crate::observer::TrackerProcess;
use crate::report::Report;
use crate::{honest, local, observer, signals};

/// What is attacked, and for how long: as the command line says.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// What the tracker speaks.
    pub protocol: Protocol,
    /// Name of the flood, as `list` prints it.
    pub flood: String,
    /// Where the tracker listens: at an IPv4 loopback address.
    #[arg(long)]
    pub tracker: SocketAddr,
    #[command(flatten)]
    #[expect(missing_docs, reason = "would be the help of the command")]
    pub process: TrackerProcess,
    /// How long it takes.
    #[arg(long, default_value_t = 10)]
    pub seconds: u32,
    /// Datagrams, messages or connections per second, instead of the flood's own rate.
    #[arg(long)]
    pub rate: Option<u64>,
    /// The most memory that the tracker is to take, in MiB; 0 = any.
    #[arg(long, default_value_t = 0)]
    pub memory_max: u64,
}

/// A flood that can begin at once. Says in words what it has done until it was told to stop.
type Prepared<'a> = Box<dyn FnOnce(&AtomicBool) -> anyhow::Result<String> + Send + 'a>;

impl Plan {
    /// Runs it.
    ///
    /// # Errors
    /// If there is no such flood, the tracker is not there or not at a loopback address, or files
    /// or threads run out.
    pub fn run(&self) -> anyhow::Result<Report> {
        let flood = catalogue::find(self.protocol, &self.flood).with_context(|| {
            let name = &self.flood;
            format!("there is no flood {name:?}: see `aquatic_flood_test list`")
        })?;
        local::require_loopback(self.tracker)?;
        let stop = Arc::new(AtomicBool::new(false));
        let attack = self.prepare(&flood)?;
        let seconds = self.seconds.max(flood.seconds_min);
        let (served, done, observed) = thread::scope(|scope| {
            let attack = scope.spawn(|| attack(&stop));
            let watch = scope.spawn(|| observer::watch(&self.process, self.tracker, &stop));
            let served = honest::run(self.protocol, self.tracker, flood.is_tls, seconds, &stop);
            stop.store(true, Ordering::Relaxed);
            (served, attack.join(), watch.join())
        });
        Ok(Report {
            flood,
            done: done.map_err(|_| anyhow!("the attacker has panicked"))??,
            served: served?,
            observed: observed.map_err(|_| anyhow!("the observer has panicked"))??,
            memory_mib_max: self.memory_max,
        })
    }

    fn prepare(&self, flood: &Flood) -> anyhow::Result<Prepared<'_>> {
        Ok(match flood.attack {
            Attack::Nothing => Box::new(|_| Ok("nothing".to_owned())),
            Attack::Datagrams(flood) => {
                let rate = self.rate.unwrap_or(flood.rate);
                let attackers = flood.prepare(self.tracker)?;
                Box::new(move |stop| {
                    let clock = Clock::start();
                    let sent = attackers.run(rate, stop);
                    let elapsed = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
                    Ok(format!("{} datagrams/s", sent * 1_000 / elapsed.max(1)))
                })
            }
            Attack::Connections(flood) => Box::new(move |stop| {
                let done = flood.run(self.tracker, self.rate, stop)?;
                Ok(in_words(done))
            }),
            Attack::Reloads(rate) => Box::new(move |stop| {
                let rate = self.rate.unwrap_or(rate);
                let sent = signals::reload(self.process.pid()?, rate, stop);
                Ok(format!("{sent} signals"))
            }),
            Attack::Kill => Box::new(move |stop| {
                let middle = Duration::from_secs(self.seconds.into()) / 2;
                let sent = signals::kill_after(self.process.pid()?, middle, stop);
                Ok(format!("{sent} SIGKILL"))
            }),
        })
    }
}

fn in_words(done: Done) -> String {
    let Done {
        opened,
        closed,
        sent,
        held,
    } = done;
    let messages = match sent {
        0 => String::new(),
        _ => format!(", {sent} messages"),
    };
    format!("{opened} connections, {closed} closed by the tracker, {held} at the end{messages}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_not_attacked() {
        let plan = Plan {
            protocol: Protocol::Udp,
            flood: "none".to_owned(),
            tracker: "192.0.2.1:3000".parse().unwrap(),
            process: TrackerProcess {
                pid_file: "/nowhere".into(),
            },
            seconds: 1,
            rate: None,
            memory_max: 0,
        };
        let error = plan.run().unwrap_err().to_string();
        assert!(error.contains("not for other machines"), "{error}");
    }
}
