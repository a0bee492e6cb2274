//! What a socket worker does, whatever the backend that moves its bytes. Pure.
//!
//! A backend (`mio`, `uring`) is a loop around a [`Core`]:
//!
//! 1. [`receive`](Core::receive) each datagram that has come,
//! 2. [`finish`](Core::finish) the batch: requests go to the owners of their torrents, this
//!    worker's own are answered, and answers of others are collected,
//! 3. send the [`outboxes`](Core::outboxes),
//! 4. do a slice of [`background`](Core::background) work,
//! 5. wait as [`channel::Pacer`](aquatic_channel::Pacer) says, unless there was more to do. Before
//!    it really sleeps it asks [`has_mail`](Core::has_mail).
//!
//! In the *split* arrangement swarm workers own the shards and the core only passes requests on. In
//! the *fused* one each socket worker also owns a shard, and the kernel has steered almost every
//! request to its owner already; what has not been (a scrape of several shards, a request that
//! arrived while the process started) is passed on all the same. The code is the same for both.

pub mod mio;
mod pending_scrapes;
#[cfg(target_os = "linux")]
pub mod uring;

use std::sync::Arc;

use aquatic_channel::{Requester, Responder};
use aquatic_types::{InfoHash, IpFamily};
use aquatic_udp_protocol::{ScrapeRequest, ScrapeRow};
use aquatic_udp_socket::steering::{SteeringKey, owner};
use aquatic_udp_socket::{Outbox, ReturnPath, SendReport};

use crate::Now;
use crate::counters::{Reason, ResponseKind, WorkerCounters};
use crate::messages::{Announce, Batch, Scrape};
use crate::service::{Received, Service};
use crate::shard::Shard;
use pending_scrapes::PendingScrapes;

/// Bytes of the largest datagram that is read. The largest sensible request is a scrape of 116
/// torrents (2,336 bytes); an announce may carry a URL that is as long (BEP 41).
pub const DATAGRAM_BYTES_MAX: usize = 2_560;

/// Where the shards are.
pub struct Placement {
    /// Decides which shard a torrent belongs to; the same in all workers and in the kernel.
    pub key: SteeringKey,
    /// How many there are.
    pub shards: u32,
    /// This worker's own shard and its index (fused), or none (split).
    pub own: Option<(usize, Box<Shard>)>,
    /// The way to the owner of each shard; `None` for the own one.
    pub owners: Vec<Option<Requester<Batch>>>,
    /// The ways from the other workers that have requests for the own shard (fused).
    pub askers: Vec<Responder<Batch>>,
}

/// A socket worker without its sockets.
pub struct Core {
    service: Service,
    placement: Placement,
    /// The batch for each shard that is being filled.
    filling: Vec<Option<Batch>>,
    /// Requests for the own shard, and all answers that wait to be sent.
    own: Batch,
    pending_scrapes: PendingScrapes,
    counters: Arc<WorkerCounters>,
}

impl Core {
    /// A worker with this many sockets.
    #[must_use]
    pub fn new(
        service: Service,
        placement: Placement,
        sockets: usize,
        counters: Arc<WorkerCounters>,
    ) -> Self {
        Self {
            service,
            filling: placement.owners.iter().map(|_| None).collect(),
            placement,
            own: Batch::new(sockets),
            pending_scrapes: PendingScrapes::new(),
            counters,
        }
    }

    /// Takes a datagram that came to `socket`.
    pub fn receive(&mut self, now: Now, socket: u8, path: ReturnPath, bytes: &[u8]) {
        let Some(outbox) = self.own.outboxes.get_mut(usize::from(socket)) else {
            return;
        };
        match self.service.receive(now, socket, path, bytes, outbox) {
            Received::Done => {}
            Received::AnnounceV4(announce) => {
                self.route_announce(IpFamily::V4, announce, |batch| &mut batch.announces.v4);
            }
            Received::AnnounceV6(announce) => {
                self.route_announce(IpFamily::V6, announce, |batch| &mut batch.announces.v6);
            }
            Received::Scrape(family, request) => self.route_scrape(family, socket, path, &request),
        }
    }

    /// Drops a datagram of which only the beginning was received.
    pub fn receive_too_long(&self, path: ReturnPath, bytes: &[u8]) {
        self.service.receive_too_long(path, bytes);
    }

