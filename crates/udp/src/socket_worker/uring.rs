//! The Linux backend: one io_uring per worker does all waiting, receiving and sending.

use std::time::Duration;

use anyhow::Context;
use aquatic_channel::{IdleStrategy, SleepGate, Wait};
use aquatic_daemon::clock::Clock;
use aquatic_udp_socket::{Outbox, UdpSocket};
use aquatic_uring::{Event, Events, Ring, RingOptions, Unsupported, Waker};

use super::each_second::EachSecond;
use super::host::Host;
use super::last_rounds::LastRounds;
use super::{DATAGRAM_BYTES_MAX, RESEND_INTERVAL, SocketWorker};
use crate::Now;
use crate::config::NetworkConfig;

/// Answers that one system call sends at most.
const SENDS_PER_CALL: u16 = 128;

/// Makes a worker's ring. To be called by the thread that will [`run`] the worker.
///
/// # Errors
/// If the system does not allow it; with the reason. The start has tried whether it works at all,
/// but with a small ring and perhaps as root.
pub fn ring(
    sockets: &[UdpSocket],
    waker: &Waker,
    config: &NetworkConfig,
) -> Result<Ring, Unsupported> {
    let options = RingOptions {
        entries: SENDS_PER_CALL,
        buffers: config.ring_size,
        datagram_bytes_max: DATAGRAM_BYTES_MAX,
    };
    let listed: Vec<_> = sockets.iter().collect();
    Ring::new(&options, &listed, Some(waker)).map_err(|error| Unsupported::because(&error, "6.0"))
}

/// Runs the event loop of a worker; returns only on a fatal error.
///
/// # Errors
/// If the ring or a socket cannot be used at all. No datagram and no ICMP message has this effect.
pub fn run(
    (mut worker, mut host): (SocketWorker, Host),
    mut ring: Ring,
    sockets: &[UdpSocket],
    gate: &SleepGate,
    clock: Clock,
    config: &NetworkConfig,
    last_rounds: LastRounds,
) -> anyhow::Result<()> {
    let poll_timeout = Duration::from_millis(config.poll_timeout_ms);
    let mut idle = IdleStrategy::new(Duration::from_micros(config.batch_wait_us));
    let mut timeout = Duration::ZERO;
    let mut each_second = EachSecond::new(sockets);
    if let Some(file) = host.wait_file() {
        ring.watch(file);
    }
    while !last_rounds.have_come() {
        let wait = Waiting {
            gate,
            timeout,
            last_rounds: &last_rounds,
        };
        let received = turn(&mut ring, &mut worker, &host, clock, &wait)?;
        let now = Now::read(clock);
        each_second.look(now, &mut worker);
        let guest = host.round(now, received.has_guest_event, &mut worker);
        idle.note(received.datagrams + guest.arrivals + worker.finish(now));
        let unsent = settle(
            &mut ring,
            &mut worker,
            sockets,
            config.resend_buffer_max_len,
        );
        send(&mut ring, &mut worker)?;
        if worker.maintain(now) || guest.timeout.is_zero() {
            timeout = Duration::ZERO;
            continue;
        }
        timeout = match idle.decide(now.micros) {
            Wait::Sleep if unsent => RESEND_INTERVAL.min(guest.timeout),
            Wait::Sleep => poll_timeout.min(guest.timeout),
            Wait::Coalesce(time) => {
                // The answers leave at once. What has come meanwhile is dealt with first.
                let nothing_waits = ring
                    .wait(Some(Duration::ZERO))
                    .context("cannot send")?
                    .is_empty();
                settle(
                    &mut ring,
                    &mut worker,
                    sockets,
                    config.resend_buffer_max_len,
                );
                let is_idle = guest.arrivals == 0 && !host.has_pending();
                if nothing_waits && is_idle && !worker.has_pending() {
                    ring.gather(time).context("cannot wait for datagrams")?;
                }
                Duration::ZERO
            }
        };
    }
    // The last rounds never end by themselves.
    drop(each_second);
    receive_the_last(&mut ring, &mut worker, clock)?;
    last_rounds.run(&mut worker, clock, |worker| {
        host.round(Now::read(clock), true, worker);
        ring.wait(Some(Duration::ZERO)).context("cannot send")?;
        let unsent = settle(&mut ring, worker, sockets, config.resend_buffer_max_len);
        send(&mut ring, worker)?;
        Ok(unsent)
    })
}

