//! Networks whose clients are not served, and the format of the file that names them.

use std::fmt::{self, Debug, Display, Formatter};
use std::io::{self, BufRead, Read};
use std::net::IpAddr;

use crate::network::{Network, NetworkError};

/// A set of addresses, made of networks.
///
/// What is kept are ranges of addresses, sorted and disjoint: 8 bytes per range of IPv4, 32 per
/// range of IPv6, whatever the length of the prefixes. A look-up is a binary search: how deep
/// networks are nested in the file costs nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DeniedNetworks {
    v4: Vec<Range<u32>>,
    v6: Vec<Range<u128>>,
    entries: usize,
}

/// From the first to the last address.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Range<A> {
    first: A,
    last: A,
}

/// The number of an address among all of its family.
trait Number: Copy + Ord {
    /// The next one, if there is one.
    fn next(self) -> Option<Self>;
}

impl Number for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Number for u128 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl DeniedNetworks {
    /// Reads one network per line: an address (`192.0.2.1`) or a prefix in CIDR notation
    /// (`10.0.0.0/8`, `2001:db8::/32`).
    ///
    /// Blank lines, white space around a network and either kind of line end are fine, and so are
    /// networks that overlap. What follows `#` or `;` is a comment, as in the published lists.
    ///
    /// # Errors
    ///
    /// At the first line that is anything else, or cannot be read.
    pub fn parse(mut reader: impl BufRead) -> Result<Self, DeniedNetworksError> {
        let mut networks = Self::default();
        let mut line = Vec::new();
        for number in 1.. {
            let error = |kind| DeniedNetworksError { line: number, kind };
            line.clear();
            let limit = LINE_BYTES_MAX as u64 + 1;
            match reader.by_ref().take(limit).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(size) if size > LINE_BYTES_MAX => {
                    return Err(error(DeniedNetworksErrorKind::TooLong));
                }
                Ok(_) => {
                    if let Some(network) = parse_line(&line).map_err(error)? {
                        networks.push(network);
                    }
                }
                Err(cause) => return Err(error(DeniedNetworksErrorKind::Read(cause))),
            }
        }
        networks.settle();
        Ok(networks)
    }

    /// Whether the address is of one of the networks. An IPv4-mapped address is the IPv4 address.
    #[inline]
    #[must_use]
    pub fn contain(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => is_in(&self.v4, ip.into()),
            IpAddr::V6(ip) => is_in(&self.v6, ip.into()),
        }
    }

    /// How many networks have been named, those within others included.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// The addresses of IPv4 in them: sorted ranges that do not touch, each from its first to its
    /// last address.
    pub fn ranges_v4(&self) -> impl Iterator<Item = (u32, u32)> {
        self.v4.iter().map(|range| (range.first, range.last))
    }

    /// The same of IPv6.
    pub fn ranges_v6(&self) -> impl Iterator<Item = (u128, u128)> {
        self.v6.iter().map(|range| (range.first, range.last))
    }

    fn push(&mut self, network: Network) {
        self.entries += 1;
        match network.range() {
            (IpAddr::V4(first), IpAddr::V4(last)) => self.v4.push(Range {
                first: first.into(),
                last: last.into(),
            }),
            (IpAddr::V6(first), IpAddr::V6(last)) => self.v6.push(Range {
                first: first.into(),
                last: last.into(),
            }),
            // A network has one family.
            _ => {}
        }
    }

    /// Sorts the ranges, and makes one of those that overlap or touch.
    fn settle(&mut self) {
        merge(&mut self.v4);
        merge(&mut self.v6);
    }
}

fn merge<A: Number>(ranges: &mut Vec<Range<A>>) {
    ranges.sort_unstable_by_key(|range| range.first);
    ranges.dedup_by(|next, before| {
        let touches = before.last.next().is_none_or(|after| next.first <= after);
        if touches {
            before.last = before.last.max(next.last);
        }
        touches
    });
    ranges.shrink_to_fit();
}

