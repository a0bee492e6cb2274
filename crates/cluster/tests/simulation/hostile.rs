//! A node that publishes what it likes.

use aquatic_cluster::bus::{Bus, Channel, Destination, Event};
use aquatic_cluster::simulation::{Conditions, SimulatedBus};
use aquatic_swarm_log::{Alive, Batch, BatchHeader, Body, Kind, Leaving, PeerRecord, RecordBuffer};
use aquatic_test_support::seeds::for_each_seed;
use aquatic_types::{CompactV4, PeerStatus};
use fastrand::Rng;

use crate::cluster::{Cluster, Settings};
use crate::node::AGE;
use crate::population::{SECOND, info_hash};

const RUNS: u64 = 3;

/// Of a torrent that nobody else has.
pub(crate) const TORRENT: u32 = 2_000_000;

/// What it has heard of others, to be used.
#[derive(Default)]
pub(crate) struct Heard {
    messages: Vec<Vec<u8>>,
    processes: Vec<u64>,
}

fn any(rng: &mut Rng) -> u64 {
    match rng.u8(..6) {
        0 => 0,
        1 => u64::MAX,
        2 => u64::MAX / 2,
        3 => rng.u64(..100),
        4 => 1_795_000_000_000 + rng.u64(..5_000_000),
        _ => rng.u64(..),
    }
}

fn lie(rng: &mut Rng, heard: &Heard) -> Vec<u8> {
    let process = match rng.u8(..3) {
        0 => 4_711,
        1 => any(rng),
        _ => rng.choice(&heard.processes).copied().unwrap_or_default(),
    };
    let header = BatchHeader {
        process,
        sequence: any(rng),
        unix_millis: any(rng),
    };
    let mut bytes = Vec::new();
    match rng.u8(..6) {
        0 => {
            let alive = Alive {
                peers: any(rng),
                members: any(rng),
                told_within: rng.u32(..),
            };
            alive.write(&mut bytes, &header);
        }
        1 => Leaving.write(&mut bytes, &header),
        2 => bytes.extend((0..rng.usize(..200)).map(|_| rng.u8(..))),
        3 => {
            // What others have published, with something else in it, or a part of it.
            bytes.extend(rng.choice(&heard.messages).into_iter().flatten());
            if !bytes.is_empty() {
                let at = rng.usize(..bytes.len());
                bytes[at] = bytes[at].wrapping_add(rng.u8(1..));
                bytes.truncate(rng.usize(..2 * bytes.len()));
            }
        }
        _ => {
            let mut records = RecordBuffer::new(Kind::PEERS_V4);
            for _ in 0..rng.usize(..50) {
                records.push(&PeerRecord {
                    info_hash: info_hash(TORRENT),
                    peer: CompactV4([240, 0, 0, rng.u8(..), rng.u8(..2), rng.u8(..3)]),
                    status: [PeerStatus::Seeder, PeerStatus::Leecher, PeerStatus::Stopped]
                        [rng.usize(..3)],
                    has_completed: rng.bool(),
                    is_finished: rng.bool(),
                    seconds_left: rng.u16(..),
                });
            }
            records.take().write(&mut bytes, &header);
        }
    }
    bytes
}

/// It listens, and lies.
pub(crate) fn lies(name: &str, bus: &mut SimulatedBus, heard: &mut Heard, rng: &mut Rng) {
    while let Some(event) = bus.next_event() {
        if let Event::Heard(message) = event {
            // Servers let nobody have both of another one, name and number.
            if let Ok((batch, _)) = Batch::parse(&message.payload)
                && message.node != name
            {
                heard.processes.push(batch.header.process);
            }
            heard.messages.push(message.payload.to_vec());
        }
    }
    let excess = heard.messages.len().saturating_sub(100);
    heard.messages.drain(..excess);
    let excess = heard.processes.len().saturating_sub(100);
    heard.processes.drain(..excess);
    for _ in 0..rng.usize(..4) {
        let channel = Channel::ALL[rng.usize(..Channel::ALL.len())];
        let to = match channel {
            Channel::Parcels => Destination::Node(format!("node-{}", rng.u8(..4))),
            _ => Destination::All(channel),
        };
        bus.publish(&to, lie(rng, heard), 0).unwrap();
    }
}

