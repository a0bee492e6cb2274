//! The ring over real loopback sockets.
//!
//! Where the kernel or a sandbox forbids io_uring there is nothing to test: the tests say so and
//! pass.
#![cfg(target_os = "linux")]

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket as StdUdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use aquatic_udp_socket::{LocalAddr, Outbox, ReturnPath, SendReport, SocketOptions, UdpSocket};
use aquatic_uring::{Event, Ring, RingOptions, Waker, probe};

const PATIENCE: Duration = Duration::from_secs(10);

const OPTIONS: RingOptions = RingOptions {
    entries: 8,
    buffers: 8,
    datagram_bytes_max: 100,
};

fn works() -> bool {
    match probe() {
        Ok(()) => true,
        Err(unsupported) => {
            eprintln!("skipped: {unsupported}");
            false
        }
    }
}

fn bind(addr: &str) -> UdpSocket {
    UdpSocket::bind(addr.parse().unwrap(), &SocketOptions::default()).unwrap()
}

fn client(addr: &str) -> StdUdpSocket {
    let client = StdUdpSocket::bind(addr).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

struct Received {
    socket: usize,
    path: ReturnPath,
    bytes: Vec<u8>,
    truncated: bool,
}

/// Turns the ring until there are `wanted` datagrams.
fn receive(ring: &mut Ring, wanted: usize) -> Vec<Received> {
    let mut all = Vec::new();
    while all.len() < wanted {
        let mut events = ring.wait(Some(PATIENCE)).unwrap();
        assert!(!events.is_empty(), "{} of {wanted}", all.len());
        while let Some(event) = events.next_event() {
            if let Event::Datagram { socket, datagram } = event {
                all.push(Received {
                    socket,
                    path: datagram.path,
                    bytes: datagram.bytes.to_vec(),
                    truncated: datagram.truncated,
                });
            }
        }
    }
    all
}

/// Turns the ring without waiting; gives back what became of the sends of the first socket.
fn flush(ring: &mut Ring) -> SendReport {
    assert!(ring.wait(Some(Duration::ZERO)).unwrap().is_empty());
    ring.take_report(0)
}

#[test]
fn what_gathers_is_reported_by_the_next_wait() {
    if !works() {
        return;
    }
    let server = bind("127.0.0.1:0");
    let waker = Waker::new().unwrap();
    let mut ring = Ring::new(&OPTIONS, &[&server], Some(&waker)).unwrap();
    assert!(flush(&mut ring).last_error.is_none());
    let client = client("127.0.0.1:0");
    // Few, and more than there are buffers for.
    for count in [1, 3, 20] {
        for number in 0..count {
            client.send_to(&[number], server.local_addr()).unwrap();
        }
        waker.wake().unwrap();
        ring.gather(Duration::from_micros(500)).unwrap();
        let mut events = ring.wait(Some(Duration::ZERO)).unwrap();
        let (mut woken, mut bytes) = (false, Vec::new());
        while let Some(event) = events.next_event() {
            match event {
                Event::Datagram { datagram, .. } => bytes.extend_from_slice(datagram.bytes),
                Event::Woken => woken = true,
                Event::Ready => panic!("nothing is watched"),
            }
        }
        drop(events);
        assert!(woken, "of {count}");
        let at_once = usize::from(count.min(8));
        assert_eq!(bytes.len(), at_once, "of {count}");
        let rest = receive(&mut ring, usize::from(count) - at_once);
        bytes.extend(rest.into_iter().flat_map(|it| it.bytes));
        assert!(bytes.into_iter().eq(0..count));
    }
}

fn answers_come_back(server: &str, client_addr: &str) {
    if !works() {
        return;
    }
    let server = bind(server);
    let client = client(client_addr);
    let mut ring = Ring::new(&OPTIONS, &[&server], None).unwrap();
    // Several times round the buffers and the submission queue; one of them is empty.
    for round in 0..3u8 {
        for len in 0..40 {
            let packet = vec![round; len];
            client.send_to(&packet, server.local_addr()).unwrap();
        }
        let received = receive(&mut ring, 40);
        let mut outbox = Outbox::new();
        for (len, datagram) in received.iter().enumerate() {
            assert_eq!(datagram.path.peer(), client.local_addr().unwrap());
            assert_eq!(datagram.bytes, vec![round; len]);
            assert!(!datagram.truncated);
            outbox.push_with(datagram.path, |out| {
                out.extend(datagram.bytes.iter().map(|byte| byte + 100));
            });
        }
        ring.send(0, &mut outbox).unwrap();
        assert!(outbox.is_empty());
        // The caller may do what it likes with its outbox meanwhile.
        outbox.push(received[0].path, b"never sent");
        let report = flush(&mut ring);
        assert_eq!((report.sent, report.sent_bytes), (40, 40 * 39 / 2));
        assert_eq!((report.failed, report.would_block), (0, false));
        let mut buffer = [0; 100];
        for len in 0..40 {
            let (bytes, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!(from, server.local_addr());
            assert_eq!(buffer[..bytes], vec![round + 100; len]);
        }
    }
}

#[test]
fn answers_come_back_v4() {
    answers_come_back("127.0.0.1:0", "127.0.0.1:0");
}

#[test]
fn answers_come_back_v6() {
    answers_come_back("[::1]:0", "[::1]:0");
}

#[test]
fn sockets_are_told_apart() {
    if !works() {
        return;
    }
    let servers = [bind("127.0.0.1:0"), bind("[::1]:0"), bind("127.0.0.2:0")];
    let clients = [
        client("127.0.0.1:0"),
        client("[::1]:0"),
        client("127.0.0.1:0"),
    ];
    let mut ring = Ring::new(&OPTIONS, &servers.each_ref(), None).unwrap();
    for (server, client) in servers.iter().zip(&clients) {
        client.send_to(b"?", server.local_addr()).unwrap();
    }
    for Received { socket, path, .. } in receive(&mut ring, 3) {
        assert_eq!(path.peer(), clients[socket].local_addr().unwrap());
        let mut outbox = Outbox::new();
        outbox.push(path, b"!");
        ring.send(socket, &mut outbox).unwrap();
    }
    assert_eq!(flush(&mut ring).sent, 1);
    for socket in [1, 2] {
        assert_eq!(ring.take_report(socket).sent, 1);
    }
    for (server, client) in servers.iter().zip(&clients) {
        let (_, from) = client.recv_from(&mut [0; 9]).unwrap();
        assert_eq!(from, server.local_addr());
    }
    let mut outbox = Outbox::new();
    outbox.push(ReturnPath::to(servers[0].local_addr()), b"?");
    assert!(ring.send(3, &mut outbox).is_err());
    assert_eq!(outbox.len(), 1);
}

#[test]
fn the_answer_leaves_from_the_address_that_was_asked() {
    if !works() {
        return;
    }
    let server = bind("0.0.0.0:0");
    let client = client("127.0.0.1:0");
    let mut ring = Ring::new(&OPTIONS, &[&server], None).unwrap();
    for ip in ["127.0.0.2", "127.0.0.1", "127.9.9.9"] {
        let at = SocketAddr::new(ip.parse().unwrap(), server.local_addr().port());
        client.send_to(b"?", at).unwrap();
        let path = receive(&mut ring, 1)[0].path;
        let (ip, interface) = (at.ip(), 0);
        assert_eq!(path.local(), Some(LocalAddr { ip, interface }));
        let mut outbox = Outbox::new();
        outbox.push(path, b"!");
        ring.send(0, &mut outbox).unwrap();
        assert_eq!(flush(&mut ring).sent, 1);
        assert_eq!(client.recv_from(&mut [0; 9]).unwrap().1, at);
    }
}

#[test]
fn the_answer_leaves_from_the_address_that_was_asked_v6() {
    if !works() {
        return;
    }
    let server = bind("[::]:0");
    let client = client("[::1]:0");
    let mut ring = Ring::new(&OPTIONS, &[&server], None).unwrap();
    let at = SocketAddr::new("::1".parse().unwrap(), server.local_addr().port());
    client.send_to(b"?", at).unwrap();
    let path = receive(&mut ring, 1)[0].path;
    assert_eq!(path.local().unwrap().ip, at.ip());
    let mut outbox = Outbox::new();
    outbox.push(path, b"!");
    ring.send(0, &mut outbox).unwrap();
    assert_eq!(flush(&mut ring).sent, 1);
    assert_eq!(client.recv_from(&mut [0; 9]).unwrap().1, at);
}

#[test]
fn large_datagrams_are_cut_and_marked() {
    if !works() {
        return;
    }
    let server = bind("0.0.0.0:0");
    let client = client("127.0.0.1:0");
    let mut ring = Ring::new(&OPTIONS, &[&server], None).unwrap();
    let at = SocketAddr::new("127.0.0.1".parse().unwrap(), server.local_addr().port());
    for len in [100, 101, 5000, 99] {
        client.send_to(&vec![7; len], at).unwrap();
    }
    let received = receive(&mut ring, 4);
    let seen = received.iter().map(|it| (it.bytes.len(), it.truncated));
    let expected = [(100, false), (100, true), (100, true), (99, false)];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
}

#[test]
fn a_bad_packet_does_not_hold_up_the_others() {
    if !works() {
        return;
    }
    let server = bind("127.0.0.1:0");
    let client = client("127.0.0.1:0");
    let good = ReturnPath::to(client.local_addr().unwrap());
    // Broadcasting needs a permission that the socket does not have.
    let bad = ReturnPath::to("255.255.255.255:9".parse().unwrap());
    let mut ring = Ring::new(&OPTIONS, &[&server], None).unwrap();
    let mut outbox = Outbox::new();
    for _ in 0..30 {
        outbox.push(bad, b"1");
        outbox.push(good, b"2");
    }
    outbox.push(good, &vec![3; 70_000]);
    outbox.push(good, b"2");
    ring.send(0, &mut outbox).unwrap();
    let report = flush(&mut ring);
    assert_eq!(
        (report.sent, report.sent_bytes, report.failed),
        (31, 31, 31)
    );
    // Equal packets to one client are sent as one; when that fails, they are sent again one by one,
    // behind those that came after them. So either failure may be the last.
    let last = report.last_error.unwrap().raw_os_error().unwrap();
    assert!([libc::EACCES, libc::EMSGSIZE].contains(&last), "{last}");
    for _ in 0..31 {
        let mut buffer = [0; 9];
        assert_eq!(client.recv(&mut buffer).unwrap(), 1);
        assert_eq!(buffer[0], b'2');
    }
}

#[test]
fn icmp_errors_end_nothing() {
    if !works() {
        return;
    }
    // Connected, so that the kernel reports "port unreachable" here at all.
    let mut socket = bind("127.0.0.1:0");
    let peer = bind("127.0.0.1:0").local_addr();
    socket.connect(peer).unwrap();
    let mut ring = Ring::new(&OPTIONS, &[&socket], None).unwrap();
    let mut outbox = Outbox::new();
    for _ in 0..5 {
        for _ in 0..5 {
            outbox.push(ReturnPath::to(peer), b"anybody there?");
        }
        ring.send(0, &mut outbox).unwrap();
        let report = flush(&mut ring);
        assert_eq!(report.sent + report.failed, 5);
        assert!(!report.would_block);
    }
    let late = StdUdpSocket::bind(peer).unwrap();
    late.send_to(b"here I am", socket.local_addr()).unwrap();
    assert_eq!(receive(&mut ring, 1)[0].bytes, b"here I am");
}

#[test]
fn more_datagrams_than_buffers_lose_none() {
    if !works() {
        return;
    }
    let server = bind("127.0.0.1:0");
    let client = client("127.0.0.1:0");
    let mut ring = Ring::new(&OPTIONS, &[&server], None).unwrap();
    // Armed before the flood, so that the receive runs out of buffers.
    assert!(ring.wait(Some(Duration::ZERO)).unwrap().is_empty());
    for number in 0..100 {
        client.send_to(&[number], server.local_addr()).unwrap();
    }
    let received = receive(&mut ring, 100);
    let numbers = received.iter().map(|it| it.bytes[0]);
    assert!(numbers.eq(0..100));
}

#[test]
fn events_that_were_not_looked_at_come_again() {
    if !works() {
        return;
    }
    let server = bind("127.0.0.1:0");
    let client = client("127.0.0.1:0");
    let mut ring = Ring::new(&OPTIONS, &[&server], None).unwrap();
    for number in 0..20 {
        client.send_to(&[number], server.local_addr()).unwrap();
    }
    for expected in 0..20 {
        let mut events = ring.wait(Some(PATIENCE)).unwrap();
        match events.next_event().unwrap() {
            Event::Datagram { datagram, .. } => assert_eq!(datagram.bytes, [expected]),
            event => panic!("not a datagram: {event:?}"),
        }
        if expected % 3 == 0 {
            // Not even a forgotten guard may lose a buffer.
            std::mem::forget(events);
        }
    }
}

/// The next process finds them there.
#[test]
fn what_comes_after_the_end_of_receiving_stays_in_the_socket() {
    if !works() {
        return;
    }
    for (server, addr) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0")] {
        let (server, client) = (bind(server), client(addr));
        let kept = server.duplicate().unwrap();
        let mut ring = Ring::new(&OPTIONS, &[&server], None).unwrap();
        let send = |number: u8| client.send_to(&[number], server.local_addr()).unwrap();
        send(0);
        assert_eq!(receive(&mut ring, 1).len(), 1);
        send(1);
        ring.stop_receiving().unwrap();
        send(2);
        let mut numbers = Vec::new();
        let mut events = ring.wait(Some(Duration::from_millis(50))).unwrap();
        while let Some(event) = events.next_event() {
            if let Event::Datagram { datagram, .. } = event {
                numbers.push(datagram.bytes[0]);
            }
        }
        drop(events);
        // Whether the second one was received before is the kernel's affair.
        assert!(!numbers.contains(&2), "{numbers:?}");
        let mut answer = Outbox::new();
        answer.push(ReturnPath::to(client.local_addr().unwrap()), &[9]);
        ring.send(0, &mut answer).unwrap();
        assert_eq!(flush(&mut ring).sent_bytes, 1);
        drop(ring);
        let mut receiver = aquatic_udp_socket::Receiver::new(8, 100);
        receiver.receive(&kept).unwrap();
        numbers.extend(receiver.datagrams().map(|datagram| datagram.bytes[0]));
        assert_eq!(numbers, [1, 2]);
    }
}

#[test]
fn what_happens_at_a_watched_file_ends_the_wait() {
    if !works() {
        return;
    }
    let server = bind("127.0.0.1:0");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut ring = Ring::new(&OPTIONS, &[&server], None).unwrap();
    let _first = TcpStream::connect(address).unwrap();
    ring.watch(listener.as_raw_fd());
    // Without a time limit: a lost event hangs the test. What was there before counts, too.
    for _ in 0..100 {
        let mut events = ring.wait(None).unwrap();
        assert!(matches!(events.next_event(), Some(Event::Ready)));
        drop(events);
        listener.accept().unwrap();
        std::thread::spawn(move || TcpStream::connect(address).unwrap());
    }
}

#[test]
fn a_waker_ends_the_wait() {
    if !works() {
        return;
    }
    let waker = Waker::new().unwrap();
    let server = bind("127.0.0.1:0");
    let mut ring = Ring::new(&OPTIONS, &[&server], Some(&waker)).unwrap();
    // Without a time limit: a lost wake-up hangs the test. Before the first wait, too.
    waker.wake().unwrap();
    for _ in 0..100 {
        let mut events = ring.wait(None).unwrap();
        assert!(matches!(events.next_event(), Some(Event::Woken)));
        let waker = waker.clone();
        std::thread::spawn(move || waker.wake().unwrap());
    }
}

#[test]
fn waiting_ends_when_the_time_is_over() {
    if !works() {
        return;
    }
    let server = bind("127.0.0.1:0");
    let mut ring = Ring::new(&OPTIONS, &[&server], None).unwrap();
    for micros in [0, 1, 1000] {
        let events = ring.wait(Some(Duration::from_micros(micros))).unwrap();
        assert!(events.is_empty());
    }
}

#[test]
fn a_ring_outlives_its_sockets_and_can_be_dropped_under_fire() {
    if !works() {
        return;
    }
    let client = client("127.0.0.1:0");
    for _ in 0..50 {
        let server = bind("127.0.0.1:0");
        let addr = server.local_addr();
        let mut ring = Ring::new(&OPTIONS, &[&server], None).unwrap();
        assert!(ring.wait(Some(Duration::ZERO)).unwrap().is_empty());
        drop(server);
        for _ in 0..20 {
            client.send_to(b"fire", addr).unwrap();
        }
        assert_eq!(receive(&mut ring, 1)[0].bytes, b"fire");
        let mut outbox = Outbox::new();
        outbox.push(ReturnPath::to(addr), b"never submitted");
        ring.send(0, &mut outbox).unwrap();
        drop(ring);
    }
}
