//! What a worker asks the system once a second: how many datagrams were lost before a backend could
//! receive them, because a socket's buffer was full, and what time it is; and shows that it lives.

use aquatic_daemon::clock::unix_micros;
use aquatic_daemon::heartbeat;
use aquatic_types::Seconds;
use aquatic_udp_socket::UdpSocket;

use super::SocketWorker;
use crate::Now;
use crate::shield;

/// How often it is looked whether a flood has begun: until then, most others are lost.
const LOOK_MICROS: u64 = 10_000;

/// Does it, for one worker.
pub(super) struct EachSecond<'a> {
    sockets: &'a [UdpSocket],
    /// How many lost datagrams were counted, by socket, modulo 2^32.
    lost_totals: Vec<u32>,
    /// How many of those that the kernel has thrown away its filters have dropped.
    filtered_totals: Vec<u64>,
    /// `None`: in the first turn.
    asked_at: Option<Seconds>,
    next_look_micros: u64,
}

impl<'a> EachSecond<'a> {
    pub(super) fn new(sockets: &'a [UdpSocket]) -> Self {
        Self {
            sockets,
            lost_totals: vec![0; sockets.len()],
            filtered_totals: vec![0; sockets.len()],
            asked_at: None,
            next_look_micros: 0,
        }
    }

    /// To be called in each turn of a worker's loop.
    pub(super) fn look(&mut self, now: Now, worker: &mut SocketWorker) {
        if now.micros >= self.next_look_micros {
            self.next_look_micros = now.micros + LOOK_MICROS;
            worker.look_for_floods(now, self.sockets);
        }
        if self.asked_at.replace(now.seconds) == Some(now.seconds) {
            return;
        }
        heartbeat::beat();
        worker.synchronise(now, unix_micros());
        self.count_lost(worker);
        worker.look_after_shields(now, self.sockets);
    }

    /// Counts what has been filtered, and lost, since the kernel was last asked. Where it does not
    /// tell (outside Linux), nothing is counted.
    ///
    /// What a filter drops the kernel counts as lost, too. It is asked for that first: so a
    /// datagram that is dropped in between is taken off too early, and for a second only.
    fn count_lost(&mut self, worker: &mut SocketWorker) {
        let totals = self.lost_totals.iter_mut().zip(&mut self.filtered_totals);
        for (index, (socket, (known, filtered))) in self.sockets.iter().zip(totals).enumerate() {
            let total = socket.unreceived();
            *filtered += worker.account_filtered(index);
            let Ok(total) = total else { continue };
            let lost = lost_since(*known, total, *filtered);
            *known = known.wrapping_add(lost);
            let lost = usize::try_from(lost).unwrap_or(usize::MAX);
            worker.account_unreceived(socket.family(), lost);
        }
    }
}

impl Drop for EachSecond<'_> {
    fn drop(&mut self) {
        shield::detach(self.sockets);
    }
}

/// How many datagrams were lost since `known` was counted, of a `total` that includes what was
/// filtered.
fn lost_since(known: u32, total: u32, filtered: u64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "modulo 2^32, as the kernel counts"
    )]
    let filtered = filtered as u32;
    let lost = total
        .wrapping_sub(filtered)
        .wrapping_sub(known)
        .cast_signed();
    lost.max(0).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filtered_is_not_lost() {
        assert_eq!(lost_since(0, 7, 0), 7);
        assert_eq!(lost_since(7, 10, 0), 3);
        assert_eq!(lost_since(7, 110, 100), 3);
        // The filter was asked a moment later.
        assert_eq!(lost_since(7, 110, 105), 0);
        assert_eq!(lost_since(7, 117, 105), 5);
        // All of them come round.
        let many = (1 << 33) + 100;
        assert_eq!(lost_since(u32::MAX - 1, 103, many), 5);
    }
}
