//! What a client sends.

use aquatic_types::{AnnounceEvent, InfoHash, PeerId};

use crate::fields::Fields;
use crate::{
    ANNOUNCE_REQUEST_SIZE, ConnectionId, InfoHashes, PROTOCOL_ID, REQUEST_HEADER_SIZE,
    RequestError, RequestErrorKind, TransactionId, action,
};

/// Any message from a client to a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Asks for a connection id.
    Connect(ConnectRequest),
    /// Takes part in a swarm and asks for its peers.
    Announce(AnnounceRequest<'a>),
    /// Asks for the size of swarms.
    Scrape(ScrapeRequest<'a>),
}

/// Asks for a connection id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Comes back in the answer.
    pub transaction_id: TransactionId,
}

/// Takes part in a swarm and asks for its peers.
///
/// The packet's `IP address` field is written as 0 and not read: a tracker that believed it would
/// let anyone put a stranger's address into a swarm. The source address counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest<'a> {
    /// Got from an earlier connect response.
    pub connection_id: ConnectionId,
    /// Comes back in the answer.
    pub transaction_id: TransactionId,
    /// The torrent.
    pub info_hash: InfoHash,
    /// The client's name for itself.
    pub peer_id: PeerId,
    /// Bytes downloaded since the client said that it started.
    pub bytes_downloaded: u64,
    /// Bytes the client still lacks: 0 makes it a seeder.
    pub bytes_left: u64,
    /// Bytes uploaded since the client said that it started.
    pub bytes_uploaded: u64,
    /// What has just happened; an unknown event is read as none.
    pub event: AnnounceEvent,
    /// Random bytes by which a client can show who it is after its address has changed.
    pub key: [u8; 4],
    /// How many peers the client would like; negative (usually -1): as many as the tracker gives.
    pub num_want: i32,
    /// Where the client listens for peers; never 0 in a request that was parsed.
    pub port: u16,
    /// Bytes after the fixed part: see [`crate::url_data`].
    pub options: &'a [u8],
}

/// Asks for the size of swarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeRequest<'a> {
    /// Got from an earlier connect response.
    pub connection_id: ConnectionId,
    /// Comes back in the answer.
    pub transaction_id: TransactionId,
    /// The torrents; never empty in a request that was parsed.
    pub info_hashes: InfoHashes<'a>,
}

impl<'a> Request<'a> {
    /// Reads one datagram.
    ///
    /// # Errors
    ///
    /// Where the bytes are no request, or one that cannot be served. The error knows whether the
    /// sender may be told.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RequestError> {
        let silent = |kind| RequestError {
            kind,
            answerable: None,
        };

        let (header, body) = Header::split(bytes).ok_or(silent(RequestErrorKind::TooShort))?;
        let answerable = |kind| RequestError {
            kind,
            answerable: Some((ConnectionId(header.connection_id), header.transaction_id)),
        };
        match header.action {
            action::CONNECT if header.connection_id == PROTOCOL_ID => {
                let transaction_id = header.transaction_id;
                Ok(Self::Connect(ConnectRequest { transaction_id }))
            }
            action::CONNECT => Err(silent(RequestErrorKind::NotConnect)),
            action::ANNOUNCE => {
                let announce = AnnounceRequest::parse(&header, body)
                    .ok_or(silent(RequestErrorKind::TooShort))?;
                if announce.port == 0 {
                    return Err(answerable(RequestErrorKind::PortZero));
                }
                Ok(Self::Announce(announce))
            }
            action::SCRAPE => {
                let info_hashes = InfoHashes::from_bytes(body);
                if info_hashes.is_empty() {
                    return Err(answerable(RequestErrorKind::NoInfoHash));
                }
                Ok(Self::Scrape(ScrapeRequest {
                    connection_id: ConnectionId(header.connection_id),
                    transaction_id: header.transaction_id,
                    info_hashes,
                }))
            }
            _ => Err(silent(RequestErrorKind::UnknownAction)),
        }
    }

    /// Appends the datagram.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Connect(connect) => connect.write(out),
            Self::Announce(announce) => announce.write(out),
            Self::Scrape(scrape) => scrape.write(out),
        }
    }
}

impl ConnectRequest {
    /// Appends the datagram.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_header(PROTOCOL_ID, action::CONNECT, self.transaction_id, out);
    }
}

