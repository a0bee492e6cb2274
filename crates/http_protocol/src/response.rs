//! What a tracker answers.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use aquatic_types::PerFamily;

use crate::bencode::{Dictionary, Value, count, read_dictionary};
use crate::peers::read_list;
use crate::response_head::write_answer;
use crate::sink::{Body, Sink};
use crate::{Framing, PeerForm, ResponseError, ScrapeResponse};

/// Any answer of a tracker, with status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// Gives peers.
    Announce(AnnounceResponse<'a>),
    /// Gives the sizes of swarms.
    Scrape(ScrapeResponse<'a>),
    /// Says why the request was refused.
    Failure(FailureResponse<'a>),
}

/// Gives peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceResponse<'a> {
    /// Peers in the swarm that have everything.
    pub seeders: u32,
    /// How often a download was completed.
    pub completed: u32,
    /// Peers in the swarm that lack something.
    pub leechers: u32,
    /// When the client should announce again.
    pub interval_seconds: u32,
    /// How long the client should wait at least.
    pub min_interval_seconds: Option<u32>,
    /// The address that the client has, as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// Other members of the swarm, as compact rows of 6 and 18 bytes whatever the form.
    pub peers: PerFamily<Cow<'a, [u8]>>,
    /// How the peers are written.
    pub peer_form: PeerForm,
}

/// Says why the request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureResponse<'a> {
    /// Meant for people; usually ASCII, but nothing makes a tracker send text.
    pub reason: &'a [u8],
    /// When the client should announce again, for those that read it here, too (rTorrent,
    /// libtorrent).
    pub interval_seconds: Option<u32>,
    /// How long the client should wait at least, likewise.
    pub min_interval_seconds: Option<u32>,
    /// Whether and when the client should try again (BEP 31).
    pub retry: Option<Retry>,
}

/// When a refused client should try again (BEP 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Not before this many minutes have passed.
    AfterMinutes(u32),
    /// It would be refused again.
    Never,
}

impl<'a> Response<'a> {
    /// Reads the body of a response.
    ///
    /// Other trackers' answers are read as well: keys that are not known are read past, numbers
    /// that are missing are 0, and peers may come in either form.
    ///
    /// # Errors
    ///
    /// Where the bytes are no answer of a tracker.
    pub fn parse(body: &'a [u8]) -> Result<Self, ResponseError> {
        let mut answer = Answer::default();
        read_dictionary(body, |key, value| answer.note(key, value))
            .ok_or(ResponseError::Bencode)?;
        answer.into_response()
    }

    /// Appends a whole HTTP response.
    pub fn write(&self, framing: Framing, out: &mut Vec<u8>) {
        match self {
            Self::Announce(announce) => announce.write(framing, out),
            Self::Scrape(scrape) => scrape.write(framing, out),
            Self::Failure(failure) => failure.write(framing, out),
        }
    }
}

/// All keys of interest that an answer may hold, whichever kind it is.
#[derive(Default)]
struct Answer<'a> {
    failure_reason: Option<&'a [u8]>,
    retry: Option<Retry>,
    files: Option<Dictionary<'a>>,
    flags: Option<Dictionary<'a>>,
    seeders: u32,
    completed: u32,
    leechers: u32,
    interval_seconds: Option<u32>,
    min_interval_seconds: Option<u32>,
    external_ip: Option<IpAddr>,
    peers: Option<Value<'a>>,
    peers6: Option<&'a [u8]>,
}

impl<'a> Answer<'a> {
    fn note(&mut self, key: &[u8], value: Value<'a>) {
        match (key, value) {
            (b"failure reason", Value::Bytes(text)) => self.failure_reason = Some(text),
            (b"retry in", value) => self.retry = Retry::read(value),
            (b"files", Value::Dictionary(files)) => self.files = Some(files),
            (b"flags", Value::Dictionary(flags)) => self.flags = Some(flags),
            (b"complete", Value::Integer(number)) => self.seeders = count(number),
            (b"downloaded", Value::Integer(number)) => self.completed = count(number),
            (b"incomplete", Value::Integer(number)) => self.leechers = count(number),
            (b"interval", Value::Integer(seconds)) => self.interval_seconds = Some(count(seconds)),
            (b"min interval", Value::Integer(seconds)) => {
                self.min_interval_seconds = Some(count(seconds));
            }
            (b"external ip", Value::Bytes(bytes)) => self.external_ip = read_ip(bytes),
            (b"peers", peers) => self.peers = Some(peers),
            (b"peers6", Value::Bytes(rows)) => self.peers6 = Some(rows),
            _ => {}
        }
    }