    fn route_announce<K>(
        &mut self,
        family: IpFamily,
        announce: Announce<K>,
        list: impl FnOnce(&mut Batch) -> &mut Vec<Announce<K>>,
    ) {
        match self.batch_for(&announce.info_hash) {
            Some(batch) => list(batch).push(announce),
            None => self
                .counters
                .traffic(family)
                .reason(Reason::QueueFull)
                .add(1),
        }
    }

    /// A scrape is taken apart by torrent, because each can belong to another shard, and is put
    /// together again when the last row has come back.
    fn route_scrape(
        &mut self,
        family: IpFamily,
        socket: u8,
        path: ReturnPath,
        request: &ScrapeRequest<'_>,
    ) {
        let Some(ticket) = self
            .pending_scrapes
            .open(family, socket, path, request.transaction_id)
        else {
            self.counters
                .traffic(family)
                .reason(Reason::QueueFull)
                .add(1);
            return;
        };
        // Taken out for the loop: both the service and the batches are needed in it.
        let mut torrents = std::mem::take(&mut self.pending_scrapes.torrents);
        torrents.extend(self.service.scraped(request));
        for (place, (info_hash, allowed)) in (0..).zip(torrents.drain(..)) {
            // A torrent that is not allowed gets zeros, like an unknown one.
            if !allowed {
                self.pending_scrapes.add_row(ticket);
                continue;
            }
            let row = ScrapeRow {
                seeders: 0,
                completed: 0,
                leechers: 0,
            };
            let scrape = Scrape {
                ticket,
                place,
                family,
                info_hash,
                row,
            };
            match self.batch_for(&info_hash) {
                Some(batch) => {
                    batch.scrapes.push(scrape);
                    self.pending_scrapes.expect_row(ticket);
                }
                None => self.pending_scrapes.give_up(ticket),
            }
        }
        self.pending_scrapes.torrents = torrents;
        self.close_scrape_if_complete(ticket);
    }

    /// The batch that goes to the owner of a torrent. `None` if the owner does not keep up.
    fn batch_for(&mut self, info_hash: &InfoHash) -> Option<&mut Batch> {
        let Placement {
            key,
            shards,
            own,
            owners,
            ..
        } = &mut self.placement;
        let shard = match *shards {
            1 => 0,
            shards => usize::try_from(owner(key, &info_hash.0, shards)).ok()?,
        };
        if own.as_ref().is_some_and(|(own, _)| *own == shard) {
            return Some(&mut self.own);
        }
        let requester = owners.get_mut(shard)?.as_mut()?;
        let filling = self.filling.get_mut(shard)?;
        if filling.as_ref().is_some_and(Batch::is_full) {
            send(requester, filling);
        }
        if filling.is_none() {
            let sockets = self.own.outboxes.len();
            *filling = requester.vacant(|| Batch::new(sockets));
        }
        filling.as_mut()
    }

    /// Ends a batch of datagrams: everything that can be done about them now is done, and the
    /// outboxes hold what can be sent. Returns how many batches of other workers were dealt with.
    pub fn finish(&mut self, now: Now) -> usize {
        self.forward();
        let answered = self.answer(now);
        let collected = self.collect();
        let own_rows = std::mem::take(&mut self.own.scrapes);
        self.take_rows(&own_rows);
        self.own.scrapes = own_rows;
        self.own.scrapes.clear();
        answered + collected
    }

    fn forward(&mut self) {
        let mut in_flight = 0;
        for (owner, filling) in self.placement.owners.iter_mut().zip(&mut self.filling) {
            let Some(requester) = owner else { continue };
            send(requester, filling);
            requester.ring();
            in_flight += requester.in_flight();
        }
        self.counters.batches_in_flight.set(in_flight);
    }

    /// Answers what concerns the own shard: this worker's requests, then those of others.
    fn answer(&mut self, now: Now) -> usize {
        let Some((_, shard)) = &mut self.placement.own else {
            return 0;
        };
        if !self.own.is_empty() {
            shard.answer(now, &mut self.own);
        }
        let mut answered = 0;
        for asker in &mut self.placement.askers {
            answered += answer_all(now, shard, asker);
        }
        answered
    }

    /// Takes over what has come back from other workers.
    fn collect(&mut self) -> usize {
        let mut collected = 0;
        for index in 0..self.placement.owners.len() {
            while let Some(mut batch) = self
                .placement
                .owners
                .get_mut(index)
                .and_then(|owner| owner.as_mut()?.receive())
            {
                collected += 1;
                self.take_rows(&batch.scrapes);
                batch.scrapes.clear();
                for (outbox, answers) in self.own.outboxes.iter_mut().zip(&mut batch.outboxes) {
                    outbox.append(answers);
                }
                if let Some(Some(owner)) = self.placement.owners.get_mut(index) {
                    owner.recycle(batch);
                }
            }
        }
        collected
    }

