//! Addresses, buffers and bad weather.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use aquatic_types::IpFamily;
use aquatic_udp_protocol::PROTOCOL_ID;
use nix::sys::signal::Signal;

use super::client::{Client, announce_bytes, torrent, torrents};
use super::daemon::{DEADLINE, Place};
use super::metrics;
use super::setup::{Setup, backends, on_each, on_every_setup, on_every_setup_and_family};

fn loopback(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// Whether a tracker answers at `address`. The alternative is that the kernel says that no one is
/// there.
fn serves(address: SocketAddr) -> bool {
    let ip = if address.is_ipv4() {
        loopback(1)
    } else {
        "::1".parse().unwrap()
    };
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut request = PROTOCOL_ID.to_vec();
    request.extend([0; 8]);
    socket.send(&request).unwrap();
    match socket.recv(&mut [0; 16]) {
        Ok(size) => size == 16,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_answer_leaves_from_the_address_that_was_asked() {
    on_every_setup(|setup| {
        let place = Place::new();
        let port = place.port();
        let settings = format!("network.address = ['0.0.0.0:{port}', '[::]:{port}']");
        let daemon = place.start(setup, &settings);
        for last in 1..=8 {
            // A client hears only the address that it asks.
            let mut client = Client::between(loopback(9), SocketAddr::new(loopback(last), port));
            client.connect();
            for info_hash in torrents() {
                client.join(info_hash, 1, 1);
            }
            client.scrape(&torrents().collect::<Vec<_>>());
        }
        Client::new(&daemon, IpFamily::V6).join(torrent(1), 1, 1);
    });
}

#[test]
fn several_addresses_share_their_swarms() {
    on_every_setup(|setup| {
        let place = Place::new();
        let port = place.port();
        let settings = format!("network.address = ['127.0.0.1:{port}', '127.0.0.3:{port}']");
        let _daemon = place.start(setup, &settings);
        for (count, last) in [(1, 1), (2, 3)] {
            let mut client = Client::between(loopback(1), SocketAddr::new(loopback(last), port));
            client.connect();
            for info_hash in torrents() {
                let peer_port = u16::from(last);
                assert_eq!(client.join(info_hash, peer_port, 1).leechers, count);
            }
        }
        assert!(!serves(SocketAddr::new(loopback(2), port)));
    });
}

#[test]
fn one_address_needs_no_list_and_ipv6_is_ipv6_only() {
    let place = Place::new();
    let v6 = SocketAddr::new("::1".parse().unwrap(), place.port());
    let v4 = SocketAddr::new(loopback(1), place.port());
    let settings = format!("network.address = '[::]:{}'", place.port());
    let _daemon = place.start(Setup::SIMPLE, &settings);
    assert!(serves(v6));
    assert!(!serves(v4));
}

#[test]
fn a_client_that_is_gone_disturbs_nobody() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::new(daemon, family);
        for round in 1..=50 {
            // Each answer to these comes back as an ICMP error.
            for _ in 0..10 {
                let gone = Client::stranger(daemon, family);
                gone.send(&gone.connect_request());
            }
            assert_eq!(client.join(torrent(round), 1, 1).leechers, 1);
        }
        Client::new(daemon, family);
    });
}

#[test]
fn an_address_in_use_is_named() {
    on_every_setup(|setup| {
        let daemon = setup.start("");
        let second = Place::new();
        let address = daemon.address(IpFamily::V6);
        let ended = second.fail(setup, &format!("network.address = '{address}'"));
        assert_eq!(ended.code, Some(1), "{}", ended.log);
        let reason = format!("aquatic_udp ends: cannot bind {address}: another program");
        assert!(ended.log.contains(&reason), "{}", ended.log);
        assert!(serves(address));
    });
}

#[test]
fn a_restart_takes_the_address_over() {
    on_every_setup(|setup| {
        let mut first = setup.start("");
        let addresses = IpFamily::ALL.map(|family| first.address(family).to_string());
        let second = Place::new();
        let settings = format!("network.address = {addresses:?}");
        let child = second.command(setup, &settings).spawn().unwrap();
        first.signal(Signal::SIGTERM);
        assert_eq!(first.wait_exit().code(), Some(0));
        let _second = second.wait_for(child);
        assert!(
            IpFamily::ALL
                .into_iter()
                .all(|family| serves(first.address(family)))
        );
    });
}

