//! What one socket says and hears: writes requests and judges answers. No I/O, no clock.

use aquatic_types::{AnnounceEvent, InfoHash, IpFamily};
use aquatic_udp_protocol::{
    AnnounceRequest, ConnectRequest, ConnectionId, InfoHashes, Request, Response, ScrapeRequest,
    TransactionId,
};

use crate::core::kind::{Fault, RequestKind};
use crate::core::population::{Peer, peer_id};
use crate::core::tally::{Asked, Tally};
use crate::udp::in_flight::InFlight;

/// BEP 15: a client may use a connection id for one minute.
const CONNECTION_ID_AGE_MICROS_MAX: u64 = 60_000_000;

/// One socket's side of the protocol.
#[derive(Debug)]
pub struct Client {
    /// Over which IP version it speaks: IPv4 and IPv6 peers take different room in answers.
    family: IpFamily,
    /// Peers that an announce asks for.
    num_want: u16,
    /// What an announce says of its peer.
    event: AnnounceEvent,
    connection_id: ConnectionId,
    connected_micros: Option<u64>,
    in_flight: InFlight,
}

impl Client {
    /// A client without a connection id: it must [`connect`](Self::connect) first.
    #[must_use]
    pub fn new(family: IpFamily, num_want: u16, event: AnnounceEvent, in_flight: InFlight) -> Self {
        Self {
            family,
            num_want,
            event,
            connection_id: ConnectionId([0; 8]),
            connected_micros: None,
            in_flight,
        }
    }

    /// Whether it has a connection id.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected_micros.is_some()
    }

    /// Whether its connection id is too old to be used on, so that it must
    /// [`connect`](Self::connect) next. The old one stays in use until the new one has come.
    #[must_use]
    pub fn must_reconnect(&self, now_micros: u64) -> bool {
        self.connected_micros.is_none_or(|connected| {
            now_micros.saturating_sub(connected) > CONNECTION_ID_AGE_MICROS_MAX
        })
    }

    /// How many requests wait and are not overdue.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.in_flight.waiting()
    }

    /// Whether there is nothing left to wait for.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_settled()
    }

    /// Appends a connect request.
    pub fn connect(&mut self, due_micros: u64, out: &mut Vec<u8>, tally: &mut Tally) {
        let (transaction_id, _) = self.begin(RequestKind::Connect, 0, due_micros, tally);
        ConnectRequest { transaction_id }.write(out);
    }

    /// Appends an announce of the peer of a number, which comes back as the `item` of the request
    /// when it is answered or lost.
    ///
    /// Gives back the request that had to be given up for this one, if any.
    pub fn announce(
        &mut self,
        info_hash: InfoHash,
        (number, peer): (u32, Peer),
        due_micros: u64,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Option<Asked> {
        let (transaction_id, lost) = self.begin(RequestKind::Announce, number, due_micros, tally);
        let request = AnnounceRequest {
            connection_id: self.connection_id,
            transaction_id,
            info_hash,
            peer_id: peer_id(number),
            bytes_downloaded: 0,
            bytes_left: if peer.is_seeder { 0 } else { 1 << 20 },
            bytes_uploaded: 0,
            event: self.event,
            key: [0; 4],
            num_want: self.num_want.into(),
            port: peer.port,
            options: &[],
        };
        request.write(out);
        lost
    }

    /// Appends a scrape.
    pub fn scrape(
        &mut self,
        torrents: &[InfoHash],
        due_micros: u64,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) {
        let rows = u32::try_from(torrents.len()).unwrap_or(u32::MAX);
        let (transaction_id, _) = self.begin(RequestKind::Scrape, rows, due_micros, tally);
        let request = ScrapeRequest {
            connection_id: self.connection_id,
            transaction_id,
            info_hashes: InfoHashes::from(torrents),
        };
        Request::Scrape(request).write(out);
    }

    /// Judges a datagram. Gives back the request if this is the answer that was asked for.
    pub fn receive(&mut self, now_micros: u64, bytes: &[u8], tally: &mut Tally) -> Option<Asked> {
        let Ok(response) = Response::parse(bytes, self.family) else {
            tally.error(Fault::MalformedDatagram, now_micros);
            return None;
        };
        let asked = match self.in_flight.settle(response.transaction_id()) {
            Ok(asked) => asked,
            Err(fault) => {
                tally.error(fault, now_micros);
                return None;
            }
        };
        let right_count = match (asked.kind, response) {
            (_, Response::Error(error)) => {
                tally.refused(&asked, now_micros, error.message);
                return None;
            }
            (RequestKind::Connect, Response::Connect(connect)) => {
                self.connection_id = connect.connection_id;
                self.connected_micros = Some(now_micros);
                true
            }
            (RequestKind::Announce, Response::Announce(announce)) => {
                tally.got_peers(&asked, announce.peers.len());
                announce.peers.len() <= usize::from(self.num_want)
            }
            (RequestKind::Scrape, Response::Scrape(scrape)) => {
                u32::try_from(scrape.rows.len()) == Ok(asked.item)
            }
            // An answer to something else is no answer.
            _ => {
                tally.lost(&asked);
                tally.error(Fault::WrongKind, now_micros);
                return None;
            }
        };
        tally.answered(&asked, now_micros);
        if !right_count {
            tally.error(Fault::WrongCount, now_micros);
        }
        Some(asked)
    }

    /// Stops waiting for what is overdue and gives up what is lost, telling `lost` of each.
    pub fn expire(&mut self, now_micros: u64, tally: &mut Tally, mut lost: impl FnMut(Asked)) {
        while self.in_flight.next_overdue(now_micros).is_some() {}
        while let Some(asked) = self.in_flight.next_lost(now_micros) {
            tally.lost(&asked);
            lost(asked);
        }
    }

    fn begin(
        &mut self,
        kind: RequestKind,
        item: u32,
        due_micros: u64,
        tally: &mut Tally,
    ) -> (TransactionId, Option<Asked>) {
        let asked = Asked {
            kind,
            item,
            due_micros,
        };
        let (transaction_id, displaced) = self.in_flight.begin(asked);
        tally.sent(&asked);
        displaced.iter().for_each(|displaced| tally.lost(displaced));
        (transaction_id, displaced)
    }
}