    fn take_rows(&mut self, scrapes: &[Scrape]) {
        for scrape in scrapes {
            self.pending_scrapes
                .fill_row(scrape.ticket, scrape.place, scrape.row);
            self.close_scrape_if_complete(scrape.ticket);
        }
    }

    fn close_scrape_if_complete(&mut self, ticket: u32) {
        let Some(scrape) = self.pending_scrapes.close_if_complete(ticket) else {
            return;
        };
        let counters = self.counters.traffic(scrape.family);
        if scrape.given_up {
            counters.reason(Reason::QueueFull).add(1);
        } else if let Some(outbox) = self.own.outboxes.get_mut(usize::from(scrape.socket)) {
            outbox.push_with(scrape.path, |bytes| scrape.write(bytes));
            counters.responses(ResponseKind::Scrape).add(1);
        }
        self.pending_scrapes.recycle(scrape);
    }

    /// Does a slice of whatever else is due. Returns whether there is more to do at once.
    pub fn background(&mut self, now: Now) -> bool {
        match &mut self.placement.own {
            Some((_, shard)) => shard.background(now),
            None => false,
        }
    }

    /// Whether another worker has sent something since the last [`Self::finish`].
    #[must_use]
    pub fn has_mail(&self) -> bool {
        let Placement { owners, askers, .. } = &self.placement;
        owners.iter().flatten().any(Requester::has_answers)
            || askers.iter().any(Responder::has_requests)
    }

    /// Answers that wait to be sent, by socket. The backend takes out what it sends.
    pub fn outboxes(&mut self) -> &mut [Outbox] {
        &mut self.own.outboxes
    }

    /// Counts what a backend has sent, or could not send, through a socket of `family`. What is
    /// left in the outbox because the kernel had no room is cut down to `resend_len_max`.
    pub fn account(
        &mut self,
        family: IpFamily,
        socket: usize,
        report: &SendReport,
        resend_len_max: usize,
    ) {
        let counters = self.counters.traffic(family);
        counters.sent_bytes.add(report.sent_bytes);
        counters.reason(Reason::SendFailed).add(report.failed);
        if let Some(error) = &report.last_error {
            log::debug!("could not send {} answers: {error}", report.failed);
        }
        if report.would_block
            && let Some(outbox) = self.own.outboxes.get_mut(socket)
        {
            let dropped = outbox.truncate(resend_len_max);
            counters.reason(Reason::SendBufferFull).add(dropped);
        }
    }
}

/// Answers all requests that one other worker has for a shard, and returns how many batches there
/// were.
pub fn answer_all(now: Now, shard: &mut Shard, asker: &mut Responder<Batch>) -> usize {
    let mut answered = 0;
    while let Some(mut batch) = asker.receive() {
        shard.answer(now, &mut batch);
        // There is room for every batch that was received.
        let sent = asker.answer(batch);
        debug_assert!(sent.is_ok(), "the batch came from this exchange");
        answered += 1;
    }
    asker.ring();
    answered
}

