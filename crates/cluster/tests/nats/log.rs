//! The log of what was published.

use std::thread;
use std::time::Duration;

use aquatic_cluster::bus::{Channel, Destination};
use aquatic_daemon::clock::Clock;
use aquatic_test_support::nats::{self, NatsClient, NatsServer};
use aquatic_test_support::wait::until;

use crate::lines::Lines;
use crate::node::{AGE, Node, Plain, Seen, config};

const PEERS: Destination = Destination::All(Channel::Peers);

fn peers(payload: &[u8]) -> Plain {
    (Channel::Peers, "a".to_owned(), payload.to_vec())
}

/// Publishes until it is logged, since a stream that is new is there a little later.
fn publish_logged(node: &Node, reader: &Node, payload: &[u8]) {
    until("the stream is there", || {
        node.publish(&PEERS, payload);
        reader.expect_heard(Channel::Peers, "a", payload);
        let all = reader.read_all(AGE);
        all.contains(&peers(payload)).then_some(())
    });
}

#[test]
fn peers_and_members_are_logged_and_nothing_else() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start();
    let a = Node::start("a", &[&server]);
    a.expect_connected();
    assert_eq!(a.read_all(AGE), [], "it is there, and empty");
    a.publish(&PEERS, b"1");
    a.publish(&Destination::All(Channel::Nodes), b"2");
    a.publish(&Destination::All(Channel::Members), b"3");
    a.publish(&Destination::Node("a".to_owned()), b"4");
    let payload: Vec<u8> = (0..=255).cycle().take(65_536).collect();
    a.publish(&PEERS, &payload);
    let expected = [
        peers(b"1"),
        (Channel::Members, "a".to_owned(), b"3".to_vec()),
        peers(&payload),
    ];
    until("all are logged", || {
        (a.read_all(AGE).len() == 3).then_some(())
    });
    let late = Node::start("late", &[&server]);
    late.expect_connected();
    assert_eq!(late.read_all(AGE), expected);
    assert_eq!(late.read_all(AGE), expected, "again");
}

#[test]
fn it_is_read_from_a_time_on_and_outlives_the_server() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let mut server = NatsServer::start();
    let [a, b] = ["a", "b"].map(|name| Node::start(name, &[&server]));
    for node in [&a, &b] {
        node.expect_connected();
    }
    publish_logged(&a, &b, b"old");
    thread::sleep(Duration::from_secs(2));
    let clock = Clock::start();
    a.publish(&PEERS, b"new");
    b.expect_heard(Channel::Peers, "a", b"new");
    until("it is logged", || {
        // From a second before it was published.
        let since = clock.elapsed() + Duration::from_secs(1);
        (b.read_all(since) == [peers(b"new")]).then_some(())
    });
    let all = b.read_all(AGE);
    assert_eq!(all.first(), Some(&peers(b"old")));
    assert_eq!(all.last(), Some(&peers(b"new")));
    server.kill();
    b.expect(&Seen::Disconnected);
    server.go_on();
    b.expect_connected();
    assert_eq!(b.read_all(AGE), all);
}

#[test]
fn a_channel_that_is_not_listened_to_is_not_read_either() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start();
    let a = Node::start("a", &[&server]);
    a.expect_connected();
    a.read_all(AGE);
    a.publish(&Destination::All(Channel::Members), b"1");
    a.publish(&PEERS, b"2");
    until("both are logged", || {
        (a.read_all(AGE).len() == 2).then_some(())
    });
    let channels = [Channel::Peers, Channel::Nodes];
    let one = Node::start_as(crate::node::settings_for(
        "b",
        &config(&[&server]),
        &channels,
    ));
    one.expect_connected();
    assert_eq!(one.read_all(AGE), [peers(b"2")]);
}

#[test]
fn without_a_log_everything_else_works_and_the_reason_is_told() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let server = NatsServer::start_with("");
    let [a, b] = ["a", "b"].map(|name| Node::start(name, &[&server]));
    for node in [&a, &b] {
        node.expect_connected();
    }
    let reason = a.read_in_vain();
    assert!(reason.contains("no JetStream"), "{reason}");
    let told = || lines.with("`cluster.history`");
    assert!(
        told().iter().any(|line| line.contains("no JetStream")),
        "{:?}",
        told()
    );
    a.publish(&PEERS, b"x");
    b.expect_heard(Channel::Peers, "a", b"x");
    let mut off = config(&[&server]);
    off.history = false;
    let off = Node::start_with("c", &off);
    assert_eq!(off.read_in_vain(), "`cluster.history` is false");
    off.expect_connected();
}

