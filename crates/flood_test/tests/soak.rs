//! A soak of some seconds against a fake tracker, which is in order or has a fault.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, thread};

use aquatic_daemon::clock::Clock;
use aquatic_flood_test::catalogue::Protocol;
use aquatic_flood_test::observer::TrackerProcess;
use aquatic_flood_test::soak::Plan;
use aquatic_types::{AnnounceEvent, InfoHash, IpFamily};
use aquatic_udp_protocol::{
    AnnounceHeader, AnnounceRequest, AnnounceResponse, ConnectResponse, ConnectionId,
    ErrorResponse, PeerRows, Request, Response, ScrapeResponse, ScrapeRow, ScrapeRows,
};

/// Peers announce four times as often: a machine may stand still meanwhile.
const PEER_AGE_SECONDS: u32 = 10;

/// What a tracker does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Every tenth peer that announces a second time is gone.
    LosesPeers,
    /// Who vanishes stays.
    NeverForgets,
    /// A finished download is not counted, once.
    LosesADownload,
    /// One announce is refused.
    RefusesOnce,
    /// A row is missing in answers to scrapes of several torrents.
    CutsScrapes,
}

#[derive(Default)]
struct Swarm {
    /// Whether a peer has everything, and when it was last heard.
    peers: HashMap<SocketAddr, (bool, Duration)>,
    completed: u32,
}

struct FakeTracker {
    socket: UdpSocket,
    swarms: HashMap<InfoHash, Swarm>,
    fault: Fault,
    has_failed: bool,
    /// Announces of peers that were there.
    again: u32,
    clock: Clock,
}

impl FakeTracker {
    fn serve(mut self, stop: &AtomicBool) {
        let timeout = Some(Duration::from_millis(20));
        self.socket.set_read_timeout(timeout).unwrap();
        let mut buffer = [0; 2_048];
        while !stop.load(Ordering::Relaxed) {
            if let Ok((size, client)) = self.socket.recv_from(&mut buffer) {
                let answer = self.answer(Request::parse(&buffer[..size]).unwrap(), client);
                self.socket.send_to(&answer, client).unwrap();
            }
            if self.fault != Fault::NeverForgets {
                self.clean();
            }
        }
    }

    fn clean(&mut self) {
        let (now, age) = (
            self.clock.elapsed(),
            Duration::from_secs(PEER_AGE_SECONDS.into()),
        );
        for swarm in self.swarms.values_mut() {
            swarm.peers.retain(|_, (_, heard)| *heard + age > now);
        }
        self.swarms.retain(|_, swarm| !swarm.peers.is_empty());
    }

    fn answer(&mut self, request: Request<'_>, client: SocketAddr) -> Vec<u8> {
        let mut out = Vec::new();
        match request {
            Request::Connect(it) => ConnectResponse {
                transaction_id: it.transaction_id,
                connection_id: ConnectionId([7; 8]),
            }
            .write(&mut out),
            Request::Announce(it) => self.announce(&it, client).write(&mut out),
            Request::Scrape(it) => {
                let cut = usize::from(self.fault == Fault::CutsScrapes && it.info_hashes.len() > 1);
                let rows = it.info_hashes.iter().skip(cut).map(|hash| self.row(hash));
                let rows: Vec<_> = rows.flat_map(|row| row.to_bytes()).collect();
                ScrapeResponse {
                    transaction_id: it.transaction_id,
                    rows: ScrapeRows::new(&rows),
                }
                .write(&mut out);
            }
        }
        out
    }

    fn row(&self, info_hash: InfoHash) -> ScrapeRow {
        let Some(swarm) = self.swarms.get(&info_hash) else {
            return ScrapeRow::default();
        };
        let count = |is_seeder| {
            let peers = swarm.peers.values();
            u32::try_from(peers.filter(|peer| peer.0 == is_seeder).count()).unwrap()
        };
        ScrapeRow {
            seeders: count(true),
            completed: swarm.completed,
            leechers: count(false),
        }
    }