/// How a turn waits.
struct Waiting<'a> {
    gate: &'a SleepGate,
    timeout: Duration,
    last_rounds: &'a LastRounds,
}

/// What a turn brought.
#[derive(Default)]
struct Received {
    datagrams: usize,
    /// Something has happened at the guest's file.
    has_guest_event: bool,
}

/// Sends what the ring was given, waits, and receives.
fn turn(
    ring: &mut Ring,
    worker: &mut SocketWorker,
    host: &Host,
    clock: Clock,
    wait: &Waiting<'_>,
) -> anyhow::Result<Received> {
    let stops = || wait.last_rounds.have_come();
    let has_pending = || worker.has_pending() || host.has_pending() || stops();
    let waited = wait
        .gate
        .sleep(wait.timeout, has_pending, |time| ring.wait(Some(time)));
    let events = waited.context("cannot wait for datagrams")?;
    Ok(take(events, worker, Now::read(clock)))
}

/// What was received when the process was told to stop is still answered. The rest stays in the
/// sockets, where the next process finds it, if there is one.
fn receive_the_last(
    ring: &mut Ring,
    worker: &mut SocketWorker,
    clock: Clock,
) -> anyhow::Result<()> {
    // What comes in the last moment is lost then, and nothing else: the swarms are still there.
    if let Err(error) = ring.stop_receiving() {
        log::warn!("cannot stop receiving before the end: {error}");
    }
    let events = ring.wait(Some(Duration::ZERO)).context("cannot send")?;
    take(events, worker, Now::read(clock));
    Ok(())
}

fn take(mut events: Events<'_>, worker: &mut SocketWorker, now: Now) -> Received {
    let mut received = Received::default();
    while let Some(event) = events.next_event() {
        let Event::Datagram { socket, datagram } = event else {
            received.has_guest_event |= matches!(event, Event::Ready);
            continue;
        };
        received.datagrams += 1;
        if datagram.truncated {
            worker.receive_too_long(datagram.path, datagram.bytes);
        } else if let Ok(socket) = u8::try_from(socket) {
            worker.receive(now, socket, datagram.path, datagram.bytes);
        }
    }
    received
}

/// Accounts for what the ring has sent, and takes back what found no room. Returns whether some of
/// that is to be sent again.
fn settle(
    ring: &mut Ring,
    worker: &mut SocketWorker,
    sockets: &[UdpSocket],
    resend_len_max: usize,
) -> bool {
    let mut unsent = false;
    for (index, socket) in sockets.iter().enumerate() {
        let (family, report) = (socket.family(), ring.take_report(index));
        if report.would_block {
            let mut outbox = Outbox::new();
            ring.take_unsent(index, &mut outbox);
            worker.account_late(family, index, &report, outbox, resend_len_max);
            unsent |= resend_len_max > 0;
        } else {
            worker.account(family, index, &report, resend_len_max);
        }
    }
    unsent
}

/// Gives the ring what the outboxes hold: it leaves with the next turn.
fn send(ring: &mut Ring, worker: &mut SocketWorker) -> anyhow::Result<()> {
    let outboxes = worker.outboxes().iter_mut().enumerate();
    // Another worker may have more sockets; then there are more outboxes than this one can use.
    for (index, outbox) in outboxes.filter(|(_, outbox)| !outbox.is_empty()) {
        ring.send(index, outbox).context("cannot send")?;
    }
    Ok(())
}
