//! From the bytes of a datagram to what has to be done about it. Pure.
//!
//! [`Service::receive`] decides about each datagram: what is dropped, what is refused, what is
//! answered at once and what goes to the swarms. The time, the sender and the bytes come
//! in; an answer goes into the caller's outbox. No socket, no clock.

mod keys;

use std::net::SocketAddr;

use aquatic_access_list::{AccessListReader, PeerIdRules};
use aquatic_keys::KeyReader;
use aquatic_tracker::admission::{Admission, PEER_ID_DENIED, peer_id_rules};
use aquatic_tracker::announces::{AnnounceTap, ServedAnnounce};
use aquatic_types::{
    AnnounceEvent, CanonicalAddr, CompactAddr, CompactV4, CompactV6, IpFamily, PeerStatus,
};
use aquatic_udp_protocol::{
    AnnounceRequest, ConnectRequest, ConnectResponse, ConnectionId, ERROR_RESPONSE_HEADER_SIZE,
    ErrorResponse, Request, RequestError, RequestErrorKind, SCRAPE_REQUEST_SIZE_MIN, ScrapeRequest,
    TransactionId,
};
use aquatic_udp_socket::{Outbox, ReturnPath};

use crate::Now;
use crate::config::Config;
use crate::connection_id::ConnectionIds;
use crate::counters::{Reason, RequestKind, ResponseKind, TrafficCounters, Udp};
use crate::messages::Announce;

/// What a client with an unknown or expired connection id is told, so that it connects again. It
/// need not own the address it sends from, so the answer must not be larger than the
/// smallest request that gets it: a scrape of one torrent, 36 bytes.
const CONNECT_AGAIN: &str = "connection id expired";

/// A scrape over UDP has no options, so it cannot bring a key.
const SCRAPE_WITHOUT_KEY: &str = "scrapes need a key here, and have none over UDP";

const _: () = assert!(ERROR_RESPONSE_HEADER_SIZE + CONNECT_AGAIN.len() <= SCRAPE_REQUEST_SIZE_MIN);

/// Decides about datagrams.
pub struct Service {
    /// With the same secret in all workers, so that any of them can check an id.
    connection_ids: ConnectionIds,
    /// Which clients and torrents are served, and where that is counted.
    pub admission: Admission<Udp>,
    response_peers_max: u16,
    /// Requests with a connection id that nobody was given.
    forged: u64,
    /// Under its key, a peer counts for so long.
    peer_age_seconds_max: u32,
}

/// What is left to do about a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dispatch<'a> {
    /// Nothing: it was answered, refused or dropped.
    Done,
    /// To be answered by the owner of the torrent.
    AnnounceV4(Announce<CompactV4>),
    /// To be answered by the owner of the torrent.
    AnnounceV6(Announce<CompactV6>),
    /// To be put together from what the owners of the torrents say.
    Scrape(IpFamily, ScrapeRequest<'a>),
}

impl Service {
    /// A service as configured.
    #[must_use]
    pub fn new(config: &Config, connection_ids: ConnectionIds, admission: Admission<Udp>) -> Self {
        Self {
            connection_ids,
            admission,
            response_peers_max: response_peers_max(config),
            forged: 0,
            peer_age_seconds_max: config.cleaning.max_peer_age,
        }
    }

    /// Goes by `config` from now on, as far as that can change while the tracker serves.
    pub fn follow(&mut self, config: &Config) {
        self.admission.scrape_torrents_max = config.protocol.max_scrape_torrents;
        self.admission.peer_ids = peer_id_rules(&config.access_list);
        self.response_peers_max = response_peers_max(config);
        self.peer_age_seconds_max = config.cleaning.max_peer_age;
    }

