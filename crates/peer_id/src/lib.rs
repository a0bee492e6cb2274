//! Which software a peer runs, by the peer id that it chose for itself.
//!
//! Peer ids are 20 bytes that mean nothing to the protocol, but most clients begin theirs with a
//! name and a version, in one of a few customs ([BEP 20]). This crate reads those customs, for
//! statistics:
//!
//! ```
//! use aquatic_peer_id::PeerClient;
//! use aquatic_types::PeerId;
//!
//! let client = PeerClient::from_peer_id(PeerId(*b"-qB4650-abcdefghijkl"));
//! assert_eq!(client.to_string(), "qBittorrent 4.6.5");
//! ```
//!
//! The software known by name is in two tables; whatever else a peer calls itself is
//! [`PeerClient::OTHER`]. Some clients borrow the id of another (Motrix appears as Transmission)
//! and count as the other. Nothing here is proof of anything: the bytes come from strangers, who
//! can make up any version, so whoever keeps a count per client has to bound the number of counts.
//!
//! [BEP 20]: https://www.bittorrent.org/beps/bep_0020.html

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

mod prefix;
mod software;
mod version;

use std::fmt::{self, Display, Formatter};

use aquatic_types::PeerId;

pub use prefix::PeerIdPrefix;
pub use version::Version;

/// A client's name and version, as people know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerClient {
    /// What the software is called.
    pub name: &'static str,
    /// Its version, if the peer id says it in a way that is understood.
    pub version: Option<Version>,
}

impl PeerClient {
    /// Software that is not known by name.
    pub const OTHER: Self = Self {
        name: "Other",
        version: None,
    };

    /// Reads the beginning of any peer id.
    #[must_use]
    pub fn from_peer_id(peer_id: PeerId) -> Self {
        Self::identify(&peer_id.0).unwrap_or(Self::OTHER)
    }

    /// Tries the customs one by one; no id follows two of them.
    fn identify(id: &[u8; 20]) -> Option<Self> {
        let (name, version) = match id {
            // Azureus style, by far the most common: -qB4650-
            [b'-', a, b, v1, v2, v3, v4, b'-', ..] => {
                let (name, read_version) = software::azureus([*a, *b])?;
                (name, read_version([*v1, *v2, *v3, *v4]))
            }
            // Version numbers of any length, told apart by dashes: M7-2-0--, A2-1-36-0-
            [b'M', version @ ..] => ("BitTorrent", Some(Version::dashed(version)?)),
            [b'A', b'2', b'-', version @ ..] => ("aria2", Some(Version::dashed(version)?)),
            // Without dashes: TIX0193-
            [b'T', b'I', b'X', v1, v2, v3, v4, b'-', ..] => {
                ("Tixati", Version::padded_digit_pairs([*v1, *v2, *v3, *v4]))
            }
            // Shadow style: T03I-----
            [letter, v1, v2, v3, v4, _, b'-', b'-', b'-', ..] => {
                let name = software::shadow(*letter)?;
                (name, Version::characters([*v1, *v2, *v3, *v4]))
            }
            _ => return None,
        };
        Some(Self { name, version })
    }
}

