//! Connections that are made, lost and made again, and what gets through them.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aquatic_cluster::bus::{Bus, Channel, Destination};
use aquatic_daemon::clock::Clock;
use aquatic_test_support::Place;
use aquatic_test_support::nats::{self, JETSTREAM, NatsServer};
use aquatic_test_support::wait::until;

use crate::lines::Lines;
use crate::node::{Node, Seen, config};

const PEERS: Destination = Destination::All(Channel::Peers);

#[test]
fn each_channel_reaches_those_who_are_to_hear_it_unharmed_and_in_order() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start();
    let [a, b, c] = ["a", "b", "c"].map(|name| Node::start(name, &[&server]));
    for node in [&a, &b, &c] {
        node.expect_connected();
    }
    let all_bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for (channel, payload) in [
        (Channel::Peers, &all_bytes[..]),
        (Channel::Members, b"\r\nPING\r\n\0"),
        (Channel::Nodes, b""),
    ] {
        a.publish(&Destination::All(channel), payload);
        for node in [&b, &c] {
            node.expect_heard(channel, "a", payload);
        }
    }
    b.publish(&Destination::Node("c".to_owned()), b"for c alone");
    c.expect_heard(Channel::Parcels, "c", b"for c alone");
    for number in 0..1_000_u32 {
        a.publish(&PEERS, &number.to_be_bytes());
    }
    for node in [&b, &c] {
        for number in 0..1_000_u32 {
            node.expect_heard(Channel::Peers, "a", &number.to_be_bytes());
        }
        node.expect_silence(Duration::from_millis(50));
    }
    a.expect_silence(Duration::from_millis(50));
}

#[test]
fn clusters_of_other_names_hear_nothing() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start();
    let [a, b] = ["a", "b"].map(|name| Node::start(name, &[&server]));
    let mut other = config(&[&server]);
    other.name = "other".to_owned();
    let other = Node::start_with("b", &other);
    for node in [&a, &b, &other] {
        node.expect_connected();
    }
    a.publish(&PEERS, b"x");
    a.publish(&Destination::Node("b".to_owned()), b"y");
    let heard = [b.next(), b.next()];
    for (channel, node, payload) in [(Channel::Peers, "a", b"x"), (Channel::Parcels, "b", b"y")] {
        let message = Seen::Heard((channel, node.to_owned(), payload.to_vec()));
        assert!(heard.contains(&message), "{heard:?}");
    }
    other.expect_silence(Duration::from_millis(100));
}

#[test]
fn a_server_that_is_not_there_yet_is_waited_for() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let mut server = NatsServer::stopped(JETSTREAM);
    let node = Node::start("a", &[&server]);
    assert_eq!(node.try_publish(&PEERS, b"x"), Err(b"x".to_vec()));
    let port = server.address().to_string();
    let reason = format!("{port}: Connection refused");
    until("the reason is told", || {
        (!lines.with(&reason).is_empty()).then_some(())
    });
    node.expect_silence(Duration::from_millis(500));
    assert_eq!(lines.with(&reason).len(), 1);
    server.go_on();
    node.expect_connected();
    assert_eq!(node.try_publish(&PEERS, b"x"), Ok(()));
}

#[test]
fn a_server_that_is_killed_and_comes_back_is_found_again() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let mut server = NatsServer::start();
    let [a, b] = ["a", "b"].map(|name| Node::start(name, &[&server]));
    for node in [&a, &b] {
        node.expect_connected();
    }
    for round in 0..2_u8 {
        a.publish(&PEERS, &[round]);
        b.expect_heard(Channel::Peers, "a", &[round]);
        server.kill();
        for node in [&a, &b] {
            node.expect(&Seen::Disconnected);
            assert_eq!(node.try_publish(&PEERS, b"lost"), Err(b"lost".to_vec()));
        }
        server.go_on();
        for node in [&a, &b] {
            node.expect_connected();
        }
    }
    a.publish(&PEERS, b"after");
    b.expect_heard(Channel::Peers, "a", b"after");
    assert_eq!(a.with(|nats| nats.totals().connects), 3);
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start();
    let node = Node::start("a", &[&server]);
    node.expect_connected();
    server.freeze();
    // It is found to be dead by three pings, which takes twelve seconds.
    let lost = node.next_within(Duration::from_secs(60));
    assert_eq!(lost, Seen::Disconnected);
}

