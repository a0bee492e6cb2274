//! What a client asks.

use aquatic_types::{AnnounceEvent, InfoHash, PeerId, PeerStatus};
use memchr::memchr;

use crate::parameters::{Key, Parameters, encode, strip_decoded};
use crate::sink::put_decimal;
use crate::{InfoHashes, PeerForm, RequestError};

/// What a client asks of a tracker.
///
/// Read tolerantly: parameters may come in any order, without value or more than once (the last
/// one counts, being the one that the client added to the announce URL), `?` and `&amp;` separate
/// like `&`, keys may be percent-encoded, and what is not known is read past. So are `ip`, `ipv4`
/// and `ipv6`: a tracker that believed them would let anyone put a stranger's address into a swarm.
/// An announce only cannot do without `info_hash`, `peer_id` and `port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Takes part in a swarm and asks for its peers.
    Announce(AnnounceRequest),
    /// Asks for the size of swarms.
    Scrape(ScrapeRequest<'a>),
}

/// Takes part in a swarm and asks for its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The client's name for itself.
    pub peer_id: PeerId,
    /// Where the client listens for peers; never 0 in a request that was parsed.
    pub port: u16,
    /// Bytes uploaded since the client said that it started; 0 if it did not say a number.
    pub bytes_uploaded: u64,
    /// Bytes downloaded since the client said that it started; 0 if it did not say a number.
    pub bytes_downloaded: u64,
    /// Bytes the client still lacks; `None` if it did not say a number, or a negative one. Larger
    /// ones become `u64::MAX`.
    pub bytes_left: Option<u64>,
    /// What has just happened; an unknown event is read as none.
    pub event: AnnounceEvent,
    /// How many peers the client would like; `None` if it did not say, or said a negative number:
    /// as many as the tracker gives. Larger ones become `u32::MAX`.
    pub num_want: Option<u32>,
    /// How it wants the peers: compact unless it said `compact=0`.
    pub peer_form: PeerForm,
}

/// Asks for the size of swarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrapeRequest<'a> {
    /// The torrents. None means: all that the tracker knows.
    pub info_hashes: InfoHashes<'a>,
}

/// Where a request is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The value of the header `Host`: name or address, and the port unless it is the usual one.
    pub host: &'a str,
    /// The path of the announce URL, and its query if it has one, as they stand there.
    pub announce_path: &'a str,
    /// Whether the connection is to stay open.
    pub keep_alive: bool,
}

impl<'a> Request<'a> {
    /// Reads the path and the query of a request's target.
    ///
    /// The last segment of the path that is `announce` or `scrape`, alone or with an extension
    /// (`/announce.php`), decides; what comes before it and after it (`/announce/PASSKEY`) is for
    /// others. Spaces behind it are read past, as they come from announce URLs with a space at
    /// their end.
    ///
    /// # Errors
    ///
    /// Where the path is none of those, or a parameter is missing or cannot be used.
    #[inline]
    pub fn parse(path: &[u8], query: &'a [u8]) -> Result<Self, RequestError> {
        match Kind::of_path(path) {
            Some(Kind::Announce) => AnnounceRequest::parse(query).map(Self::Announce),
            Some(Kind::Scrape) => {
                let info_hashes = InfoHashes::parse(query)?;
                Ok(Self::Scrape(ScrapeRequest { info_hashes }))
            }
            None => Err(RequestError::UnknownPath),
        }
    }

    /// Appends a whole HTTP request, which has no body.
    pub fn write(&self, target: Target<'_>, out: &mut Vec<u8>) {
        let (path, fixed_query) = match target.announce_path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target.announce_path, None),
        };
        out.extend_from_slice(b"GET ");
        match (self, path.rsplit_once("announce")) {
            // That is how a client finds out where to scrape (BEP 48).
            (Self::Scrape(_), Some((before, after))) => {
                for part in [before, "scrape", after] {
                    out.extend_from_slice(part.as_bytes());
                }
            }
            _ => out.extend_from_slice(path.as_bytes()),
        }
        out.push(b'?');
        if let Some(query) = fixed_query {
            out.extend_from_slice(query.as_bytes());
            out.push(b'&');
        }
        match self {
            Self::Announce(announce) => announce.write_query(out),
            Self::Scrape(scrape) => scrape.info_hashes.write_query(out),
        }
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        out.extend_from_slice(target.host.as_bytes());
        if !target.keep_alive {
            out.extend_from_slice(b"\r\nConnection: close");
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// What a path asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Announce,
    Scrape,
}

impl Kind {
    #[inline]
    fn of_path(path: &[u8]) -> Option<Self> {
        if path == b"/announce" {
            return Some(Self::Announce);
        }
        Self::of_unusual_path(path)
    }