#[inline]
fn is_in<A: Number>(ranges: &[Range<A>], address: A) -> bool {
    let behind = ranges.partition_point(|range| range.first <= address);
    let before = behind.checked_sub(1).and_then(|index| ranges.get(index));
    before.is_some_and(|range| address <= range.last)
}

/// Longer lines are of no list: without a bound, a file without line ends (an image of a disk, say)
/// would be read into memory as a whole.
const LINE_BYTES_MAX: usize = 4 * 1_024;

/// Some editors begin a file with a byte order mark, which no one can see.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The network of a line, if it is not blank or a comment.
fn parse_line(line: &[u8]) -> Result<Option<Network>, DeniedNetworksErrorKind> {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    // A comment need not be UTF-8.
    let mut parts = line.split(|byte| b"#;".contains(byte));
    let network = parts.next().unwrap_or_default().trim_ascii();
    if network.is_empty() {
        return Ok(None);
    }
    let text = str::from_utf8(network).map_err(|_| DeniedNetworksErrorKind::NotText)?;
    let parsed = text.parse();
    let shown = || text.chars().take(TEXT_CHARS_SHOWN).collect();
    parsed
        .map(Some)
        .map_err(|cause| DeniedNetworksErrorKind::Network(shown(), cause))
}

/// Characters of a wrong line that an error shows: the longest network has fewer.
const TEXT_CHARS_SHOWN: usize = 60;

impl FromIterator<Network> for DeniedNetworks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let mut denied = Self::default();
        networks.into_iter().for_each(|it| denied.push(it));
        denied.settle();
        denied
    }
}

impl Debug for DeniedNetworks {
    /// The length only: lists are long.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "DeniedNetworks({} networks)", self.entries)
    }
}

/// Why a file is no list of networks. The caller knows the file's name.
#[derive(Debug)]
pub struct DeniedNetworksError {
    /// Where: the first line is 1.
    pub line: u64,
    /// What is wrong there.
    pub kind: DeniedNetworksErrorKind,
}

/// What is wrong with a line of such a file.
#[derive(Debug)]
pub enum DeniedNetworksErrorKind {
    /// The beginning of what stands there, and why it is no network.
    Network(String, NetworkError),
    /// It has more than 4 KiB.
    TooLong,
    /// It is not even text: the file may be of another kind.
    NotText,
    /// It could not be read.
    Read(io::Error),
}

impl Display for DeniedNetworksError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.kind {
            DeniedNetworksErrorKind::Network(text, cause) => write!(f, "{text:?} {cause}"),
            DeniedNetworksErrorKind::TooLong => write!(f, "longer than {LINE_BYTES_MAX} bytes"),
            DeniedNetworksErrorKind::NotText => f.write_str("not UTF-8 text"),
            DeniedNetworksErrorKind::Read(cause) => write!(f, "cannot be read: {cause}"),
        }
    }
}

