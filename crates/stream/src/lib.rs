//! TCP and TLS connections for trackers.

#![forbid(unsafe_code)]

mod bounds;
mod connections;
mod counters;
mod handler;
#[cfg(target_os = "linux")]
pub mod preflight;
pub mod proxy_header;
mod trusted;

pub use bounds::Bounds;
pub use connections::Connections;
pub use counters::{Closed, Handshake, Refused, StreamCounters};
pub use handler::{Client, ConnectionId, Deadline, Handler, Io};
pub use trusted::{Network, NetworkError, TrustedProxies};

/// Bytes that are read from a connection at once.
pub const READ_BYTES_MAX: usize = 16 * 1024;
