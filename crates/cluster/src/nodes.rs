//! Which other processes there are, and which of them are alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A process of the cluster, by a number that this process has given it. 0 is this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeIndex(pub u16);

impl NodeIndex {
    /// This process.
    pub const HERE: Self = Self(0);

    /// A process that is not heard: of one whose messages are in the log still.
    pub const UNKNOWN: Self = Self(u16::MAX);
}

/// So many processes are known at a time, with this one.
pub const NODES_MAX: usize = 1_024;

/// What is thought of another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// It is not known, or has gone: what it has told of its clients holds no more.
    Gone,
    /// It is heard.
    Alive,
    /// It was not heard for some seconds: nothing new should be sent to it.
    Silent,
}

/// What is thought of each process, for all threads, and whether there is a connection to the
/// others. A copy shows the same.
#[derive(Clone, Debug)]
pub struct NodeStates(Arc<[AtomicU8]>);

impl Default for NodeStates {
    fn default() -> Self {
        let states = (0..NODES_MAX).map(|_| AtomicU8::default());
        let nodes = Self(states.collect());
        nodes.set(NodeIndex::HERE, NodeState::Alive);
        nodes
    }
}

impl NodeStates {
    /// Of one process. While there is no connection, all others are at most silent.
    #[must_use]
    pub fn get(&self, node: NodeIndex) -> NodeState {
        match self.stored(node) {
            _ if node == NodeIndex::HERE => NodeState::Alive,
            NodeState::Alive if !self.is_connected() => NodeState::Silent,
            state => state,
        }
    }

    /// Whether others can be sent anything.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.stored(NodeIndex::HERE) == NodeState::Alive
    }

    /// There is a connection to the others from now on, or there is none.
    pub fn set_connected(&self, is_connected: bool) {
        let state = match is_connected {
            true => NodeState::Alive,
            false => NodeState::Silent,
        };
        self.set(NodeIndex::HERE, state);
    }

    /// What is thought of this process is whether it is connected.
    fn stored(&self, node: NodeIndex) -> NodeState {
        let state = self.0.get(usize::from(node.0));
        match state.map_or(0, |state| state.load(Ordering::Relaxed)) {
            1 => NodeState::Alive,
            2 => NodeState::Silent,
            _ => NodeState::Gone,
        }
    }

    /// Changes what is thought of a process.
    pub fn set(&self, node: NodeIndex, state: NodeState) {
        let number = match state {
            NodeState::Gone => 0,
            NodeState::Alive => 1,
            NodeState::Silent => 2,
        };
        if let Some(state) = self.0.get(usize::from(node.0)) {
            state.store(number, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_see_the_same_and_nobody_is_there_who_is_not_known() {
        let nodes = NodeStates::default();
        let seen = nodes.clone();
        assert_eq!(seen.get(NodeIndex::HERE), NodeState::Alive);
        for state in [NodeState::Alive, NodeState::Silent, NodeState::Gone] {
            nodes.set(NodeIndex(7), state);
            assert_eq!(seen.get(NodeIndex(7)), state);
        }
        nodes.set_connected(false);
        for (state, shown) in [
            (NodeState::Alive, NodeState::Silent),
            (NodeState::Silent, NodeState::Silent),
            (NodeState::Gone, NodeState::Gone),
        ] {
            nodes.set(NodeIndex(7), state);
            assert_eq!(seen.get(NodeIndex(7)), shown);
        }
        assert!(!seen.is_connected());
        assert_eq!(seen.get(NodeIndex::HERE), NodeState::Alive);
        nodes.set(NodeIndex(7), NodeState::Alive);
        nodes.set_connected(true);
        assert_eq!(seen.get(NodeIndex(7)), NodeState::Alive);
        nodes.set(NodeIndex(u16::MAX), NodeState::Alive);
        assert_eq!(seen.get(NodeIndex(u16::MAX)), NodeState::Gone);
    }
}
