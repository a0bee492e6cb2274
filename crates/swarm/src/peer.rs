//! A peer of a swarm, in as few bytes as possible.

use aquatic_types::Seconds;

/// One peer: 8 bytes for IPv4 without a value.
pub(crate) struct Peer<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) state: PeerState,
}

/// The last second in which a peer is alive, and whether its download is over and has been counted:
/// in 16 bits together, as a peer of its own would need 8 bytes more for that.
///
/// Time is kept in steps of two seconds, modulo 2^16 seconds. Comparing needs no more as long as it
/// is less than 2^15 seconds away, in the past or in the future: see
/// [`PEER_AGE_MAX_SECONDS`](crate::PEER_AGE_MAX_SECONDS).
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerState(u16);

impl PeerState {
    const FINISHED: u16 = 1;

    /// Alive until the end of the second `deadline`, or of the next one if this is even.
    pub(crate) fn new(deadline: Seconds, is_finished: bool) -> Self {
        Self(Self::steps(deadline) | u16::from(is_finished))
    }

    /// Whether it has been a seeder, or has said that its download is complete.
    pub(crate) fn is_finished(self) -> bool {
        self.0 & Self::FINISHED != 0
    }

    pub(crate) fn has_passed(self, now: Seconds) -> bool {
        self.distance(now) < 0
    }

    /// The same, with a download that is over and counted if `is_finished`.
    pub(crate) fn finished(self, is_finished: bool) -> Self {
        Self(self.0 | u16::from(is_finished))
    }

    /// Whether it lives longer than until this second, by more than the next one.
    pub(crate) fn is_later_than(self, deadline: Seconds) -> bool {
        self.distance(deadline) > 0
    }

    /// For how many seconds after `now` it is alive; `None` if it is not.
    pub(crate) fn seconds_left(self, now: Seconds) -> Option<u16> {
        let steps = u16::try_from(self.distance(now)).ok()?;
        // The last step is of two seconds, and of the present one the first may be over.
        let is_in_second_half = (now.0 & 1) as u16;
        Some(steps + 1 - is_in_second_half)
    }

    /// The deadline with this added, modulo 2^16 seconds.
    pub(crate) fn steps_and(self, phase: u16) -> u16 {
        (self.0 & !Self::FINISHED).wrapping_add(phase)
    }

    /// Seconds from `time` to the deadline, in steps of two.
    fn distance(self, time: Seconds) -> i16 {
        let deadline = self.0 & !Self::FINISHED;
        deadline.wrapping_sub(Self::steps(time)).cast_signed()
    }

    fn steps(time: Seconds) -> u16 {
        (time.0 & 0xffff) as u16 & !Self::FINISHED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PEER_AGE_MAX_SECONDS;

    #[test]
    fn deadlines_hold_across_the_wrap() {
        for at in [0, 1, 65_534, 65_535, 65_536, 1_000_000] {
            for is_finished in [false, true] {
                let state = PeerState::new(Seconds(at), is_finished);
                assert_eq!(state.is_finished(), is_finished);
                assert!(!state.has_passed(Seconds(at)));
                assert_eq!(state.has_passed(Seconds(at + 1)), at % 2 == 1);
                assert!(state.has_passed(Seconds(at + 2)));
                for (early, left) in [(0, 0), (1, 1), (2, 2), (999, 999), (32_000, 32_000)] {
                    let Some(now) = (at | 1).checked_sub(early) else {
                        continue;
                    };
                    assert_eq!(state.seconds_left(Seconds(now)), Some(left));
                }
                assert!(state.has_passed(Seconds(at + PEER_AGE_MAX_SECONDS)));
                if let Some(early) = at.checked_sub(PEER_AGE_MAX_SECONDS) {
                    assert!(!state.has_passed(Seconds(early)));
                }
            }
        }
    }
}
