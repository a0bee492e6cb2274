//! Who may use a private tracker: keys in announce URLs, with end dates and limits of peers.
//!
//! An operator keeps the keys in a file, one per line, and gives each user an announce URL with a
//! key in it. The daemon parses the file ([`KeyList::parse`]), shares the list among its workers
//! ([`SharedKeys`]), and replaces it when told to read the file again. Each worker finds the key of
//! a request ([`key_in_url`]) and asks through a reader of its own ([`KeyReader`]).
//!
//! # What is protected, and what is not
//!
//! A key is a secret, so nothing here prints one: neither errors nor `Debug` do. The look-up goes
//! by a hash with a random secret, so the time that an answer takes tells a stranger nothing about
//! the bytes of keys that exist. It does tell how long a presented key is, and whether a key is
//! known, which the answer says anyway. Short keys can be guessed; the daemon's limit of requests
//! per client slows that down. Keys in announce URLs travel in the clear, but for TLS.
//!
//! Not done here: opening files, catching signals, reading clocks, and removing peers whose key has
//! ended: they are forgotten like all that no longer announce.
//!
//! ```
//! use aquatic_keys::{Announcer, KeyList, KeyMode, KeyRefusal, SharedKeys, key_in_url};
//! use aquatic_types::Seconds;
//!
//! let file = "# users\n3xAmpleKeyOfAlice peers=1 # Alice\n";
//! let keys = SharedKeys::new(KeyMode::Require, KeyList::parse(file.as_bytes())?);
//!
//! let mut reader = keys.reader(); // one per worker
//! let mut announce = |path: &str, port: u16| {
//!     let announcer = Announcer {
//!         now: Seconds(0),
//!         age_seconds_max: Some(1_200),
//!         peer: ([192, 0, 2, 1], port),
//!     };
//!     reader.admit(key_in_url(path.as_bytes(), b""), announcer)
//! };
//! assert_eq!(announce("/3xAmpleKeyOfAlice/announce", 6_881), Ok(()));
//! assert!(matches!(
//!     announce("/announce/3xAmpleKeyOfAlice", 6_882),
//!     Err(KeyRefusal::PeerLimit(_))
//! ));
//! assert_eq!(announce("/announce", 6_881), Err(KeyRefusal::Missing));
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

mod active_peers;
mod end_date;
mod list;
mod refusal;
mod shared;
mod url;

pub use end_date::{EndDate, EndDateError};
pub use list::{
    KEY_BYTES_MAX, KEY_LINE_BYTES_MAX, Key, KeyEntry, KeyList, KeyListError, KeyListErrorKind,
};
pub use refusal::KeyRefusal;
pub use shared::{Announcer, ForgettingCursor, KeyMode, KeyReader, Replaced, SharedKeys};
pub use url::key_in_url;
