//! What any tracker can change while it serves, besides its
//! [shards](crate::shard::addresses::LiveAddressShards) and its front ends.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use aquatic_config::LimitsConfig;
use aquatic_daemon::live::LiveSettings;

use crate::config::{MetricsConfig, SnapshotPlan};
use crate::limits::ClientLimits;
use crate::persistence::snapshotter::Snapshotter;

/// A way to change it.
#[derive(Clone, Debug)]
pub struct LiveTracker {
    limits: ClientLimits,
    metrics_interval: LiveSettings<Duration>,
    snapshot_intervals: Vec<LiveSettings<Duration>>,
}

impl LiveTracker {
    /// Of a tracker whose workers share `limits`, and which is written down by these, if it is.
    #[must_use]
    pub fn new<'a>(
        limits: ClientLimits,
        metrics: &MetricsConfig,
        snapshotters: impl IntoIterator<Item = &'a Snapshotter>,
    ) -> Self {
        let snapshotters = snapshotters.into_iter();
        Self {
            limits,
            metrics_interval: LiveSettings::new(Duration::from_secs(metrics.interval)),
            snapshot_intervals: snapshotters.map(|it| it.interval().clone()).collect(),
        }
    }

    /// How often metrics are updated. For those who do it.
    #[must_use]
    pub fn metrics_interval(&self) -> LiveSettings<Duration> {
        self.metrics_interval.clone()
    }

    /// Has everybody go by these keys from now on.
    pub fn set(
        &self,
        limits: &LimitsConfig,
        metrics: &MetricsConfig,
        snapshots: Option<SnapshotPlan<'_>>,
    ) {
        let rate = NonZeroU32::new(limits.requests_per_second_per_ip);
        self.limits.request_rate.set(rate);
        if let Some(peers_per_ip) = &self.limits.peers_per_ip {
            peers_per_ip.set_max(NonZeroUsize::new(limits.max_peers_per_ip));
        }
        let interval = Duration::from_secs(metrics.interval);
        self.metrics_interval.set(interval);
        for interval in &self.snapshot_intervals {
            if let Some(plan) = snapshots {
                interval.set(plan.interval);
            }
        }
    }
}
