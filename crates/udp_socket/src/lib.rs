//! Datagram sockets with batched system calls, packet info and reuse-port steering.
//!
//! A UDP tracker receives small requests and sends small answers to strangers, hundreds of
//! thousands of times per second. Nearly all of its time is spent in the kernel, so this crate is
//! about crossing into the kernel seldom and asking it for little:
//!
//! | part | what it does |
//! |---|---|
//! | [`UdpSocket`] | a nonblocking socket with the options that a tracker wants, and why |
//! | [`ReturnPath`] | where an answer goes, and which local address it leaves from |
//! | [`Outbox`] | answers that wait to be sent: one arena of bytes and a list of ends |
//! | [`Receiver`], [`Sender`] | batches: [`mmsg`] on Linux, [`portable`] elsewhere |
//! | [`merge`] | which answers can travel together |
//! | [`segmentation`] | many packets of one size to one destination (UDP GSO), for load testers |
//! | [`steering`] | the kernel hands each announce to the socket whose worker owns the info hash |
//! | [`wire`] | kernel layouts that another backend (io_uring) needs as well |
//!
//! A worker's loop over them:
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! use aquatic_udp_socket::{Outbox, Receiver, Sender, SocketOptions, UdpSocket};
//!
//! let socket = UdpSocket::bind("127.0.0.1:3000".parse().unwrap(), &SocketOptions::default())?;
//! let (mut receiver, mut sender) = (Receiver::new(64, 2048), Sender::new(64));
//! let mut outbox = Outbox::new();
//! while socket.wait_readable(None)? {
//!     receiver.receive(&socket)?;
//!     for datagram in receiver.datagrams() {
//!         outbox.push(datagram.path, datagram.bytes);
//!     }
//!     let report = sender.send(&socket, &mut outbox);
//!     assert_eq!(report.failed, 0);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! This crate does not know what the bytes mean, owns no thread, reads no clock and keeps no
//! packet for later: what could not be sent stays in the caller's [`Outbox`].
//!
//! Unsafe code is confined to system calls whose arguments are arrays of pointers ([`mmsg`],
//! [`segmentation`]), options that no safe wrapper offers (`options`), and one C structure that has
//! no literal ([`wire`]).

#![deny(clippy::undocumented_unsafe_blocks)]

mod datagram;
mod kernel;
mod options;
mod outbox;
mod path;
mod socket;

#[cfg(target_os = "linux")]
pub mod merge;
#[cfg(target_os = "linux")]
pub mod mmsg;
pub mod portable;
#[cfg(target_os = "linux")]
pub mod segmentation;
pub mod steering;
#[cfg(target_os = "linux")]
pub mod wire;

pub use datagram::{Datagram, SendReport};
#[cfg(target_os = "linux")]
pub use mmsg::{Receiver, Sender};
pub use outbox::Outbox;
pub use path::{LocalAddr, ReturnPath};
#[cfg(not(target_os = "linux"))]
pub use portable::{Receiver, Sender};
pub use socket::{SocketOptions, UNFRAGMENTED_BYTES_MAX, UdpSocket};
