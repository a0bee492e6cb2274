//! What is counted apart: the requests of BEP 15, and what can be wrong with their answers.

use crate::core::kind::Kind;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A connection id.
    Connect,
    /// The peers of a torrent.
    Announce,
    /// The sizes of swarms.
    Scrape,
}

/// What can go wrong, but for answers that are late or do not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A second answer to one request.
    Duplicate,
    /// An answer to a request that was never sent, or that had been given up as lost.
    UnknownTransaction,
    /// A datagram that is no answer.
    Malformed,
    /// A connect answer to an announce and the like.
    WrongKind,
    /// More peers than wanted, or scrape rows of another number than asked for.
    WrongCount,
    /// A packet that the kernel refused to send. Its request is lost too.
    SendFailure,
}

/// What is counted.
pub type Tally = crate::core::tally::Tally<RequestKind, Fault>;

/// A request, as far as its answer must be judged by it.
pub type Asked = crate::core::tally::Asked<RequestKind>;

impl Kind for RequestKind {
    const ALL: &'static [Self] = &[Self::Connect, Self::Announce, Self::Scrape];

    fn key(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Announce => "announce",
            Self::Scrape => "scrape",
        }
    }
}

impl Kind for Fault {
    const ALL: &'static [Self] = &[
        Self::Duplicate,
        Self::UnknownTransaction,
        Self::Malformed,
        Self::WrongKind,
        Self::WrongCount,
        Self::SendFailure,
    ];

    fn key(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::UnknownTransaction => "unknown_transaction",
            Self::Malformed => "malformed",
            Self::WrongKind => "wrong_kind",
            Self::WrongCount => "wrong_count",
            Self::SendFailure => "send_failures",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate answers",
            Self::UnknownTransaction => "answers to unknown requests",
            Self::Malformed => "malformed datagrams",
            Self::WrongKind => "answers of the wrong kind",
            Self::WrongCount => "answers with a wrong number of entries",
            Self::SendFailure => "requests that could not be sent",
        }
    }
}