/// It is the nearest, and takes connections. Another server of the list is as good.
#[test]
fn a_server_that_says_nothing_after_its_greeting_keeps_nobody_from_others() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let good = NatsServer::start();
    let proxy = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = proxy.local_addr().unwrap().port();
    let to = good.port();
    thread::spawn(move || {
        for from in proxy.incoming() {
            let mut from = from.unwrap();
            let mut to = TcpStream::connect(("127.0.0.1", to)).unwrap();
            let (mut answers, mut questions) = (to.try_clone().unwrap(), from.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut questions, &mut to));
            // The greeting, and the answer to the first ping; and then it takes everything.
            let mut bytes = [0; 4_096];
            for _ in 0..2 {
                let many = answers.read(&mut bytes).unwrap();
                from.write_all(&bytes[..many]).unwrap();
            }
            thread::spawn(move || io::copy(&mut answers, &mut io::sink()).map(|_| from));
        }
    });
    let mut config = config(&[&good]);
    let hanging = format!("nats://127.0.0.1:{port}");
    config.servers.insert(0, hanging);
    let a = Node::start_with("a", &config);
    let clock = Clock::start();
    until("it is connected", || {
        matches!(a.next(), Seen::Connected).then_some(())
    });
    // It is found to be dead by three pings.
    assert!(clock.elapsed() < Duration::from_secs(20));
    let b = Node::start("b", &[&good]);
    b.expect_connected();
    a.publish(&PEERS, b"x");
    b.expect_heard(Channel::Peers, "a", b"x");
}

#[test]
fn what_a_server_has_is_confirmed_and_what_went_with_it_is_not() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let mut server = NatsServer::start();
    let a = Node::start("a", &[&server]);
    a.expect_connected();
    let confirm = |mark| {
        a.with(move |nats| {
            use aquatic_cluster::bus::Bus;

            nats.confirm(mark);
        });
    };
    a.publish(&PEERS, b"1");
    confirm(1);
    a.expect(&Seen::Confirmed(1));
    server.freeze();
    a.publish(&PEERS, b"2");
    confirm(2);
    a.expect_silence(Duration::from_secs(1));
    server.kill();
    a.expect(&Seen::Disconnected);
    server.go_on();
    a.expect_connected();
    a.expect_silence(Duration::from_secs(1));
    a.publish(&PEERS, b"3");
    confirm(3);
    a.expect(&Seen::Confirmed(3));
}

#[test]
fn more_than_fits_is_given_back_and_there_is_room_later() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start();
    let [a, b] = ["a", "b"].map(|name| Node::start(name, &[&server]));
    for node in [&a, &b] {
        node.expect_connected();
    }
    // Within one turn of the thread nothing is sent.
    let (taken, returned) = a.with(|nats| {
        let payload = |number: u32| number.to_be_bytes().to_vec();
        let mut numbers = 0..1_000;
        let refused = numbers.find_map(|number| nats.publish(&PEERS, payload(number), 0).err());
        (numbers.start - 1, refused.unwrap())
    });
    assert_eq!(taken, 16);
    assert_eq!(returned, 16_u32.to_be_bytes());
    a.publish(&PEERS, &returned);
    for number in 0..=taken {
        b.expect_heard(Channel::Peers, "a", &number.to_be_bytes());
    }
}

#[test]
fn its_owner_is_woken_when_there_is_room_again() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start();
    let b = Node::start("b", &[&server]);
    b.expect_connected();
    let settings = crate::node::settings("a", &config(&[&server]));
    let runtime = aquatic_cluster::nats::runtime().unwrap();
    let clock = Clock::start();
    runtime.block_on(async {
        let mut nats = aquatic_cluster::nats::Nats::connect(settings)
            .await
            .unwrap();
        while nats.next_event().is_none() {
            nats.ready(Duration::from_secs(20)).await;
        }
        for number in 0..500_u32 {
            let mut payload = number.to_be_bytes().to_vec();
            while let Err(returned) = nats.publish(&PEERS, payload, 0) {
                payload = returned;
                // Were it not woken, this would last for hours.
                nats.ready(Duration::from_secs(20)).await;
            }
        }
        nats.finish(Duration::from_secs(20)).await;
    });
    for number in 0..500_u32 {
        b.expect_heard(Channel::Peers, "a", &number.to_be_bytes());
    }
    assert!(clock.elapsed() < Duration::from_secs(15));
}

