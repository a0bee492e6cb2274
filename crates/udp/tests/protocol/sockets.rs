//! Addresses, buffers and bad weather.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;

use aquatic_test_support::program::loopback;
use aquatic_test_support::wait::until;
use aquatic_test_support::{Place, Setup, metrics, setup, torrent, torrents};
use aquatic_types::IpFamily;

use super::client::{Client, announce_bytes};
use super::setup::{SIMPLE, UDP, backends, on_every_setup, on_every_setup_and_family};

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

/// Datagrams that sockets have sent in the network of this thread.
#[cfg(target_os = "linux")]
fn sent_by_sockets() -> u64 {
    let numbers = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = numbers.lines().filter(|line| line.starts_with("Udp: "));
    let [names, numbers] = [(); 2].map(|()| lines.next().unwrap().split(' '));
    let mut pairs = names.zip(numbers);
    let (_, v4) = pairs.find(|(name, _)| *name == "OutDatagrams").unwrap();
    let numbers = fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
    let mut lines = numbers.lines();
    let v6 = lines.find_map(|line| line.strip_prefix("Udp6OutDatagrams"));
    v4.parse::<u64>().unwrap() + v6.unwrap().trim().parse::<u64>().unwrap()
}

/// What all these scenarios say of queues they say of sockets only, if nothing comes by queues.
#[test]
#[cfg(target_os = "linux")]
fn where_there_are_queues_answers_leave_by_them() {
    on_every_setup(|setup| {
        if !setup.has_queues {
            return;
        }
        let daemon = setup.start_with_metrics("");
        metrics::wait_for(&daemon, &[("aquatic_xdp_active", 1.0)]);
        for family in IpFamily::ALL {
            let before = sent_by_sockets();
            let mut client = Client::new(&daemon, family);
            client.join(torrent(1), 1, 1);
            client.scrape(&[torrent(1)]);
            // Three requests of the client's.
            assert_eq!(sent_by_sockets() - before, 3, "{family:?}");
        }
    });
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

/// Sends many requests at once, of which none may be lost. (More would not fit into the receive
/// buffer that a system gives to the client by default. The kernel counts what comes by a queue as
/// larger.)
fn burst(settings: &str, setup: Setup) {
    let requests = if setup.has_queues { 100 } else { 200 };
    let daemon = setup.start(settings);
    for family in IpFamily::ALL {
        let client = Client::new(&daemon, family);
        for number in 0..requests {
            let peer = client.peer(torrent(number), 1, 1);
            let mut request = announce_bytes(&peer);
            request[12..16].copy_from_slice(&number.to_be_bytes());
            client.send(&request);
        }
        let answered: HashSet<_> = (0..requests)
            .map(|_| client.receive()[4..8].to_vec())
            .collect();
        assert_eq!(answered.len(), requests as usize);
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
fn a_buffer_that_is_not_granted_is_logged() {
    for (key, limit) in [
        ("socket_recv_buffer_size", "net.core.rmem_max"),
        ("socket_send_buffer_size", "net.core.wmem_max"),
    ] {
        let daemon = SIMPLE.start(&format!("network.{key} = 2_000_000_000"));
        let log = daemon.place.log();
        let expected = format!("`network.{key}` is 2000000000, but");
        let line = log.lines().find(|line| line.contains(&expected)).unwrap();
        assert!(line.contains("WARN") && line.contains(limit), "{line}");
    }
    let daemon = SIMPLE.start(UDP.modest_settings);
    let log = daemon.place.log();
    assert!(!log.contains("WARN"), "{log}");
}

/// What the kernel has no room for never reaches the tracker, but must not be lost silently.
#[test]
#[cfg(target_os = "linux")]
fn what_finds_no_room_in_the_receive_buffer_is_counted() {
    use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};

    const REQUESTS: u32 = 3_000;
    on_every_setup(|setup| {
        let daemon = setup.start_with_metrics("network.socket_recv_buffer_size = 20_000");
        for family in IpFamily::ALL {
            let client = Client::new(&daemon, family);
            let announce = announce_bytes(&client.peer(torrent(1), 1, 1));
            let before = metrics::scrape(&daemon);
            daemon.signal(SIGSTOP);
            // Its threads do not stop in the same moment.
            until("nobody reads", || {
                let mut threads = daemon.threads().into_iter();
                let stands_still = threads.all(|thread| {
                    let stat = fs::read_to_string(thread.join("stat")).unwrap();
                    let (name, state) = stat.rsplit_once(") ").unwrap();
                    !name.contains("(socket") || state.starts_with('T')
                });
                stands_still.then_some(())
            });
            (0..REQUESTS).for_each(|_| client.send(&announce));
            daemon.signal(SIGCONT);
            let ip_version = family.digit();
            let selector = |name| format!("{name}ip_version={ip_version}}}");
            let received = selector("aquatic_requests_total{");
            // Of which family a frame is has nobody looked at that had no room in a queue.
            let lost = match setup.has_queues {
                true => "aquatic_dropped_total{reason=receive_buffer_full}".to_owned(),
                false => selector("aquatic_dropped_total{reason=receive_buffer_full,"),
            };
            until("each request has been received or counted as lost", || {
                let samples = metrics::scrape(&daemon);
                let since = |name| metrics::sum(&samples, name) - metrics::sum(&before, name);
                let all = since(&received) + since(&lost) >= f64::from(REQUESTS);
                all.then(|| assert!(since(&lost) > 0.0))
            });
        }
        daemon.wait_for_warning(
            "datagrams lost, since a receive buffer was full: ",
            "`network.socket_recv_buffer_size`",
        );
    });
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
        .into_iter()
        .map(|backend| Setup {
            runtime: backend,
            ..SIMPLE
        })
        .collect();
    setup::on_each(&setups, |setup| {
        let place = Place::new();
        let settings = place.metrics_settings(&UDP);
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
