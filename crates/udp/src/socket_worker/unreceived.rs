//! Datagrams that were lost before a backend could receive them: a socket's buffer was full.

use aquatic_types::Seconds;
use aquatic_udp_socket::UdpSocket;

use super::Core;
use crate::Now;

/// What is known about the losses of one worker's sockets.
pub(super) struct Unreceived<'a> {
    sockets: &'a [UdpSocket],
    /// What the kernel said last, by socket.
    totals: Vec<u32>,
    asked_at: Seconds,
}

impl<'a> Unreceived<'a> {
    pub(super) fn new(sockets: &'a [UdpSocket]) -> Self {
        Self {
            sockets,
            totals: vec![0; sockets.len()],
            asked_at: Seconds::default(),
        }
    }

    /// Asks the kernel once a second, and counts what has been lost since it was last asked. Where
    /// the kernel does not tell (outside Linux), nothing is counted.
    pub(super) fn account(&mut self, now: Now, core: &Core) {
        if now.seconds == self.asked_at {
            return;
        }
        self.asked_at = now.seconds;
        for (socket, known) in self.sockets.iter().zip(&mut self.totals) {
            if let Ok(total) = socket.unreceived() {
                let lost = total.wrapping_sub(*known);
                let lost = usize::try_from(lost).unwrap_or(usize::MAX);
                core.account_unreceived(socket.family(), lost);
                *known = total;
            }
        }
    }
}
