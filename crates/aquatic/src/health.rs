//! Where `--health` asks: the operator's endpoint, or without one what clients are served at.

use aquatic_daemon::health_check::{HealthCheck, Probe};

use crate::config::Config;

impl HealthCheck for Config {
    fn probe(&self) -> Option<Probe> {
        let udp = || self.udp.network.probe().filter(|_| self.udp.enabled);
        let http = || {
            self.http
                .network
                .stream
                .probe()
                .filter(|_| self.http.enabled)
        };
        let ws = || self.ws.network.stream.probe().filter(|_| self.ws.enabled);
        let endpoint = self.metrics.probe();
        endpoint.or_else(udp).or_else(http).or_else(ws)
    }
}
