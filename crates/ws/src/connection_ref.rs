//! The name of a connection, in all trackers that share their swarms. Pure.

use aquatic_cluster::nodes::{NODES_MAX, NodeIndex};
use aquatic_stream::ConnectionKey;
use aquatic_swarm_log::Member;
use aquatic_types::PeerId;

/// Socket workers are fewer than this: see `socket_workers`.
pub(crate) const WORKERS_MAX: u16 = 1 << WORKER_BITS;

const WORKER_BITS: u32 = 10;

/// The lower bits of a node's number stand where a connection has [free
/// bits](ConnectionKey::PLACES_MAX), the upper ones where a worker has.
const LOWER_NODE_BITS: u32 = 4;
const LOWER_NODE_MASK: u16 = (1 << LOWER_NODE_BITS) - 1;
const CONNECTION_SHIFT: u32 = ConnectionKey::PLACES_MAX.trailing_zeros();
const CONNECTION_MASK: u64 = !((LOWER_NODE_MASK as u64) << CONNECTION_SHIFT);

const _: () = assert!(NODES_MAX <= 1 << (16 - WORKER_BITS + LOWER_NODE_BITS));
const _: () = assert!(LOWER_NODE_MASK == 0xf);
const _: () = assert!(CONNECTION_SHIFT + LOWER_NODE_BITS <= 32);

/// A connection, in all trackers that share their swarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionRef {
    /// The process.
    pub node: NodeIndex,
    /// Its socket worker.
    pub worker: u16,
    /// The connection of that.
    pub connection: ConnectionKey,
}

impl ConnectionRef {
    /// One of this process.
    #[must_use]
    pub const fn here(worker: u16, connection: ConnectionKey) -> Self {
        Self {
            node: NodeIndex::HERE,
            worker,
            connection,
        }
    }

    /// Whether it is one of this process.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.node == NodeIndex::HERE
    }

    /// That of a member that is told of. `None` if there can be no such connection.
    #[must_use]
    pub fn of_member(node: NodeIndex, member: &Member) -> Option<Self> {
        let it = Self {
            node,
            worker: member.worker,
            connection: ConnectionKey::from_bits(member.connection),
        };
        let is_possible = usize::from(node.0) < NODES_MAX
            && member.worker < WORKERS_MAX
            && member.connection & !CONNECTION_MASK == 0;
        is_possible.then_some(it)
    }

    /// As a member, for others to be told.
    pub(crate) fn member(&self, peer_id: PeerId, network: u64) -> Member {
        Member {
            peer_id,
            worker: self.worker,
            connection: self.connection.to_bits(),
            network,
        }
    }

    /// In little space.
    pub(crate) fn packed(&self) -> Packed {
        let node = self.node.0;
        let worker = self.worker | (node >> LOWER_NODE_BITS) << WORKER_BITS;
        let lower = u64::from(node & LOWER_NODE_MASK) << CONNECTION_SHIFT;
        let connection = self.connection.to_bits() | lower;
        let mut bytes = [0; 10];
        let (first, rest) = bytes.split_at_mut(2);
        first.copy_from_slice(&worker.to_be_bytes());
        rest.copy_from_slice(&connection.to_be_bytes());
        Packed(bytes)
    }
}

/// A [`ConnectionRef`] in ten bytes: as many as worker and connection need, of which there are
/// fewer than their numbers have room for. Equal if the connections are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed(pub(crate) [u8; 10]);

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.unpacked().fmt(f)
    }
}

impl Packed {
    /// The connection.
    pub(crate) fn unpacked(self) -> ConnectionRef {
        let [w0, w1, connection @ ..] = self.0;
        let (worker, connection) = (u16::from_be_bytes([w0, w1]), u64::from_be_bytes(connection));
        ConnectionRef {
            node: node(worker, connection),
            worker: worker & (WORKERS_MAX - 1),
            connection: ConnectionKey::from_bits(connection & CONNECTION_MASK),
        }
    }

    /// The process.
    pub(crate) fn node(self) -> NodeIndex {
        let [w0, w1, connection @ ..] = self.0;
        node(u16::from_be_bytes([w0, w1]), u64::from_be_bytes(connection))
    }
}

fn node(worker: u16, connection: u64) -> NodeIndex {
    let lower = (connection >> CONNECTION_SHIFT & 0xf) as u16;
    NodeIndex(worker >> WORKER_BITS << LOWER_NODE_BITS | lower)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_is_not_taken_for_something_else() {
        let member = |worker, connection| Member {
            peer_id: PeerId([1; 20]),
            worker,
            connection,
            network: 7,
        };
        for (node, worker, connection) in [
            (1, 1_024, 0),
            (1, u16::MAX, 0),
            (1, 0, 1 << 28),
            (1, 0, 1 << 31),
            (1, 0, u64::MAX),
            (1_024, 0, 0),
            (u16::MAX, 0, 0),
        ] {
            let it = ConnectionRef::of_member(NodeIndex(node), &member(worker, connection));
            assert_eq!(it, None, "{node} {worker} {connection:#x}");
        }
        let largest = member(1_023, 0xffff_ffff_0fff_ffff);
        let it = ConnectionRef::of_member(NodeIndex(1_023), &largest).unwrap();
        assert_eq!(it.member(PeerId([1; 20]), 7), largest);
        assert_eq!(it.packed().0, [0xff; 10]);
    }

    #[test]
    fn of_this_process_it_is_worker_and_connection() {
        let it = ConnectionRef::here(0x0102, ConnectionKey::from_bits(0x0304_0506_0708_090a));
        assert_eq!(it.packed().0, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }

    proptest! {
        #[test]
        fn packing_loses_nothing(
            (node, worker) in (0_u16..1_024, 0_u16..1_024),
            (generation, place) in (any::<u32>(), 0_u32..1 << 28),
        ) {
            let bits = u64::from(generation) << 32 | u64::from(place);
            let it = ConnectionRef {
                node: NodeIndex(node),
                worker,
                connection: ConnectionKey::from_bits(bits),
            };
            prop_assert_eq!(it.packed().unpacked(), it);
            prop_assert_eq!(it.packed().node(), it.node);
            let member = it.member(PeerId([1; 20]), 7);
            prop_assert_eq!(ConnectionRef::of_member(it.node, &member), Some(it));
        }
    }
}
