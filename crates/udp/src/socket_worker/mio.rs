//! The portable backend: waits with mio (epoll on Linux), moves datagrams with batched system calls
//! where there are any.

use std::io;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use aquatic_channel::{IdleStrategy, SleepGate};
use aquatic_daemon::clock::Clock;
use aquatic_types::Seconds;
use aquatic_udp_socket::{Receiver, Sender, UdpSocket};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::each_second::EachSecond;
use super::frames::Queues;
use super::host::Host;
use super::last_rounds::LastRounds;
use super::{DATAGRAM_BYTES_MAX, RESEND_INTERVAL, SocketWorker};
use crate::Now;
use crate::config::NetworkConfig;

/// Datagrams that one system call receives or sends at most.
const BATCH_DATAGRAMS: usize = 64;

/// Batches of queues that are taken at the end: all that they hold.
const LAST_BATCHES_MAX: usize = 64;

/// Within this, what a program was busy with when it was told to end is in a queue: it is a batch.
const LAST_FRAMES: Duration = Duration::from_millis(2);

/// In this, owners of torrents deal with a batch of each queue.
const LAST_BATCH: Duration = Duration::from_micros(200);

/// The token of the waker with which other workers end a [`Poll`]'s wait.
pub const WAKER: Token = Token(usize::MAX);

/// The token of the worker's guest.
const GUEST: Token = Token(usize::MAX - 1);

/// A poll that ends its wait when `waker` is used.
///
/// # Errors
/// If the process has too many open files.
#[cfg(target_os = "linux")]
pub fn poll_with(waker: &aquatic_uring::Waker) -> anyhow::Result<Poll> {
    let poll = Poll::new().context("cannot make a poll")?;
    poll.registry()
        .register(&mut SourceFd(&waker.as_raw_fd()), WAKER, Interest::READABLE)
        .context("cannot watch a waker")?;
    Ok(poll)
}

/// Runs the event loop of a worker; returns only on a fatal error.
///
/// # Errors
/// If the sockets cannot be used at all. No datagram and no ICMP message has this effect.
pub fn run(
    (worker, host): (SocketWorker, Host),
    (sockets, queues): (&[UdpSocket], Queues),
    mut poll: Poll,
    gate: &SleepGate,
    clock: Clock,
    config: &NetworkConfig,
    last_rounds: LastRounds,
) -> anyhow::Result<()> {
    for (index, socket) in sockets.iter().enumerate() {
        let fd = socket.as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&fd), Token(index), Interest::READABLE)
            .context("cannot watch a socket")?;
    }
    for (index, file) in (sockets.len()..).zip(queues.wait_files()) {
        poll.registry()
            .register(&mut SourceFd(&file), Token(index), Interest::READABLE)
            .context("cannot watch a queue")?;
    }
    if let Some(file) = host.wait_file() {
        poll.registry()
            .register(&mut SourceFd(&file), GUEST, Interest::READABLE)
            .context("cannot watch connections")?;
    }
    let mut events = Events::with_capacity(sockets.len() + 2);
    let mut rounds = Rounds {
        worker,
        host,
        traffic: Traffic {
            sockets,
            queues,
            lost_counted_at: Seconds::default(),
            receiver: Receiver::new(BATCH_DATAGRAMS, DATAGRAM_BYTES_MAX),
            sender: Sender::new(BATCH_DATAGRAMS),
            resend_len_max: config.resend_buffer_max_len,
        },
        idle: IdleStrategy::new(Duration::from_micros(config.batch_wait_us)),
        each_second: EachSecond::new(sockets),
        poll_timeout: Duration::from_millis(config.poll_timeout_ms),
    };
    // Without a wait there is no event, so the guest has to look for itself.
    let mut is_guest_ready = true;
    while !last_rounds.have_come() {
        let timeout = rounds.step(Now::read(clock), is_guest_ready)?;
        is_guest_ready = true;
        if timeout.is_zero() {
            continue;
        }
        let has_pending = || rounds.has_pending() || last_rounds.have_come();
        let waited = gate.sleep(timeout, has_pending, |time| {
            poll.poll(&mut events, Some(time))
        });
        if let Err(error) = waited
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error).context("cannot wait for datagrams");
        }
        is_guest_ready = events.iter().any(|event| event.token() == GUEST);
    }
    let Rounds {
        mut worker,
        mut host,
        mut traffic,
        each_second,
        ..
    } = rounds;
    // The last rounds never end by themselves.
    drop(each_second);
    traffic.receive_the_last(Now::read(clock), &mut worker);
    last_rounds.run(&mut worker, clock, |worker| {
        host.round(Now::read(clock), true, worker);
        Ok(traffic.send(worker))
    })
}

