//! The keys of clients, where the tracker wants some.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use aquatic_keys::{KeyList, KeyMode, SharedKeys};
use aquatic_types::{InfoHash, PeerStatus};
use aquatic_udp::counters::Reason;
use fastrand::Rng;

use super::model::Announce;

/// As operators write it.
const FILE: &str = "free\nfew peers=5\nover until=2001-01-31\n";

const FEW_MAX: usize = 5;

/// The system's clock, long after the end of a key.
const UNIX_SECONDS: i64 = 1_800_000_000;

/// What is said to scrapes.
pub(crate) const NO_SCRAPES: Refusal = (
    Reason::KeyMissing,
    "scrapes need a key here, and have none over UDP",
);

/// How something is counted that is refused, and what its client is told.
pub(crate) type Refusal = (Reason, &'static str);

/// The announce URL of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Url {
    /// It does not send one.
    None,
    /// There is no key in it.
    Keyless,
    Stranger,
    Over,
    Few,
    Free,
}

impl Url {
    /// What most clients have, or some.
    pub(crate) fn any(rng: &mut Rng) -> Self {
        match rng.u8(..24) {
            0 => Self::None,
            1 => Self::Keyless,
            2 => Self::Stranger,
            3 => Self::Over,
            4..8 => Self::Few,
            _ => Self::Free,
        }
    }

    pub(crate) fn text(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Keyless => Some("/announce?key=1"),
            Self::Stranger => Some("/stranger/announce"),
            Self::Over => Some("/announce/over"),
            Self::Few => Some("/announce?key=1&passkey=few"),
            Self::Free => Some("/free/announce"),
        }
    }
}

/// Who is served, by the same rules in the simplest way.
pub(crate) struct Keys {
    pub(crate) shared: SharedKeys,
    age_max: u32,
    /// The peers of the key that may have few: until when each is active.
    few: BTreeMap<(InfoHash, SocketAddr), u32>,
}

impl Keys {
    /// Keys of clients in some runs, and none in most.
    pub(crate) fn new(age_max: u32, rng: &mut Rng) -> Self {
        let list = KeyList::parse(FILE.as_bytes()).expect("a file of keys");
        let mode = match rng.u8(..4) {
            0 => KeyMode::Require,
            _ => KeyMode::Off,
        };
        let shared = SharedKeys::new(mode, list);
        shared.set_unix_seconds(UNIX_SECONDS);
        Self {
            shared,
            age_max,
            few: BTreeMap::new(),
        }
    }

    pub(crate) fn are_required(&self) -> bool {
        self.shared.mode() == KeyMode::Require
    }

    /// Why an announce is refused whatever its torrent, if it is. Who says goodbye leaves.
    pub(crate) fn refusal(&mut self, url: Url, announce: &Announce) -> Option<Refusal> {
        if url == Url::Few && announce.status == PeerStatus::Stopped {
            self.few.remove(&(announce.torrent.1, announce.peer));
        }
        let refusal = match url {
            Url::None | Url::Keyless => (
                Reason::KeyMissing,
                "the announce URL has no key, and this tracker wants one",
            ),
            Url::Stranger => (Reason::KeyUnknown, "unknown key in the announce URL"),
            Url::Over => (Reason::KeyExpired, "this key has ended on 2001-01-31"),
            Url::Few | Url::Free => return None,
        };
        self.are_required().then_some(refusal)
    }

    /// Why an announce is refused that is allowed otherwise, if it is.
    pub(crate) fn admit(&mut self, url: Url, announce: &Announce, now: u32) -> Option<Refusal> {
        let is_leaving = announce.status == PeerStatus::Stopped;
        if !self.are_required() || url != Url::Few || is_leaving {
            return None;
        }
        self.few.retain(|_, until| now < *until);
        let peer = (announce.torrent.1, announce.peer);
        if !self.few.contains_key(&peer) && self.few.len() >= FEW_MAX {
            return Some((Reason::KeyPeerLimit, "this key has 5 peers already"));
        }
        self.few.insert(peer, now + self.age_max);
        None
    }
}
