//! The BitTorrent tracker protocol over HTTP: bytes to values and back.
//!
//! Both directions of [BEP 3] and what was added to it: peers of both IP families ([BEP 7]),
//! partial seeds in scrapes ([BEP 21]), compact peers ([BEP 23]), the client's own address
//! ([BEP 24]), when to try again ([BEP 31]) and scrapes ([BEP 48]); and as much of HTTP/1.0 and 1.1
//! (RFC 9112) as lies around them. So a tracker and a load tester speak through the same code.
//!
//! A request has two layers, and each can be wrong in its own way. The head of an HTTP message is
//! read by [`Head::parse`]; what is wrong there is answered with an HTTP status. The query inside
//! is read by [`Request::parse`]; what is wrong there is answered in words, with status 200, since
//! clients throw away the body of any other answer. Only a path that is not a tracker's gets a 404.
//!
//! | | parse | write |
//! |---|---|---|
//! | what clients send | [`Head::parse`], then [`Request::parse`] | [`Request::write`] |
//! | what trackers answer | [`ResponseHead::parse`], then [`Response::parse`] | [`Response::write`] (or that of one kind), [`Status::write`] |
//!
//! Parsing borrows from the bytes, which may end anywhere, and never panics, whatever they are. An
//! announce is read without touching the heap. Writing appends to the caller's buffer a message
//! whose size was computed first.
//!
//! Clients differ in details, so parsing is tolerant where that is harmless; see [`Request`]. What
//! cannot be served is refused with an error that names the parameter.
//!
//! What this crate deliberately does not do: sockets, TLS, limits on sizes and counts, deciding
//! whose address to believe. The bodies of requests are refused, since no request needs one.
//!
//! ```
//! use aquatic_http_protocol::{FailureResponse, Head, Request, Response, ResponseHead};
//!
//! // A client asks, but forgets to say who it is ...
//! let bytes = b"GET /announce?info_hash=%aa%bb123456789012345678&port=6881 HTTP/1.1\r\n\r\n";
//! let head = Head::parse(bytes)?.ok_or("the head is not whole")?;
//! let error = Request::parse(head.path, head.query).unwrap_err();
//!
//! // ... the tracker tells it ...
//! let mut answer = Vec::new();
//! let failure = FailureResponse {
//!     reason: error.reason().as_bytes(),
//!     interval_seconds: None,
//!     min_interval_seconds: None,
//!     retry: None,
//! };
//! failure.write(head.framing, &mut answer);
//!
//! // ... and the client reads the answer.
//! let head = ResponseHead::parse(&answer)?.ok_or("the head is not whole")?;
//! let Response::Failure(failure) = Response::parse(&answer[head.size..])? else {
//!     return Err("a failure was written".into());
//! };
//! assert_eq!(failure.reason, b"peer_id is missing");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [BEP 3]: https://www.bittorrent.org/beps/bep_0003.html
//! [BEP 7]: https://www.bittorrent.org/beps/bep_0007.html
//! [BEP 21]: https://www.bittorrent.org/beps/bep_0021.html
//! [BEP 23]: https://www.bittorrent.org/beps/bep_0023.html
//! [BEP 24]: https://www.bittorrent.org/beps/bep_0024.html
//! [BEP 31]: https://www.bittorrent.org/beps/bep_0031.html
//! [BEP 48]: https://www.bittorrent.org/beps/bep_0048.html

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

mod bencode;
mod error;
mod head;
mod info_hashes;
mod parameters;
mod peers;
mod request;
mod response;
mod response_head;
mod scrape;
mod sink;

pub use error::{HeadError, RequestError, ResponseError};
pub use head::{Connection, Framing, HEADERS_MAX, Head};
pub use info_hashes::InfoHashes;
pub use peers::PeerForm;
pub use request::{AnnounceRequest, Request, ScrapeRequest, Target};
pub use response::{AnnounceResponse, FailureResponse, Response, Retry};
pub use response_head::{
    BodilessResponse, BodySize, ResponseHead, Status, TextResponse, write_as_last,
};
pub use scrape::{ScrapeFile, ScrapeResponse};
