//! TCP and TLS connections for trackers.
//!
//! A daemon brings a protocol (a [`Handler`]), and gets connections: accepted, counted and capped,
//! encrypted if need be, with deadlines and with bounds on what they may hold. Nothing here knows
//! what the bytes mean; HTTP and WebTorrent are served over the same code.
//!
//! ```text
//!              bytes, ends, failures                 open, receive, input_ended, closed
//!   loop  ─────────────────────────────▶  Hub  ──────────────────────────────────────▶  Handler
//!  (mio or ◀────────────────────────────  PROXY header, TLS,  ◀──────────────────────  (http, ws)
//!  glommio)  output, what to do next      bounds, deadlines    Io, Connections::with
//! ```
//!
//! Everything that decides is in the [`Hub`], which moves no bytes and reads no clock. So both
//! event loops drive the same code, and so do tests and simulations, with bytes and a clock of
//! their own.
//!
//! **Memory.** An idle connection holds some 200 bytes plain, and some 4 KiB encrypted (nearly all
//! of it rustls' state); the session of the protocol comes on top. What is read goes into one
//! buffer per worker, and only what a session cannot use yet is kept with the connection. Buffers
//! for output are lent for as long as something waits to be sent.
//!
//! **Bounds.** What a connection may make us keep is bounded in both directions ([`Bounds`]). Who
//! does not take what we send is not read from, and finally closed. Each state has a deadline, but
//! for waiting for ourselves. What all of them hold is bounded, too (`memory`).
//!
//! | module | contents |
//! |---|---|
//! | `handler` | the contract with the protocol: [`Handler`], [`Io`], [`Client`] |
//! | `hub`, `connections`, `bounds` | what happens to connections: [`Hub`], [`Connections`] |
//! | `tls` | encryption, certificates and their reload: [`TlsConfig`] |
//! | `admission`, `open_files`, `limit_notes` | how many connections there may be: [`Admission`] |
//! | `denied` | connections of networks that are not served |
//! | `memory`, `kernel` | what all of them hold, and may hold: [`SessionState`], [`KernelBytes`] |
//! | `eviction` | which of them give way when there is no room for another, or no memory |
//! | [`proxy_header`], `reverse_proxy`, `forwarded`, `trusted` | who the client behind a proxy is |
//! | [`mio`], `glommio`, `event_loop` | the event loops, and what they have in common |
//! | `runtime`, [`preflight`] | which event loop: [`run`] |
//! | `listener`, `socket_workers` | sockets that accept, and their threads: [`SocketWorkers`] |
//! | `config`, `advice` | what an operator can set, and hardly means: [`StreamConfig`] |
//! | `counters`, `metrics` | what is counted: [`StreamCounters`] |
//!
//! A worker is started like this (`examples/hello.rs` is a whole program):
//!
//! ```no_run
//! # use aquatic_stream::{Handler, Hub, HubOptions, Runtime, bind_listeners, run};
//! # use aquatic_config::Addresses;
//! # use aquatic_daemon::clock::Clock;
//! # fn start<H: Handler + 'static>(handler: H, options: HubOptions) -> anyhow::Result<()> {
//! let runtime = Runtime::Auto.choose(1)?;
//! let addresses = Addresses::new(vec!["0.0.0.0:3000".parse()?])?;
//! let listeners = bind_listeners(&addresses, 1, 1_024)?;
//! let handle = runtime.wait_handle()?;
//! let batch_wait = std::time::Duration::from_micros(200);
//! let listeners = listeners.into_iter().flatten().collect();
//! run(Hub::new(handler, options), listeners, handle, Clock::start(), batch_wait, None)
//! # }
//! ```

#![forbid(unsafe_code)]

mod admission;
mod advice;
mod bounds;
mod config;
mod connection;
mod connections;
mod counters;
mod denied;
mod event_loop;
mod eviction;
mod forwarded;
#[cfg(all(target_os = "linux", feature = "glommio"))]
pub mod glommio;
#[cfg(not(all(target_os = "linux", feature = "glommio")))]
#[path = "glommio/absent.rs"]
pub mod glommio;
mod handler;
mod hub;
mod kept;
mod kernel;
mod limit_notes;
mod listener;
mod memory;
mod metrics;
pub mod mio;
mod open_files;
#[cfg(all(target_os = "linux", feature = "glommio"))]
pub mod preflight;
pub mod proxy_header;
mod reverse_proxy;
mod runtime;
mod socket_workers;
mod tls;
mod trusted;

pub use admission::Admission;
pub use bounds::{Bounds, Deadlines, READ_CHUNK_BYTES};
pub use config::{ConnectionLimitsConfig, HeaderFormat, Runtime, StreamConfig};
pub use connections::Connections;
pub use counters::{Closed, Handshake, Refused, StreamCounters};
pub use denied::DeniedClients;
pub use handler::{Client, ConnectionKey, Handler, Io, WaitingFor};
pub use hub::{Hub, HubOptions, IoAction};
pub use listener::bind_listeners;
pub use memory::{KernelBytes, SessionState};
pub use metrics::{CERTIFICATE_EXPIRY, StreamMetrics};
pub use reverse_proxy::{ProxyRefusal, ReverseProxy};
pub use runtime::{ChosenRuntime, EventSource, run};
pub use socket_workers::{
    MakeGuest, SocketWorkers, Started, StreamSettings, check_tls, load_tls, reload_tls, tls_files,
};
pub use tls::{TlsConfig, TlsError};
pub use trusted::TrustedProxies;
