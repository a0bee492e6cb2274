//! What is done to the map and its model.

use aquatic_types::PeerStatus;
use proptest::prelude::*;

use super::PEER_AGE_SECONDS;

#[derive(Clone, Debug)]
pub(super) enum Operation {
    Announce {
        torrent: u8,
        peer: u16,
        status: PeerStatus,
        completed: bool,
        wanted: u16,
    },
    /// Many at once: fills swarms quickly.
    Crowd {
        torrent: u8,
        peers: std::ops::Range<u16>,
        status: PeerStatus,
    },
    /// Another tracker has told of a peer; or a record is from before a restart.
    Apply {
        torrent: u8,
        peer: u16,
        status: PeerStatus,
        completed: bool,
        is_finished: bool,
        seconds_left: u32,
    },
    RemovePeer {
        torrent: u8,
        peer: u16,
    },
    Wait {
        seconds: u32,
    },
    CleanSlice {
        budget: usize,
    },
    Forbid {
        torrent: u8,
    },
    Allow,
}

pub(super) fn operation() -> impl Strategy<Value = Operation> {
    let torrent = || prop_oneof![3 => 0..2_u8, 1 => 0..40_u8];
    let peer = || prop_oneof![2 => 0..6_u16, 1 => 0..300_u16];
    let status = || {
        prop_oneof![
            3 => Just(PeerStatus::Leecher),
            2 => Just(PeerStatus::Seeder),
            1 => Just(PeerStatus::Stopped),
        ]
    };
    prop_oneof![
        20 => (torrent(), peer(), status(), any::<bool>(), 0..80_u16).prop_map(
            |(torrent, peer, status, completed, wanted)| {
                Operation::Announce { torrent, peer, status, completed, wanted }
            }
        ),
        3 => (torrent(), peer(), 1..120_u16, status()).prop_map(|(torrent, first, many, status)| {
            Operation::Crowd { torrent, peers: first..first + many, status }
        }),
        8 => (torrent(), peer(), status(), any::<(bool, bool)>(), 0..2 * PEER_AGE_SECONDS)
            .prop_map(|(torrent, peer, status, (completed, is_finished), seconds_left)| {
                Operation::Apply { torrent, peer, status, completed, is_finished, seconds_left }
            }),
        3 => (torrent(), peer())
            .prop_map(|(torrent, peer)| Operation::RemovePeer { torrent, peer }),
        4 => (0..200_u32).prop_map(|seconds| Operation::Wait { seconds }),
        8 => (0..150_usize).prop_map(|budget| Operation::CleanSlice { budget }),
        1 => torrent().prop_map(|torrent| Operation::Forbid { torrent }),
        1 => Just(Operation::Allow),
    ]
}