#[test]
fn a_reading_ends_with_the_connection_and_a_new_one_takes_its_place() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let mut server = NatsServer::start();
    let [a, b] = ["a", "b"].map(|name| Node::start(name, &[&server]));
    for node in [&a, &b] {
        node.expect_connected();
    }
    publish_logged(&a, &b, b"x");
    let all = b.read_all(AGE);
    // The first one has delivered nothing, or a part.
    b.with(|nats| {
        use aquatic_cluster::bus::Bus;

        nats.read_log(AGE);
        nats.read_log(AGE);
    });
    for message in &all {
        b.expect(&Seen::Logged(message.clone()));
    }
    assert!(matches!(b.next(), Seen::LogRead(_)));
    b.expect_silence(Duration::from_millis(100));
    server.freeze();
    b.read_log(AGE);
    thread::sleep(Duration::from_millis(100));
    server.kill();
    let events = [b.next(), b.next()];
    let lost = Seen::LogFailed("the connection was lost".to_owned());
    assert_eq!(events, [Seen::Disconnected, lost]);
    b.read_log(AGE);
    b.expect(&Seen::LogFailed("there is no connection".to_owned()));
}

#[test]
fn a_stream_that_somebody_deletes_is_made_anew() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let server = NatsServer::start();
    let [a, b] = ["a", "b"].map(|name| Node::start(name, &[&server]));
    for node in [&a, &b] {
        node.expect_connected();
    }
    publish_logged(&a, &b, b"old");
    let stream = "AQUATIC_main";
    let mut client = NatsClient::connect(server.address());
    let deleted = client.ask(&format!("$JS.API.STREAM.DELETE.{stream}"), "");
    assert!(deleted.contains("\"success\":true"), "{deleted}");
    let told = || lines.with(&format!("the stream {stream} in the NATS servers has gone"));
    until("it is told of", || (!told().is_empty()).then_some(()));
    until("it is there again", || {
        let info = client.ask(&format!("$JS.API.STREAM.INFO.{stream}"), "");
        info.contains("\"config\"").then_some(())
    });
    publish_logged(&a, &b, b"new");
    assert!(!b.read_all(AGE).contains(&peers(b"old")));
}

#[test]
fn a_stream_of_the_operator_s_that_forgets_too_early_is_told_about_and_not_changed() {
    if !nats::is_there() {
        return;
    }
    let log = Lines::begin();
    let server = NatsServer::start();
    // The same with another opinion about the age.
    let settings = crate::node::settings_of_age(&config(&[&server]), Duration::from_secs(300));
    let first = Node::start_as(settings);
    first.expect_connected();
    first.read_all(AGE);
    let second = Node::start("b", &[&server]);
    second.expect_connected();
    second.read_all(AGE);
    let lines = || log.with("keeps messages for 300 s, and peers live for 1200 s");
    assert_eq!(lines().len(), 1);
    let third = Node::start("c", &[&server]);
    third.expect_connected();
    third.read_all(AGE);
    assert_eq!(lines().len(), 2, "it is still so");
}

#[test]
fn a_stream_of_the_operator_s_that_does_not_keep_everything_is_told_about() {
    if !nats::is_there() {
        return;
    }
    let log = Lines::begin();
    for limit in [
        "\"max_msgs\":10",
        "\"max_bytes\":2000,\"discard\":\"new\"",
        "\"retention\":\"interest\"",
        "\"max_msg_size\":100",
    ] {
        let server = NatsServer::start();
        let mut client = NatsClient::connect(server.address());
        let config = format!(
            "{{\"name\":\"AQUATIC_main\",\"storage\":\"file\",\"subjects\":\
             [\"aquatic.v1.main.peers.>\",\"aquatic.v1.main.members.>\"],{limit}}}"
        );
        let made = client.ask("$JS.API.STREAM.CREATE.AQUATIC_main", &config);
        assert!(made.contains("\"config\""), "{made}");
        let before = log.with("does not keep all that is published").len();
        let node = Node::start("a", &[&server]);
        node.expect_connected();
        let lines = log.with("does not keep all that is published");
        assert_eq!(lines.len(), before + 1, "{limit}");
    }
}

const SOON: Duration = Duration::from_secs(10);
const NEVER: Duration = Duration::from_secs(1);

