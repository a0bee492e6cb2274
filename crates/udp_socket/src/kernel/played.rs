//! A kernel whose network is a queue: what was sent is what will be received.
//!
//! The signatures are those of libc.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::{ptr, slice};

use libc::{c_int, c_uint, c_void, iovec, mmsghdr, msghdr, pollfd, socklen_t, ssize_t, timespec};

#[derive(Clone)]
struct Message {
    name: Vec<u8>,
    control: Vec<u8>,
    payload: Vec<u8>,
}

thread_local! {
    static QUEUE: RefCell<VecDeque<Message>> = const { RefCell::new(VecDeque::new()) };
    /// The value of the last option, and what it points to.
    static OPTION: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn fail(errno: c_int) -> c_int {
    // SAFETY: the place is this thread's.
    unsafe { *libc::__errno_location() = errno };
    -1
}

/// # Safety
/// There must be `len` bytes at `start`, unless there are none.
unsafe fn read(start: *const c_void, len: usize) -> Vec<u8> {
    match len {
        0 => Vec::new(),
        // SAFETY: the caller's promise.
        _ => unsafe { slice::from_raw_parts(start.cast::<u8>(), len) }.to_vec(),
    }
}

/// Writes as much as there is room for, and gives back how much that is.
///
/// # Safety
/// There must be room for `len` bytes at `start`, unless there is none.
unsafe fn write(start: *mut c_void, len: usize, bytes: &[u8]) -> usize {
    let written = bytes.len().min(len);
    if written > 0 {
        // SAFETY: the caller's promise.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), start.cast::<u8>(), written) };
    }
    written
}

/// # Safety
/// As for `sendmsg(2)`.
unsafe fn take(header: &msghdr) -> usize {
    // SAFETY: the caller's promise.
    let (name, control, parts) = unsafe {
        let parts = slice::from_raw_parts(header.msg_iov, header.msg_iovlen);
        let parts = parts.iter().map(|part| read(part.iov_base, part.iov_len));
        (
            read(header.msg_name, header.msg_namelen as usize),
            read(header.msg_control, header.msg_controllen),
            parts.collect::<Vec<_>>(),
        )
    };
    let payload = parts.concat();
    let segment_bytes = segment_bytes(&control).unwrap_or(payload.len()).max(1);
    let bytes = payload.len();
    QUEUE.with_borrow_mut(|queue| {
        let packets = payload.chunks(segment_bytes).map(|packet| Message {
            name: name.clone(),
            control: control.clone(),
            payload: packet.to_vec(),
        });
        queue.extend(packets);
    });
    bytes
}

/// The size that a message is to be cut into (`UDP_SEGMENT`), which is always the last to be told.
fn segment_bytes(control: &[u8]) -> Option<usize> {
    let start = control.len().checked_sub(24)?;
    let (header, data) = control[start..].split_at(16);
    let kind = c_int::from_ne_bytes(*header.last_chunk()?);
    (kind == libc::UDP_SEGMENT).then_some(())?;
    Some(usize::from(u16::from_ne_bytes(*data.first_chunk()?)))
}

pub(crate) unsafe fn sendmsg(_: c_int, header: *const msghdr, _: c_int) -> ssize_t {
    // SAFETY: the caller's promise.
    unsafe { take(&*header) }.cast_signed()
}

pub(crate) unsafe fn sendmmsg(_: c_int, headers: *mut mmsghdr, count: c_uint, _: c_int) -> c_int {
    for place in 0..count as usize {
        // SAFETY: the caller's promise.
        unsafe {
            let header = headers.add(place);
            (*header).msg_len = take(&(*header).msg_hdr) as c_uint;
        }
    }
    count.cast_signed()
}

pub(crate) unsafe fn recvmmsg(
    _: c_int,
    headers: *mut mmsghdr,
    count: c_uint,
    _: c_int,
    timeout: *mut timespec,
) -> c_int {
    assert!(timeout.is_null());
    let messages = QUEUE.with_borrow_mut(|queue| {
        let count = queue.len().min(count as usize);
        queue.drain(..count).collect::<Vec<_>>()
    });
    if messages.is_empty() {
        return fail(libc::EAGAIN);
    }
    for (place, message) in messages.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let header = &mut *headers.add(place);
            let to = &mut header.msg_hdr;
            assert_eq!(to.msg_iovlen, 1);
            let part: iovec = *to.msg_iov;
            // All of the room is the kernel's, whether it needs it or not.
            for (start, len) in [
                (part.iov_base, part.iov_len),
                (to.msg_name, to.msg_namelen as usize),
                (to.msg_control, to.msg_controllen),
            ] {
                ptr::write_bytes(start.cast::<u8>(), 0xee, len);
            }
            header.msg_len = write(part.iov_base, part.iov_len, &message.payload) as c_uint;
            write(to.msg_name, to.msg_namelen as usize, &message.name);
            to.msg_namelen = message.name.len() as socklen_t;
            to.msg_controllen = write(to.msg_control, to.msg_controllen, &message.control);
            to.msg_flags = match message.payload.len() > part.iov_len {
                true => libc::MSG_TRUNC,
                false => 0,
            };
        }
    }
    messages.len() as c_int
}

