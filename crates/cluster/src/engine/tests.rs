//! The engine by itself: the test is the bus, and the shards.

mod holes;
mod others;
mod publishing;
mod reading;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aquatic_swarm_log::{Batch, BatchBody, Body, Kind, PeerRecord, RecordBuffer};
use aquatic_types::{CompactAddr, CompactV4, InfoHash, PeerStatus};

use super::hearing::is_told_too_seldom;
use super::*;
use crate::bus::Message;
use crate::nodes::NodeIndex;
use crate::replica::Received;
use crate::times::{PeerAges, Times};

const FLUSH: u64 = 100_000;
const SECOND: u64 = 1_000_000;
const AGE: u32 = 1_200;
const COMPLETE_AFTER: u32 = 632;
const UNIX_MILLIS: u64 = 1_795_000_000_000;
const HERE: u64 = 77;

/// A bus in the hands of a test.
#[derive(Default)]
struct Hand {
    events: VecDeque<Event<Vec<u8>>>,
    published: Vec<(Destination, Vec<u8>)>,
    /// So many messages are refused from now on.
    refuses: usize,
    /// It has no room for peers.
    refuses_peers: bool,
    /// How far back the log was read.
    reads: Vec<Duration>,
    /// It takes everything, and confirms nothing.
    hangs: bool,
    /// Whether peers that are published get into the log.
    keeps: bool,
}

#[derive(Clone, Default)]
struct HandBus(Rc<RefCell<Hand>>);

impl Bus for HandBus {
    type Payload = Vec<u8>;

    fn publish(&mut self, to: &Destination, payload: Vec<u8>, mark: u64) -> Result<(), Vec<u8>> {
        let mut hand = self.0.borrow_mut();
        let is_of_peers = *to == Destination::All(Channel::Peers);
        if hand.refuses_peers && is_of_peers {
            return Err(payload);
        }
        if hand.refuses > 0 {
            hand.refuses -= 1;
            return Err(payload);
        }
        if hand.keeps && is_of_peers {
            hand.events.push_back(Event::Kept(mark));
        }
        hand.published.push((to.clone(), payload));
        Ok(())
    }

    fn confirm(&mut self, mark: u64) {
        let mut hand = self.0.borrow_mut();
        if !hand.hangs {
            hand.events.push_back(Event::Confirmed(mark));
        }
    }

    fn read_log(&mut self, since: Duration) {
        self.0.borrow_mut().reads.push(since);
    }

    fn next_event(&mut self) -> Option<Event<Vec<u8>>> {
        self.0.borrow_mut().events.pop_front()
    }
}

/// What the shards have been told, and what they have to tell.
#[derive(Default)]
struct Shards {
    outgoing: Vec<Outgoing>,
    /// Who has told, how old it was, and whether it was read in the log.
    received: Vec<(NodeIndex, u64, bool)>,
    /// Of what was received, whether it was before.
    repeated: Vec<bool>,
    collected: usize,
    /// Whether the log was being read, each time that they have settled.
    settled: Vec<bool>,
    are_busy: bool,
    is_marked: bool,
    /// What was received before the last mark does not get into the shards.
    are_slow: bool,
}

struct Shown {
    shards: Arc<Mutex<Shards>>,
    channel: Channel,
}

impl Replica for Shown {
    fn listens_to(&self, channel: Channel) -> bool {
        channel == self.channel
    }

    fn has_room(&self) -> bool {
        !self.shards.lock().unwrap().are_busy
    }

    fn mark(&mut self) {
        self.shards.lock().unwrap().is_marked = true;
    }

    fn has_passed_mark(&self) -> bool {
        let shards = self.shards.lock().unwrap();
        !(shards.is_marked && shards.are_slow)
    }

    fn receive(&mut self, _: Now, batch: &Received<'_>) {
        let received = (batch.from, batch.age_millis, batch.is_logged);
        let mut shards = self.shards.lock().unwrap();
        shards.received.push(received);
        shards.repeated.push(batch.is_repeated);
    }