#[test]
fn what_was_published_before_the_end_is_sent() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start();
    let b = Node::start("b", &[&server]);
    b.expect_connected();
    for round in 0..10_u8 {
        let a = Node::start("a", &[&server]);
        a.expect_connected();
        a.publish(&PEERS, &[round; 50_000]);
        a.publish(&Destination::All(Channel::Nodes), b"leaving");
        drop(a);
        // Those of one channel may overtake those of another.
        let heard = [b.next(), b.next()];
        for message in [
            (Channel::Peers, "a".to_owned(), vec![round; 50_000]),
            (Channel::Nodes, "a".to_owned(), b"leaving".to_vec()),
        ] {
            assert!(heard.contains(&Seen::Heard(message)));
        }
    }
}

/// Publishes so many messages of 64 KiB that begin with their numbers.
fn publish_large(node: &Node, messages: u32) {
    let mut payload = vec![0; 65_536];
    for number in 0..messages {
        payload[..4].copy_from_slice(&number.to_be_bytes());
        node.publish(&PEERS, &payload);
    }
}

fn number_of(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

/// How long each of so many messages of 64 KiB takes from one to the other, in microseconds and in
/// order of that.
#[track_caller]
fn deliver_large(from: &Node, to: &Node, messages: u32) -> Vec<u64> {
    let mut payload = vec![0; 65_536];
    let mut took: Vec<u64> = (0..messages)
        .map(|number| {
            payload[..4].copy_from_slice(&number.to_be_bytes());
            let clock = Clock::start();
            from.publish(&PEERS, &payload);
            match to.next() {
                Seen::Heard((_, _, heard)) => assert_eq!(number_of(&heard), number),
                other => panic!("{other:?} instead of message {number}"),
            }
            u64::try_from(clock.elapsed().as_micros()).unwrap()
        })
        .collect();
    took.sort_unstable();
    took
}

/// For any message, a machine that stands still for a moment included.
const STANDSTILL_MAX: Duration = Duration::from_secs(10);

/// Nobody waits for somebody else who is slow: neither usually nor, but for one message in a
/// hundred, for longer than this.
#[track_caller]
fn assert_not_later(usually: &[u64], beside_slow: &[u64], limit: Duration) {
    let [before, then] = [usually, beside_slow].map(|took| {
        let at = |percent: usize| took[(took.len() - 1) * percent / 100];
        let shown = [50, 90, 99, 100].map(at);
        println!("delivered in µs, at 50, 90, 99 and 100 %: {shown:?}");
        shown
    });
    // Machines are busy.
    assert!(then[0] <= 2 * before[0] + 10_000, "{then:?}, {before:?}");
    assert!(u128::from(then[2]) <= limit.as_micros(), "{then:?}");
    assert!(
        u128::from(then[3]) <= STANDSTILL_MAX.as_micros(),
        "{then:?}"
    );
}

#[track_caller]
fn expect_large(node: &Node, messages: u32) {
    for number in 0..messages {
        match node.next() {
            Seen::Heard((_, _, payload)) => assert_eq!(number_of(&payload), number),
            other => panic!("{other:?} instead of message {number}"),
        }
    }
}

#[test]
fn who_takes_nothing_misses_messages_and_others_do_not() {
    const MESSAGES: u32 = 500;
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start();
    let [a, quick, slow] = ["a", "quick", "slow"].map(|name| Node::start(name, &[&server]));
    for node in [&a, &quick, &slow] {
        node.expect_connected();
    }
    let usually = deliver_large(&a, &quick, 100);
    expect_large(&slow, 100);
    let before = slow.with(|nats| nats.totals().bytes_received);
    slow.set_taking(false);
    let beside_slow = deliver_large(&a, &quick, MESSAGES);
    assert_not_later(&usually, &beside_slow, Duration::from_secs(1));
    // With what the protocol adds.
    let bytes = before + u64::from(MESSAGES) * (65_536 + 39);
    until("all have come", || {
        (slow.with(|nats| nats.totals().bytes_received) >= bytes).then_some(())
    });
    // And have been taken out of the subscription, in the turn between these two.
    slow.with(|_| ());
    slow.with(|_| ());
    slow.set_taking(true);
    let mut heard: Vec<u32> = Vec::new();
    let mut missed = 0;
    while heard.len() as u64 + missed < MESSAGES.into() {
        match slow.next() {
            Seen::Heard((_, _, payload)) => heard.push(number_of(&payload)),
            Seen::Missed(number) => missed += number,
            other => panic!("{other:?}"),
        }
    }
    // 16 MiB less what each takes besides.
    assert_eq!(heard, (0..255).collect::<Vec<_>>());
    assert_eq!(missed, 245);
    a.publish(&PEERS, b"after this");
    slow.expect_heard(Channel::Peers, "a", b"after this");
}

/// A thread that does something else for some time.
#[test]
fn who_comes_late_finds_everything() {
    const MESSAGES: u32 = 20_000;
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start();
    let [a, late] = ["a", "late"].map(|name| Node::start(name, &[&server]));
    for node in [&a, &late] {
        node.expect_connected();
    }
    let (release, wait) = mpsc::channel::<()>();
    let slept = late.begin(move |_| wait.recv().unwrap());
    publish_large(&a, 500);
    release.send(()).unwrap();
    slept.recv().unwrap();
    expect_large(&late, 500);
    // Small ones, all at once.
    let (release, wait) = mpsc::channel::<()>();
    let slept = late.begin(move |_| wait.recv().unwrap());
    for number in 0..MESSAGES {
        a.publish(&PEERS, &number.to_be_bytes());
    }
    release.send(()).unwrap();
    slept.recv().unwrap();
    expect_large(&late, MESSAGES);
}

#[test]
fn who_comes_too_late_is_cut_off_by_the_server_and_comes_back() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start_with("max_pending: 2MB, write_deadline: \"1s\"");
    let [a, quick, late] = ["a", "quick", "late"].map(|name| Node::start(name, &[&server]));
    for node in [&a, &quick, &late] {
        node.expect_connected();
    }
    let usually = deliver_large(&a, &quick, 100);
    expect_large(&late, 100);
    let (release, wait) = mpsc::channel::<()>();
    let slept = late.begin(move |_| wait.recv().unwrap());
    // One by one, or else the quick one could be too late, too.
    let beside_slow = deliver_large(&a, &quick, 500);
    // Before the server cuts somebody off it lets those wait who publish: for 0.3 s here, once, and
    // never for longer than it waits for the late one.
    assert_not_later(&usually, &beside_slow, Duration::from_secs(2));
    release.send(()).unwrap();
    slept.recv().unwrap();
    let mut heard = 0;
    loop {
        match late.next() {
            Seen::Heard((_, _, payload)) => {
                assert_eq!(number_of(&payload), heard);
                heard += 1;
            }
            Seen::Disconnected => {}
            Seen::Connected => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(heard < 500);
    a.publish(&PEERS, b"after this");
    late.expect_heard(Channel::Peers, "a", b"after this");
}

#[test]
fn when_a_server_is_killed_another_one_of_the_cluster_is_used() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let routes = [Place::new(), Place::new()];
    let [first, second] = routes.each_ref().map(Place::port);
    let cluster = |own: u16, other: u16| {
        format!(
            "server_name: at-{own}\ncluster {{ name: test, listen: \"127.0.0.1:{own}\", routes: \
             [\"nats://127.0.0.1:{other}\"] }}"
        )
    };
    let mut servers = [
        NatsServer::start_with(&cluster(first, second)),
        NatsServer::start_with(&cluster(second, first)),
    ];
    let fixed = [0, 1].map(|index: usize| Node::start("fixed", &[&servers[index]]));
    for node in &fixed {
        node.expect_connected();
    }
    let node = Node::start("a", &[&servers[0], &servers[1]]);
    node.expect_connected();
    let connections = |route: u16| {
        lines
            .with(&format!("NATS server at-{route}, version"))
            .len()
    };
    let used = usize::from(connections(first) < 2);
    assert_eq!(connections([first, second][used]), 2);
    servers[used].kill();
    node.expect(&Seen::Disconnected);
    node.expect_connected();
    assert_eq!(connections([first, second][1 - used]), 2);
    fixed[1 - used].publish(&PEERS, b"x");
    node.expect_heard(Channel::Peers, "fixed", b"x");
}
