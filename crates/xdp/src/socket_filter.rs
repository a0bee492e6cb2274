//! A filter before the queue of a socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::classic::{self, Version};
use crate::host::{processors, require_clock};
use crate::kernel;
use crate::map::Array;
use crate::memory::State;
use crate::program::{self, Kind};
use crate::programs::socket_filter::CODE;
use crate::told::{Counts, FAMILIES, Row, Times, sums};

/// A program that drops datagrams before they are put into a socket's queue: what is no request,
/// and what has a wrong connection id. Until it is [activated](Self::activate) it drops nothing.
///
/// It goes on for as long as the socket is open, wherever.
#[derive(Debug)]
pub struct SocketFilter {
    state: Array<State>,
    /// Of each processor two: over IPv4, and over IPv6.
    rows: Array<Row>,
    program: OwnedFd,
}

impl SocketFilter {
    /// Loads one. It has to be [attached](Self::attach) yet.
    ///
    /// # Errors
    /// If the process may not (it takes `CAP_BPF`), or the kernel is older than Linux 5.11.
    pub fn load() -> io::Result<Self> {
        require_clock()?;
        let state = Array::new(1)?;
        let rows = Array::new(FAMILIES * processors()?)?;
        let maps = [("state_map", state.as_fd()), ("rows", rows.as_fd())];
        let program = program::load(Kind::SocketFilter, &CODE, &maps)?;
        Ok(Self {
            state,
            rows,
            program,
        })
    }

    /// Attaches it to a UDP socket, in the place of whatever filter that has. This takes no rights.
    ///
    /// # Errors
    /// If it is no socket, or the kernel has no room.
    pub fn attach(&self, socket: &impl AsFd) -> io::Result<()> {
        kernel::set_option(socket, libc::SO_ATTACH_BPF, self.program.as_raw_fd())
    }

    /// From now on it drops what is no request, and what has no id that was issued with this key,
    /// the two words of SipHash's. So many of the latter are let through in a second, so that
    /// clients are told to connect again.
    pub fn activate(&self, key: [u64; 2], times: Times, wrong_per_second: u64) {
        for state in self.state.elements() {
            state.activate(key, times, wrong_per_second);
        }
    }

    /// Tells it what time it is. To be called about once a second, since clocks are corrected.
    pub fn set_times(&self, times: Times) {
        for state in self.state.elements() {
            state.set_times(times);
        }
    }

    /// What it has dropped so far: over IPv4, and over IPv6.
    #[must_use]
    pub fn counts(&self) -> [Counts; 2] {
        sums(&self.rows)
    }
}

/// Attaches a filter of classic BPF to a UDP socket, in the place of whatever it has; nobody needs
/// rights for that. It drops what a [`SocketFilter`] drops, but lets one of `one_of` (a power of
/// two) through, counts nothing, and does it in several times the time. It has to be
/// attached anew within twenty minutes, and when the clock was set, since it has none:
/// `unix_seconds` is the time.
///
/// # Errors
/// If the kernel does not let it.
pub fn attach_classic(
    socket: &impl AsFd,
    is_ipv6: bool,
    key: [u64; 2],
    unix_seconds: u32,
    one_of: u32,
) -> io::Result<()> {
    let version = match is_ipv6 {
        true => Version::V6,
        false => Version::V4,
    };
    let program = classic::program(key, version, unix_seconds, one_of);
    kernel::attach_classic(socket, &program)
}

/// Takes away whatever filter a socket has, maybe of an earlier process. Does nothing if there is
/// none.
pub fn detach(socket: &impl AsFd) {
    // Fails if there is none.
    let _ = kernel::set_option(socket, libc::SO_DETACH_FILTER, 0);
}
