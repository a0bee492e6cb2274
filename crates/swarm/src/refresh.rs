//! When somebody elsewhere is told again of a peer that is still there.
//!
//! Peers announce much more often than others have to hear of it: those only must not forget a
//! peer that is alive. So time is cut into windows as long as the [`RefreshInterval`], and a peer
//! is told of once in each: when its deadline passes from one window into the next. That needs no
//! memory, since the deadline of before is kept with the peer anyway.
//!
//! A deadline that somebody else has told of counts like one from an announce here. So of a peer
//! that announces now here and now there, all hear in each window of each tracker: either from that
//! one, or from the other, whose telling has moved the deadline into the window.

use aquatic_types::Seconds;

use crate::hash::{PeerKey, TorrentKey};
use crate::peer::PeerState;

/// What was known of a peer before it announced again.
#[derive(Clone, Copy, Debug)]
pub struct Previous {
    state: PeerState,
    is_seeder: bool,
}

impl Previous {
    pub(crate) fn new(state: PeerState, is_seeder: bool) -> Self {
        Self { state, is_seeder }
    }

    /// Whether it was a seeder.
    #[must_use]
    pub fn is_seeder(&self) -> bool {
        self.is_seeder
    }

    /// Whether its download was counted already, or it has been a seeder.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.state.is_finished()
    }
}

/// Within so many seconds others are told again of every peer that announces. A power of two, as
/// deadlines are kept modulo 2^16 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshInterval {
    log2: u32,
}

impl RefreshInterval {
    /// The shortest: deadlines are kept in steps of two seconds.
    pub const MIN: Self = Self { log2: 1 };

    const MAX: Self = Self { log2: 14 };

    /// `None` if the number is not a power of two from 2 to 16,384.
    #[must_use]
    pub fn new(seconds: u32) -> Option<Self> {
        let log2 = seconds.checked_ilog2()?;
        let is_possible = (Self::MIN.log2..=Self::MAX.log2).contains(&log2);
        (seconds.is_power_of_two() && is_possible).then_some(Self { log2 })
    }

    /// The longest for which one telling may be lost and nobody is forgotten: two intervals, and
    /// the time between two announces, last no longer than a peer is remembered. The shortest if
    /// there is none.
    #[must_use]
    pub fn longest(announce_interval_seconds: u32, peer_age_seconds: u32) -> Self {
        let time = peer_age_seconds.saturating_sub(announce_interval_seconds) / 2;
        let log2 = time.checked_ilog2().unwrap_or_default();
        Self {
            log2: log2.clamp(Self::MIN.log2, Self::MAX.log2),
        }
    }

    /// The interval.
    #[must_use]
    pub fn seconds(self) -> u32 {
        1 << self.log2
    }

    /// Whether others are to be told again of a peer that announces, by which its deadline changes
    /// to this. The windows of different peers begin at different times, so that not all are told
    /// of at once.
    #[must_use]
    pub fn is_due<K: PeerKey>(
        self,
        torrent: &TorrentKey,
        peer: &K,
        previous: &Previous,
        deadline: Seconds,
    ) -> bool {
        let phase = phase(torrent, peer);
        let window = |state: PeerState| state.steps_and(phase) >> self.log2;
        window(previous.state) != window(PeerState::new(deadline, false))
    }
}

/// When the windows of a peer begin: any number that is another one for most others.
fn phase<K: PeerKey>(torrent: &TorrentKey, peer: &K) -> u16 {
    const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    let words = peer.as_bytes().chunks(8).map(|bytes| {
        let mut word = [0; 8];
        word.iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        u64::from_le_bytes(word)
    });
    let hash = words.fold(torrent.hash, |hash, word| {
        (hash ^ word).wrapping_mul(GOLDEN_RATIO).rotate_right(32)
    });
    (hash & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use aquatic_types::{CompactV4, InfoHash};

    use super::*;
    use crate::HashKey;

    fn peer(number: u16) -> CompactV4 {
        let [high, low] = number.to_be_bytes();
        CompactV4([10, 0, high, low, 0x1a, 0xe1])
    }

    fn torrent() -> TorrentKey {
        HashKey::new([1, 2]).torrent(InfoHash([7; 20]))
    }

    fn previous(deadline: u32) -> Previous {
        Previous::new(PeerState::new(Seconds(deadline), true), false)
    }

    #[test]
    fn an_interval_leaves_time_for_one_loss() {
        for (announce_interval, peer_age, expected) in [
            (120, 1_200, 512),
            (300, 1_200, 256),
            (1_800, 3_900, 1_024),
            (119, 4_215, 2_048),
            (120, 4_215, 1_024),
            (120, 124, 2),
            (120, 60, 2),
            (0, u32::MAX, 16_384),
        ] {
            let interval = RefreshInterval::longest(announce_interval, peer_age);
            assert_eq!(
                interval.seconds(),
                expected,
                "{announce_interval}, {peer_age}"
            );
            assert_eq!(RefreshInterval::new(expected), Some(interval));
        }
        for seconds in [0, 1, 3, 500, 513, 32_768, u32::MAX] {
            assert_eq!(RefreshInterval::new(seconds), None, "{seconds}");
        }
    }

    /// Also across the time at which deadlines wrap.
    #[test]
    fn who_goes_on_announcing_is_told_of_once_in_each_interval() {
        let interval = RefreshInterval::new(512).unwrap();
        for number in 0..50 {
            let mut told_at = vec![0];
            let mut deadline = 1_200;
            for announces in 1..2_000 {
                let next = 1_200 + announces * 97;
                if interval.is_due(
                    &torrent(),
                    &peer(number),
                    &previous(deadline),
                    Seconds(next),
                ) {
                    told_at.push(next - 1_200);
                }
                deadline = next;
            }
            let pauses: Vec<u32> = told_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
            // The first window had begun before.
            assert!(pauses.iter().all(|pause| *pause < 512 + 97), "{pauses:?}");
            let (many, time) = (told_at.len(), 2_000 * 97);
            assert!((time / 512 - 2..=time / 512 + 2).contains(&u32::try_from(many).unwrap()));
        }
    }

    #[test]
    fn who_announces_less_often_than_that_is_told_of_each_time() {
        let interval = RefreshInterval::new(256).unwrap();
        for number in 0..1_000 {
            let (before, after) = (previous(1_000), Seconds(1_000 + 260));
            assert!(interval.is_due(&torrent(), &peer(number), &before, after));
        }
    }

    #[test]
    fn not_all_are_told_of_at_once() {
        let interval = RefreshInterval::new(512).unwrap();
        for torrents in [1_u16, 1_000] {
            let due = (0..1_000).filter(|number| {
                let [_, low] = (number % torrents).to_be_bytes();
                let info_hash = InfoHash([low; 20]);
                let torrent = HashKey::new([1, 2]).torrent(info_hash);
                interval.is_due(&torrent, &peer(*number), &previous(1_200), Seconds(1_264))
            });
            // An eighth: 125, give or take five standard deviations.
            let due = due.count();
            assert!((72..=178).contains(&due), "{due}");
        }
    }
}
