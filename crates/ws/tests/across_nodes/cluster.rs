//! The trackers, and the bus between them.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use aquatic_access_list::{AccessListMode, SharedAccessList};
use aquatic_channel::waker_pair;
use aquatic_cluster::bus::{Channel, Destination};
use aquatic_cluster::nodes::{NodeIndex, NodeState, NodeStates};
use aquatic_cluster::replica::{Outgoing, Received, Replica};
use aquatic_daemon::clock::Now;
use aquatic_daemon::live::LiveSettings;
use aquatic_stream::IoAction;
use aquatic_stream_tracker::simulation::Simulation;
use aquatic_swarm_log::{Batch, BatchHeader};
use aquatic_tracker::limits::ClientLimits;
use aquatic_tracker::persistence::Persistence;
use aquatic_types::{AnnounceEvent, InfoHash, IpFamily};
use aquatic_ws::cluster::ClusterParts;
use aquatic_ws::cluster::counters::{ClusterCounters, LetterKind, LetterOutcome, MemberOutcome};
use aquatic_ws::cluster::replica::MemberReplica;
use aquatic_ws::config::Config;
use aquatic_ws::counters::WebTorrent;
use aquatic_ws::workers::Building;
use aquatic_ws_protocol::{AnnounceRequest, AnswerRequest, Offer, Request, ScrapeRequest};

use super::client::{Client, Got, offer_id, peer_id, torrent};

/// Members are told of again after so many seconds.
pub(crate) const REFRESH_SECONDS: u32 = 64;

/// A member is believed to be there for no longer than this after it was last told of: what
/// `refreshes` in `presence` are about.
pub(crate) const LIFE_SECONDS: u32 = 2 * REFRESH_SECONDS + 30 + 30;

/// What the bus does to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrives,
    Lost,
    Twice,
    /// Before the one that came last.
    Early,
}

pub(crate) struct Node {
    pub(crate) tracker: Simulation<WebTorrent>,
    pub(crate) replica: MemberReplica,
    /// What it thinks of the others.
    pub(crate) states: NodeStates,
    pub(crate) counters: Arc<ClusterCounters>,
    pub(crate) access_list: SharedAccessList,
    pub(crate) settings: LiveSettings<Arc<Config>>,
    name: String,
    sequence: u64,
    inbox: VecDeque<(usize, Channel, Vec<u8>)>,
    /// By sender and number.
    taken: HashSet<(usize, u64)>,
    pub(crate) is_dead: bool,
}

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) clients: Vec<Client>,
    pub(crate) micros: u64,
    /// What becomes of a message from one node to another.
    pub(crate) fate: Box<dyn FnMut(usize, usize, Channel) -> Fate>,
    /// Batches that were published, by channel.
    pub(crate) published: Vec<(usize, Channel)>,
    /// What the servers have kept: by whom it was published, and when.
    log: Vec<(usize, u64, Vec<u8>)>,
}

/// How far a node's clock is ahead of the first one's: it was started so long before, and begins
/// its seconds at other times.
fn clock_micros(node: usize) -> u64 {
    70_000_370_000 * u64::try_from(node).unwrap()
}

/// As a node that is known by this number to itself and others.
pub(crate) fn index(node: usize, seen_by: usize) -> NodeIndex {
    match node == seen_by {
        true => NodeIndex::HERE,
        false => NodeIndex(u16::try_from(node + 1).unwrap()),
    }
}

pub(crate) fn config(socket_workers: usize, swarm_workers: usize) -> Config {
    let mut config = Config {
        socket_workers,
        swarm_workers,
        ..Config::default()
    };
    config.access_list.mode = AccessListMode::Deny;
    config.metrics.interval = 1;
    config
}

impl Cluster {
    /// So many nodes with this configuration, all of which know each other.
    pub(crate) fn new(nodes: usize, config: &Config) -> Self {
        let configs = vec![config.clone(); nodes];
        Self::of(&configs)
    }

    pub(crate) fn of(configs: &[Config]) -> Self {
        let nodes = (0..).zip(configs).map(|(number, it)| node(number, it));
        let cluster = Self {
            nodes: nodes.collect(),
            clients: Vec::new(),
            micros: 1_000_000,
            fate: Box::new(|_, _, _| Fate::Arrives),
            published: Vec::new(),
            log: Vec::new(),
        };
        for (number, node) in cluster.nodes.iter().enumerate() {
            for other in 0..configs.len() {
                node.states.set(index(other, number), NodeState::Alive);
            }
        }
        cluster
    }

