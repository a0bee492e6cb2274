//! Which torrents and clients a tracker serves: lists of info hashes to allow or to deny, networks
//! to deny, and prefixes of peer ids.
//!
//! An operator keeps a list in a file, one info hash per line, and chooses a mode. The daemon
//! parses the file ([`AccessList::parse`]), shares the list among its workers
//! ([`SharedAccessList`]), and replaces it when told to read the file again. Each worker asks
//! through a reader of its own ([`AccessListReader`]), once per request.
//!
//! Not done here: opening files, catching signals, and making torrents disappear that a new list
//! forbids (whoever cleans the swarms asks a reader about each torrent).
//!
//! ```
//! use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
//!
//! let file = "# our own torrents\n00112233445566778899aabbccddeeff00112233\n";
//! let shared = SharedAccessList::new(AccessListMode::Allow, AccessList::parse(file.as_bytes())?);
//!
//! let mut reader = shared.reader(); // one per worker
//! let ours = "00112233445566778899aabbccddeeff00112233".parse()?;
//! assert!(reader.is_allowed(&ours));
//!
//! shared.replace(AccessList::default());
//! assert!(!reader.is_allowed(&ours));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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

mod denied_networks;
mod list;
mod network;
mod peer_id_prefixes;
mod shared;
mod shared_networks;

pub use denied_networks::{DeniedNetworks, DeniedNetworksError, DeniedNetworksErrorKind};
pub use list::{AccessList, AccessListError, AccessListErrorKind};
pub use network::{Network, NetworkError};
pub use peer_id_prefixes::{PeerIdPrefix, PeerIdPrefixError, PeerIdPrefixes, PeerIdRules};
pub use shared::{AccessListMode, AccessListReader, Replaced, SharedAccessList};
pub use shared_networks::{DeniedNetworksReader, SharedDeniedNetworks};