    fn into_response(self) -> Result<Response<'a>, ResponseError> {
        if let Some(reason) = self.failure_reason {
            return Ok(Response::Failure(FailureResponse {
                reason,
                interval_seconds: self.interval_seconds,
                min_interval_seconds: self.min_interval_seconds,
                retry: self.retry,
            }));
        }
        if let Some(files) = self.files {
            return Ok(Response::Scrape(ScrapeResponse::read(files, self.flags)));
        }
        if self.interval_seconds.is_none() && self.peers.is_none() && self.peers6.is_none() {
            return Err(ResponseError::UnknownKind);
        }
        let (peer_form, peers) = match self.peers {
            Some(Value::List(list)) => {
                let PerFamily { v4, mut v6 } = read_list(list);
                v6.extend_from_slice(self.peers6.unwrap_or_default());
                let (v4, v6) = (v4.into(), v6.into());
                (PeerForm::List, PerFamily { v4, v6 })
            }
            peers => {
                let v4 = match peers {
                    Some(Value::Bytes(rows)) => rows,
                    _ => &[],
                };
                let v6 = self.peers6.unwrap_or_default();
                let (v4, v6) = (v4.into(), v6.into());
                (PeerForm::Compact, PerFamily { v4, v6 })
            }
        };
        Ok(Response::Announce(AnnounceResponse {
            seeders: self.seeders,
            completed: self.completed,
            leechers: self.leechers,
            interval_seconds: self.interval_seconds.unwrap_or_default(),
            min_interval_seconds: self.min_interval_seconds,
            external_ip: self.external_ip,
            peers,
            peer_form,
        }))
    }
}

fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| v6()).ok()
}

impl AnnounceResponse<'_> {
    /// Appends a whole HTTP response.
    #[inline]
    pub fn write(&self, framing: Framing, out: &mut Vec<u8>) {
        write_answer(framing, self, out);
    }

    /// The peers' addresses: those of IPv4 first. A partial row is no peer.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + Clone {
        self.rows().socket_addrs()
    }

    fn rows(&self) -> PerFamily<&[u8]> {
        PerFamily {
            v4: &self.peers.v4,
            v6: &self.peers.v6,
        }
    }
}

impl Body for AnnounceResponse<'_> {
    #[inline]
    fn put(&self, sink: &mut impl Sink) {
        sink.put_integer(b"d8:completei", self.seeders);
        sink.put_integer(b"10:downloadedi", self.completed);
        match self.external_ip {
            Some(IpAddr::V4(ip)) => {
                sink.put(b"11:external ip4:");
                sink.put(&ip.octets());
            }
            Some(IpAddr::V6(ip)) => {
                sink.put(b"11:external ip16:");
                sink.put(&ip.octets());
            }
            None => {}
        }
        sink.put_integer(b"10:incompletei", self.leechers);
        sink.put_integer(b"8:intervali", self.interval_seconds);
        if let Some(seconds) = self.min_interval_seconds {
            sink.put_integer(b"12:min intervali", seconds);
        }
        self.peer_form.put(self.rows(), sink);
        sink.put(b"e");
    }
}

impl FailureResponse<'_> {
    /// Appends a whole HTTP response.
    pub fn write(&self, framing: Framing, out: &mut Vec<u8>) {
        write_answer(framing, self, out);
    }
}

impl Body for FailureResponse<'_> {
    fn put(&self, sink: &mut impl Sink) {
        sink.put(b"d14:failure reason");
        sink.put_string(self.reason);
        if let Some(seconds) = self.interval_seconds {
            sink.put_integer(b"8:intervali", seconds);
        }
        if let Some(seconds) = self.min_interval_seconds {
            sink.put_integer(b"12:min intervali", seconds);
        }
        match self.retry {
            Some(Retry::AfterMinutes(minutes)) => sink.put_integer(b"8:retry ini", minutes),
            Some(Retry::Never) => sink.put(b"8:retry in5:never"),
            None => {}
        }
        sink.put(b"e");
    }
}

impl Retry {
    /// Minutes come as an integer, or as its digits in a string.
    fn read(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Integer(minutes) => Some(Self::AfterMinutes(count(minutes))),
            Value::Bytes(b"never") => Some(Self::Never),
            Value::Bytes(text) => {
                let minutes = str::from_utf8(text).ok()?.parse().ok()?;
                Some(Self::AfterMinutes(minutes))
            }
            Value::List(_) | Value::Dictionary(_) => None,
        }
    }
}
