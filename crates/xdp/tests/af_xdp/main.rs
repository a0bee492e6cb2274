//! Queues of a virtual interface, with the kernel's own sockets as clients.
//!
//! Needs the rights of root. Without them nothing is tested, which is a failure under `CI=true`.

#![cfg(target_os = "linux")]

mod lab;
mod program;
mod server;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use aquatic_xdp::Interface;
use aquatic_xdp::af_xdp::{Mode, Queue, QueueMap, QueueOptions, Statistics};
use aquatic_xdp::frame::{Link, parse, payload_offset, write_headers};

use crate::lab::{CAP_NET_RAW, CLIENT, Lab, Side, TRACKER, keep_capabilities, wait_until};
use crate::server::{
    BY_DRIVER, BY_KERNEL, PLACES, PORT, Server, answer_to, ask, ask_with_complete_checksum,
    options, request, serve, serve_queues, take_answer,
};

/// Many times what there are places for.
const REQUESTS: u32 = 10_000;

fn clients(lab: &Lab) -> [UdpSocket; 2] {
    [0, 1].map(|family| lab.client((CLIENT[family], TRACKER[family]), PORT))
}

/// Nothing was dropped, and the kernel understood all that it was told.
fn assert_clean(server: &Server) {
    let Statistics {
        transmit_empty,
        fill_empty,
        ..
    } = server.queue.statistics().unwrap();
    let expected = Statistics {
        transmit_empty,
        fill_empty,
        ..Statistics::default()
    };
    assert_eq!(server.queue.statistics().unwrap(), expected);
    assert_eq!(fill_empty, 0);
    assert_eq!(server.refused, [0; 9]);
    assert_eq!(server.unsent, 0);
}

#[test]
fn all_requests_are_answered() {
    for flags in [BY_KERNEL, BY_DRIVER] {
        let Some(lab) = Lab::new(1) else {
            return;
        };
        let (mut server, _attached) = serve(&lab, Side::Tracker, flags);
        assert!(!server.queue.is_zero_copy(), "no virtual interface can");
        for client in clients(&lab) {
            server.during(|| {
                ask(&client, REQUESTS);
                ask_with_complete_checksum(&client, 5);
                ask_with_complete_checksum(&client, 6);
            });
        }
        assert_clean(&server);
        assert_eq!(server.tags, [None]);
        assert_eq!(server.received, 2 * 10_002);
    }
}

/// The client, too, is at a queue, so that it can have frames as it likes.
#[test]
fn requests_with_a_tag_get_answers_with_the_tag() {
    let Some(lab) = Lab::new(1) else {
        return;
    };
    let (mut server, _attached) = serve(&lab, Side::Tracker, BY_KERNEL);
    let (mut client, _also_attached) = serve(&lab, Side::Client, BY_KERNEL);
    let link = Link {
        from: lab.mac(Side::Client),
        to: lab.mac(Side::Tracker),
        tag: Some(0xa007),
    };
    for family in [0, 1] {
        let [from, to] =
            [CLIENT, TRACKER].map(|ips| SocketAddr::new(ips[family].parse().unwrap(), PORT));
        let (receiver, sender) = client.queue.split();
        let mut frame = sender.frame().unwrap();
        let start = payload_offset(&link, from.is_ipv6());
        let content = request(77);
        frame.bytes()[start..start + content.len()].copy_from_slice(&content);
        let len = write_headers(frame.bytes(), &link, from, to, content.len()).unwrap();
        assert!(frame.commit(len));
        sender.flush().unwrap();
        wait_until(|| server.turn() > 0);
        let mut answers = Vec::new();
        let mut take = |frame: &mut [u8]| answers.push(frame.to_vec());
        wait_until(|| receiver.receive(1, &mut take).unwrap() > 0);
        let datagram = parse(&answers[0]).unwrap();
        assert_eq!((datagram.from, datagram.to), (to, from));
        assert_eq!(datagram.link, link.reversed());
        assert!(answers[0][datagram.payload] == answer_to(77));
    }
    assert_eq!(server.tags, [Some(0xa007)]);
    assert_clean(&server);
}

/// How many frames found no place.
fn lost(server: &Server) -> u64 {
    let told = server.queue.statistics().unwrap();
    told.fill_empty + told.received_full
}

