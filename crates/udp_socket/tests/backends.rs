//! What every backend must do, over real loopback sockets, run for each of them.

use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::time::Duration;

use aquatic_udp_socket::{Outbox, ReturnPath, SocketOptions, UdpSocket};

const PATIENCE: Duration = Duration::from_secs(10);

fn bind(addr: &str) -> UdpSocket {
    UdpSocket::bind(addr.parse().unwrap(), &SocketOptions::default()).unwrap()
}

fn client(addr: &str) -> StdUdpSocket {
    let client = StdUdpSocket::bind(addr).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

/// The address at which a client on this host reaches a socket bound to the unspecified address.
fn reach(socket: &UdpSocket, ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), socket.local_addr().port())
}

/// An address at which nobody listens.
fn closed_port() -> SocketAddr {
    bind("127.0.0.1:0").local_addr()
}

macro_rules! suite {
    ($backend:ident) => {
        mod $backend {
            use aquatic_udp_socket::$backend::{Receiver, Sender};

            use super::*;

            /// Receives until there are `wanted` datagrams; gives back their paths and bytes.
            fn receive(socket: &UdpSocket, wanted: usize) -> Vec<(ReturnPath, Vec<u8>, bool)> {
                let mut receiver = Receiver::new(4, 100);
                let mut all = Vec::new();
                while all.len() < wanted {
                    assert!(socket.wait_readable(Some(PATIENCE)).unwrap(), "{all:?}");
                    receiver.receive(socket).unwrap();
                    let datagrams = receiver.datagrams();
                    all.extend(datagrams.map(|d| (d.path, d.bytes.to_vec(), d.truncated)));
                }
                all
            }

            fn answers_come_back(server: &str, client_addr: &str) {
                let server = bind(server);
                let client = client(client_addr);
                // More than one batch, one of them empty.
                for len in 0..10 {
                    let packet = vec![len; usize::from(len)];
                    client.send_to(&packet, server.local_addr()).unwrap();
                }
                let mut outbox = Outbox::new();
                for (place, (path, bytes, truncated)) in receive(&server, 10).iter().enumerate() {
                    assert_eq!(path.peer(), client.local_addr().unwrap());
                    assert_eq!(*bytes, vec![u8::try_from(place).unwrap(); place]);
                    assert!(!truncated);
                    outbox.push_with(*path, |out| out.extend(bytes.iter().map(|b| b + 100)));
                }
                let report = Sender::new(4).send(&server, &mut outbox);
                assert_eq!((report.sent, report.sent_bytes), (10, 45));
                assert_eq!((report.failed, report.would_block), (0, false));
                assert!(outbox.is_empty());
                let mut buffer = [0; 100];
                for len in 0..10u8 {
                    let (bytes, from) = client.recv_from(&mut buffer).unwrap();
                    assert_eq!(from, server.local_addr());
                    assert_eq!(buffer[..bytes], vec![len + 100; usize::from(len)]);
                }
            }

            #[test]
            fn answers_come_back_v4() {
                answers_come_back("127.0.0.1:0", "127.0.0.1:0");
            }

            #[test]
            fn answers_come_back_v6() {
                answers_come_back("[::1]:0", "[::1]:0");
            }

            #[test]
            fn nothing_waits() {
                let server = bind("127.0.0.1:0");
                let mut receiver = Receiver::new(4, 100);
                assert_eq!(receiver.receive(&server).unwrap(), 0);
                assert_eq!(receiver.datagrams().count(), 0);
            }

            #[test]
            fn no_more_than_a_batch_at_once() {
                let server = bind("127.0.0.1:0");
                let client = client("127.0.0.1:0");
                for _ in 0..6 {
                    client.send_to(b"x", server.local_addr()).unwrap();
                }
                let mut receiver = Receiver::new(4, 100);
                let sizes = [(); 3].map(|()| receiver.receive(&server).unwrap());
                assert_eq!(sizes, [4, 2, 0]);
            }

            #[test]
            fn large_datagrams_are_cut_and_marked() {
                let server = bind("127.0.0.1:0");
                let client = client("127.0.0.1:0");
                for len in [100, 101, 5000, 99] {
                    client.send_to(&vec![7; len], server.local_addr()).unwrap();
                }
                let received = receive(&server, 4);
                let seen = received.iter().map(|(_, bytes, cut)| (bytes.len(), *cut));
                let expected = [(100, false), (100, true), (100, true), (99, false)];
                assert_eq!(seen.collect::<Vec<_>>(), expected);
            }

            #[test]
            fn icmp_errors_end_nothing() {
                // Connected, so that the kernel reports "port unreachable" here at all.
                let mut socket = bind("127.0.0.1:0");
                let peer = closed_port();
                socket.connect(peer).unwrap();
                let mut sender = Sender::new(4);
                let mut outbox = Outbox::new();
                let mut refused = 0;
                for _ in 0..3 {
                    for _ in 0..5 {
                        outbox.push(ReturnPath::to(peer), b"anybody there?");
                    }
                    let report = sender.send(&socket, &mut outbox);
                    assert_eq!(report.sent + report.failed, 5);
                    assert!(outbox.is_empty() && !report.would_block);
                    refused += report.failed;
                }
                assert!(refused > 0);
                let late = StdUdpSocket::bind(peer).unwrap();
                late.send_to(b"here I am", socket.local_addr()).unwrap();
                assert_eq!(receive(&socket, 1)[0].1, b"here I am");
            }

            #[test]
            fn a_bad_packet_does_not_hold_up_the_others() {
                let server = bind("127.0.0.1:0");
                let client = client("127.0.0.1:0");
                let good = ReturnPath::to(client.local_addr().unwrap());
                // Broadcasting needs a permission that the socket does not have.
                let bad = ReturnPath::to("255.255.255.255:9".parse().unwrap());
                let mut outbox = Outbox::new();
                outbox.push(bad, b"1");
                outbox.push(good, b"2");
                outbox.push(bad, b"3");
                outbox.push(bad, b"4");
                outbox.push(good, &vec![5; 70_000]);
                outbox.push(good, b"6");
                let report = Sender::new(4).send(&server, &mut outbox);
                assert_eq!((report.sent, report.sent_bytes, report.failed), (2, 2, 4));
                // Packets to different clients may overtake each other, so either can be the last.
                let errno = report.last_error.unwrap().raw_os_error();
                assert!(matches!(errno, Some(libc::EMSGSIZE | libc::EACCES)));
                let mut buffer = [0; 9];
                for expected in [b"2", b"6"] {
                    let len = client.recv(&mut buffer).unwrap();
                    assert_eq!(&buffer[..len], expected);
                }
            }

            #[test]
            fn a_connected_socket_needs_no_path() {
                let server = client("127.0.0.1:0");
                let mut socket = bind("0.0.0.0:0");
                socket.connect(server.local_addr().unwrap()).unwrap();
                let mut outbox = Outbox::new();
                outbox.push(ReturnPath::to(closed_port()), b"question");
                let report = Sender::new(4).send(&socket, &mut outbox);
                assert_eq!(report.sent, 1);
                let mut buffer = [0; 9];
                let (_, from) = server.recv_from(&mut buffer).unwrap();
                assert_eq!(&buffer[..8], b"question");
                assert_eq!(from, socket.local_addr());
                server.send_to(b"answer", from).unwrap();
                let (path, bytes, _) = receive(&socket, 1).remove(0);
                assert_eq!((path.local(), &bytes[..]), (None, &b"answer"[..]));
            }
        }
    };
}

