//! The peers in an announce answer.
//!
//! On either side of the wire they are held as compact rows: 6 bytes for an IPv4 peer (BEP 23), 18
//! for an IPv6 peer (BEP 7). The older form, a list of dictionaries (BEP 3), is made from rows, and
//! made into rows when read.

use std::net::IpAddr;

use aquatic_types::{CompactAddr, CompactV4, CompactV6, PerFamily};

use crate::bencode::{List, Value};
use crate::sink::{Sink, Size};

/// How peers are written into an announce answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PeerForm {
    /// As bytes: `peers` for IPv4, `peers6` for IPv6 (BEP 23, BEP 7).
    #[default]
    Compact,
    /// As a list of dictionaries with `ip` and `port`, both families in `peers` (BEP 3). Without
    /// `peer id`: trackers of this family do not store ids.
    List,
}

impl PeerForm {
    /// The value of the parameter `compact`.
    #[inline]
    pub(crate) fn parse(value: &[u8]) -> Self {
        match value {
            b"0" => Self::List,
            _ => Self::Compact,
        }
    }

    /// Appends `peers`, and `peers6` if there are any.
    #[inline]
    pub(crate) fn put(self, peers: PerFamily<&[u8]>, sink: &mut impl Sink) {
        sink.put(b"5:peers");
        match self {
            Self::Compact => {
                sink.put_string(peers.v4);
                if !peers.v6.is_empty() {
                    sink.put(b"6:peers6");
                    sink.put_string(peers.v6);
                }
            }
            Self::List => put_list(peers, sink),
        }
    }
}

#[inline(never)]
fn put_list(peers: PerFamily<&[u8]>, sink: &mut impl Sink) {
    sink.put(b"l");
    for addr in peers.socket_addrs() {
        sink.put(b"d2:ip");
        let mut size = Size::default();
        size.put_text(format_args!("{}", addr.ip()));
        sink.put_string_size(size.0);
        sink.put_text(format_args!("{}", addr.ip()));
        sink.put_integer(b"4:porti", addr.port().into());
        sink.put(b"e");
    }
    sink.put(b"e");
}

/// Compact rows of the peers in a list of dictionaries. Left out is who has no address that can be
/// used as it is: BEP 3 allows names, too.
pub(crate) fn read_list(list: List<'_>) -> PerFamily<Vec<u8>> {
    let mut rows = PerFamily::<Vec<u8>>::default();
    for peer in list {
        match peer_address(peer) {
            Some((IpAddr::V4(ip), port)) => {
                rows.v4
                    .extend_from_slice(CompactV4::new(ip, port).as_bytes());
            }
            Some((IpAddr::V6(ip), port)) => {
                rows.v6
                    .extend_from_slice(CompactV6::new(ip, port).as_bytes());
            }
            None => {}
        }
    }
    rows
}

fn peer_address(peer: Value<'_>) -> Option<(IpAddr, u16)> {
    let Value::Dictionary(peer) = peer else {
        return None;
    };
    let (mut ip, mut port) = (None, None);
    for (key, value) in peer {
        match (key, value) {
            (b"ip", Value::Bytes(text)) => ip = str::from_utf8(text).ok()?.parse().ok(),
            (b"port", Value::Integer(number)) => port = u16::try_from(number).ok(),
            _ => {}
        }
    }
    Some((ip?, port?))
}
