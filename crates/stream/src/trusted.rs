//! Proxies that are trusted to report client addresses.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use aquatic_config::OneOrMany;
use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};

/// The proxies that may say who a client is; none listed = whoever connects may.
///
/// In the file: one network or a list of them, each an address (`"192.0.2.1"`) or a prefix in CIDR
/// notation (`"10.0.0.0/8"`). Printed as a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    /// Trusts these networks only, or everybody if there are none.
    #[must_use]
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whether a header from this address is to be believed.
    #[must_use]
    pub fn trust(&self, proxy: IpAddr) -> bool {
        self.0.is_empty() || self.lists(proxy)
    }

    /// Whether the address is of one of the networks.
    #[must_use]
    pub fn lists(&self, proxy: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(proxy))
    }
}

/// The addresses that begin with the same bits. Never IPv4-mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix_bits: u32,
}

/// Why a text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// Neither an address nor an address, a slash and a number.
    Syntax,
    /// More bits than an address of its family has, which is this many.
    PrefixTooLong(u32),
    /// An address within the network instead of its first one. Could be a mistyped prefix.
    NotTheFirst(Network),
}

impl Network {
    /// Whether the address is in the network. An IPv4-mapped address is the IPv4 address.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.first.is_ipv4() && first_of(ip, self.prefix_bits) == self.first
    }
}

/// Bits of an address.
fn bits_of(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The first address of the network of this size around `ip`.
fn first_of(ip: IpAddr, prefix_bits: u32) -> IpAddr {
    let zeros = bits_of(ip).saturating_sub(prefix_bits);
    match ip {
        // A shift by all bits overflows, and leaves nothing.
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(zeros).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(zeros).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
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
                let bits = bits.parse().ok().filter(|_| is_decimal);
                (ip, Some(bits.ok_or(NetworkError::Syntax)?))
            }
        };
        let mut ip: IpAddr = ip.parse().map_err(|_| NetworkError::Syntax)?;
        let bits = bits_of(ip);
        let mut prefix_bits = prefix_bits.unwrap_or(bits);
        if prefix_bits > bits {
            return Err(NetworkError::PrefixTooLong(bits));
        }
        // The same network of IPv4 in the clothes of IPv6; a larger one is not IPv4 alone.
        if ip.is_ipv6() && ip.to_canonical().is_ipv4() && prefix_bits >= MAPPED_PREFIX_BITS {
            ip = ip.to_canonical();
            prefix_bits -= MAPPED_PREFIX_BITS;
        }
        let first = first_of(ip, prefix_bits);
        let network = Self { first, prefix_bits };
        if first != ip {
            return Err(NetworkError::NotTheFirst(network));
        }
        Ok(network)
    }
}

/// Bits that all IPv4-mapped addresses have in common: `::ffff:0:0/96`.
const MAPPED_PREFIX_BITS: u32 = Ipv6Addr::BITS - 32;

impl Display for Network {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.prefix_bits == bits_of(self.first) {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}/{}", self.first, self.prefix_bits)
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
                "has bits set after its prefix: write {network}, or a longer prefix"
            ),
        }
    }
}

impl std::error::Error for NetworkError {}

impl Serialize for TrustedProxies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Network::to_string))
    }
}

impl<'de> Deserialize<'de> for TrustedProxies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = deserializer.deserialize_any(OneOrMany(
            "a list of IP addresses or networks such as \"192.0.2.1\" or \"10.0.0.0/8\"",
        ))?;
        let networks = texts.iter().map(|text| {
            let refusal = |error: NetworkError| Error::custom(format!("{text:?} {error}"));
            text.parse().map_err(refusal)
        });
        networks.collect::<Result<_, _>>().map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn proxies(networks: &[&str]) -> TrustedProxies {
        TrustedProxies::new(networks.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn only_the_listed_are_trusted() {
        let proxies = proxies(&["192.0.2.1", "10.0.0.0/8", "2001:db8:1::/48", "fe80::1"]);
        for trusted in [
            "192.0.2.1",
            "::ffff:192.0.2.1",
            "10.0.0.0",
            "10.255.255.255",
            "2001:db8:1:ffff::1",
            "fe80::1",
        ] {
            assert!(proxies.trust(ip(trusted)), "{trusted}");
        }
        for stranger in [
            "192.0.2.2",
            "9.255.255.255",
            "11.0.0.0",
            "2001:db8:2::",
            "fe80::2",
            "::",
            "::10.0.0.1",
        ] {
            assert!(!proxies.trust(ip(stranger)), "{stranger}");
        }
    }

    #[test]
    fn an_empty_list_trusts_everybody_and_a_family_is_a_family() {
        assert!(TrustedProxies::default().trust(ip("192.0.2.1")));
        assert!(proxies(&["0.0.0.0/0"]).trust(ip("192.0.2.1")));
        assert!(!proxies(&["0.0.0.0/0"]).trust(ip("2001:db8::")));
        assert!(proxies(&["::/0"]).trust(ip("2001:db8::")));
        assert!(!proxies(&["::/0"]).trust(ip("192.0.2.1")));
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
            ("::/129", "128 bits"),
            ("10.1.2.3/8", "write 10.0.0.0/8,"),
            ("2001:db8::1/32", "write 2001:db8::/32,"),
        ] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn the_file_names_the_wrong_entry() {
        let read = |toml: &str| toml::from_str::<File>(toml);
        let one = read("proxies = \"10.0.0.0/8\"").unwrap();
        assert_eq!(one.proxies, proxies(&["10.0.0.0/8"]));
        let many = read("proxies = [\"192.0.2.1\", \"10.0.0.0/8\", \"::1/128\"]").unwrap();
        assert_eq!(many.proxies, proxies(&["192.0.2.1", "10.0.0.0/8", "::1"]));
        assert_eq!(
            toml::to_string(&many).unwrap(),
            "proxies = [\"192.0.2.1\", \"10.0.0.0/8\", \"::1\"]\n"
        );
        let error = read("proxies = [\"192.0.2.1\", \"10.0.0/8\"]").unwrap_err();
        assert!(error.to_string().contains("\"10.0.0/8\" is not"), "{error}");
        let error = read("proxies = 7").unwrap_err();
        assert!(
            error.to_string().contains("a list of IP addresses"),
            "{error}"
        );
    }

    #[derive(serde::Serialize, serde::Deserialize, Debug)]
    struct File {
        proxies: TrustedProxies,
    }

    proptest! {
        #[test]
        fn a_network_contains_what_shares_its_prefix(
            own: u128, other: u128, shared_bits in 0..=128_u32, prefix_bits in 0..=128_u32
        ) {
            // An address that differs from `own` right after `shared_bits`, if they leave any bit.
            let low = u128::MAX.checked_shr(shared_bits).unwrap_or(0);
            let differing = low ^ (low >> 1);
            let other = (own & !low) | ((own ^ differing) & differing) | (other & (low >> 1));
            let own = IpAddr::V6(own.into());
            let network = Network { first: first_of(own, prefix_bits), prefix_bits };
            prop_assume!(own.to_canonical().is_ipv6());
            let other = IpAddr::V6(other.into());
            prop_assume!(other.to_canonical().is_ipv6());
            prop_assert!(network.contains(own));
            prop_assert_eq!(network.contains(other), shared_bits >= prefix_bits);
        }

        #[test]
        fn a_network_reads_what_it_writes(bits: u32, prefix_bits in 0..=32_u32) {
            let ip = IpAddr::V4(bits.into());
            let network = Network { first: first_of(ip, prefix_bits), prefix_bits };
            prop_assert_eq!(network.to_string().parse(), Ok(network));
        }
    }
}
