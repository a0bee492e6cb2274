//! A small safe layer over io_uring for datagram sockets.
//!
//! A [`Ring`] belongs to one worker thread and does for it what an event loop with `recvmmsg` and
//! `sendmmsg` would do, in one system call per turn ([`Ring::wait`]):
//!
//! - every socket has one *multishot* receive: the kernel takes a buffer from a pool that it shares
//!   with us, writes address, packet info and payload into it, and goes on without being asked;
//! - answers are one request each, issued by the same call that waits for the next datagrams;
//! - a [`Waker`] ends the wait from another thread.
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! use aquatic_udp_socket::{Outbox, SocketOptions, UdpSocket};
//! use aquatic_uring::{Event, Ring, RingOptions};
//!
//! let socket = UdpSocket::bind("127.0.0.1:3000".parse().unwrap(), &SocketOptions::default())?;
//! let mut ring = Ring::new(&RingOptions::default(), &[&socket], None)?;
//! let mut outbox = Outbox::new();
//! loop {
//!     let mut events = ring.wait(None)?;
//!     while let Some(event) = events.next_event() {
//!         if let Event::Datagram { datagram, .. } = event {
//!             outbox.push(datagram.path, datagram.bytes);
//!         }
//!     }
//!     drop(events);
//!     ring.send(0, &mut outbox)?;
//! }
//! # }
//! ```
//!
//! | module | contents |
//! |---|---|
//! | `ring` | [`Ring`]: set-up, the turn of the loop, tear-down |
//! | `event` | [`Event`], [`Events`]: what a turn brought |
//! | `pool` | receive buffers and who owns them at the moment |
//! | `sends` | answers on their way: what the kernel may look at, and for how long |
//! | `probe` | [`probe`]: whether it works on this machine, and if not, what to change |
//! | `waker` | [`Waker`] |
//!
//! What it leaves out on purpose: files, streams, timers, and every other thing that io_uring can
//! do. Needs Linux 6.0; 6.1 is better (deferred task work).
//!
//! Unsafe code talks to the kernel through memory that both share. Each such piece of memory is
//! owned by a private type that knows when the kernel may touch it, and nothing unsafe is left to
//! callers.

#![cfg(target_os = "linux")]
#![deny(clippy::undocumented_unsafe_blocks)]

mod event;
mod pool;
mod probe;
mod ring;
mod sends;
mod tag;
mod waker;

pub use event::{Event, Events};
pub use probe::{Unsupported, probe};
pub use ring::{Ring, RingOptions};
pub use waker::Waker;
