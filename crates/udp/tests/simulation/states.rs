//! What an observer can know: about a peer, a number, a torrent.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Formatter};
use std::net::SocketAddr;
use std::ops::{BitOr, BitOrAssign};

use aquatic_types::{InfoHash, IpFamily, PeerStatus};

/// The client software that simulated peers use.
pub(crate) const CLIENTS: [&[u8; 8]; 4] = [b"-qB5000-", b"-TR4050-", b"-LT20A0-", b"-UT3550-"];

/// A set of states that a peer can be in: absent, or a seeder or leecher with one of [`CLIENTS`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct States(u16);

impl States {
    pub(crate) const ABSENT: Self = Self(1);
    pub(crate) const LEECHER: Self = Self(0b0_0001_1110);
    pub(crate) const SEEDER: Self = Self(0b1_1110_0000);
    pub(crate) const PRESENT: Self = Self(Self::LEECHER.0 | Self::SEEDER.0);

    /// The state of a peer that has announced `status` with client software number `client`.
    pub(crate) fn after(status: PeerStatus, client: usize) -> Self {
        match status {
            PeerStatus::Stopped => Self::ABSENT,
            PeerStatus::Leecher => Self(1 << (1 + client)),
            PeerStatus::Seeder => Self(1 << (1 + CLIENTS.len() + client)),
        }
    }

    /// All states with client software number `client`.
    pub(crate) fn using(client: usize) -> Self {
        Self::after(PeerStatus::Leecher, client) | Self::after(PeerStatus::Seeder, client)
    }

    pub(crate) fn may_be(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    pub(crate) fn must_be(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }

    pub(crate) fn is_certain(self) -> bool {
        self.0.count_ones() == 1
    }
}

impl BitOr for States {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for States {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl Debug for States {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:09b}", self.0)
    }
}

/// A number that is known to lie between two others, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) min: u32,
    pub(crate) max: u32,
}

impl Bounds {
    /// Counts those that must be, and those that may be, in a state of `wanted`.
    pub(crate) fn count(peers: impl IntoIterator<Item = States>, wanted: States) -> Self {
        let mut bounds = Self::default();
        for states in peers {
            bounds.min += u32::from(states.must_be(wanted));
            bounds.max += u32::from(states.may_be(wanted));
        }
        bounds
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.min += more.min;
        self.max += more.max;
    }

    pub(crate) fn contains(self, number: u32) -> bool {
        (self.min..=self.max).contains(&number)
    }

    pub(crate) fn is_certain(self) -> bool {
        self.min == self.max
    }

    pub(crate) fn widen(&mut self, other: Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

/// A torrent, as seen by the peers of one IP family.
pub(crate) type Torrent = (IpFamily, InfoHash);

/// Everything that a torrent can have been since a request was delivered.
pub(crate) struct Window {
    pub(crate) torrent: Torrent,
    /// Who is not here was absent.
    pub(crate) peers: BTreeMap<SocketAddr, States>,
    pub(crate) completed: Bounds,
    /// The tracker may have forgotten the torrent, and with it the number of downloads.
    pub(crate) forgotten: bool,
}

impl Window {
    /// How many peers, other than `except`, were in a state of `wanted`.
    pub(crate) fn count(&self, wanted: States, except: Option<SocketAddr>) -> Bounds {
        let others = self.peers.iter().filter(|(addr, _)| Some(**addr) != except);
        Bounds::count(others.map(|(_, states)| *states), wanted)
    }
}
