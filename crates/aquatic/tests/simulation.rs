//! A seeded simulation of UDP and HTTP over the same shards, on a virtual clock.
//!
//! The simulations of each crate have everything that can go wrong around one protocol. Here peers
//! come over both, in all combinations of workers, and a model knows what each has to be told: who
//! is in a swarm, however it came there, until its time is over.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_channel::{Waker, waker_pair};
use aquatic_daemon::clock::Now;
use aquatic_daemon::live::LiveSettings;
use aquatic_http::config as http;
use aquatic_http::counters::Http;
use aquatic_http::workers as http_workers;
use aquatic_stream_tracker::Workers;
use aquatic_stream_tracker::simulation::Simulation;
use aquatic_test_support::bencode::Value;
use aquatic_test_support::seeds::for_each_seed;
use aquatic_test_support::torrent;
use aquatic_tracker::dispatch::shard_set::FrontEnd;
use aquatic_tracker::dispatch::topology::Topology;
use aquatic_tracker::limits::ClientLimits;
use aquatic_tracker::persistence::Persistence;
use aquatic_tracker::shard::addresses::{
    AddressShard, AddressShardConfig, AddressShardParts, AddressShards,
};
use aquatic_tracker::shard::swarm_worker::SwarmWorker;
use aquatic_types::{AnnounceEvent, InfoHash, IpFamily, PeerId};
use aquatic_udp::config as udp;
use aquatic_udp::socket_worker::SocketWorker;
use aquatic_udp::workers as udp_workers;
use aquatic_udp_protocol::{
    AnnounceRequest, ConnectRequest, ConnectionId, InfoHashes, Request, Response, ScrapeRequest,
    TransactionId,
};
use aquatic_udp_socket::ReturnPath;
use fastrand::Rng;

const RUNS: u64 = 24;
const STEPS: usize = 600;
const TORRENTS: u32 = 5;
/// No more peers of a host than may be in an answer, and no more hosts than fit into one.
const HOSTS: u8 = 12;
const PORTS: u16 = 3;
const UDP_AGE: u32 = 1_200;
const HTTP_AGE: u32 = 1_800;
/// Rounds after which workers that are asked nothing new must be at rest.
const ROUNDS_MAX: usize = 1_000;

/// Which workers there are, and whether those of HTTP are guests of those of UDP.
#[derive(Clone, Copy, Debug)]
struct Combination {
    udp_workers: usize,
    http_workers: usize,
    swarm_workers: usize,
    are_guests: bool,
}

/// Everything, in one thread.
struct Tracker {
    udp: Vec<SocketWorker>,
    http: Simulation<Http>,
    swarm_workers: Vec<SwarmWorker<AddressShard>>,
    combination: Combination,
}

fn wakers(count: usize) -> Vec<Waker> {
    (0..count).map(|_| waker_pair(|| ()).1).collect()
}

fn configurations(combination: Combination) -> (udp::Config, http::Config) {
    let udp_config = udp::Config {
        socket_workers: combination.udp_workers,
        swarm_workers: combination.swarm_workers,
        ..udp::Config::default()
    };
    let mut http_config = http::Config {
        socket_workers: combination.http_workers,
        ..http::Config::default()
    };
    http_config.protocol.max_peers = 100;
    (udp_config, http_config)
}

fn shards(
    topology: Topology,
    config: &udp::Config,
    access_list: &SharedAccessList,
    rng: &mut Rng,
) -> AddressShards {
    let parts = AddressShardParts {
        topology,
        wakers: &wakers(topology.workers()),
        access_list,
        peers_per_ip: None,
        persistence: Persistence::default(),
        sharing: None,
    };
    let config = AddressShardConfig {
        limits: &config.limits.tracker,
        addresses: &config.limits.addresses,
        metrics: &config.statistics.metrics,
        response_peers_per_ip_max: 3,
        peer_age_seconds_max: HTTP_AGE,
        cleaning_interval_seconds: 1,
    };
    config.build(parts, rng).unwrap()
}

