//! Proxies that are trusted to report client addresses.

use std::net::IpAddr;

use aquatic_access_list::{Network, NetworkError};
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
}