suite!(portable);
#[cfg(target_os = "linux")]
suite!(mmsg);

/// Packet info is Linux's.
#[cfg(target_os = "linux")]
mod packet_info {
    use aquatic_udp_socket::{LocalAddr, Receiver, Sender};

    use super::*;

    fn ask(server: &UdpSocket, client: &StdUdpSocket, at: SocketAddr) -> ReturnPath {
        client.send_to(b"?", at).unwrap();
        let mut receiver = Receiver::new(4, 100);
        assert!(server.wait_readable(Some(PATIENCE)).unwrap());
        receiver.receive(server).unwrap();
        let path = receiver.datagrams().next().unwrap().path;
        let mut outbox = Outbox::new();
        outbox.push(path, b"!");
        assert_eq!(Sender::new(4).send(server, &mut outbox).sent, 1);
        let (_, from) = client.recv_from(&mut [0; 9]).unwrap();
        assert_eq!(from, at, "answered from another address");
        path
    }

    #[test]
    fn the_answer_leaves_from_the_address_that_was_asked() {
        let server = bind("0.0.0.0:0");
        // Not connected: else a wrong source address would look like a lost answer.
        let client = client("127.0.0.1:0");
        for ip in ["127.0.0.2", "127.0.0.1", "127.9.9.9"] {
            let path = ask(&server, &client, reach(&server, ip));
            let expected = LocalAddr {
                ip: ip.parse().unwrap(),
                interface: 0,
            };
            assert_eq!(path.local(), Some(expected));
        }
    }

    #[test]
    fn the_answer_leaves_from_the_address_that_was_asked_v6() {
        let server = bind("[::]:0");
        let client = client("[::1]:0");
        let path = ask(&server, &client, reach(&server, "::1"));
        assert_eq!(
            path.local().unwrap().ip,
            "::1".parse::<std::net::IpAddr>().unwrap()
        );
    }

    #[test]
    fn a_bound_address_needs_none() {
        let server = bind("127.0.0.2:0");
        let client = client("127.0.0.1:0");
        let path = ask(&server, &client, server.local_addr());
        assert_eq!(path.local(), None);
    }
}