impl Tracker {
    fn new(combination: Combination, rng: &mut Rng) -> Self {
        let (udp_config, http_config) = configurations(combination);
        let topology = Topology::from_config(combination.udp_workers, combination.swarm_workers);
        let access_list = SharedAccessList::new(AccessListMode::Off, AccessList::default());
        let mut shards = shards(topology, &udp_config, &access_list, rng);
        let parts = udp_workers::FrontEndParts {
            front_end: FrontEnd {
                wakers: &wakers(combination.udp_workers),
                is_at_home: true,
            },
            access_list: &access_list,
            limits: &ClientLimits::default(),
            settings: &LiveSettings::new(udp_config.clone().into()),
            sockets: 2,
            connection_secret: None,
            unix_micros: 1_795_000_000_000_000,
        };
        let (mut udp, _) =
            udp_workers::connect_workers(&udp_config, &mut shards, parts, rng).unwrap();
        let parts = http_workers::FrontEndParts {
            front_end: FrontEnd {
                wakers: &wakers(combination.http_workers),
                is_at_home: combination.are_guests,
            },
            access_list: &access_list,
            limits: &ClientLimits::default(),
            settings: &LiveSettings::new(http_config.clone().into()),
        };
        let connected = http_workers::connect_workers(&http_config, &mut shards, &parts);
        let finished = shards.finish();
        for (worker, owner) in udp.iter_mut().zip(finished.owners.socket_workers) {
            worker.own(owner);
        }
        let workers = Workers {
            socket_workers: connected.socket_workers,
            swarm_workers: Vec::new(),
            snapshotter: None,
            readers: finished.readers,
            limits: ClientLimits::default(),
            settings: LiveSettings::new(http_config.clone().into()),
            follow: Box::new(|_| ()),
            counted: connected.counted,
        };
        Self {
            udp,
            http: Simulation::new(workers, http_config.bounds()),
            swarm_workers: finished.owners.swarm_workers,
            combination,
        }
    }

    /// Lets an HTTP worker do something, with the shard of its host if it has one.
    fn with_shard<T>(&mut self, worker: usize, work: impl FnOnce(&mut Simulation<Http>) -> T) -> T {
        let host = self.udp.get_mut(worker);
        let mut host = host.filter(|_| self.combination.are_guests);
        if let Some(host) = &mut host {
            let owner = host.owner_mut().take();
            self.http.hubs[worker].handler_mut().own(owner);
        }
        let result = work(&mut self.http);
        if let Some(host) = &mut host {
            *host.owner_mut() = self.http.hubs[worker].handler_mut().disown();
        }
        result
    }

    /// All workers work, in any order, until nothing is pending.
    fn settle(&mut self, now: Now, rng: &mut Rng) {
        for _ in 0..ROUNDS_MAX {
            let workers = self.udp.len() + self.http.hubs.len() + self.swarm_workers.len();
            let mut order: Vec<_> = (0..workers).collect();
            rng.shuffle(&mut order);
            let mut done = 0;
            for worker in order {
                done += self.take_turn(worker, now);
            }
            let is_pending = self.udp.iter().any(SocketWorker::has_pending)
                || self.http.has_pending()
                || self.swarm_workers.iter().any(SwarmWorker::has_pending);
            if done == 0 && !is_pending {
                return;
            }
        }
        panic!("the workers never rest");
    }

    fn take_turn(&mut self, worker: usize, now: Now) -> usize {
        let http = self.http.hubs.len();
        if let Some(worker) = self.udp.get_mut(worker) {
            return worker.finish(now);
        }
        let worker = worker - self.udp.len();
        if worker < http {
            return self.with_shard(worker, |http| http.hubs[worker].finish(now));
        }
        self.swarm_workers[worker - http].process(now)
    }

    /// Forgets whoever has not announced for too long.
    fn maintain(&mut self, now: Now) {
        for worker in &mut self.udp {
            while worker.maintain(now) {}
        }
        for worker in &mut self.swarm_workers {
            while worker.maintain(now) {}
        }
        for worker in 0..self.http.hubs.len() {
            while self.with_shard(worker, |http| http.maintain(worker, now)) {}
        }
    }

    /// A datagram, and the answer to it.
    fn ask_udp(
        &mut self,
        now: Now,
        client: SocketAddr,
        request: &Request<'_>,
        rng: &mut Rng,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        let (worker, socket) = (rng.usize(..self.udp.len()), u8::from(client.is_ipv6()));
        self.udp[worker].receive(now, socket, ReturnPath::to(client), &bytes);
        self.settle(now, rng);
        let outbox = &mut self.udp[worker].outboxes()[usize::from(socket)];
        let answers: Vec<_> = outbox.iter().map(|(_, bytes)| bytes.to_vec()).collect();
        outbox.clear();
        let [answer] = <[_; 1]>::try_from(answers).expect("one answer");
        answer
    }

