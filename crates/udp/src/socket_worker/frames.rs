//! The AF_XDP backend (`network.xdp = "full"`): frames of queues of interfaces, in and out, without
//! the network stack between.
//!
//! A worker that has queues goes on to serve its sockets as well, by the [`mio`](super::mio) loop:
//! there comes what the program in front of the stack passes on to that, such as fragments. To the
//! worker a queue is one socket more, behind those that it has: with an outbox of its own, and ways
//! back that lead there.
//!
//! An answer leaves by the queue that its request came by, to the machine that sent the frame: what
//! that takes is in the [`links`], and the way back says which. Where it is not there any more, or
//! an answer is too long for the interface, it is sent by the socket that the request would have
//! come to: the kernel finds its way.

mod links;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use aquatic_types::IpFamily;
use aquatic_udp_socket::{
    LocalAddr, Outbox, ReturnPath, SendReport, UNFRAGMENTED_BYTES_MAX, UdpSocket,
};
use aquatic_xdp::Interface;
use aquatic_xdp::af_xdp::{FRAME_BYTES_MAX, Queue, Sender};
use aquatic_xdp::frame::{self, Link};
use links::{Links, Way};

use super::SocketWorker;
use crate::Now;
use crate::xdp::activity;

/// Frames that one round takes of a queue at most.
const BATCH_FRAMES: usize = 64;

/// Bytes of a frame before its packet: addresses and a type; and a tag.
const LINK_BYTES: usize = 14;
const TAG_BYTES: usize = 4;

/// A queue of an interface.
#[derive(Debug)]
pub(crate) struct FrameQueue {
    queue: Queue,
    interface: Interface,
    number: u32,
    /// Bytes of the largest packet.
    mtu: usize,
    links: Links,
    /// Frames that the kernel had no place for, as far as that was counted.
    lost: u64,
    /// Its interface was, when that was looked at last: what is to be sent waits in the ring, and
    /// there is nothing to be gained by trying.
    is_down: bool,
}

impl FrameQueue {
    pub(crate) fn new(queue: Queue, interface: &Interface, number: u32, mtu: usize) -> Self {
        activity::set_queue(interface.name(), number, true);
        Self {
            queue,
            interface: interface.clone(),
            number,
            mtu,
            links: Links::default(),
            lost: 0,
            is_down: false,
        }
    }

    /// Hands requests to the worker, as those of `socket`. Returns how many frames there were.
    fn receive(&mut self, now: Now, socket: u8, worker: &mut SocketWorker) -> io::Result<usize> {
        let Self { queue, links, .. } = self;
        let (receiver, _) = queue.split();
        receiver.receive(BATCH_FRAMES, |bytes| {
            // The stack would not have passed on anything else either.
            let Ok(datagram) = frame::parse(bytes) else {
                worker.receive_damaged();
                return;
            };
            let Some(payload) = bytes.get(datagram.payload.clone()) else {
                return;
            };
            let way = Way {
                link: links.note(datagram.link.reversed()),
                port: datagram.to.port(),
            };
            let local = LocalAddr {
                ip: datagram.to.ip(),
                interface: way.into(),
            };
            let path = ReturnPath::to(datagram.from).from_local(Some(local));
            worker.receive(now, socket, path, payload);
        })
    }

    /// Sends what is in the outbox; what cannot be sent from here goes to `others`. Says what
    /// became of answers over IPv4, and over IPv6.
    fn send(&mut self, outbox: &mut Outbox, others: &mut Outbox) -> [SendReport; 2] {
        let Self {
            queue, links, mtu, ..
        } = self;
        let (_, sender) = queue.split();
        let mut reports = [SendReport::default(), SendReport::default()];
        let mut done = 0;
        for (path, payload) in outbox.iter() {
            let [v4, v6] = &mut reports;
            let report = if path.peer().is_ipv4() { v4 } else { v6 };
            match send_one(sender, links, *mtu, path, payload) {
                Sent::Yes => {
                    report.sent += 1;
                    report.sent_bytes += payload.len();
                }
                Sent::NotFromHere => others.push(*path, payload),
                Sent::NoRoom => {
                    report.would_block = true;
                    break;
                }
            }
            done += 1;
        }
        outbox.remove_front(done);
        reports
    }
}

/// What became of an answer.
enum Sent {
    Yes,
    NotFromHere,
    NoRoom,
}

