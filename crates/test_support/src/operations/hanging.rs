//! Threads that hang are noticed, with systemd and without; a process that stands still is not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aquatic_types::IpFamily;
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

use crate::setup::on_each;
use crate::threads::{Argument, Frozen};
use crate::wait::{until, until_ok};
use crate::{Daemon, Place, Program, Setup, torrent};

/// Longer than a machine stands still.
const SETTINGS: &str = "hang_timeout = 8\n";

/// Besides the main thread.
const THREADS: [&str; 9] = [
    "loader",
    "log",
    "socket-0",
    "swarm-0",
    "limits",
    "statistics",
    "metrics",
    "actions",
    "figures",
];

/// A tracker that has them all.
fn start_with_all_threads(program: &'static Program) -> Daemon {
    let setup = Setup {
        swarm_workers: 1,
        ..Setup::simple(program)
    };
    let place = Place::new();
    let metrics = place.metrics_settings(program);
    let settings = format!("{SETTINGS}{metrics}{}", program.more_threads_settings);
    place.start(setup, &settings)
}

/// One that ends without a word, so that nothing is left to tell of it.
#[cfg(target_arch = "x86_64")]
pub fn a_thread_that_vanishes_ends_it_with_its_name(program: &'static Program) {
    let threads: Vec<_> = THREADS
        .iter()
        .chain(program.more_threads)
        .copied()
        .collect();
    on_each(&threads, |name| {
        let mut daemon = start_with_all_threads(program);
        let thread = Frozen::at_rest(&daemon, name);
        let result = thread.call(libc::SYS_exit, &[Argument::Number(0)]);
        assert_eq!(result, None, "nobody comes back from there");
        assert_eq!(daemon.wait_exit().code(), Some(1));
        wait_for_reason(&daemon, "worker ", name);
    });
}

/// It is named, after these words, as one that hangs; together with those that wait for what it
/// has, if it has not only waited for something itself.
fn wait_for_reason(daemon: &Daemon, before: &str, name: &str) {
    let names_it = |line: &str| {
        let (line, _) = line.split_once(" hangs: no sign of life for 8s")?;
        let (_, names) = line.split_once(before)?;
        names.split(", ").find(|it| *it == name).map(drop)
    };
    until_ok(|| {
        let log = daemon.place.log();
        let found = log.lines().find_map(names_it);
        found.ok_or_else(|| format!("{name} is not named as one that hangs: {log}"))
    });
}

/// Every thread that there is, but for the watchdog: that is what systemd looks after.
pub fn a_thread_that_hangs_ends_it_with_its_name(program: &'static Program) {
    let others = THREADS.iter().chain(program.more_threads);
    let threads: Vec<_> = ["main"].iter().chain(others).copied().collect();
    on_each(&threads, |name| {
        let mut daemon = start_with_all_threads(program);
        // Are there others?
        assert_eq!(
            daemon.threads().len(),
            threads.len() + 1,
            "and the watchdog"
        );
        let thread = Frozen::at_rest(&daemon, name);
        let end = thread.bury();
        if name == "main" {
            assert!(matches!(end, WaitStatus::Exited(_, 1)), "{end:?}");
        } else {
            assert_eq!(daemon.wait_exit().code(), Some(1));
        }
        // Past the log, if it is that which hangs: only the main thread cannot say it then.
        let before = match name {
            "main" => "worker ",
            _ => "ends: worker ",
        };
        wait_for_reason(&daemon, before, name);
    });
}

/// Waits until systemd has heard of life so many times more.
fn wait_for_signs(daemon: &Daemon, count: usize) {
    let mut signs = 0;
    until("signs of life", || {
        let told = daemon.place.notifications().into_iter();
        signs += told.filter(|message| message == "WATCHDOG=1").count();
        (signs >= count).then_some(())
    });
}

/// systemd hears of life four times in each `WatchdogSec`, and nothing from when a thread
/// has been silent for two seconds, so that it can end what could not end itself.
pub fn systemd_hears_of_life_only_while_all_threads_live(program: &'static Program) {
    let place = Place::new();
    let mut command = place.command(Setup::simple(program), "hang_timeout = 6");
    command.env("WATCHDOG_USEC", "400000");
    let mut daemon = place.start_by(&mut command);
    wait_for_signs(&daemon, 8);
    let has_ended = AtomicBool::new(false);
    let signs = thread::scope(|scope| {
        let silent = Frozen::at_rest(&daemon, "socket-0");
        let place = &daemon.place;
        drop(place.notifications());
        // Nobody may have to wait for room to tell.
        let listener = scope.spawn(|| {
            let mut signs = 0;
            until("its end", || {
                let ends = has_ended.load(Ordering::Acquire);
                let told = place.notifications().into_iter();
                signs += told.filter(|message| message == "WATCHDOG=1").count();
                ends.then_some(signs)
            })
        });
        let _ = silent.bury();
        has_ended.store(true, Ordering::Release);
        listener.join().unwrap()
    });
    assert_eq!(daemon.wait_exit().code(), Some(1));
    // Ten per second, or fewer where others took its time.
    assert!(signs <= 25, "{signs}");
}

/// A stopped job, a suspended machine: no thread is to blame. systemd is told of life all the time.
pub fn a_process_that_stood_still_goes_on(program: &'static Program) {
    let place = Place::new();
    let setup = Setup::simple(program);
    let mut command = place.command(setup, SETTINGS);
    command.env("WATCHDOG_USEC", "10000000");
    let mut daemon = place.start_by(&mut command);
    wait_for_signs(&daemon, 1);
    daemon.signal(Signal::SIGSTOP);
    // What is shown is that time which has passed does not count.
    thread::sleep(Duration::from_millis(8_500));
    drop(daemon.place.notifications());
    daemon.signal(Signal::SIGCONT);
    wait_for_signs(&daemon, 10);
    daemon.assert_running();
    let mut client = program.client_of(&daemon, IpFamily::V4);
    assert_eq!(client.join(torrent(1), 1), Ok(1));
}
