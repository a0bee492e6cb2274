//! What is counted apart: what can go wrong, and connections.

use std::iter::Sum;
use std::ops::AddAssign;

use serde::Serialize;

use crate::core::kind::Kind;

/// What can go wrong, but for answers that are late or do not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A connection that could not be opened, or whose handshake failed.
    ConnectFailed,
    /// A connection that ended although something was still to come. What was asked and not
    /// answered is lost too.
    ClosedEarly,
    /// A connection that was still open when the tracker should have closed it.
    NotClosed,
    /// Bytes that are no answer to anything. What was asked on that connection is lost.
    Malformed,
    /// An answer to something else than what was asked. The request is lost too.
    WrongKind,
    /// An answer with too many entries, or too few.
    WrongCount,
}

/// What is counted about requests.
pub type Tally<R> = crate::core::tally::Tally<R, Fault>;

/// What is counted about connections, from the beginning of the run.
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

impl Kind for Fault {
    const ALL: &'static [Self] = &[
        Self::ConnectFailed,
        Self::ClosedEarly,
        Self::NotClosed,
        Self::Malformed,
        Self::WrongKind,
        Self::WrongCount,
    ];

    fn key(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect_failed",
            Self::ClosedEarly => "closed_early",
            Self::NotClosed => "not_closed",
            Self::Malformed => "malformed",
            Self::WrongKind => "wrong_kind",
            Self::WrongCount => "wrong_count",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connections that could not be opened",
            Self::ClosedEarly => "connections closed too early",
            Self::NotClosed => "connections not closed after the answer",
            Self::Malformed => "malformed answers",
            Self::WrongKind => "answers of the wrong kind",
            Self::WrongCount => "answers with a wrong number of entries",
        }
    }
}

impl AddAssign for ConnectionCounts {
    fn add_assign(&mut self, other: Self) {
        self.opened += other.opened;
        self.full_handshakes += other.full_handshakes;
        self.resumed_handshakes += other.resumed_handshakes;
        self.closed_idle += other.closed_idle;
    }
}

impl Sum for ConnectionCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}
