//! What there is where the kernel has no such programs: nothing.

use std::io;
use std::os::fd::AsFd;

use crate::told::{Counts, Times};

/// Never made.
#[derive(Debug)]
pub enum SocketFilter {}

impl SocketFilter {
    /// Not here.
    ///
    /// # Errors
    /// Always.
    pub fn load() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn attach(&self, _socket: &impl AsFd) -> io::Result<()> {
        match *self {}
    }

    /// Never called.
    pub fn activate(&self, _key: [u64; 2], _times: Times, _wrong_per_second: u64) {
        match *self {}
    }

    /// Never called.
    pub fn set_times(&self, _times: Times) {
        match *self {}
    }

    /// Never called.
    #[must_use]
    pub fn counts(&self) -> [Counts; 2] {
        match *self {}
    }
}

/// Not here.
///
/// # Errors
/// Always.
pub fn attach_classic(
    _socket: &impl AsFd,
    _is_ipv6: bool,
    _key: [u64; 2],
    _unix_seconds: u32,
    _one_of: u32,
) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Does nothing.
pub fn detach(_socket: &impl AsFd) {}
