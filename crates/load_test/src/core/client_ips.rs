//! The addresses that a tester's sockets are bound to.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use aquatic_config::Checks;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Neighbouring addresses of one family, in the file `"127.0.0.1-127.0.0.4"` or just one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpRange {
    first: IpAddr,
    last: IpAddr,
}

impl IpRange {
    /// Four addresses that every machine has, or at least every Linux machine.
    pub const LOOPBACK: Self = Self {
        first: IpAddr::V4(Ipv4Addr::LOCALHOST),
        last: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4)),
    };

    /// Whether the addresses exist only within the machine.
    fn is_loopback(&self) -> bool {
        self.first.is_loopback() && self.last.is_loopback()
    }

    fn len(&self) -> u64 {
        let distance = to_bits(self.last).saturating_sub(to_bits(self.first));
        u64::try_from(distance)
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }

    fn get(&self, place: u64) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => {
                let place = u32::try_from(place).unwrap_or(0);
                Ipv4Addr::from_bits(first.to_bits().wrapping_add(place)).into()
            }
            IpAddr::V6(first) => {
                Ipv6Addr::from_bits(first.to_bits().wrapping_add(place.into())).into()
            }
        }
    }
}

fn to_bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// How many addresses the ranges hold together.
#[must_use]
pub fn count(ranges: &[IpRange]) -> u64 {
    ranges
        .iter()
        .fold(0, |sum, range| sum.saturating_add(range.len()))
}

/// The address of a socket: each address in turn, then from the first again. `None` if there is no
/// range.
#[must_use]
pub fn of_socket(ranges: &[IpRange], socket: usize) -> Option<IpAddr> {
    let mut place = u64::try_from(socket)
        .unwrap_or(0)
        .checked_rem(count(ranges))?;
    for range in ranges {
        if place < range.len() {
            return Some(range.get(place));
        }
        place -= range.len();
    }
    None
}

/// Requires that sockets of all these addresses can reach the tracker.
pub fn check(ranges: &[IpRange], key: &'static str, tracker: IpAddr, checks: &mut Checks) {
    let family = if tracker.is_ipv4() { 4 } else { 6 };
    for range in ranges {
        checks.require(
            range.first.is_ipv4() == tracker.is_ipv4(),
            key,
            format!("{range} cannot reach {tracker}: give addresses of IPv{family}, or none"),
        );
        checks.require(
            range.is_loopback() == tracker.is_loopback(),
            key,
            format!(
                "{range} cannot reach {tracker}: loopback addresses reach only each other; give \
                 other addresses, or none"
            ),
        );
    }
}

impl FromStr for IpRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let ip = |text: &str| {
            let text = text.trim();
            text.parse::<IpAddr>()
                .map_err(|_| format!("{text:?} is not an IP address"))
        };
        let (first, last) = (ip(first)?, ip(last)?);
        if first.is_ipv4() != last.is_ipv4() || first > last {
            return Err(format!("{last} does not follow {first}"));
        }
        Ok(Self { first, last })
    }
}

impl Display for IpRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last {
            write!(f, "{first}")
        } else {
            write!(f, "{first}-{last}")
        }
    }
}

impl Serialize for IpRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IpRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(texts: &[&str]) -> Vec<IpRange> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn sockets_take_addresses_in_turn() {
        let ranges = ranges(&["127.0.0.255-127.0.1.1", "127.0.0.9"]);
        assert_eq!(count(&ranges), 4);
        let ips: Vec<String> = (0..5)
            .map(|socket| of_socket(&ranges, socket).unwrap().to_string())
            .collect();
        assert_eq!(
            ips,
            [
                "127.0.0.255",
                "127.0.1.0",
                "127.0.1.1",
                "127.0.0.9",
                "127.0.0.255"
            ]
        );
        assert_eq!(of_socket(&[], 3), None);
    }

    #[test]
    fn text_round_trips() {
        for text in ["127.0.0.1", "127.0.0.1-127.0.0.4", "::1", "fd00::1-fd00::2"] {
            assert_eq!(text.parse::<IpRange>().unwrap().to_string(), text);
        }
        let v6: IpRange = "fd00::ffff-fd00::1:1".parse().unwrap();
        assert_eq!(v6.len(), 3);
        assert_eq!(v6.get(1), "fd00::1:0".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn nonsense_is_named() {
        for (text, complaint) in [
            ("localhost", "\"localhost\" is not an IP address"),
            ("127.0.0.2-127.0.0.1", "127.0.0.1 does not follow 127.0.0.2"),
            ("127.0.0.1-::1", "::1 does not follow 127.0.0.1"),
        ] {
            assert_eq!(text.parse::<IpRange>().unwrap_err(), complaint);
        }
    }
}
