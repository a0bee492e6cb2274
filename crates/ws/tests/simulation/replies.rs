//! Which of its messages about a torrent a client has got replies to.
//!
//! Replies about a torrent come in the order of the messages: an announce is always replied to, an
//! answer only if it is refused. A refusal that both can get does not say which of them it is for;
//! so what is kept is how many messages may have been dealt with.

use std::collections::BTreeSet;

use aquatic_test_support::lists::Lists;
use aquatic_types::InfoHash;

/// What a client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Announce,
    Answer,
}

/// What a reply is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// A message of this kind, whose torrent was allowed.
    Allowed(Sent),
    /// A message of any kind, whose torrent was not.
    Denied,
    /// A message of any kind: its client has no key.
    Keyless,
}

/// The messages of a client about a torrent.
#[derive(Debug)]
pub(crate) struct Replies {
    messages: Vec<Message>,
    /// How many of them may have been dealt with.
    dealt: BTreeSet<usize>,
}

#[derive(Debug)]
struct Message {
    kind: Sent,
    /// Where it ends, in bytes that the client has sent.
    end: usize,
    /// The access list that was in force when it was delivered, if it was.
    since: Option<usize>,
}

impl Default for Replies {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            dealt: BTreeSet::from([0]),
        }
    }
}

impl Replies {
    pub(crate) fn send(&mut self, kind: Sent, end: usize) {
        let since = None;
        self.messages.push(Message { kind, end, since });
    }

    /// So many bytes have been delivered, the last ones while this access list was in force.
    pub(crate) fn deliver(&mut self, bytes: usize, list: usize) {
        for message in self.messages.iter_mut().filter(|it| it.end <= bytes) {
            message.since.get_or_insert(list);
        }
    }

    /// A reply has come. It must be for a message that has none. Returns whether the access list
    /// was replaced while that message may have been on its way.
    pub(crate) fn come(&mut self, what: For, info_hash: &InfoHash, lists: &Lists) -> bool {
        let may_be = |since: usize, is_allowed| {
            let mut lists_since = lists.since(since);
            lists_since.any(|it| lists.allows_in(it, info_hash) == is_allowed)
        };
        let mut dealt = BTreeSet::new();
        let mut was_replaced = false;
        for before in &self.dealt {
            for (place, message) in self.messages.iter().enumerate().skip(*before) {
                let Some(since) = message.since else {
                    break;
                };
                let is_it = match what {
                    For::Allowed(kind) => kind == message.kind && may_be(since, true),
                    For::Denied => may_be(since, false),
                    For::Keyless => true,
                };
                if is_it {
                    dealt.insert(place + 1);
                    was_replaced |= since < lists.version();
                }
                // What is passed over has been dealt with in silence.
                if message.kind == Sent::Announce || !may_be(since, true) {
                    break;
                }
            }
        }
        assert!(
            !dealt.is_empty(),
            "a reply, {what:?}, to none of {:?} from {:?} on, with list {}",
            self.messages,
            self.dealt,
            lists.version()
        );
        let done = dealt.first().copied().unwrap_or(0);
        self.messages.drain(..done);
        self.dealt = dealt.into_iter().map(|it| it - done).collect();
        was_replaced
    }

    /// Whether some message has been delivered and may not have been dealt with.
    pub(crate) fn is_open(&self) -> bool {
        let first = self.dealt.first().copied().unwrap_or(0);
        let mut rest = self.messages.iter().skip(first);
        rest.any(|it| it.since.is_some())
    }

    /// Whether all announces may have been replied to.
    pub(crate) fn is_complete(&self) -> bool {
        self.dealt.iter().any(|dealt| {
            let mut rest = self.messages.iter().skip(*dealt);
            rest.all(|it| it.kind == Sent::Answer)
        })
    }
}
