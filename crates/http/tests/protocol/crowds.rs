//! Many connections, much noise, and clients that do not listen.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use aquatic_test_support::program::localhost;
use aquatic_test_support::wait::until;
use aquatic_test_support::{Daemon, metrics, torrent};
use aquatic_types::IpFamily;
use socket2::SockRef;

use super::client::{Client, LEECHER, announce, get, row, rows, scrape};
use super::connection::{Connection, Transport, tcp};
use super::setup::{Tracker, on_every_case, on_every_runtime};

/// Begins one connection and leaves it in one of many ways.
fn come_and_go(tracker: &Tracker, number: u32) -> Option<TcpStream> {
    let family = IpFamily::ALL[usize::from(number % 2 == 1)];
    let mut tcp = tcp(localhost(family), tracker.address(family)).unwrap();
    let request = get(&announce(torrent(number), 1, LEECHER)).into_bytes();
    match (number / 2) % 6 {
        // At once.
        0 => {}
        // In the middle of something.
        1 => tcp.write_all(&request[..20]).unwrap(),
        // With an answer on its way.
        2 => tcp.write_all(&request).unwrap(),
        // With a reset.
        3 => {
            tcp.write_all(&request).unwrap();
            SockRef::from(&tcp)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        // In good order (with TLS: an alert).
        4 => {
            let mut connection = Connection::over(tcp, tracker.transport);
            connection.send(&request);
            assert_eq!(connection.answer().status, 200);
            return None;
        }
        // A little later.
        _ => return Some(tcp),
    }
    None
}

#[test]
fn thousands_of_connections_come_and_go() {
    const CONNECTIONS: u32 = 5_000;
    on_every_runtime(|case| {
        let tracker = case.start_with_metrics("");
        let mut other = Client::new(&tracker, IpFamily::V4);
        // When it answers, its workers have opened everything that they need themselves.
        other.join(torrent(1), 1, LEECHER);
        let files_before = tracker.files().len();
        // Those that stay a little longer than their fellows: some 80 at a time.
        let mut later = Vec::new();
        for number in 0..CONNECTIONS {
            later.extend(come_and_go(&tracker, number));
            if number % 500 == 0 {
                later.clear();
                other.join(torrent(1), 1, LEECHER);
            }
        }
        later.clear();
        metrics::wait_for(
            &tracker,
            &[
                ("aquatic_connections_total", f64::from(CONNECTIONS) + 1.0),
                ("aquatic_active_connections", 1.0),
            ],
        );
        other.join(torrent(1), 1, LEECHER);
        drop(other);
        until("all files are closed", || {
            (tracker.files().len() < files_before).then_some(())
        });
    });
}

#[test]
fn many_clients_are_served_at_once() {
    const CLIENTS: u16 = 200;
    on_every_case(|case| {
        let tracker = case.start("limits.max_peers_per_ip_and_torrent = 0");
        let mut clients: Vec<_> = (1..=CLIENTS)
            .map(|port| (port, Client::new(&tracker, IpFamily::V4)))
            .collect();
        for round in 0..3 {
            for (port, client) in &mut clients {
                let hash = torrent(u32::from(*port) % 7 + round);
                client.connection.send(get(&announce(hash, *port, LEECHER)));
            }
            for (_, client) in &mut clients {
                assert_eq!(client.connection.answer().status, 200);
            }
        }
        let (_, client) = &mut clients[0];
        let all: Vec<_> = (0..9).map(torrent).collect();
        let leechers: i64 = client.scrape(&all).iter().map(|row| row.leechers).sum();
        assert_eq!(leechers, 3 * i64::from(CLIENTS));
    });
}

/// Random bytes, or something like a request with some bytes wrong.
fn noise(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = match rng.u8(..4) {
        0 => {
            let mut bytes = vec![0; rng.usize(1..3_000)];
            rng.fill(&mut bytes);
            bytes
        }
        1 => get(&scrape(&[torrent(1), torrent(2)])).into_bytes(),
        _ => get(&announce(torrent(rng.u32(..9)), rng.u16(..), LEECHER)).into_bytes(),
    };
    for _ in 0..rng.usize(..6) {
        let place = rng.usize(..bytes.len());
        bytes[place] = rng.u8(..);
    }
    bytes.truncate(rng.usize(1..=bytes.len()));
    bytes
}

#[test]
fn noise_does_no_harm() {
    const CONNECTIONS: usize = 1_000;
    on_every_runtime(|case| {
        let tracker = case.start("");
        let mut rng = fastrand::Rng::with_seed(20_251_122);
        for _ in 0..CONNECTIONS {
            // Without TLS in between, so that it is noise to TLS, too.
            let is_deep = tracker.transport.is_tls() && rng.u8(..8) == 0;
            let family = IpFamily::ALL[usize::from(rng.bool())];
            let tcp = tcp(localhost(family), tracker.address(family)).unwrap();
            let transport = if is_deep {
                tracker.transport
            } else {
                Transport::Plain
            };
            let mut connection = Connection::over(tcp, transport);
            for _ in 0..rng.usize(1..4) {
                // It may have had enough.
                let _ = connection.try_send(&noise(&mut rng));
            }
        }
        for family in IpFamily::ALL {
            let mut client = Client::new(&tracker, family);
            client.join(torrent(100), 7, LEECHER);
        }
        let mut client = Client::new(&tracker, IpFamily::V4);
        assert_eq!(client.scrape(&[torrent(100)]), [row(0, 0, 2)]);
    });
}

/// Of all memory that the process has had at once.
fn peak_memory_kib(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(daemon.proc("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// Until it has nothing to do: between two looks it has used no time at all.
fn wait_until_at_rest(daemon: &Daemon) {
    let mut last = Duration::ZERO;
    until("the tracker rests", || {
        let used = daemon.cpu_time();
        let is_at_rest = used == last;
        last = used;
        is_at_rest.then_some(())
    });
}

/// A client that asks and asks and does not read gets what it asked for when it does, and until
/// then the tracker waits without collecting answers.
#[test]
fn who_does_not_read_is_not_served_in_advance() {
    on_every_runtime(|case| {
        if case.transport.is_tls() {
            return; // A TLS client cannot stop in the middle of a record and go on.
        }
        let tracker = case.start("");
        let hashes: Vec<_> = (0..100).map(torrent).collect();
        let request = get(&scrape(&hashes)).into_bytes();
        Client::new(&tracker, IpFamily::V4).scrape(&hashes);
        let before = peak_memory_kib(&tracker);

        let mut tcp = tcp(localhost(IpFamily::V4), tracker.address(IpFamily::V4)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let mut sent_bytes = 0;
        loop {
            match tcp.write(&request[sent_bytes % request.len()..]) {
                Ok(size) => sent_bytes += size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait_until_at_rest(&tracker);
                    // Now or never.
                    match tcp.write(&request[sent_bytes % request.len()..]) {
                        Ok(size) => sent_bytes += size,
                        Err(_) => break,
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        let grown = peak_memory_kib(&tracker) - before;
        assert!(grown < 4_096, "{grown} KiB");
        Client::new(&tracker, IpFamily::V4).join(torrent(1), 1, LEECHER);

        // Now it reads, and sends the rest of its last request.
        tcp.set_nonblocking(false).unwrap();
        let mut sender = tcp.try_clone().unwrap();
        let requests = sent_bytes.div_ceil(request.len());
        let rest = &request[request.len() - (requests * request.len() - sent_bytes)..];
        std::thread::scope(|scope| {
            scope.spawn(|| sender.write_all(rest).unwrap());
            let mut connection = Connection::over(tcp, Transport::Plain);
            for _ in 0..requests {
                let answer = connection.answer().value();
                assert_eq!(rows(&answer, &hashes).len(), hashes.len());
            }
        });
    });
}
