//! What is counted apart: kinds of requests.

use crate::core::kind::Kind;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// The peers of a torrent.
    Announce,
    /// The sizes of swarms.
    Scrape,
}

/// What is counted about requests.
pub type Tally = crate::stream::kinds::Tally<RequestKind>;

/// A request, as far as its answer must be judged by it: `item` is the number of entries that its
/// answer should have, or for announces may have.
pub type Asked = crate::core::tally::Asked<RequestKind>;

impl Kind for RequestKind {
    const ALL: &'static [Self] = &[Self::Announce, Self::Scrape];

    fn key(self) -> &'static str {
        match self {
            Self::Announce => "announce",
            Self::Scrape => "scrape",
        }
    }
}
