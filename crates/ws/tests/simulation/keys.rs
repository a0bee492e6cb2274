//! The keys of clients, where the tracker wants some.

use std::collections::BTreeMap;

use aquatic_keys::{KeyList, KeyMode, SharedKeys};
use aquatic_types::Seconds;

/// As operators write it.
const FILE: &str = "free\nfew peers=3\nover until=2001-01-31\n";

/// Peers that [`FEW`] may have.
pub(crate) const FEW_MAX: usize = 3;

/// The system's clock, long after the end of a key.
const UNIX_SECONDS: i64 = 1_800_000_000;

/// What those are told whose key has as many peers as it may have.
pub(crate) const FULL: &str = "this key has 3 peers already";

const MISSING: &str = "the announce URL has no key";
const UNKNOWN: &str = "unknown key in the announce URL";
const ENDED: &str = "this key has ended on 2001-01-31";

/// What a client is told whatever it asks for.
pub(crate) const REFUSALS: [&str; 3] = [MISSING, UNKNOWN, ENDED];

/// What a client has for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientKey {
    /// The URL to which it connects.
    pub(crate) path: &'static str,
    /// Why it is not served, if it is not.
    pub(crate) refusal: Option<&'static str>,
}

/// A key for any number of peers.
pub(crate) const FREE: ClientKey = ClientKey {
    path: "/free",
    refusal: None,
};

/// One that many clients share.
pub(crate) const FEW: ClientKey = ClientKey {
    path: "/few/announce",
    refusal: None,
};

/// What most clients have, or some.
pub(crate) fn any(rng: &mut fastrand::Rng) -> ClientKey {
    let refused = |path, refusal| ClientKey {
        path,
        refusal: Some(refusal),
    };
    match rng.u8(..12) {
        0 => refused("/", MISSING),
        1 => refused("/stranger", UNKNOWN),
        2 => refused("/announce/over", ENDED),
        3..7 => FEW,
        _ => FREE,
    }
}

/// Those of a tracker.
pub(crate) fn shared(mode: KeyMode) -> SharedKeys {
    let list = KeyList::parse(FILE.as_bytes()).expect("a file of keys");
    let keys = SharedKeys::new(mode, list);
    keys.set_unix_seconds(UNIX_SECONDS);
    keys
}

/// How many peers are active under [`FEW`].
pub(crate) fn active(keys: &SharedKeys, now: Seconds) -> usize {
    let list = keys.list();
    let few = list.get(b"few").expect("a key of the file");
    keys.active_peers(few, now).expect("it has a limit")
}

/// Which client has which key, as far as clients need one.
#[derive(Debug, Default)]
pub(crate) struct KeysOfClients(pub(crate) BTreeMap<usize, ClientKey>);

impl KeysOfClients {
    /// Why a client is not served, if it is not.
    pub(crate) fn refusal(&self, client: usize) -> Option<&'static str> {
        self.0.get(&client).and_then(|key| key.refusal)
    }

    /// Whether a client has the key that may have few peers.
    pub(crate) fn is_limited(&self, client: usize) -> bool {
        self.0.get(&client) == Some(&FEW)
    }
}
