//! Networks whose datagrams are dropped: sorted ranges as a tree in an array, which a program goes
//! down in as many steps as it is deep.
//!
//! ```text
//!              1                The ranges of a tree with seven places, in the order of their
//!          2       3            addresses, are at 4 2 5 1 6 3 7.
//!        4   5   6   7
//! ```
//!
//! There is room for two. One is in use while the other one is written, and one number says which.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::map::{Array, Shared};
use crate::told::TooMany;

/// From the first to the last address.
pub(crate) type Range<A> = (A, A);

/// Addresses of a family, as a program reads them.
pub(crate) trait Node: Shared + Default {
    type Address: Copy;
    /// How deep a tree can be: `bpf/limits.h` has the same numbers.
    const DEPTH: u32;

    fn set(&self, range: Range<Self::Address>);
}

/// `struct range_v4`: the last address above the first one.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct NodeV4(AtomicU64);

// SAFETY: an atomic number.
unsafe impl Shared for NodeV4 {}

impl Node for NodeV4 {
    type Address = u32;
    const DEPTH: u32 = 20;

    fn set(&self, (first, last): Range<u32>) {
        let both = u64::from(last) << 32 | u64::from(first);
        self.0.store(both, Ordering::Relaxed);
    }
}

/// `struct range_v6`.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct NodeV6([AtomicU64; 4]);

// SAFETY: atomic numbers, and nothing else.
unsafe impl Shared for NodeV6 {}

impl Node for NodeV6 {
    type Address = u128;
    const DEPTH: u32 = 16;

    fn set(&self, (first, last): Range<u128>) {
        let halves = |address: u128| {
            let half = |part: u128| u64::try_from(part & u128::from(u64::MAX)).unwrap_or_default();
            [half(address >> 64), half(address)]
        };
        let words = [halves(first), halves(last)].concat();
        for (place, word) in self.0.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
    }
}

/// Room for two trees.
#[derive(Debug)]
pub(crate) struct Trees<N> {
    nodes: Array<N>,
    /// Ranges that each of them has room for.
    capacity: usize,
    is_second: bool,
}

impl<N: Node> Trees<N> {
    /// Ranges that there can be at all.
    const MOST: usize = (1 << N::DEPTH) - 1;
    /// Lists that come later may be longer; this takes a megabyte or less.
    const LEAST: usize = (1 << (N::DEPTH - 4)) - 1;

    /// With room for `ranges`, and for some more to come.
    pub(crate) fn new(ranges: usize) -> io::Result<Self> {
        let capacity = ranges.saturating_mul(2).clamp(Self::LEAST, Self::MOST);
        Ok(Self {
            nodes: Array::new(2 * capacity + 1)?,
            capacity,
            is_second: false,
        })
    }

    pub(crate) fn array(&self) -> &Array<N> {
        &self.nodes
    }

    pub(crate) fn require_room_for(&self, ranges: &[Range<N::Address>]) -> Result<(), TooMany> {
        match ranges.len() {
            len if len <= self.capacity => Ok(()),
            len => Err(TooMany {
                at_all: len > Self::MOST,
            }),
        }
    }

    /// Writes a tree of as many as there is room for, and says where it is: `tree` in C.
    pub(crate) fn write(&mut self, ranges: &[Range<N::Address>]) -> u64 {
        self.is_second = !self.is_second;
        let before = if self.is_second { self.capacity } else { 0 };
        let nodes = self.nodes.elements().get(before..).unwrap_or_default();
        let len = ranges.len().min(self.capacity);
        write_below(nodes, len, 1, &mut ranges.iter());
        let half = |number| u32::try_from(number).map_or(0, u64::from);
        half(before) << 32 | half(len)
    }
}

/// Writes the next ranges at a place of a tree with `len` of them, and at all places below it.
fn write_below<'a, N: Node>(
    nodes: &[N],
    len: usize,
    place: usize,
    sorted: &mut impl Iterator<Item = &'a Range<N::Address>>,
) where
    N::Address: 'a,
{
    if place > len {
        return;
    }
    write_below(nodes, len, 2 * place, sorted);
    if let (Some(node), Some(range)) = (nodes.get(place), sorted.next()) {
        node.set(*range);
    }
    write_below(nodes, len, 2 * place + 1, sorted);
}
