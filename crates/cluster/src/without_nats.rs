//! A program that was built without the way to NATS servers: it cannot take part in a cluster.

use std::sync::Arc;

use anyhow::bail;
use aquatic_channel::Waker;
use aquatic_daemon::clock::Now;
use aquatic_daemon::sandbox::Needs;
use aquatic_tracker::announces::Announces;
use aquatic_tracker::launch::Launch;
use aquatic_tracker::shard::addresses::AddressShards;
use aquatic_tracker::shard::addresses::outbox::SharedRefreshInterval;

use crate::config::{ClusterConfig, ListConfigs, Lives};
use crate::counters::Counters;
use crate::nodes::NodeStates;
use crate::replica::Replica;

/// A tracker that takes part in a cluster: there is none.
#[derive(Clone, Copy, Debug)]
pub enum Cluster {}

/// The same.
pub type StartedCluster = Cluster;

impl Cluster {
    /// `None` if swarms are shared with nobody.
    ///
    /// # Errors
    /// If they should be.
    pub fn prepare(
        config: &ClusterConfig,
        _: impl Into<Lives>,
        _: (&str, u16),
        _: ListConfigs<'_>,
    ) -> anyhow::Result<Option<Self>> {
        if config.is_on() {
            bail!("`cluster.servers`: this program was built without the feature `cluster`");
        }
        Ok(None)
    }

    /// There is none.
    #[must_use]
    pub fn refresh(&self) -> SharedRefreshInterval {
        match *self {}
    }

    /// There is none.
    #[must_use]
    pub fn announces(&self) -> Option<Announces> {
        match *self {}
    }

    /// There is none.
    #[must_use]
    pub fn waker(&self) -> Waker {
        match *self {}
    }

    /// There is none.
    #[must_use]
    pub fn states(&self) -> NodeStates {
        match *self {}
    }

    /// There is none.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        match *self {}
    }

    /// There is none.
    pub fn share(&mut self, _: impl Replica + 'static) {
        match *self {}
    }

    /// There is none.
    pub fn share_addresses(&mut self, _: &mut AddressShards) {
        match *self {}
    }

    /// There is none.
    #[must_use]
    pub fn needs(&self) -> Needs {
        match *self {}
    }

    /// There is none.
    ///
    /// # Errors
    /// Never.
    pub fn start(
        self,
        _: &mut Launch<'_>,
        _: impl FnMut(Now) -> usize,
    ) -> anyhow::Result<StartedCluster> {
        match self {}
    }

    /// There is none.
    pub fn set_lives(&self, _: impl Into<Lives>) {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use crate::config::PeerLives;

    use super::*;

    fn prepare(config: &ClusterConfig) -> anyhow::Result<Option<Cluster>> {
        let lives = PeerLives {
            announce_interval: 120,
            peer_age: 1_200,
            peer_age_max: 1_200,
        };
        let lists = ListConfigs {
            access_list: &Default::default(),
            keys: &Default::default(),
        };
        Cluster::prepare(config, lives, ("udp", 3_000), lists)
    }

    #[test]
    fn a_cluster_that_is_asked_for_is_an_error_and_none_is_not() {
        assert!(prepare(&ClusterConfig::default()).unwrap().is_none());
        let config = ClusterConfig {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            ..ClusterConfig::default()
        };
        let error = prepare(&config).unwrap_err().to_string();
        let reason = "`cluster.servers`: this program was built without the feature `cluster`";
        assert_eq!(error, reason);
    }
}
