//! The sockets of all socket workers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use aquatic_daemon::kept_sockets::{KeptSockets, Kind};
use aquatic_daemon::socket_groups::{Binder, bind_for_workers};
use aquatic_tracker::dispatch::topology::Topology;
use aquatic_types::ShardKey;
use aquatic_udp_socket::{SocketOptions, UNFRAGMENTED_BYTES_MAX, UdpSocket, steering};

use crate::config::Config;

/// The sockets of each socket worker, in the order of the addresses; behind them, those that were
/// passed by an earlier process with more workers.
pub(crate) fn bind(config: &Config, kept: &KeptSockets) -> anyhow::Result<Vec<Vec<UdpSocket>>> {
    let options = SocketOptions {
        recv_buffer_bytes: config.network.socket_recv_buffer_size,
        send_buffer_bytes: config.network.socket_send_buffer_size,
        reuse_port: false,
        never_fragmented: config.answer_bytes_max_v4() <= UNFRAGMENTED_BYTES_MAX,
    };
    let workers = config.topology().socket_workers();
    let binder = UdpBinder(options);
    let sockets = bind_for_workers(kept, &config.network.address, workers, &binder)?;
    if let Some(socket) = sockets.first().and_then(|sockets| sockets.first())
        && let Err(error) = warn_of_small_buffers(socket, &binder.0)
    {
        log::warn!("the system does not tell how large socket buffers are: {error}");
    }
    Ok(sockets)
}

/// Sockets with these options, but for `reuse_port`.
struct UdpBinder(SocketOptions);

impl UdpBinder {
    fn options(&self, reuse_port: bool) -> SocketOptions {
        SocketOptions {
            reuse_port,
            ..self.0.clone()
        }
    }
}

impl Binder for UdpBinder {
    type Socket = UdpSocket;
    const KIND: Kind = Kind::Datagram;

    fn probe(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        UdpSocket::bind(address, &SocketOptions::default()).map(|socket| socket.local_addr())
    }

    fn bind(&self, address: SocketAddr, is_shared: bool) -> io::Result<UdpSocket> {
        UdpSocket::bind(address, &self.options(is_shared))
    }

    fn adopt(&self, socket: OwnedFd, is_shared: bool) -> io::Result<UdpSocket> {
        UdpSocket::adopt(socket, &self.options(is_shared))
    }

    fn duplicate(&self, socket: &UdpSocket) -> io::Result<UdpSocket> {
        socket.duplicate()
    }
}

/// Where a tracker with these sockets serves.
pub(crate) fn addresses(sockets: &[Vec<UdpSocket>]) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for socket in sockets.iter().flatten() {
        if !addresses.contains(&socket.local_addr()) {
            addresses.push(socket.local_addr());
        }
    }
    addresses
}

/// How many sockets one worker has at most.
pub(crate) fn per_worker_max(sockets: &[Vec<UdpSocket>]) -> usize {
    sockets.iter().map(Vec::len).max().unwrap_or_default()
}

/// Tells which buffers of a socket are smaller than wanted.
fn warn_of_small_buffers(socket: &UdpSocket, wanted: &SocketOptions) -> io::Result<()> {
    let recv = (socket.recv_buffer_bytes()?, wanted.recv_buffer_bytes);
    let send = (socket.send_buffer_bytes()?, wanted.send_buffer_bytes);
    for (key, sysctl, (granted, wanted)) in [
        ("socket_recv_buffer_size", "rmem_max", recv),
        ("socket_send_buffer_size", "wmem_max", send),
    ] {
        if granted < wanted {
            log::warn!(
                "`network.{key}` is {wanted}, but the system grants only {granted} bytes (on \
                 Linux, raise it with: sysctl -w net.core.{sysctl}={wanted})"
            );
        }
    }
    Ok(())
}

/// Lets the kernel deliver requests to the worker that owns the torrent, in the fused topology.
/// Sockets that an earlier process has passed may have been steered by the keys of that one.
pub(crate) fn steer(topology: Topology, sockets: &[Vec<UdpSocket>], key: &ShardKey) {
    let workers = sockets.len();
    let addresses = addresses(sockets).len();
    let one_of_each_group = sockets.iter().take(1).flatten().take(addresses);
    if workers < 2 || matches!(topology, Topology::Split { .. }) {
        one_of_each_group.for_each(steering::detach);
        return;
    }
    let count = u32::try_from(workers).unwrap_or(u32::MAX);
    for socket in one_of_each_group {
        let Err(error) = steering::attach(socket, key, count) else {
            continue;
        };
        // Of an earlier process, with another key.
        steering::detach(socket);
        log::warn!(
            "the kernel does not steer requests at {} to the owners of their torrents, so they \
             are passed between workers; consider setting `swarm_workers`: {error}",
            socket.local_addr()
        );
    }
}
