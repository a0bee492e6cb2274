//! The part of a peer id that is worth counting where the client is not known by name.

use std::fmt::{self, Debug, Display, Formatter};

/// The first 8 bytes of a peer id: name and version in the most common custom; the rest is random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIdPrefix(pub [u8; 8]);

impl Display for PeerIdPrefix {
    /// 16 lower-case hexadecimal digits: the bytes may be anything.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl Debug for PeerIdPrefix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use aquatic_types::PeerId;

    use super::*;

    #[test]
    fn prefix_is_shown_in_hexadecimal() {
        let peer_id = PeerId(*b"-qB4650-\xff\xff3456789012");
        let prefix = PeerIdPrefix(peer_id.client_prefix());
        assert_eq!(prefix, PeerIdPrefix(*b"-qB4650-"));
        assert_eq!(prefix.to_string(), "2d7142343635302d");
        assert_eq!(PeerIdPrefix([0; 8]).to_string(), "0000000000000000");
    }
}
