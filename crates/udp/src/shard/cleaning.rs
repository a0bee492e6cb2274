//! Forgetting: peers that no longer announce, torrents without peers, torrents that are no longer
//! allowed. A slice at a time.

use aquatic_swarm::{CleaningCursor, CleaningVisitor, Counts, TorrentMap};
use aquatic_types::{CompactAddr, CompactV4, CompactV6, InfoHash, IpFamily, PerFamily, Seconds};

use super::Office;
use crate::Now;
use crate::config::Config;
use aquatic_tracker::clients::PeerTag;
use aquatic_tracker::report::{PeerHistograms, empty_histograms};

/// Torrents and peers that one slice of cleaning looks at: some 20 microseconds.
const CLEANING_SLICE: usize = 512;

/// When swarms are cleaned, and how far the cleaning that is going on has come.
pub(super) struct Cleaning {
    interval_seconds: u32,
    next_seconds: Seconds,
    makes_histograms: bool,
    pass: Option<Pass>,
}

struct Pass {
    family: IpFamily,
    cursor: CleaningCursor,
    start_micros: u64,
    histograms: Option<PeerHistograms>,
}

impl Cleaning {
    pub(super) fn new(config: &Config) -> Self {
        let interval_seconds = config.cleaning.torrent_cleaning_interval;
        Self {
            interval_seconds,
            next_seconds: Seconds(0) + interval_seconds,
            makes_histograms: config.statistics.torrent_peer_histograms,
            pass: None,
        }
    }

    /// Cleans a little, if it is time. Returns whether there is more to clean.
    pub(super) fn slice<V: PeerTag>(
        &mut self,
        now: Now,
        swarms: &mut PerFamily<TorrentMap<CompactV4, V>, TorrentMap<CompactV6, V>>,
        office: &mut Office,
    ) -> bool {
        if self.pass.is_none() && now.seconds >= self.next_seconds {
            self.next_seconds = now.seconds + self.interval_seconds;
            self.pass = Some(Pass {
                family: IpFamily::V4,
                cursor: CleaningCursor::default(),
                start_micros: now.micros,
                histograms: self.makes_histograms.then(empty_histograms),
            });
        }
        let Some(pass) = &mut self.pass else {
            return false;
        };
        let histograms = pass.histograms.as_mut();
        let histogram = histograms.map(|histograms| histograms.get_mut(pass.family));
        let mut visitor = Visitor { office, histogram };
        let budget = CLEANING_SLICE;
        let done = match pass.family {
            IpFamily::V4 => swarms
                .v4
                .clean(&mut pass.cursor, now.seconds, budget, &mut visitor),
            IpFamily::V6 => swarms
                .v6
                .clean(&mut pass.cursor, now.seconds, budget, &mut visitor),
        };
        match (done, pass.family) {
            (false, _) => true,
            (true, IpFamily::V4) => {
                pass.family = IpFamily::V6;
                pass.cursor = CleaningCursor::default();
                true
            }
            (true, IpFamily::V6) => {
                let micros = now.micros.saturating_sub(pass.start_micros);
                office
                    .counters
                    .shard
                    .cleaning_micros
                    .set(usize::try_from(micros).unwrap_or(usize::MAX));
                office.report.set_histograms(pass.histograms.take());
                self.pass = None;
                false
            }
        }
    }
}

/// Decides during a cleaning, and counts what it sees.
struct Visitor<'a> {
    office: &'a mut Office,
    histogram: Option<&'a mut hdrhistogram::Histogram<u32>>,
}

impl<K: CompactAddr, V: PeerTag> CleaningVisitor<K, V> for Visitor<'_> {
    fn keep(&mut self, info_hash: &InfoHash) -> bool {
        self.office.access_list.is_allowed(info_hash)
    }

    fn peer_removed(&mut self, peer: &K, tag: V) {
        tag.discount(&mut self.office.clients);
        self.office.release(peer);
    }

    fn torrent_remains(&mut self, _: &InfoHash, counts: Counts) {
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(u64::from(counts.peers()));
        }
    }
}
