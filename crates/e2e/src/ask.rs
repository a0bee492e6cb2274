//! A minimal UDP tracker client, written from BEP 15 alone and byte by byte.
//!
//! It asks the questions that a test itself has: does the tracker answer, from which address,
//! and what does it count?

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::host::Host;

/// BEP 15's magic constant: the connection id of a connect request.
const PROTOCOL_ID: u64 = 0x0417_2710_1980;

const ACTION_CONNECT: u32 = 0;
const ACTION_ANNOUNCE: u32 = 1;
const ACTION_SCRAPE: u32 = 2;

/// Longer than any answer that a tracker may send.
const ANSWER_BYTES_MAX: usize = 2048;

/// After this, nothing comes where nothing is expected.
const SILENCE: Duration = Duration::from_millis(500);

/// How long one request waits for its answer, and how often it is sent. A tracker on a busy machine
/// may stand still for a second or two, and answers both when it is sent again before.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
const ATTEMPTS_MAX: usize = 4;

/// What an announce says.
#[derive(Clone, Copy, Debug)]
pub struct Announce {
    /// Of the torrent.
    pub info_hash: [u8; 20],
    /// Of the client.
    pub peer_id: [u8; 20],
    /// Bytes still lacking; 0 makes a seeder.
    pub left: u64,
    /// 0 none, 1 completed, 2 started, 3 stopped.
    pub event: u32,
    /// Peers wanted; negative leaves it to the tracker.
    pub numwant: i32,
    /// Where the client listens.
    pub port: u16,
}

impl Announce {
    fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(self.info_hash);
        body.extend(self.peer_id);
        body.extend(0u64.to_be_bytes()); // downloaded
        body.extend(self.left.to_be_bytes());
        body.extend(0u64.to_be_bytes()); // uploaded
        body.extend(self.event.to_be_bytes());
        body.extend(0u32.to_be_bytes()); // IP address: the packet's source counts
        body.extend(0u32.to_be_bytes()); // key
        body.extend(self.numwant.to_be_bytes());
        body.extend(self.port.to_be_bytes());
        body
    }
}

/// What the tracker answers to an announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Seconds until the next announce.
    pub interval_seconds: u32,
    /// Peers that lack something.
    pub leechers: u32,
    /// Peers that have everything.
    pub seeders: u32,
    /// Addresses of others in the swarm.
    pub peers: Vec<SocketAddr>,
}

/// What the tracker counts for one torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Peers that have everything.
    pub seeders: u32,
    /// Downloads that were completed.
    pub completed: u32,
    /// Peers that lack something.
    pub leechers: u32,
}

/// A client of one tracker, at one local address.
#[derive(Debug)]
pub struct UdpClient {
    socket: UdpSocket,
    tracker: SocketAddr,
}

