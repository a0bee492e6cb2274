//! Random requests, and what must come of each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aquatic_http::counters::Reason;
use aquatic_http_protocol::PeerForm;
use aquatic_types::{InfoHash, PeerStatus};
use fastrand::Rng;

use super::keys::{with_any_key, with_key};
use super::model::Announce;

/// Enough for each client to ask about one.
pub(crate) const TORRENTS: u8 = 90;

/// Torrents that most ask for, so that their swarms grow.
const HOT_TORRENTS: usize = 8;

/// Torrents of one scrape.
const SCRAPED_MAX: usize = 12;

/// A request on its way, or one that waits for its answer.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
    pub(crate) meaning: Meaning,
    /// Who the tracker takes for the client.
    pub(crate) client: IpAddr,
    /// Nothing can follow.
    pub(crate) is_last: bool,
    /// The method is HEAD.
    pub(crate) omits_body: bool,
}

/// What must come of a request.
#[derive(Clone, Debug)]
pub(crate) enum Meaning {
    /// Answered, or refused if the torrent is not allowed.
    Announce(Announce, PeerForm),
    /// The torrents that are answered; those that are not allowed, with zeros.
    Scrape(Vec<InfoHash>),
    /// Any torrents.
    FullScrape,
    /// Refused in words, some of which these are; was it a request that could be read?
    Failure(Reason, &'static str, Readable),
    /// Whoever asks.
    Text,
    /// Refused with an HTTP status.
    Status(Reason, u16),
}

/// What kind of request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readable {
    Announce,
    Scrape,
    No,
}

impl Request {
    /// A full scrape of a client at `peer`, whether there is a proxy or not.
    pub(crate) fn full_scrape(peer: IpAddr, keeps_alive: bool) -> Self {
        let bytes = format!("GET /scrape?passkey=free HTTP/1.1\r\nX-Forwarded-For: {peer}\r\n\r\n");
        Self {
            bytes: bytes.into_bytes(),
            meaning: Meaning::FullScrape,
            client: peer.to_canonical(),
            is_last: !keeps_alive,
            omits_body: false,
        }
    }

    /// The torrents whose state the answer depends on.
    pub(crate) fn torrents(&self) -> Vec<InfoHash> {
        match &self.meaning {
            Meaning::Announce(announce, _) => vec![announce.torrent],
            Meaning::Scrape(torrents) => torrents.clone(),
            _ => Vec::new(),
        }
    }

    /// An announce of somebody who leaves, whether it can be served or not.
    pub(crate) fn is_stop(&self) -> bool {
        let has = |part: &[u8]| self.bytes.windows(part.len()).any(|it| it == part);
        let is_announce = !has(b"info_hash=abc&") && !has(b"peer_id=&") && !has(b"port=0&");
        !self.omits_body && is_announce && has(b"&event=stopped")
    }

    /// An announce that has been refused, because the list did not allow its torrent.
    pub(crate) fn denied(mut self) -> Self {
        let words = "torrent not allowed";
        self.meaning = Meaning::Failure(Reason::InfoHashDenied, words, Readable::Announce);
        self
    }

    /// An announce with HEAD, which changes nothing, and whose answer has no length.
    pub(crate) fn is_head_of_announce(&self) -> bool {
        self.omits_body && matches!(self.meaning, Meaning::Announce(..))
    }
}

/// Where a request is made: what the tracker serves, and over which connection it is sent.
pub(crate) struct Place {
    pub(crate) peer: IpAddr,
    pub(crate) keeps_alive: bool,
    pub(crate) is_proxied: bool,
    pub(crate) scrape_torrents_max: usize,
    pub(crate) serves_full_scrapes: bool,
    /// Clients need a key.
    pub(crate) needs_keys: bool,
    /// Requests for swarms may be refused, which a HEAD would not tell.
    pub(crate) can_be_overloaded: bool,
    /// The torrents that may be asked about, in any order.
    pub(crate) torrents: Vec<InfoHash>,
}

pub(crate) fn torrent(number: u8) -> InfoHash {
    InfoHash([number + 100; 20])
}

/// Few addresses, so that peers come again. Some are IPv4 in the clothes of IPv6.
pub(crate) fn address(rng: &mut Rng) -> IpAddr {
    let host = rng.u8(1..5);
    let v4 = Ipv4Addr::new(198, 51, 100, host);
    match rng.u8(..5) {
        0 | 1 => v4.into(),
        2 => v4.to_ipv6_mapped().into(),
        _ => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()).into(),
    }
}