    /// Takes a datagram that came to `socket`. What can be answered at once goes into `outbox`.
    pub fn receive<'a>(
        &mut self,
        now: Now,
        socket: u8,
        path: ReturnPath,
        bytes: &'a [u8],
        outbox: &mut Outbox,
    ) -> Dispatch<'a> {
        let from = CanonicalAddr::new(path.peer());
        let is_denied = self.admission.denies_network(from);
        let counters = self.admission.counters.traffic(from.family());
        counters.received_bytes.add(bytes.len());
        if is_denied {
            // Without an answer: whoever forges an address could have others answered with it.
            counters.reason(Reason::NetworkDenied).add(1);
            return Dispatch::Done;
        }
        if from.get().port() == 0 {
            counters.reason(Reason::SourcePortZero).add(1);
            return Dispatch::Done;
        }
        if !self.admission.allows_request(now, from) {
            counters.reason(Reason::RequestRate).add(1);
            return Dispatch::Done;
        }
        let Admission {
            access_list,
            keys,
            peer_ids,
            counters,
            announces,
            ..
        } = &mut self.admission;
        let mut context = RequestContext {
            now,
            path,
            from,
            connection_ids: &self.connection_ids,
            access_list,
            keys,
            peer_ids,
            announces: announces.as_mut(),
            counters: counters.traffic(from.family()),
            outbox,
            response_peers_max: self.response_peers_max,
            forged: &mut self.forged,
            peer_age_seconds_max: self.peer_age_seconds_max,
        };
        match Request::parse(bytes) {
            Ok(Request::Connect(connect)) => context.connect(connect),
            Ok(Request::Announce(announce)) => context.announce(socket, &announce),
            Ok(Request::Scrape(scrape)) => context.scrape(scrape),
            Err(error) => context.malformed(error),
        }
    }

    /// Takes note of what the system's clock says at `now`. To be called about once a second.
    pub fn synchronise(&mut self, now: Now, unix_micros: u64) {
        self.connection_ids.synchronise(now, unix_micros);
    }

    /// How many requests there have been with a connection id that nobody was given.
    pub(crate) fn forged(&self) -> u64 {
        self.forged
    }

    /// What ids it gives and takes.
    pub(crate) fn connection_ids(&self) -> &ConnectionIds {
        &self.connection_ids
    }

    /// Drops a datagram that is longer than any request, so that only its beginning was received.
    pub fn receive_too_long(&self, path: ReturnPath, bytes: &[u8]) {
        let family = CanonicalAddr::new(path.peer()).family();
        let counters = self.admission.counters.traffic(family);
        counters.received_bytes.add(bytes.len());
        counters.reason(Reason::TooLong).add(1);
    }
}

fn response_peers_max(config: &Config) -> u16 {
    u16::try_from(config.protocol.max_response_peers).unwrap_or(u16::MAX)
}

/// All that is at hand while one datagram is dealt with.
struct RequestContext<'s> {
    now: Now,
    path: ReturnPath,
    from: CanonicalAddr,
    connection_ids: &'s ConnectionIds,
    access_list: &'s mut AccessListReader,
    keys: &'s mut KeyReader,
    peer_ids: &'s PeerIdRules,
    announces: Option<&'s mut AnnounceTap>,
    counters: &'s TrafficCounters,
    outbox: &'s mut Outbox,
    response_peers_max: u16,
    forged: &'s mut u64,
    peer_age_seconds_max: u32,
}