    /// What the clock of a node says. They do not begin their seconds together.
    pub(crate) fn now_at(&self, node: usize) -> Now {
        Now::from_micros(self.micros + clock_micros(node))
    }

    /// A client connects to a node. Each has an address of its own.
    pub(crate) fn connect(&mut self, node: usize) -> usize {
        let number = u32::try_from(self.clients.len()).unwrap();
        self.connect_from(node, (0x0a00_0001 + number).to_be_bytes())
    }

    pub(crate) fn connect_from(&mut self, node: usize, ip: [u8; 4]) -> usize {
        let now = self.now_at(node);
        let tracker = &mut self.nodes[node].tracker;
        let number = self.clients.len();
        let worker = number % tracker.hubs.len();
        let id = tracker.accept(worker, now, (ip, 6_881).into());
        self.clients.push(Client::new(node, worker, id.unwrap()));
        number
    }

    /// A client announces, with offers of these numbers.
    pub(crate) fn announce(&mut self, client: usize, peer: u8, offers: &[u8]) {
        self.announce_in(
            torrent(1),
            client,
            peer,
            Some(1),
            AnnounceEvent::None,
            offers,
        );
    }

    pub(crate) fn announce_in(
        &mut self,
        info_hash: InfoHash,
        client: usize,
        peer: u8,
        bytes_left: Option<u64>,
        event: AnnounceEvent,
        offers: &[u8],
    ) {
        let texts: Vec<_> = offers.iter().map(|it| format!("\"offer {it}\"")).collect();
        let offers = offers.iter().zip(&texts).map(|(number, text)| Offer {
            offer_id: offer_id(*number),
            offer: text,
        });
        let request = Request::Announce(AnnounceRequest {
            info_hash,
            peer_id: peer_id(peer),
            bytes_uploaded: None,
            bytes_downloaded: None,
            bytes_left,
            event,
            num_want: None,
            offers: offers.collect(),
            skipped: None,
        });
        self.clients[client].say(&request);
    }

    pub(crate) fn answer(&mut self, client: usize, peer: u8, to: u8, offer: u8) {
        let request = Request::Answer(AnswerRequest {
            info_hash: torrent(1),
            peer_id: peer_id(peer),
            to_peer_id: peer_id(to),
            offer_id: offer_id(offer),
            answer: "{\"type\":\"answer\"}",
        });
        self.clients[client].say(&request);
    }

    pub(crate) fn leave(&mut self, client: usize, peer: u8) {
        let event = AnnounceEvent::Stopped;
        self.announce_in(torrent(1), client, peer, Some(1), event, &[]);
    }

    /// What a scrape by a client says of a torrent: seeders, leechers and downloads.
    pub(crate) fn scrape(&mut self, client: usize, info_hash: InfoHash) -> (u32, u32, u32) {
        self.settle();
        self.clients[client].take();
        let info_hashes = vec![info_hash];
        self.clients[client].say(&Request::Scrape(ScrapeRequest { info_hashes }));
        self.settle();
        match self.clients[client].take().as_slice() {
            [Got::Scrape(seeders, leechers, downloads)] => (*seeders, *leechers, *downloads),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn take(&mut self, client: usize) -> Vec<Got> {
        self.settle();
        self.clients[client].take()
    }

    /// Offers that a client has got: from whom, and which.
    pub(crate) fn offers(&mut self, client: usize) -> Vec<(u8, u8)> {
        let offer = |got| match got {
            Got::Offer(peer, offer, text) => {
                assert_eq!(text, format!("\"offer {offer}\""));
                Some((peer, offer))
            }
            _ => None,
        };
        self.take(client).into_iter().filter_map(offer).collect()
    }

    /// A connection is lost.
    pub(crate) fn fail(&mut self, client: usize) {
        let now = self.now_at(self.clients[client].node);
        let it = &mut self.clients[client];
        it.is_open = false;
        self.nodes[it.node].tracker.hubs[it.worker].failed(now, it.id);
    }

    /// Everything that is on its way comes to its end.
    pub(crate) fn settle(&mut self) {
        for _ in 0..20 {
            self.micros += 1_000;
            for node in 0..self.nodes.len() {
                self.work(node);
                self.exchange(node);
            }
        }
    }

    /// So many seconds pass.
    pub(crate) fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.micros += 1_000_000;
            for node in 0..self.nodes.len() {
                self.work(node);
                self.maintain(node);
                self.exchange(node);
            }
        }
        self.settle();
    }

