//! What a tracker answers.

use aquatic_types::IpFamily;

use crate::fields::Fields;
use crate::{
    ANNOUNCE_RESPONSE_HEADER_SIZE, ConnectionId, PeerRows, ResponseError, ScrapeRows,
    TransactionId, action,
};

/// Any message from a tracker to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// Gives a connection id.
    Connect(ConnectResponse),
    /// Gives peers.
    Announce(AnnounceResponse<'a>),
    /// Gives the sizes of swarms.
    Scrape(ScrapeResponse<'a>),
    /// Says why the request was refused.
    Error(ErrorResponse<'a>),
}

/// Gives a connection id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    /// That of the request.
    pub transaction_id: TransactionId,
    /// To be sent with announces and scrapes; good for two minutes (BEP 15).
    pub connection_id: ConnectionId,
}

/// Gives peers.
///
/// A tracker that holds its peers in wire form need not build one: it writes the header, then
/// appends the peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceResponse<'a> {
    /// The fixed part.
    pub header: AnnounceHeader,
    /// Other members of the swarm.
    pub peers: PeerRows<'a>,
}

/// What an announce response holds before its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceHeader {
    /// That of the request.
    pub transaction_id: TransactionId,
    /// When the client should announce again.
    pub interval_seconds: u32,
    /// Peers in the swarm that lack something.
    pub leechers: u32,
    /// Peers in the swarm that have everything.
    pub seeders: u32,
}

/// Gives the sizes of swarms.
///
/// A tracker need not build one: it calls [`write_scrape_header`], then writes each
/// [`crate::ScrapeRow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrapeResponse<'a> {
    /// That of the request.
    pub transaction_id: TransactionId,
    /// One row per torrent, in the order in which they were asked for.
    pub rows: ScrapeRows<'a>,
}

/// Says why the request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorResponse<'a> {
    /// That of the request.
    pub transaction_id: TransactionId,
    /// Meant for people; usually ASCII, but nothing makes a tracker send text.
    pub message: &'a [u8],
}

impl<'a> Response<'a> {
    /// Reads one datagram that answers a request sent over `family`.
    ///
    /// # Errors
    ///
    /// Where the bytes are no response.
    #[inline]
    pub fn parse(bytes: &'a [u8], family: IpFamily) -> Result<Self, ResponseError> {
        let mut fields = Fields(bytes);
        let action = fields.take_u32().ok_or(ResponseError::TooShort)?;
        let response = match action {
            action::CONNECT => ConnectResponse::parse(fields).map(Self::Connect),
            action::ANNOUNCE => AnnounceResponse::parse(fields, family).map(Self::Announce),
            action::SCRAPE => ScrapeResponse::parse(fields).map(Self::Scrape),
            action::ERROR => ErrorResponse::parse(fields).map(Self::Error),
            unknown => return Err(ResponseError::UnknownAction(unknown)),
        };
        response.ok_or(ResponseError::TooShort)
    }

    /// Appends the datagram.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Connect(connect) => connect.write(out),
            Self::Announce(announce) => announce.write(out),
            Self::Scrape(scrape) => scrape.write(out),
            Self::Error(error) => error.write(out),
        }
    }

    /// That of the request which this answers.
    #[inline]
    #[must_use]
    pub fn transaction_id(&self) -> TransactionId {
        match self {
            Self::Connect(connect) => connect.transaction_id,
            Self::Announce(announce) => announce.header.transaction_id,
            Self::Scrape(scrape) => scrape.transaction_id,
            Self::Error(error) => error.transaction_id,
        }
    }
}

// The parsers below read what follows the action and give `None` if the packet is too short.

impl ConnectResponse {
    #[inline]
    fn parse(mut fields: Fields<'_>) -> Option<Self> {
        Some(Self {
            transaction_id: TransactionId(fields.take()?),
            connection_id: ConnectionId(fields.take()?),
        })
    }

    /// Appends the datagram.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        write_header(action::CONNECT, self.transaction_id, out);
        out.extend_from_slice(&self.connection_id.0);
    }
}

