//! Prometheus over HTTP.

use std::net::SocketAddr;

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusBuilder;

/// Collects all metrics of the process from now on and serves them at `http://ADDRESS/metrics`,
/// in a thread of its own, which also does the upkeep of histograms.
///
/// # Errors
/// If the address cannot be bound, or if this is the second call.
pub fn start(address: SocketAddr) -> anyhow::Result<()> {
    PrometheusBuilder::new()
        .with_http_listener(address)
        .install()
        .with_context(|| format!("cannot run the Prometheus endpoint at {address}"))?;
    log::info!("Prometheus endpoint at http://{address}/metrics");
    Ok(())
}
