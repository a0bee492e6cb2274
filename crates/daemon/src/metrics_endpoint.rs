//! The operator's endpoint: metrics for Prometheus, and whatever else a daemon serves there.
//!
//! What is told to the `metrics` facade is exported, and beside it what that cannot say truly: see
//! [`exposition`](crate::exposition). Both are put together when Prometheus asks.
//!
//! Every daemon has `/metrics`, `/health` (from the binding of its address to the very end) and
//! `POST /reload`.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use anyhow::Context;
use aquatic_config::PrivilegeConfig;
use metrics::{Unit, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::endpoint::{
    EarlyServer, Guard, HEALTH_PATH, Post, Request, Response, Routes, Server, SocketFile,
    UnixSocket, health,
};
use crate::exposition::{CONTENT_TYPE, Exposition};
use crate::memory_at_hand::MemoryAtHand;
use crate::privileges;
use crate::process::{Process, approximate};
use crate::sandbox::Needs;
use crate::supervisor::Supervisor;
use crate::token_file::TokenFile;

const BUILD_INFO: &str = "aquatic_build_info";

const MEMORY_AT_HAND: &str = "aquatic_memory_at_hand_bytes";
const CPUS_AT_HAND: &str = "aquatic_cpus_at_hand";

/// A reload needs no body; whoever sends one has a reason that is unknown here.
const RELOAD_BODY_BYTES_MAX: usize = 1_024;

type Writer = Box<dyn FnMut(&mut Exposition) + Send>;

/// What an operator has set about the endpoint.
#[derive(Clone, Copy, Debug)]
pub struct EndpointSettings<'a> {
    /// Where it serves over TCP, if it does.
    pub address: Option<SocketAddr>,
    /// Where it serves at a Unix socket, if it does.
    pub unix_socket: Option<&'a Path>,
    /// The file with the token, if there is one.
    pub token_file: Option<&'a Path>,
    /// Names by which browsers may ask, besides `localhost` and IP addresses.
    pub allowed_hosts: &'a [String],
    /// The user whose the socket is.
    pub privileges: &'a PrivilegeConfig,
}

/// An endpoint that is about to serve.
pub struct MetricsEndpoint {
    server: EarlyServer,
    address: Option<SocketAddr>,
    socket_file: Option<SocketFile>,
    /// What the socket is called, for the log.
    socket_name: Option<String>,
    token_file: Option<TokenFile>,
    guard: Guard,
    recorder: PrometheusHandle,
    process: Process,
    writers: Vec<Writer>,
    routes: Routes,
}

impl MetricsEndpoint {
    /// Files that an endpoint has open at most.
    pub const FILES_MAX: usize = Server::FILES_MAX + 2 * Process::FILES_MAX;

    /// Binds the address and the socket, reads the token, and collects from now on what the process
    /// tells the `metrics` facade. Whoever asks is told that the daemon starts. To be called before
    /// privileges are dropped.
    ///
    /// # Errors
    /// If one of them cannot be had, or if this is the second call.
    pub fn bind(settings: EndpointSettings<'_>, supervisor: &Supervisor) -> anyhow::Result<Self> {
        let failure = || match settings.address {
            Some(address) => format!("cannot run the Prometheus endpoint at {address}"),
            None => "cannot run the Prometheus endpoint".to_owned(),
        };
        let privileges = settings.privileges;
        let token_file = settings.token_file;
        let token_file = token_file.map(|path| TokenFile::load(path, privileges));
        let token_file = token_file.transpose().with_context(failure)?;
        let owner = privileges::owner(privileges)?;
        let socket = settings.unix_socket;
        let socket = socket.map(|path| UnixSocket::bind(path, owner));
        let socket = socket.transpose().with_context(failure)?;
        let socket_file = socket.as_ref().map(|socket| socket.file().clone());
        let mut server = Server::bind(settings.address, socket).with_context(failure)?;
        let recorder = PrometheusBuilder::new()
            .install_recorder()
            .with_context(failure)?;
        tell_what_does_not_change();
        if let Some(file) = socket_file.clone() {
            supervisor.at_end(move || file.remove());
        }
        let guard = || {
            let token = token_file.as_ref().map(|file| file.token().clone());
            Guard::new(token, settings.allowed_hosts)
        };
        let early = Routes::default().guarded_by(guard()).while_starting();
        // There is no action yet.
        drop(server.set_routes(early.with(HEALTH_PATH, health(supervisor.clone()))));
        let guard = guard();
        let address = server.address()?;
        let server = EarlyServer::new(server);
        server.resume();
        Ok(Self {
            server,
            address,
            socket_file,
            socket_name: settings.unix_socket.map(|path| path.display().to_string()),
            token_file,
            guard,
            recorder,
            process: Process::open(),
            writers: Vec::new(),
            routes: Routes::default(),
        })
    }