impl<'a> AnnounceResponse<'a> {
    #[inline]
    fn parse(mut fields: Fields<'a>, family: IpFamily) -> Option<Self> {
        let header = AnnounceHeader {
            transaction_id: TransactionId(fields.take()?),
            interval_seconds: fields.take_u32()?,
            leechers: fields.take_u32()?,
            seeders: fields.take_u32()?,
        };
        let peers = PeerRows::new(fields.0, family);
        Some(Self { header, peers })
    }

    /// Appends the datagram.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.header.write(out);
        out.extend_from_slice(self.peers.as_bytes());
    }
}

impl AnnounceHeader {
    /// The header in wire form.
    #[inline]
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ANNOUNCE_RESPONSE_HEADER_SIZE] {
        let mut bytes = [0; ANNOUNCE_RESPONSE_HEADER_SIZE];
        bytes.copy_from_slice(self.words().as_flattened());
        bytes
    }

    /// Appends the header; the peers are to follow, 6 or 18 bytes each.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.words().as_flattened());
    }

    #[inline]
    fn words(&self) -> [[u8; 4]; 5] {
        [
            action::ANNOUNCE.to_be_bytes(),
            self.transaction_id.0,
            self.interval_seconds.to_be_bytes(),
            self.leechers.to_be_bytes(),
            self.seeders.to_be_bytes(),
        ]
    }
}

impl<'a> ScrapeResponse<'a> {
    #[inline]
    fn parse(mut fields: Fields<'a>) -> Option<Self> {
        Some(Self {
            transaction_id: TransactionId(fields.take()?),
            rows: ScrapeRows::new(fields.0),
        })
    }

    /// Appends the datagram.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_scrape_header(self.transaction_id, out);
        out.extend_from_slice(self.rows.as_bytes());
    }
}

/// Appends what a scrape response holds before its rows; each [`crate::ScrapeRow`] is to follow.
#[inline]
pub fn write_scrape_header(transaction_id: TransactionId, out: &mut Vec<u8>) {
    write_header(action::SCRAPE, transaction_id, out);
}

impl<'a> ErrorResponse<'a> {
    #[inline]
    fn parse(mut fields: Fields<'a>) -> Option<Self> {
        Some(Self {
            transaction_id: TransactionId(fields.take()?),
            message: fields.0,
        })
    }

    /// Appends the datagram.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        write_header(action::ERROR, self.transaction_id, out);
        out.extend_from_slice(self.message);
    }
}

/// What every response starts with.
#[inline]
fn write_header(action: u32, transaction_id: TransactionId, out: &mut Vec<u8>) {
    out.extend_from_slice([action.to_be_bytes(), transaction_id.0].as_flattened());
}

#[cfg(test)]
mod tests {
    use aquatic_types::{CompactAddr, CompactV4, CompactV6};

    use super::*;
    use crate::ScrapeRow;

    const TRANSACTION_ID: TransactionId = TransactionId(*b"\x21\x22\x23\x24");

    /// `packet` is read as `response`, which is written as `packet`.
    #[track_caller]
    fn check(packet: &[u8], family: IpFamily, response: Response<'_>) {
        assert_eq!(Response::parse(packet, family), Ok(response));
        assert_eq!(response.transaction_id(), TRANSACTION_ID);
        let mut written = Vec::new();
        response.write(&mut written);
        assert_eq!(written, packet);
    }

    #[test]
    fn connect_is_as_in_bep_15() {
        let packet = b"\x00\x00\x00\x00\x21\x22\x23\x24\x11\x12\x13\x14\x15\x16\x17\x18";
        let response = Response::Connect(ConnectResponse {
            transaction_id: TRANSACTION_ID,
            connection_id: ConnectionId(*b"\x11\x12\x13\x14\x15\x16\x17\x18"),
        });
        check(packet, IpFamily::V4, response);
        assert_eq!(packet.len(), crate::CONNECT_RESPONSE_SIZE);
    }

