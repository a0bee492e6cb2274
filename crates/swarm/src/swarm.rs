//! The peers of one torrent, in three forms by size.
//!
//! | form | peers | memory | a peer is found by |
//! |---|---|---|---|
//! | inline | up to 2 | none but the torrent itself | comparing |
//! | list | up to 64 | one allocation, grown four places at a time | scanning |
//! | large | any number | segments and an index | its hash |
//!
//! In each form **seeders come first**: positions `0..seeders` hold seeders, the rest leechers. So
//! a peer needs no flag, the counts are free, and "leechers only" is a range of positions. The
//! moves that keep it so are written once, in terms of five primitives that each form provides.

use std::hint::black_box;
use std::ops::Range;

use aquatic_types::PeerStatus;
use arrayvec::ArrayVec;
use thin_vec::ThinVec;

use crate::hash::PeerKey;
use crate::large::LargeSwarm;
use crate::peer::Peer;
use crate::restraint::{Restraint, View};
use crate::rules::Rules;
use crate::segments::as_usize;
use crate::selection::{Choice, RandomOrder};

/// Peers without an allocation. Most torrents have no more, and two IPv4 peers fit in what a list
/// would need for its bookkeeping.
const INLINE_PEERS_MAX: usize = 2;

/// Peers in a list: eight cache lines for IPv4, which are faster to scan than an index is to read.
const LIST_PEERS_MAX: usize = 64;

/// A large swarm that shrinks to this size becomes a list: far enough from [`LIST_PEERS_MAX`] that
/// no one can make it go to and fro with each announce.
const LARGE_PEERS_MIN: u32 = 32;

/// Free places in a list are made this many at a time: 32 bytes for IPv4. Four places are two on
/// average that lie idle; copying 64 peers a few times more often costs nothing to speak of.
const LIST_GROWTH: usize = 4;

/// The peers of one torrent. Positions of peers change with each insertion, removal and change of
/// status.
pub(crate) enum Swarm<K, V> {
    Inline {
        seeders: u8,
        peers: ArrayVec<Peer<K, V>, INLINE_PEERS_MAX>,
    },
    List {
        seeders: u8,
        peers: ThinVec<Peer<K, V>>,
    },
    Large(Box<LargeSwarm<K, V>>),
}

impl<K: PeerKey, V> Swarm<K, V> {
    pub(crate) fn new() -> Self {
        Self::Inline {
            seeders: 0,
            peers: ArrayVec::new(),
        }
    }

    /// Adds a peer that is not here yet and returns its position.
    pub(crate) fn insert(&mut self, peer: Peer<K, V>, seeder: bool, rules: &Rules) -> Option<u32> {
        let position = self.push(peer, rules)?;
        Some(self.set_seeder(position, seeder, rules))
    }

    /// Makes the peer at `position` a seeder or a leecher and returns its new position.
    pub(crate) fn set_seeder(&mut self, position: u32, seeder: bool, rules: &Rules) -> u32 {
        let seeders = self.seeders();
        debug_assert!(position < self.len() && seeders <= self.len());
        let (new_position, new_seeders) = match (position < seeders, seeder) {
            (false, true) => (seeders, seeders + 1),
            (true, false) => (seeders - 1, seeders - 1),
            _ => return position,
        };
        self.swap(position, new_position, rules);
        self.set_seeders(new_seeders);
        new_position
    }

    /// Takes the peer at `position` away. Peers move only to lower positions, and only from
    /// `position` or above: a walk from the last peer to the first may remove as it goes.
    pub(crate) fn remove(&mut self, position: u32, rules: &Rules) -> Option<Peer<K, V>> {
        let last = self.len().checked_sub(1)?;
        debug_assert!(position <= last, "the peer is here");
        if position > last {
            return None;
        }
        let position = self.set_seeder(position, false, rules);
        self.swap(position, last, rules);
        self.pop(rules)
    }

    /// The position of the peer named `key`.
    pub(crate) fn find(&self, key: &K, rules: &Rules) -> Option<u32> {
        let place = match self {
            Self::Inline { peers, .. } => peers.iter().position(|peer| peer.key == *key),
            Self::List { peers, .. } => peers.iter().position(|peer| peer.key == *key),
            Self::Large(large) => return large.find(key, rules),
        };
        place.and_then(|place| u32::try_from(place).ok())
    }