    fn settle(&mut self, _: Now, is_reading_log: bool) {
        self.shards.lock().unwrap().settled.push(is_reading_log);
    }

    fn collect(&mut self) {
        self.shards.lock().unwrap().collected += 1;
    }

    fn finish(&mut self, _: Now, publish: &mut dyn FnMut(Outgoing)) -> usize {
        let outgoing = std::mem::take(&mut self.shards.lock().unwrap().outgoing);
        outgoing.into_iter().for_each(publish);
        0
    }

    fn has_pending(&self) -> bool {
        !self.shards.lock().unwrap().outgoing.is_empty()
    }
}

/// An engine, and everything around it.
struct Fixture {
    engine: Engine<HandBus>,
    hand: Rc<RefCell<Hand>>,
    shards: Arc<Mutex<Shards>>,
    states: NodeStates,
    counters: Arc<Counters>,
    micros: u64,
}

fn times() -> Times {
    Times {
        ages: PeerAges {
            min_seconds: AGE,
            max_seconds: AGE,
        },
        life: AGE,
        peers_told_within: COMPLETE_AFTER,
        told_within: COMPLETE_AFTER,
    }
}

fn settings() -> EngineSettings {
    EngineSettings {
        node: "here".to_owned(),
        process: HERE,
        flush_interval_micros: FLUSH,
        history: true,
        times: SharedTimes::new(times()),
        publish_buffer_bytes: 10_000,
    }
}

impl Fixture {
    fn new(settings: EngineSettings) -> Self {
        Self::listening(settings, Channel::Peers)
    }

    fn listening(settings: EngineSettings, channel: Channel) -> Self {
        let bus = HandBus::default();
        let hand = Rc::clone(&bus.0);
        let shards: Arc<Mutex<Shards>> = Arc::default();
        let (states, counters) = (NodeStates::default(), Arc::<Counters>::default());
        let replica = Box::new(Shown {
            shards: Arc::clone(&shards),
            channel,
        });
        let (shown, counted) = (states.clone(), Arc::clone(&counters));
        Self {
            engine: Engine::new(bus, settings, vec![replica], shown, counted),
            hand,
            shards,
            states,
            counters,
            micros: 50 * SECOND,
        }
    }

    /// One that is connected for a minute, and has read the log.
    fn at_work() -> Self {
        Self::at_work_with(settings())
    }

    fn at_work_with(settings: EngineSettings) -> Self {
        let mut fixture = Self::new(settings);
        fixture.happens(Event::Connected);
        fixture.reads_to_the_end();
        fixture.pass(60 * SECOND);
        fixture.hand.borrow_mut().published.clear();
        fixture.hand.borrow_mut().reads.clear();
        fixture
    }

    fn time(&self) -> Time {
        Time {
            now: Now::from_micros(self.micros),
            unix_millis: UNIX_MILLIS + self.micros / 1_000,
        }
    }

    fn step(&mut self) -> u64 {
        let time = self.time();
        self.engine.step(time)
    }

    /// Lets time pass, one flush interval after the other.
    fn pass(&mut self, micros: u64) {
        let until = self.micros + micros;
        while self.micros < until {
            self.micros = until.min(self.micros + FLUSH);
            self.step();
        }
    }

    fn happens(&mut self, event: Event<Vec<u8>>) {
        self.hand.borrow_mut().events.push_back(event);
        self.step();
    }

    /// A log that has been there for long.
    fn reads_to_the_end(&mut self) {
        self.happens(Event::LogRead { age: Duration::MAX });
    }

    /// A message of another node comes that it has written just now.
    fn hears(&mut self, node: &str, channel: Channel, payload: Vec<u8>) {
        self.happens(Event::Heard(message(node, channel, payload)));
    }

