//! Where an answer goes.

use aquatic_http_protocol::Framing;
use aquatic_stream::ConnectionKey;

/// The way back to a client, within the socket worker that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseTarget {
    /// Where the answer goes.
    pub connection: ConnectionKey,
    /// How it must look as HTTP.
    pub framing: Framing,
}