impl Place {
    /// Any request that can be made here.
    pub(crate) fn request(&self, rng: &mut Rng) -> Request {
        let mut client = self.peer;
        let mut headers = String::new();
        if self.is_proxied || rng.u8(..8) == 0 {
            let last = address(rng);
            headers +=
                &format!("x-forwarded-FOR: 203.0.113.1\r\nX-Forwarded-For: nobody, {last}\r\n");
            if self.is_proxied {
                client = last;
            }
        }
        let client = client.to_canonical();
        let (mut target, mut meaning) = self.target(client, rng);
        if self.needs_keys {
            (target, meaning) = with_any_key(target, meaning, rng);
        }
        let (version, closes) = [
            ("HTTP/1.1\r\n", false),
            ("HTTP/1.1\r\nConnection: Close\r\n", true),
            ("HTTP/1.0\r\n", true),
            ("HTTP/1.0\r\nconnection: keep-alive\r\n", false),
        ][[0, 0, 0, 0, 0, 0, 1, 2, 3][rng.usize(..9)]];
        let is_scrape = matches!(meaning, Meaning::Scrape(_) | Meaning::FullScrape);
        let omits_body = rng.u8(..12) == 0 && !(is_scrape && self.can_be_overloaded);
        let method = if omits_body { "HEAD" } else { "GET" };
        let mut request = Request {
            bytes: format!("{method} {target} {version}{headers}\r\n").into_bytes(),
            meaning,
            client,
            is_last: closes || !self.keeps_alive,
            omits_body,
        };
        if self.is_proxied && !matches!(request.meaning, Meaning::Text) && rng.u8(..10) == 0 {
            request.bytes = format!("{method} {target} {version}X-Forwarded-For: ?\r\n\r\n").into();
            request.client = self.peer.to_canonical();
            let words = "does not tell";
            request.meaning = Meaning::Failure(Reason::ProxyHeader, words, Readable::No);
        }
        if rng.u8(..40) == 0 {
            self.garbage(&mut request, rng);
        }
        request
    }

    /// An announce that can be read, of a client that has this key.
    pub(crate) fn announce_under(&self, key: &str, rng: &mut Rng) -> Request {
        let sender = address(rng);
        let client = if self.is_proxied { sender } else { self.peer };
        let client = client.to_canonical();
        let (target, meaning) = loop {
            let torrent = self.torrents[rng.usize(..self.torrents.len())];
            let (target, meaning) = self.announce(torrent, client, rng);
            if let Meaning::Announce(..) = meaning {
                break (with_key(&target, key), meaning);
            }
        };
        Request {
            bytes: format!("GET {target} HTTP/1.1\r\nX-Forwarded-For: {sender}\r\n\r\n")
                .into_bytes(),
            meaning,
            client,
            is_last: !self.keeps_alive,
            omits_body: false,
        }
    }

    /// The beginning of a request, and nothing more.
    pub(crate) fn cut_off(&self, rng: &mut Rng) -> Request {
        let mut request = self.request(rng);
        request.bytes = b"GET /announce?info_hash=".to_vec();
        request.meaning = Meaning::Status(Reason::Malformed, 400);
        request.client = self.peer.to_canonical();
        request.is_last = true;
        request.omits_body = false;
        request
    }

    /// A scrape of 200 torrents that nobody announces.
    pub(crate) fn scrape_of_unknown(&self, rng: &mut Rng) -> Request {
        let unknown = |number| {
            let mut name = [number; 20];
            name[0] = 255;
            InfoHash(name)
        };
        let mut torrents: Vec<_> = (0..200).map(unknown).collect();
        let query = torrents
            .iter()
            .map(|torrent| format!("info_hash={}", encoded(*torrent)));
        let query = query.collect::<Vec<_>>().join("&");
        let client = address(rng);
        torrents.truncate(self.scrape_torrents_max);
        Request {
            bytes: format!(
                "GET /scrape?{query}&passkey=free HTTP/1.1\r\nX-Forwarded-For: {client}\r\n\r\n"
            )
            .into_bytes(),
            meaning: Meaning::Scrape(torrents),
            client: if self.is_proxied { client } else { self.peer }.to_canonical(),
            is_last: !self.keeps_alive,
            omits_body: false,
        }
    }

    fn target(&self, client: IpAddr, rng: &mut Rng) -> (String, Meaning) {
        match rng.u8(..20) {
            0 if rng.bool() => ("/favicon.ico".into(), Meaning::Status(Reason::Path, 404)),
            0 => (["/", "/health"][rng.usize(..2)].into(), Meaning::Text),
            1 if self.serves_full_scrapes => ("/scrape?".into(), Meaning::FullScrape),
            1 => {
                let words = "full scrapes are not";
                let meaning = Meaning::Failure(Reason::FullScrape, words, Readable::Scrape);
                ("/scrape".into(), meaning)
            }
            2..5 => self.scrape(rng),
            _ => {
                let some = if rng.u8(..4) > 0 {
                    HOT_TORRENTS
                } else {
                    usize::MAX
                };
                match rng.choice(self.torrents.iter().take(some)) {
                    Some(torrent) => self.announce(*torrent, client, rng),
                    None => ("/".into(), Meaning::Text),
                }
            }
        }
    }

