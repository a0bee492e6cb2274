//! How much and how long a connection may keep us busy.

/// Bytes that are read from a connection at once.
pub const READ_CHUNK_BYTES: usize = 16 * 1024;

/// Bounds on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Seconds for the PROXY header and the TLS handshake.
    pub handshake_seconds: u32,
    /// Seconds from the first byte of a request to its last
    /// ([`WaitingFor::Request`](crate::WaitingFor::Request)), and for opening the connection and
    /// sending the first request.
    pub request_seconds: u32,
    /// Seconds between two requests ([`WaitingFor::Idle`](crate::WaitingFor::Idle)), and for
    /// reading some of what is sent.
    pub idle_seconds: u32,
    /// Bytes that are kept, untaken by the session, before nothing more is read. What is read at
    /// once ([`READ_CHUNK_BYTES`]) may come on top.
    pub input_bytes_max: usize,
    /// Bytes that may wait to be sent. A connection to which more is to be sent is closed. A
    /// quarter of them is enough to stop reading from it.
    pub output_bytes_max: usize,
}

/// Those of the bounds that can change while there are connections, in seconds. They hold for waits
/// that begin afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// [`Bounds::handshake_seconds`].
    pub handshake: u32,
    /// [`Bounds::request_seconds`].
    pub request: u32,
    /// [`Bounds::idle_seconds`].
    pub idle: u32,
}

impl Bounds {
    /// The deadlines among them.
    #[must_use]
    pub fn deadlines(&self) -> Deadlines {
        Deadlines {
            handshake: self.handshake_seconds,
            request: self.request_seconds,
            idle: self.idle_seconds,
        }
    }

    /// The same with other deadlines.
    pub(crate) fn set_deadlines(&mut self, deadlines: Deadlines) {
        self.handshake_seconds = deadlines.handshake;
        self.request_seconds = deadlines.request;
        self.idle_seconds = deadlines.idle;
    }

    /// Seconds that a client has to end its side of a connection that we have closed.
    pub const LINGER_SECONDS: u32 = 2;

    /// Bytes that are read from a client, and thrown away, after we have closed the connection: so
    /// that it gets to read why, but not for as long as it likes to send.
    pub const LINGER_BYTES_MAX: usize = 256 * 1024;

    /// Bytes that are read from a client that has gone, because they may matter to others.
    pub const REST_BYTES_MAX: usize = 64 * 1024;

    /// Bytes that wait to be sent while reading goes on.
    #[must_use]
    pub fn output_bytes_reading_max(&self) -> usize {
        self.output_bytes_max / 4
    }
}
