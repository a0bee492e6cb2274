//! The kernel's choice of a socket is the program's.
#![cfg(target_os = "linux")]

use std::net::UdpSocket as StdUdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use aquatic_types::{InfoHash, ShardKey};
use aquatic_udp_socket::steering;
use aquatic_udp_socket::{Receiver, SocketOptions, UdpSocket};

const WORKERS: u32 = 4;

fn group(addr: &str) -> Vec<UdpSocket> {
    let options = SocketOptions {
        reuse_port: true,
        recv_buffer_bytes: 1 << 20,
        ..SocketOptions::default()
    };
    let mut addr = addr.parse().unwrap();
    (0..WORKERS)
        .map(|_| {
            let socket = UdpSocket::bind(addr, &options).unwrap();
            addr = socket.local_addr();
            socket
        })
        .collect()
}

fn key() -> ShardKey {
    ShardKey::new(std::array::from_fn(|place| {
        u8::try_from(place * 91 % 251).unwrap()
    }))
}

/// A small generator, so that each byte of each info hash varies.
fn info_hashes() -> impl Iterator<Item = [u8; 20]> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        std::array::from_fn(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99);
            state.to_be_bytes()[0]
        })
    })
}

fn packet(info_hash: [u8; 20], len: usize) -> Vec<u8> {
    let mut packet = vec![0xee; len];
    packet[16..36].copy_from_slice(&info_hash);
    packet
}

/// Sends `packets` one after the other; gives back at which socket each arrived.
fn arrivals(sockets: &[UdpSocket], client: &StdUdpSocket, packets: &[Vec<u8>]) -> Vec<u32> {
    let mut receiver = Receiver::new(4, 2048);
    let mut at = Vec::new();
    for packet in packets {
        client.send_to(packet, sockets[0].local_addr()).unwrap();
        // On loopback a datagram has arrived when `send_to` returns.
        let mut hit = sockets
            .iter()
            .zip(0..)
            .filter_map(|(socket, index)| (receiver.receive(socket).unwrap() > 0).then_some(index));
        at.push(hit.next().unwrap());
    }
    at
}

fn announces_reach_their_owner(server: &str, client: &str) {
    let sockets = group(server);
    steering::attach(&sockets[0], &key(), WORKERS).unwrap();
    let client = StdUdpSocket::bind(client).unwrap();
    // The sizes of a one-torrent scrape, an announce, one with BEP 41 options, a large scrape.
    for len in [36, 98, 120, 1416] {
        let info_hashes = info_hashes().take(200).collect::<Vec<_>>();
        let packets = info_hashes.iter().map(|hash| packet(*hash, len));
        let at = arrivals(&sockets, &client, &packets.collect::<Vec<_>>());
        let owner = |hash: &[u8; 20]| {
            let shard = key().shard_of(&InfoHash(*hash), WORKERS as usize);
            u32::try_from(shard).unwrap()
        };
        let owners = info_hashes.iter().map(owner);
        assert_eq!(at, owners.collect::<Vec<_>>(), "packets of {len} bytes");
        assert!((0..WORKERS).all(|worker| at.contains(&worker)));
    }
}

#[test]
fn announces_reach_their_owner_v4() {
    announces_reach_their_owner("127.0.0.1:0", "127.0.0.1:0");
}

#[test]
fn announces_reach_their_owner_v6() {
    announces_reach_their_owner("[::1]:0", "[::1]:0");
}

/// One process after the other has the same sockets, its own key, and another number of workers.
/// The first one has a single worker, whose socket is not meant to be shared.
#[test]
fn announces_reach_their_owner_at_sockets_of_an_earlier_process() {
    for text in ["127.0.0.1:0", "[::1]:0"] {
        let options = SocketOptions {
            reuse_port: true,
            ..SocketOptions::default()
        };
        let alone = SocketOptions::default();
        let mut sockets = vec![UdpSocket::bind(text.parse().unwrap(), &alone).unwrap()];
        let address = sockets[0].local_addr();
        let client = StdUdpSocket::bind(text).unwrap();
        for (process, workers) in [2, 4, 3, 4].into_iter().enumerate() {
            let kept = sockets.iter().map(|it| it.as_fd().try_clone_to_owned());
            let kept: Vec<OwnedFd> = kept.collect::<Result<_, _>>().unwrap();
            drop(sockets);
            let adopt = |socket| UdpSocket::adopt(socket, &options).unwrap();
            sockets = kept.into_iter().map(adopt).collect();
            while sockets.len() < workers {
                sockets.push(UdpSocket::bind(address, &options).unwrap());
            }
            let byte = |place| u8::try_from((place * 91 + process * 17) % 251).unwrap();
            let key = ShardKey::new(std::array::from_fn(byte));
            steering::attach(&sockets[0], &key, u32::try_from(workers).unwrap()).unwrap();
            let hashes: Vec<_> = info_hashes().take(100).collect();
            let packets: Vec<_> = hashes.iter().map(|hash| packet(*hash, 98)).collect();
            let at = arrivals(&sockets, &client, &packets);
            let owner = |hash: &[u8; 20]| key.shard_of(&InfoHash(*hash), workers);
            let owners = hashes
                .iter()
                .map(|hash| u32::try_from(owner(hash)).unwrap());
            assert_eq!(at, owners.collect::<Vec<_>>(), "{workers} workers");
        }
        // One that does not steer: the kernel goes by the sender's address again.
        steering::detach(&sockets[0]);
        let packets = info_hashes().take(50).map(|hash| packet(hash, 98));
        let at = arrivals(&sockets, &client, &packets.collect::<Vec<_>>());
        assert!(at.iter().all(|index| *index == at[0]));
    }
}

#[test]
fn short_packets_are_spread() {
    let sockets = group("127.0.0.1:0");
    steering::attach(&sockets[0], &key(), WORKERS).unwrap();
    let client = StdUdpSocket::bind("127.0.0.1:0").unwrap();
    for len in [0, 1, 16, 35] {
        let at = arrivals(&sockets, &client, &vec![vec![1; len]; 200]);
        for worker in 0..WORKERS {
            let count = at.iter().filter(|index| **index == worker).count();
            assert!(count > 10, "worker {worker} got {count} of 200");
        }
    }
}

#[test]
fn what_cannot_be_steered_is_refused() {
    let alone = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &SocketOptions::default()).unwrap();
    assert!(steering::attach(&alone, &key(), 1).is_err());
    for workers in [0, 65_537] {
        assert!(steering::attach(&group("127.0.0.1:0")[0], &key(), workers).is_err());
    }
}

#[test]
fn one_client_reaches_all_sockets_only_by_steering() {
    // The control experiment: without the program, the kernel goes by the sender's address.
    let sockets = group("127.0.0.1:0");
    let client = StdUdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let packets = info_hashes().take(50).map(|hash| packet(hash, 98));
    let at = arrivals(&sockets, &client, &packets.collect::<Vec<_>>());
    assert!(at.iter().all(|index| *index == at[0]));
}
