//! What there is of AF_XDP where there is no Linux: nothing.

use std::os::fd::RawFd;

use aquatic_udp_socket::UdpSocket;

use super::SocketWorker;
use crate::Now;

/// Never made.
#[derive(Debug)]
pub(crate) enum FrameQueue {}

/// None.
#[derive(Debug, Default)]
pub struct Queues;

impl Queues {
    pub(crate) fn new(_list: Vec<FrameQueue>, _first: usize) -> Self {
        Self
    }

    pub(super) fn are_none(&self) -> bool {
        true
    }

    pub(super) fn wait_files(&self) -> impl Iterator<Item = RawFd> {
        std::iter::empty()
    }

    pub(super) fn receive(&mut self, _now: Now, _worker: &mut SocketWorker) -> (usize, bool) {
        (0, false)
    }

    pub(super) fn send(
        &mut self,
        _worker: &mut SocketWorker,
        _sockets: &[UdpSocket],
        _resend_len_max: usize,
    ) -> bool {
        false
    }

    pub(super) fn count_lost(&mut self, _worker: &SocketWorker) {}
}
