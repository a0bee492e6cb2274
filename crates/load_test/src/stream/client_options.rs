//! What the tester has chosen for all clients.

use std::net::SocketAddr;

/// How connections are used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// How many there are, all workers together; at a time, if they are not kept.
    pub connections: usize,
    /// Keep connections open. Otherwise, each request gets a connection of its own.
    pub keep_alive: bool,
    /// Requests of each connection that may wait for their answers.
    pub pipelining_depth: usize,
}

/// What all clients go by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientOptions {
    pub(crate) server: SocketAddr,
    pub(crate) usage: Usage,
    pub(crate) late_after_micros: u64,
    pub(crate) lost_after_micros: u64,
}