impl Display for PeerClient {
    /// Name and version, such as `qBittorrent 4.6.5`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match self.version {
            Some(version) => write!(f, " {version}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::string::string_regex;

    use super::*;

    fn client(start: &str) -> String {
        let mut id = [b'x'; 20];
        id[..start.len()].copy_from_slice(start.as_bytes());
        PeerClient::from_peer_id(PeerId(id)).to_string()
    }

    #[test]
    fn clients_are_known_by_name_and_version() {
        for (start, expected) in [
            ("-qB4650-", "qBittorrent 4.6.5"),
            ("-qB33C0-", "qBittorrent 3.3.12"),
            ("-TR2940-", "Transmission 2.94"),
            ("-TR3000-", "Transmission 3.00"),
            ("-TR293Z-", "Transmission 2.93"),
            ("-TR4060-", "Transmission 4.0.6"),
            ("-TR410B-", "Transmission 4.1.0"),
            ("-LT2090-", "libtorrent 2.0.9"),
            ("-LT20B0-", "libtorrent 2.0.11"),
            ("-lt0D60-", "rTorrent (libTorrent) 0.13.6"),
            ("-DE13F0-", "Deluge 1.3.15"),
            ("-DE211s-", "Deluge 2.1.1"),
            ("-UT355W-", "µTorrent 3.5.5"),
            ("-UT2210-", "µTorrent 2.2.1"),
            ("-UM1870-", "µTorrent Mac 1.8.7"),
            ("-UW1110-", "µTorrent Web 1.1.1"),
            ("-BT7a5S-", "BitTorrent 7.10.5"),
            ("-AZ5770-", "Vuze 5.7.7"),
            ("-AZ4702-", "Vuze 4.7.0.2"),
            ("-BI3500-", "BiglyBT 3.5.0"),
            ("-BC0202-", "BitComet 2.02"),
            ("-BC0170-", "BitComet 1.70"),
            ("-WW0102-", "WebTorrent 1.2"),
            ("-WD0024-", "WebTorrent Desktop 0.24"),
            ("-KT5110-", "KTorrent 5.1"),
            ("-KT33D1-", "KTorrent 3.3"),
            ("-GT0003-", "anacrolix/torrent 0.0.0.3"),
            ("-XL0012-", "Xunlei 0.0.1.2"),
            ("-FD5150-", "Free Download Manager 5.1.5"),
            ("-PI0250-", "PicoTorrent 0.2.5"),
            ("TIX0193-", "Tixati 1.93"),
            ("A2-1-36-0-", "aria2 1.36.0"),
            ("M7-2-0--", "BitTorrent 7.2.0"),
            ("M4-20-8-", "BitTorrent 4.20.8"),
            ("S58B-----", "Shadow's client 5.8.11"),
            ("T03I-----", "BitTornado 0.3.18"),
        ] {
            assert_eq!(client(start), expected, "{start}");
        }
    }

    #[test]
    fn unreadable_version_leaves_the_name() {
        assert_eq!(client("-qB4?50-"), "qBittorrent");
        assert_eq!(client("-TR0072-"), "Transmission");
        assert_eq!(client("-WW01x2-"), "WebTorrent");
        assert_eq!(client("T03?-----"), "BitTornado");
    }

    #[test]
    fn others_are_other() {
        for start in [
            "",
            "-qB4650x",
            "-??4650-",
            "xqB4650-",
            "M7-2-x--",
            "M7-2",
            "M7-2-300-",
            "A2-1-36-",
            "Z58B-----",
            "S58B--x--",
        ] {
            assert_eq!(client(start), "Other", "{start}");
        }
        assert_eq!(PeerClient::OTHER.to_string(), "Other");
    }

    /// Metrics count clients by what they look like, so no two may look the same.
    #[test]
    fn clients_that_look_equal_are_equal() {
        let mut client_by_text = HashMap::new();
        let characters = *b"0149Aa?-";
        for mark in ["qB", "TR", "BC", "WW", "KT", "DE"] {
            for number in 0..characters.len().pow(4) {
                let version = [512, 64, 8, 1].map(|place| characters[number / place % 8]);
                let id = [b"-", mark.as_bytes(), &version, b"-xxxxxxxxxxxx"].concat();
                let client = PeerClient::from_peer_id(PeerId(id.try_into().unwrap()));
                let known = *client_by_text.entry(client.to_string()).or_insert(client);
                assert_eq!(known, client);
            }
        }
        assert!(client_by_text.len() > 1000);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_client(
            start in prop_oneof![
                vec(any::<u8>(), 20),
                string_regex("(-[A-Z]{2}|-qB|M|A2-|TIX|[A-Z])[0-9A-Za-z?-]{5,17}").unwrap()
                    .prop_map(String::into_bytes),
            ],
        ) {
            let mut id = [b'-'; 20];
            id.iter_mut().zip(start).for_each(|(to, from)| *to = from);
            let client = PeerClient::from_peer_id(PeerId(id));
            prop_assert_eq!(client == PeerClient::OTHER, client.to_string() == "Other");
        }
    }
}