    fn announce(&self, torrent: InfoHash, client: IpAddr, rng: &mut Rng) -> (String, Meaning) {
        let port = rng.u16(1..4);
        let (left, event, status, completed) = [
            ("&left=7", "", PeerStatus::Leecher, false),
            ("", "&event=", PeerStatus::Leecher, false),
            ("&left=0", "&event=started", PeerStatus::Seeder, false),
            ("&left=0", "&event=completed", PeerStatus::Seeder, true),
            ("&left=0", "&event=stopped", PeerStatus::Stopped, false),
        ][rng.usize(..5)];
        let (numwant, wanted) = [
            ("", None),
            ("&numwant=-1", None),
            ("&numwant=0", Some(0)),
            ("&numwant=2", Some(2)),
            ("&numwant=99999", Some(99_999)),
        ][rng.usize(..5)];
        let (compact, form) = [
            ("", PeerForm::Compact),
            ("&compact=1", PeerForm::Compact),
            ("&compact=0", PeerForm::List),
        ][rng.usize(..3)];
        let path = ["/announce", "//announce", "/announce.php", "/x/announce/"][rng.usize(..4)];
        let client_name = ["-TR4060-", "-qB4650-"][rng.usize(..2)];
        let hash = encoded(torrent);
        let peer_id = format!("{client_name}abcdefghijkl");
        let target = |hash: &str, peer_id: &str, port: &str| {
            let needed = format!("info_hash={hash}&peer_id={peer_id}&port={port}");
            format!("{path}?{needed}{left}{event}{numwant}{compact}")
        };
        let failure = |reason, words| Meaning::Failure(reason, words, Readable::No);
        match rng.u8(..30) {
            0 => {
                let meaning = failure(Reason::InfoHash, "info_hash");
                return (target("abc", &peer_id, "1"), meaning);
            }
            1 => return (target(&hash, "", "1"), failure(Reason::PeerId, "peer_id")),
            2 => return (target(&hash, &peer_id, "0"), failure(Reason::Port, "port")),
            _ => {}
        }
        let announce = Announce {
            torrent,
            peer: SocketAddr::new(client, port),
            status,
            completed,
            wanted,
            client: client_name.as_bytes().try_into().unwrap(),
        };
        let target = target(&hash, &peer_id, &port.to_string());
        (target, Meaning::Announce(announce, form))
    }

    fn scrape(&self, rng: &mut Rng) -> (String, Meaning) {
        let mut torrents = self.torrents.clone();
        // One that nobody announces.
        torrents.push(InfoHash([255; 20]));
        rng.shuffle(&mut torrents);
        torrents.truncate(rng.usize(1..=SCRAPED_MAX));
        torrents.push(torrents[0]);
        let query: Vec<_> = torrents
            .iter()
            .map(|torrent| format!("info_hash={}", encoded(*torrent)))
            .collect();
        torrents.truncate(self.scrape_torrents_max);
        let target = format!("/scrape?{}", query.join("&"));
        (target, Meaning::Scrape(torrents))
    }

    /// Something else instead, which ends the connection.
    fn garbage(&self, request: &mut Request, rng: &mut Rng) {
        let (bytes, reason, status) = match rng.u8(..5) {
            0 => (
                b"\0\x01\x02 \xff\xfe\r\n\r\n".to_vec(),
                Reason::Malformed,
                400,
            ),
            1 => (
                b"PUT /announce HTTP/1.1\r\n\r\n".to_vec(),
                Reason::Method,
                405,
            ),
            2 => {
                let bytes = b"GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc".to_vec();
                (bytes, Reason::RequestBody, 400)
            }
            3 => {
                let line = "X: y\r\n".repeat(200);
                let bytes = format!("GET / HTTP/1.1\r\n{line}\r\n").into_bytes();
                (bytes, Reason::HeadTooLarge, 431)
            }
            _ => {
                let value = "y".repeat(40_000);
                let bytes = format!("GET / HTTP/1.1\r\nX: {value}\r\n\r\n").into_bytes();
                (bytes, Reason::HeadTooLarge, 431)
            }
        };
        request.bytes = bytes;
        request.meaning = Meaning::Status(reason, status);
        request.client = self.peer.to_canonical();
        request.is_last = true;
        request.omits_body = false;
    }
}

/// Percent-encoded as a client that encodes everything does it.
fn encoded(torrent: InfoHash) -> String {
    torrent
        .0
        .iter()
        .map(|byte| format!("%{byte:02X}"))
        .collect()
}
