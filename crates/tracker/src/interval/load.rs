//! The load of the process, from what is counted anyway, and the control of intervals by it.

use std::thread;
use std::time::Duration;

use aquatic_daemon::counter::Label as _;
use aquatic_daemon::process::cpu_time;
use aquatic_types::IpFamily;

use super::{Clients, Controller, Observation, Stretch};
use crate::launch::Counted;
use crate::metrics::approximate;
use crate::metrics::counters::Protocol;

/// Reasons for which requests are lost when there is too little time.
const LOST: [&str; 2] = ["receive_buffer_full", "queue_full"];

/// The responses to announces are called so in every protocol.
const ANNOUNCE: &str = "announce";

/// Counts of a protocol's workers since the start.
#[derive(Clone, Copy, Default)]
struct Counts {
    announces: u64,
    responses: u64,
    lost: u64,
}

/// Counts the responses of a protocol's workers, and the requests that they have lost.
pub(crate) struct LoadSource {
    protocol: &'static str,
    count: Box<dyn Fn() -> Counts + Send>,
}

impl LoadSource {
    pub(crate) fn of<P: Protocol>(counted: &Counted<P>) -> Self {
        let workers = counted.workers.clone();
        let count = move || {
            let mut counts = Counts::default();
            let families = |worker| IpFamily::ALL.map(|family| (worker, family));
            for (worker, family) in workers.iter().flat_map(families) {
                let traffic = worker.traffic(family);
                for kind in P::Response::ALL {
                    let responses = traffic.responses(*kind).get();
                    counts.responses += responses;
                    counts.announces += responses * u64::from(kind.label() == ANNOUNCE);
                }
                for reason in P::Reason::ALL {
                    let lost = traffic.reason(*reason).get();
                    counts.lost += lost * u64::from(LOST.contains(&reason.label()));
                }
            }
            counts
        };
        Self {
            protocol: P::NAME,
            count: Box::new(count),
        }
    }
}

/// What is called about once a second, with the time since any beginning, to control `stretch`.
/// `threads` is how many workers there are.
pub(crate) fn control(
    stretch: Stretch,
    threads: usize,
    sources: Vec<LoadSource>,
) -> impl FnMut(Duration) + Send {
    control_by(stretch, threads, sources, || {
        cpu_time().unwrap_or_default().as_secs_f64()
    })
}

/// The same; `cpu_seconds` tells the CPU time of the process.
fn control_by(
    stretch: Stretch,
    threads: usize,
    sources: Vec<LoadSource>,
    cpu_seconds: impl Fn() -> f64 + Send,
) -> impl FnMut(Duration) + Send {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let threads = u32::try_from(threads.min(cpus).max(1)).unwrap_or(u32::MAX);
    let mut controller = Controller::default();
    let mut before: Option<Seen> = None;
    move |now| {
        let bounds = stretch.bounds();
        if bounds.iter().all(|(_, it)| it.factor_max() <= 1.0) {
            stretch.set(1.0);
            controller = Controller::default();
            before = None;
            return;
        }
        let seen = Seen::now(now, cpu_seconds(), &sources);
        let Some(previous) = before.replace(seen.clone()) else {
            return;
        };
        let seconds = now.saturating_sub(previous.now).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let since = |count: fn(&Counts) -> u64| {
            let sum = |seen: &Seen| seen.counts.iter().map(|(_, it)| count(it)).sum::<u64>();
            approximate(sum(&seen).saturating_sub(sum(&previous)))
        };
        let (responses, lost) = (since(|it| it.responses), since(|it| it.lost));
        let clients = bounds.iter().filter(|(_, it)| it.factor_max() > 1.0);
        let clients: Vec<_> = clients
            .map(|(protocol, bounds)| {
                let announces = |seen: &Seen| seen.announces(protocol);
                Clients {
                    base_seconds: bounds.base_seconds_average(),
                    factor_max: bounds.factor_max(),
                    announces: approximate(announces(&seen).saturating_sub(announces(&previous))),
                }
            })
            .collect();
        let busy = (seen.cpu_seconds - previous.cpu_seconds) / (seconds * f64::from(threads));
        stretch.set(controller.step(Observation {
            seconds,
            busy_share: busy,
            lost_share: lost / (responses + lost).max(1.0),
            clients: &clients,
        }));
    }
}

/// Counts at a moment.
#[derive(Clone)]
struct Seen {
    now: Duration,
    cpu_seconds: f64,
    /// By protocol.
    counts: Vec<(&'static str, Counts)>,
}

impl Seen {
    fn now(now: Duration, cpu_seconds: f64, sources: &[LoadSource]) -> Self {
        let counts = sources.iter().map(|it| (it.protocol, (it.count)()));
        Self {
            now,
            cpu_seconds,
            counts: counts.collect(),
        }
    }

    fn announces(&self, protocol: &str) -> u64 {
        let of_protocol = self.counts.iter().filter(|(name, _)| *name == protocol);
        of_protocol.map(|(_, counts)| counts.announces).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::interval::{AnnounceIntervals, IntervalConfig};

    /// What clients are told after an interval, in seconds.
    fn told(max: u32, busy_share: f64, lost_per_answer: u64) -> u32 {
        let config = IntervalConfig {
            announce_interval_max: max,
            ..IntervalConfig::default()
        };
        let stretch = Stretch::default();
        let mut intervals = AnnounceIntervals::new("udp", 900, &config, &stretch, 0);
        let second = Arc::new(AtomicU32::new(0));
        let (of_source, of_clock) = (Arc::clone(&second), Arc::clone(&second));
        let count = move || {
            let responses = 100 * u64::from(of_source.load(Ordering::Relaxed));
            Counts {
                announces: responses,
                responses,
                lost: responses * lost_per_answer,
            }
        };
        let source = LoadSource {
            protocol: "udp",
            count: Box::new(count),
        };
        let cpu_seconds = move || busy_share * f64::from(of_clock.load(Ordering::Relaxed));
        let mut look = control_by(stretch, 1, vec![source], cpu_seconds);
        for now in 0..900 {
            second.store(now, Ordering::Relaxed);
            look(Duration::from_secs(now.into()));
        }
        intervals.refresh();
        intervals.present()
    }

    #[test]
    fn busy_workers_lengthen_what_clients_are_told_if_that_is_allowed() {
        assert_eq!(told(0, 1.0, 9), 900);
        assert_eq!(told(3_600, 0.5, 0), 900);
        let of_busy = told(3_600, 1.0, 0);
        assert!((1_250..1_300).contains(&of_busy), "{of_busy}");
        // Requests are lost, so there is no time left, however busy the workers seem.
        let of_lost = told(3_600, 0.5, 1);
        assert!((1_250..1_300).contains(&of_lost), "{of_lost}");
        assert_eq!(told(1_000, 1.0, 1), 1_000);
    }
}
