//! Metrics for Prometheus, over HTTP.
//!
//! What is told to the `metrics` facade is exported, and beside it what that cannot say truly: see
//! [`exposition`](crate::exposition). Both are put together when Prometheus asks.

use std::net::SocketAddr;

use anyhow::Context;
use metrics::{Unit, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::endpoint::{Listener, Response, Routes};
use crate::exposition::{CONTENT_TYPE, Exposition};
use crate::process::Process;
use crate::supervisor::Supervisor;

const BUILD_INFO: &str = "aquatic_build_info";

type Writer = Box<dyn FnMut(&mut Exposition) + Send>;

/// An endpoint that is about to serve metrics.
pub struct MetricsEndpoint {
    listener: Listener,
    recorder: PrometheusHandle,
    process: Process,
    writers: Vec<Writer>,
}

impl MetricsEndpoint {
    /// Files that an endpoint has open at most.
    pub const FILES_MAX: usize = Listener::FILES_MAX + Process::FILES_MAX;

    /// Binds the address, and collects from now on what the process tells the `metrics` facade.
    /// To be called before privileges are dropped.
    ///
    /// # Errors
    /// If the address cannot be bound, or if this is the second call.
    pub fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let failure = || format!("cannot run the Prometheus endpoint at {address}");
        let listener = Listener::bind(address).with_context(failure)?;
        let recorder = PrometheusBuilder::new()
            .install_recorder()
            .with_context(failure)?;
        describe_gauge!(
            BUILD_INFO,
            Unit::Count,
            "1, with the version of the program"
        );
        // All crates of the family have the same version.
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1);
        Ok(Self {
            listener,
            recorder,
            process: Process::open(),
            writers: Vec::new(),
        })
    }

    /// Has `write` add, whenever Prometheus asks, what cannot be told to the facade.
    pub fn also(&mut self, write: impl FnMut(&mut Exposition) + Send + 'static) {
        self.writers.push(Box::new(write));
    }

    /// Serves at `http://ADDRESS/metrics`, in a thread of its own.
    ///
    /// # Errors
    /// If there is no thread.
    pub fn start(self, supervisor: &Supervisor) -> anyhow::Result<()> {
        let Self {
            listener,
            recorder,
            mut process,
            mut writers,
        } = self;
        let address = listener.address();
        let routes = Routes::default().with("/metrics", move || {
            let mut text = Exposition::default();
            process.write(&mut text);
            writers.iter_mut().for_each(|write| write(&mut text));
            Response::ok(CONTENT_TYPE, recorder.render() + &text.into_text())
        });
        supervisor.spawn("metrics", move || listener.serve(routes))?;
        log::info!("metrics at http://{address}/metrics");
        Ok(())
    }
}