#[cfg(test)]
mod tests {
    use aquatic_udp_protocol::{
        AnnounceHeader, AnnounceResponse, ConnectResponse, ErrorResponse, PeerRows, ScrapeResponse,
        ScrapeRows,
    };

    use super::*;

    const ID: ConnectionId = ConnectionId(*b"12345678");

    fn client(tally: &mut Tally) -> Client {
        let in_flight = InFlight::new(16, 1_000, 3_000, 99);
        let mut client = Client::new(IpFamily::V4, 2, AnnounceEvent::Started, in_flight);
        let mut out = Vec::new();
        assert!(client.must_reconnect(0) && !client.is_connected());
        client.connect(0, &mut out, tally);
        let Ok(Request::Connect(request)) = Request::parse(&out) else {
            panic!("no connect request");
        };
        let answer = Response::Connect(ConnectResponse {
            transaction_id: request.transaction_id,
            connection_id: ID,
        });
        assert!(hear(&mut client, 1, answer, tally).is_some());
        client
    }

    fn hear(
        client: &mut Client,
        now: u64,
        answer: Response<'_>,
        tally: &mut Tally,
    ) -> Option<Asked> {
        let mut packet = Vec::new();
        answer.write(&mut packet);
        client.receive(now, &packet, tally)
    }

    fn announce(client: &mut Client, item: u32, now: u64, tally: &mut Tally) -> TransactionId {
        let info_hash = InfoHash([7; 20]);
        let peer = Peer {
            torrent: 0,
            port: 6881,
            is_seeder: true,
        };
        let mut out = Vec::new();
        client.announce(info_hash, (item, peer), now, &mut out, tally);
        let Ok(Request::Announce(request)) = Request::parse(&out) else {
            panic!("no announce request");
        };
        assert_eq!(request.connection_id, ID);
        assert_eq!(request.info_hash, info_hash);
        assert_eq!(request.event, AnnounceEvent::Started);
        assert_eq!(
            (request.port, request.bytes_left, request.num_want),
            (6881, 0, 2)
        );
        request.transaction_id
    }