    pub(crate) fn get(&self, position: u32) -> Option<&Peer<K, V>> {
        match self {
            Self::Inline { peers, .. } => peers.get(as_usize(position)),
            Self::List { peers, .. } => peers.get(as_usize(position)),
            Self::Large(large) => large.get(position),
        }
    }

    pub(crate) fn get_mut(&mut self, position: u32) -> Option<&mut Peer<K, V>> {
        match self {
            Self::Inline { peers, .. } => peers.get_mut(as_usize(position)),
            Self::List { peers, .. } => peers.get_mut(as_usize(position)),
            Self::Large(large) => large.get_mut(position),
        }
    }

    pub(crate) fn len(&self) -> u32 {
        let len = match self {
            Self::Inline { peers, .. } => peers.len(),
            Self::List { peers, .. } => peers.len(),
            Self::Large(large) => return large.len(),
        };
        u32::try_from(len).unwrap_or(u32::MAX)
    }

    /// Bytes that it takes beside the torrent's own entry: a little more rather than less.
    pub(crate) fn heap_bytes(&self) -> usize {
        /// What a list begins with, and what the allocator keeps with each block.
        const LIST_HEAD: usize = 16 + 16;

        match self {
            Self::Inline { .. } => 0,
            Self::List { peers, .. } => LIST_HEAD + peers.capacity() * size_of::<Peer<K, V>>(),
            Self::Large(large) => large.bytes(),
        }
    }

    pub(crate) fn seeders(&self) -> u32 {
        match self {
            Self::Inline { seeders, .. } | Self::List { seeders, .. } => u32::from(*seeders),
            Self::Large(large) => large.seeders,
        }
    }

    /// Where the peers are that are handed out to somebody of this status.
    pub(crate) fn candidates(&self, to: PeerStatus) -> Range<u32> {
        match to {
            PeerStatus::Leecher => 0..self.len(),
            PeerStatus::Seeder => self.seeders()..self.len(),
            PeerStatus::Stopped => 0..0,
        }
    }

    /// Whether the network of a peer that is not here has as many peers here as are allowed.
    pub(crate) fn is_closed_to(&self, key: &K, rules: &Rules) -> bool {
        let (Some(max), Some(network)) = (rules.limits.max_peers_per_network, key.network()) else {
            return false;
        };
        let max = usize::from(max.get());
        if as_usize(self.len()) < max {
            return false;
        }
        let has_as_many = |peers: &[Peer<K, V>]| {
            let of_network = peers.iter().filter(|it| it.key.network() == Some(network));
            of_network.count() >= max
        };
        match self {
            Self::Inline { peers, .. } => has_as_many(peers),
            Self::List { peers, .. } => has_as_many(peers),
            Self::Large(large) => large.has_as_many(key, network, max, rules),
        }
    }

    /// Whom to choose from, for somebody who is at `position`, or not here.
    pub(crate) fn choice(&self, to: PeerStatus, position: Option<u32>, wanted: u32) -> Choice {
        Choice {
            candidates: self.candidates(to),
            announcer: position,
            wanted,
        }
    }

    /// Draws peers. Returns how many of them are [surplus](crate::Announced::surplus). None is
    /// while there are networks that have not had their share; once the last peer has been drawn,
    /// it does not matter how many are.
    pub(crate) fn draw(
        &self,
        choice: &Choice,
        rules: &Rules,
        rng: &mut fastrand::Rng,
        mut select_peers: impl FnMut(&K, &V),
    ) -> u32 {
        if choice.has_rest() {
            return self.draw_in_order(choice, rules, rng, select_peers);
        }
        choice.select(
            rng,
            |_| (),
            |at| {
                if let Some(peer) = self.get(at) {
                    select_peers(&peer.key, &peer.value);
                }
            },
        );
        0
    }

    /// The same; those that are surplus come last, and are counted even if the last peer is among
    /// them.
    pub(crate) fn draw_in_order(
        &self,
        choice: &Choice,
        rules: &Rules,
        rng: &mut fastrand::Rng,
        mut select_peers: impl FnMut(&K, &V),
    ) -> u32 {
        let view = View {
            touch: |at| {
                black_box(self.get(at).map(|peer| peer.state));
            },
            peer: |at| self.get(at),
            network: |peer: &&Peer<K, V>| peer.key.network(),
        };
        match rules.limits.max_response_peers_per_network {
            Some(max) if choice.wanted > u32::from(max.get()) => {
                let restraint = Restraint {
                    max,
                    multiplier: rules.hash_key.multiplier(),
                };
                let select_peers = |peer: &Peer<K, V>| select_peers(&peer.key, &peer.value);
                restraint.select(choice, rng, &view, select_peers)
            }
            _ => {
                choice.select(rng, view.touch, |at| {
                    if let Some(peer) = self.get(at) {
                        select_peers(&peer.key, &peer.value);
                    }
                });
                0
            }
        }
    }