/// Puts a batch on its way, if there is one.
fn send(requester: &mut Requester<Batch>, filling: &mut Option<Batch>) {
    if let Some(batch) = filling.take_if(|batch| !batch.is_empty()) {
        // There is room for every batch that was vacant.
        let sent = requester.send(batch);
        debug_assert!(sent.is_ok(), "the batch came from this exchange");
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
    use aquatic_channel::bell;
    use aquatic_types::{AnnounceEvent, PeerId};
    use aquatic_udp_protocol::{
        AnnounceRequest, ConnectRequest, ConnectionId, Request, Response, TransactionId,
    };

    use super::*;
    use crate::arrangement::{Arrangement, Entropy, Surroundings, arrange};
    use crate::config::Config;
    use crate::messages::{BATCH_ANNOUNCES_MAX, BATCHES_MAX};

    /// The same bytes each time.
    struct NoEntropy;

    impl Entropy for NoEntropy {
        fn bytes<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
            Ok([7; N])
        }
    }

    fn path() -> ReturnPath {
        ReturnPath::to(([192, 0, 2, 1], 6_881).into())
    }

    /// One socket worker with one socket, and one swarm worker.
    fn split() -> Arrangement {
        let config = Config {
            swarm_workers: 1,
            ..Config::default()
        };
        let surroundings = Surroundings {
            access_list: SharedAccessList::new(AccessListMode::Off, AccessList::default()),
            bells: (0..2).map(|_| bell(|| ()).1).collect(),
            export_writers: Vec::new(),
            sockets: 1,
        };
        arrange(&config, surroundings, &mut NoEntropy).unwrap()
    }

    fn receive(core: &mut Core, request: &Request<'_>) {
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        core.receive(Now::default(), 0, path(), &bytes);
    }

    fn connect(core: &mut Core) -> ConnectionId {
        let transaction_id = TransactionId([0; 4]);
        receive(core, &Request::Connect(ConnectRequest { transaction_id }));
        let outbox = &mut core.outboxes()[0];
        let (_, bytes) = outbox.get(0).unwrap();
        let Ok(Response::Connect(answer)) = Response::parse(bytes, IpFamily::V4) else {
            panic!("no connection id");
        };
        outbox.clear();
        answer.connection_id
    }

    fn announce(core: &mut Core, connection_id: ConnectionId) {
        let announce = AnnounceRequest {
            connection_id,
            transaction_id: TransactionId([1; 4]),
            info_hash: InfoHash([2; 20]),
            peer_id: PeerId([3; 20]),
            bytes_downloaded: 0,
            bytes_left: 0,
            bytes_uploaded: 0,
            event: AnnounceEvent::None,
            key: [0; 4],
            peers_wanted: 0,
            port: 6_881,
            options: &[],
        };
        receive(core, &Request::Announce(announce));
    }

    #[test]
    fn drops_and_counts_what_the_owner_does_not_keep_up_with() {
        let mut arrangement = split();
        let core = &mut arrangement.cores[0];
        let id = connect(core);
        let dropped = || {
            let traffic = arrangement.counters[0].traffic(IpFamily::V4);
            traffic.reason(Reason::QueueFull).get()
        };
        let room = BATCHES_MAX * BATCH_ANNOUNCES_MAX;
        for round in 1..=3 {
            (0..room + 5).for_each(|_| announce(core, id));
            assert_eq!(dropped(), 5 * round);
            core.finish(Now::default());
            let in_flight = &arrangement.counters[0].batches_in_flight;
            assert_eq!(in_flight.get(), BATCHES_MAX as u64);
            assert_eq!(core.outboxes()[0].len(), 0);
            assert!(!core.has_mail());

            let answered = arrangement.swarm_workers[0].answer(Now::default());
            assert_eq!(answered, BATCHES_MAX);
            assert!(core.has_mail());
            assert_eq!(core.finish(Now::default()), BATCHES_MAX);
            assert_eq!(core.outboxes()[0].len(), room);
            core.outboxes()[0].clear();
            core.finish(Now::default());
            assert_eq!(in_flight.get(), 0);
        }
    }

    #[test]
    fn accounts_for_what_a_backend_sends_and_does_not() {
        let mut arrangement = split();
        let core = &mut arrangement.cores[0];
        for packet in [b"1", b"2", b"3", b"4"] {
            core.outboxes()[0].push(path(), packet);
        }
        let mut report = SendReport {
            sent: 7,
            sent_bytes: 700,
            failed: 2,
            last_error: Some(io::ErrorKind::PermissionDenied.into()),
            would_block: false,
        };
        core.account(IpFamily::V4, 0, &report, 3);
        assert_eq!(core.outboxes()[0].len(), 4, "they have not been tried yet");
        report.would_block = true;
        core.account(IpFamily::V4, 0, &report, 3);
        let kept: Vec<_> = core.outboxes()[0]
            .iter()
            .map(|(_, bytes)| bytes.to_vec())
            .collect();
        assert_eq!(kept, [b"1", b"2", b"3"], "the oldest");
        core.account(IpFamily::V4, 0, &report, 0);
        assert!(core.outboxes()[0].is_empty());

        let traffic = arrangement.counters[0].traffic(IpFamily::V4);
        assert_eq!(traffic.sent_bytes.get(), 2_100);
        assert_eq!(traffic.reason(Reason::SendFailed).get(), 6);
        assert_eq!(traffic.reason(Reason::SendBufferFull).get(), 4);
    }

    #[test]
    fn a_socket_that_does_not_exist_is_harmless() {
        let mut arrangement = split();
        let core = &mut arrangement.cores[0];
        core.receive(Now::default(), 1, path(), b"anything");
        core.account(IpFamily::V4, 1, &SendReport::default(), 0);
        assert!(core.outboxes()[0].is_empty());
    }
}
