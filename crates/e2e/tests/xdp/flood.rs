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

use crate::stage::{Place, Plan, Tracker, announce, connect_once, connected, until};

const SENDERS: usize = 2;

/// What an honest client asks: connect, and announce with that.
const ASKED: u32 = 200;

/// Ticks of a process's clock in a second: `USER_HZ`, the same on all machines.
const TICKS_PER_SECOND: u32 = 100;

/// So long the flood goes on before anybody asks.
const FILLS: Duration = Duration::from_secs(1);

/// Two senders never stop. The tracker would be busy with what they send all the time, and so would
/// the queue of its socket.
#[test]
fn forged_ids_do_not_reach_the_tracker() {
    for family in [Family::V4, Family::V6] {
        let Some(lab) = Lab::for_programs(2).unwrap() else {
            return;
        };
        // The filter in front of sockets does the same later, for more time.
        let network = "xdp = 'filter'\nxdp_interfaces = ['guest0', 'guest1']\n\
                       xdp_errors_per_second = 100\nsocket_filter = 'off'\n";
        let tracker = Plan::new(lab.hub(), family, network).start().unwrap();
        for guest in [lab.guest(0), lab.guest(1)] {
            tracker.wait_until_guarded(guest).unwrap();
        }
        let is_over = AtomicBool::new(false);
        let (sent, watched) = thread::scope(|scope| {
            let flood = || flood(&tracker, lab.guest(0), &is_over);
            let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(flood)).collect();
            let watched = watch(&tracker, lab.guest(1));
            is_over.store(true, Ordering::Relaxed);
            let sent = senders.into_iter().map(|it| it.join().unwrap().unwrap());
            (sent.map(f64::from).sum::<f64>(), watched.unwrap())
        });
        let Watched {
            answered,
            cpu,
            time,
        } = watched;
        let report = format!("{sent} sent, {answered} of {ASKED} answered, {cpu:?} of {time:?}");
        eprintln!("{report}");
        assert!(answered >= ASKED * 95 / 100, "{report}");
        assert!(cpu < time / 10, "{report}");
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

/// Returns how many were sent.
fn flood(tracker: &Place, guest: &Host, is_over: &AtomicBool) -> Result<u32> {
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
    answered: u32,
    cpu: Duration,
    time: Duration,
}

/// Asks as an honest client does, each request once, and looks how much time the tracker takes.
#[expect(
    clippy::disallowed_methods,
    reason = "CPU time is compared with the time of the world"
)]
fn watch(tracker: &Tracker, guest: &Host) -> Result<Watched> {
    let client = tracker.client(guest)?;
    let mut answered = 0;
    let (start, cpu_before) = (Instant::now(), cpu_time(tracker.process_id())?);
    wait::hold(FILLS, || Ok(()))?;
    for number in 0..ASKED {
        let Some(id) = connect_once(&client)? else {
            continue;
        };
        let request = announce_request(id, number, &announce(1));
        answered += u32::from(client.ask_once(&request)?.is_some());
    }
    Ok(Watched {
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
