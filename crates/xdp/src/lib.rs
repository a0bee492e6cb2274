//! Small programs in the Linux kernel that keep floods away from a UDP tracker.
//!
//! A datagram with a wrong connection id is refused by the tracker in a fraction of a microsecond,
//! but the kernel has spent several until then: it has put the datagram into a queue, woken the
//! tracker, and copied it. Under a flood of these nothing is left for anybody else. The programs
//! here check ids where datagrams come in:
//!
//! | part | where it runs |
//! |---|---|
//! | [`SocketFilter`] | before the queue of a socket, on every interface |
//! | [`Xdp`] | before the network stack, at the interfaces that are named; it also answers connects |
//!
//! They are written in C (`bpf/`), and kept as arrays of instructions ([`programs`]) that
//! `scripts/bpf.sh` makes: whoever builds this crate needs no other compiler, and no library.
//! Nothing is asked of the kernel once they run: keys, times and counters are in memory that the
//! program and this process share (`memory`), so rights can be given up and system calls be
//! forbidden.
//!
//! What a program lets through can be handed to the tracker as it came, without the kernel's stack
//! between: `af_xdp` has the queues for that, and [`frame`] what is in a frame.
//!
//! Unsafe code is confined to the system calls (`kernel`, and `calls` of `af_xdp`), and to the
//! shared memory (`map`, and `memory` and `ring` of `af_xdp`).
//!
//! Outside Linux there are none of these programs, and to ask for one is an error.

#![deny(clippy::undocumented_unsafe_blocks)]

#[cfg(target_os = "linux")]
pub mod af_xdp;
#[cfg(target_os = "linux")]
mod classic;
#[cfg(target_os = "linux")]
mod denied;
pub mod frame;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod host_addresses;
#[cfg(target_os = "linux")]
mod interface;
#[cfg(target_os = "linux")]
mod kernel;
#[cfg(target_os = "linux")]
mod listeners;
#[cfg(target_os = "linux")]
mod map;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
pub mod programs;
#[cfg(target_os = "linux")]
mod socket_filter;
mod told;
#[cfg(target_os = "linux")]
mod xdp;

#[cfg(target_os = "linux")]
pub use crate::host_addresses::HostAddresses;
#[cfg(target_os = "linux")]
pub use crate::interface::Interface;
#[cfg(target_os = "linux")]
pub use crate::kernel::QueueNumbers;
#[cfg(not(target_os = "linux"))]
pub use crate::portable::{SocketFilter, attach_classic, detach};
#[cfg(target_os = "linux")]
pub use crate::socket_filter::{SocketFilter, attach_classic, detach};
#[cfg(target_os = "linux")]
pub use crate::told::{AttachError, AttachMode, Rate, TooMany, XdpLimits, XdpTask};
pub use crate::told::{Counts, Times};
#[cfg(target_os = "linux")]
pub use crate::xdp::{RATE_CELLS, XDP_QUEUES_MAX, Xdp, XdpControl};

/// Bytes of the longest datagram that programs take for a request. The largest sensible one is a
/// scrape of 116 torrents (2,336 bytes); an announce may carry a URL that is as long (BEP 41).
pub const DATAGRAM_BYTES_MAX: usize = 2_560;