#[test]
fn a_burst_loses_datagrams_but_no_place() {
    const BURST: u64 = 2_000;
    for flags in [BY_KERNEL, BY_DRIVER] {
        let Some(lab) = Lab::new(1) else {
            return;
        };
        let (mut server, _attached) = serve(&lab, Side::Tracker, flags);
        // So many can wait.
        let places = u64::try_from(PLACES / 2).unwrap();
        for round in 1..=3 {
            let [client, _] = clients(&lab);
            // All that there is room for is taken, each time.
            let before = (round - 1) * (BURST - places);
            for sent in 1..=BURST {
                client.send(&request(9)).unwrap();
                // The interface has room for few that it has not looked at.
                if sent % 100 == 0 {
                    let expected = before + sent.saturating_sub(places);
                    wait_until(|| lost(&server) >= expected);
                }
            }
            let expected = before + BURST - places;
            assert_eq!(lost(&server), expected);
            while server.turn() > 0 {}
            for client in clients(&lab) {
                server.during(|| ask(&client, 1_000));
            }
            assert_eq!(lost(&server), expected);
        }
        let told = server.queue.statistics().unwrap();
        assert_eq!((told.dropped, told.received_full), (0, lost(&server)));
        assert_eq!((told.fill_invalid, told.transmit_invalid), (0, 0));
        assert_eq!(server.unsent, 0);
    }
}

#[test]
fn frames_that_are_too_long_are_counted_and_not_received() {
    let Some(lab) = Lab::new(1) else {
        return;
    };
    lab.ip(Side::Tracker, "link set in mtu 3000");
    lab.ip(Side::Client, "link set out mtu 3000");
    let (mut server, _attached) = serve(&lab, Side::Tracker, BY_KERNEL);
    for client in clients(&lab) {
        let before = server.queue.statistics().unwrap().dropped;
        client.send(&[0; 1_900]).unwrap();
        wait_until(|| server.queue.statistics().unwrap().dropped > before);
        assert_eq!(server.turn(), 0);
        assert_eq!(lost(&server), 0);
        server.during(|| ask(&client, 300));
    }
}

#[test]
fn all_frames_can_be_sent_at_once() {
    for flags in [BY_KERNEL, BY_DRIVER] {
        let Some(lab) = Lab::new(1) else {
            return;
        };
        let (mut server, _attached) = serve(&lab, Side::Tracker, flags);
        for (family, client) in clients(&lab).iter().enumerate() {
            let link = Link {
                from: lab.mac(Side::Tracker),
                to: lab.mac(Side::Client),
                tag: None,
            };
            let from = SocketAddr::new(TRACKER[family].parse().unwrap(), PORT);
            let to = client.local_addr().unwrap();
            let start = payload_offset(&link, to.is_ipv6());
            for round in 0..3 {
                let (_, sender) = server.queue.split();
                let mut count = 0_u8;
                while let Some(mut frame) = sender.frame() {
                    frame.bytes()[start..start + 2].copy_from_slice(&[round, count]);
                    let len = write_headers(frame.bytes(), &link, from, to, 2).unwrap();
                    assert!(frame.commit(len));
                    count += 1;
                }
                assert_eq!(usize::from(count), PLACES);
                // More than the kernel takes by one call.
                sender.flush().unwrap();
                assert_eq!(sender.waiting(), 0);
                for number in 0..count {
                    let mut content = [0; 64];
                    assert_eq!(client.recv(&mut content).unwrap(), 2);
                    assert_eq!(content[..2], [round, number]);
                }
            }
        }
        assert_clean(&server);
    }
}

#[test]
fn each_queue_has_frames_of_its_own() {
    let Some(lab) = Lab::new(2) else {
        return;
    };
    let (mut servers, _attached) = serve_queues(&lab, Side::Tracker, 2, BY_DRIVER);
    let [first, second] = &mut servers[..] else {
        panic!("two queues");
    };
    // Ports decide which queue a client's datagrams come by.
    first.during(|| {
        second.during(|| {
            for _ in 0..40 {
                clients(&lab).iter().for_each(|client| ask(client, 20));
            }
        });
    });
    assert!(first.received > 0 && second.received > 0);
    assert_eq!(first.received + second.received, 40 * 2 * 20);
    servers.iter().for_each(assert_clean);
}

#[test]
fn what_waits_for_an_interface_that_is_down_is_sent_when_it_is_up() {
    let Some(lab) = Lab::new(1) else {
        return;
    };
    let (mut server, _attached) = serve(&lab, Side::Tracker, BY_KERNEL);
    let [client, _] = clients(&lab);
    server.queue.check().unwrap();
    client.send(&request(1)).unwrap();
    server.wait_for_frame();
    lab.ip(Side::Tracker, "link set in down");
    let error = server.queue.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkDown);
    assert_eq!(server.turn(), 1);
    assert_eq!(server.queue.split().1.waiting(), 1);
    lab.ip(Side::Tracker, "link set in up");
    // Only IPv4 keeps its address.
    wait_until(|| lab.reaches(TRACKER[0].parse().unwrap()));
    server.queue.check().unwrap();
    server.turn();
    assert_eq!(server.queue.split().1.waiting(), 0);
    take_answer(&client, 1);
    server.during(|| ask(&client, 300));
    // Gone for ever.
    lab.ip(Side::Tracker, "link delete in");
    let error = server.queue.check().unwrap_err();
    assert_ne!(error.kind(), ErrorKind::NetworkDown);
    let (_, sender) = server.queue.split();
    assert!(sender.frame().unwrap().commit(60));
    assert!(sender.flush().is_err());
}