    fn announced(transaction_id: TransactionId, peer_rows: &[u8]) -> Response<'_> {
        Response::Announce(AnnounceResponse {
            header: AnnounceHeader {
                transaction_id,
                interval_seconds: 900,
                leechers: 1,
                seeders: 1,
            },
            peers: PeerRows::new(peer_rows, IpFamily::V4),
        })
    }

    #[test]
    fn announces_are_judged() {
        let mut tally = Tally::new(0..1_000_000, 1_000);
        let mut client = client(&mut tally);
        let id = announce(&mut client, 5, 100, &mut tally);
        assert_eq!(client.waiting(), 1);
        let asked = hear(&mut client, 150, announced(id, &[1; 12]), &mut tally);
        assert_eq!(asked.map(|asked| asked.item), Some(5));
        assert_eq!(
            hear(&mut client, 151, announced(id, &[1; 12]), &mut tally),
            None
        );
        assert_eq!(tally.errors(Fault::Duplicate), 1);
        assert_eq!(tally.peers, 2);

        let id = announce(&mut client, 6, 200, &mut tally);
        hear(&mut client, 250, announced(id, &[1; 18]), &mut tally);
        assert_eq!(tally.errors(Fault::WrongCount), 1);
        assert_eq!(tally.kind(RequestKind::Announce).answered, 2);
        assert_eq!(tally.kind(RequestKind::Connect).answered, 1);
    }

    #[test]
    fn wrong_answers_are_no_answers() {
        let mut tally = Tally::new(0..1_000_000, 1_000);
        let mut client = client(&mut tally);
        let id = announce(&mut client, 5, 100, &mut tally);
        let wrong = Response::Connect(ConnectResponse {
            transaction_id: id,
            connection_id: ConnectionId([0; 8]),
        });
        assert_eq!(hear(&mut client, 120, wrong, &mut tally), None);
        assert_eq!(
            (
                tally.errors(Fault::WrongKind),
                tally.kind(RequestKind::Announce).lost
            ),
            (1, 1)
        );
        client.receive(130, b"nonsense", &mut tally);
        assert_eq!(tally.errors(Fault::MalformedDatagram), 1);
        hear(
            &mut client,
            140,
            announced(TransactionId(*b"none"), &[]),
            &mut tally,
        );
        assert_eq!(tally.errors(Fault::UnknownTransaction), 1);

        let id = announce(&mut client, 6, 200, &mut tally);
        let refusal = Response::Error(ErrorResponse {
            transaction_id: id,
            message: b"connection id expired",
        });
        assert_eq!(hear(&mut client, 220, refusal, &mut tally), None);
        assert_eq!(tally.kind(RequestKind::Announce).refused, 1);
        assert_eq!(tally.messages["connection id expired"], 1);
    }

    #[test]
    fn scrapes_must_have_a_row_per_torrent() {
        let mut tally = Tally::new(0..1_000_000, 1_000);
        let mut client = client(&mut tally);
        for rows in [2, 3] {
            let mut out = Vec::new();
            client.scrape(
                &[InfoHash([1; 20]), InfoHash([2; 20])],
                10,
                &mut out,
                &mut tally,
            );
            let Ok(Request::Scrape(request)) = Request::parse(&out) else {
                panic!("no scrape request");
            };
            assert_eq!(request.info_hashes.len(), 2);
            let bytes = vec![0; rows * 12];
            let answer = Response::Scrape(ScrapeResponse {
                transaction_id: request.transaction_id,
                rows: ScrapeRows::new(&bytes),
            });
            assert!(hear(&mut client, 20, answer, &mut tally).is_some());
        }
        assert_eq!(tally.errors(Fault::WrongCount), 1);
        assert_eq!(tally.kind(RequestKind::Scrape).answered, 2);
    }

    #[test]
    fn late_and_lost_are_told_apart() {
        let mut tally = Tally::new(0..1_000_000, 1_000);
        let mut client = client(&mut tally);
        let late = announce(&mut client, 1, 100, &mut tally);
        announce(&mut client, 2, 100, &mut tally);
        let mut lost = Vec::new();
        client.expire(1_101, &mut tally, |asked| lost.push(asked.item));
        assert_eq!(client.waiting(), 0);
        assert!(!client.is_settled());
        assert!(hear(&mut client, 2_000, announced(late, &[]), &mut tally).is_some());
        client.expire(3_101, &mut tally, |asked| lost.push(asked.item));
        assert_eq!(lost, [2]);
        assert!(client.is_settled());
        let kind = tally.kind(RequestKind::Announce);
        assert_eq!(
            (kind.sent, kind.answered, kind.late, kind.lost),
            (2, 0, 1, 1)
        );
    }

    #[test]
    fn a_connection_id_is_renewed_after_a_minute() {
        let mut tally = Tally::new(0..1_000_000, 1_000);
        let client = client(&mut tally);
        assert!(client.is_connected());
        assert!(!client.must_reconnect(60_000_000));
        assert!(client.must_reconnect(60_000_002));
    }
}
