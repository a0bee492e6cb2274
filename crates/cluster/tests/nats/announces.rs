//! Announces for a back end.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aquatic_cluster::announces::AnnouncePlan;
use aquatic_cluster::config::ClusterConfig;
use aquatic_cluster::counters::Counters;
use aquatic_cluster::nats::AnnounceEnd;
use aquatic_daemon::clock::{Clock, Now};
use aquatic_test_support::nats::{self, JETSTREAM, NatsClient, NatsServer};
use aquatic_test_support::wait::{DEADLINE, until};
use aquatic_tracker::announces::{AnnounceTap, Announces, ServedAnnounce};
use aquatic_types::{AnnounceEvent, InfoHash, PeerId};

use crate::lines::Lines;
use crate::node::{Node, config};
use crate::permissions;

const STREAM: &str = "AQUATIC-ANNOUNCES_main";

/// A tracker with one worker.
pub(crate) struct Tracker {
    tap: AnnounceTap,
    counters: Arc<Counters>,
    pub(crate) node: Node,
    end: AnnounceEnd,
    told: u16,
}

impl Tracker {
    pub(crate) fn start(config: &ClusterConfig) -> Self {
        let announces = Announces::new("a".to_owned());
        let (tap, counters) = (announces.tap("udp"), Arc::<Counters>::default());
        let plan = AnnouncePlan {
            announces,
            buffer_bytes: config.announces_buffer,
            flush_interval: Duration::from_millis(config.flush_interval),
            process: 7,
            clock: Clock::start(),
            counters: Arc::clone(&counters),
        };
        let node = Node::start_with("a", config);
        let end = node.with(|nats| nats.publish_announces(plan));
        Self {
            tap,
            counters,
            node,
            end,
            told: 0,
        }
    }

    /// So many more announces: each one comes from the next port.
    pub(crate) fn tell(&mut self, number: u16) {
        for _ in 0..number {
            self.told += 1;
            let announce = ServedAnnounce {
                info_hash: InfoHash([1; 20]),
                peer_id: PeerId([b'x'; 20]),
                ip: IpAddr::from([192, 0, 2, 1]),
                port: Some(self.told),
                uploaded: Some(1),
                downloaded: Some(2),
                left: Some(3),
                event: AnnounceEvent::None,
                key: Some(b"key"),
            };
            self.tap.note(Now::default(), &announce);
        }
    }

    pub(crate) fn published(&self) -> usize {
        usize::try_from(self.counters.announces.published.get()).unwrap()
    }

    #[track_caller]
    pub(crate) fn wait_for_all(&self) {
        let lost = || self.counters.announces.dropped.get();
        until("all are acknowledged", || {
            let sum = self.counters.announces.published.get() + lost();
            (sum == u64::from(self.told)).then_some(())
        });
    }
}

/// Ports in the stream, in order. No message is there twice.
#[track_caller]
fn ports_in_stream(server: &NatsServer) -> Vec<u16> {
    let mut client = NatsClient::connect(server.address());
    let messages = client.read_stream(STREAM);
    let names: BTreeSet<_> = messages.iter().map(|(headers, _)| headers).collect();
    assert_eq!(names.len(), messages.len());
    for name in names {
        assert!(name.contains("Nats-Msg-Id: 0000000000000007-"), "{name}");
    }
    let lines = messages.iter().flat_map(|(_, body)| body.lines());
    let port = |line: &str| {
        assert!(line.starts_with("{\"time\":") && line.ends_with("\"key\":\"key\"}"));
        let (_, rest) = line.split_once("\"port\":").unwrap();
        rest.split(',').next().unwrap().parse().unwrap()
    };
    lines.map(port).collect()
}

#[test]
fn every_announce_is_there_once_and_in_order_whatever_the_server_does() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let mut server = NatsServer::stopped(JETSTREAM);
    let mut tracker = Tracker::start(&config(&[&server]));
    tracker.tell(100);
    server.go_on();
    for _ in 0..4 {
        for _ in 0..50 {
            tracker.tell(20);
            thread::sleep(Duration::from_millis(2));
        }
        server.kill();
        tracker.tell(50);
        server.go_on();
    }
    tracker.wait_for_all();
    assert_eq!(tracker.counters.announces.dropped.get(), 0);
    let expected: Vec<_> = (1..=tracker.told).collect();
    assert_eq!(ports_in_stream(&server), expected);
}