/// No `source`: the cause is part of the message.
impl std::error::Error for DeniedNetworksError {}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn error(file: &[u8]) -> String {
        DeniedNetworks::parse(file).unwrap_err().to_string()
    }

    #[test]
    fn addresses_of_the_networks_are_in_and_their_neighbours_are_not() {
        let file = "\u{feff}# ours\r\n192.0.2.1\n 10.0.0.0/8 ; SBL1\n\n2001:db8::/32#\n::1\n\
                    10.1.0.0/16\n";
        let networks = DeniedNetworks::parse(file.as_bytes()).unwrap();
        assert_eq!(networks.entries(), 5);
        for denied in [
            "192.0.2.1",
            "::ffff:192.0.2.1",
            "10.0.0.0",
            "10.1.2.3",
            "10.255.255.255",
            "2001:db8::",
            "2001:db8:ffff::1",
            "::1",
        ] {
            assert!(networks.contain(ip(denied)), "{denied}");
        }
        for served in [
            "192.0.2.0",
            "192.0.2.2",
            "9.255.255.255",
            "11.0.0.0",
            "2001:db7:ffff::",
            "2001:db9::",
            "::",
            "::2",
            "::10.0.0.1",
        ] {
            assert!(!networks.contain(ip(served)), "{served}");
        }
        assert!(!DeniedNetworks::default().contain(ip("192.0.2.1")));
    }

    #[test]
    fn a_family_is_a_family() {
        let all = DeniedNetworks::parse(&b"0.0.0.0/1\n128.0.0.0/1\n"[..]).unwrap();
        assert!(all.contain(ip("0.0.0.0")) && all.contain(ip("255.255.255.255")));
        assert!(!all.contain(ip("2001:db8::")));
        let all = DeniedNetworks::parse(&b"::/0\nffff::/16"[..]).unwrap();
        assert!(all.contain(ip("2001:db8::")) && !all.contain(ip("192.0.2.1")));
    }

    #[test]
    fn an_error_names_line_and_fault() {
        assert_eq!(
            error(b"# x\n10.0.0.0/8\n10.1.2.3/8\n"),
            "line 3: \"10.1.2.3/8\" has bits set after its prefix: write 10.0.0.0/8, the \
             whole network, or no prefix for this one address"
        );
        assert_eq!(
            error(b"10.0.0.0/33"),
            "line 1: \"10.0.0.0/33\" has a prefix longer than the 32 bits of an address"
        );
        let expected = "line 2: \"10.0.0.1 10.0.0.2\" is not an IP address or network: write for \
                        example";
        assert!(error(b"\n10.0.0.1 10.0.0.2").starts_with(expected));
        assert_eq!(error(b"\n\xff\xfe\n"), "line 2: not UTF-8 text");
        let endless = DeniedNetworks::parse(BufReader::new(io::repeat(b'1')));
        assert_eq!(
            endless.unwrap_err().to_string(),
            "line 1: longer than 4096 bytes"
        );
    }

    /// Networks of few addresses, so that they overlap, touch and are next to each other.
    fn networks() -> impl Strategy<Value = Vec<Network>> {
        let v4 = (0..64_u32, 26..=32_u32).prop_map(|(low, bits)| {
            let first = 0xffff_ffc0 | low & !(u32::MAX.checked_shr(bits).unwrap_or(0));
            format!("{}/{bits}", IpAddr::V4(first.into()))
        });
        let v6 = (0..64_u128, 122..=128_u32).prop_map(|(low, bits)| {
            let first = low & !(u128::MAX.checked_shr(bits).unwrap_or(0));
            format!("{}/{bits}", IpAddr::V6(first.into()))
        });
        let network = prop_oneof![v4, v6].prop_map(|text| text.parse().unwrap());
        vec(network, 0..12)
    }

    proptest! {
        #[test]
        fn ranges_have_what_the_networks_have(networks in networks(), low in 0..64_u32) {
            let denied = DeniedNetworks::from_iter(networks.iter().copied());
            prop_assert_eq!(denied.entries(), networks.len());
            let addresses = [
                IpAddr::V4((0xffff_ffc0 | low).into()),
                IpAddr::V6(u128::from(low).into()),
                IpAddr::V4(low.into()),
            ];
            for address in addresses {
                let expected = networks.iter().any(|network| network.contains(address));
                prop_assert_eq!(denied.contain(address), expected, "{}", address);
            }
            let is_settled = denied.v4.is_sorted_by(|a, b| a.last + 1 < b.first)
                && denied.v6.is_sorted_by(|a, b| a.last + 1 < b.first);
            prop_assert!(is_settled, "ranges overlap or touch");
        }

        #[test]
        fn any_bytes_are_a_list_or_an_error(file in vec(any::<u8>(), 0..300)) {
            let lines = 1 + file.iter().filter(|byte| **byte == b'\n').count();
            match DeniedNetworks::parse(&file[..]) {
                Ok(list) => prop_assert!(list.entries() <= lines),
                Err(error) => prop_assert!((1..=lines).contains(&usize::try_from(error.line)?)),
            }
        }
    }
}