impl<'a> AnnounceRequest<'a> {
    /// Reads what follows the header. `None` if the packet is too short.
    #[inline]
    fn parse(header: &Header, body: &'a [u8]) -> Option<Self> {
        // One check of the length here spares one per field below.
        let (fixed, options) =
            body.split_first_chunk::<{ ANNOUNCE_REQUEST_SIZE - REQUEST_HEADER_SIZE }>()?;
        let mut fields = Fields(fixed);
        let info_hash = InfoHash(fields.take()?);
        let peer_id = PeerId(fields.take()?);
        let bytes_downloaded = fields.take_u64()?;
        let bytes_left = fields.take_u64()?;
        let bytes_uploaded = fields.take_u64()?;
        let event = event_from_wire(fields.take_u32()?);
        let _ip_address: [u8; 4] = fields.take()?;
        let key = fields.take()?;
        let num_want = i32::from_be_bytes(fields.take()?);
        let port = u16::from_be_bytes(fields.take()?);
        Some(Self {
            connection_id: ConnectionId(header.connection_id),
            transaction_id: header.transaction_id,
            info_hash,
            peer_id,
            bytes_downloaded,
            bytes_left,
            bytes_uploaded,
            event,
            key,
            num_want,
            port,
            options,
        })
    }

    /// Appends the datagram. Port 0 is written as it is, though no tracker serves it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let connection_id = self.connection_id.0;
        write_header(connection_id, action::ANNOUNCE, self.transaction_id, out);
        out.extend_from_slice(&self.info_hash.0);
        out.extend_from_slice(&self.peer_id.0);
        let amounts = [self.bytes_downloaded, self.bytes_left, self.bytes_uploaded];
        out.extend_from_slice(amounts.map(u64::to_be_bytes).as_flattened());
        let words = [
            event_to_wire(self.event).to_be_bytes(),
            [0; 4], // IP address: the one that the packet comes from
            self.key,
            self.num_want.to_be_bytes(),
        ];
        out.extend_from_slice(words.as_flattened());
        out.extend_from_slice(&self.port.to_be_bytes());
        out.extend_from_slice(self.options);
    }
}

impl ScrapeRequest<'_> {
    /// Appends the datagram.
    pub fn write(&self, out: &mut Vec<u8>) {
        let connection_id = self.connection_id.0;
        write_header(connection_id, action::SCRAPE, self.transaction_id, out);
        self.info_hashes.write(out);
    }
}

/// What every request starts with.
struct Header {
    /// A connection id, or [`PROTOCOL_ID`] in a connect request.
    connection_id: [u8; 8],
    action: u32,
    transaction_id: TransactionId,
}

impl Header {
    /// Header and body. `None` if the packet is too short for a header.
    #[inline]
    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut fields = Fields(bytes);
        let header = Self {
            connection_id: fields.take()?,
            action: fields.take_u32()?,
            transaction_id: TransactionId(fields.take()?),
        };
        Some((header, fields.0))
    }
}

#[inline]
fn write_header(
    connection_id: [u8; 8],
    action: u32,
    transaction_id: TransactionId,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&connection_id);
    out.extend_from_slice([action.to_be_bytes(), transaction_id.0].as_flattened());
}

/// BEP 15 knows 0 to 3. libtorrent sends 4 ("paused": a partial seed), which means nothing to the
/// swarm, and so does any other number.
#[inline]
fn event_from_wire(event: u32) -> AnnounceEvent {
    match event {
        1 => AnnounceEvent::Completed,
        2 => AnnounceEvent::Started,
        3 => AnnounceEvent::Stopped,
        _ => AnnounceEvent::None,
    }
}