#[test]
fn who_publishes_is_told_what_the_log_has() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let mut server = NatsServer::start();
    let a = Node::start("a", &[&server]);
    a.expect_connected();
    a.read_all(AGE);
    a.publish_marked(&PEERS, b"1", 5);
    assert_eq!(a.next_kept(SOON), Some(5));
    a.publish_marked(&Destination::All(Channel::Members), b"2", 6);
    assert_eq!(a.next_kept(SOON), Some(6));
    // What is for nobody else, and not to be logged.
    a.publish_marked(&Destination::All(Channel::Nodes), b"3", 7);
    a.publish_marked(&Destination::Node("b".to_owned()), b"4", 8);
    assert_eq!(a.next_kept(NEVER), None);
    // Another stream that has the same says nothing about the log.
    let mut client = NatsClient::connect(server.address());
    let deleted = client.ask("$JS.API.STREAM.DELETE.AQUATIC_main", "");
    assert!(deleted.contains("\"success\":true"), "{deleted}");
    let other = "{\"name\":\"OTHER\",\"subjects\":[\"aquatic.v1.main.peers.a\"]}";
    let made = client.ask("$JS.API.STREAM.CREATE.OTHER", other);
    assert!(made.contains("\"config\""), "{made}");
    a.publish_marked(&PEERS, b"5", 9);
    assert_eq!(a.next_kept(NEVER), None);
    server.kill();
    a.expect(&Seen::Disconnected);
    server.configure("");
    server.go_on();
    a.expect_connected();
    a.publish_marked(&PEERS, b"6", 10);
    assert_eq!(a.next_kept(NEVER), None, "there is no log at all");
}

#[test]
fn a_stream_that_says_not_what_it_has_or_takes_nothing_is_told_about() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let server = NatsServer::start();
    let mut client = NatsClient::connect(server.address());
    let config = |more: &str| {
        format!(
            "{{\"name\":\"AQUATIC_main\",\"subjects\":[\"aquatic.v1.main.peers.>\",\
             \"aquatic.v1.main.members.>\"]{more}}}"
        )
    };
    let made = client.ask(
        "$JS.API.STREAM.CREATE.AQUATIC_main",
        &config(",\"no_ack\":true"),
    );
    assert!(made.contains("\"config\""), "{made}");
    let node = Node::start("a", &[&server]);
    node.expect_connected();
    assert_eq!(lines.with("nats stream edit AQUATIC_main --ack").len(), 1);
    node.publish_marked(&PEERS, b"1", 1);
    assert_eq!(node.next_kept(NEVER), None);
    let full = config(",\"max_msgs\":1,\"discard\":\"new\"");
    let changed = client.ask("$JS.API.STREAM.UPDATE.AQUATIC_main", &full);
    assert!(changed.contains("\"config\""), "{changed}");
    node.publish_marked(&PEERS, b"2", 2);
    assert_eq!(node.next_kept(NEVER), None);
    let told = || lines.with("the stream AQUATIC_main in the NATS servers does not take");
    until("it is told of", || (told().len() == 1).then_some(()));
    let empty = config("");
    let changed = client.ask("$JS.API.STREAM.UPDATE.AQUATIC_main", &empty);
    assert!(changed.contains("\"config\""), "{changed}");
    node.publish_marked(&PEERS, b"3", 3);
    assert_eq!(node.next_kept(SOON), Some(3));
}

#[test]
fn it_is_as_old_as_the_stream() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let mut server = NatsServer::start();
    let a = Node::start("a", &[&server]);
    a.expect_connected();
    let (_, none) = a.read_with_age(AGE);
    assert_eq!(none, Duration::ZERO, "it has nothing");
    a.publish_marked(&PEERS, b"1", 1);
    assert_eq!(a.next_kept(SOON), Some(1));
    let (_, new) = a.read_with_age(AGE);
    assert!(new < Duration::from_secs(10), "{new:?}");
    thread::sleep(Duration::from_secs(2));
    server.kill();
    a.expect(&Seen::Disconnected);
    server.go_on();
    a.expect_connected();
    let (_, old) = a.read_with_age(AGE);
    assert!(old > new + Duration::from_secs(2), "{new:?} {old:?}");
    let clock = Clock::start();
    let deleted =
        NatsClient::connect(server.address()).ask("$JS.API.STREAM.DELETE.AQUATIC_main", "");
    assert!(deleted.contains("\"success\":true"), "{deleted}");
    until("there is another one", || {
        NatsClient::connect(server.address())
            .ask("$JS.API.STREAM.INFO.AQUATIC_main", "")
            .contains("\"config\"")
            .then_some(())
    });
    let (_, newer) = a.read_with_age(AGE);
    // Were it as old as the one before, it would be older than that.
    let since_deletion = clock.elapsed();
    assert!(
        newer <= since_deletion,
        "{old:?} {newer:?} {since_deletion:?}"
    );
}
