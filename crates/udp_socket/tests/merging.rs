//! Answers to one client that travel together arrive as if they had travelled alone.

#![cfg(target_os = "linux")]

use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::time::Duration;

use aquatic_udp_socket::{LocalAddr, Outbox, ReturnPath, Sender, SocketOptions, UdpSocket};

fn client(addr: &str) -> StdUdpSocket {
    let socket = StdUdpSocket::bind(addr).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    socket
}

fn server(addr: &str) -> UdpSocket {
    UdpSocket::bind(addr.parse().unwrap(), &SocketOptions::default()).unwrap()
}

/// What `client` receives: `count` datagrams and where they came from.
fn receive(client: &StdUdpSocket, count: usize) -> Vec<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 2_048];
    let mut one = || {
        let (len, from) = client.recv_from(&mut buffer).unwrap();
        (buffer[..len].to_vec(), from)
    };
    (0..count).map(|_| one()).collect()
}

/// Packet number `n` for a client: of one of three sizes, one of them empty.
fn packet(client: u8, n: u8) -> Vec<u8> {
    let len = match n % 3 {
        0 => 16,
        1 => 200,
        _ => 0,
    };
    [client, n].iter().copied().cycle().take(len).collect()
}

fn sends_each_packet_once(server_addr: &str, client_addr: &str, sender: &mut Sender) {
    let server = server(server_addr);
    let clients: Vec<_> = (0..3).map(|_| client(client_addr)).collect();
    let mut outbox = Outbox::new();
    for n in 0..90 {
        for (number, client) in (0..).zip(&clients) {
            outbox.push(
                ReturnPath::to(client.local_addr().unwrap()),
                &packet(number, n),
            );
        }
    }
    let report = sender.send(&server, &mut outbox);
    assert!(outbox.is_empty());
    assert_eq!(
        (report.sent, report.failed, report.would_block),
        (270, 0, false)
    );
    assert_eq!(report.sent_bytes, 3 * 30 * (16 + 200));
    for (number, client) in (0..).zip(&clients) {
        let received = receive(client, 90);
        assert!(
            received
                .iter()
                .all(|(_, from)| *from == server.local_addr())
        );
        for size in 0..3 {
            let of_size = |n: &u8| n % 3 == size;
            let expected: Vec<_> = (0..90).filter(of_size).map(|n| packet(number, n)).collect();
            let len = expected[0].len();
            let got = received
                .iter()
                .map(|(bytes, _)| bytes)
                .filter(|bytes| bytes.len() == len);
            assert!(got.eq(&expected), "each of {len} bytes once, in order");
        }
    }
}

#[test]
fn ipv4() {
    sends_each_packet_once("127.0.0.1:0", "127.0.0.1:0", &mut Sender::new(64));
}

#[test]
fn ipv6() {
    sends_each_packet_once("[::1]:0", "[::1]:0", &mut Sender::new(64));
}

#[test]
fn without_merging() {
    sends_each_packet_once(
        "127.0.0.1:0",
        "127.0.0.1:0",
        &mut Sender::new(64).without_merging(),
    );
}

#[test]
fn they_leave_from_the_address_that_was_asked() {
    let server = server("0.0.0.0:0");
    let client = client("127.0.0.1:0");
    let path = ReturnPath::to(client.local_addr().unwrap());
    let asked = |last| LocalAddr {
        ip: [127, 0, 0, last].into(),
        interface: 0,
    };
    let mut outbox = Outbox::new();
    for n in 0..20 {
        outbox.push(path.from_local(Some(asked(2 + n % 2))), &[n % 2; 16]);
    }
    assert_eq!(Sender::new(64).send(&server, &mut outbox).sent, 20);
    for (bytes, from) in receive(&client, 20) {
        assert_eq!(from.ip(), asked(2 + bytes[0]).ip);
    }
}

/// Broadcasting is not allowed to this socket, so those packets are refused.
#[test]
fn a_refused_message_does_not_hold_up_the_others() {
    let server = server("127.0.0.1:0");
    let client = client("127.0.0.1:0");
    let path = ReturnPath::to(client.local_addr().unwrap());
    let (mut outbox, mut sender) = (Outbox::new(), Sender::new(64));
    let nowhere = ReturnPath::to("255.255.255.255:9".parse().unwrap());
    for n in 0..4 {
        outbox.push(nowhere, &[n; 16]);
        outbox.push(path, &[n; 16]);
    }
    let report = sender.send(&server, &mut outbox);
    assert_eq!((report.sent, report.failed), (4, 4));
    let received = receive(&client, 4);
    assert!(
        received
            .iter()
            .zip(0..)
            .all(|((bytes, _), n)| *bytes == [n; 16])
    );
}

/// IPv6 sockets fragment at 1,280 bytes, and what is cut apart cannot be fragmented as well.
#[test]
fn what_must_be_fragmented_arrives_too() {
    for addr in ["[::1]:0", "127.0.0.1:0"] {
        let (server, client) = (server(addr), client(addr));
        let path = ReturnPath::to(client.local_addr().unwrap());
        let (mut outbox, mut sender) = (Outbox::new(), Sender::new(64));
        for n in 0..3 {
            outbox.push(path, &[n; 1_400]);
        }
        let report = sender.send(&server, &mut outbox);
        assert_eq!((report.sent, report.failed), (3, 0), "{addr}: {report:?}");
        let received = receive(&client, 3);
        assert!(received.iter().all(|(bytes, _)| bytes.len() == 1_400));
    }
}