    /// Whether the fault is this one, and has not shown before.
    fn fails(&mut self, fault: Fault) -> bool {
        let fails = self.fault == fault && !self.has_failed;
        self.has_failed |= fails;
        fails
    }

    fn announce(&mut self, it: &AnnounceRequest<'_>, client: SocketAddr) -> Response<'static> {
        let peer = SocketAddr::new(client.ip(), it.port);
        let now = self.clock.elapsed();
        let transaction_id = it.transaction_id;
        if self.fails(Fault::RefusesOnce) {
            return Response::Error(ErrorResponse {
                transaction_id,
                message: b"not today",
            });
        }
        // One that is sent again, since the answer was late, is no other download.
        let known = self.swarms.get(&it.info_hash);
        let known = known.and_then(|swarm| swarm.peers.get(&peer));
        let was_seeder = known.is_some_and(|(is_seeder, _)| *is_seeder);
        let completes = it.event == AnnounceEvent::Completed && !was_seeder;
        let counts = completes && !self.fails(Fault::LosesADownload);
        self.again += u32::from(it.event == AnnounceEvent::None);
        let is_lost = self.fault == Fault::LosesPeers && self.again.is_multiple_of(10);
        let swarm = self.swarms.entry(it.info_hash).or_default();
        swarm.completed += u32::from(counts);
        if is_lost || it.event == AnnounceEvent::Stopped {
            swarm.peers.remove(&peer);
        } else {
            swarm.peers.insert(peer, (it.bytes_left == 0, now));
        }
        Response::Announce(AnnounceResponse {
            header: AnnounceHeader {
                transaction_id,
                interval_seconds: 1,
                leechers: 0,
                seeders: 0,
            },
            peers: PeerRows::new(&[], IpFamily::V4),
        })
    }
}

/// Soaks a tracker with this fault. What was missed.
fn soak(fault: Fault) -> Vec<String> {
    let folder = std::env::temp_dir();
    let name = format!("aquatic-soak-{}-{fault:?}", std::process::id());
    let [pid_file, csv] = ["pid", "csv"].map(|end| folder.join(format!("{name}.{end}")));
    fs::write(&pid_file, std::process::id().to_string()).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let plan = Plan {
        protocol: Protocol::Udp,
        tracker: socket.local_addr().unwrap(),
        process: TrackerProcess {
            pid_file: pid_file.clone(),
        },
        seconds: 10,
        rate: 120,
        peer_age_seconds: PEER_AGE_SECONDS,
        cleaning_seconds: 0,
        access_list: None,
        metrics: None,
        csv: csv.clone(),
    };
    let tracker = FakeTracker {
        socket,
        swarms: HashMap::new(),
        fault,
        has_failed: false,
        again: 0,
        clock: Clock::start(),
    };
    let stop = AtomicBool::new(false);
    let report = thread::scope(|scope| {
        scope.spawn(|| tracker.serve(&stop));
        let report = plan.run();
        stop.store(true, Ordering::Relaxed);
        report.unwrap()
    });
    let lines = fs::read_to_string(&csv).unwrap().lines().count();
    assert!(lines > 4, "{lines}");
    for file in [pid_file, csv] {
        fs::remove_file(file).unwrap();
    }
    println!("{fault:?}: {report}");
    report.missed()
}

#[test]
fn a_tracker_that_is_wrong_is_found_out() {
    thread::scope(|scope| {
        let soak = |fault| scope.spawn(move || soak(fault));
        let right = soak(Fault::None);
        let wrong = [
            (Fault::LosesPeers, " peers, not "),
            (Fault::NeverForgets, "instead of"),
            (Fault::LosesADownload, "downloads, instead of"),
            (Fault::RefusesOnce, "not today"),
            (Fault::CutsScrapes, "rows in the answer to a scrape"),
        ]
        .map(|(fault, expected)| (soak(fault), fault, expected));
        assert_eq!(right.join().unwrap(), [""; 0]);
        for (missed, fault, expected) in wrong {
            let missed = missed.join().unwrap();
            let is_seen = missed.iter().any(|it| it.contains(expected));
            assert!(is_seen, "{fault:?}: {missed:?}");
        }
    });
}
