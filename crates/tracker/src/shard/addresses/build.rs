//! All shards of a tracker, made from its configuration.

use std::sync::Arc;

use aquatic_access_list::SharedAccessList;
use aquatic_config::LimitsConfig;
use aquatic_swarm::HashKey;

use super::{AddressShard, AddressSwarmsParts, AddressSwarmsSettings};
use crate::config::{AddressLimitsConfig, MetricsConfig};
use crate::entropy::Entropy;
use crate::limits::{bytes_per_shard, peers_per_ip, per_shard_and_address};
use crate::metrics::counters::{Protocol, WorkerCounters};
use crate::metrics::report::ShardReport;
use crate::shard::maintenance::{MaintenanceSettings, Reporting};

/// The keys that concern the shards of a tracker whose peers are addresses.
#[derive(Clone, Copy, Debug)]
pub struct AddressShardConfig<'a> {
    /// The section `limits`.
    pub limits: &'a LimitsConfig,
    /// The same section, as far as it is about addresses.
    pub addresses: &'a AddressLimitsConfig,
    /// The section `metrics`.
    pub metrics: &'a MetricsConfig,
    /// `protocol.max_response_peers_per_ip`.
    pub response_peers_per_ip_max: u8,
    /// `cleaning.max_peer_age`, in seconds.
    pub peer_age_seconds_max: u32,
    /// `cleaning.torrent_cleaning_interval`, in seconds.
    pub cleaning_interval_seconds: u32,
}

impl AddressShardConfig<'_> {
    /// Makes as many shards as there are `reports`. Their owners count in `owners`.
    ///
    /// # Errors
    /// If the source of randomness fails.
    pub fn shards<P: Protocol>(
        &self,
        owners: &[Arc<WorkerCounters<P>>],
        reports: &[Arc<ShardReport>],
        access_list: &SharedAccessList,
        hash_key: HashKey,
        entropy: &mut impl Entropy,
    ) -> anyhow::Result<Vec<AddressShard>> {
        let settings = self.settings(reports.len());
        let peers_per_ip = peers_per_ip(self.limits);
        let mut shards = Vec::new();
        for (report, counters) in reports.iter().zip(owners) {
            let parts = AddressSwarmsParts {
                hash_key,
                rng_seed: entropy.number()?,
                access_list: access_list.reader(),
                peers_per_ip: peers_per_ip.clone(),
                reporting: Reporting::new(counters, report),
            };
            let counts_clients = self.metrics.peer_clients;
            shards.push(AddressShard::new(counts_clients, settings, parts));
        }
        Ok(shards)
    }

    fn settings(&self, shards: usize) -> AddressSwarmsSettings {
        let of_address = self.response_peers_per_ip_max;
        AddressSwarmsSettings {
            limits: per_shard_and_address(self.limits, shards, self.addresses, of_address),
            peer_age_seconds_max: self.peer_age_seconds_max,
            maintenance: MaintenanceSettings {
                bytes_max: bytes_per_shard(self.limits, shards),
                cleaning_interval_seconds: self.cleaning_interval_seconds,
                report_interval_seconds: u32::try_from(self.metrics.interval).unwrap_or(u32::MAX),
                peer_histograms: self.metrics.torrent_peer_histograms,
            },
        }
    }
}
