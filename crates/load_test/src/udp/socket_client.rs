//! The sockets of a worker, and what belongs to each: its client, its outgoing packets, its way to
//! send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, bail};
use aquatic_daemon::{bind, clock::Clock};
use aquatic_types::{AnnounceEvent, IpFamily};
#[cfg(target_os = "linux")]
use aquatic_udp_socket::segmentation::SegmentSender;
use aquatic_udp_socket::{
    Outbox, Receiver, ReturnPath, SendReport, Sender, SocketOptions, UdpSocket,
};

use crate::core::client_ips;
use crate::core::kind::Fault;
use crate::core::population::share;
use crate::core::tally::{Asked, Tally};
use crate::udp::client::Client;
use crate::udp::config::LoadTestConfig;
use crate::udp::in_flight::InFlight;

/// Datagrams per system call.
const BATCH: usize = 64;

/// More than any tracker's answer: what is cut off here would be malformed anyway.
const ANSWER_BYTES_MAX: usize = 2048;

/// Packets that may wait because the kernel has no room for them.
const OUTBOX_PACKETS_MAX: usize = 4096;

/// Requests per socket that are remembered while the rate is the tracker's: three seconds of 43,000
/// per second.
const CLOSED_LOOP_IN_FLIGHT_MAX: u32 = 1 << 17;

/// How often a first connect request is repeated before the tracker counts as absent.
const CONNECT_ATTEMPTS: u32 = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// The sockets of a worker.
pub(crate) struct Sockets {
    pub(crate) all: Vec<SocketClient>,
    clock: Clock,
    receiver: Receiver,
}

impl Sockets {
    /// Opens the sockets of the worker of a number, each with a connection id.
    pub(crate) fn open(
        config: &LoadTestConfig,
        worker: usize,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let mut receiver = Receiver::new(BATCH, ANSWER_BYTES_MAX);
        let mut open = |number| {
            let mut socket = SocketClient::open(config, number)?;
            socket.connect(clock, &mut receiver)?;
            Ok(socket)
        };
        let first = worker * config.network.sockets_per_worker;
        let numbers = first..first + config.network.sockets_per_worker;
        Ok(Self {
            all: numbers.map(&mut open).collect::<anyhow::Result<_>>()?,
            clock,
            receiver,
        })
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self, tally: &mut Tally) {
        for socket in &mut self.all {
            socket.flush(tally);
        }
    }

    /// Reads one batch of answers per socket, and tells `answered` of each that was asked for and
    /// `lost` of each request that is given up. Gives back how many datagrams there were.
    pub(crate) fn receive(
        &mut self,
        tally: &mut Tally,
        mut answered: impl FnMut(Asked),
        mut lost: impl FnMut(Asked),
    ) -> anyhow::Result<usize> {
        let mut received = 0;
        for socket in &mut self.all {
            received += socket.receive(self.clock, &mut self.receiver, tally, &mut answered)?;
            let now_micros = self.clock.micros();
            tally.stalls.look(now_micros);
            socket.client.expire(now_micros, tally, &mut lost);
        }
        Ok(received)
    }
}

/// A socket that speaks with the tracker for some peers.
pub(crate) struct SocketClient {
    pub(crate) client: Client,
    /// Numbers of the peers that it speaks for under load: a peer's address must not change.
    pub(crate) peers: Range<u32>,
    socket: UdpSocket,
    path: ReturnPath,
    outbox: Outbox,
    sender: PacketSender,
}

