//! A tracker that answers by queues, and clients that ask it.
//!
//! A request says how long the answer is to be, and has a number; the answer is made of that.

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aquatic_xdp::Interface;
use aquatic_xdp::af_xdp::{Mode, Queue, QueueMap, QueueOptions, Sender, attach_instructions};
use aquatic_xdp::frame::{Datagram, Refused, parse, payload_offset, write_headers};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{MsgFlags, send};

use crate::lab::{Lab, Side, wait_until};
use crate::program::redirect_port;

pub(crate) const PORT: u16 = 3_000;

/// Frames of each half of a queue.
pub(crate) const PLACES: usize = 128;

/// Until a server looks whether it is to stop.
const POLL_MILLIS: u8 = 10;

/// Requests under way in a closed loop.
const WINDOW: u32 = 64;

/// The longest answer.
const ANSWER_MAX: u32 = 1_400;

/// Who runs the program.
pub(crate) const BY_KERNEL: u32 = 2;
pub(crate) const BY_DRIVER: u32 = 4;

pub(crate) struct Server {
    pub(crate) queue: Queue,
    pub(crate) refused: [u64; Refused::ALL.len()],
    pub(crate) tags: Vec<Option<u16>>,
    pub(crate) unsent: u64,
    pub(crate) received: usize,
}

/// What has frames come to servers.
pub(crate) struct Attached {
    _map: QueueMap,
    _link: OwnedFd,
}

/// One server for each of so many queues.
pub(crate) fn serve_queues(
    lab: &Lab,
    side: Side,
    queues: u32,
    flags: u32,
) -> (Vec<Server>, Attached) {
    lab.enter(side, || {
        let index = Interface::named(side.interface()).unwrap().index();
        let map = QueueMap::new(queues).unwrap();
        let servers = (0..queues).map(|number| {
            let queue = Queue::open(index, number, &options()).unwrap();
            map.insert(number, &queue).unwrap();
            Server {
                queue,
                refused: [0; Refused::ALL.len()],
                tags: Vec::new(),
                unsent: 0,
                received: 0,
            }
        });
        let servers = servers.collect();
        let program = redirect_port(PORT, &map);
        let attached = Attached {
            _link: attach_instructions(&program, index, flags).unwrap(),
            _map: map,
        };
        (servers, attached)
    })
}

pub(crate) fn serve(lab: &Lab, side: Side, flags: u32) -> (Server, Attached) {
    let (mut servers, attached) = serve_queues(lab, side, 1, flags);
    (servers.remove(0), attached)
}

pub(crate) fn options() -> QueueOptions {
    QueueOptions {
        frames: u32::try_from(2 * PLACES).unwrap(),
        mode: Mode::ZeroCopyIfPossible,
    }
}

impl Server {
    /// Answers what has come.
    pub(crate) fn turn(&mut self) -> usize {
        let (receiver, sender) = self.queue.split();
        let (refused, tags, unsent) = (&mut self.refused, &mut self.tags, &mut self.unsent);
        let count = receiver.receive(64, |frame| match parse(frame) {
            Ok(datagram) => {
                if !tags.contains(&datagram.link.tag) {
                    tags.push(datagram.link.tag);
                }
                let request = &frame[datagram.payload.clone()];
                *unsent += u64::from(!answer(request, &datagram, sender));
            }
            Err(reason) => refused[reason.index()] += 1,
        });
        sender.flush().unwrap();
        let count = count.unwrap();
        self.received += count;
        count
    }

    /// Answers what comes while something is done.
    pub(crate) fn during<T>(&mut self, action: impl FnOnce() -> T) -> T {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    self.wait();
                    while self.turn() > 0 {}
                }
            });
            let stopper = Stopper(&stop);
            let result = action();
            drop(stopper);
            result
        })
    }

    pub(crate) fn wait_for_frame(&self) {
        wait_until(|| self.wait());
    }

    /// Whether something has come.
    fn wait(&self) -> bool {
        let mut files = [PollFd::new(self.queue.as_fd(), PollFlags::POLLIN)];
        poll(&mut files, POLL_MILLIS).unwrap() == 1
    }
}

/// Stops a server even if the test fails.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn answer(request: &[u8], datagram: &Datagram, sender: &mut Sender) -> bool {
    let number = u32::from_be_bytes(*request.first_chunk().unwrap());
    let content = answer_to(number);
    let Some(mut frame) = sender.frame() else {
        return false;
    };
    let link = datagram.link.reversed();
    let start = payload_offset(&link, datagram.to.is_ipv6());
    let bytes = frame.bytes();
    bytes[start..start + content.len()].copy_from_slice(&content);
    let len = write_headers(bytes, &link, datagram.to, datagram.from, content.len()).unwrap();
    frame.commit(len)
}

/// From 1 to 1,400 bytes.
pub(crate) fn answer_to(number: u32) -> Vec<u8> {
    let len = 1 + number.wrapping_mul(331) % ANSWER_MAX;
    (0..len)
        .map(|at| (number ^ at ^ at >> 8).to_le_bytes()[0])
        .collect()
}

pub(crate) fn request(number: u32) -> Vec<u8> {
    // Of odd and even lengths.
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(20 + usize::try_from(number % 80).unwrap(), 0xa5);
    bytes
}

/// Asks so often, never more than 64 requests ahead, and wants all answers in order.
pub(crate) fn ask(client: &UdpSocket, count: u32) {
    let mut sent = 0;
    for number in 0..count {
        while sent < count && sent < number + WINDOW {
            client.send(&request(sent)).unwrap();
            sent += 1;
        }
        take_answer(client, number);
    }
}

/// Asks once, with a checksum that the kernel has completed itself: it leaves that to the card
/// only if it knows the whole datagram at once.
pub(crate) fn ask_with_complete_checksum(client: &UdpSocket, number: u32) {
    let request = request(number);
    let (first, rest) = request.split_at(8);
    send(
        client.as_raw_fd(),
        first,
        MsgFlags::from_bits_retain(libc::MSG_MORE),
    )
    .unwrap();
    client.send(rest).unwrap();
    take_answer(client, number);
}

pub(crate) fn take_answer(client: &UdpSocket, number: u32) {
    let mut buffer = [0; 2_048];
    let len = client.recv(&mut buffer).unwrap();
    assert!(buffer[..len] == answer_to(number), "{number}: {len} bytes");
}