/// It has taken what it has not acknowledged.
#[test]
fn what_is_published_again_is_not_there_twice() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start();
    let mut tracker = Tracker::start(&config(&[&server]));
    tracker.tell(1);
    tracker.wait_for_all();
    server.freeze();
    tracker.tell(1);
    until("it is not acknowledged", || {
        (tracker.counters.announces.failures.get() > 0).then_some(())
    });
    server.thaw();
    tracker.tell(1);
    tracker.wait_for_all();
    assert_eq!(ports_in_stream(&server), [1, 2, 3]);
}

#[test]
fn the_oldest_are_lost_if_there_is_no_server_for_too_long() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let mut server = NatsServer::stopped(JETSTREAM);
    let config = ClusterConfig {
        announces_buffer: 1_048_576,
        ..config(&[&server])
    };
    let mut tracker = Tracker::start(&config);
    for _ in 0..20 {
        tracker.tell(1_000);
        thread::sleep(Duration::from_millis(50));
    }
    until("some are dropped", || {
        (tracker.counters.announces.dropped.get() > 0).then_some(())
    });
    assert!(tracker.counters.announces.buffered.get() <= 1_048_576);
    server.go_on();
    tracker.wait_for_all();
    let ports = ports_in_stream(&server);
    assert_eq!(ports.len(), tracker.published());
    assert_eq!(ports.last(), Some(&20_000));
    let is_newer = |pair: &[u16]| pair[0] < pair[1];
    assert!(ports.windows(2).all(is_newer), "in order");
    // The message that was on its way has not been thrown away; after it, none is missing.
    let jumps = ports.windows(2).filter(|pair| pair[1] != pair[0] + 1);
    assert!(jumps.count() <= 1 && ports.len() > 3_000, "{}", ports.len());
}

#[test]
fn at_the_end_the_servers_have_everything() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start();
    let config = ClusterConfig {
        flush_interval: 5_000,
        ..config(&[&server])
    };
    let mut tracker = Tracker::start(&config);
    tracker.node.expect_connected();
    thread::sleep(Duration::from_millis(100));
    tracker.tell(1_000);
    let Tracker {
        end,
        node,
        counters,
        ..
    } = tracker;
    let clock = Clock::start();
    let done = node.begin(move |_| tokio_spawn(end));
    done.recv_timeout(DEADLINE).unwrap();
    until("all are acknowledged", || {
        (counters.announces.published.get() == 1_000).then_some(())
    });
    assert!(
        clock.elapsed() < Duration::from_secs(4),
        "not at the next look"
    );
    assert_eq!(ports_in_stream(&server).len(), 1_000);
}

/// In the thread of the bus, which does not wait for it.
fn tokio_spawn(end: AnnounceEnd) {
    tokio::spawn(end.finish(Duration::from_secs(5)));
}

#[test]
fn a_stream_that_is_refused_is_told_of_and_tried_again() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let (part, other) = ("STREAM.CREATE.AQUATIC-", "STREAM.OTHER.AQUATIC-");
    let without = permissions::configuration_without(part, other);
    let server = NatsServer::start_with(&without);
    let mut tracker = Tracker::start(&permissions::config_of(&server, "a"));
    tracker.tell(3);
    let reason = "Permissions Violation for Publish to \"$JS.API.STREAM.CREATE.AQUATIC-ANNOUNCES_";
    until(reason, || {
        let told = lines.with("announces cannot be published (`cluster.announces`), and wait");
        told.iter().any(|line| line.contains(reason)).then_some(())
    });
    server.reload(&permissions::configuration());
    tracker.wait_for_all();
    assert_eq!(tracker.published(), 3);
}

/// Somebody has made it for small messages: they are cut, and nothing waits for ever.
#[test]
fn a_stream_that_takes_small_messages_only_gets_everything() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start();
    let mut client = NatsClient::connect(server.address());
    let stream = format!(
        "{{\"name\":\"{STREAM}\",\"subjects\":[\"aquatic.v1.main.announces.*\"],\
         \"storage\":\"memory\",\"retention\":\"limits\",\"max_msg_size\":2000}}"
    );
    let answer = client.ask(&format!("$JS.API.STREAM.CREATE.{STREAM}"), &stream);
    assert!(answer.contains("\"max_msg_size\":2000"), "{answer}");
    let mut tracker = Tracker::start(&config(&[&server]));
    tracker.tell(500);
    tracker.wait_for_all();
    assert_eq!(tracker.counters.announces.dropped.get(), 0);
    let expected: Vec<_> = (1..=tracker.told).collect();
    assert_eq!(ports_in_stream(&server), expected);
}
