//! The addresses that a daemon listens on.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};

use crate::explain::{address_hint, meant_address};
use crate::{Checks, OneOrMany};

/// The default port is the one that the trackers of this family have always had.
pub(crate) const DEFAULT_IPV4: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 3000);
pub(crate) const DEFAULT_IPV6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 3000);

/// One or more socket addresses to listen on, all different.
///
/// In the file: one string or a list of strings. Printed as a list. An IPv6 address accepts IPv6
/// only, so that both families can listen on the same port.
///
/// Two are equal if they mean the same sockets, whether a file has named them or not.
#[derive(Clone, Debug)]
pub struct Addresses {
    list: Vec<SocketAddr>,
    are_default: bool,
}

/// Why a list of addresses cannot be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressesError {
    /// It is empty.
    None,
    /// This address occurs twice.
    Twice(SocketAddr),
    /// The first one stands for all addresses of its family, so it includes the second one.
    Includes(SocketAddr, SocketAddr),
    /// An IPv4 address in the clothes of IPv6, which an IPv6 socket that accepts IPv6 only cannot
    /// bind.
    Mapped(SocketAddr, Ipv4Addr),
}

impl Addresses {
    /// # Errors
    /// If the list is empty, or an address occurs twice, is included in another or is IPv4-mapped.
    pub fn new(addresses: Vec<SocketAddr>) -> Result<Self, AddressesError> {
        if addresses.is_empty() {
            return Err(AddressesError::None);
        }
        for (index, address) in addresses.iter().enumerate() {
            for earlier in addresses.iter().take(index) {
                if earlier == address {
                    return Err(AddressesError::Twice(*address));
                }
                for (all, one) in [(earlier, address), (address, earlier)] {
                    if includes(all, one) {
                        return Err(AddressesError::Includes(*all, *one));
                    }
                }
            }
            if let SocketAddr::V6(v6) = address
                && let Some(v4) = v6.ip().to_ipv4_mapped()
            {
                return Err(AddressesError::Mapped(*address, v4));
            }
        }
        Ok(Self {
            list: addresses,
            are_default: false,
        })
    }

    /// Whether nobody has named them: such addresses may be left out where the host lacks their IP
    /// version, while those that an operator has written down are all meant.
    #[must_use]
    pub fn are_default(&self) -> bool {
        self.are_default
    }

    /// The addresses in the order of the file: at least one, all different.
    #[must_use]
    pub fn as_slice(&self) -> &[SocketAddr] {
        &self.list
    }

    /// The addresses in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SocketAddr> {
        self.list.iter().copied()
    }
}

impl Addresses {
    /// Warns of a `network.only_ipv6` that does not keep IPv4 out, because IPv4 has addresses of
    /// its own.
    pub fn check_only_ipv6(&self, only_ipv6: bool, checks: &mut Checks) {
        if let Some(v4) = self.iter().find(|address| only_ipv6 && address.is_ipv4()) {
            checks.warn(
                "network.only_ipv6",
                format!(
                    "`network.only_ipv6` is about `[::]` as the only address: {v4} is served, too; \
                     to serve IPv6 alone, write `network.address = \"[::]:{}\"`",
                    v4.port()
                ),
            );
        }
    }
}

/// Whether `all` is the unspecified address, which stands for all of its family, `one` among them.
fn includes(all: &SocketAddr, one: &SocketAddr) -> bool {
    let same_family = all.is_ipv4() == one.is_ipv4();
    all.ip().is_unspecified() && same_family && all.port() == one.port()
}

impl Default for Addresses {
    /// Port 3000 on every address of the machine, IPv4 and IPv6.
    fn default() -> Self {
        Self {
            list: vec![DEFAULT_IPV4, DEFAULT_IPV6],
            are_default: true,
        }
    }
}

impl PartialEq for Addresses {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Eq for Addresses {}

impl Display for AddressesError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("needs at least one address"),
            Self::Twice(address) => write!(f, "{address} occurs twice: remove one"),
            Self::Includes(all, one) => write!(f, "{all} includes {one}: leave one of them out"),
            Self::Mapped(address, v4) => {
                write!(
                    f,
                    "{address} is an IPv4 address: write {v4}:{}",
                    address.port()
                )
            }
        }
    }
}

impl std::error::Error for AddressesError {}

impl Serialize for Addresses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.list.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = deserializer.deserialize_any(OneOrMany(
            "an address and port such as \"0.0.0.0:3000\" or \"[::]:3000\", or a list of them",
        ))?;
        let addresses = texts.iter().map(|text| parse(text));
        Self::new(addresses.collect::<Result<_, _>>()?).map_err(Error::custom)
    }
}

fn parse<E: Error>(text: &str) -> Result<SocketAddr, E> {
    text.parse().map_err(|_| {
        let start = format!(
            "{text:?} is not an IP address with a port{}",
            address_hint(text)
        );
        E::custom(match meant_address(text) {
            Some(meant) => format!("{start}: write \"{meant}\""),
            None => format!("{start}: write for example \"0.0.0.0:3000\" or \"[::]:3000\""),
        })
    })
}
