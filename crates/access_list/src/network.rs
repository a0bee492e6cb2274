//! One network, as operators write it.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// The addresses that begin with the same bits: an address (`192.0.2.1`) or a prefix in CIDR
/// notation (`10.0.0.0/8`). Never IPv4-mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// Why a text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// Neither an address nor an address, a slash and a number.
    Syntax,
    /// More bits than an address of its family has, which is this many.
    PrefixTooLong(u8),
    /// An address within the network instead of its first one. Could be a mistyped prefix.
    NotTheFirst(Network),
}

/// Bits that all IPv4-mapped addresses have in common: `::ffff:0:0/96`.
const MAPPED_PREFIX_BITS: u8 = 96;

const _: () = assert!(MAPPED_PREFIX_BITS as u32 == Ipv6Addr::BITS - 32);

impl Network {
    /// Whether the address is in the network. An IPv4-mapped address is the IPv4 address.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }

    /// The first and the last address, which are of one family.
    #[must_use]
    pub fn range(&self) -> (IpAddr, IpAddr) {
        match self.0 {
            IpNet::V4(network) => (network.network().into(), network.broadcast().into()),
            IpNet::V6(network) => (network.network().into(), network.broadcast().into()),
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (ip, prefix_bits) = match text.split_once('/') {
            None => (text, None),
            Some((ip, bits)) => {
                let is_decimal = bits.bytes().all(|byte| byte.is_ascii_digit());
                let bits = bits.parse::<u32>().ok().filter(|_| is_decimal);
                (ip, Some(bits.ok_or(NetworkError::Syntax)?))
            }
        };
        let mut ip: IpAddr = ip.parse().map_err(|_| NetworkError::Syntax)?;
        let bits = IpNet::from(ip).max_prefix_len();
        let prefix_bits = prefix_bits.unwrap_or(bits.into());
        let prefix_bits = u8::try_from(prefix_bits).ok().filter(|it| *it <= bits);
        let mut prefix_bits = prefix_bits.ok_or(NetworkError::PrefixTooLong(bits))?;
        // The same network of IPv4 in the clothes of IPv6; a larger one is not IPv4 alone.
        if ip.is_ipv6() && ip.to_canonical().is_ipv4() && prefix_bits >= MAPPED_PREFIX_BITS {
            ip = ip.to_canonical();
            prefix_bits -= MAPPED_PREFIX_BITS;
        }
        let around = IpNet::new(ip, prefix_bits);
        let around = around.map_err(|_| NetworkError::PrefixTooLong(bits))?;
        let network = Self(around.trunc());
        if network.0 != around {
            return Err(NetworkError::NotTheFirst(network));
        }
        Ok(network)
    }
}

impl Display for Network {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

impl Display for NetworkError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax => f.write_str(
                "is not an IP address or network: write for example \"192.0.2.1\" or \
                 \"10.0.0.0/8\"",
            ),
            Self::PrefixTooLong(bits) => {
                write!(f, "has a prefix longer than the {bits} bits of an address")
            }
            Self::NotTheFirst(network) => write!(
                f,
                "has bits set after its prefix: write {network}, the whole network, or no prefix \
                 for this one address"
            ),
        }
    }
}

impl std::error::Error for NetworkError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn mapped_networks_are_ipv4() {
        for (text, same) in [
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(text.parse::<Network>(), same.parse(), "{text}");
        }
        assert!(network("10.0.0.0/8").contains("::ffff:10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn errors_say_what_to_write() {
        for (text, hint) in [
            ("proxy.example", "192.0.2.1"),
            ("", "10.0.0.0/8"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("10.0.0.0/", "10.0.0.0/8"),
            ("10.0.0.0/+8", "10.0.0.0/8"),
            ("10.0.0.0/33", "32 bits"),
            ("10.0.0.0/264", "32 bits"),
            ("::/129", "128 bits"),
            ("10.1.2.3/8", "write 10.0.0.0/8,"),
            ("2001:db8::1/32", "write 2001:db8::/32,"),
        ] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_network_contains_what_shares_its_prefix(
            own: u128, other: u128, shared_bits in 0..=128_u32, prefix_bits in 0..=128_u8
        ) {
            // An address that differs from `own` right after `shared_bits`, if they leave any bit.
            let low = u128::MAX.checked_shr(shared_bits).unwrap_or(0);
            let differing = low ^ (low >> 1);
            let other = (own & !low) | ((own ^ differing) & differing) | (other & (low >> 1));
            let own = IpAddr::V6(own.into());
            let network = Network(IpNet::new(own, prefix_bits).unwrap().trunc());
            prop_assume!(own.to_canonical().is_ipv6());
            let other = IpAddr::V6(other.into());
            prop_assume!(other.to_canonical().is_ipv6());
            prop_assert!(network.contains(own));
            prop_assert_eq!(network.contains(other), shared_bits >= u32::from(prefix_bits));
        }

        #[test]
        fn a_network_reads_what_it_writes(bits: u32, prefix_bits in 0..=32_u8) {
            let around = IpNet::new(IpAddr::V4(bits.into()), prefix_bits).unwrap();
            let network = Network(around.trunc());
            prop_assert_eq!(network.to_string().parse(), Ok(network));
        }
    }
}
