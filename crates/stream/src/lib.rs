//! TCP and TLS connections for trackers.

#![forbid(unsafe_code)]

mod admission;
mod bounds;
mod config;
mod connections;
mod counters;
#[cfg(target_os = "linux")]
pub mod glommio;
mod handler;
mod hub;
mod listener;
mod metrics;
pub mod mio;
#[cfg(target_os = "linux")]
pub mod preflight;
pub mod proxy_header;
mod reverse_proxy;
mod runtime;
mod socket_workers;
mod tls;
mod trusted;

pub use admission::Admission;
pub use bounds::Bounds;
pub use config::{HeaderFormat, Runtime, StreamConfig};
pub use connections::Connections;
pub use counters::{Closed, Handshake, Refused, StreamCounters};
pub use handler::{Client, ConnectionId, Deadline, Handler, Io};
pub use hub::{Hub, HubOptions, Settled};
pub use listener::bind_listeners;
pub use metrics::StreamMetrics;
pub use reverse_proxy::{ProxyRefusal, ReverseProxy};
pub use runtime::{ChosenRuntime, Post};
pub use socket_workers::{SocketWorkers, StreamSettings, load_tls, reload_tls};
pub use tls::{TlsConfig, TlsError};
pub use trusted::{Network, NetworkError, TrustedProxies};

/// Bytes that are read from a connection at once.
pub const READ_BYTES_MAX: usize = 16 * 1024;
