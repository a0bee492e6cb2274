//! What a tracker costs that nobody asks.

use std::fs;
use std::thread;
use std::time::Duration;

use aquatic_types::IpFamily;

use super::client::{Client, torrents};
use super::daemon::{Daemon, until};
use super::setup::{Setup, backends, on_every_setup};

/// CPU time of all threads, user and system.
fn cpu_time(daemon: &Daemon) -> Duration {
    let nanoseconds = |thread: std::path::PathBuf| -> u64 {
        let text = fs::read_to_string(thread.join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    Duration::from_nanos(daemon.threads().into_iter().map(nanoseconds).sum())
}

#[test]
fn an_idle_tracker_takes_less_than_half_a_percent_of_a_core() {
    const WINDOW: Duration = Duration::from_secs(3);
    on_every_setup(|setup| {
        let daemon = setup.start("statistics.print_to_stdout = true");
        // It has to find back to rest after some work.
        for family in IpFamily::ALL {
            let mut client = Client::new(&daemon, family);
            torrents().for_each(|info_hash| drop(client.join(info_hash, 1, 1)));
        }
        // The window of a measurement, not a wait for something to happen.
        let before = cpu_time(&daemon);
        thread::sleep(WINDOW);
        let used = cpu_time(&daemon).saturating_sub(before);
        assert!(used * 200 < WINDOW, "{used:?} of {WINDOW:?}");
    });
}

/// How often the worker has gone to sleep.
fn naps(daemon: &Daemon) -> u64 {
    // A thread takes its name when it has begun, which may be a moment after the start.
    let worker = until("there is a socket worker", || {
        daemon
            .threads()
            .into_iter()
            .find(|thread| fs::read_to_string(thread.join("comm")).unwrap() == "socket-0\n")
    });
    let status = fs::read_to_string(worker.join("status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn an_idle_worker_wakes_as_often_as_configured() {
    for backend in backends() {
        let setup = Setup {
            backend,
            ..Setup::SIMPLE
        };
        let busy = setup.start("network.poll_timeout_ms = 10");
        let lazy = setup.start("network.poll_timeout_ms = 1000");
        let (busy_before, lazy_before) = (naps(&busy), naps(&lazy));
        until("the short timeout has passed a hundred times", || {
            (naps(&busy) >= busy_before + 100).then_some(())
        });
        let lazy_naps = naps(&lazy) - lazy_before;
        assert!(lazy_naps <= 10, "{backend}: {lazy_naps} in the same time");
    }
}