/// Neither one that has a name of its own, nor one that has that of another. But whoever may
/// publish may say that peers have left, and is believed.
#[test]
fn a_node_that_lies_does_no_harm() {
    for_each_seed(RUNS, |seed| {
        for name in ["liar", "node-1"] {
            let mut rng = Rng::with_seed(seed);
            let mut cluster = Cluster::new(Settings {
                seed,
                conditions: Conditions {
                    waiting_max: 10_000,
                    ..Conditions::default()
                },
                ..Settings::default()
            });
            cluster.pass(300);
            let mut bus = cluster.network.connect(name);
            let mut heard = Heard::default();
            let mut most = 0;
            let mut reads = Vec::new();
            for tick in 0..12_000 {
                if tick % 2 == 0 {
                    lies(name, &mut bus, &mut heard, &mut rng);
                }
                cluster.tick();
                if tick % 200 == 0 {
                    for number in 0..4 {
                        let figures = cluster.compare(number, SECOND);
                        assert_eq!((figures.missing, figures.missing_at_home), (0, 0));
                        assert_eq!((figures.left, figures.mistaken), (0, 0));
                        assert_eq!(figures.strangers, 0, "in torrents of others");
                        let now = cluster.now;
                        let known = cluster.node(number).look(now, info_hash(TORRENT)).known;
                        most = most.max(known.len());
                        let longest = known.iter().map(|it| it.seconds_left).max();
                        assert!(longest.is_none_or(|it| u32::from(it) <= AGE + 1));
                    }
                }
                if tick == 0 || tick == 11_999 {
                    reads.push(cluster.counters(0).log_records.get());
                }
            }
            assert!(most > 100, "{most}");
            drop(bus);
            for number in 0..4 {
                assert!(cluster.counters(number).invalid.get() > 1_000);
                assert!(cluster.counters(number).is_complete());
            }
            // Much of it are lies. It would be millions if all was read again for each of them.
            println!("{name}: read {reads:?} records of the log");
            assert!(reads[1] - reads[0] < 300_000);
            cluster.pass(u64::from(AGE) + 3);
            for number in 0..4 {
                let now = cluster.now;
                let known = cluster.node(number).look(now, info_hash(TORRENT)).known;
                assert!(known.is_empty(), "its peers live no longer than others");
                assert_eq!(cluster.compare(number, SECOND).missing, 0);
                assert_eq!(cluster.counters(number).nodes.get(), 3);
            }
        }
    });
}

/// Publishes batches that it hears once more; how many.
pub(crate) fn repeat(bus: &mut SimulatedBus) -> u32 {
    let mut repeated = 0;
    while let Some(event) = bus.next_event() {
        let Event::Heard(message) = event else {
            continue;
        };
        let is_of_peers = Batch::parse(&message.payload)
            .is_ok_and(|(batch, _)| matches!(batch.body, Body::PeersV4(_) | Body::PeersV6(_)));
        if is_of_peers {
            repeated += 1;
            let to = Destination::All(Channel::Peers);
            bus.publish(&to, message.payload.to_vec(), 0).unwrap();
        }
    }
    repeated
}

/// A batch of others, published once more by somebody else, says nothing new.
#[test]
fn what_is_repeated_under_another_name_changes_nothing() {
    let mut cluster = Cluster::new(Settings::default());
    let mut bus = cluster.network.connect("echo");
    cluster.pass(60);
    let mut repeated = 0;
    for _ in 0..6_000 {
        repeated += repeat(&mut bus);
        cluster.tick();
    }
    assert!(repeated > 500);
    cluster.pass(6);
    for number in 0..4 {
        let figures = cluster.compare(number, SECOND);
        assert_eq!((figures.missing, figures.mistaken, figures.left), (0, 0, 0));
        assert!(figures.latest_micros < 2 * SECOND);
    }
}