    /// Shows peers other than the one at `position` to `accept`, in random order, until it has
    /// accepted `wanted`, or [`DRAWN_MAX`](selection::DRAWN_MAX) have been drawn.
    pub(crate) fn draw_each(
        &mut self,
        position: Option<u32>,
        wanted: usize,
        rng: &mut fastrand::Rng,
        mut accept: impl FnMut(&K, &mut V) -> bool,
    ) {
        let mut order = RandomOrder::new(self.len());
        let mut accepted = 0;
        while accepted < wanted
            && let Some(at) = order.draw(rng)
        {
            if Some(at) != position
                && let Some(peer) = self.get_mut(at)
            {
                accepted += usize::from(accept(&peer.key, &mut peer.value));
            }
        }
    }

    /// Whether all peers can be visited in one go.
    pub(crate) fn is_small(&self) -> bool {
        !matches!(self, Self::Large(_))
    }

    fn set_seeders(&mut self, new: u32) {
        match self {
            Self::Inline { seeders, .. } | Self::List { seeders, .. } => {
                *seeders = u8::try_from(new).unwrap_or(u8::MAX);
            }
            Self::Large(large) => large.seeders = new,
        }
    }

    fn swap(&mut self, a: u32, b: u32, rules: &Rules) {
        if a == b {
            return;
        }
        debug_assert!(a < self.len() && b < self.len());
        match self {
            Self::Inline { peers, .. } => peers.swap(as_usize(a), as_usize(b)),
            Self::List { peers, .. } => peers.swap(as_usize(a), as_usize(b)),
            Self::Large(large) => large.swap(a, b, rules),
        }
    }

    /// Appends a leecher, in a larger form if this one is full.
    fn push(&mut self, peer: Peer<K, V>, rules: &Rules) -> Option<u32> {
        let position = self.len();
        match self {
            Self::Inline { seeders, peers } => {
                let Err(full) = peers.try_push(peer) else {
                    return Some(position);
                };
                let mut list = ThinVec::with_capacity(INLINE_PEERS_MAX + 2);
                list.extend(peers.drain(..));
                list.push(full.element());
                *self = Self::List {
                    seeders: *seeders,
                    peers: list,
                };
            }
            Self::List { peers, .. } if peers.len() < LIST_PEERS_MAX => {
                if peers.len() == peers.capacity() {
                    peers.reserve_exact(LIST_GROWTH);
                }
                peers.push(peer);
            }
            Self::List { seeders, peers } => {
                let mut large = LargeSwarm::new(u32::from(*seeders));
                for peer in peers.drain(..).chain([peer]) {
                    large.push(peer, rules)?;
                }
                *self = Self::Large(Box::new(large));
            }
            Self::Large(large) => return large.push(peer, rules),
        }
        Some(position)
    }

    /// Takes the last peer, a leecher, away; in a smaller form if that is enough for the rest.
    fn pop(&mut self, rules: &Rules) -> Option<Peer<K, V>> {
        match self {
            Self::Inline { peers, .. } => peers.pop(),
            Self::List { seeders, peers } => {
                let popped = peers.pop();
                if peers.len() < INLINE_PEERS_MAX {
                    *self = Self::Inline {
                        seeders: *seeders,
                        peers: peers.drain(..).collect(),
                    };
                } else if peers.capacity() - peers.len() > 2 * LIST_GROWTH {
                    peers.shrink_to_fit();
                }
                popped
            }
            Self::Large(large) => {
                let popped = large.pop(rules);
                if large.len() <= LARGE_PEERS_MIN {
                    let mut peers = ThinVec::with_capacity(as_usize(large.len()));
                    while let Some(peer) = large.peers.pop() {
                        peers.push(peer);
                    }
                    peers.reverse();
                    *self = Self::List {
                        seeders: u8::try_from(large.seeders).unwrap_or(u8::MAX),
                        peers,
                    };
                }
                popped
            }
        }
    }
}
