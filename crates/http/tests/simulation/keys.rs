//! The keys of clients, where the tracker wants some.
//!
//! Requests of all kinds have the key of somebody who may have any number of peers, or none that is
//! served. The key that may have few peers is used only while nothing else is on its way, since
//! nobody sees from outside in which order a tracker has looked at requests for several torrents.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::SocketAddr;

use aquatic_http::counters::Reason;
use aquatic_keys::{KeyList, KeyMode, SharedKeys};
use aquatic_types::{InfoHash, PeerStatus};
use fastrand::Rng;

use super::requests::{Meaning, Readable, Request, TORRENTS, torrent};
use super::world::World;

/// As operators write it.
const FILE: &str = "free\nfew peers=2\nover until=2001-01-31\n";

const FEW_MAX: usize = 2;

/// The system's clock, long after the end of a key.
const UNIX_SECONDS: i64 = 1_800_000_000;

const MISSING: (Reason, &str) = (Reason::KeyMissing, "the announce URL has no key");
const UNKNOWN: (Reason, &str) = (Reason::KeyUnknown, "unknown key in the announce URL");
const ENDED: (Reason, &str) = (Reason::KeyExpired, "this key has ended on 2001-01-31");
const FULL: (Reason, &str) = (Reason::KeyPeerLimit, "this key has 2 peers already");

/// Those of a tracker.
pub(crate) fn shared(mode: KeyMode) -> SharedKeys {
    let list = KeyList::parse(FILE.as_bytes()).expect("a file of keys");
    let keys = SharedKeys::new(mode, list);
    keys.set_unix_seconds(UNIX_SECONDS);
    keys
}

/// A target of a client that has any key, or none.
pub(crate) fn with_any_key(target: String, meaning: Meaning, rng: &mut Rng) -> (String, Meaning) {
    let readable = match &meaning {
        Meaning::Announce(..) => Readable::Announce,
        Meaning::Scrape(_) | Meaning::FullScrape => Readable::Scrape,
        Meaning::Failure(Reason::FullScrape, ..) => Readable::Scrape,
        // Nobody looks for a key in what cannot be read.
        _ => return (target, meaning),
    };
    let (key, (reason, words)) = match rng.u8(..20) {
        // What stands before `announce` is taken for one.
        0 if target.starts_with("/x/") => (None, UNKNOWN),
        0 => (None, MISSING),
        1 => (Some("stranger"), UNKNOWN),
        2 => (Some("over"), ENDED),
        _ => return (with_key(&target, "free"), meaning),
    };
    let target = key.map_or_else(|| target.clone(), |key| with_key(&target, key));
    (target, Meaning::Failure(reason, words, readable))
}

/// A target with a key behind its other parameters.
pub(crate) fn with_key(target: &str, key: &str) -> String {
    let join = match target.contains('?') {
        true => '&',
        false => '?',
    };
    format!("{target}{join}passkey={key}")
}

/// The peers of the key that may have few: until when each is active.
#[derive(Debug, Default)]
pub(crate) struct Few(BTreeMap<(InfoHash, SocketAddr), u32>);

impl Few {
    /// Whether the key has room for whoever announces, and allows the torrent.
    fn announce(
        &mut self,
        request: &Request,
        now: u32,
        age_max: u32,
        allowed: &BTreeSet<InfoHash>,
    ) -> bool {
        let Meaning::Announce(announce, _) = &request.meaning else {
            return true;
        };
        let is_allowed = allowed.contains(&announce.torrent);
        self.0.retain(|_, until| now < *until);
        let peer = (announce.torrent, announce.peer);
        if announce.status == PeerStatus::Stopped {
            self.0.remove(&peer);
            return true;
        }
        let has_room = self.0.contains_key(&peer) || self.0.len() < FEW_MAX;
        if is_allowed && has_room {
            self.0.insert(peer, now + age_max);
        }
        has_room || !is_allowed
    }
}

impl World {
    /// Clients announce under the key that may have few peers, one after the other.
    pub(crate) fn announce_under_few(&mut self) {
        if self.keys.mode() == KeyMode::Off {
            return;
        }
        for _ in 0..self.rng.u8(..6) {
            let worker = self.rng.usize(..self.tracker.hubs.len());
            self.open(worker);
            let (now, age_max) = (self.now().seconds.0, self.config.cleaning.max_peer_age);
            let torrents = (0..TORRENTS).map(torrent);
            let allowed: BTreeSet<_> = torrents.filter(|it| self.lists.allows(it)).collect();
            let mut few = mem::take(&mut self.few);
            self.send_some(self.links_made - 1, |place, rng| {
                let mut request = place.announce_under("few", rng);
                if !few.announce(&request, now, age_max, &allowed) {
                    let (reason, words) = FULL;
                    request.meaning = Meaning::Failure(reason, words, Readable::Announce);
                }
                request
            });
            self.few = few;
            self.come_to_rest();
        }
    }
}
