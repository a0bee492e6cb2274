//! Over UDP: one socket for each address.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::Context;
use aquatic_types::{IpFamily, PeerId};
use aquatic_udp_protocol::{
    AnnounceRequest, ConnectRequest, ConnectionId, InfoHashes, Response, ScrapeRequest,
    TransactionId,
};
use fastrand::Rng;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::{Answer, Answers, EVENTS_MAX, Order, Request, Wire, index};
use crate::datagrams::connect;
use crate::local;

/// An id is good for two minutes (BEP 15); two connects may get lost.
const ID_AGE_MICROS_MAX: u64 = 35_000_000;

/// Transaction ids of connects: those of other requests are smaller.
const CONNECT_BIT: u32 = 1 << 31;

pub(super) struct UdpWire {
    poll: Poll,
    events: Events,
    lanes: Vec<Lane>,
    bytes: Vec<u8>,
}

struct Lane {
    socket: UdpSocket,
    id: ConnectionId,
    /// When it was asked for.
    asked_micros: u64,
}

impl UdpWire {
    pub(super) fn new(tracker: SocketAddr, lanes: u32) -> anyhow::Result<Self> {
        let poll = Poll::new().context("cannot get an event queue")?;
        let mut rng = Rng::with_seed(5);
        let mut all = Vec::new();
        for number in 0..lanes {
            let (socket, id) = connect(local::honest(number), tracker, &mut rng)?;
            let token = Token(index(number));
            let registry = poll.registry();
            registry.register(
                &mut SourceFd(&socket.as_raw_fd()),
                token,
                Interest::READABLE,
            )?;
            all.push(Lane {
                socket,
                id,
                // Spread, so that they are not all renewed at once.
                asked_micros: u64::from(number) * ID_AGE_MICROS_MAX / u64::from(lanes),
            });
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            lanes: all,
            bytes: Vec::new(),
        })
    }
}

impl Wire for UdpWire {
    fn send(&mut self, order: &Order, now_micros: u64) -> io::Result<()> {
        let Some(lane) = self.lanes.get_mut(index(order.lane)) else {
            return Ok(());
        };
        if lane.asked_micros + ID_AGE_MICROS_MAX < now_micros {
            lane.asked_micros = now_micros;
            self.bytes.clear();
            let transaction_id = TransactionId((order.id | CONNECT_BIT).to_be_bytes());
            ConnectRequest { transaction_id }.write(&mut self.bytes);
            lane.socket.send(&self.bytes)?;
        }
        self.bytes.clear();
        write(order, lane.id, &mut self.bytes);
        lane.socket.send(&self.bytes)?;
        Ok(())
    }

    fn look(&mut self, timeout: Duration, answers: &mut Answers) -> io::Result<()> {
        self.poll.poll(&mut self.events, Some(timeout))?;
        let mut buffer = [0; 2_048];
        for event in &self.events {
            let Some(lane) = self.lanes.get_mut(event.token().0) else {
                continue;
            };
            loop {
                match lane.socket.recv(&mut buffer) {
                    Ok(size) => {
                        let bytes = buffer.get(..size).unwrap_or_default();
                        answers.extend(read(bytes, &mut lane.id));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn write(order: &Order, connection_id: ConnectionId, out: &mut Vec<u8>) {
    let transaction_id = TransactionId(order.id.to_be_bytes());
    match &order.request {
        Request::Announce {
            info_hash,
            port,
            event,
            is_seeder,
        } => AnnounceRequest {
            connection_id,
            transaction_id,
            info_hash: *info_hash,
            peer_id: PeerId(*b"-XX0000-soaks-udp-00"),
            bytes_downloaded: 0,
            bytes_left: u64::from(!is_seeder),
            bytes_uploaded: 0,
            event: *event,
            key: u32::from(*port).to_be_bytes(),
            num_want: 30,
            port: *port,
            options: &[],
        }
        .write(out),
        Request::Scrape(info_hashes) => ScrapeRequest {
            connection_id,
            transaction_id,
            info_hashes: InfoHashes::from(info_hashes.as_slice()),
        }
        .write(out),
    }
}

/// An answer, unless it is a new connection id.
fn read(bytes: &[u8], connection_id: &mut ConnectionId) -> Option<(u32, Answer)> {
    let response = match Response::parse(bytes, IpFamily::V4) {
        Ok(response) => response,
        // Whose answer it should have been, nobody knows: that one is missed.
        Err(_) => return None,
    };
    let id = u32::from_be_bytes(response.transaction_id().0);
    let answer = match response {
        Response::Connect(it) => {
            *connection_id = it.connection_id;
            return None;
        }
        Response::Announce(_) => Answer::Swarm,
        Response::Scrape(it) => Answer::Rows(it.rows.iter().collect()),
        Response::Error(it) => Answer::Refused(String::from_utf8_lossy(it.message).into_owned()),
    };
    Some((id, answer))
}
