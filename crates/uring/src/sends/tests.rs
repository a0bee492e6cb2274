//! The kernel's side of sending, played: it follows each pointer of each request as late as it may,
//! which is just before it reports. Under Miri (`scripts/check-unsafe.sh`) that is checked.

use std::net::SocketAddr;
use std::ptr::with_exposed_provenance;
use std::slice;

use aquatic_udp_socket::{LocalAddr, ReturnPath};

use super::*;

/// The size of `struct io_uring_sqe`.
const REQUEST_BYTES: usize = 64;

/// The address that a client has, and the packets that it gets.
type Sent = (Option<SocketAddr>, Vec<Vec<u8>>);

/// # Safety
/// The request must not have reported.
unsafe fn follow(request: &Entry) -> Sent {
    assert_eq!(size_of::<Entry>(), REQUEST_BYTES);
    // SAFETY: a request is plain data; see `struct io_uring_sqe`: operation at 0, `addr2` at 8,
    // `addr` at 16, `len` at 24, `addr_len` at 44.
    let bytes = unsafe { *std::ptr::from_ref(request).cast::<[u8; REQUEST_BYTES]>() };
    let long = |at: usize| {
        let number = u64::from_ne_bytes(*bytes[at..].first_chunk().unwrap());
        usize::try_from(number).unwrap()
    };
    let len = u32::from_ne_bytes(*bytes[24..].first_chunk().unwrap());
    let name_len = u16::from_ne_bytes(*bytes[44..].first_chunk().unwrap());
    if bytes[0] == Send::CODE {
        // SAFETY: the caller's promise.
        let (payload, name) = unsafe {
            let payload = read(long(16), usize::try_from(len).unwrap());
            (payload, read(long(8), usize::from(name_len)))
        };
        return (address(&name), vec![payload]);
    }
    assert_eq!(bytes[0], SendMsg::CODE);
    // SAFETY: the caller's promise.
    unsafe {
        let header = *with_exposed_provenance::<libc::msghdr>(long(16));
        let parts = slice::from_raw_parts(header.msg_iov, header.msg_iovlen as _);
        let parts = parts.iter().map(|part| {
            let start = part.iov_base.cast::<u8>().cast_const();
            slice::from_raw_parts(start, part.iov_len).to_vec()
        });
        let parts = parts.collect::<Vec<_>>();
        let name = read_at(header.msg_name, header.msg_namelen as usize);
        let control = read_at(header.msg_control, header.msg_controllen as _);
        (address(&name), cut(&parts.concat(), &control))
    }
}

/// As the kernel does it with `UDP_SEGMENT`, which is the last control message.
fn cut(bytes: &[u8], control: &[u8]) -> Vec<Vec<u8>> {
    let segment = control
        .len()
        .checked_sub(24)
        .map(|at| control[at..].split_at(16));
    let segment = segment.filter(|(header, _)| header[12..] == libc::UDP_SEGMENT.to_ne_bytes());
    let segment_bytes = segment.map_or(bytes.len(), |(_, data)| {
        usize::from(u16::from_ne_bytes(*data.first_chunk().unwrap()))
    });
    bytes.chunks(segment_bytes).map(<[u8]>::to_vec).collect()
}

unsafe fn read(addr: usize, len: usize) -> Vec<u8> {
    // SAFETY: the caller's promise.
    unsafe {
        read_at(
            with_exposed_provenance::<libc::c_void>(addr).cast_mut(),
            len,
        )
    }
}

unsafe fn read_at(start: *mut libc::c_void, len: usize) -> Vec<u8> {
    match len {
        0 => Vec::new(),
        // SAFETY: the caller's promise.
        _ => unsafe { slice::from_raw_parts(start.cast::<u8>(), len) }.to_vec(),
    }
}

fn address(name: &[u8]) -> Option<SocketAddr> {
    Some(wire::return_path(name, &[])?.peer())
}