    /// Whether an operator can show who it is.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.token_file.is_some()
    }

    /// What the endpoint needs of the sandbox.
    #[must_use]
    pub fn needs(&self, privileges: &PrivilegeConfig) -> Needs {
        let of_token = self.token_file.as_ref().map(|file| file.needs(privileges));
        let mut needs = of_token.unwrap_or_default();
        let folder = self.socket_file.as_ref().and_then(SocketFile::folder);
        needs.removes.extend(folder.cloned());
        needs
    }

    /// Does `work` while no thread of the endpoint is there.
    pub fn apart_from<R>(endpoint: Option<&Self>, work: impl FnOnce() -> R) -> R {
        if let Some(endpoint) = endpoint {
            endpoint.server.pause();
        }
        let result = work();
        if let Some(endpoint) = endpoint {
            endpoint.server.resume();
        }
        result
    }

    /// Has `write` add, whenever Prometheus asks, what cannot be told to the facade.
    pub fn also(&mut self, write: impl FnMut(&mut Exposition) + Send + 'static) {
        self.writers.push(Box::new(write));
    }

    /// Has `page` answer for `path` besides: for one path, or, if it ends with `/`, for those
    /// [below](Routes::with_below) it. It is called by the thread of the endpoint.
    pub fn serve_page(
        &mut self,
        path: &'static str,
        page: impl FnMut(&Request<'_>) -> Response + Send + 'static,
    ) {
        let routes = std::mem::take(&mut self.routes);
        self.routes = match path.len() > 1 && path.ends_with('/') {
            true => routes.with_below(path, page),
            false => routes.with(path, page),
        };
    }

    /// Has `page` answer for `path` to clients that show the operator's token.
    pub fn serve_private_page(
        &mut self,
        path: &'static str,
        page: impl FnMut(&Request<'_>) -> Response + Send + 'static,
    ) {
        let routes = std::mem::take(&mut self.routes);
        self.routes = routes.with_private(path, page);
    }

    /// Has `action` done when a client that shows the operator's token asks for it, by POST: see
    /// [`Routes::with_action`].
    pub fn serve_action(
        &mut self,
        path: &'static str,
        body_bytes_max: usize,
        action: impl FnMut(Post) -> Response + Send + 'static,
    ) {
        let routes = std::mem::take(&mut self.routes);
        self.routes = routes.with_action(path, body_bytes_max, action);
    }

    /// Serves at `http://ADDRESS/metrics`, in a thread of its own, and does actions in another one.
    /// Returns what reads the token again.
    ///
    /// # Errors
    /// If there is no thread.
    pub fn start(self, supervisor: &Supervisor) -> anyhow::Result<impl FnMut() + use<>> {
        let Self {
            server,
            address,
            socket_name,
            token_file,
            guard,
            recorder,
            mut process,
            mut writers,
            routes,
            ..
        } = self;
        let routes = routes
            .guarded_by(guard)
            .with("/metrics", move |_| {
                let mut text = Exposition::default();
                process.write(&mut text);
                writers.iter_mut().for_each(|write| write(&mut text));
                Response::ok(CONTENT_TYPE, recorder.render() + &text.into_text())
            })
            .with(HEALTH_PATH, health(supervisor.clone()))
            .with_action("/reload", RELOAD_BODY_BYTES_MAX, reload(supervisor.clone()));
        let has_live_page = routes.has_page("/");
        let mut server = server.into_server().context("the endpoint is lost")?;
        let worker = server.set_routes(routes);
        supervisor.spawn("actions", move || worker.run())?;
        supervisor.spawn("metrics", move || server.serve())?;
        if let Some(address) = address {
            log::info!("metrics at http://{address}/metrics");
            if has_live_page {
                log::info!("live page at http://{address}/");
            }
        }
        if let Some(name) = socket_name {
            log::info!("metrics at /metrics of the socket {name}");
        }
        Ok(move || {
            if let Some(file) = &token_file {
                file.reload();
            }
        })
    }
}

/// What metrics say of the program and the machine, as of the start.
fn tell_what_does_not_change() {
    describe_gauge!(
        BUILD_INFO,
        Unit::Count,
        "1, with the version of the program"
    );
    // All crates of the family have the same version.
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1);
    if let Some(memory) = MemoryAtHand::find() {
        describe_gauge!(
            MEMORY_AT_HAND,
            Unit::Bytes,
            "What the process may take before the kernel ends it, as of the start"
        );
        gauge!(MEMORY_AT_HAND).set(approximate(memory.bytes));
    }
    let cpus = thread::available_parallelism();
    if let Some(cpus) = cpus.ok().and_then(|cpus| u32::try_from(cpus.get()).ok()) {
        describe_gauge!(
            CPUS_AT_HAND,
            Unit::Count,
            "CPUs that the process may use, as of the start"
        );
        gauge!(CPUS_AT_HAND).set(f64::from(cpus));
    }
}

/// What SIGHUP does.
fn reload(supervisor: Supervisor) -> impl FnMut(Post) -> Response + Send {
    move |_| match supervisor.reload() {
        Some(report) => {
            let status = if report.errors.is_empty() { 200 } else { 422 };
            Response::json(status, report.to_json())
        }
        None => {
            let reason = "the daemon starts or stops, or is about to reload anyway: try again";
            Response::error(503, reason)
        }
    }
}
