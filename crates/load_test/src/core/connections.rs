//! What is counted about connections, by the testers that have some.

use serde::Serialize;

/// Counts from the beginning of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionCounts {
    /// Connections that were opened: TCP, and whatever handshakes come after it.
    pub opened: u64,
    /// Those with a TLS handshake in which the tracker proved who it is.
    pub full_handshakes: u64,
    /// Those whose TLS handshake took up an earlier session.
    pub resumed_handshakes: u64,
    /// Those that the tracker closed while nothing was asked, although they were to be kept.
    pub closed_idle: u64,
}

impl ConnectionCounts {
    /// Adds the counts of another worker.
    pub fn add(&mut self, other: Self) {
        self.opened += other.opened;
        self.full_handshakes += other.full_handshakes;
        self.resumed_handshakes += other.resumed_handshakes;
        self.closed_idle += other.closed_idle;
    }
}
