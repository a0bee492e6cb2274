//! Frames of a queue of an interface, without the kernel's stack between: AF_XDP.
//!
//! ```text
//!                  tracker                      kernel
//!  Receiver   receive  <---- ring: received -----  program: bpf_redirect_map
//!                      ----- ring: fill --------->  (a QueueMap says which Queue)
//!  Sender     flush    ----- ring: transmit ----->  interface
//!                      <---- ring: sent ---------
//! ```
//!
//! Frames stay where they are, in memory that the kernel and this process share; what is handed
//! over are their places. One half of the memory is for receiving, the other half for sending. A
//! place that was handed over belongs to the other side until it comes back.
//!
//! A program at the interface ([`QueueMap`]) decides which frames come here; all others go to the
//! kernel's stack, as always. What is in a frame is the matter of [`frame`](crate::frame).
//!
//! If the driver can, the network card itself writes to these places and reads from them
//! ([`Queue::is_zero_copy`]). Otherwise the kernel copies each frame.
//!
//! Where this process and the kernel share memory, that is in `ring` and `memory`; the system calls
//! are in `calls`. Frames that are longer than a place are not received: the kernel drops them, and
//! [counts](Statistics::dropped) that.

mod calls;
mod interface;
mod memory;
#[cfg(test)]
mod played;
mod queue_map;
mod receiver;
mod ring;
mod sender;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

pub use self::interface::attach_instructions;
use self::memory::{FRAME_BYTES, Half, Mapping};
pub use self::queue_map::QueueMap;
pub use self::receiver::Receiver;
use self::ring::{Address, Consumer, Descriptor, Producer, Ring};
pub use self::sender::{Sender, TransmitFrame};
use crate::map::Shared;

/// How many bytes a frame has that is sent at most. What the interface takes (its MTU, and the
/// header of Ethernet) may be less.
pub const FRAME_BYTES_MAX: usize = FRAME_BYTES;

/// The least number of frames of a queue.
const FRAMES_MIN: u32 = 16;

/// The largest: half a gigabyte.
const FRAMES_MAX: u32 = 1 << 18;

/// How often, and how long after one another, a queue is asked for that somebody has. The kernel
/// takes it from a socket that was closed some milliseconds later: a tracker that was killed, say,
/// and starts anew.
const TRIES_MAX: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// Who moves frames between the network card and the memory of a queue.
///
/// Without copies it takes a program that the driver runs. Where the kernel runs it, [`Mode::Copy`]
/// is what there should be. Some drivers take the interface down for a second when this changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The network card, or the kernel if the driver cannot let it.
    #[default]
    ZeroCopyIfPossible,
    /// The network card, or there is no queue.
    ZeroCopy,
    /// The kernel.
    Copy,
}

/// How a queue is opened.
#[derive(Clone, Copy, Debug)]
pub struct QueueOptions {
    /// How many frames there is memory for, of 2,048 bytes each: a power of two from 16 to 262,144.
    /// Half of them are for receiving: half of these should be more than what the network card has
    /// room for (`ethtool -g`), which holds so many all the time. As many can wait to be received.
    ///
    /// The memory cannot be swapped out. Without `CAP_IPC_LOCK` that of all queues together has to
    /// stay below `RLIMIT_MEMLOCK`.
    pub frames: u32,
    /// Who moves frames.
    pub mode: Mode,
}

impl Default for QueueOptions {
    /// Memory of 8 MiB, and zero-copy if possible.
    fn default() -> Self {
        Self {
            frames: 4_096,
            mode: Mode::default(),
        }
    }
}

/// What the kernel has counted since the queue was opened (`struct xdp_statistics`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames that were dropped as they are too long; without zero-copy also those that there was
    /// no place for.
    pub dropped: u64,
    /// Frames that were dropped as too many wait to be [received](Receiver::receive).
    pub received_full: u64,
    /// How often there was no place to receive a frame into. Without zero-copy each is a frame that
    /// was dropped; else frames wait in the network card, and it is that which drops some.
    pub fill_empty: u64,
    /// Places to receive into that the kernel did not understand: 0, or there is a fault here.
    pub fill_invalid: u64,
    /// Frames to be sent that the kernel did not understand: 0, or there is a fault here.
    pub transmit_invalid: u64,
    /// How often there was nothing more to send.
    pub transmit_empty: u64,
}

