//! Why a message is none, or cannot be served.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};

use aquatic_types::InfoHash;

use crate::json::JsonError;
use crate::{Action, FailureResponse};

/// Why a message is not a request that can be served, and what could be read of it nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// What is wrong.
    pub kind: RequestErrorKind,
    /// What the client asked for; an announce if that cannot be told. Clients close the socket on
    /// any answer without an action that they know.
    pub action: Action,
    /// The torrent, if the message names one. Clients ignore announce errors without it.
    pub info_hash: Option<InfoHash>,
}

impl RequestError {
    /// What the client is told.
    #[must_use]
    pub fn response(self) -> FailureResponse<'static> {
        FailureResponse {
            action: self.action,
            reason: Cow::Borrowed(self.kind.reason()),
            info_hash: self.info_hash,
            retry_seconds: None,
        }
    }
}

impl Display for RequestError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.reason())
    }
}

impl std::error::Error for RequestError {}

/// What can be wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestErrorKind {
    /// Bytes that are not UTF-8.
    Utf8,
    /// Not JSON, or not an object.
    Json,
    /// Arrays and objects nested deeper than [`crate::DEPTH_MAX`].
    Depth,
    /// There is no `action`.
    ActionMissing,
    /// An `action` that is neither announce nor scrape.
    ActionUnknown,
    /// There is no `info_hash`.
    InfoHashMissing,
    /// An `info_hash` that is not 20 characters for 20 bytes.
    InfoHashSize,
    /// There is no `peer_id`.
    PeerIdMissing,
    /// A `peer_id` that is not 20 characters for 20 bytes.
    PeerIdSize,
    /// An answer without `to_peer_id`.
    ToPeerIdMissing,
    /// A `to_peer_id` that is not 20 characters for 20 bytes.
    ToPeerIdSize,
    /// An answer without `offer_id`.
    OfferIdMissing,
    /// An answer's `offer_id` that is not 20 characters for 20 bytes.
    OfferIdSize,
    /// There is a `to_peer_id`, but no `answer`.
    AnswerMissing,
    /// An answer that is [larger](crate::Request::parse_within) than what is passed on.
    AnswerSize,
}

impl RequestErrorKind {
    /// What the client is told.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Utf8 => "message is not UTF-8",
            Self::Json => "message is not a JSON object",
            Self::Depth => "message is nested too deep",
            Self::ActionMissing => "action is missing",
            Self::ActionUnknown => "action is neither announce nor scrape",
            Self::InfoHashMissing => "info_hash is missing",
            Self::InfoHashSize => "info_hash is not 20 characters up to U+00FF",
            Self::PeerIdMissing => "peer_id is missing",
            Self::PeerIdSize => "peer_id is not 20 characters up to U+00FF",
            Self::ToPeerIdMissing => "to_peer_id is missing",
            Self::ToPeerIdSize => "to_peer_id is not 20 characters up to U+00FF",
            Self::OfferIdMissing => "offer_id is missing",
            Self::OfferIdSize => "offer_id is not 20 characters up to U+00FF",
            Self::AnswerMissing => "answer is missing",
            Self::AnswerSize => "answer is too large",
        }
    }
}

impl From<JsonError> for RequestErrorKind {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Malformed => Self::Json,
            JsonError::TooDeep => Self::Depth,
        }
    }
}

/// Why a message is not one of a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseError {
    /// Bytes that are not UTF-8.
    Utf8,
    /// Not JSON, not an object, or nested deeper than [`crate::DEPTH_MAX`].
    Json,
    /// The object lacks what a message of any kind must have.
    UnknownKind,
}

impl Display for ResponseError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf8 => "not UTF-8",
            Self::Json => "not a JSON object",
            Self::UnknownKind => {
                "neither a swarm's counts, an offer, an answer, files nor a failure reason"
            }
        })
    }
}

impl std::error::Error for ResponseError {}

impl From<JsonError> for ResponseError {
    fn from(_: JsonError) -> Self {
        Self::Json
    }
}
