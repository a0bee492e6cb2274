//! What is counted apart: kinds of messages.

use crate::core::kind::Kind;

/// What is sent and what comes for it. Each message of the tracker belongs to one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// An announce and its reply.
    Announce,
    /// A scrape and its reply.
    Scrape,
    /// An offer, from the announce that carried it to the client that it is forwarded to. It is
    /// noted when it arrives: whether a tracker ought to forward it depends on who is there.
    Offer,
    /// An answer. It is noted when it is sent, and answered when the client that made the offer has
    /// it. Its time counts from the announce that carried the offer: it is the round trip that a
    /// browser waits for.
    Answer,
    /// A reply to an answer, which some trackers send as if it were an announce. It is noted when
    /// it comes, and its time counts from the last answer that was sent on its connection.
    AnswerReply,
}

/// What is counted about requests.
pub type Tally = crate::stream::kinds::Tally<RequestKind>;

/// A request, as far as its answer must be judged by it. `item` is the number of torrents that a
/// scrape is about.
pub type Asked = crate::core::tally::Asked<RequestKind>;

impl Kind for RequestKind {
    const ALL: &'static [Self] = &[
        Self::Announce,
        Self::Scrape,
        Self::Offer,
        Self::Answer,
        Self::AnswerReply,
    ];

    fn key(self) -> &'static str {
        match self {
            Self::Announce => "announce",
            Self::Scrape => "scrape",
            Self::Offer => "offer",
            Self::Answer => "answer",
            Self::AnswerReply => "re_answer",
        }
    }
}