    pub(crate) fn maintain(&mut self, node: usize) {
        let now = self.now_at(node);
        let tracker = &mut self.nodes[node].tracker;
        for worker in 0..tracker.counters.len() {
            for _ in 0..1_000 {
                if !tracker.maintain(worker, now) {
                    break;
                }
            }
        }
    }

    /// All workers of a node do a round.
    pub(crate) fn work(&mut self, node: usize) {
        if self.nodes[node].is_dead {
            return;
        }
        for worker in 0..self.nodes[node].tracker.hubs.len() {
            self.listen(node, worker);
        }
        self.answer_all(node);
    }

    /// Swarm workers answer what they have been asked.
    pub(crate) fn answer_all(&mut self, node: usize) {
        let now = self.now_at(node);
        let tracker = &mut self.nodes[node].tracker;
        for worker in 0..tracker.swarm_workers.len() {
            tracker.answer(worker, now);
        }
    }

    fn listen(&mut self, node: usize, worker: usize) {
        let now = self.now_at(node);
        let tracker = &mut self.nodes[node].tracker;
        let is_here = |it: &&mut Client| it.is_open && (it.node, it.worker) == (node, worker);
        for client in self.clients.iter_mut().filter(is_here) {
            let hub = &mut tracker.hubs[worker];
            if !client.unsent.is_empty() && hub.wants_input(client.id) {
                let mut bytes = std::mem::take(&mut client.unsent);
                hub.receive(now, client.id, &mut bytes);
            }
        }
        tracker.hubs[worker].finish(now);
        while let Some(id) = tracker.hubs[worker].next_queued() {
            let mut here = self.clients.iter_mut().filter(is_here);
            let client = here.find(|it| it.id == id);
            let is_deaf = client.as_ref().is_some_and(|it| it.is_deaf);
            let bytes_max = if is_deaf { 0 } else { usize::MAX };
            let (bytes, action) = tracker.look_after(worker, now, id, bytes_max);
            if let Some(client) = client {
                client.receive(&bytes);
                client.is_open = !matches!(action, IoAction::Close | IoAction::Reset);
            }
        }
    }

    /// The cluster thread of a node does a round.
    pub(crate) fn exchange(&mut self, number: usize) {
        if self.nodes[number].is_dead {
            return;
        }
        let now = self.now_at(number);
        self.hear(number);
        let node = &mut self.nodes[number];
        node.replica.settle(now, false);
        node.replica.collect();
        let mut outgoing = Vec::new();
        node.replica.finish(now, &mut |it| outgoing.push(it));
        for it in outgoing {
            self.publish(number, &it);
        }
    }

    /// A node takes in what has come.
    pub(crate) fn hear(&mut self, number: usize) {
        while self.nodes[number].replica.has_room()
            && let Some((from, channel, bytes)) = self.nodes[number].inbox.pop_front()
        {
            assert!(self.nodes[number].replica.listens_to(channel));
            self.receive(number, from, &bytes, false);
        }
    }

    fn receive(&mut self, number: usize, from: usize, bytes: &[u8], is_logged: bool) {
        let (batch, rest) = Batch::parse(bytes).expect("a batch");
        assert!(rest.is_empty());
        let sequence = batch.header.sequence;
        let taken = &mut self.nodes[number].taken;
        let is_late = taken.iter().any(|it| it.0 == from && it.1 >= sequence);
        let is_new = taken.insert((from, sequence));
        let received = Received {
            from: index(from, number),
            name: &format!("node {from}"),
            age_millis: self.micros / 1_000 - batch.header.unix_millis,
            is_logged,
            is_late: is_late && !is_logged,
            is_repeated: !is_new || from == number,
            body: batch.body,
        };
        let now = self.now_at(number);
        self.nodes[number].replica.receive(now, &received);
    }

    /// A node reads in the log what has been published until then, but not less than so many
    /// milliseconds ago.
    pub(crate) fn read_log(&mut self, number: usize, millis_ago: u64) {
        let until = self.micros / 1_000 - millis_ago;
        let log: Vec<_> = self
            .log
            .iter()
            .filter(|it| it.1 <= until)
            .cloned()
            .collect();
        for (from, _, bytes) in log {
            self.receive(number, from, &bytes, true);
        }
    }

    /// Batches about members that were published.
    pub(crate) fn logged(&self) -> usize {
        self.log.len()
    }

