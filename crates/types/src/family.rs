//! IPv4 and IPv6 side by side.

use std::net::SocketAddr;

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// Both, in the order in which they are always reported.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// `"4"` or `"6"`: the value of the metric label `ip_version`.
    #[must_use]
    pub fn digit(self) -> &'static str {
        match self {
            Self::V4 => "4",
            Self::V6 => "6",
        }
    }

    /// The one that this is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// The family of a socket address, taken as it stands (see [`crate::CanonicalAddr`]).
    #[must_use]
    pub fn of(addr: &SocketAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// One value for IPv4 and one for IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerFamily<A, B = A> {
    /// The IPv4 value.
    pub v4: A,
    /// The IPv6 value.
    pub v6: B,
}

impl<T> PerFamily<T> {
    /// What `make` makes of each.
    pub fn new(mut make: impl FnMut(IpFamily) -> T) -> Self {
        Self {
            v4: make(IpFamily::V4),
            v6: make(IpFamily::V6),
        }
    }

    /// The value of `family`.
    #[must_use]
    pub fn get(&self, family: IpFamily) -> &T {
        match family {
            IpFamily::V4 => &self.v4,
            IpFamily::V6 => &self.v6,
        }
    }

    /// The value of `family`, to change it.
    pub fn get_mut(&mut self, family: IpFamily) -> &mut T {
        match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        }
    }
}
