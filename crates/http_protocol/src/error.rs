//! Why bytes are not a message.

use std::fmt::{self, Display, Formatter};

use crate::Status;

/// Why the head of a request cannot be answered but with an HTTP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeadError {
    /// Not HTTP/1.0 or 1.1.
    Malformed,
    /// A method other than GET and HEAD.
    Method,
    /// A body, which no request needs.
    Body,
    /// More than [`crate::HEADERS_MAX`] header lines.
    TooManyHeaders,
}

impl HeadError {
    /// What the client is told.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::Malformed | Self::Body => Status::BadRequest,
            Self::Method => Status::MethodNotAllowed,
            Self::TooManyHeaders => Status::HeadTooLarge,
        }
    }
}

impl Display for HeadError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not an HTTP/1.1 request",
            Self::Method => "method is not GET or HEAD",
            Self::Body => "request with a body",
            Self::TooManyHeaders => "too many headers",
        })
    }
}

impl std::error::Error for HeadError {}

/// Why a path and a query are not a request that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestError {
    /// The path is that of neither announces nor scrapes: answered with [`Status::NotFound`]. All
    /// other errors are answered in words, with a [`crate::FailureResponse`].
    UnknownPath,
    /// There is no `info_hash`.
    InfoHashMissing,
    /// An `info_hash` that has not 20 bytes.
    InfoHashSize,
    /// There is no `peer_id`.
    PeerIdMissing,
    /// A `peer_id` that has not 20 bytes.
    PeerIdSize,
    /// There is no `port`.
    PortMissing,
    /// A `port` that is not a number from 1 to 65,535.
    PortInvalid,
}

impl RequestError {
    /// What the client is told.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::UnknownPath => "path is not /announce or /scrape",
            Self::InfoHashMissing => "info_hash is missing",
            Self::InfoHashSize => "info_hash does not have 20 bytes",
            Self::PeerIdMissing => "peer_id is missing",
            Self::PeerIdSize => "peer_id does not have 20 bytes",
            Self::PortMissing => "port is missing",
            Self::PortInvalid => "port is not a number from 1 to 65535",
        }
    }
}

impl Display for RequestError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for RequestError {}

/// Why bytes are not a tracker's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseError {
    /// The head is not that of an HTTP/1.x response.
    Head,
    /// The body is no bencoded dictionary.
    Bencode,
    /// The dictionary has nothing in it that an announce, a scrape or a failure must have.
    UnknownKind,
}

impl Display for ResponseError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "not an HTTP/1.x response",
            Self::Bencode => "the body is not a bencoded dictionary",
            Self::UnknownKind => "neither peers nor swarm sizes nor a failure reason",
        })
    }
}

impl std::error::Error for ResponseError {}
