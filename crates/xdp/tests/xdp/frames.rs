//! Frames as clients send them, and answers as they have to be: written by hand, so that nothing
//! here is the program's own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What a frame is made of.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) macs: [[u8; 6]; 2],
    /// Of 802.1Q.
    pub(crate) tag: Option<u16>,
    pub(crate) payload: Vec<u8>,
    /// The sum of UDP as a card would complete it.
    pub(crate) is_partial: bool,
}

pub(crate) const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

impl Frame {
    pub(crate) fn new(from: SocketAddr, to: SocketAddr, payload: Vec<u8>) -> Self {
        Self {
            from,
            to,
            macs: [SERVER_MAC, CLIENT_MAC],
            tag: None,
            payload,
            is_partial: false,
        }
    }

    /// The answer to it, with this payload.
    pub(crate) fn answer(&self, payload: Vec<u8>) -> Self {
        let [to, from] = self.macs;
        Self {
            from: self.to,
            to: self.from,
            macs: [from, to],
            payload,
            ..self.clone()
        }
    }

    pub(crate) fn start(&self) -> usize {
        if self.tag.is_some() { 18 } else { 14 }
    }

    /// Where UDP's header is.
    pub(crate) fn udp_start(&self) -> usize {
        self.start() + if self.from.is_ipv4() { 20 } else { 40 }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.macs.concat();
        if let Some(tag) = self.tag {
            out.extend([0x81, 0]);
            out.extend(tag.to_be_bytes());
        }
        let udp_bytes = u16::try_from(8 + self.payload.len()).unwrap();
        let addresses = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                out.extend([8, 0]);
                out.extend(v4_header(from, to, udp_bytes));
                [from.octets(), to.octets()].concat()
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                out.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                out.extend(udp_bytes.to_be_bytes());
                out.extend([17, 64]);
                let addresses = [from.octets(), to.octets()].concat();
                out.extend(&addresses);
                addresses
            }
            _ => panic!("two families"),
        };
        let mut pseudo = addresses;
        pseudo.extend([0, 17]);
        pseudo.extend(udp_bytes.to_be_bytes());
        let mut udp = Vec::new();
        udp.extend(self.from.port().to_be_bytes());
        udp.extend(self.to.port().to_be_bytes());
        udp.extend(udp_bytes.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        let sum = match self.is_partial {
            true => sum(&pseudo),
            false => match !sum(&[pseudo, udp.clone()].concat()) {
                0 => 0xffff,
                sum => sum,
            },
        };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        out.extend(udp);
        out
    }
}

fn v4_header(from: Ipv4Addr, to: Ipv4Addr, udp_bytes: u16) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend((20 + udp_bytes).to_be_bytes());
    // Not to be fragmented.
    header.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = !sum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

/// RFC 1071, without its complement.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or_default()));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    u16::try_from(sum).unwrap()
}
