//! When swarms are cleaned: a slice at a time, between batches.

use aquatic_daemon::clock::Now;
use aquatic_swarm::CleaningCursor;
use aquatic_types::Seconds;

/// Torrents and peers that one slice of cleaning looks at: some 20 microseconds.
const SLICE_BUDGET: usize = 512;

/// Cleanings that were hastened begin so many seconds one after the other at the earliest: others
/// may say all the time that somebody has gone.
const HASTE_SECONDS: u32 = 5;

/// When the swarms of a shard are cleaned, and how far the cleaning that is going on has come.
///
/// A shard has one or more maps, which are cleaned one after the other.
pub(crate) struct Cleaning {
    interval_seconds: u32,
    next_seconds: Seconds,
    /// The next one was hastened.
    is_hastened: bool,
    /// One that is hastened begins no earlier.
    hasty_seconds: Seconds,
    pass: Option<Pass>,
}

struct Pass {
    /// The one that is being cleaned.
    map: usize,
    cursor: CleaningCursor,
    start_micros: u64,
}

/// What a slice has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slice {
    /// It is not time to clean.
    NotDue,
    /// There is more to clean.
    More,
    /// All maps have been cleaned, which took this long from the first slice to the last.
    Finished {
        /// In microseconds.
        micros: u64,
    },
}

impl Cleaning {
    /// Cleans every so many seconds.
    pub(crate) fn new(interval_seconds: u32) -> Self {
        Self {
            interval_seconds,
            next_seconds: Seconds(0) + interval_seconds,
            is_hastened: false,
            hasty_seconds: Seconds(0),
            pass: None,
        }
    }

    /// Cleans every so many seconds from now on; and for the next time no later than that.
    pub(crate) fn set_interval(&mut self, now: Now, seconds: u32) {
        self.interval_seconds = seconds;
        self.next_seconds = self.next_seconds.min(now.seconds + seconds);
    }

    /// The next cleaning is to be soon. To be called as long as that is wished: if one is going on,
    /// it may do what is wished, and nothing changes.
    pub(crate) fn hasten(&mut self, now: Now) {
        let soon = now.seconds.max(self.hasty_seconds);
        if self.pass.is_none() && soon < self.next_seconds {
            self.next_seconds = soon;
            self.is_hastened = true;
        }
    }

    /// Cleans a little of `maps` maps, if it is time. `clean` does a slice of one of them with a
    /// budget, and returns whether the map is done:
    /// [`TorrentMap::clean`](aquatic_swarm::TorrentMap::clean) does.
    pub(crate) fn slice(
        &mut self,
        now: Now,
        maps: usize,
        clean: impl FnOnce(usize, &mut CleaningCursor, usize) -> bool,
    ) -> Slice {
        if self.pass.is_none() && now.seconds >= self.next_seconds {
            self.next_seconds = now.seconds + self.interval_seconds;
            if std::mem::take(&mut self.is_hastened) {
                self.hasty_seconds = now.seconds + HASTE_SECONDS;
            }
            self.pass = Some(Pass {
                map: 0,
                cursor: CleaningCursor::default(),
                start_micros: now.micros,
            });
        }
        let Some(pass) = &mut self.pass else {
            return Slice::NotDue;
        };
        if !clean(pass.map, &mut pass.cursor, SLICE_BUDGET) {
            return Slice::More;
        }
        pass.map += 1;
        if pass.map < maps {
            pass.cursor = CleaningCursor::default();
            return Slice::More;
        }
        let micros = now.micros.saturating_sub(pass.start_micros);
        self.pass = None;
        Slice::Finished { micros }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_interval_holds_at_once() {
        let mut cleaning = Cleaning::new(1_000);
        let mut cleans_at = |seconds: u32, interval: Option<u32>| {
            let now = Now::from_micros(u64::from(seconds) * 1_000_000);
            if let Some(interval) = interval {
                cleaning.set_interval(now, interval);
            }
            cleaning.slice(now, 1, |_, _, _| true) != Slice::NotDue
        };
        assert!(!cleans_at(100, None));
        assert!(!cleans_at(200, Some(10)));
        assert!(!cleans_at(209, None));
        assert!(cleans_at(210, None));
        assert!(cleans_at(220, None));
        assert!(!cleans_at(221, Some(100)));
        assert!(cleans_at(230, None), "was due before");
        assert!(!cleans_at(329, None));
        assert!(cleans_at(330, None));
    }

    /// Seconds in which something is cleaned, if a cleaning takes three of them, and is hastened in
    /// these.
    fn cleaned(hastened: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut cleaning = Cleaning::new(20);
        let mut slices = 0;
        let cleans = |seconds: &u64| {
            let now = Now::from_micros(seconds * 1_000_000);
            if hastened(*seconds) {
                cleaning.hasten(now);
            }
            let slice = cleaning.slice(now, 1, |_, _, _| {
                slices += 1;
                slices % 3 == 0
            });
            slice != Slice::NotDue
        };
        (1..26).filter(cleans).collect()
    }

    #[test]
    fn a_cleaning_can_be_hastened() {
        assert_eq!(cleaned(|_| false), [20, 21, 22]);
        // It has done what was wished, until it was over.
        assert_eq!(cleaned(|it| (2..=4).contains(&it)), [2, 3, 4, 22, 23, 24]);
        // It is wished still.
        assert_eq!(cleaned(|it| (2..=5).contains(&it)), [2, 3, 4, 7, 8, 9]);
    }

    /// A node that lies may have its members go again and again.
    #[test]
    fn a_cleaning_is_not_hastened_all_the_time() {
        let all = [1, 2, 3, 6, 7, 8, 11, 12, 13, 16, 17, 18, 21, 22, 23];
        assert_eq!(cleaned(|_| true), all);
    }

    #[test]
    fn each_map_is_cleaned_in_turn_when_it_is_time() {
        let mut cleaning = Cleaning::new(10);
        let mut cleaned = String::new();
        let mut slices = Vec::new();
        // A map takes two slices, each of them one second.
        for second in 9..25 {
            let slice = cleaning.slice(Now::from_micros(second * 1_000_000), 2, |map, _, _| {
                cleaned.push(['a', 'b'][map]);
                cleaned.len().is_multiple_of(2)
            });
            slices.push(slice);
        }
        assert_eq!(cleaned, "aabbaabb");
        let pass = [Slice::More, Slice::More, Slice::More];
        let finished = [Slice::Finished { micros: 3_000_000 }];
        let expected = [
            &[Slice::NotDue][..],
            &pass,
            &finished,
            &[Slice::NotDue; 6],
            &pass,
            &finished,
            &[Slice::NotDue],
        ];
        assert_eq!(slices, expected.concat());
    }
}
