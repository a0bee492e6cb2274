//! Requests whose torrents' owners have no room for them. Pure.
//!
//! See [`aquatic_tracker::dispatch::waiting_lines`].

use aquatic_stream::ConnectionKey;
use aquatic_types::{CompactV4, CompactV6};

use crate::messages::{Announce, Batch};

/// A request that waits until the owner of its torrent has room. Its session is asked already, and
/// takes nothing from its connection.
pub(crate) enum Waiting {
    V4(Announce<CompactV4>),
    V6(Announce<CompactV6>),
    /// The rest of the scrape of this connection.
    Scrape(ConnectionKey),
}

/// The address of a peer: where announces of its family are put.
pub(crate) trait Family: Sized {
    /// Where it is put if there is room.
    fn announces(batch: &mut Batch) -> &mut Vec<Announce<Self>>;

    /// What it is in a line.
    fn waiting(announce: Announce<Self>) -> Waiting;
}

impl Family for CompactV4 {
    fn announces(batch: &mut Batch) -> &mut Vec<Announce<Self>> {
        &mut batch.announces.v4
    }

    fn waiting(announce: Announce<Self>) -> Waiting {
        Waiting::V4(announce)
    }
}

impl Family for CompactV6 {
    fn announces(batch: &mut Batch) -> &mut Vec<Announce<Self>> {
        &mut batch.announces.v6
    }

    fn waiting(announce: Announce<Self>) -> Waiting {
        Waiting::V6(announce)
    }
}
