//! What the tester has chosen for all clients.

use std::net::SocketAddr;

/// What all clients go by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientOptions {
    pub(crate) server: SocketAddr,
    /// See [`Plan`](crate::stream::Plan).
    pub(crate) keep_alive: bool,
    /// See [`Plan`](crate::stream::Plan).
    pub(crate) pipelining_depth: usize,
    pub(crate) late_after_micros: u64,
    pub(crate) lost_after_micros: u64,
}