impl SocketClient {
    /// Binds the socket of a number, counted over all workers.
    fn open(config: &LoadTestConfig, number: usize) -> anyhow::Result<Self> {
        let server = config.run.server_address;
        let unspecified = match server {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let ip = client_ips::of_socket(&config.network.client_ips, number).unwrap_or(unspecified);
        let options = SocketOptions {
            recv_buffer_bytes: config.network.socket_recv_buffer_size,
            ..SocketOptions::default()
        };
        let address = SocketAddr::new(ip, 0);
        let mut socket =
            UdpSocket::bind(address, &options).map_err(|error| bind::error(address, &error))?;
        socket
            .connect(server)
            .with_context(|| format!("cannot send from {ip} to {server}"))?;
        if let Ok(granted) = socket.recv_buffer_bytes()
            && granted < options.recv_buffer_bytes
        {
            log::warn!(
                "network.socket_recv_buffer_size: the system grants {granted} bytes; answers may \
                 be lost here (sysctl net.core.rmem_max)"
            );
        }
        Ok(Self {
            client: client(config),
            peers: share(
                config.requests.population.number_of_peers,
                config.sockets(),
                number,
            ),
            socket,
            path: ReturnPath::to(server),
            outbox: Outbox::new(),
            sender: PacketSender::new(config.network.segmentation_offload),
        })
    }

    /// Gets the first connection id.
    fn connect(&mut self, clock: Clock, receiver: &mut Receiver) -> anyhow::Result<()> {
        let mut uncounted = Tally::new(0..0, 0);
        let mut last_error = None;
        for _ in 0..CONNECT_ATTEMPTS {
            self.write(|client, out| client.connect(clock.micros(), out, &mut uncounted));
            last_error = self.flush(&mut uncounted).last_error.or(last_error);
            let end = clock.elapsed() + CONNECT_TIMEOUT;
            while let Some(left) = end.checked_sub(clock.elapsed()) {
                // A whole millisecond: the wait is rounded down.
                self.socket
                    .wait_readable(Some(left.max(Duration::from_millis(1))))?;
                self.receive(clock, receiver, &mut uncounted, |_| {})?;
                if self.client.is_connected() {
                    return Ok(());
                }
            }
        }
        let refusal = uncounted
            .messages
            .keys()
            .next()
            .map(|message| format!("{message:?}"));
        let reason = last_error.map(|error| error.to_string());
        bail!(
            "{} does not answer {}: {}",
            self.path.peer(),
            self.socket.local_addr(),
            refusal
                .or(reason)
                .unwrap_or("is a tracker running there?".into())
        );
    }

    /// Appends a packet to those that wait to be sent.
    pub(crate) fn write<T>(&mut self, write: impl FnOnce(&mut Client, &mut Vec<u8>) -> T) -> T {
        let written = write(&mut self.client, self.outbox.bytes_mut());
        self.outbox.finish(self.path);
        written
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self, tally: &mut Tally) -> SendReport {
        if self.outbox.is_empty() {
            return SendReport::default();
        }
        let report = self.sender.send(&self.socket, &mut self.outbox);
        let dropped = self.outbox.truncate(OUTBOX_PACKETS_MAX);
        let unsent = u64::try_from(report.failed + dropped).unwrap_or(u64::MAX);
        tally.add_errors(Fault::SendFailure, unsent);
        report
    }

    fn receive(
        &mut self,
        clock: Clock,
        receiver: &mut Receiver,
        tally: &mut Tally,
        mut answered: impl FnMut(Asked),
    ) -> anyhow::Result<usize> {
        let received = receiver
            .receive(&self.socket)
            .context("cannot read answers from the socket")?;
        if received > 0 {
            let now_micros = clock.micros();
            for datagram in receiver.datagrams() {
                let asked = self.client.receive(now_micros, datagram.bytes, tally);
                asked.into_iter().for_each(&mut answered);
            }
        }
        Ok(received)
    }
}

fn client(config: &LoadTestConfig) -> Client {
    let late_after_micros = config.answers.late_after_micros();
    let (event, lost_after_micros) = if config.fill.enabled {
        // What is late is asked for again, so its first answer is not waited for.
        (AnnounceEvent::Started, late_after_micros)
    } else {
        (AnnounceEvent::None, config.answers.lost_after_micros())
    };
    let in_flight_max = match config.run.rate_per_second {
        0 => CLOSED_LOOP_IN_FLIGHT_MAX,
        rate => {
            // Twice the number that is due until one is lost: arrivals are irregular.
            let sockets = u64::try_from(config.sockets()).unwrap_or(1);
            let due = u64::from(rate) * lost_after_micros / 1_000_000 / sockets;
            u32::try_from(2 * due + 1024).unwrap_or(u32::MAX)
        }
    };
    let salt = fastrand::u32(..);
    let in_flight = InFlight::new(in_flight_max, late_after_micros, lost_after_micros, salt);
    let family = IpFamily::of(&config.run.server_address);
    Client::new(
        family,
        config.requests.population.num_want,
        event,
        in_flight,
    )
}

/// How packets get into the kernel.
enum PacketSender {
    /// Many per system call.
    Batch(Sender),
    /// Many per packet, as far as the kernel sees it.
    #[cfg(target_os = "linux")]
    Segments(SegmentSender),
}

impl PacketSender {
    #[cfg(target_os = "linux")]
    fn new(segmentation_offload: bool) -> Self {
        if segmentation_offload {
            Self::Segments(SegmentSender::new())
        } else {
            Self::Batch(Sender::new(BATCH))
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn new(_segmentation_offload: bool) -> Self {
        Self::Batch(Sender::new(BATCH))
    }

    fn send(&mut self, socket: &UdpSocket, outbox: &mut Outbox) -> SendReport {
        match self {
            Self::Batch(sender) => sender.send(socket, outbox),
            #[cfg(target_os = "linux")]
            Self::Segments(sender) => sender.send(socket, outbox),
        }
    }
}
