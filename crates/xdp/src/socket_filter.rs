//! A filter before the queue of a socket.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::classic::{self, Version};
use crate::kernel;
use crate::map::Array;
use crate::memory::{Row, State};
use crate::program::{self, Kind};
use crate::programs::socket_filter::CODE;
use crate::told::{Dropped, Times};

/// IPv4 and IPv6.
const FAMILIES: usize = 2;

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
    pub fn dropped(&self) -> [Dropped; 2] {
        let mut sums = [Dropped::default(); FAMILIES];
        for rows in self.rows.elements().as_chunks::<FAMILIES>().0 {
            for (row, sum) in rows.iter().zip(&mut sums) {
                row.add_to(sum);
            }
        }
        sums
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

/// Programs know the clock of the host.
fn require_clock() -> io::Result<()> {
    // Without time namespaces there is no such file.
    match fs::read_to_string("/proc/self/timens_offsets") {
        Ok(text) if is_shifted(&text) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this is a time namespace, with a monotonic clock of its own",
        )),
        _ => Ok(()),
    }
}

/// Whether the monotonic clock is not the host's.
fn is_shifted(offsets: &str) -> bool {
    let mut lines = offsets.lines().map(str::split_whitespace);
    let monotonic = lines.find_map(|mut words| {
        (words.next() == Some("monotonic")).then(|| words.any(|offset| offset != "0"))
    });
    monotonic.unwrap_or(false)
}

/// How many processors there can be: programs count on each by itself.
fn processors() -> io::Result<usize> {
    let path = "/sys/devices/system/cpu/possible";
    let text = fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    parse_processors(&text).ok_or_else(|| io::Error::other(format!("{path}: {text:?}")))
}

/// Such as `0-7`, or `0,2-3`.
fn parse_processors(text: &str) -> Option<usize> {
    let last = text.trim().rsplit([',', '-']).next()?;
    last.parse::<usize>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_namespace_is_noticed() {
        for (offset, expected) in [("0 0", false), ("-5 0", true), ("0 7", true)] {
            let text = format!("monotonic  {offset}\nboottime  3  0\n");
            assert_eq!(is_shifted(&text), expected, "{offset}");
        }
        assert!(!is_shifted(""));
    }

    #[test]
    fn processors_are_counted_to_the_last_that_can_be() {
        let counts = ["0\n", "0-7\n", "0,2-3\n", "", "x"].map(parse_processors);
        assert_eq!(counts, [Some(1), Some(8), Some(4), None, None]);
    }
}
