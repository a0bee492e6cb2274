//! Things that are counted apart: kinds of requests, and what can go wrong with them.
//!
//! Each tester knows some of either, and reports those only.

use fastrand::Rng;
use serde::Serialize;

/// What a request asks for. For WebTorrent, each message belongs to one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A connection id.
    Connect,
    /// The peers of a torrent.
    Announce,
    /// The sizes of swarms.
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

/// What can go wrong, but for answers that are late or do not come. Reports for scripts call each
/// by its name here, unless another one stands beside it. No tester reports both kinds of malformed
/// answers, which have one name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A connection that could not be opened, or whose handshake failed.
    ConnectFailed,
    /// A connection that ended although something was still to come. What was asked and not
    /// answered is lost too.
    ClosedEarly,
    /// A connection that was still open when the tracker should have closed it.
    NotClosed,
    /// A second answer to one request.
    Duplicate,
    /// An answer to a request that was never sent, or that had been given up as lost.
    UnknownTransaction,
    /// Bytes that are no answer to anything. What was asked on that connection is lost.
    Malformed,
    /// A datagram that is no answer.
    #[serde(rename = "malformed")]
    MalformedDatagram,
    /// An answer to something else than what was asked, such as a connect answer to an announce.
    /// The request is lost too.
    WrongKind,
    /// An answer with more peers than were wanted, or scrape rows of another number than torrents
    /// were asked about.
    WrongCount,
    /// A packet that the kernel refused to send. Its request is lost too.
    #[serde(rename = "send_failures")]
    SendFailure,
}

impl RequestKind {
    /// How many there are: the size of a table with a place for each.
    pub(crate) const COUNT: usize = Self::AnswerReply as usize + 1;

    /// What reports call it.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Announce => "announce",
            Self::Scrape => "scrape",
            Self::Offer => "offer",
            Self::Answer => "answer",
            Self::AnswerReply => "re_answer",
        }
    }
}

impl Fault {
    /// How many there are: the size of a table with a place for each.
    pub(crate) const COUNT: usize = Self::SendFailure as usize + 1;

    /// What reports for people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connections that could not be opened",
            Self::ClosedEarly => "connections closed too early",
            Self::NotClosed => "connections not closed after the answer",
            Self::Duplicate => "duplicate answers",
            Self::UnknownTransaction => "answers to unknown requests",
            Self::Malformed => "malformed answers",
            Self::MalformedDatagram => "malformed datagrams",
            Self::WrongKind => "answers of the wrong kind",
            Self::WrongCount => "answers with a wrong number of entries",
            Self::SendFailure => "requests that could not be sent",
        }
    }
}

/// How often each kind of request is chosen, in proportion to the others.
#[derive(Clone, Debug)]
pub struct Mix {
    weights: Vec<(RequestKind, u32)>,
    total: u64,
}

impl Mix {
    /// At least one of the weights must not be 0.
    #[must_use]
    pub fn new(weights: &[(RequestKind, u32)]) -> Self {
        Self {
            weights: weights.to_vec(),
            total: weights.iter().map(|(_, weight)| u64::from(*weight)).sum(),
        }
    }

    /// Draws a kind.
    #[must_use]
    pub fn sample(&self, rng: &mut Rng) -> RequestKind {
        let mut ticket = rng.u64(..self.total);
        for (kind, weight) in &self.weights {
            let weight = u64::from(*weight);
            if ticket < weight {
                return *kind;
            }
            ticket -= weight;
        }
        unreachable!("the ticket is less than the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_drawn_by_weight() {
        let mix = Mix::new(&[
            (RequestKind::Connect, 50),
            (RequestKind::Announce, 49),
            (RequestKind::Scrape, 1),
        ]);
        let mut rng = Rng::with_seed(1);
        let mut counts = [0; RequestKind::COUNT];
        for _ in 0..100_000 {
            counts[mix.sample(&mut rng) as usize] += 1;
        }
        let [connects, announces, scrapes, ..] = counts;
        assert!((48_000..50_000).contains(&announces), "{counts:?}");
        assert!((800..1200).contains(&scrapes), "{counts:?}");
        assert!((49_000..51_000).contains(&connects), "{counts:?}");
    }

    #[test]
    fn weight_zero_is_never_drawn() {
        let mix = Mix::new(&[
            (RequestKind::Connect, 0),
            (RequestKind::Announce, 1),
            (RequestKind::Scrape, 0),
        ]);
        let mut rng = Rng::with_seed(1);
        assert!((0..1000).all(|_| mix.sample(&mut rng) == RequestKind::Announce));
    }
}
