//! Where `--health` asks: the operator's endpoint, or without one what clients are served at.

use aquatic_daemon::health_check::{HealthCheck, Probe};

use crate::config::Config;

impl HealthCheck for Config {
    fn probe(&self) -> Option<Probe> {
        let endpoint = self.metrics.probe();
        endpoint.or_else(|| self.network.stream.probe())
    }
}