impl RequestContext<'_> {
    fn connect<'a>(&mut self, connect: ConnectRequest) -> Dispatch<'a> {
        self.counters.requests(RequestKind::Connect).add(1);
        self.counters.responses(ResponseKind::Connect).add(1);
        let answer = ConnectResponse {
            transaction_id: connect.transaction_id,
            connection_id: self.connection_ids.issue(self.now, self.from.ip()),
        };
        self.outbox
            .push_with(self.path, |bytes| answer.write(bytes));
        Dispatch::Done
    }

    fn announce<'a>(&mut self, socket: u8, request: &AnnounceRequest<'_>) -> Dispatch<'a> {
        self.counters.requests(RequestKind::Announce).add(1);
        let transaction_id = request.transaction_id;
        if !self.is_connected(request.connection_id) {
            self.refuse_id(transaction_id, request.connection_id);
            return Dispatch::Done;
        }
        let url = self
            .keys
            .is_required()
            .then(|| keys::announce_url(request.options));
        let key = url.as_deref().and_then(keys::key_in);
        if let Err(refusal) = self.check_key(key, request) {
            self.refuse_key(transaction_id, refusal);
            return Dispatch::Done;
        }
        if !self.access_list.is_allowed(&request.info_hash) {
            self.refuse(
                transaction_id,
                Reason::InfoHashDenied,
                "torrent not allowed here",
            );
            return Dispatch::Done;
        }
        if !self.peer_ids.allow(&request.peer_id) {
            self.refuse(transaction_id, Reason::PeerIdDenied, PEER_ID_DENIED);
            return Dispatch::Done;
        }
        if let Err(refusal) = self.admit_by_key(key, request) {
            self.refuse_key(transaction_id, refusal);
            return Dispatch::Done;
        }
        if self.announces.is_some() {
            self.tell(request);
        }
        match self.from.get() {
            SocketAddr::V4(from) => {
                let peer = CompactV4::new(*from.ip(), request.port);
                Dispatch::AnnounceV4(self.message(socket, peer, request))
            }
            SocketAddr::V6(from) => {
                let peer = CompactV6::new(*from.ip(), request.port);
                Dispatch::AnnounceV6(self.message(socket, peer, request))
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn tell(&mut self, request: &AnnounceRequest<'_>) {
        let url = keys::announce_url(request.options);
        let announce = ServedAnnounce {
            info_hash: request.info_hash,
            peer_id: request.peer_id,
            ip: self.from.ip(),
            port: Some(request.port),
            uploaded: Some(request.bytes_uploaded),
            downloaded: Some(request.bytes_downloaded),
            left: Some(request.bytes_left),
            event: request.event,
            key: keys::key_in(&url),
        };
        if let Some(tap) = &mut self.announces {
            tap.note(self.now, &announce);
        }
    }

    fn message<K>(&self, socket: u8, peer: K, request: &AnnounceRequest<'_>) -> Announce<K> {
        // A negative number, usually -1, asks for as many as there are.
        let wanted = u16::try_from(request.num_want.min(i32::from(u16::MAX)));
        Announce {
            socket,
            path: self.path,
            transaction_id: request.transaction_id,
            info_hash: request.info_hash,
            client: request.peer_id.client_prefix(),
            announce: aquatic_swarm::Announce {
                peer,
                status: PeerStatus::new(request.event, request.bytes_left),
                completed: request.event == AnnounceEvent::Completed,
                num_want: wanted.unwrap_or(u16::MAX).min(self.response_peers_max),
            },
        }
    }

    fn scrape<'a>(&mut self, request: ScrapeRequest<'a>) -> Dispatch<'a> {
        self.counters.requests(RequestKind::Scrape).add(1);
        if !self.is_connected(request.connection_id) {
            self.refuse_id(request.transaction_id, request.connection_id);
            return Dispatch::Done;
        }
        if self.keys.is_required() {
            self.refuse(
                request.transaction_id,
                Reason::KeyMissing,
                SCRAPE_WITHOUT_KEY,
            );
            return Dispatch::Done;
        }
        Dispatch::Scrape(self.from.family(), request)
    }

    /// Only a client that owns its address is told what is wrong with its request.
    fn malformed<'a>(&mut self, error: RequestError) -> Dispatch<'a> {
        let reason = match error.kind {
            RequestErrorKind::TooShort => Reason::TooShort,
            RequestErrorKind::UnknownAction => Reason::UnknownAction,
            RequestErrorKind::NotConnect => Reason::NotConnect,
            RequestErrorKind::PortZero => Reason::PortZero,
            RequestErrorKind::NoInfoHash => Reason::NoInfoHash,
        };
        match error.answerable {
            Some((connection_id, transaction_id)) if self.is_connected(connection_id) => {
                self.refuse(transaction_id, reason, &error.kind.to_string());
            }
            Some(_) => self.counters.reason(Reason::Unconnected).add(1),
            None => self.counters.reason(reason).add(1),
        }
        Dispatch::Done
    }

    /// Whether the client has shown that it owns its address.
    fn is_connected(&self, connection_id: ConnectionId) -> bool {
        self.connection_ids
            .is_valid(self.now, self.from.ip(), connection_id)
    }

    fn refuse_id(&mut self, transaction_id: TransactionId, id: ConnectionId) {
        if !self.connection_ids.is_genuine(self.now, self.from.ip(), id) {
            *self.forged += 1;
        }
        self.refuse(transaction_id, Reason::ConnectionId, CONNECT_AGAIN);
    }

    fn refuse(&mut self, transaction_id: TransactionId, reason: Reason, message: &str) {
        self.counters.reason(reason).add(1);
        self.counters.responses(ResponseKind::Error).add(1);
        let error = ErrorResponse {
            transaction_id,
            message: message.as_bytes(),
        };
        self.outbox.push_with(self.path, |bytes| error.write(bytes));
    }
}

#[cfg(test)]
mod tests;