#[inline]
fn event_to_wire(event: AnnounceEvent) -> u32 {
    match event {
        AnnounceEvent::None => 0,
        AnnounceEvent::Completed => 1,
        AnnounceEvent::Started => 2,
        AnnounceEvent::Stopped => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field of an announce, one line each, as BEP 15 lists them.
    const ANNOUNCE: &[u8] = b"\
        \x11\x12\x13\x14\x15\x16\x17\x18\
        \x00\x00\x00\x01\
        \x21\x22\x23\x24\
        an info hash, really\
        -XX0100-123456789012\
        \x00\x00\x00\x00\x00\x00\x01\x02\
        \x00\x00\x00\x00\x00\x00\x03\x04\
        \xff\xff\xff\xff\xff\xff\xff\xff\
        \x00\x00\x00\x02\
        \x00\x00\x00\x00\
        \x31\x32\x33\x34\
        \xff\xff\xff\xff\
        \x1a\xe1";

    const CONNECTION_ID: ConnectionId =
        ConnectionId([0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
    const TRANSACTION_ID: TransactionId = TransactionId([0x21, 0x22, 0x23, 0x24]);

    fn announce(options: &[u8]) -> AnnounceRequest<'_> {
        AnnounceRequest {
            connection_id: CONNECTION_ID,
            transaction_id: TRANSACTION_ID,
            info_hash: InfoHash(*b"an info hash, really"),
            peer_id: PeerId(*b"-XX0100-123456789012"),
            bytes_downloaded: 0x0102,
            bytes_left: 0x0304,
            bytes_uploaded: u64::MAX,
            event: AnnounceEvent::Started,
            key: *b"1234",
            num_want: -1,
            port: 6881,
            options,
        }
    }

    fn silent(kind: RequestErrorKind) -> Result<Request<'static>, RequestError> {
        Err(RequestError {
            kind,
            answerable: None,
        })
    }

    fn answerable(kind: RequestErrorKind) -> Result<Request<'static>, RequestError> {
        Err(RequestError {
            kind,
            answerable: Some((CONNECTION_ID, TRANSACTION_ID)),
        })
    }

    #[test]
    fn connect_is_as_in_bep_15() {
        let packet = b"\x00\x00\x04\x17\x27\x10\x19\x80\x00\x00\x00\x00\x21\x22\x23\x24";
        let request = Request::Connect(ConnectRequest {
            transaction_id: TRANSACTION_ID,
        });
        assert_eq!(Request::parse(packet), Ok(request.clone()));

        let mut written = Vec::new();
        request.write(&mut written);
        assert_eq!(written, packet);
    }

    #[test]
    fn announce_is_as_in_bep_15() {
        assert_eq!(
            Request::parse(ANNOUNCE),
            Ok(Request::Announce(announce(b"")))
        );

        let mut written = Vec::new();
        Request::Announce(announce(b"")).write(&mut written);
        assert_eq!(written, ANNOUNCE);
    }

    #[test]
    fn bytes_after_an_announce_are_options() {
        let packet = [ANNOUNCE, b"\x02\x09/announce"].concat();
        let request = Request::Announce(announce(b"\x02\x09/announce"));
        assert_eq!(Request::parse(&packet), Ok(request));
    }

    #[test]
    fn ip_address_in_an_announce_is_ignored() {
        let mut packet = ANNOUNCE.to_vec();
        packet[84..88].copy_from_slice(&[192, 0, 2, 7]);
        assert_eq!(
            Request::parse(&packet),
            Ok(Request::Announce(announce(b"")))
        );
    }

    #[test]
    fn events_beyond_bep_15_are_none() {
        let events = [
            (0, AnnounceEvent::None),
            (1, AnnounceEvent::Completed),
            (2, AnnounceEvent::Started),
            (3, AnnounceEvent::Stopped),
            (4, AnnounceEvent::None),
            (u32::MAX, AnnounceEvent::None),
        ];
        for (number, event) in events {
            let mut packet = ANNOUNCE.to_vec();
            packet[80..84].copy_from_slice(&u32::to_be_bytes(number));
            let request = AnnounceRequest {
                event,
                ..announce(b"")
            };
            assert_eq!(Request::parse(&packet), Ok(Request::Announce(request)));
        }
    }

    #[test]
    fn port_0_may_be_answered() {
        let mut packet = ANNOUNCE.to_vec();
        packet[96..98].fill(0);
        assert_eq!(
            Request::parse(&packet),
            answerable(RequestErrorKind::PortZero)
        );
    }

    #[test]
    fn scrape_is_as_in_bep_15() {
        let packet = [
            &b"\x11\x12\x13\x14\x15\x16\x17\x18\x00\x00\x00\x02\x21\x22\x23\x24"[..],
            &[1; 20],
            &[2; 20],
        ]
        .concat();
        let info_hashes = [InfoHash([1; 20]), InfoHash([2; 20])];
        let request = Request::Scrape(ScrapeRequest {
            connection_id: CONNECTION_ID,
            transaction_id: TRANSACTION_ID,
            info_hashes: InfoHashes::from(&info_hashes[..]),
        });
        assert_eq!(Request::parse(&packet), Ok(request.clone()));

        let mut written = Vec::new();
        request.write(&mut written);
        assert_eq!(written, packet);

        let with_partial_hash = [&packet[..], &[3; 19]].concat();
        assert_eq!(Request::parse(&with_partial_hash), Ok(request));

        for size in REQUEST_HEADER_SIZE..crate::SCRAPE_REQUEST_SIZE_MIN {
            let expected = answerable(RequestErrorKind::NoInfoHash);
            assert_eq!(Request::parse(&packet[..size]), expected, "{size} bytes");
        }
    }

    #[test]
    fn too_short_and_strange_packets_get_no_answer() {
        for size in 0..ANNOUNCE_REQUEST_SIZE {
            let expected = silent(RequestErrorKind::TooShort);
            assert_eq!(Request::parse(&ANNOUNCE[..size]), expected, "{size} bytes");
        }
        for unknown in [3, 4, u32::MAX] {
            let mut packet = ANNOUNCE.to_vec();
            packet[8..12].copy_from_slice(&u32::to_be_bytes(unknown));
            assert_eq!(
                Request::parse(&packet),
                silent(RequestErrorKind::UnknownAction)
            );
        }
        let mut packet = ANNOUNCE.to_vec();
        packet[8..12].fill(0);
        assert_eq!(
            Request::parse(&packet),
            silent(RequestErrorKind::NotConnect)
        );
    }
}