fn packets() -> Vec<(ReturnPath, Vec<u8>)> {
    let v4: SocketAddr = "192.0.2.1:6881".parse().unwrap();
    let v6: SocketAddr = "[2001:db8::1]:6881".parse().unwrap();
    let local = LocalAddr {
        ip: [192, 0, 2, 9].into(),
        interface: 0,
    };
    let paths = [
        ReturnPath::to(v4),
        ReturnPath::to(v6),
        ReturnPath::to(v4).from_local(Some(local)),
    ];
    let sizes = [1, 16, 16, 100];
    let packets = (0..)
        .zip(sizes)
        .flat_map(|(number, size)| paths.map(|path| (path, vec![number; size])));
    packets.collect()
}

fn outbox() -> Outbox {
    let mut outbox = Outbox::new();
    for (path, bytes) in packets() {
        outbox.push(path, &bytes);
    }
    outbox
}

fn sorted<T: Ord>(mut packets: Vec<T>) -> Vec<T> {
    packets.sort();
    packets
}

/// All requests for an outbox, with the packets that they carry.
fn requests(sends: &mut Sends, outbox: &mut Outbox) -> Vec<(PacketId, Entry)> {
    let (packets, mut id) = sends.take_over(0, outbox);
    let mut requests = Vec::new();
    while id.place < packets {
        assert!(sends.has_room());
        let (request, together) = sends.request(id).unwrap();
        requests.push((id, request));
        id.place += together;
    }
    requests
}

#[test]
fn everything_stays_in_place_until_the_last_request_has_reported() {
    for (connected, plain) in [(false, true), (false, false), (true, true)] {
        let mut sends = Sends::new(32, [connected].into_iter(), plain);
        // The second round uses everything again.
        for _ in 0..2 {
            let mut box_of_caller = outbox();
            let mut all = requests(&mut sends, &mut box_of_caller);
            // While these wait, the caller goes on, and the list of outboxes grows.
            all.extend(requests(&mut sends, &mut outbox()));
            box_of_caller.push(packets()[0].0, b"not sent yet");
            sends = *Box::new(sends);
            let mut sent = Vec::new();
            for (id, request) in all {
                // SAFETY: it has not reported.
                sent.push(unsafe { follow(&request) });
                sends.completed(id, 0);
                sends.reuse();
                // What the caller gets to fill must not be what others still read.
                if sends.outstanding() > 0 {
                    let mut next = Outbox::new();
                    sends.take_over(0, &mut next);
                    (0..3).for_each(|_| next.push(packets()[0].0, &[0xff; 100]));
                }
            }
            assert_eq!(sends.outstanding(), 0);
            let sent = sent
                .into_iter()
                .flat_map(|(to, packets)| packets.into_iter().map(move |packet| (to, packet)));
            let wanted = [packets(), packets()].concat();
            let wanted = wanted
                .into_iter()
                .map(|(path, bytes)| ((!connected).then(|| path.peer()), bytes));
            assert_eq!(sorted(sent.collect()), sorted(wanted.collect()));
            assert_eq!(sends.take_report(0).sent, 2 * packets().len());
        }
    }
}

#[test]
fn what_found_no_room_comes_back_whole() {
    let mut sends = Sends::new(32, [false].into_iter(), true);
    for (id, request) in requests(&mut sends, &mut outbox()) {
        // SAFETY: it has not reported.
        unsafe { follow(&request) };
        sends.completed(id, -libc::EAGAIN);
    }
    sends.reuse();
    sends.offer_unsent();
    let mut unsent = Outbox::new();
    sends.take_unsent(0, &mut unsent);
    let unsent = unsent
        .iter()
        .map(|(path, bytes)| (path.peer(), bytes.to_vec()));
    let wanted = packets()
        .into_iter()
        .map(|(path, bytes)| (path.peer(), bytes));
    assert_eq!(sorted(unsent.collect()), sorted(wanted.collect()));
}
