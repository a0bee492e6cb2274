//! The WebTorrent tracker protocol: JSON messages to values and back.
//!
//! Browsers cannot accept connections, so they meet through the tracker: a peer announces itself
//! over a WebSocket together with a few WebRTC offers, the tracker forwards each offer to another
//! peer of the swarm, that peer answers, and the tracker carries the answer back. No BEP describes
//! this. What holds is what the clients do: those of the `bittorrent-tracker` package, which
//! WebTorrent is built on.
//!
//! | | parse | write |
//! |---|---|---|
//! | what clients send: [`AnnounceRequest`], [`AnswerRequest`], [`ScrapeRequest`] | [`Request::parse`] | [`Message::write`] |
//! | what trackers send: [`AnnounceResponse`], [`ForwardedOffer`], [`ForwardedAnswer`], [`ScrapeResponse`], [`FailureResponse`] | [`Response::parse`] | [`Message::write`] |
//!
//! - The 20 bytes of an info hash, a peer id or an offer id are a string of 20 characters from
//!   U+0000 to U+00FF, one per byte.
//! - **Offers and answers are nobody's business but the peers'.** They are borrowed from the
//!   message as the JSON that they are, and written as they came.
//! - Parsing is tolerant where that is harmless (see [`Request`]), reads a message once, from its
//!   start to its end, and never panics, whatever the bytes are. It takes time and memory in
//!   proportion to the message, whose size the caller has to bound; nesting is bounded here, by
//!   [`DEPTH_MAX`].
//! - Writing appends to the caller's buffer a message whose size was computed first. It is always
//!   valid JSON, provided that the offers and answers given to it are.
//!
//! What this crate deliberately does not do: WebSocket frames, limits on sizes and counts, deciding
//! who gets which offer.
//!
//! ```
//! use aquatic_ws_protocol::{Message, Request, Response};
//!
//! // A client asks, but forgets to say who it is ...
//! let message = r#"{"action": "announce", "info_hash": "\u00aa\u00bb3456789012345678é0"}"#;
//! let error = Request::parse(message.as_bytes()).unwrap_err();
//!
//! // ... the tracker tells it ...
//! let mut answer = Vec::new();
//! error.response().write(&mut answer);
//!
//! // ... and the client reads the answer.
//! let Response::Failure(failure) = Response::parse(&answer)? else {
//!     panic!("a failure was written");
//! };
//! assert_eq!(failure.reason, "peer_id is missing");
//! let info_hash = failure.info_hash.map(|it| it.0);
//! assert_eq!(info_hash, Some(*b"\xaa\xbb3456789012345678\xe90"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod action;
mod error;
mod json;
mod message;
mod offer;
mod request;
mod response;
mod scrape;
mod text;

pub use action::Action;
pub use error::{RequestError, RequestErrorKind, ResponseError};
pub use json::{DEPTH_MAX, is_json};
pub use message::Message;
pub use offer::{Offer, OfferFault, OfferId, SkippedOffers};
pub use request::{AnnounceRequest, AnswerRequest, Request, ScrapeRequest};
pub use response::{AnnounceResponse, FailureResponse, ForwardedAnswer, ForwardedOffer, Response};
pub use scrape::{ScrapeFile, ScrapeResponse};
