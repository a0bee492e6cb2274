//! Over UDP: a connect now and then, and announces. After some of them another client, at another
//! address, takes the client's place: who announces more and more torrents looks like a flood from
//! many addresses, and is no newcomer.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use aquatic_types::{AnnounceEvent, InfoHash, IpFamily, PeerId};
use aquatic_udp_protocol::{AnnounceRequest, ConnectionId, Response, TransactionId};
use fastrand::Rng;
use socket2::Type;

use super::{ANSWER_TIMEOUT, CLIENTS, Client, failure};
use crate::datagrams::ask_for_id;
use crate::local;

/// Announces of a client, all with the same connection id.
const ANNOUNCES_PER_CLIENT: u32 = 5;

pub(super) struct UdpClient {
    number: u32,
    tracker: SocketAddr,
    socket: UdpSocket,
    id: Option<ConnectionId>,
    announces: u32,
    rng: Rng,
}

impl UdpClient {
    pub(super) fn new(number: u32, tracker: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            number,
            tracker,
            socket: socket_of(number, tracker)?,
            id: None,
            announces: 0,
            rng: Rng::with_seed(number.into()),
        })
    }

    fn connection_id(&mut self) -> io::Result<ConnectionId> {
        if self.announces.is_multiple_of(ANNOUNCES_PER_CLIENT) {
            let clients_before = self.announces / ANNOUNCES_PER_CLIENT;
            let number = self.number + clients_before * CLIENTS;
            self.socket = socket_of(number, self.tracker)?;
            self.id = None;
        }
        self.announces += 1;
        if self.id.is_none() {
            self.id = ask_for_id(&self.socket, &mut self.rng);
        }
        self.id.ok_or_else(|| failure("no answer to a connect"))
    }
}

fn socket_of(number: u32, tracker: SocketAddr) -> io::Result<UdpSocket> {
    let socket = local::socket(local::honest(number), Type::DGRAM)?;
    socket.connect(&tracker.into())?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(socket.into())
}

impl Client for UdpClient {
    fn ask(&mut self, info_hash: &str) -> io::Result<()> {
        let connection_id = self.connection_id()?;
        let transaction_id = TransactionId(self.rng.u32(..).to_be_bytes());
        let mut hash = [0; 20];
        for (byte, character) in hash.iter_mut().zip(info_hash.bytes()) {
            *byte = character;
        }
        let request = AnnounceRequest {
            connection_id,
            transaction_id,
            info_hash: InfoHash(hash),
            peer_id: PeerId(*b"-XX0000-honestclient"),
            bytes_downloaded: 0,
            bytes_left: 1,
            bytes_uploaded: 0,
            event: AnnounceEvent::None,
            key: [0; 4],
            num_want: -1,
            port: 6_881,
            options: &[],
        };
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        self.socket.send(&bytes)?;
        let mut answer = [0; 2_048];
        loop {
            let size = self.socket.recv(&mut answer)?;
            match Response::parse(answer.get(..size).unwrap_or_default(), IpFamily::V4) {
                Ok(answer) if answer.transaction_id() != transaction_id => {}
                Ok(Response::Announce(answer)) if answer.header.leechers > 0 => return Ok(()),
                other => return Err(failure(format!("{other:?}"))),
            }
        }
    }
}
