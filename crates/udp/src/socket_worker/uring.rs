//! The Linux backend: one io_uring per worker does all waiting, receiving and sending.

use std::time::Duration;

use anyhow::Context;
use aquatic_channel::{IdleStrategy, SleepGate, Wait};
use aquatic_daemon::clock::Clock;
use aquatic_udp_socket::{Outbox, UdpSocket};
use aquatic_uring::{Event, Ring, RingOptions, Unsupported, Waker};

use super::each_second::EachSecond;
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
    mut worker: SocketWorker,
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
    while !last_rounds.have_come() {
        idle.note(turn(
            &mut ring,
            &mut worker,
            gate,
            clock,
            timeout,
            &last_rounds,
        )?);
        let now = Now::read(clock);
        each_second.look(now, &mut worker);
        idle.note(worker.finish(now));
        let unsent = settle(
            &mut ring,
            &mut worker,
            sockets,
            config.resend_buffer_max_len,
        );
        send(&mut ring, &mut worker)?;
        if worker.maintain(now) {
            timeout = Duration::ZERO;
            continue;
        }
        timeout = match idle.decide(now.micros) {
            Wait::Sleep if unsent => RESEND_INTERVAL,
            Wait::Sleep => poll_timeout,
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
                if nothing_waits && !worker.has_pending() {
                    ring.gather(time).context("cannot wait for datagrams")?;
                }
                Duration::ZERO
            }
        };
    }
    last_rounds.run(&mut worker, clock, |worker| {
        // What has come meanwhile is dropped.
        ring.wait(Some(Duration::ZERO)).context("cannot send")?;
        let unsent = settle(&mut ring, worker, sockets, config.resend_buffer_max_len);
        send(&mut ring, worker)?;
        Ok(unsent)
    })
}

/// Sends what the ring was given, waits, and receives. Returns the number of datagrams.
fn turn(
    ring: &mut Ring,
    worker: &mut SocketWorker,
    gate: &SleepGate,
    clock: Clock,
    timeout: Duration,
    last_rounds: &LastRounds,
) -> anyhow::Result<usize> {
    let has_pending = || worker.has_pending() || last_rounds.have_come();
    let waited = gate.sleep(timeout, has_pending, |time| ring.wait(Some(time)));
    let mut events = waited.context("cannot wait for datagrams")?;
    let now = Now::read(clock);
    let mut datagrams = 0;
    while let Some(event) = events.next_event() {
        let Event::Datagram { socket, datagram } = event else {
            continue;
        };
        datagrams += 1;
        if datagram.truncated {
            worker.receive_too_long(datagram.path, datagram.bytes);
        } else if let Ok(socket) = u8::try_from(socket) {
            worker.receive(now, socket, datagram.path, datagram.bytes);
        }
    }
    Ok(datagrams)
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
    for (index, outbox) in worker.outboxes().iter_mut().enumerate() {
        ring.send(index, outbox).context("cannot send")?;
    }
    Ok(())
}
