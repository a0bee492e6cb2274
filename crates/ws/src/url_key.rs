//! The key of a connection: from the path of the request that became a WebSocket.

use std::fmt::{self, Debug, Formatter};

use aquatic_keys::{KEY_BYTES_MAX, key_in_url};
use aquatic_stream::ConnectionKey;
use aquatic_types::{InfoHash, PeerId};
use thin_vec::ThinVec;

/// What stands where a key has to stand in the URL of a connection, whether it is one or not.
///
/// Kept with the connection, and looked up with each message, so that a key that is removed or ends
/// is refused from then on.
#[derive(Clone, PartialEq, Eq)]
pub struct UrlKey(ThinVec<u8>);

/// What tells a peer of a key from the others. Peer ids alone are names that anybody can give
/// themselves, so it is one over one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerOfKey {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The peer.
    pub peer_id: PeerId,
    /// The socket worker.
    pub worker: u16,
    /// Its connection.
    pub connection: ConnectionKey,
}

impl UrlKey {
    /// Of a URL with this path and query.
    #[must_use]
    pub fn of_url(path: &[u8], query: &[u8]) -> Option<Self> {
        let key = key_in_url(path, query)?;
        // One that is too long is kept so far that it still is.
        let key = key.get(..=KEY_BYTES_MAX).unwrap_or(key);
        Some(Self(key.into()))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Debug for UrlKey {
    /// Keys are secrets.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("UrlKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_too_long_stays_too_long() {
        let path = format!("/{}/announce", "k".repeat(9_000));
        let key = UrlKey::of_url(path.as_bytes(), b"").unwrap();
        assert_eq!(key.bytes().len(), KEY_BYTES_MAX + 1);
        assert_eq!(format!("{key:?}"), "UrlKey");
    }
}
