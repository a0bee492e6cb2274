//! What is counted about connections, by the testers that have some.

use std::iter::Sum;

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

impl Sum for ConnectionCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, counts| Self {
            opened: sum.opened + counts.opened,
            full_handshakes: sum.full_handshakes + counts.full_handshakes,
            resumed_handshakes: sum.resumed_handshakes + counts.resumed_handshakes,
            closed_idle: sum.closed_idle + counts.closed_idle,
        })
    }
}
