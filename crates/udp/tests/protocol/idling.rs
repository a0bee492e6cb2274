//! What a tracker costs that nobody asks.

use std::fs;

use aquatic_test_support::wait::until;
use aquatic_test_support::{Daemon, Setup};

use super::setup::{SIMPLE, backends};

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
            runtime: backend,
            ..SIMPLE
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