#[test]
fn what_cannot_be_opened_says_why() {
    let Some(lab) = Lab::new(1) else {
        return;
    };
    lab.enter(Side::Tracker, || {
        let index = Interface::named("in").unwrap().index();
        let _first = Queue::open(index, 0, &options()).unwrap();
        for (interface, queue, mode) in [
            (index, 0, Mode::Copy),
            (index, 1, Mode::ZeroCopyIfPossible),
            (index + 1_000, 0, Mode::Copy),
        ] {
            let options = QueueOptions { mode, ..options() };
            let error = Queue::open(interface, queue, &options).unwrap_err();
            let expected = format!("cannot take queue {queue} of interface {interface}: ");
            assert!(error.to_string().starts_with(&expected), "{error}");
            // What there is not is told from what cannot be had.
            let is_missing = error.kind() == ErrorKind::InvalidInput;
            assert_eq!(is_missing, queue == 1, "{error:?}");
        }
    });
    lab.enter(Side::Tracker, || {
        let index = Interface::named("in").unwrap().index();
        let options = QueueOptions {
            mode: Mode::ZeroCopy,
            ..options()
        };
        let error = Queue::open(index, 0, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    });
}

#[test]
fn what_is_not_for_the_queue_reaches_the_kernel() {
    for flags in [BY_KERNEL, BY_DRIVER] {
        let Some(lab) = Lab::new(1) else {
            return;
        };
        let at_port = TRACKER.map(|ip| lab.tracker(ip, PORT));
        let at_other_port = TRACKER.map(|ip| lab.tracker(ip, PORT + 1));
        let (mut server, attached) = serve(&lab, Side::Tracker, flags);
        // They ask anew who has the address.
        lab.ip(Side::Client, "neighbour flush dev out");
        for ip in TRACKER {
            wait_until(|| lab.reaches(ip.parse().unwrap()));
        }
        let mut buffer = [0; 128];
        for family in [0, 1] {
            let client = lab.client((CLIENT[family], TRACKER[family]), PORT + 1);
            client.send(b"to the kernel").unwrap();
            assert_eq!(at_other_port[family].recv(&mut buffer).unwrap(), 13);
        }
        for client in clients(&lab) {
            server.during(|| ask(&client, 100));
        }
        // With the server, all that belongs to it is gone.
        assert!(
            lab.ip(Side::Tracker, "link show dev in")
                .contains("prog/xdp")
        );
        drop(attached);
        drop(server);
        assert!(
            !lab.ip(Side::Tracker, "link show dev in")
                .contains("prog/xdp")
        );
        for (client, socket) in clients(&lab).iter().zip(&at_port) {
            client.send(b"only this one").unwrap();
            assert_eq!(socket.recv(&mut buffer).unwrap(), 13);
            assert_eq!(buffer[..13], *b"only this one");
        }
    }
}

#[test]
fn an_open_queue_needs_no_rights() {
    let Some(lab) = Lab::new(1) else {
        return;
    };
    let [client, _] = clients(&lab);
    lab.enter(Side::Tracker, || {
        let (mut server, _attached) = serve(&lab, Side::Tracker, BY_KERNEL);
        let index = Interface::named("in").unwrap().index();
        let map = QueueMap::new(1).unwrap();
        keep_capabilities(1 << CAP_NET_RAW);
        let error = Queue::open(index, 0, &options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
        keep_capabilities(0);
        let error = Queue::open(index, 0, &options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        let error = QueueMap::new(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        map.insert(0, &server.queue).unwrap();
        server.queue.check().unwrap();
        server.during(|| ask(&client, 1_000));
        assert_clean(&server);
    });
}

#[test]
fn a_queue_is_opened_by_who_may_send_raw_packets() {
    let Some(lab) = Lab::new(1) else {
        return;
    };
    lab.enter(Side::Tracker, || {
        keep_capabilities(1 << CAP_NET_RAW);
        let index = Interface::named("in").unwrap().index();
        Queue::open(index, 0, &options()).unwrap();
    });
}