    fn of_unusual_path(path: &[u8]) -> Option<Self> {
        let first_slash = memchr(b'/', path)?;
        let mut segments = path.get(first_slash..)?.rsplit(|byte| *byte == b'/');
        segments.find_map(Self::of_segment)
    }

    fn of_segment(segment: &[u8]) -> Option<Self> {
        [
            (&b"announce"[..], Self::Announce),
            (b"scrape", Self::Scrape),
        ]
        .into_iter()
        .find_map(|(name, kind)| {
            let rest = strip_decoded(segment, name)?;
            let has_extension = strip_decoded(rest, b".").is_some();
            (has_extension || is_blank(rest)).then_some(kind)
        })
    }
}

/// Whether this is nothing but spaces, or nothing at all.
fn is_blank(mut text: &[u8]) -> bool {
    while let Some(rest) = strip_decoded(text, b" ") {
        text = rest;
    }
    text.is_empty()
}

impl AnnounceRequest {
    #[inline]
    fn parse(query: &[u8]) -> Result<Self, RequestError> {
        let mut info_hash = Err(RequestError::InfoHashMissing);
        let mut peer_id = Err(RequestError::PeerIdMissing);
        let mut port = Err(RequestError::PortMissing);
        let mut bytes_uploaded = 0;
        let mut bytes_downloaded = 0;
        let mut bytes_left = None;
        let mut event = AnnounceEvent::None;
        let mut num_want = None;
        let mut peer_form = PeerForm::Compact;
        let mut parameters = Parameters(query);
        while !parameters.is_empty() {
            match parameters.key() {
                Key::InfoHash => {
                    info_hash = parameters.bytes_20().ok_or(RequestError::InfoHashSize);
                }
                Key::PeerId => peer_id = parameters.bytes_20().ok_or(RequestError::PeerIdSize),
                Key::Port => port = parse_port(parameters.number()),
                Key::Uploaded => bytes_uploaded = parameters.number().unwrap_or(0),
                Key::Downloaded => bytes_downloaded = parameters.number().unwrap_or(0),
                Key::Left => bytes_left = parameters.number(),
                Key::NumWant => num_want = parameters.number().map(saturated),
                Key::Compact => peer_form = PeerForm::parse(parameters.word()),
                Key::Event => event = parse_event(parameters.word()),
                Key::Unknown => {
                    parameters.word();
                }
            }
        }
        Ok(Self {
            info_hash: InfoHash(info_hash?),
            peer_id: PeerId(peer_id?),
            port: port?,
            bytes_uploaded,
            bytes_downloaded,
            bytes_left,
            event,
            num_want,
            peer_form,
        })
    }

    /// Appends the query, without the `?` before it. Port 0 is written as it is, though no tracker
    /// serves it.
    fn write_query(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"info_hash=");
        encode(&self.info_hash.0, out);
        out.extend_from_slice(b"&peer_id=");
        encode(&self.peer_id.0, out);
        let numbers = [
            ("port", Some(u64::from(self.port))),
            ("uploaded", Some(self.bytes_uploaded)),
            ("downloaded", Some(self.bytes_downloaded)),
            ("left", self.bytes_left),
            ("numwant", self.num_want.map(u64::from)),
        ];
        for (key, value) in numbers {
            if let Some(value) = value {
                out.push(b'&');
                out.extend_from_slice(key.as_bytes());
                out.push(b'=');
                put_decimal(value, out);
            }
        }
        out.extend_from_slice(match self.peer_form {
            PeerForm::Compact => b"&compact=1",
            PeerForm::List => b"&compact=0",
        });
        out.extend_from_slice(match self.event {
            AnnounceEvent::None => b"",
            AnnounceEvent::Completed => b"&event=completed",
            AnnounceEvent::Started => b"&event=started",
            AnnounceEvent::Stopped => b"&event=stopped",
        });
    }

    /// Which part of the swarm the client belongs to.
    #[inline]
    #[must_use]
    pub fn status(&self) -> PeerStatus {
        PeerStatus::of_client(self.event, self.bytes_left)
    }
}

#[inline]
fn parse_port(number: Option<u64>) -> Result<u16, RequestError> {
    match number.map(u16::try_from) {
        Some(Ok(port @ 1..)) => Ok(port),
        _ => Err(RequestError::PortInvalid),
    }
}

/// `paused` (a partial seed, BEP 21) means nothing to the swarm, and neither does any other word.
#[inline]
fn parse_event(value: &[u8]) -> AnnounceEvent {
    match value {
        b"completed" => AnnounceEvent::Completed,
        b"started" => AnnounceEvent::Started,
        b"stopped" => AnnounceEvent::Stopped,
        _ => AnnounceEvent::None,
    }
}

#[inline]
fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
