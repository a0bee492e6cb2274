//! What shards report that is too large for counters.

use std::sync::{Mutex, PoisonError};

use aquatic_types::PerFamily;
use hdrhistogram::Histogram;

use crate::shard::client_stats::ClientPrefix;

/// How many torrents have how many peers, by IP family.
pub type PeerHistograms = PerFamily<Histogram<u32>>;

/// Histograms that count up to the largest swarm there can be, to two significant digits.
#[must_use]
pub fn empty_histograms() -> PeerHistograms {
    PerFamily {
        v4: empty_histogram(),
        v6: empty_histogram(),
    }
}

/// See [`empty_histograms`].
#[must_use]
pub fn empty_histogram<C: hdrhistogram::Counter>() -> Histogram<C> {
    const SWARM_PEERS_MAX: u64 = 1 << 24;
    const SIGNIFICANT_DIGITS: u8 = 2;
    Histogram::new_with_bounds(1, SWARM_PEERS_MAX, SIGNIFICANT_DIGITS)
        .unwrap_or_else(|error| unreachable!("these bounds are in order: {error}"))
}

/// The latest report of one shard. The locks are held for the time of a copy, every few seconds.
#[derive(Debug, Default)]
pub struct ShardReport {
    histograms: Mutex<Option<PeerHistograms>>,
    clients: Mutex<Vec<(ClientPrefix, usize)>>,
}

impl ShardReport {
    /// After a cleaning.
    pub fn set_histograms(&self, histograms: PeerHistograms) {
        *self
            .histograms
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(histograms);
    }

    /// Of the last cleaning. `None` before the first, or if they are not wanted.
    #[must_use]
    pub fn histograms(&self) -> Option<PeerHistograms> {
        self.histograms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The peers by client software.
    pub fn set_clients(&self, counts: impl Iterator<Item = (ClientPrefix, usize)>) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.clear();
        clients.extend(counts);
    }

    /// The peers by client software, a few seconds old. Empty if they are not counted.
    #[must_use]
    pub fn clients(&self) -> Vec<(ClientPrefix, usize)> {
        self.clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
