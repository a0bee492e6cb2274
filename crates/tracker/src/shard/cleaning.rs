//! When swarms are cleaned: a slice at a time, between batches.

use aquatic_daemon::clock::Now;
use aquatic_swarm::CleaningCursor;
use aquatic_types::Seconds;

/// Torrents and peers that one slice of cleaning looks at: some 20 microseconds.
const SLICE_BUDGET: usize = 512;

/// When the swarms of a shard are cleaned, and how far the cleaning that is going on has come.
///
/// A shard has one or more maps, which are cleaned one after the other.
pub(crate) struct Cleaning {
    interval_seconds: u32,
    next_seconds: Seconds,
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
            pass: None,
        }
    }

    /// Cleans every so many seconds from now on; and for the next time no later than that.
    pub(crate) fn set_interval(&mut self, now: Now, seconds: u32) {
        self.interval_seconds = seconds;
        self.next_seconds = self.next_seconds.min(now.seconds + seconds);
    }

    /// The next cleaning is due, once the one that is going on has ended.
    pub(crate) fn hasten(&mut self, now: Now) {
        self.next_seconds = self.next_seconds.min(now.seconds);
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

    #[test]
    fn a_cleaning_can_be_hastened() {
        let mut cleaning = Cleaning::new(10);
        let mut slices = Vec::new();
        for seconds in 1..20 {
            let now = Now::from_micros(seconds * 1_000_000);
            // Also while one is going on, which takes three seconds.
            if [2, 3].contains(&seconds) {
                cleaning.hasten(now);
            }
            let is_over = [4, 7, 17].contains(&seconds);
            if cleaning.slice(now, 1, |_, _, _| is_over) != Slice::NotDue {
                slices.push(seconds);
            }
        }
        assert_eq!(slices, [2, 3, 4, 5, 6, 7, 15, 16, 17]);
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