    /// A request over a connection of its own, and the answer to it.
    fn ask_http(&mut self, now: Now, client: SocketAddr, path: &str, rng: &mut Rng) -> Value {
        let worker = rng.usize(..self.http.hubs.len());
        let key = self.http.accept(worker, now, client).unwrap();
        let mut bytes = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n").into_bytes();
        self.with_shard(worker, |http| {
            http.hubs[worker].receive(now, key, &mut bytes)
        });
        self.settle(now, rng);
        let (answer, _) = self.http.look_after(worker, now, key, usize::MAX);
        self.http.hubs[worker].failed(now, key);
        let _ = self.http.look_after(worker, now, key, usize::MAX);
        let body = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
        Value::read(&answer[body..]).unwrap()
    }
}

/// A peer, as long as it lives.
#[derive(Clone, Copy, Debug)]
struct Life {
    is_seeder: bool,
    until: u32,
}

#[derive(Default)]
struct Model {
    swarms: BTreeMap<(InfoHash, bool), BTreeMap<SocketAddr, Life>>,
}

impl Model {
    fn swarm(&mut self, torrent: InfoHash, is_v6: bool) -> &mut BTreeMap<SocketAddr, Life> {
        self.swarms.entry((torrent, is_v6)).or_default()
    }

    /// Those whose time is over go; nobody has been cleaned away before.
    fn pass(&mut self, seconds: u32) {
        for swarm in self.swarms.values_mut() {
            // A tracker remembers every other second.
            swarm.retain(|_, life| life.until / 2 >= seconds / 2);
        }
    }

    /// Seeders and leechers.
    fn counts(&mut self, torrent: InfoHash, is_v6: bool) -> (u32, u32) {
        let swarm = self.swarm(torrent, is_v6);
        let seeders = swarm.values().filter(|life| life.is_seeder).count();
        let (seeders, all) = (u32::try_from(seeders), u32::try_from(swarm.len()));
        (seeders.unwrap(), all.unwrap() - seeders.unwrap())
    }

    /// Who is told to a peer: a seeder hears of leechers only.
    fn told(&mut self, torrent: InfoHash, is_v6: bool, peer: &Peer) -> BTreeSet<SocketAddr> {
        if peer.event == AnnounceEvent::Stopped {
            return BTreeSet::new();
        }
        let swarm = self.swarm(torrent, is_v6).iter();
        let others = swarm.filter(|(address, life)| {
            **address != peer.address && !(peer.left == 0 && life.is_seeder)
        });
        others.map(|(address, _)| *address).collect()
    }
}

/// What a client says of itself.
struct Peer {
    address: SocketAddr,
    left: u64,
    event: AnnounceEvent,
}

impl Peer {
    fn random(rng: &mut Rng) -> Self {
        let host = rng.u8(1..=HOSTS);
        let ip: IpAddr = match rng.bool() {
            true => Ipv4Addr::new(192, 0, 2, host).into(),
            false => Ipv6Addr::new(0x2001, 0xdb8, 0, u16::from(host), 0, 0, 0, 1).into(),
        };
        let event = match rng.u8(..8) {
            0 => AnnounceEvent::Stopped,
            1 => AnnounceEvent::Completed,
            2 => AnnounceEvent::Started,
            _ => AnnounceEvent::None,
        };
        Self {
            address: SocketAddr::new(ip, rng.u16(1..=PORTS)),
            left: match event {
                AnnounceEvent::Completed => 0,
                _ => u64::from(rng.u8(..2)),
            },
            event,
        }
    }
}

/// The tracker, and what it should know.
struct World {
    tracker: Tracker,
    model: Model,
    rng: Rng,
    seconds: u32,
    /// How often something happened that the test is about.
    crossings: usize,
    /// Over which protocol each peer came last.
    came_over_http: BTreeMap<SocketAddr, bool>,
}

impl World {
    fn new(combination: Combination, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        Self {
            tracker: Tracker::new(combination, &mut rng),
            model: Model::default(),
            rng,
            seconds: 10,
            crossings: 0,
            came_over_http: BTreeMap::new(),
        }
    }