fn send_one(
    sender: &mut Sender,
    links: &Links,
    mtu: usize,
    path: &ReturnPath,
    payload: &[u8],
) -> Sent {
    let Some((link, from)) = way_back(links, path) else {
        return Sent::NotFromHere;
    };
    let offset = frame::payload_offset(&link, from.is_ipv6());
    let end = offset + payload.len();
    let before = LINK_BYTES + if link.tag.is_some() { TAG_BYTES } else { 0 };
    // A path that takes less than the interface tells the kernel so, which would cut it up.
    let is_long = payload.len() > UNFRAGMENTED_BYTES_MAX;
    if is_long || end > before + mtu || end > FRAME_BYTES_MAX {
        return Sent::NotFromHere;
    }
    let Some(mut transmit) = sender.frame() else {
        return Sent::NoRoom;
    };
    let bytes = transmit.bytes();
    if let Some(place) = bytes.get_mut(offset..end) {
        place.copy_from_slice(payload);
    }
    let len = frame::write_headers(bytes, &link, from, path.peer(), payload.len());
    match len.is_some_and(|len| transmit.commit(len)) {
        true => Sent::Yes,
        false => Sent::NotFromHere,
    }
}

/// The link, and the address that the request was sent to.
fn way_back(links: &Links, path: &ReturnPath) -> Option<(Link, SocketAddr)> {
    let local = path.local()?;
    let way = Way::from(local.interface);
    Some((links.get(way.link)?, SocketAddr::new(local.ip, way.port)))
}

/// The queues of a worker.
#[derive(Debug, Default)]
pub struct Queues {
    list: Vec<Option<FrameQueue>>,
    /// The first of their outboxes: behind those of sockets.
    first: usize,
    /// What sockets send for them.
    others: Outbox,
}

impl Queues {
    pub(crate) fn new(list: Vec<FrameQueue>, first: usize) -> Self {
        Self {
            list: list.into_iter().map(Some).collect(),
            first,
            others: Outbox::new(),
        }
    }

    /// Whether there is none.
    pub(super) fn are_none(&self) -> bool {
        self.list.iter().all(Option::is_none)
    }

    /// What to wait at besides sockets.
    pub(super) fn wait_files(&self) -> impl Iterator<Item = RawFd> {
        let queues = self.list.iter().flatten();
        queues.map(|it| it.queue.as_fd().as_raw_fd())
    }

    /// Takes a batch of each. Returns how many frames there were, and whether there may be more.
    pub(super) fn receive(&mut self, now: Now, worker: &mut SocketWorker) -> (usize, bool) {
        let (mut frames, mut is_full) = (0, false);
        for (socket, place) in (self.first..).zip(&mut self.list) {
            let (Some(queue), Ok(socket)) = (place.as_mut(), u8::try_from(socket)) else {
                continue;
            };
            match queue.receive(now, socket, worker) {
                Ok(count) => {
                    frames += count;
                    is_full |= count >= BATCH_FRAMES;
                }
                Err(error) => give_up(place, &error),
            }
        }
        (frames, is_full)
    }

    /// Sends what is in their outboxes. Returns whether something is left to be sent again.
    pub(super) fn send(
        &mut self,
        worker: &mut SocketWorker,
        sockets: &[UdpSocket],
        resend_len_max: usize,
    ) -> bool {
        let mut unsent = false;
        for (index, place) in (self.first..).zip(&mut self.list) {
            let Some(outbox) = worker.outboxes().get_mut(index) else {
                continue;
            };
            let mut outbox = std::mem::take(outbox);
            let Some(queue) = place else {
                // It has ended since they asked.
                send_by_sockets(&outbox, None, worker, sockets);
                outbox.clear();
                put_back(outbox, index, worker);
                continue;
            };
            if outbox.is_empty() && queue.queue.split().1.waiting() == 0 {
                put_back(outbox, index, worker);
                continue;
            }
            let reports = queue.send(&mut outbox, &mut self.others);
            let flushed = queue.queue.split().1.flush();
            let waits = queue.queue.split().1.waiting() > 0 || !outbox.is_empty();
            unsent |= waits && !queue.is_down;
            put_back(outbox, index, worker);
            send_by_sockets(&self.others, Some(queue.interface.index()), worker, sockets);
            self.others.clear();
            for (family, report) in [IpFamily::V4, IpFamily::V6].into_iter().zip(&reports) {
                worker.account(family, index, report, resend_len_max);
            }
            if let Err(error) = flushed {
                give_up(place, &error);
            }
        }
        unsent
    }

