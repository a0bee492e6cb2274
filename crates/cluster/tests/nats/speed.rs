//! How fast a log is read.

use std::time::Duration;

use aquatic_cluster::bus::{Channel, Destination};
use aquatic_daemon::clock::Clock;
use aquatic_test_support::nats::{self, NatsServer};
use aquatic_test_support::wait::until;

use crate::lines::Lines;
use crate::node::{AGE, Node, Seen};

const MESSAGES: usize = 1_500;
const BYTES: usize = 64 * 1_024;

#[test]
fn a_log_of_100_megabytes_is_read_quickly_and_nothing_is_missed_meanwhile() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let server = NatsServer::start();
    let [a, b, c] = ["a", "b", "c"].map(|name| Node::start(name, &[&server]));
    for node in [&a, &b, &c] {
        node.expect_connected();
        node.read_all(AGE);
    }
    let peers = Destination::All(Channel::Peers);
    let heard_by = |node: &Node| match node.next() {
        Seen::Heard((_, _, payload)) => assert_eq!(payload.len(), BYTES),
        other => panic!("{other:?}"),
    };
    for number in 0..MESSAGES {
        a.publish(&peers, &vec![u8::try_from(number % 256).unwrap(); BYTES]);
        heard_by(&b);
        heard_by(&c);
    }
    until("all are logged", || {
        (c.read_all(AGE).len() == MESSAGES).then_some(())
    });
    let clock = Clock::start();
    b.read_log(AGE);
    let mut logged = 0;
    loop {
        match b.next() {
            Seen::Logged((_, _, payload)) => {
                assert_eq!(payload.len(), BYTES);
                logged += 1;
            }
            Seen::LogRead(_) => break,
            other => panic!("{other:?}"),
        }
    }
    let elapsed = clock.elapsed();
    println!("{MESSAGES} messages of {BYTES} bytes in {elapsed:?}");
    assert_eq!(logged, MESSAGES);
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    // What is published while somebody reads is heard, by him, too.
    b.read_log(AGE);
    for number in 0..500_u32 {
        a.publish(&Destination::All(Channel::Nodes), &number.to_be_bytes());
    }
    let (mut heard, mut is_read) = (0_u32, false);
    while heard < 500 || !is_read {
        match b.next() {
            Seen::Heard((_, _, payload)) => {
                assert_eq!(payload, heard.to_be_bytes());
                heard += 1;
            }
            Seen::Logged(_) => {}
            Seen::LogRead(_) => is_read = true,
            other => panic!("{other:?}"),
        }
    }
}
