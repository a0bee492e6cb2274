//! The PROXY protocol, versions 1 and 2: what a proxy in front of a daemon says about the client.
//!
//! A proxy that passes bytes on without understanding them (haproxy in TCP mode, a load balancer)
//! hides who the client is. So it sends one header ahead of the client's first byte, in the clear
//! even if TLS follows: a line of text (version 1) or a binary block (version 2). Which one it is
//! shows in the first byte.
//!
//! [`parse`] looks at all that has come so far. Once it has said something definite, more bytes
//! do not change it, so it does not matter how the network cuts a header into pieces.
//!
//! Type-length-value fields of version 2 are skipped, the checksum among them. Datagrams and the
//! sending side are left out.
//!
//! Source: *The PROXY protocol, versions 1 & 2* (doc/proxy-protocol.txt of haproxy).

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str;

use aquatic_types::CanonicalAddr;

/// Bytes of the longest line of version 1, with its CR LF: `UNKNOWN` and two IPv6 addresses.
const V1_SIZE_MAX: usize = 107;
const V1_PREFIX: &[u8] = b"PROXY ";

const V2_PREFIX: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before the addresses: signature, command, family and length.
const V2_FIXED_SIZE: usize = 16;
/// Bytes of addresses and fields after [`V2_FIXED_SIZE`]: the largest addresses (two paths of Unix
/// sockets) and 4 KiB of fields. Real ones have a few hundred bytes at most.
const V2_REST_SIZE_MAX: usize = 216 + 4_096;

/// Bytes of the longest header that is accepted.
pub const PROXY_HEADER_SIZE_MAX: usize = V2_FIXED_SIZE + V2_REST_SIZE_MAX;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Bytes of the header. What follows is the client's.
    pub size: usize,
    /// Who is connected to the proxy. None: the proxy speaks for itself (a health check) or does
    /// not know, and the addresses of the connection are the right ones.
    pub addresses: Option<ProxiedAddresses>,
}

/// Both ends of the connection between client and proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxiedAddresses {
    /// The client.
    pub source: CanonicalAddr,
    /// What the client has connected to.
    pub destination: CanonicalAddr,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeaderError {
    /// They begin like neither version.
    Missing,
    /// The header is longer than [allowed](PROXY_HEADER_SIZE_MAX).
    TooLong,
    /// A line of version 1 that does not say what it should.
    Line,
    /// The first half byte is not 2.
    Version(u8),
    /// Neither LOCAL nor PROXY.
    Command(u8),
    /// An unassigned address family or transport protocol.
    Family(u8),
    /// The addresses do not fit into the stated length.
    TooShort,
}

impl Display for ProxyHeaderError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no PROXY protocol header"),
            Self::TooLong => f.write_str("a PROXY protocol header that is too long"),
            Self::Line => f.write_str("a malformed PROXY protocol line"),
            Self::Version(version) => write!(f, "unknown PROXY protocol version {version}"),
            Self::Command(command) => write!(f, "unknown PROXY protocol command {command}"),
            Self::Family(family) => {
                write!(f, "unknown PROXY protocol address family {family:#04x}")
            }
            Self::TooShort => f.write_str("a PROXY protocol header too short for its addresses"),
        }
    }
}

impl std::error::Error for ProxyHeaderError {}

/// Reads the header at the start of `bytes`, all that the connection has received so far.
///
/// `Ok(None)` = so far so good, but there must be more. That ends at
/// [`PROXY_HEADER_SIZE_MAX`] bytes at the latest.
///
/// # Errors
/// If no continuation of the bytes would be a header.
pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    if bytes.starts_with(V2_PREFIX) {
        parse_v2(bytes)
    } else if bytes.starts_with(V1_PREFIX) {
        parse_v1(bytes)
    } else if V1_PREFIX.starts_with(bytes) || V2_PREFIX.starts_with(bytes) {
        Ok(None)
    } else {
        Err(ProxyHeaderError::Missing)
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let line_feed = bytes
        .iter()
        .take(V1_SIZE_MAX)
        .position(|byte| *byte == b'\n');
    let Some(line_feed) = line_feed else {
        return if bytes.len() < V1_SIZE_MAX {
            Ok(None)
        } else {
            Err(ProxyHeaderError::TooLong)
        };
    };
    let addresses = bytes
        .get(V1_PREFIX.len()..line_feed)
        .and_then(|line| line.strip_suffix(b"\r"))
        .and_then(|line| str::from_utf8(line).ok())
        .and_then(v1_addresses)
        .ok_or(ProxyHeaderError::Line)?;
    Ok(Some(ProxyHeader {
        size: line_feed + 1,
        addresses,
    }))
}

