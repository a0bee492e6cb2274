//! What finds no room in the send buffer stays in the outbox, in order, and is sent later.
#![cfg(target_os = "linux")]

mod namespace;

use aquatic_udp_socket::segmentation::SegmentSender;
use aquatic_udp_socket::{
    Outbox, ReturnPath, SendReport, SocketOptions, UdpSocket, mmsg, portable,
};

const PACKETS: usize = 200;

/// Of different sizes from packet to packet, so that order shows and segments do not form.
fn outbox(path: ReturnPath) -> Outbox {
    let mut outbox = Outbox::new();
    for number in 0..PACKETS {
        outbox.push(path, &vec![0; 1000 - number]);
    }
    outbox
}

fn keeps_the_rest(mut send: impl FnMut(&UdpSocket, &mut Outbox) -> SendReport, connect: bool) {
    let (mut socket, neighbour) = namespace::socket_and_silent_neighbour();
    if connect {
        socket.connect(neighbour).unwrap();
    }
    let mut outbox = outbox(ReturnPath::to(neighbour));
    let report = send(&socket, &mut outbox);
    assert!(report.would_block);
    assert!(report.sent > 0 && report.sent < PACKETS, "{report:?}");
    assert_eq!((report.failed, outbox.len()), (0, PACKETS - report.sent));
    let (_, next) = outbox.get(0).unwrap();
    assert_eq!(next.len(), 1000 - report.sent);

    // Nothing changes by trying again,
    let again = send(&socket, &mut outbox);
    assert_eq!((again.sent, again.failed, again.would_block), (0, 0, true));
    assert_eq!(outbox.len(), PACKETS - report.sent);

    // and everything leaves as soon as it can.
    namespace::make_neighbour_known();
    let mut sent = report.sent;
    while !outbox.is_empty() {
        let report = send(&socket, &mut outbox);
        assert_eq!(report.failed, 0);
        assert_eq!(report.would_block, !outbox.is_empty());
        sent += report.sent;
    }
    assert_eq!(sent, PACKETS);
}

#[test]
fn mmsg_keeps_the_rest() {
    namespace::run_in("inner_mmsg");
}

#[test]
#[ignore = "needs a network namespace; mmsg_keeps_the_rest makes one"]
fn inner_mmsg() {
    let mut sender = mmsg::Sender::new(32);
    keeps_the_rest(|socket, outbox| sender.send(socket, outbox), false);
}

#[test]
fn portable_keeps_the_rest() {
    namespace::run_in("inner_portable");
}

#[test]
#[ignore = "needs a network namespace; portable_keeps_the_rest makes one"]
fn inner_portable() {
    let mut sender = portable::Sender::new(32);
    keeps_the_rest(|socket, outbox| sender.send(socket, outbox), false);
}

#[test]
fn segmentation_keeps_the_rest() {
    namespace::run_in("inner_segmentation");
}

#[test]
#[ignore = "needs a network namespace; segmentation_keeps_the_rest makes one"]
fn inner_segmentation() {
    let mut sender = SegmentSender::new();
    keeps_the_rest(|socket, outbox| sender.send(socket, outbox), true);
}

/// Who forges addresses of the tracker's own network, where nobody has them, makes it send answers
/// that nobody takes. There must be room for others beside them.
#[test]
fn a_large_buffer_has_room_beside_what_is_stuck() {
    namespace::run_in("inner_large");
}

#[test]
#[ignore = "needs a network namespace; a_large_buffer_has_room_beside_what_is_stuck makes one"]
fn inner_large() {
    let socket = namespace::socket_with_silent_neighbours(8_000_000);
    if socket.send_buffer_bytes().unwrap() < 8_000_000 {
        eprintln!("skipped: the system does not grant a large buffer");
        return;
    }
    let reader = UdpSocket::bind("192.0.2.1:0".parse().unwrap(), &SocketOptions::default());
    let reader = reader.unwrap();
    let mut outbox = Outbox::new();
    for number in 0..5_000 {
        let neighbour = [192, 0, 2, u8::try_from(2 + number % 200).unwrap()];
        outbox.push(ReturnPath::to((neighbour, 9).into()), &[0; 16]);
    }
    outbox.push(ReturnPath::to(reader.local_addr()), b"to one who is there");
    let report = mmsg::Sender::new(64).send(&socket, &mut outbox);
    assert!(!report.would_block, "{report:?}");
    let mut receiver = mmsg::Receiver::new(1, 100);
    assert_eq!(receiver.receive(&reader).unwrap(), 1);
}
