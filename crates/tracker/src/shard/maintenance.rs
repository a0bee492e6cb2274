//! What a shard does between batches, whatever its peers are: it tells how much it holds, and
//! cleans its swarms a slice at a time.
//!
//! What differs from tracker to tracker, its swarms bring along ([`Maintained`]).

use std::mem;
use std::num::NonZeroUsize;
use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_swarm::{CleaningCursor, Counts, HashKey, Room};
use aquatic_types::{IpFamily, PerFamily, Seconds};

use crate::metrics::counters::{ShardCounters, SwarmGauges};
use crate::metrics::report::{PeerHistograms, ShardReport, empty_histograms};
use crate::shard::cleaning::{Cleaning, Slice};
use crate::shard::client_stats::ClientTable;

/// All swarms of a shard.
pub trait Maintained {
    /// The maps that they are in.
    const MAPS: usize;

    /// Publishes how much they hold.
    fn publish(&self, gauges: &PerFamily<SwarmGauges>);

    /// Cleans a slice of the map with this number, below [`Self::MAPS`], and says whether it is
    /// done: see [`TorrentMap::clean`](aquatic_swarm::TorrentMap::clean).
    fn clean(
        &mut self,
        map: usize,
        cursor: &mut CleaningCursor,
        budget: usize,
        cleaner: &mut Cleaner<'_>,
    ) -> bool;

    /// Whether a cleaning may begin or go on now. If not, there is no room for what it finds, until
    /// somebody takes something away, which wakes the shard's owner.
    fn may_clean(&self, _now: Now) -> bool {
        true
    }

    /// All maps have been cleaned.
    fn pass_ended(&mut self) {}
}

/// What is told of those who are met in a pass of cleaning.
pub struct Cleaner<'a> {
    /// When the slice began.
    pub now: Seconds,
    /// Whose peers leave.
    pub clients: &'a mut ClientTable,
    /// Whose peers stay.
    pub room: &'a mut Room,
    histograms: Option<&'a mut PeerHistograms>,
}

impl Cleaner<'_> {
    /// A torrent stays, in a map of a family.
    pub fn torrent_remains(&mut self, family: IpFamily, counts: Counts) {
        if let Some(histograms) = &mut self.histograms {
            let histogram = histograms.get_mut(family);
            histogram.saturating_record(u64::from(counts.peers()));
        }
    }
}

/// What an operator has set.
#[derive(Clone, Copy, Debug)]
pub struct MaintenanceSettings {
    /// Bytes that all torrents of this shard may take together; `None` means no bound.
    pub bytes_max: Option<NonZeroUsize>,
    /// Seconds between two cleanings.
    pub cleaning_interval_seconds: u32,
    /// Seconds between two reports of client software.
    pub report_interval_seconds: u32,
    /// Whether to count how many peers torrents have, with each cleaning.
    pub peer_histograms: bool,
}

/// Where a shard tells about itself.
#[derive(Clone, Debug, Default)]
pub struct Reporting {
    /// What is counted.
    pub counters: Arc<ShardCounters>,
    /// What is too large for that.
    pub report: Arc<ShardReport>,
}

impl Reporting {
    /// Of a shard that a worker owns.
    #[must_use]
    pub fn new(counters: &Arc<ShardCounters>, report: &Arc<ShardReport>) -> Self {
        Self {
            counters: Arc::clone(counters),
            report: Arc::clone(report),
        }
    }
}

/// See the [module](self).
pub struct Maintenance {
    /// The peers of this shard by client software.
    pub clients: ClientTable,
    /// Who has how much of the memory.
    pub room: Room,
    /// Peers that have had to give way, since the start.
    pub evicted: PerFamily<usize>,
    cleaning: Cleaning,
    /// Of the cleaning that is going on, if they are wanted.
    histograms: Option<PeerHistograms>,
    next_report_seconds: Seconds,
    report_interval_seconds: u32,
    reporting: Reporting,
}

impl Maintenance {
    /// Of an empty shard.
    #[must_use]
    pub fn new(settings: MaintenanceSettings, hash_key: HashKey, reporting: Reporting) -> Self {
        Self {
            clients: ClientTable::new(),
            room: Room::new(settings.bytes_max, hash_key),
            evicted: PerFamily::default(),
            cleaning: Cleaning::new(settings.cleaning_interval_seconds),
            histograms: settings.peer_histograms.then(empty_histograms),
            next_report_seconds: Seconds(0) + settings.report_interval_seconds,
            report_interval_seconds: settings.report_interval_seconds,
            reporting,
        }
    }

    /// Other intervals from now on. The rest of the settings is for the life of the shard.
    pub fn set_intervals(&mut self, now: Now, settings: MaintenanceSettings) {
        self.cleaning
            .set_interval(now, settings.cleaning_interval_seconds);
        let report_interval = settings.report_interval_seconds;
        self.report_interval_seconds = report_interval;
        self.next_report_seconds = self.next_report_seconds.min(now.seconds + report_interval);
    }

    /// Swarms are to be cleaned soon, without waiting for the interval: somebody has gone with many
    /// peers. To be called as long as they are there; but others do not have all the time taken for
    /// it.
    pub fn clean_soon(&mut self, now: Now) {
        self.cleaning.hasten(now);
    }

    /// Does a slice of whatever is due. Returns whether there is more to do at once.
    pub fn step<S: Maintained>(&mut self, now: Now, swarms: &mut S) -> bool {
        let gauges = &self.reporting.counters.swarms;
        swarms.publish(gauges);
        for family in IpFamily::ALL {
            gauges.get(family).evicted.set(*self.evicted.get(family));
        }
        if now.seconds >= self.next_report_seconds {
            self.next_report_seconds = now.seconds + self.report_interval_seconds;
            self.reporting.report.set_clients(self.clients.iter());
        }
        if !swarms.may_clean(now) {
            return false;
        }
        let slice = self.cleaning.slice(now, S::MAPS, |map, cursor, budget| {
            let cleaner = &mut Cleaner {
                now: now.seconds,
                clients: &mut self.clients,
                room: &mut self.room,
                histograms: self.histograms.as_mut(),
            };
            swarms.clean(map, cursor, budget, cleaner)
        });
        if let Slice::Finished { micros } = slice {
            self.room.pass_ended();
            swarms.pass_ended();
            let micros = usize::try_from(micros).unwrap_or(usize::MAX);
            self.reporting.counters.cleaning_micros.set(micros);
            if let Some(histograms) = &mut self.histograms {
                let finished = mem::replace(histograms, empty_histograms());
                self.reporting.report.set_histograms(finished);
            }
        }
        slice == Slice::More
    }
}