    fn now(&self) -> Now {
        Now::from_micros(u64::from(self.seconds) * 1_000_000)
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            let torrent = torrent(self.rng.u32(..TORRENTS));
            match self.rng.u8(..12) {
                0 => self.pass(),
                1 => self.scrape(torrent),
                2..7 => self.announce_udp(torrent),
                _ => self.announce_http(torrent),
            }
        }
    }

    /// Time passes, and is long enough for a cleaning.
    fn pass(&mut self) {
        self.seconds += match self.rng.u8(..6) {
            0 => self.rng.u32(600..2_500),
            _ => self.rng.u32(2..90),
        };
        self.tracker.maintain(self.now());
        self.model.pass(self.seconds);
    }

    /// Notes what the model has to know, and returns who is told.
    fn expect(&mut self, torrent: InfoHash, peer: &Peer, age: u32) -> BTreeSet<SocketAddr> {
        let is_v6 = peer.address.is_ipv6();
        let told = self.model.told(torrent, is_v6, peer);
        let until = self.seconds + age;
        let swarm = self.model.swarm(torrent, is_v6);
        match peer.event {
            AnnounceEvent::Stopped => drop(swarm.remove(&peer.address)),
            _ => drop(swarm.insert(
                peer.address,
                Life {
                    is_seeder: peer.left == 0,
                    until,
                },
            )),
        }
        let over_http = age == HTTP_AGE;
        let others = told.iter();
        let crossings = others.filter(|other| self.came_over_http.get(other) != Some(&over_http));
        self.crossings += crossings.count();
        self.came_over_http.insert(peer.address, over_http);
        told
    }

    fn announce_udp(&mut self, torrent: InfoHash) {
        let peer = Peer::random(&mut self.rng);
        let told = self.expect(torrent, &peer, UDP_AGE);
        let connection_id = self.connect(peer.address);
        let request = Request::Announce(AnnounceRequest {
            connection_id,
            transaction_id: TransactionId([2; 4]),
            info_hash: torrent,
            peer_id: PeerId(*b"-TR4060-abcdefghijkl"),
            bytes_downloaded: 0,
            bytes_left: peer.left,
            bytes_uploaded: 0,
            event: peer.event,
            key: [0; 4],
            num_want: -1,
            port: peer.address.port(),
            options: &[],
        });
        let answer = self.ask(peer.address, &request);
        let family = IpFamily::of(&peer.address);
        let Response::Announce(response) = Response::parse(&answer, family).unwrap() else {
            panic!("{answer:?}");
        };
        let peers: BTreeSet<SocketAddr> = response.peers.iter().collect();
        assert_eq!(peers, told);
        let counts = (response.header.seeders, response.header.leechers);
        assert_eq!(counts, self.model.counts(torrent, peer.address.is_ipv6()));
    }

    fn connect(&mut self, client: SocketAddr) -> ConnectionId {
        let request = Request::Connect(ConnectRequest {
            transaction_id: TransactionId([1; 4]),
        });
        let answer = self.ask(client, &request);
        match Response::parse(&answer, IpFamily::of(&client)).unwrap() {
            Response::Connect(response) => response.connection_id,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, client: SocketAddr, request: &Request<'_>) -> Vec<u8> {
        let now = self.now();
        let client = SocketAddr::new(client.ip(), 6_881);
        self.tracker.ask_udp(now, client, request, &mut self.rng)
    }

    fn announce_http(&mut self, torrent: InfoHash) {
        let peer = Peer::random(&mut self.rng);
        let mut told = self.expect(torrent, &peer, HTTP_AGE);
        // Clients of HTTP are told of both families.
        told.extend(self.model.told(torrent, !peer.address.is_ipv6(), &peer));
        let event = match peer.event {
            AnnounceEvent::None => "",
            AnnounceEvent::Completed => "&event=completed",
            AnnounceEvent::Started => "&event=started",
            AnnounceEvent::Stopped => "&event=stopped",
        };
        let path = format!(
            "/announce?info_hash={}&peer_id=-TR4060-abcdefghijkl&port={}&left={}&uploaded=0\
             &downloaded=0&compact=1&numwant=100{event}",
            escaped(torrent),
            peer.address.port(),
            peer.left
        );
        let now = self.now();
        let client = SocketAddr::new(peer.address.ip(), 50_000);
        let answer = self.tracker.ask_http(now, client, &path, &mut self.rng);
        let mut peers = BTreeSet::new();
        for row in answer.bytes("peers").unwrap_or_default().chunks(6) {
            let ip: [u8; 4] = row[..4].try_into().unwrap();
            peers.insert(SocketAddr::new(ip.into(), port_of(row)));
        }
        for row in answer.bytes("peers6").unwrap_or_default().chunks(18) {
            let ip: [u8; 16] = row[..16].try_into().unwrap();
            peers.insert(SocketAddr::new(ip.into(), port_of(row)));
        }
        assert_eq!(peers, told);
        let counts = ["complete", "incomplete"].map(|key| u32::try_from(answer.integer(key)));
        let [v4, v6] = [false, true].map(|is_v6| self.model.counts(torrent, is_v6));
        assert_eq!(counts, [Ok(v4.0 + v6.0), Ok(v4.1 + v6.1)]);
    }

    /// Both protocols say the same, and what the model says.
    fn scrape(&mut self, torrent: InfoHash) {
        let mut sum = [0; 3];
        for is_v6 in [false, true] {
            let client: SocketAddr = match is_v6 {
                false => ([192, 0, 2, 99], 1).into(),
                true => (Ipv6Addr::new(0x2001, 0xdb8, 0, 99, 0, 0, 0, 1), 1).into(),
            };
            let torrents = [torrent];
            let request = Request::Scrape(ScrapeRequest {
                connection_id: self.connect(client),
                transaction_id: TransactionId([3; 4]),
                info_hashes: InfoHashes::from(&torrents[..]),
            });
            let answer = self.ask(client, &request);
            let answer = Response::parse(&answer, IpFamily::of(&client)).unwrap();
            let Response::Scrape(response) = answer else {
                panic!("{answer:?}");
            };
            let row = response.rows.iter().next().unwrap();
            let counts = self.model.counts(torrent, is_v6);
            assert_eq!((row.seeders, row.leechers), counts);
            for (sum, count) in sum
                .iter_mut()
                .zip([row.seeders, row.completed, row.leechers])
            {
                *sum += count;
            }
        }
        let path = format!("/scrape?info_hash={}", escaped(torrent));
        let now = self.now();
        let client = ([192, 0, 2, 99], 1).into();
        let answer = self.tracker.ask_http(now, client, &path, &mut self.rng);
        let row = answer.get("files").and_then(|files| files.get(torrent.0));
        let number = |key| u32::try_from(row.unwrap().integer(key)).unwrap();
        assert_eq!(["complete", "downloaded", "incomplete"].map(number), sum);
    }
}