#[test]
fn a_foreign_address_is_named() {
    // TEST-NET-1 (RFC 5737) belongs to no machine.
    let ended = Place::new().fail(Setup::SIMPLE, "network.address = '192.0.2.1:3000'");
    assert_eq!(ended.code, Some(1));
    let reason = "cannot bind 192.0.2.1:3000: no network interface of this machine";
    assert!(ended.log.contains(reason), "{}", ended.log);
}

/// Sends many requests at once, of which none may be lost. (More would not fit into the receive
/// buffer that a system gives to the client by default.)
fn burst(settings: &str, setup: Setup) {
    const REQUESTS: u32 = 200;
    let daemon = setup.start(settings);
    for family in IpFamily::ALL {
        let client = Client::new(&daemon, family);
        for number in 0..REQUESTS {
            let peer = client.peer(torrent(number), 1, 1);
            let mut request = announce_bytes(&peer);
            request[12..16].copy_from_slice(&number.to_be_bytes());
            client.send(&request);
        }
        let answered: HashSet<_> = (0..REQUESTS)
            .map(|_| client.receive()[4..8].to_vec())
            .collect();
        assert_eq!(answered.len(), REQUESTS as usize);
    }
}

#[test]
fn a_burst_is_answered_whole() {
    on_every_setup(|setup| burst("", setup));
}

#[test]
fn a_burst_is_answered_whole_with_the_smallest_ring_and_no_waiting() {
    on_every_setup(|setup| burst("network.ring_size = 16\nnetwork.batch_wait_us = 0", setup));
}

#[test]
fn answers_may_be_kept_for_a_full_send_buffer() {
    on_every_setup(|setup| burst("network.resend_buffer_max_len = 100", setup));
}

#[test]
fn a_receive_buffer_that_is_not_granted_is_logged() {
    let daemon = Setup::SIMPLE.start("network.socket_recv_buffer_size = 2_000_000_000");
    let log = daemon.place.log();
    let line = log.lines().find(|line| line.contains("WARN")).unwrap();
    assert!(
        line.contains("`network.socket_recv_buffer_size` is 2000000000, but"),
        "{line}"
    );
    assert!(line.contains("net.core.rmem_max"), "{line}");
    drop(daemon);

    let daemon = Setup::SIMPLE.start("network.socket_recv_buffer_size = 100_000");
    assert!(
        !daemon.place.log().contains("WARN"),
        "{}",
        daemon.place.log()
    );
}

/// What is sent from port 0 cannot be answered. Only raw sockets can send so, and only root may
/// have them.
#[test]
#[cfg(target_os = "linux")]
fn port_0_is_not_answered() {
    use socket2::{Domain, Protocol, Socket, Type};

    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let setups: Vec<_> = backends()
        .map(|backend| Setup {
            backend,
            ..Setup::SIMPLE
        })
        .collect();
    on_each(&setups, |setup| {
        let place = Place::new();
        let settings = place.metrics_settings();
        let daemon = place.start(setup, &settings);
        let mut client = Client::new(&daemon, IpFamily::V4);
        let payload = client.connect_request();
        let size_bytes = u16::try_from(8 + payload.len()).unwrap();
        // Source port, destination port, length, and no checksum (RFC 768).
        let header = [0, daemon.place.port(), size_bytes, 0].map(u16::to_be_bytes);
        let datagram = [header.as_flattened(), &payload].concat();
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).unwrap();
        let tracker = SocketAddr::new(daemon.address(IpFamily::V4).ip(), 0);
        socket.send_to(&datagram, &tracker.into()).unwrap();
        client.connect();
        metrics::wait_for(
            &daemon,
            &[
                ("aquatic_dropped_total{reason=source_port_zero}", 1.0),
                ("aquatic_requests_total", 2.0),
            ],
        );
    });
}
