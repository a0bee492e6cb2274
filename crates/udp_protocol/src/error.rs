//! Why bytes are not a message.

use std::fmt::{self, Display, Formatter};

use crate::{ConnectionId, TransactionId};

/// Why a packet is not a request that can be served, and whether its sender may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// What is wrong.
    pub kind: RequestErrorKind,
    /// Set if the packet is an announce or a scrape in all but one detail, so that an error
    /// response makes sense. The connection id has not been checked: check it first, and make the
    /// answer no larger than the packet, or strangers can have the tracker flood an address that
    /// they do not own.
    pub answerable: Option<(ConnectionId, TransactionId)>,
}

/// What is wrong with a packet that should have been a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestErrorKind {
    /// Fewer bytes than any request, or than a request with this action, must have.
    TooShort,
    /// The action is not connect, announce or scrape.
    UnknownAction,
    /// The action is connect, but the packet does not start with [`crate::PROTOCOL_ID`].
    NotConnect,
    /// An announce whose sender claims to listen on port 0, where no one can reach it.
    PortZero,
    /// A scrape without one whole info hash.
    NoInfoHash,
}

impl Display for RequestErrorKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "too short for a request",
            Self::UnknownAction => "unknown action",
            Self::NotConnect => "connect request without the protocol id",
            Self::PortZero => "port is 0",
            Self::NoInfoHash => "scrape without an info hash",
        })
    }
}

impl std::error::Error for RequestErrorKind {}

impl Display for RequestError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.kind, f)
    }
}

impl std::error::Error for RequestError {}

/// Why a packet is not a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseError {
    /// Fewer bytes than any response, or than a response with this action, must have.
    TooShort,
    /// The action is not connect, announce, scrape or error.
    UnknownAction(u32),
}

impl Display for ResponseError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => f.write_str("too short for a response"),
            Self::UnknownAction(action) => write!(f, "unknown action {action}"),
        }
    }
}

impl std::error::Error for ResponseError {}
