//! Answers to one client that travel together arrive as if they had travelled alone, and go one by
//! one where the kernel cannot cut them apart.
#![cfg(target_os = "linux")]

use std::net::UdpSocket as StdUdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use aquatic_udp_socket::{LocalAddr, Outbox, ReturnPath, SocketOptions, UdpSocket};
use aquatic_uring::{Ring, RingOptions, probe};

const PATIENCE: Duration = Duration::from_secs(10);
const CLIENTS: u8 = 3;
const PACKETS_EACH: u8 = 90;

fn works() -> bool {
    let probed = probe();
    if let Err(unsupported) = &probed {
        eprintln!("skipped: {unsupported}");
    }
    probed.is_ok()
}

fn server(addr: &str) -> UdpSocket {
    UdpSocket::bind(addr.parse().unwrap(), &SocketOptions::default()).unwrap()
}

/// Packet number `n` for a client: of one of three sizes, one of them empty.
fn packet(client: u8, n: u8) -> Vec<u8> {
    let len = [16, 200, 0][usize::from(n % 3)];
    [client, n].iter().copied().cycle().take(len).collect()
}

/// Sends many packets to few clients, more than a ring of this size takes at once, and looks
/// whether each arrives once, those of one size in order. `local`: the address that they are to
/// leave from.
fn each_packet_arrives_once(server: &UdpSocket, ring: &mut Ring, local: Option<LocalAddr>) {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let ip = local.map_or(server.local_addr().ip(), |local| local.ip);
            let client = StdUdpSocket::bind((ip, 0)).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client
        })
        .collect();
    let mut outbox = Outbox::new();
    for n in 0..PACKETS_EACH {
        for (number, client) in (0..).zip(&clients) {
            let path = ReturnPath::to(client.local_addr().unwrap()).from_local(local);
            outbox.push(path, &packet(number, n));
        }
    }
    ring.send(0, &mut outbox).unwrap();
    assert!(outbox.is_empty());
    assert!(ring.wait(Some(Duration::ZERO)).unwrap().is_empty());
    let report = ring.take_report(0);
    let packets = usize::from(CLIENTS) * usize::from(PACKETS_EACH);
    assert_eq!((report.sent, report.sent_bytes), (packets, packets * 72));
    assert_eq!(
        (report.failed, report.would_block),
        (0, false),
        "{report:?}"
    );
    for (number, client) in (0..).zip(&clients) {
        let mut by_size = [const { Vec::new() }; 3];
        let mut buffer = [0; 2_048];
        for _ in 0..PACKETS_EACH {
            let (len, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!(from.port(), server.local_addr().port());
            let size = [16, 200, 0].iter().position(|it| *it == len).unwrap();
            by_size[size].push(buffer[..len].to_vec());
        }
        for (size, received) in (0..).zip(by_size) {
            let expected = (size..PACKETS_EACH).step_by(3).map(|n| packet(number, n));
            assert!(received.into_iter().eq(expected), "size {size}");
        }
    }
}

fn ring(server: &UdpSocket, entries: u16) -> Ring {
    let options = RingOptions {
        entries,
        ..RingOptions::default()
    };
    Ring::new(&options, &[server], None).unwrap()
}

#[test]
fn of_both_families() {
    if !works() {
        return;
    }
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        for entries in [8, 128] {
            let server = server(addr);
            let mut ring = ring(&server, entries);
            for _ in 0..3 {
                each_packet_arrives_once(&server, &mut ring, None);
            }
        }
    }
}

#[test]
fn from_the_address_that_was_asked() {
    if !works() {
        return;
    }
    let server = server("0.0.0.0:0");
    let local = LocalAddr {
        ip: "127.0.0.1".parse().unwrap(),
        interface: 0,
    };
    let mut ring = ring(&server, 8);
    each_packet_arrives_once(&server, &mut ring, Some(local));
}

#[test]
fn packets_go_one_by_one_where_messages_cannot_be_cut_apart() {
    if !works() {
        return;
    }
    let server = server("127.0.0.1:0");
    let on: libc::c_int = 1;
    // Why unsafe: no safe wrapper has this option.
    // SAFETY: the pointer and the length describe `on`, which the call reads.
    let set = unsafe {
        libc::setsockopt(
            server.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size_of_val(&on).try_into().unwrap(),
        )
    };
    assert_eq!(
        set, 0,
        "without checksums the kernel refuses to cut messages apart"
    );
    for entries in [8, 128] {
        let mut ring = ring(&server, entries);
        for _ in 0..2 {
            each_packet_arrives_once(&server, &mut ring, None);
        }
    }
}
