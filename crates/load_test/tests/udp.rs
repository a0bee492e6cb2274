//! The tester's program against a tracker that misbehaves by plan and keeps book of it: the report
//! must say the same.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_test_support::load_test::tester::number;
use aquatic_test_support::load_test::{FakeTracker, Tester};
use aquatic_types::{CompactAddr, CompactV4, CompactV6, InfoHash, IpFamily};
use aquatic_udp_protocol::{
    AnnounceHeader, AnnounceRequest, AnnounceResponse, ConnectResponse, ConnectionId,
    ErrorResponse, PeerRows, Request, Response, ScrapeResponse, ScrapeRows, TransactionId,
};
use serde_json::Value;

const CONNECTION_ID: ConnectionId = ConnectionId(*b"fake one");

/// Every so many announces; 0: never.
#[derive(Clone, Copy, Default)]
struct Plan {
    drop: u64,
    delay: u64,
    refuse: u64,
    answer_twice: u64,
}

/// Longer than `answers.late_after_ms`, and by far shorter than `answers.lost_after_ms`.
const DELAY_MICROS: u64 = 1_500_000;

#[derive(Default)]
struct Book {
    connects: u64,
    announces: u64,
    scrapes: u64,
    dropped: u64,
    delayed: u64,
    refused: u64,
    answered_twice: u64,
    peers: HashSet<(InfoHash, SocketAddr)>,
    torrents: HashMap<InfoHash, u64>,
}

fn start(address: &str, plan: Plan) -> FakeTracker<Book> {
    let socket = UdpSocket::bind(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(5)))
        .unwrap();
    let address = socket.local_addr().unwrap();
    FakeTracker::start(address, move |should_stop| {
        serve(&socket, plan, should_stop)
    })
}