fn port_of(row: &[u8]) -> u16 {
    u16::from_be_bytes(row[row.len() - 2..].try_into().unwrap())
}

fn escaped(torrent: InfoHash) -> String {
    let escape = |byte: &u8| format!("%{byte:02x}");
    torrent.0.iter().map(escape).collect()
}

fn simulate(combination: Combination) {
    let crossings = RefCell::new(0);
    let is_complete = for_each_seed(RUNS, |seed| {
        let mut world = World::new(combination, seed);
        world.run();
        *crossings.borrow_mut() += world.crossings;
    });
    let crossings = crossings.into_inner();
    println!("{combination:?}: {crossings} peers were told over the other protocol");
    assert!(!is_complete || crossings > 1_000, "{crossings}");
}

#[test]
fn in_one_thread() {
    simulate(Combination {
        udp_workers: 1,
        http_workers: 1,
        swarm_workers: 0,
        are_guests: true,
    });
}

#[test]
fn guests_in_some_threads() {
    for (udp_workers, http_workers) in [(3, 3), (3, 1), (1, 3)] {
        simulate(Combination {
            udp_workers,
            http_workers,
            swarm_workers: 0,
            are_guests: true,
        });
    }
}

#[test]
fn in_threads_of_their_own() {
    for (udp_workers, http_workers) in [(1, 1), (2, 3)] {
        simulate(Combination {
            udp_workers,
            http_workers,
            swarm_workers: 0,
            are_guests: false,
        });
    }
}

#[test]
fn split() {
    simulate(Combination {
        udp_workers: 2,
        http_workers: 2,
        swarm_workers: 2,
        are_guests: false,
    });
}