    /// A batch of a peer, with this number, comes that was written so long ago.
    fn hears_peers(&mut self, node: &str, process: u64, sequence: u64, age_micros: u64) {
        let header = self.header(process, sequence, age_micros);
        self.hears(node, Channel::Peers, peers(&header, 1));
    }

    /// A node tells that it is alive, and that it has written so many batches of peers.
    fn hears_alive(&mut self, node: &str, process: u64, peers: u64, age_micros: u64) {
        let header = self.header(process, 0, age_micros);
        let mut bytes = Vec::new();
        let alive = Alive {
            peers,
            ..Alive::default()
        };
        alive.write(&mut bytes, &header);
        self.hears(node, Channel::Nodes, bytes);
    }

    /// The log has these batches of a node's process 1.
    fn reads_in_log(&mut self, node: &str, numbers: &[u64]) {
        for sequence in numbers {
            let header = self.header(1, *sequence, SECOND);
            let logged = message(node, Channel::Peers, peers(&header, 1));
            self.happens(Event::Logged(logged));
        }
    }

    fn header(&self, process: u64, sequence: u64, age_micros: u64) -> BatchHeader {
        BatchHeader {
            process,
            sequence,
            unix_millis: self.time().unix_millis - age_micros / 1_000,
        }
    }

    /// The shards have a peer to tell of.
    fn tells(&mut self, port: u16) {
        let since = Now::from_micros(self.micros);
        self.tells_since(port, 1, since);
    }

    fn tells_since(&mut self, port: u16, records: usize, since: Now) {
        let to = Destination::All(Channel::Peers);
        let body = body(port, records);
        let outgoing = Outgoing { to, body, since };
        self.shards.lock().unwrap().outgoing.push(outgoing);
    }

    /// Takes what was published on a channel.
    fn published(&mut self, channel: Channel) -> Vec<Vec<u8>> {
        let mut hand = self.hand.borrow_mut();
        let is_wanted = |(to, _): &mut (Destination, _)| *to == Destination::All(channel);
        let published = hand.published.extract_if(.., is_wanted);
        published.map(|(_, bytes)| bytes).collect()
    }

    /// The same batches of peers: sequence numbers, and the port of the first peer.
    fn published_peers(&mut self) -> Vec<(u64, u16)> {
        let published = self.published(Channel::Peers);
        published.iter().map(|bytes| read_peers(bytes)).collect()
    }

    fn received(&self) -> Vec<(NodeIndex, u64, bool)> {
        std::mem::take(&mut self.shards.lock().unwrap().received)
    }

    /// How far back the log was read, in seconds, since this was asked last.
    fn reads(&self) -> Vec<u64> {
        let reads = std::mem::take(&mut self.hand.borrow_mut().reads);
        reads.iter().map(Duration::as_secs).collect()
    }
}

fn message(node: &str, channel: Channel, payload: Vec<u8>) -> Message<Vec<u8>> {
    Message {
        channel,
        node: node.to_owned(),
        logged_millis_ago: None,
        payload,
    }
}

fn body(port: u16, records: usize) -> BatchBody {
    let mut buffer = RecordBuffer::new(Kind::PEERS_V4);
    for _ in 0..records {
        buffer.push(&PeerRecord {
            info_hash: InfoHash([7; 20]),
            peer: CompactV4::new([192, 0, 2, 1].into(), port),
            status: PeerStatus::Leecher,
            has_completed: false,
            is_finished: false,
            seconds_left: 1_200,
        });
    }
    buffer.take()
}

fn peers(header: &BatchHeader, port: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    body(port, 1).write(&mut bytes, header);
    bytes
}

fn read_peers(bytes: &[u8]) -> (u64, u16) {
    let (batch, _) = Batch::parse(bytes).unwrap();
    let Body::PeersV4(mut records) = batch.body else {
        panic!("peers were published");
    };
    let port = records.next().unwrap().unwrap().peer.socket_addr().port();
    (batch.header.sequence, port)
}