fn serve(socket: &UdpSocket, plan: Plan, should_stop: &AtomicBool) -> Book {
    let clock = Clock::start();
    let mut book = Book::default();
    let mut delayed: VecDeque<(u64, SocketAddr, Vec<u8>)> = VecDeque::new();
    let mut buffer = [0; 2048];
    while !should_stop.load(Ordering::Relaxed) {
        while delayed
            .front()
            .is_some_and(|(due, ..)| clock.micros() >= *due)
        {
            let (_, to, packet) = delayed.pop_front().unwrap();
            socket.send_to(&packet, to).unwrap();
        }
        let Ok((bytes, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let mut packet = Vec::new();
        match Request::parse(&buffer[..bytes]).unwrap() {
            Request::Connect(connect) => {
                book.connects += 1;
                let answer = ConnectResponse {
                    transaction_id: connect.transaction_id,
                    connection_id: CONNECTION_ID,
                };
                answer.write(&mut packet);
            }
            Request::Scrape(scrape) => {
                book.scrapes += 1;
                assert_eq!(scrape.connection_id, CONNECTION_ID);
                let rows = vec![0; scrape.info_hashes.len() * 12];
                let answer = ScrapeResponse {
                    transaction_id: scrape.transaction_id,
                    rows: ScrapeRows::new(&rows),
                };
                answer.write(&mut packet);
            }
            Request::Announce(announce) => {
                let Some(due) = book.enter(plan, &announce, from, &mut packet) else {
                    continue;
                };
                if due > 0 {
                    delayed.push_back((clock.micros() + due, from, packet));
                    continue;
                }
                if book.answers_twice(plan) {
                    socket.send_to(&packet, from).unwrap();
                }
            }
        }
        socket.send_to(&packet, from).unwrap();
    }
    book
}

impl Book {
    /// Writes the answer; gives back how much later to send it, or `None`: never.
    fn enter(
        &mut self,
        plan: Plan,
        announce: &AnnounceRequest<'_>,
        from: SocketAddr,
        packet: &mut Vec<u8>,
    ) -> Option<u64> {
        assert_eq!(announce.connection_id, CONNECTION_ID);
        self.announces += 1;
        if self.is_turn(plan.drop) {
            self.dropped += 1;
            return None;
        }
        if self.is_turn(plan.refuse) {
            self.refused += 1;
            let answer = ErrorResponse {
                transaction_id: announce.transaction_id,
                message: b"not today",
            };
            answer.write(packet);
            return Some(0);
        }
        self.peers.insert((
            announce.info_hash,
            SocketAddr::new(from.ip(), announce.port),
        ));
        *self.torrents.entry(announce.info_hash).or_default() += 1;
        three_peers(announce.transaction_id, from).write_to(packet);
        if self.is_turn(plan.delay) {
            self.delayed += 1;
            return Some(DELAY_MICROS);
        }
        Some(0)
    }

    fn answers_twice(&mut self, plan: Plan) -> bool {
        let is_turn = self.is_turn(plan.answer_twice);
        self.answered_twice += u64::from(is_turn);
        is_turn
    }

    fn is_turn(&self, every: u64) -> bool {
        self.announces.checked_rem(every) == Some(0)
    }
}

struct ThreePeers {
    header: AnnounceHeader,
    rows: Vec<u8>,
    family: IpFamily,
}

fn three_peers(transaction_id: TransactionId, to: SocketAddr) -> ThreePeers {
    let row = match to.ip() {
        std::net::IpAddr::V4(ip) => CompactV4::new(ip, 1).as_bytes().to_vec(),
        std::net::IpAddr::V6(ip) => CompactV6::new(ip, 1).as_bytes().to_vec(),
    };
    ThreePeers {
        header: AnnounceHeader {
            transaction_id,
            interval_seconds: 900,
            leechers: 1,
            seeders: 2,
        },
        rows: row.repeat(3),
        family: IpFamily::of(&to),
    }
}

impl ThreePeers {
    fn write_to(&self, packet: &mut Vec<u8>) {
        let answer = Response::Announce(AnnounceResponse {
            header: self.header,
            peers: PeerRows::new(&self.rows, self.family),
        });
        answer.write(packet);
    }
}

const TESTER: Tester = Tester::new(env!("CARGO_BIN_EXE_aquatic_udp_load_test"));

const POPULATION: &str = "
    number_of_torrents = 100
    number_of_peers = 1000
";

/// For a tracker that answers everything at once: this machine may keep it or the tester waiting.
const PATIENT: &str = "answers = { late_after_ms = 8000, lost_after_ms = 8000 }";

/// In time or, if this machine has more to do, late.
fn come(kind: &Value) -> u64 {
    number(&kind["answered"]) + number(&kind["late"])
}

#[test]
fn what_the_tracker_does_is_what_the_report_says() {
    let plan = Plan {
        drop: 10,
        delay: 13,
        refuse: 7,
        answer_twice: 11,
    };
    let tracker = start("127.0.0.1:0", plan);
    let report = TESTER.report(&format!(
        "server_address = \"{}\"
        duration_seconds = 7
        # Few enough for the receive buffer of a plain socket, even if the tracker's thread stands
        # still for seconds and so many more come in each of them.
        network = {{ in_flight_per_socket = 8 }}
        answers = {{ late_after_ms = 1000, lost_after_ms = 8000 }}
        [requests]
        weight_connect = 0
        weight_announce = 10
        weight_scrape = 1
        {POPULATION}",
        tracker.address
    ));
    let book = tracker.stop();

    // A tenth is never answered. Had those not been given up after a second, there would be no more
    // of them than the 32 that may be in flight: fewer than 330 announces.
    assert!(book.announces > 330, "{}", book.announces);
    let announce = &report["announce"];
    assert_eq!(announce["requests"], book.announces);
    assert_eq!(announce["lost"], book.dropped);
    assert_eq!(announce["refused"], book.refused);
    assert_eq!(come(announce), book.announces - book.dropped - book.refused);
    let late = number(&announce["late"]);
    assert!(late >= book.delayed, "{report}");
    // While something stands still, no more become late than wait at the same time.
    assert!(number(&announce["answered"]) > late, "{report}");
    assert!(announce["latency_micros"]["max"].as_u64() >= Some(DELAY_MICROS));
    assert_eq!(report["scrape"]["requests"], book.scrapes);
    assert_eq!(come(&report["scrape"]), book.scrapes);
    assert_eq!(report["connect"]["requests"], 0);
    // Those before the window are repeated if the tracker takes its time.
    assert!(book.connects >= 4, "{}", book.connects);
    assert_eq!(report["peers_per_announce"], 3.0);
    let errors = &report["errors"];
    assert_eq!(errors["messages"]["not today"], book.refused);
    assert_eq!(errors["duplicate"], book.answered_twice);
    assert_eq!(errors["total"], book.refused + book.answered_twice);
    assert!(book.delayed > 10 && book.refused > 10 && book.answered_twice > 10);
}

#[test]
fn a_rate_is_kept_over_ipv6_and_the_tracker_is_observed() {
    let tracker = start("[::1]:0", Plan::default());
    let report = TESTER.report(&format!(
        "server_address = \"{}\"
        duration_seconds = 2
        # So few that all of them find room in the receive buffer of a plain socket.
        rate_per_second = 60
        workers = 2
        tracker_pid = {}
        network = {{ client_ips = [\"::1\"], segmentation_offload = false }}
        {PATIENT}
        requests = {{ number_of_torrents = 100, number_of_peers = 1000 }}",
        tracker.address,
        std::process::id(),
    ));
    let book = tracker.stop();

    let all = &report["all"];
    let requests = number(&all["requests"]);
    // 120 are expected; their number has a standard deviation of 11.
    assert!((65..175).contains(&requests), "{requests}");
    let connects = number(&report["connect"]["requests"]);
    assert_eq!(requests, connects + book.announces + book.scrapes);
    // Eight came before the window, or more if the tracker took its time.
    assert!(book.connects >= connects + 8, "{}", book.connects);
    assert_eq!((&all["lost"], &all["refused"]), (&0.into(), &0.into()));
    assert_eq!(report["errors"]["total"], 0);
    assert_eq!(report["peers_per_announce"], 3.0);
    // Absent if this machine was too busy to look at the right moment.
    if let Some(process) = report["tracker_process"].as_object() {
        assert!(process["resident_bytes"].as_u64() > Some(1 << 20));
    }
}

#[test]
fn each_peer_of_a_fill_is_answered_once() {
    let plan = Plan {
        drop: 40,
        ..Plan::default()
    };
    let tracker = start("127.0.0.1:0", plan);
    let report = TESTER.report(&format!(
        "server_address = \"{}\"
        tracker_pid = {}
        # What is late is asked for again: only what the tracker drops may become late.
        answers = {{ late_after_ms = 4000, lost_after_ms = 4000 }}
        [network]
        client_ips = [\"127.0.0.7-127.0.0.8\"]
        sockets_per_worker = 2
        # Few enough for the receive buffer of a plain socket.
        in_flight_per_socket = 32
        [fill]
        enabled = true
        number_of_torrents = 50
        peers_per_torrent = 40",
        tracker.address,
        std::process::id(),
    ));
    let book = tracker.stop();

    assert_eq!(book.peers.len(), 2_000);
    assert_eq!(book.torrents.len(), 50);
    assert!(book.torrents.values().all(|announces| *announces == 40));
    let ips: HashSet<_> = book
        .peers
        .iter()
        .map(|(_, peer)| peer.ip().to_string())
        .collect();
    assert_eq!(
        ips,
        HashSet::from(["127.0.0.7".to_owned(), "127.0.0.8".to_owned()])
    );
    assert_eq!(
        (&report["peers"], &report["refused"]),
        (&2000.into(), &0.into())
    );
    assert!(book.dropped > 50);
    assert_eq!(report["repeated"], book.dropped);
    assert!(report["memory"]["resident_bytes_before"].as_u64() > Some(1 << 20));
}

#[test]
fn an_absent_tracker_is_named() {
    // Nobody else gets this port while the socket is there; a socket connected elsewhere does not
    // answer.
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    nobody.connect("127.0.0.1:9").unwrap();
    let address = nobody.local_addr().unwrap();
    let output = TESTER.run(&format!("server_address = \"{address}\""));
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains(&format!("{address} does not answer 127.0.0.1")),
        "{errors}"
    );
}

#[test]
fn the_printed_configuration_is_accepted() {
    TESTER.accepts_what_it_prints();
}
