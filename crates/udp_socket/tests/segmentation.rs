//! Runs of equally large packets arrive as the packets they are.
#![cfg(target_os = "linux")]

use std::time::Duration;

use aquatic_udp_socket::segmentation::SegmentSender;
use aquatic_udp_socket::{Outbox, Receiver, ReturnPath, SocketOptions, UdpSocket};

fn pair() -> (UdpSocket, UdpSocket) {
    let options = SocketOptions {
        recv_buffer_bytes: 4 << 20,
        ..SocketOptions::default()
    };
    let server = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
    let mut client = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
    client.connect(server.local_addr()).unwrap();
    (server, client)
}

fn outbox(sizes: impl Iterator<Item = usize>) -> Outbox {
    let mut outbox = Outbox::new();
    for (number, size) in sizes.enumerate() {
        let path = ReturnPath::to("192.0.2.1:1".parse().unwrap());
        outbox.push(path, &vec![u8::try_from(number % 256).unwrap(); size]);
    }
    outbox
}

fn receive(server: &UdpSocket, wanted: usize) -> Vec<Vec<u8>> {
    let mut receiver = Receiver::new(64, 2048);
    let mut all = Vec::new();
    while all.len() < wanted {
        assert!(server.wait_readable(Some(Duration::from_secs(10))).unwrap());
        receiver.receive(server).unwrap();
        all.extend(receiver.datagrams().map(|datagram| datagram.bytes.to_vec()));
    }
    all
}

fn arrive_whole(sizes: &[usize]) {
    let (server, client) = pair();
    let mut outbox = outbox(sizes.iter().copied());
    let expected = outbox
        .iter()
        .map(|(_, bytes)| bytes.to_vec())
        .collect::<Vec<_>>();
    let report = SegmentSender::new().send(&client, &mut outbox);
    assert_eq!(
        (report.sent, report.failed, report.would_block),
        (sizes.len(), 0, false)
    );
    assert_eq!(report.sent_bytes, sizes.iter().sum::<usize>());
    assert!(outbox.is_empty());
    assert_eq!(receive(&server, sizes.len()), expected);
}

#[test]
fn equal_sizes() {
    arrive_whole(&[98; 300]);
}

#[test]
fn mixed_sizes() {
    let sizes = (0..300).map(|number| [98, 98, 98, 16, 36, 36, 0, 0, 98, 1400][number % 10]);
    arrive_whole(&sizes.collect::<Vec<_>>());
}

#[test]
fn sizes_that_fill_a_message_before_its_count_is_reached() {
    arrive_whole(&[1472; 100]);
}

#[test]
fn too_large_to_be_cut_falls_back() {
    // Larger than a segment can be on this interface (65,536 bytes less headers, twice): the kernel
    // refuses to cut, the packets go one by one, and what no packet may be is given up.
    let (server, client) = pair();
    let mut outbox = outbox([66_000, 10, 10].into_iter());
    let report = SegmentSender::new().send(&client, &mut outbox);
    assert_eq!((report.sent, report.failed), (2, 1));
    assert_eq!(receive(&server, 2), [vec![1; 10], vec![2; 10]]);
}
