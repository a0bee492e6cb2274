//! Honest clients are answered in a flood.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aquatic_e2e::Family;
use aquatic_e2e::ask::announce_request;
use aquatic_e2e::host::Host;
use aquatic_e2e::lab::Lab;
use aquatic_e2e::wait;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::stage::{Place, Plan, Tracker, announce, connect_once, connected, until};

/// They share one CPU with the tracker, which has a small part of it: so it is silenced whatever
/// the machine can do, if all that they send comes to it.
const SENDERS: usize = 8;
const CPU: usize = 0;

/// What an honest client asks: connect, and announce with that.
const ASKED: u32 = 200;

/// Ticks of a process's clock in a second: `USER_HZ`, the same on all machines.
const TICKS_PER_SECOND: u32 = 100;

/// So long the flood goes on before anybody asks.
const FILLS: Duration = Duration::from_secs(1);

/// For all that is asked of a tracker that is silenced: who is not answered waits. Without a flood,
/// a fifth of this is enough.
const ASKING_MAX: Duration = Duration::from_secs(5);

/// The same of one that is not, on a machine that may be slow.
const ANSWERING_MAX: Duration = Duration::from_secs(30);

#[test]
fn a_flood_that_silences_a_tracker_leaves_honest_clients_answered() {
    for family in [Family::V4, Family::V6] {
        let Some(lab) = Lab::for_programs(2).unwrap() else {
            return;
        };
        // The filter in front of sockets does the same as the program, later, for more time.
        let network = "socket_filter = 'off'\n";
        let tracker = Plan::new(lab.hub(), family, network).start().unwrap();
        let (_, watched) = in_a_flood(&tracker, &lab, ASKING_MAX);
        let report = watched.report();
        eprintln!("without a program: {report}");
        assert!(watched.answered < ASKED / 2, "{report}");
        tracker.stop().unwrap();

        let network = format!(
            "{network}xdp = 'filter'\nxdp_interfaces = ['guest0', 'guest1']\n\
             xdp_errors_per_second = 100\n"
        );
        let tracker = Plan::new(lab.hub(), family, &network).start().unwrap();
        for guest in [lab.guest(0), lab.guest(1)] {
            tracker.wait_until_guarded(guest).unwrap();
        }
        let (sent, watched) = in_a_flood(&tracker, &lab, ANSWERING_MAX);
        let report = format!("{sent} sent, {}", watched.report());
        eprintln!("with it: {report}");
        assert_eq!(watched.asked, ASKED, "{report}");
        assert!(watched.answered >= ASKED * 95 / 100, "{report}");
        assert!(watched.cpu < watched.time / 20, "{report}");
        // The kernel of the sender's host may lose some. All that have come are counted as what
        // they are.
        until(&format!("they are counted: {report}"), || {
            let told = tracker.count("aquatic_refused_total{reason=connection_id}")?;
            let forged = tracker.count("aquatic_dropped_total{reason=forged_id}")?;
            let handled = tracker.count("aquatic_handled_in_kernel_total")?;
            Ok(told + forged <= handled && forged * 10.0 > sent * 9.0)
        })
        .unwrap();
        tracker.stop().unwrap();
    }
}

/// Returns how many were sent, and what became of an honest client meanwhile. The senders never
/// stop.
fn in_a_flood(tracker: &Tracker, lab: &Lab, asking_max: Duration) -> (f64, Watched) {
    for thread in fs::read_dir(format!("/proc/{}/task", tracker.process_id())).unwrap() {
        let id = thread.unwrap().file_name().to_string_lossy().parse();
        pin(Pid::from_raw(id.unwrap()));
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = || flood(tracker, lab.guest(0), &is_over);
        let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(flood)).collect();
        let watched = watch(tracker, lab.guest(1), asking_max);
        is_over.store(true, Ordering::Relaxed);
        let sent = senders.into_iter().map(|it| it.join().unwrap().unwrap());
        (sent.map(f64::from).sum(), watched.unwrap())
    })
}

/// To one CPU.
fn pin(thread: Pid) {
    let mut cpus = CpuSet::new();
    cpus.set(CPU).unwrap();
    sched_setaffinity(thread, &cpus).unwrap();
}

/// Returns how many were sent.
fn flood(tracker: &Place, guest: &Host, is_over: &AtomicBool) -> Result<u32> {
    pin(Pid::from_raw(0));
    let socket = connected(tracker, guest)?;
    // An id of nobody, and all else as it should be.
    let request = announce_request(fastrand::u64(..), 1, &announce(1));
    let mut sent = 0;
    while !is_over.load(Ordering::Relaxed) {
        sent += u32::from(socket.send(&request).is_ok());
    }
    Ok(sent)
}

struct Watched {
    asked: u32,
    answered: u32,
    cpu: Duration,
    time: Duration,
}

impl Watched {
    fn report(&self) -> String {
        let Self {
            asked,
            answered,
            cpu,
            time,
        } = self;
        format!("{answered} of {asked} answered, {cpu:?} of {time:?}")
    }
}

/// Asks as an honest client does, each request once, and looks how much time the tracker takes.
#[expect(
    clippy::disallowed_methods,
    reason = "CPU time is compared with the time of the world"
)]
fn watch(tracker: &Tracker, guest: &Host, asking_max: Duration) -> Result<Watched> {
    let client = tracker.client(guest)?;
    let (mut asked, mut answered) = (0, 0);
    let (start, cpu_before) = (Instant::now(), cpu_time(tracker.process_id())?);
    wait::hold(FILLS, || Ok(()))?;
    while asked < ASKED && start.elapsed() < FILLS + asking_max {
        asked += 1;
        let Some(id) = connect_once(&client)? else {
            continue;
        };
        let request = announce_request(id, asked, &announce(1));
        answered += u32::from(client.ask_once(&request)?.is_some());
    }
    Ok(Watched {
        asked,
        answered,
        cpu: cpu_time(tracker.process_id())? - cpu_before,
        time: start.elapsed(),
    })
}

/// What a process has used: proc_pid_stat(5).
fn cpu_time(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, behind_name) = stat.rsplit_once(')').context("no name")?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let mut ticks = || -> Result<u64> { Ok(fields.next().context("no such field")?.parse()?) };
    let (user, system) = (ticks()?, ticks()?);
    Ok(Duration::from_secs(user + system) / TICKS_PER_SECOND)
}
