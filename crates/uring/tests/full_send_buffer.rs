//! What finds no room in the send buffer comes back, in order, and can be sent later.
#![cfg(target_os = "linux")]

#[path = "../../udp_socket/tests/namespace/mod.rs"]
mod namespace;

use std::time::Duration;

use aquatic_udp_socket::{Outbox, ReturnPath, SendReport};
use aquatic_uring::{Ring, RingOptions, probe};

const PACKETS: usize = 200;

/// Sends all packets of the outbox; what found no room is in it afterwards.
fn send(ring: &mut Ring, outbox: &mut Outbox) -> SendReport {
    ring.send(0, outbox).unwrap();
    assert!(outbox.is_empty());
    assert!(ring.wait(Some(Duration::ZERO)).unwrap().is_empty());
    ring.take_unsent(0, outbox);
    ring.take_report(0)
}

#[test]
fn the_rest_comes_back() {
    if let Err(unsupported) = probe() {
        eprintln!("skipped: {unsupported}");
        return;
    }
    namespace::run_in("inner");
}

#[test]
#[ignore = "needs a network namespace; the_rest_comes_back makes one"]
fn inner() {
    let (socket, neighbour) = namespace::socket_and_silent_neighbour();
    // Fewer requests than packets: some block while others are still being submitted.
    let options = RingOptions {
        entries: 32,
        ..RingOptions::default()
    };
    let mut ring = Ring::new(&options, &[&socket], None).unwrap();
    let mut outbox = Outbox::new();
    for number in 0..PACKETS {
        outbox.push(ReturnPath::to(neighbour), &vec![0; 1000 - number]);
    }
    let report = send(&mut ring, &mut outbox);
    assert!(report.would_block);
    assert!(report.sent > 0 && report.sent < PACKETS, "{report:?}");
    assert_eq!((report.failed, outbox.len()), (0, PACKETS - report.sent));
    let sizes = outbox.iter().map(|(_, bytes)| bytes.len());
    assert!(sizes.eq((801..=1000 - report.sent).rev()));

    namespace::make_neighbour_known();
    let mut sent = report.sent;
    while !outbox.is_empty() {
        let report = send(&mut ring, &mut outbox);
        assert_eq!(report.failed, 0);
        assert_eq!(report.would_block, !outbox.is_empty());
        sent += report.sent;
    }
    assert_eq!(sent, PACKETS);

    // What is not taken back before the next turn is given up, and counted.
    let unknown = ReturnPath::to("192.0.2.3:9".parse().unwrap());
    for _ in 0..PACKETS {
        outbox.push(unknown, &[0; 1000]);
    }
    ring.send(0, &mut outbox).unwrap();
    assert!(ring.wait(Some(Duration::ZERO)).unwrap().is_empty());
    let report = ring.take_report(0);
    assert!(report.would_block);
    assert!(ring.wait(Some(Duration::ZERO)).unwrap().is_empty());
    assert_eq!(ring.take_report(0).failed, PACKETS - report.sent);
    ring.take_unsent(0, &mut outbox);
    assert!(outbox.is_empty());
}
