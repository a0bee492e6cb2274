//! The BitTorrent tracker protocol over UDP: bytes to values and back.
//!
//! Both directions of [BEP 15] and the announce options of [BEP 41], so that a tracker and a load
//! tester speak through the same code.
//!
//! A client first sends a [`ConnectRequest`] and gets a [`ConnectionId`], which shows that it owns
//! the address it sends from. With that it announces ([`AnnounceRequest`]) and scrapes
//! ([`ScrapeRequest`]) until the id expires. Each answer repeats the request's [`TransactionId`].
//!
//! | | parse | write |
//! |---|---|---|
//! | what clients send | [`Request::parse`] | [`Request::write`] |
//! | what trackers answer | [`Response::parse`] | [`Response::write`], or piece by piece: [`AnnounceHeader`] then compact peers, [`write_scrape_header`] then [`ScrapeRow`]s |
//! | announce options | [`url_data`] | [`write_url_data`] |
//!
//! Parsing borrows from the packet, copies no list, and never panics, whatever the bytes are.
//! Writing appends to the caller's buffer. All numbers are big endian on the wire.
//!
//! Clients differ in details, so parsing is tolerant where that is harmless: **minimum** sizes
//! decide, bytes after a whole message are legal, and an unknown event means no event. What cannot
//! be served is refused with a [`RequestError`] that also says whether it may be answered.
//!
//! What this crate deliberately does not do: sockets, making and checking connection ids, limits
//! on counts, choosing the words of an error message.
//!
//! ```
//! use aquatic_types::IpFamily;
//! use aquatic_udp_protocol::{
//!     ConnectRequest, ConnectResponse, ConnectionId, Request, Response, TransactionId,
//! };
//!
//! // The client asks ...
//! let mut packet = Vec::new();
//! let transaction_id = TransactionId(*b"abcd");
//! Request::Connect(ConnectRequest { transaction_id }).write(&mut packet);
//!
//! // ... the tracker answers ...
//! let Ok(Request::Connect(request)) = Request::parse(&packet) else {
//!     panic!("a connect request was written");
//! };
//! let answer = ConnectResponse {
//!     transaction_id: request.transaction_id,
//!     connection_id: ConnectionId(*b"8 bytes."),
//! };
//! packet.clear();
//! answer.write(&mut packet);
//!
//! // ... and the client reads the answer.
//! assert_eq!(Response::parse(&packet, IpFamily::V4), Ok(Response::Connect(answer)));
//! ```
//!
//! [BEP 15]: https://www.bittorrent.org/beps/bep_0015.html
//! [BEP 41]: https://www.bittorrent.org/beps/bep_0041.html

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

mod error;
mod fields;
mod id;
mod info_hashes;
mod options;
mod request;
mod response;
mod rows;

pub use error::{RequestError, RequestErrorKind, ResponseError};
pub use id::{ConnectionId, TransactionId};
pub use info_hashes::InfoHashes;
pub use options::{UrlData, url_data, write_url_data};
pub use request::{AnnounceRequest, ConnectRequest, Request, ScrapeRequest};
pub use response::{
    AnnounceHeader, AnnounceResponse, ConnectResponse, ErrorResponse, Response, ScrapeResponse,
    write_scrape_header,
};
pub use rows::{PeerRows, ScrapeRow, ScrapeRows};

/// The first 8 bytes of a connect request, in place of a connection id.
pub const PROTOCOL_ID: [u8; 8] = 0x0417_2710_1980_u64.to_be_bytes();

/// Bytes that start every request: connection id (or [`PROTOCOL_ID`]), action, transaction id.
pub const REQUEST_HEADER_SIZE: usize = 8 + 4 + 4;

/// Bytes of a connect request: nothing but the header.
pub const CONNECT_REQUEST_SIZE: usize = REQUEST_HEADER_SIZE;

/// Bytes of an announce request without options: header, info hash, peer id, three amounts,
/// event, IP address, key, number of peers wanted, port.
pub const ANNOUNCE_REQUEST_SIZE: usize =
    REQUEST_HEADER_SIZE + INFO_HASH_SIZE + 20 + 3 * 8 + 4 + 4 + 4 + 4 + 2;

/// Bytes of a scrape request for one torrent; each further one adds [`INFO_HASH_SIZE`].
pub const SCRAPE_REQUEST_SIZE_MIN: usize = REQUEST_HEADER_SIZE + INFO_HASH_SIZE;

/// Bytes of an info hash in a request.
pub const INFO_HASH_SIZE: usize = 20;

/// Bytes of a connect response: action, transaction id, connection id.
pub const CONNECT_RESPONSE_SIZE: usize = 4 + 4 + 8;

/// Bytes of an announce response before its peers: action, transaction id, interval, leechers,
/// seeders. Each peer adds 6 (IPv4) or 18 (IPv6), see [`aquatic_types::CompactAddr::SIZE`].
pub const ANNOUNCE_RESPONSE_HEADER_SIZE: usize = 5 * 4;

/// Bytes of a scrape response before its rows: action, transaction id.
pub const SCRAPE_RESPONSE_HEADER_SIZE: usize = 4 + 4;

/// Bytes of one torrent in a scrape response: seeders, completed, leechers.
pub const SCRAPE_ROW_SIZE: usize = 3 * 4;

/// Bytes of an error response before its message: action, transaction id.
pub const ERROR_RESPONSE_HEADER_SIZE: usize = 4 + 4;

/// What a message is about: its `action` field (BEP 15).
mod action {
    pub(crate) const CONNECT: u32 = 0;
    pub(crate) const ANNOUNCE: u32 = 1;
    pub(crate) const SCRAPE: u32 = 2;
    pub(crate) const ERROR: u32 = 3;
}
