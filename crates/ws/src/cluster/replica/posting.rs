//! What clients here have for those of other nodes, put together into parcels.

use std::collections::BTreeMap;
use std::sync::Arc;

use aquatic_cluster::bus::Destination;
use aquatic_cluster::nodes::{NODES_MAX, NodeIndex, NodeState, NodeStates};
use aquatic_cluster::replica::Outgoing;
use aquatic_daemon::clock::Now;
use aquatic_swarm_log::{Letter, LetterBuffer, Withdrawal};

use crate::cluster::counters::{ClusterCounters, LetterKind, LetterOutcome};

/// A parcel for each node.
pub(super) struct Post {
    nodes: NodeStates,
    counters: Arc<ClusterCounters>,
    /// Of nodes that something has come from. So there is one for each that has members here.
    names: BTreeMap<NodeIndex, Box<str>>,
    parcels: BTreeMap<NodeIndex, LetterBuffer>,
    written: Vec<u8>,
}

impl Post {
    pub(super) fn new(nodes: NodeStates, counters: Arc<ClusterCounters>) -> Self {
        Self {
            nodes,
            counters,
            names: BTreeMap::new(),
            parcels: BTreeMap::new(),
            written: Vec::new(),
        }
    }

    /// Something comes from a node. Returns whether that can be: not from one that has gone.
    pub(super) fn learn(&mut self, node: NodeIndex, name: &str) -> bool {
        if usize::from(node.0) >= NODES_MAX || self.nodes.get(node) == NodeState::Gone {
            return false;
        }
        if self.names.get(&node).is_none_or(|known| **known != *name) {
            self.names.insert(node, name.into());
        }
        true
    }

    /// A node is to be told that an offer of it has not come to its receiver.
    pub(super) fn withdraw(
        &mut self,
        now: Now,
        node: NodeIndex,
        withdrawal: Withdrawal,
        publish: &mut dyn FnMut(Outgoing),
    ) {
        let mut written = std::mem::take(&mut self.written);
        written.clear();
        Letter::Withdrawal(withdrawal).write(&mut written);
        self.add(now, node, &written, publish);
        self.written = written;
    }

    /// Adds a letter, as it stands in a parcel. What becomes too large is published before. Returns
    /// whether it is on its way.
    pub(super) fn add(
        &mut self,
        now: Now,
        node: NodeIndex,
        letter: &[u8],
        publish: &mut dyn FnMut(Outgoing),
    ) -> bool {
        let is_known = self.names.contains_key(&node) && self.nodes.get(node) != NodeState::Gone;
        let outcome = if !is_known {
            LetterOutcome::NodeGone
        } else if !self.nodes.is_connected() {
            LetterOutcome::Disconnected
        } else if self.push(now, node, letter, publish) {
            LetterOutcome::Sent
        } else {
            LetterOutcome::TooLarge
        };
        let kind = LetterKind::of_written(letter);
        self.counters.letters(kind, outcome).add(1);
        outcome == LetterOutcome::Sent
    }

    fn push(
        &mut self,
        now: Now,
        node: NodeIndex,
        letter: &[u8],
        publish: &mut dyn FnMut(Outgoing),
    ) -> bool {
        if self.parcels.entry(node).or_default().push(letter) {
            return true;
        }
        self.publish(now, publish);
        self.parcels.entry(node).or_default().push(letter)
    }

    /// Publishes all parcels.
    pub(super) fn publish(&mut self, now: Now, publish: &mut dyn FnMut(Outgoing)) {
        for (node, mut parcel) in std::mem::take(&mut self.parcels) {
            if let Some(name) = self.names.get(&node)
                && !parcel.is_empty()
            {
                publish(Outgoing {
                    to: Destination::Node(name.to_string()),
                    body: parcel.take(),
                    since: now,
                });
            }
        }
    }
}
