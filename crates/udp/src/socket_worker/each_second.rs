//! What a worker asks the system once a second: how many datagrams were lost before a backend could
//! receive them, because a socket's buffer was full, and what time it is; and shows that it lives.

use aquatic_daemon::clock::unix_micros;
use aquatic_daemon::heartbeat;
use aquatic_types::Seconds;
use aquatic_udp_socket::UdpSocket;

use super::SocketWorker;
use crate::Now;

/// Does it, for one worker.
pub(super) struct EachSecond<'a> {
    sockets: &'a [UdpSocket],
    /// What the kernel said last about lost datagrams, by socket.
    lost_totals: Vec<u32>,
    asked_at: Seconds,
}

impl<'a> EachSecond<'a> {
    pub(super) fn new(sockets: &'a [UdpSocket]) -> Self {
        Self {
            sockets,
            lost_totals: vec![0; sockets.len()],
            asked_at: Seconds::default(),
        }
    }

    /// To be called in each turn of a worker's loop.
    pub(super) fn look(&mut self, now: Now, worker: &mut SocketWorker) {
        if now.seconds == self.asked_at {
            return;
        }
        self.asked_at = now.seconds;
        heartbeat::beat();
        worker.synchronise(now, unix_micros());
        self.count_lost(worker);
    }

    /// Counts what has been lost since the kernel was last asked. Where it does not tell (outside
    /// Linux), nothing is counted.
    fn count_lost(&mut self, worker: &SocketWorker) {
        for (socket, known) in self.sockets.iter().zip(&mut self.lost_totals) {
            if let Ok(total) = socket.unreceived() {
                let lost = total.wrapping_sub(*known);
                let lost = usize::try_from(lost).unwrap_or(usize::MAX);
                worker.account_unreceived(socket.family(), lost);
                *known = total;
            }
        }
    }
}
