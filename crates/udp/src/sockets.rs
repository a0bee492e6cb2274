//! The sockets of all socket workers.

use std::io;

use aquatic_daemon::bind;
use aquatic_tracker::dispatch::topology::Topology;
use aquatic_types::ShardKey;
use aquatic_udp_socket::{SocketOptions, UNFRAGMENTED_BYTES_MAX, UdpSocket, steering};

use crate::config::Config;

/// The sockets of each socket worker, in the order of the addresses. All are bound by this one
/// thread, worker by worker, because the kernel numbers the sockets of an address in that order.
pub(crate) fn bind(config: &Config) -> anyhow::Result<Vec<Vec<UdpSocket>>> {
    let workers = config.topology().socket_workers();
    let options = SocketOptions {
        recv_buffer_bytes: config.network.socket_recv_buffer_size,
        send_buffer_bytes: config.network.socket_send_buffer_size,
        reuse_port: workers > 1,
        never_fragmented: config.answer_bytes_max_v4() <= UNFRAGMENTED_BYTES_MAX,
    };
    let alone = SocketOptions {
        reuse_port: false,
        ..SocketOptions::default()
    };
    // Several sockets per address would let a second instance in. And all workers shall have the
    // same port, also if any will do (0).
    let addresses = bind::claim(&config.network.address, |address| {
        UdpSocket::bind(address, &alone).map(|socket| socket.local_addr())
    })?;
    let bind =
        |address| UdpSocket::bind(address, &options).map_err(|error| bind::error(address, &error));
    let sockets: Vec<Vec<_>> = (0..workers)
        .map(|_| addresses.iter().copied().map(bind).collect())
        .collect::<anyhow::Result<_>>()?;
    if let Some(socket) = sockets.first().and_then(|sockets| sockets.first())
        && let Err(error) = warn_of_small_buffers(socket, &options)
    {
        log::warn!("the system does not tell how large socket buffers are: {error}");
    }
    Ok(sockets)
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
pub(crate) fn steer(topology: Topology, sockets: &[Vec<UdpSocket>], key: &ShardKey) {
    let workers = sockets.len();
    if workers < 2 || matches!(topology, Topology::Split { .. }) {
        return;
    }
    let steered = sockets
        .first()
        .into_iter()
        .flatten()
        .try_for_each(|socket| {
            steering::attach(socket, key, u32::try_from(workers).unwrap_or(u32::MAX))
        });
    if let Err(error) = steered {
        log::warn!(
            "the kernel does not steer requests to the owners of their torrents, so they are \
             passed between workers; consider setting `swarm_workers`: {error}"
        );
    }
}
