//! What there is where the kernel has no such programs: nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU64;

use crate::told::{AttachError, AttachMode, Counts, Rate, Times, TooMany, XdpLimits, XdpMode};

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

/// Never made.
#[derive(Debug)]
pub enum Interface {}

impl Interface {
    /// Not here.
    ///
    /// # Errors
    /// Always.
    pub fn named(_name: &str) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Never called.
    #[must_use]
    pub fn index(&self) -> u32 {
        match *self {}
    }

    /// Never called.
    #[must_use]
    pub fn name(&self) -> &str {
        match *self {}
    }

    /// Never called.
    #[must_use]
    pub fn receive_queues(&self) -> u32 {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn mtu(&self) -> io::Result<usize> {
        match *self {}
    }

    /// Never called.
    #[must_use]
    pub fn modes(&self) -> &'static [AttachMode] {
        match *self {}
    }

    /// Never called.
    #[must_use]
    pub fn is_veth(&self) -> bool {
        match *self {}
    }

    /// Never called.
    #[must_use]
    pub fn stripped_vlan(&self) -> Option<String> {
        match *self {}
    }
}

/// Never made.
#[derive(Debug)]
pub enum HostAddresses {}

impl HostAddresses {
    /// Not here.
    ///
    /// # Errors
    /// Always.
    pub fn follow() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn changed(&mut self) -> io::Result<Option<Vec<IpAddr>>> {
        match *self {}
    }
}

/// Never made.
#[derive(Clone, Debug)]
pub enum RateCells {}

impl RateCells {
    /// Never called.
    #[must_use]
    pub fn get(&self, _place: usize) -> Option<&AtomicU64> {
        match *self {}
    }
}

/// Never made.
#[derive(Debug)]
pub enum Xdp {}

impl Xdp {
    /// Not here.
    ///
    /// # Errors
    /// Always.
    pub fn new(_denied_v4: usize, _denied_v6: usize) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn attach(&mut self, _index: u32, _mode: AttachMode) -> Result<(), AttachError> {
        match *self {}
    }

    /// Never called.
    #[must_use]
    pub fn interfaces(&self) -> usize {
        match *self {}
    }

    /// Never called.
    pub fn activate(&self, _mode: XdpMode, _key: [u64; 2], _times: Times, _limits: XdpLimits) {
        match *self {}
    }

    /// Never called.
    pub fn deactivate(&self) {
        match *self {}
    }

    /// Never called.
    pub fn set_times(&self, _times: Times) {
        match *self {}
    }

    /// Never called.
    pub fn set_listeners(&self, _listeners: &[SocketAddr]) -> usize {
        match *self {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn deny(&mut self, _v4: &[(u32, u32)], _v6: &[(u128, u128)]) -> Result<(), TooMany> {
        match *self {}
    }

    /// Never called.
    pub fn set_rate(&self, _rate: Rate) {
        match *self {}
    }

    /// Never called.
    #[must_use]
    pub fn rate_cells(&self) -> RateCells {
        match *self {}
    }

    /// Never called.
    #[must_use]
    pub fn counts(&self) -> [Counts; 2] {
        match *self {}
    }
}