/// The event loop without its waits: so that somebody else can wait, for more than datagrams.
struct Rounds<'a> {
    worker: SocketWorker,
    host: Host,
    traffic: Traffic<'a>,
    idle: IdleStrategy,
    each_second: EachSecond<'a>,
    poll_timeout: Duration,
}

impl Rounds<'_> {
    /// Does a round. Returns how long the next wait may last; zero if the next round is due at
    /// once. `is_guest_ready`: something may have happened at the guest's file.
    ///
    /// mio reports a socket once until it has been emptied, so it must be before a wait. And
    /// nothing may have come since the last look when a pause begins, since nothing ends it.
    fn step(&mut self, now: Now, is_guest_ready: bool) -> anyhow::Result<Duration> {
        let (worker, host) = (&mut self.worker, &mut self.host);
        let received = self.traffic.receive(now, worker)?;
        self.each_second.look(now, worker);
        let guest = host.round(now, is_guest_ready, worker);
        let exchanged = worker.finish(now);
        let unsent = self.traffic.send(worker);
        let more = worker.maintain(now);
        self.idle
            .note(received.datagrams + exchanged + guest.arrivals);
        let has_received = received.datagrams + guest.arrivals > 0;
        let more = more || received.full || guest.timeout.is_zero();
        if more || (self.idle.coalesces() && has_received) {
            return Ok(Duration::ZERO);
        }
        let sleep = if unsent {
            RESEND_INTERVAL
        } else {
            self.poll_timeout
        };
        let wait = self.idle.decide(now.micros);
        let has_pending = || has_received || worker.has_pending() || host.has_pending();
        Ok(wait.coalesce(sleep.min(guest.timeout), has_pending))
    }

    /// Whether another worker has sent something since the last round.
    fn has_pending(&self) -> bool {
        self.worker.has_pending() || self.host.has_pending()
    }
}

/// What moves datagrams.
struct Traffic<'a> {
    sockets: &'a [UdpSocket],
    queues: Queues,
    lost_counted_at: Seconds,
    receiver: Receiver,
    sender: Sender,
    resend_len_max: usize,
}

/// What one round of receiving brought.
struct Round {
    datagrams: usize,
    /// At least one socket has probably more.
    full: bool,
}

impl Traffic<'_> {
    /// Takes one batch from each queue and socket, so that none starves.
    fn receive(&mut self, now: Now, worker: &mut SocketWorker) -> anyhow::Result<Round> {
        let mut round = Round {
            datagrams: 0,
            full: false,
        };
        (round.datagrams, round.full) = self.queues.receive(now, worker);
        if now.seconds != self.lost_counted_at {
            self.lost_counted_at = now.seconds;
            self.queues.count_lost(worker);
        }
        for (index, socket) in (0..).zip(self.sockets) {
            let count = self
                .receiver
                .receive(socket)
                .with_context(|| format!("cannot receive at {}", socket.local_addr()))?;
            for datagram in self.receiver.datagrams() {
                if datagram.truncated {
                    worker.receive_too_long(datagram.path, datagram.bytes);
                } else {
                    worker.receive(now, index, datagram.path, datagram.bytes);
                }
            }
            round.datagrams += count;
            round.full |= count >= BATCH_DATAGRAMS;
        }
        Ok(round)
    }

    /// What is in queues at the end is still answered: nobody else finds it there. Other processors
    /// may be about to put something in.
    fn receive_the_last(&mut self, now: Now, worker: &mut SocketWorker) {
        worker.withdraw();
        if self.queues.are_none() {
            return;
        }
        for has_waited in [false, true] {
            if has_waited {
                thread::sleep(LAST_FRAMES);
            }
            for _ in 0..LAST_BATCHES_MAX {
                let (frames, is_full) = self.queues.receive(now, worker);
                if frames == 0 {
                    break;
                }
                // The owners of torrents take them meanwhile.
                worker.finish(now);
                if is_full {
                    thread::sleep(LAST_BATCH);
                }
            }
        }
    }

    /// Sends what the outboxes hold. Returns whether something is left to be sent again.
    fn send(&mut self, worker: &mut SocketWorker) -> bool {
        let mut unsent = self.queues.send(worker, self.sockets, self.resend_len_max);
        for (index, socket) in self.sockets.iter().enumerate() {
            let Some(outbox) = worker.outboxes().get_mut(index) else {
                continue;
            };
            if outbox.is_empty() {
                continue;
            }
            let report = self.sender.send(socket, outbox);
            worker.account(socket.family(), index, &report, self.resend_len_max);
            unsent |= worker
                .outboxes()
                .get(index)
                .is_some_and(|outbox| !outbox.is_empty());
        }
        unsent
    }
}
