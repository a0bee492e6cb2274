//! A daemon in one screen: tells over UDP whether an info hash is served.
//!
//! A datagram of 20 bytes is answered. Anything else ends the worker, to show what happens then:
//! by a panic if it says so, else by an error.

use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use aquatic_access_list::SharedAccessList;
use aquatic_config::{
    AccessListConfig, Checks, Config, LogLevel, OldSpellings, PrivilegeConfig, section,
};
use aquatic_daemon::access_list::AccessListEditor;
use aquatic_daemon::metrics_endpoint::{EndpointSettings, MetricsEndpoint};
use aquatic_daemon::reload::Reloader;
use aquatic_daemon::supervisor::Supervisor;
use aquatic_daemon::{access_list, bind, cli, heartbeat, privileges, sandbox, signals};
use aquatic_types::InfoHash;

/// How long an idle worker waits before it looks after its access list.
const ROUND_MAX: Duration = Duration::from_millis(100);

section! {
    /// Configuration of a minimal daemon.
    pub struct MinimalConfig {
        /// How much is logged: off, error, warn, info, debug or trace.
        pub log_level: LogLevel = LogLevel::default(),
        /// Seconds without any sign of life after which a thread hangs.
        pub hang_timeout: u64 = 60,
        /// Where to listen.
        pub address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 3000)),
        pub statistics: StatisticsConfig,
        pub privileges: PrivilegeConfig,
        pub access_list: AccessListConfig,
    }
}

section! {
    /// What is counted.
    pub struct StatisticsConfig {
        /// Serve Prometheus at the address below.
        pub run_prometheus_endpoint: bool = false,
        /// The address of the Prometheus endpoint.
        pub prometheus_endpoint_address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9000)),
    }
}

impl Config for MinimalConfig {
    fn rewrite_old_spellings(old: &mut OldSpellings<'_, '_>) {
        old.rename("metrics", "statistics");
    }

    fn check(&self, checks: &mut Checks) {
        checks.require(self.address.port() != 0, "address", "needs a port");
        access_list::advise(&self.access_list, checks);
        privileges::advise(&self.privileges, checks);
    }

    fn inspect(&self, checks: &mut Checks) {
        if privileges::check(&self.privileges, &["access list"], checks) {
            access_list::check(&self.access_list, checks);
        }
    }

    fn log_level(&self) -> LogLevel {
        self.log_level
    }
}

fn main() -> ExitCode {
    let app = cli::App {
        name: "minimal",
        version: env!("CARGO_PKG_VERSION"),
        about: "Tells over UDP whether an info hash is served",
        after_help: signals::HELP,
    };
    cli::run(app, |config, file| {
        let config: MinimalConfig = config;
        let hang_timeout = Duration::from_secs(config.hang_timeout);
        let reloader = Reloader::new(file, config.clone(), &config.privileges);
        Supervisor::run(hang_timeout, move |supervisor| {
            start(supervisor, config, reloader)
        })
    })
}

/// Returns what is done at a reload.
fn start(
    supervisor: &Supervisor,
    config: MinimalConfig,
    mut reloader: Reloader<MinimalConfig>,
) -> anyhow::Result<impl FnMut() + use<>> {
    let socket =
        UdpSocket::bind(config.address).map_err(|error| bind::error(config.address, &error))?;
    let statistics = &config.statistics;
    let endpoint = statistics
        .run_prometheus_endpoint
        .then(|| {
            let settings = EndpointSettings {
                address: Some(statistics.prometheus_endpoint_address),
                unix_socket: None,
                token_file: None,
                allowed_hosts: &[],
                privileges: &config.privileges,
            };
            MetricsEndpoint::bind(settings, supervisor)
        })
        .transpose()?;
    privileges::drop_privileges(&config.privileges)?;
    let list = AccessListEditor::load(&config.access_list)?;
    let mut needs = reloader.file().needs(&config.privileges);
    needs.reads.extend(access_list::files(&config.access_list));
    MetricsEndpoint::apart_from(endpoint.as_ref(), || {
        sandbox::enter(&config.privileges, &needs, supervisor);
    });

    let worker_list = list.shared().clone();
    supervisor.spawn("socket-1", move || answer(&socket, &worker_list))?;
    if let Some(endpoint) = endpoint {
        let _reload_token = endpoint.start(supervisor)?;
    }
    reloader.started();
    Ok(move || {
        // Of what can be applied, the log level is all that it has.
        reloader.reload(|_| ());
        list.reload();
    })
}

fn answer(socket: &UdpSocket, list: &SharedAccessList) -> anyhow::Result<()> {
    let mut list = list.reader();
    let mut request = [0; 64];
    socket
        .set_read_timeout(Some(ROUND_MAX))
        .context("cannot set a time limit")?;
    loop {
        heartbeat::beat();
        list.refresh();
        let (size, from) = match socket.recv_from(&mut request) {
            Err(error) if [WouldBlock, Interrupted].contains(&error.kind()) => continue,
            received => received.context("cannot receive")?,
        };
        let request = &request[..size];
        let Ok(info_hash) = request.try_into().map(InfoHash) else {
            assert!(request != b"panic", "as requested");
            bail!("asked for {}", request.escape_ascii());
        };
        metrics::counter!("minimal_requests_total").increment(1);
        let answer = if list.is_allowed(&info_hash) {
            "served"
        } else {
            "not served"
        };
        socket
            .send_to(answer.as_bytes(), from)
            .context("cannot send")?;
    }
}