/// A queue of an interface, as an AF_XDP socket with memory of its own.
///
/// Nothing comes before it is in a [`QueueMap`] that a program at the interface uses. It ends with
/// this: nothing stays in the kernel.
///
/// As a file (`epoll(7)`) it is readable when there is something to
/// [receive](Receiver::receive).
#[derive(Debug)]
pub struct Queue {
    receiver: Receiver,
    sender: Sender,
    socket: Arc<OwnedFd>,
    is_zero_copy: bool,
}

impl Queue {
    /// Opens a queue, counted from 0. Each can be opened once at a time.
    ///
    /// This takes `CAP_NET_RAW`, and whatever is done with the queue later takes no rights.
    ///
    /// # Errors
    /// If there is no such queue, somebody has it (which takes half a second, as that may just have
    /// ended), or the process may not. The error says what could not be done.
    pub fn open(interface_index: u32, queue: u32, options: &QueueOptions) -> io::Result<Self> {
        let frames = options.frames;
        if !frames.is_power_of_two() || !(FRAMES_MIN..=FRAMES_MAX).contains(&frames) {
            let text =
                format!("{frames} frames: no power of two from {FRAMES_MIN} to {FRAMES_MAX}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let socket = calls::socket().map_err(|error| failed("open an AF_XDP socket", &error))?;
        let memory = register_memory(&socket, frames)?;
        let (to_receive, to_send) = Half::both(memory);
        let socket = Arc::new(socket);
        let rings = Rings::new(&socket, frames / 2)?;
        // So many each call sends of those that the kernel copies, not 32: fewer calls. Older
        // kernels do not know this, and none takes less than 32.
        let _ = calls::set_budget(&socket, frames / 2);
        let mut opened = Self {
            // The places to receive into are in the ring before the driver looks for them.
            receiver: Receiver::new(rings.received, rings.fill, to_receive, Arc::clone(&socket)),
            sender: Sender::new(rings.transmit, rings.sent, to_send, Arc::clone(&socket)),
            socket,
            is_zero_copy: false,
        };
        opened.bind(interface_index, queue, options.mode)?;
        Ok(opened)
    }

    fn bind(&mut self, interface_index: u32, queue: u32, mode: Mode) -> io::Result<()> {
        let flags = match mode {
            // The kernel tries one, then the other.
            Mode::ZeroCopyIfPossible => 0,
            Mode::ZeroCopy => libc::XDP_ZEROCOPY,
            Mode::Copy => libc::XDP_COPY,
        };
        let flags = flags | libc::XDP_USE_NEED_WAKEUP;
        let mut bound = calls::bind(&self.socket, interface_index, queue, flags);
        for _ in 1..TRIES_MAX {
            if !matches!(&bound, Err(error) if error.raw_os_error() == Some(libc::EBUSY)) {
                break;
            }
            thread::sleep(PAUSE);
            bound = calls::bind(&self.socket, interface_index, queue, flags);
        }
        bound.map_err(|error| {
            let what = format!("take queue {queue} of interface {interface_index}");
            failed(&what, &error)
        })?;
        let told: libc::xdp_options = calls::get(&self.socket, libc::XDP_OPTIONS)
            .map_err(|error| failed("ask for zero-copy", &error))?;
        self.is_zero_copy = told.flags & libc::XDP_OPTIONS_ZEROCOPY != 0;
        Ok(())
    }

    /// Both halves, so that answers can be written while requests are read.
    pub fn split(&mut self) -> (&mut Receiver, &mut Sender) {
        (&mut self.receiver, &mut self.sender)
    }

    /// Whether the kernel copies nothing.
    #[must_use]
    pub fn is_zero_copy(&self) -> bool {
        self.is_zero_copy
    }

    /// What the kernel has counted so far.
    ///
    /// # Errors
    /// If the kernel is older than Linux 5.9.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let told: libc::xdp_statistics = calls::get(&self.socket, libc::XDP_STATISTICS)?;
        Ok(Statistics {
            dropped: told.rx_dropped,
            received_full: told.rx_ring_full,
            fill_empty: told.rx_fill_ring_empty_descs,
            fill_invalid: told.rx_invalid_descs,
            transmit_invalid: told.tx_invalid_descs,
            transmit_empty: told.tx_ring_empty_descs,
        })
    }

    /// Whether the interface is there and up. Nobody who waits for frames is told if it goes.
    ///
    /// # Errors
    /// [`NetworkDown`](io::ErrorKind::NetworkDown) if it is down: all goes on if it comes up again.
    /// Anything else if it is gone, which is for ever.
    pub fn check(&self) -> io::Result<()> {
        match calls::wake_sender(&self.socket) {
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => Err(error),
            Err(error) if receiver::is_passing(&error) => Ok(()),
            result => result,
        }
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether there is AF_XDP, and this process may have it.
///
/// # Errors
/// If it may not, or the kernel has none.
pub fn probe() -> io::Result<()> {
    calls::socket().map(drop)
}

fn register_memory(socket: &OwnedFd, frames: u32) -> io::Result<Mapping> {
    let frame_bytes = u32::try_from(FRAME_BYTES).map_err(io::Error::other)?;
    let count = usize::try_from(frames).map_err(io::Error::other)?;
    let memory = Mapping::anonymous(count * FRAME_BYTES)
        .map_err(|error| failed(&format!("get memory for {frames} frames"), &error))?;
    let registration = libc::xdp_umem_reg {
        addr: memory.address(),
        len: u64::try_from(memory.len()).map_err(io::Error::other)?,
        chunk_size: frame_bytes,
        // Besides what the kernel always leaves.
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    calls::register(socket, &registration).map_err(|error| {
        let kib = memory.len() >> 10;
        let what = format!("lock {kib} KiB of memory (see RLIMIT_MEMLOCK)");
        failed(&what, &error)
    })?;
    Ok(memory)
}

/// All of a socket's.
#[derive(Debug)]
struct Rings {
    received: Consumer<Descriptor>,
    transmit: Producer<Descriptor>,
    fill: Producer<Address>,
    sent: Consumer<Address>,
}

impl Rings {
    /// Where they can be mapped.
    const RECEIVED: u64 = 0;
    const TRANSMIT: u64 = 0x8000_0000;
    const FILL: u64 = 0x1_0000_0000;
    const SENT: u64 = 0x1_8000_0000;

    /// Each has room for all places of its half, so none is ever full; but for what was received:
    /// if a tracker stands still, places are left for the network card, by which others receive as
    /// well.
    fn new(socket: &OwnedFd, entries: u32) -> io::Result<Self> {
        let received_entries = entries / 2;
        let rings = [
            (libc::XDP_RX_RING, "receive", received_entries),
            (libc::XDP_TX_RING, "transmit", entries),
            (libc::XDP_UMEM_FILL_RING, "fill", entries),
            (libc::XDP_UMEM_COMPLETION_RING, "completion", entries),
        ];
        for (ring, name, entries) in rings {
            calls::set_entries(socket, ring, entries)
                .map_err(|error| failed(&format!("make a {name} ring of {entries}"), &error))?;
        }
        let offsets: libc::xdp_mmap_offsets = calls::get(socket, libc::XDP_MMAP_OFFSETS)
            .map_err(|error| failed("ask where rings are (Linux 5.4)", &error))?;
        let received = map::<Descriptor>(socket, &offsets.rx, received_entries, Self::RECEIVED)?;
        let transmit = map::<Descriptor>(socket, &offsets.tx, entries, Self::TRANSMIT)?;
        let fill = map::<Address>(socket, &offsets.fr, entries, Self::FILL)?;
        let sent = map::<Address>(socket, &offsets.cr, entries, Self::SENT)?;
        Ok(Self {
            received: Consumer::new(received),
            transmit: Producer::new(transmit),
            fill: Producer::new(fill),
            sent: Consumer::new(sent),
        })
    }
}

fn map<T: Shared>(
    socket: &OwnedFd,
    offsets: &libc::xdp_ring_offset,
    entries: u32,
    at: u64,
) -> io::Result<Ring<T>> {
    let bytes = ring::bytes::<T>(offsets, entries).ok_or(io::ErrorKind::InvalidData)?;
    let mapping =
        Mapping::of_socket(socket, at, bytes).map_err(|error| failed("map a ring", &error))?;
    Ring::new(mapping, offsets, entries)
}

/// An error that says what could not be done.
fn failed(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what}: {error}"))
}