    /// Counts frames that were lost since this was called last, and looks whether interfaces are
    /// still there. To be called once a second.
    pub(super) fn count_lost(&mut self, worker: &SocketWorker) {
        for place in &mut self.list {
            let Some(queue) = place else { continue };
            let state = queue.queue.check();
            let is_down = |error: &io::Error| error.kind() == io::ErrorKind::NetworkDown;
            queue.is_down = state.as_ref().is_err_and(is_down);
            if let Err(error) = state
                && !is_down(&error)
            {
                give_up(place, &error);
                continue;
            }
            let Ok(now) = queue.queue.statistics() else {
                continue;
            };
            let lost = now.dropped + now.received_full;
            let new = lost - std::mem::replace(&mut queue.lost, lost);
            // Nobody has looked at which family they are of.
            worker.account_unreceived(IpFamily::V4, usize::try_from(new).unwrap_or(usize::MAX));
        }
    }
}

/// It keeps its memory.
fn put_back(outbox: Outbox, index: usize, worker: &mut SocketWorker) {
    if let Some(place) = worker.outboxes().get_mut(index) {
        *place = outbox;
    }
}

/// Hands over what is sent by sockets, to be sent with what they send anyway. The requests have
/// come by this interface.
fn send_by_sockets(
    answers: &Outbox,
    interface: Option<u32>,
    worker: &mut SocketWorker,
    sockets: &[UdpSocket],
) {
    for (path, payload) in answers.iter() {
        let Some(local) = path.local() else { continue };
        let asked = SocketAddr::new(local.ip, Way::from(local.interface).port);
        let is_meant = |socket: &UdpSocket| serves(socket.local_addr(), asked);
        let Some(index) = sockets.iter().position(is_meant) else {
            continue;
        };
        let path = by_socket(path.peer(), local.ip, interface);
        if let Some(outbox) = worker.outboxes().get_mut(index) {
            outbox.push(path, payload);
        }
    }
}

/// Whether a socket that is bound there gets what is sent to `asked`.
fn serves(bound: SocketAddr, asked: SocketAddr) -> bool {
    let is_address = match bound.ip().is_unspecified() {
        true => bound.is_ipv4() == asked.is_ipv4(),
        false => bound.ip() == asked.ip(),
    };
    is_address && bound.port() == asked.port()
}

/// The way back from a socket. A link-local address is one of an interface.
fn by_socket(mut peer: SocketAddr, ip: IpAddr, interface: Option<u32>) -> ReturnPath {
    let mut local = LocalAddr { ip, interface: 0 };
    if let SocketAddr::V6(peer) = &mut peer
        && peer.ip().is_unicast_link_local()
        && let Some(interface) = interface
    {
        local.interface = interface;
        peer.set_scope_id(interface);
    }
    ReturnPath::to(peer).from_local(Some(local))
}

/// The interface is gone, or its driver cannot any more.
fn give_up(place: &mut Option<FrameQueue>, error: &io::Error) {
    if let Some(queue) = place.take() {
        let (interface, number) = (queue.interface.name(), queue.number);
        activity::set_queue(interface, number, false);
        log::warn!(
            "the AF_XDP queue {number} of {interface} is not served any more, but by the network \
             stack: {error}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_serves_where_it_is_bound() {
        for (bound, asked, expected) in [
            ("0.0.0.0:3", "192.0.2.1:3", true),
            ("0.0.0.0:3", "192.0.2.1:4", false),
            ("0.0.0.0:3", "[2001:db8::1]:3", false),
            ("[::]:3", "[2001:db8::1]:3", true),
            ("192.0.2.1:3", "192.0.2.1:3", true),
            ("192.0.2.1:3", "192.0.2.2:3", false),
        ] {
            let [bound, asked] = [bound, asked].map(|it| it.parse().unwrap());
            assert_eq!(serves(bound, asked), expected, "{bound} {asked}");
        }
    }

    #[test]
    fn only_a_link_local_address_is_of_an_interface() {
        let local: IpAddr = "2001:db8::1".parse().unwrap();
        let path = by_socket("[2001:db8::7]:1".parse().unwrap(), local, Some(5));
        assert_eq!(path.local().unwrap().interface, 0);
        let local: IpAddr = "fe80::1".parse().unwrap();
        let path = by_socket("[fe80::7]:1".parse().unwrap(), local, Some(5));
        assert_eq!(path.local().unwrap().interface, 5);
        assert_eq!(path.peer().to_string(), "[fe80::7%5]:1");
    }
}