/// What follows `PROXY `: `TCP4 192.0.2.1 203.0.113.1 56324 443`, say. The outer `None` means that
/// it is malformed.
fn v1_addresses(line: &str) -> Option<Option<ProxiedAddresses>> {
    let mut words = line.split(' ');
    let is_ipv6 = match words.next()? {
        // Whatever a proxy adds to this word is to be ignored.
        "UNKNOWN" => return Some(None),
        "TCP4" => false,
        "TCP6" => true,
        _ => return None,
    };
    let [source, destination, source_port, destination_port] =
        [(); 4].map(|()| words.next().unwrap_or_default());
    if words.next().is_some() {
        return None;
    }
    let ip = |word: &str| {
        word.parse()
            .ok()
            .filter(|ip: &IpAddr| ip.is_ipv6() == is_ipv6)
    };
    Some(Some(ProxiedAddresses {
        source: canonical(ip(source)?, v1_port(source_port)?),
        destination: canonical(ip(destination)?, v1_port(destination_port)?),
    }))
}

fn v1_port(word: &str) -> Option<u16> {
    let is_decimal = word.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal.then(|| word.parse().ok()).flatten()
}

fn parse_v2(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    // Byte by byte in the order of arrival, so that a mistake is the same however much has come.
    let Some(version_and_command) = bytes.get(12) else {
        return Ok(None);
    };
    if version_and_command >> 4 != 2 {
        return Err(ProxyHeaderError::Version(version_and_command >> 4));
    }
    let is_proxied = match version_and_command & 0xf {
        0 => false,
        1 => true,
        command => return Err(ProxyHeaderError::Command(command)),
    };
    let Some(&family_and_transport) = bytes.get(13) else {
        return Ok(None);
    };
    // Of a connection of the proxy's own nothing matters but the length.
    let (addresses_size, read_addresses) = match is_proxied {
        true => v2_addresses(family_and_transport)?,
        false => NO_ADDRESSES,
    };
    let Some(&[high, low]) = bytes.get(14..V2_FIXED_SIZE) else {
        return Ok(None);
    };
    let rest_size = usize::from(u16::from_be_bytes([high, low]));
    if rest_size < addresses_size {
        return Err(ProxyHeaderError::TooShort);
    }
    if rest_size > V2_REST_SIZE_MAX {
        return Err(ProxyHeaderError::TooLong);
    }
    let size = V2_FIXED_SIZE + rest_size;
    let Some(rest) = bytes.get(V2_FIXED_SIZE..size) else {
        return Ok(None);
    };
    Ok(Some(ProxyHeader {
        size,
        addresses: read_addresses(rest),
    }))
}

type ReadAddresses = fn(&[u8]) -> Option<ProxiedAddresses>;

/// Unspecified or Unix sockets: nothing that a client could be told by.
const NO_ADDRESSES: (usize, ReadAddresses) = (0, |_| None);

/// How many bytes of addresses follow, and how to read them.
fn v2_addresses(family_and_transport: u8) -> Result<(usize, ReadAddresses), ProxyHeaderError> {
    // Transport: unspecified, stream or datagram. Only the address matters here.
    match (family_and_transport >> 4, family_and_transport & 0xf) {
        (0 | 3, 0..=2) => Ok(NO_ADDRESSES),
        (1, 0..=2) => Ok((12, v2_pair::<4, Ipv4Addr>)),
        (2, 0..=2) => Ok((36, v2_pair::<16, Ipv6Addr>)),
        _ => Err(ProxyHeaderError::Family(family_and_transport)),
    }
}