impl UdpClient {
    /// A client on `host` that will ask `tracker`.
    ///
    /// # Errors
    /// When no socket can be had there.
    pub fn new(host: &Host, tracker: SocketAddr) -> Result<Self> {
        let any = match tracker {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = host.bind_udp(any)?;
        Ok(Self { socket, tracker })
    }

    /// Fetches a connection id.
    ///
    /// # Errors
    /// When no answer comes, a malformed one, or one from another address than was asked.
    pub fn connect(&self) -> Result<u64> {
        let answer = self.exchange(PROTOCOL_ID, ACTION_CONNECT, &[])?;
        ensure!(
            answer.len() == 8,
            "a connect answer of {} bytes",
            8 + answer.len()
        );
        Fields(&answer).u64()
    }

    /// Announces, with a connection id of its own.
    ///
    /// # Errors
    /// As [`UdpClient::connect`]; or when the tracker refuses.
    pub fn announce(&self, announce: &Announce) -> Result<Announced> {
        self.announce_with(self.connect()?, announce)
    }

    /// Announces, with a connection id that was fetched before.
    ///
    /// # Errors
    /// When no answer comes, a malformed one, or a refusal.
    pub fn announce_with(&self, connection_id: u64, announce: &Announce) -> Result<Announced> {
        self.announce_with_options(connection_id, announce, &[])
    }

    /// Announces, with options (BEP 41) behind the announce.
    ///
    /// # Errors
    /// As [`UdpClient::announce_with`].
    pub fn announce_with_options(
        &self,
        connection_id: u64,
        announce: &Announce,
        options: &[u8],
    ) -> Result<Announced> {
        let body = [&announce.body(), options].concat();
        let answer = self.exchange(connection_id, ACTION_ANNOUNCE, &body)?;
        let mut fields = Fields(&answer);
        Ok(Announced {
            interval_seconds: fields.u32()?,
            leechers: fields.u32()?,
            seeders: fields.u32()?,
            peers: fields.peers(self.tracker.is_ipv4())?,
        })
    }

    /// Asks for the counts of some torrents, with a connection id of its own.
    ///
    /// # Errors
    /// As [`UdpClient::connect`]; or when a row is missing.
    pub fn scrape(&self, info_hashes: &[[u8; 20]]) -> Result<Vec<Counts>> {
        let connection_id = self.connect()?;
        let answer = self.exchange(connection_id, ACTION_SCRAPE, &info_hashes.concat())?;
        ensure!(
            answer.len() == 12 * info_hashes.len(),
            "{} hashes asked, {} bytes of rows answered",
            info_hashes.len(),
            answer.len()
        );
        let mut fields = Fields(&answer);
        info_hashes
            .iter()
            .map(|_| {
                Ok(Counts {
                    seeders: fields.u32()?,
                    completed: fields.u32()?,
                    leechers: fields.u32()?,
                })
            })
            .collect()
    }

    /// Sends a request that may not be answered, and gives back the whole answer.
    ///
    /// # Errors
    /// When it comes from another address than was asked.
    pub fn ask_once(&self, request: &[u8]) -> Result<Option<Vec<u8>>> {
        self.ask_within(SILENCE, request)
    }

    /// Sends a request, once, and waits for the whole answer.
    ///
    /// # Errors
    /// When none comes, or it comes from another address than was asked.
    pub fn answer_to(&self, request: &[u8]) -> Result<Vec<u8>> {
        let answer = self.ask_within(ANSWER_WAIT, request)?;
        answer.with_context(|| format!("{} does not answer", self.tracker))
    }

    /// Nothing if no answer comes in time, or nobody is there.
    fn ask_within(&self, wait: Duration, request: &[u8]) -> Result<Option<Vec<u8>>> {
        let socket = &self.socket;
        socket
            .set_read_timeout(Some(wait))
            .context("set a socket's time limit")?;
        // A refused send is an ICMP error for an earlier one: the tracker is not there yet.
        if self.socket.send_to(request, self.tracker).is_err() {
            return Ok(None);
        }
        let mut buffer = [0; ANSWER_BYTES_MAX];
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            ensure!(
                from == self.tracker,
                "asked {}, answered by {from}",
                self.tracker
            );
            let answer = buffer.get(..length).unwrap_or_default();
            // Another one is a late answer to an earlier request.
            if answer.get(4..8) == request.get(12..16) {
                return Ok(Some(answer.to_vec()));
            }
        }
        Ok(None)
    }

    /// One question, one answer: what follows action and transaction id in the latter.
    fn exchange(&self, connection_id: u64, action: u32, body: &[u8]) -> Result<Vec<u8>> {
        let transaction_id = fastrand::u32(..);
        let request = request(connection_id, action, transaction_id, body);
        for _ in 0..ATTEMPTS_MAX {
            let Some(answer) = self.ask_within(ANSWER_WAIT, &request)? else {
                continue;
            };
            let mut fields = Fields(&answer);
            let answer_action = fields.u32()?;
            fields.u32()?; // The transaction id, which is right.
            if answer_action != action {
                bail!("refused: {}", String::from_utf8_lossy(fields.0));
            }
            return Ok(fields.0.to_vec());
        }
        bail!("{} does not answer", self.tracker)
    }
}

/// A connect request, for whoever sends it without waiting.
#[must_use]
pub fn connect_request(transaction_id: u32) -> Vec<u8> {
    request(PROTOCOL_ID, ACTION_CONNECT, transaction_id, &[])
}

/// An announce, for whoever sends it without waiting.
#[must_use]
pub fn announce_request(connection_id: u64, transaction_id: u32, announce: &Announce) -> Vec<u8> {
    request(
        connection_id,
        ACTION_ANNOUNCE,
        transaction_id,
        &announce.body(),
    )
}

/// A scrape request.
#[must_use]
pub fn scrape_request(connection_id: u64, transaction_id: u32, torrents: &[[u8; 20]]) -> Vec<u8> {
    let body = torrents.concat();
    request(connection_id, ACTION_SCRAPE, transaction_id, &body)
}

fn request(connection_id: u64, action: u32, transaction_id: u32, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend(connection_id.to_be_bytes());
    request.extend(action.to_be_bytes());
    request.extend(transaction_id.to_be_bytes());
    request.extend(body);
    request
}

/// Reads big-endian fields off the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self
            .0
            .split_first_chunk()
            .context("an answer that is too short")?;
        self.0 = rest;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    fn peers(&mut self, is_ipv4: bool) -> Result<Vec<SocketAddr>> {
        let mut peers = Vec::new();
        while !self.0.is_empty() {
            let ip = if is_ipv4 {
                Ipv4Addr::from(self.take::<4>()?).into()
            } else {
                Ipv6Addr::from(self.take::<16>()?).into()
            };
            peers.push(SocketAddr::new(ip, self.u16()?));
        }
        Ok(peers)
    }
}