    #[test]
    fn announce_is_as_in_bep_15() {
        let fixed = b"\
            \x00\x00\x00\x01\
            \x21\x22\x23\x24\
            \x00\x00\x07\x08\
            \x00\x00\x00\x02\
            \xff\xff\xff\xff";
        let header = AnnounceHeader {
            transaction_id: TRANSACTION_ID,
            interval_seconds: 1800,
            leechers: 2,
            seeders: u32::MAX,
        };
        assert_eq!(&header.to_bytes(), fixed);

        let v4 = CompactV4::new("192.0.2.7".parse().unwrap(), 6881);
        let v6 = CompactV6::new("2001:db8::7".parse().unwrap(), 6881);
        for (family, row, addr) in [
            (IpFamily::V4, v4.as_bytes(), v4.socket_addr()),
            (IpFamily::V6, v6.as_bytes(), v6.socket_addr()),
        ] {
            let peers = PeerRows::new(row, family);
            let response = Response::Announce(AnnounceResponse { header, peers });
            check(&[fixed, row].concat(), family, response);
            assert_eq!(peers.iter().collect::<Vec<_>>(), [addr]);

            // A partial second row is no peer.
            let bytes = [row, &row[1..]].concat();
            let peers = PeerRows::new(&bytes, family);
            assert_eq!(peers.len(), 1);
            assert_eq!(peers.iter().count(), 1);
        }

        let peers = PeerRows::new(b"", IpFamily::V4);
        assert!(peers.is_empty());
        check(
            fixed,
            IpFamily::V4,
            Response::Announce(AnnounceResponse { header, peers }),
        );
    }

    #[test]
    fn scrape_is_as_in_bep_15() {
        let packet = b"\
            \x00\x00\x00\x02\
            \x21\x22\x23\x24\
            \x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\
            \xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x01\x00";
        let rows = [
            ScrapeRow {
                seeders: 1,
                completed: 2,
                leechers: 3,
            },
            ScrapeRow {
                seeders: u32::MAX,
                completed: 0,
                leechers: 256,
            },
        ];
        let response = ScrapeResponse {
            transaction_id: TRANSACTION_ID,
            rows: ScrapeRows::new(&packet[8..]),
        };
        check(packet, IpFamily::V4, Response::Scrape(response));
        assert!(response.rows.iter().eq(rows));
        assert_eq!(response.rows.len(), 2);
        assert_eq!(ScrapeRows::new(&packet[8..31]).len(), 1);
        assert!(!ScrapeRows::new(&packet[8..31]).is_empty());
        assert!(ScrapeRows::new(&packet[8..19]).is_empty());

        // Piece by piece, as a tracker writes it.
        let mut written = Vec::new();
        write_scrape_header(TRANSACTION_ID, &mut written);
        rows[0].write(&mut written);
        written.extend(rows[1].to_bytes());
        assert_eq!(written, packet);
    }

    #[test]
    fn error_is_as_in_bep_15() {
        let packet = b"\x00\x00\x00\x03\x21\x22\x23\x24not \xff welcome";
        let message = b"not \xff welcome";
        let response = ErrorResponse {
            transaction_id: TRANSACTION_ID,
            message,
        };
        check(packet, IpFamily::V6, Response::Error(response));
    }

    #[test]
    fn minimum_sizes_decide() {
        let sizes = [
            (action::CONNECT, crate::CONNECT_RESPONSE_SIZE),
            (action::ANNOUNCE, ANNOUNCE_RESPONSE_HEADER_SIZE),
            (action::SCRAPE, crate::SCRAPE_RESPONSE_HEADER_SIZE),
            (action::ERROR, crate::ERROR_RESPONSE_HEADER_SIZE),
        ];
        for (action, size_min) in sizes {
            let mut packet = [0; 32];
            packet[..4].copy_from_slice(&action.to_be_bytes());
            for size in 0..packet.len() {
                let parsed = Response::parse(&packet[..size], IpFamily::V4);
                if size < size_min {
                    assert_eq!(
                        parsed,
                        Err(ResponseError::TooShort),
                        "{action}: {size} bytes"
                    );
                } else {
                    assert!(parsed.is_ok(), "{action}: {size} bytes");
                }
            }
        }
        let packet = [0, 0, 0, 4, 0x21, 0x22, 0x23, 0x24];
        let expected = Err(ResponseError::UnknownAction(4));
        assert_eq!(Response::parse(&packet, IpFamily::V4), expected);
    }
}