pub(crate) unsafe fn setsockopt(
    _: c_int,
    _: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    // SAFETY: the caller's promise.
    let option = unsafe {
        if name == libc::SO_ATTACH_REUSEPORT_CBPF {
            assert_eq!(len as usize, size_of::<libc::sock_fprog>());
            let program = &*value.cast::<libc::sock_fprog>();
            let bytes = usize::from(program.len) * size_of::<libc::sock_filter>();
            read(program.filter.cast(), bytes)
        } else {
            read(value, len as usize)
        }
    };
    OPTION.set(option);
    0
}

pub(crate) unsafe fn getsockopt(
    _: c_int,
    _: c_int,
    _: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let room = *len as usize;
        let bytes = (0..room).map(|place| place as u8).collect::<Vec<_>>();
        *len = write(value, room, &bytes) as socklen_t;
    }
    0
}

pub(crate) unsafe fn poll(files: *mut pollfd, count: libc::nfds_t, timeout: c_int) -> c_int {
    assert!(timeout >= 0);
    // SAFETY: the caller's promise.
    let files = unsafe { slice::from_raw_parts_mut(files, count as usize) };
    let is_ready = QUEUE.with_borrow(|queue| !queue.is_empty());
    for file in &mut *files {
        file.revents = if is_ready { file.events } else { 0 };
    }
    if is_ready { files.len() as c_int } else { 0 }
}

mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::segmentation::SegmentSender;
    use aquatic_types::ShardKey;

    use crate::steering;
    use crate::{LocalAddr, Outbox, Receiver, ReturnPath, Sender, UdpSocket};

    fn paths() -> [ReturnPath; 3] {
        let v4: SocketAddr = "192.0.2.1:6881".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:6881".parse().unwrap();
        let local = LocalAddr {
            ip: [192, 0, 2, 9].into(),
            interface: 0,
        };
        [
            ReturnPath::to(v4),
            ReturnPath::to(v6),
            ReturnPath::to(v4).from_local(Some(local)),
        ]
    }

    fn packets() -> Vec<(ReturnPath, Vec<u8>)> {
        // Some of one size to one client, which travel together.
        let sizes = [1, 16, 16, 20, 100, 16, 16, 3];
        let packets = (0..)
            .zip(sizes)
            .flat_map(|(number, size)| paths().map(|path| (path, vec![number; size])));
        packets.collect()
    }

    fn outbox() -> Outbox {
        let mut outbox = Outbox::new();
        for (path, bytes) in packets() {
            outbox.push(path, &bytes);
        }
        outbox
    }

    fn received() -> Vec<(ReturnPath, Vec<u8>)> {
        let socket = UdpSocket::unplugged();
        let mut receiver = Receiver::new(5, 100);
        let mut all = Vec::new();
        while receiver.receive(&socket).unwrap() > 0 {
            // Between two calls everything may move, even to another thread.
            receiver = *std::thread::spawn(move || Box::new(receiver))
                .join()
                .unwrap();
            let datagrams = receiver.datagrams();
            all.extend(datagrams.map(|it| (it.path, it.bytes.to_vec())));
        }
        all
    }

    fn sorted(mut packets: Vec<(ReturnPath, Vec<u8>)>) -> Vec<(ReturnPath, Vec<u8>)> {
        packets.sort_by_key(|(path, bytes)| (path.peer(), bytes.clone()));
        packets
    }

    fn assert_same(one: Vec<(ReturnPath, Vec<u8>)>, other: Vec<(ReturnPath, Vec<u8>)>) {
        let bare = |(path, bytes): (ReturnPath, Vec<u8>)| (path.peer(), bytes);
        let [one, other] =
            [one, other].map(|it| sorted(it).into_iter().map(bare).collect::<Vec<_>>());
        assert_eq!(one, other);
    }

    #[test]
    fn what_is_sent_in_batches_is_received_in_batches() {
        let socket = UdpSocket::unplugged();
        for mut sender in [
            Sender::new(4),
            Sender::new(64),
            Sender::new(4).without_merging(),
        ] {
            let mut outbox = outbox();
            let report = sender.send(&socket, &mut outbox);
            assert_eq!(report.sent, packets().len());
            assert_same(received(), packets());
            // The lists are used again.
            sender = *std::thread::spawn(move || Box::new(sender)).join().unwrap();
            outbox.push(paths()[0], b"again");
            assert_eq!(sender.send(&socket, &mut outbox).sent, 1);
            assert_same(received(), vec![(paths()[0], b"again".to_vec())]);
        }
    }

    #[test]
    fn a_datagram_that_is_too_large_is_cut_off() {
        let socket = UdpSocket::unplugged();
        let mut outbox = Outbox::new();
        outbox.push(paths()[1], &[7; 200]);
        Sender::new(1).send(&socket, &mut outbox);
        let mut receiver = Receiver::new(1, 100);
        assert_eq!(receiver.receive(&socket).unwrap(), 1);
        let datagram = receiver.datagrams().next().unwrap();
        assert!(datagram.truncated);
        assert_eq!(datagram.bytes, [7; 100]);
        assert_eq!(receiver.receive(&socket).unwrap(), 0);
    }

    #[test]
    fn runs_to_a_connected_peer_are_sent_as_one() {
        let socket = UdpSocket::unplugged();
        let mut outbox = outbox();
        let count = outbox.len();
        assert_eq!(SegmentSender::new().send(&socket, &mut outbox).sent, count);
        let sent = QUEUE.take().into_iter().map(|message| message.payload);
        let wanted = packets().into_iter().map(|(_, bytes)| bytes);
        assert_eq!(sent.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
    }

    #[test]
    fn options_are_values_and_programs() {
        let socket = UdpSocket::unplugged();
        crate::options::set_int(&socket, 1, 2, 0x0102_0304).unwrap();
        assert_eq!(OPTION.take(), 0x0102_0304_i32.to_ne_bytes());
        steering::attach(&socket, &ShardKey::new([9; 52]), 4).unwrap();
        let program = OPTION.take();
        // Its last instruction returns A.
        assert_eq!(program[program.len() - 8..][..2], [0x16, 0]);
        let value = crate::options::get_int(&socket, 1, 2).unwrap();
        assert_eq!(value.to_ne_bytes(), [0, 1, 2, 3]);
        let drops = size_of::<u32>() as u8 * libc::SK_MEMINFO_DROPS as u8;
        let last = std::array::from_fn(|place| drops + place as u8);
        assert_eq!(socket.unreceived().unwrap().to_ne_bytes(), last);
    }

    #[test]
    fn waiting_tells_whether_there_is_something() {
        let socket = UdpSocket::unplugged();
        assert!(!socket.wait_readable(Some(Duration::ZERO)).unwrap());
        Sender::new(1).send(&socket, &mut outbox());
        assert!(socket.wait_readable(Some(Duration::ZERO)).unwrap());
    }
}
