//! Shared BitTorrent tracker types.
//!
//! This is the bottom of the workspace: plain values that a tracker talks about, whatever the
//! protocol it speaks. Nothing here does I/O, reads a clock or holds a policy.
//!
//! | type | what it is | source |
//! |---|---|---|
//! | [`InfoHash`], [`PeerId`] | 20 bytes each, chosen by strangers | BEP 3 |
//! | [`CompactV4`], [`CompactV6`] | a peer's address and port as they go over the wire | BEP 23, BEP 7 |
//! | [`CanonicalAddr`] | a socket address whose IPv4-mapped form has been undone | RFC 4291, 2.5.5.2 |
//! | [`client_network`] | who counts as one client where something is limited per client | |
//! | [`client_site`] | the IPv6 /48 network that has a larger limit of its own then | |
//! | [`AnnounceEvent`], [`PeerStatus`] | what a peer says about itself | BEP 3 |
//! | [`IpFamily`], [`PerFamily`] | the two halves of most things in a tracker | |
//! | [`ShardKey`] | which shard owns a torrent | |
//! | [`Seconds`] | a point on the daemon's own time line | |

#![forbid(unsafe_code)]

mod address;
mod event;
mod family;
mod identity;
mod shard_key;
mod time;

pub use address::{
    CLIENTS_PER_SITE, CanonicalAddr, CompactAddr, CompactV4, CompactV6, client_network,
    client_site, site_or_client,
};
pub use event::{AnnounceEvent, PeerStatus};
pub use family::{IpFamily, PerFamily};
pub use identity::{InfoHash, ParseInfoHashError, PeerId};
pub use shard_key::ShardKey;
pub use time::Seconds;