    /// One of these is published again.
    pub(crate) fn publish_again(&mut self, number: usize) {
        let (from, _, bytes) = self.log[number].clone();
        for to in 0..self.nodes.len() {
            self.send(from, to, Channel::Members, bytes.clone());
        }
    }

    fn publish(&mut self, from: usize, outgoing: &Outgoing) {
        let now = self.now_at(from);
        let (channel, to): (_, Vec<_>) = match &outgoing.to {
            Destination::All(channel) => (*channel, (0..self.nodes.len()).collect()),
            Destination::Node(name) => {
                let is_it = |node: &usize| self.nodes[*node].name == *name;
                let nodes = 0..self.nodes.len();
                (Channel::Parcels, nodes.filter(is_it).collect())
            }
        };
        assert!(outgoing.body.records() > 0);
        assert!(outgoing.since.micros <= now.micros);
        self.published.push((from, channel));
        let node = &mut self.nodes[from];
        node.sequence += 1;
        let header = BatchHeader {
            process: u64::try_from(from).unwrap(),
            sequence: node.sequence,
            // By the clock that all have in common.
            unix_millis: (outgoing.since.micros / 1_000).saturating_sub(clock_micros(from) / 1_000),
        };
        let mut bytes = Vec::new();
        outgoing.body.write(&mut bytes, &header);
        if channel == Channel::Members {
            self.log.push((from, self.micros / 1_000, bytes.clone()));
        }
        for to in to {
            self.send(from, to, channel, bytes.clone());
        }
    }

    /// The bus brings something to a node.
    pub(crate) fn send(&mut self, from: usize, to: usize, channel: Channel, bytes: Vec<u8>) {
        let fate = (self.fate)(from, to, channel);
        let inbox = &mut self.nodes[to].inbox;
        let message = (from, channel, bytes);
        match fate {
            Fate::Lost => {}
            Fate::Arrives => inbox.push_back(message),
            Fate::Twice => inbox.extend([message.clone(), message]),
            Fate::Early => inbox.insert(inbox.len().saturating_sub(1), message),
        }
    }

    /// A node thinks so of another.
    pub(crate) fn think(&mut self, node: usize, of: usize, state: NodeState) {
        self.nodes[node].states.set(index(of, node), state);
    }

    /// A node is no more.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].is_dead = true;
        for client in &mut self.clients {
            client.is_open &= client.node != node;
        }
    }

    pub(crate) fn letters(&self, node: usize, kind: LetterKind, outcome: LetterOutcome) -> u64 {
        self.nodes[node].counters.letters(kind, outcome).get()
    }

    pub(crate) fn members(&self, node: usize, outcome: MemberOutcome) -> u64 {
        self.nodes[node].counters.members.of(outcome).get()
    }

    /// Peers that a node says it knows.
    pub(crate) fn peers(&mut self, node: usize) -> u64 {
        self.settle();
        self.maintain(node);
        self.maintain(node);
        let gauges = IpFamily::ALL.map(|it| self.nodes[node].tracker.gauges(it).1);
        gauges.iter().sum()
    }
}

fn node(number: usize, config: &Config) -> Node {
    let workers = config.topology().workers();
    let wakers: Vec<_> = (0..workers).map(|_| waker_pair(|| ()).1).collect();
    let entropy = &mut fastrand::Rng::with_seed(u64::try_from(number).unwrap());
    let access_list = SharedAccessList::new(config.access_list.mode, [].into_iter().collect());
    let (states, counters) = (NodeStates::default(), Arc::<ClusterCounters>::default());
    let limits = ClientLimits::from_config(&config.limits.connections.tracker, entropy);
    let building = Building {
        config,
        access_list: &access_list,
        tls: None,
        wakers: &wakers,
        limits: limits.unwrap(),
        persistence: Persistence::default(),
    };
    let cluster = ClusterParts {
        waker: waker_pair(|| ()).1,
        nodes: states.clone(),
        refresh_seconds: REFRESH_SECONDS,
        counters: Arc::clone(&counters),
    };
    let (workers, replica) = building.build(Some(cluster), entropy).unwrap();
    Node {
        settings: workers.settings.clone(),
        tracker: Simulation::new(workers, config.bounds()),
        replica: replica.unwrap(),
        states,
        counters,
        access_list,
        name: format!("node {number}"),
        sequence: 0,
        inbox: VecDeque::new(),
        taken: HashSet::new(),
        is_dead: false,
    }
}
