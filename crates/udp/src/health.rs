//! Where `--health` asks: the operator's endpoint, or without one what clients are served at.

use aquatic_daemon::health_check::{HealthCheck, Probe};

use crate::config::{Config, NetworkConfig};

impl NetworkConfig {
    /// Where another process on this machine finds out whether clients are served.
    #[must_use]
    pub fn probe(&self) -> Option<Probe> {
        self.address.iter().next().map(Probe::Udp)
    }
}

impl HealthCheck for Config {
    fn probe(&self) -> Option<Probe> {
        let endpoint = self.statistics.metrics.probe();
        endpoint.or_else(|| self.network.probe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe_of(file: &str) -> Option<Probe> {
        let loaded = aquatic_config::load::<Config>(file).unwrap();
        loaded.config.probe()
    }

    #[test]
    fn the_endpoint_comes_before_clients() {
        let udp = Probe::Udp("0.0.0.0:3000".parse().unwrap());
        assert_eq!(probe_of(""), Some(udp));
        let at_socket = "[statistics]\nendpoint_unix_socket = \"/run/endpoint\"\n";
        let socket = Probe::EndpointSocket("/run/endpoint".into());
        assert_eq!(probe_of(at_socket), Some(socket));
        let at_address = format!("{at_socket}run_prometheus_endpoint = true\n");
        let address = Probe::Endpoint("127.0.0.1:9000".parse().unwrap());
        assert_eq!(probe_of(&at_address), Some(address));
    }
}