/// Two addresses, then their two ports.
fn v2_pair<const SIZE: usize, Ip>(bytes: &[u8]) -> Option<ProxiedAddresses>
where
    Ip: From<[u8; SIZE]> + Into<IpAddr>,
{
    let (source_ip, bytes) = bytes.split_first_chunk::<SIZE>()?;
    let (destination_ip, bytes) = bytes.split_first_chunk::<SIZE>()?;
    let (source_port, bytes) = bytes.split_first_chunk::<2>()?;
    let (destination_port, _) = bytes.split_first_chunk::<2>()?;
    Some(ProxiedAddresses {
        source: canonical(Ip::from(*source_ip), u16::from_be_bytes(*source_port)),
        destination: canonical(
            Ip::from(*destination_ip),
            u16::from_be_bytes(*destination_port),
        ),
    })
}

fn canonical(ip: impl Into<IpAddr>, port: u16) -> CanonicalAddr {
    CanonicalAddr::new(SocketAddr::new(ip.into(), port))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn addresses(source: &str, destination: &str) -> Option<ProxiedAddresses> {
        let canonical = |text: &str| CanonicalAddr::new(text.parse().unwrap());
        Some(ProxiedAddresses {
            source: canonical(source),
            destination: canonical(destination),
        })
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_PREFIX, &[0x20 | command, family], &len, rest].concat()
    }

    /// `bytes` is a header and nothing else; it is recognised as soon as, and not before, it is
    /// complete; and what follows is not looked at.
    fn assert_header(bytes: &[u8], addresses: Option<ProxiedAddresses>) {
        let header = ProxyHeader {
            size: bytes.len(),
            addresses,
        };
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(None), "{end} bytes");
        }
        assert_eq!(parse(bytes), Ok(Some(header)));
        assert_eq!(parse(&[bytes, b"GET / "].concat()), Ok(Some(header)));
    }

    #[test]
    fn lines_of_version_1() {
        assert_header(
            b"PROXY TCP4 192.0.2.1 203.0.113.7 56324 443\r\n",
            addresses("192.0.2.1:56324", "203.0.113.7:443"),
        );
        assert_header(
            b"PROXY TCP6 2001:db8::1 2001:db8::2 65535 0\r\n",
            addresses("[2001:db8::1]:65535", "[2001:db8::2]:0"),
        );
        assert_header(
            b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n",
            addresses("192.0.2.1:1", "192.0.2.2:2"),
        );
        assert_header(b"PROXY UNKNOWN\r\n", None);
        assert_header(b"PROXY UNKNOWN what ever\r\n", None);
        let ip = ["ffff"; 8].join(":");
        let longest = format!("PROXY UNKNOWN {ip} {ip} 65535 65535\r\n");
        assert_eq!(longest.len(), V1_SIZE_MAX);
        assert_header(longest.as_bytes(), None);
    }

    #[test]
    fn malformed_lines() {
        for line in [
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
            "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.256 1 2\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
            "PROXY UNKNOWN\n",
        ] {
            assert_eq!(
                parse(line.as_bytes()),
                Err(ProxyHeaderError::Line),
                "{line}"
            );
        }
    }

    #[test]
    fn blocks_of_version_2() {
        let ipv4 = [192, 0, 2, 1, 203, 0, 113, 7, 0xdc, 0x04, 0x01, 0xbb];
        let expected = addresses("192.0.2.1:56324", "203.0.113.7:443");
        assert_header(&v2(1, 0x11, &ipv4), expected);
        let with_fields = [&ipv4[..], &[0x04, 0, 3, 0, 0, 0], b"\xff\xff\xff\xff"].concat();
        assert_header(&v2(1, 0x11, &with_fields), expected);

        let mut ipv6 = [0; 36];
        ipv6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        ipv6[15] = 1;
        ipv6[26..32].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 2]);
        ipv6[33] = 80;
        ipv6[35] = 81;
        assert_header(
            &v2(1, 0x21, &ipv6),
            addresses("[2001:db8::1]:80", "192.0.2.2:81"),
        );

        assert_header(&v2(0, 0x11, &ipv4), None);
        assert_header(&v2(0, 0xff, &[]), None);
        assert_header(&v2(1, 0x00, b"anything"), None);
        assert_header(&v2(1, 0x31, &[b'/'; 216]), None);
        assert_header(&v2(0, 0x00, &[0; V2_REST_SIZE_MAX]), None);
    }

    #[test]
    fn malformed_blocks() {
        let short = [0; 11];
        let long = [0; V2_REST_SIZE_MAX + 1];
        let mut other_version = v2(1, 0x11, &[0; 12]);
        other_version[12] = 0x31;
        for (bytes, error) in [
            (other_version, ProxyHeaderError::Version(3)),
            (v2(2, 0x11, &[0; 12]), ProxyHeaderError::Command(2)),
            (v2(1, 0x41, &[0; 12]), ProxyHeaderError::Family(0x41)),
            (v2(1, 0x13, &[0; 12]), ProxyHeaderError::Family(0x13)),
            (v2(1, 0x11, &short), ProxyHeaderError::TooShort),
            (v2(1, 0x21, &[0; 35]), ProxyHeaderError::TooShort),
            (v2(1, 0x11, &long), ProxyHeaderError::TooLong),
        ] {
            assert_eq!(parse(&bytes), Err(error));
        }
    }

    #[test]
    fn what_is_no_header_is_recognised_at_once() {
        for bytes in [
            &b"GET /announce"[..],
            b"POST",
            b"PROXY\r\n",
            b"\r\n\r\n\r",
            b"\x16\x03\x01",
        ] {
            assert_eq!(parse(bytes), Err(ProxyHeaderError::Missing));
        }
        assert_eq!(
            parse(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; V1_SIZE_MAX]].concat()),
            Err(ProxyHeaderError::TooLong)
        );
    }

    /// Bytes that come near to being a header.
    fn nearly_a_header() -> impl Strategy<Value = Vec<u8>> {
        let junk = vec(any::<u8>(), 0..300);
        let word = prop_oneof![
            Just("TCP4"),
            Just("TCP6"),
            Just("UNKNOWN"),
            Just("192.0.2.1"),
            Just("::1"),
            Just("80"),
            Just("65536"),
            Just(""),
            Just("\r\n"),
            Just("\n"),
        ];
        let line = vec(word, 0..9).prop_map(|words| format!("PROXY {}\r\n", words.join(" ")));
        let block = (0..4_u8, any::<u8>(), any::<u16>(), vec(any::<u8>(), 0..60)).prop_map(
            |(command, family, length, rest)| {
                let mut bytes = v2(command, family & 0x33, &rest);
                if length % 4 == 0 {
                    bytes[14..16].copy_from_slice(&(length % 8_192).to_be_bytes());
                }
                bytes
            },
        );
        prop_oneof![junk.clone(), line.prop_map(String::into_bytes), block].prop_flat_map(
            move |start| {
                junk.clone()
                    .prop_map(move |end| [&start[..], &end].concat())
            },
        )
    }

    proptest! {
        #[test]
        fn more_bytes_change_nothing(bytes in nearly_a_header()) {
            let whole = parse(&bytes);
            let decided = (0..=bytes.len()).find(|end| parse(&bytes[..*end]) != Ok(None));
            match decided {
                None => prop_assert_eq!(whole, Ok(None)),
                Some(first) => for end in first..=bytes.len() {
                    prop_assert_eq!(parse(&bytes[..end]), whole);
                }
            }
            if let Ok(Some(header)) = whole {
                prop_assert_eq!(decided, Some(header.size));
            }
        }

        #[test]
        fn waiting_ends(bytes in nearly_a_header()) {
            let mut longest = bytes;
            longest.resize(longest.len().max(PROXY_HEADER_SIZE_MAX), 0);
            prop_assert_ne!(parse(&longest), Ok(None));
        }

        #[test]
        fn version_1_says_what_the_standard_library_writes(
            source in any::<(u128, u16)>(), destination in any::<(u128, u16)>()
        ) {
            let (from, to) = (Ipv6Addr::from(source.0), Ipv6Addr::from(destination.0));
            let line = format!("PROXY TCP6 {from} {to} {} {}\r\n", source.1, destination.1);
            assert_header(line.as_bytes(), Some(ProxiedAddresses {
                source: canonical(from, source.1),
                destination: canonical(to, destination.1),
            }));
        }
    }
}
