//! What a socket worker does, whatever the backend that moves its bytes. Pure.
//!
//! A backend (`mio`, with `frames` or without, `uring`) is a loop around a [`SocketWorker`]:
//!
//! 1. [`receive`](SocketWorker::receive) each datagram that has come,
//! 2. [`finish`](SocketWorker::finish) the batch: requests go to the owners of their torrents, this
//!    worker's own are answered, and answers of others are collected,
//! 3. send the [`outboxes`](SocketWorker::outboxes),
//! 4. do a slice of [`maintain`](SocketWorker::maintain) work,
//! 5. wait as its [`IdleStrategy`](aquatic_channel::IdleStrategy) says, unless there was more to
//!    do. Before it really sleeps it asks [`has_pending`](SocketWorker::has_pending).
//!
//! In the *split* topology swarm workers own the shards and the worker only passes requests on. In
//! the *fused* one each socket worker also owns a shard, and the kernel has steered almost every
//! request to its owner already; what has not been (a scrape of several shards, a request that
//! arrived while the process started) is passed on all the same. The code is the same for both.

mod each_second;
#[cfg(target_os = "linux")]
pub mod frames;
#[cfg(not(target_os = "linux"))]
#[path = "without_frames.rs"]
pub mod frames;
pub mod host;
pub mod last_rounds;
pub mod mio;
mod pending_scrapes;
mod shielding;
#[cfg(target_os = "linux")]
pub mod uring;

use std::sync::Arc;
use std::time::Duration;

use aquatic_daemon::live::SettingsReader;
use aquatic_keys::SharedKeys;
use aquatic_swarm::Counts;
use aquatic_tracker::announces::Announces;
use aquatic_tracker::dispatch::dispatcher::Dispatcher;
use aquatic_tracker::shard::addresses::AddressShard;
use aquatic_tracker::shard::{Batch as _, ShardOwner};
use aquatic_types::IpFamily;
use aquatic_udp_protocol::ScrapeRequest;
use aquatic_udp_socket::{Outbox, ReturnPath, SendReport};

use crate::Now;
use crate::config::Config;
use crate::counters::{Reason, WorkerCounters};
use crate::messages::{Announce, Batch, Scrape};
use crate::response_writer::ResponseWriter;
use crate::service::{Dispatch, Service};
use crate::shield::Shields;
use crate::xdp::{Guard, XdpControl};
use pending_scrapes::PendingScrapes;

/// Bytes of the largest datagram that is read, here and by programs in the kernel.
pub const DATAGRAM_BYTES_MAX: usize = aquatic_xdp::DATAGRAM_BYTES_MAX;

/// When answers that found no room are tried again, unless something else happens before.
const RESEND_INTERVAL: Duration = Duration::from_millis(1);

/// A socket worker without its sockets.
pub struct SocketWorker {
    service: Service,
    /// Tells of other settings, if they can change.
    settings: Option<SettingsReader<Arc<Config>>>,
    dispatcher: Dispatcher<ResponseWriter>,
    /// If this worker owns a shard.
    owner: Option<Box<ShardOwner<AddressShard>>>,
    /// Answers that wait to be sent, by socket.
    outboxes: Vec<Outbox>,
    pending_scrapes: PendingScrapes,
    counters: Arc<WorkerCounters>,
    shields: Shields,
    /// One worker has it.
    guard: Option<Guard>,
    /// The others end it.
    control: Option<XdpControl>,
}

impl SocketWorker {
    /// A worker with this many sockets.
    #[must_use]
    pub fn new(
        service: Service,
        mut dispatcher: Dispatcher<ResponseWriter>,
        sockets: usize,
        counters: Arc<WorkerCounters>,
    ) -> Self {
        if let Some(local) = dispatcher.local_batch() {
            local.outboxes.resize_with(sockets, Outbox::new);
        }
        Self {
            service,
            settings: None,
            dispatcher,
            owner: None,
            outboxes: (0..sockets).map(|_| Outbox::new()).collect(),
            pending_scrapes: PendingScrapes::new(),
            counters,
            shields: Shields::default(),
            guard: None,
            control: None,
        }
    }

    /// Gives it filters in front of its sockets. To be called before it works.
    pub(crate) fn hide_behind(&mut self, shields: Shields) {
        self.shields = shields;
    }

    /// Gives it a program in front of the network stack. To be called before it works.
    pub(crate) fn guarded_by(&mut self, guard: Guard) {
        self.guard = Some(guard);
    }

    /// Tells it of the program that another worker has. To be called before it works.
    pub(crate) fn guarded_with(&mut self, control: XdpControl) {
        self.control = Some(control);
    }

    /// The same, with settings that change while it works.
    #[must_use]
    pub fn following(mut self, settings: SettingsReader<Arc<Config>>) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Serves only clients with one of these keys, if they need one. To be called before it works.
    pub fn require_keys(&mut self, keys: &SharedKeys) {
        self.service.admission.keys = keys.reader();
    }

    /// Tells of every announce that it serves, if somebody wants that. To be called before it
    /// works.
    pub fn tell_announces(&mut self, announces: Option<&Announces>) {
        self.service.admission.tell_announces(announces);
    }

    /// Gives it the shard that belongs to its thread, if one does. To be called before it works.
    pub fn own(&mut self, owner: Option<Box<ShardOwner<AddressShard>>>) {
        self.owner = owner;
    }

    /// The shard that belongs to its thread, to be lent.
    pub fn owner_mut(&mut self) -> &mut Option<Box<ShardOwner<AddressShard>>> {
        &mut self.owner
    }

    /// Takes a datagram that came to `socket`.
    pub fn receive(&mut self, now: Now, socket: u8, path: ReturnPath, bytes: &[u8]) {
        let Some(outbox) = self.outboxes.get_mut(usize::from(socket)) else {
            return;
        };
        match self.service.receive(now, socket, path, bytes, outbox) {
            Dispatch::Done => {}
            Dispatch::AnnounceV4(announce) => {
                self.route_announce(IpFamily::V4, announce, |batch| &mut batch.announces.v4);
            }
            Dispatch::AnnounceV6(announce) => {
                self.route_announce(IpFamily::V6, announce, |batch| &mut batch.announces.v6);
            }
            Dispatch::Scrape(family, request) => self.route_scrape(family, socket, path, &request),
        }
    }

    /// Takes note of what the system's clock says at `now`. To be called about once a second.
    pub fn synchronise(&mut self, now: Now, unix_micros: u64) {
        self.service.synchronise(now, unix_micros);
    }

    /// Drops a datagram of which only the beginning was received.
    pub fn receive_too_long(&self, path: ReturnPath, bytes: &[u8]) {
        self.service.receive_too_long(path, bytes);
    }

    /// Drops a frame in which there is no datagram that is whole. Its family may be what is wrong.
    #[cfg(target_os = "linux")]
    fn receive_damaged(&self) {
        let counters = self.counters.traffic(IpFamily::V4);
        counters.reason(Reason::Damaged).add(1);
    }

    fn route_announce<K>(
        &mut self,
        family: IpFamily,
        announce: Announce<K>,
        list: impl FnOnce(&mut Batch) -> &mut Vec<Announce<K>>,
    ) {
        let shard = self.dispatcher.shard_of(&announce.info_hash);
        match self.dispatcher.batch_for(shard) {
            Some(batch) => list(batch).push(announce),
            None => self.refuse_without_answer(family),
        }
    }

    /// A scrape is scattered by torrent, because each can belong to another shard, and gathered
    /// when the last row has come back.
    ///
    /// One datagram asks for as many as 116, and whoever scrapes loses less than whoever announces
    /// if it has to ask again: so half of the room is left for announces.
    fn route_scrape(
        &mut self,
        family: IpFamily,
        socket: u8,
        path: ReturnPath,
        request: &ScrapeRequest<'_>,
    ) {
        let Self {
            service,
            dispatcher,
            pending_scrapes,
            ..
        } = self;
        let pending = pending_scrapes.open(family, socket, path, request.transaction_id);
        let Some((scrape_id, gather)) = pending else {
            self.refuse_without_answer(family);
            return;
        };
        for (info_hash, is_allowed) in service.admission.scraped(request.info_hashes.iter()) {
            let row = gather.add_row();
            // A torrent that is not allowed gets zeros, like an unknown one.
            if !is_allowed {
                continue;
            }
            let shard = dispatcher.shard_of(&info_hash);
            let Some(batch) = dispatcher.batch_for_bulk(shard) else {
                gather.fail();
                continue;
            };
            batch.scrapes.push(Scrape {
                scrape_id,
                row,
                family,
                info_hash,
                counts: Counts::default(),
            });
            gather.expect();
        }
        pending_scrapes.end_if_complete(scrape_id, &mut self.outboxes, &self.counters);
    }

    /// Drops and counts a request for whose shard there is no room.
    fn refuse_without_answer(&self, family: IpFamily) {
        let counters = self.counters.traffic(family);
        counters.reason(Reason::QueueFull).add(1);
    }

    /// Ends a batch of datagrams: everything that can be done about them now is done, and the
    /// outboxes hold what can be sent. Returns how many batches of other workers were dealt with.
    pub fn finish(&mut self, now: Now) -> usize {
        let Self {
            dispatcher,
            owner,
            outboxes,
            pending_scrapes,
            counters,
            ..
        } = self;
        // Responses to what is local are written behind what is there: lent, and given back first.
        if let Some(local) = dispatcher.local_batch().filter(|batch| !batch.is_empty()) {
            std::mem::swap(&mut local.outboxes, outboxes);
        }
        let finished = dispatcher.finish(now, owner.as_deref_mut(), |batch| {
            for (outbox, responses) in outboxes.iter_mut().zip(&mut batch.outboxes) {
                outbox.append(responses);
            }
            pending_scrapes.take_rows(&mut batch.scrapes, outboxes, counters);
        });
        counters.batches_in_flight.set(finished.in_flight);
        finished.batches
    }

    /// Does a slice of whatever else is due. Returns whether there is more to do at once.
    pub fn maintain(&mut self, now: Now) -> bool {
        self.service.admission.refresh();
        if let Some(config) = self.settings.as_mut().and_then(SettingsReader::changed) {
            self.service.follow(&config);
        }
        let owner = self.owner.as_mut();
        owner.is_some_and(|owner| owner.maintain(now))
    }

    /// Whether something is on its way to other workers, or to clients.
    pub(crate) fn has_work_on_its_way(&mut self) -> bool {
        let is_waiting = |outbox: &Outbox| !outbox.is_empty();
        self.counters.batches_in_flight.get() > 0 || self.outboxes.iter().any(is_waiting)
    }

    /// Whether another worker has sent something since the last [`Self::finish`].
    #[must_use]
    pub fn has_pending(&self) -> bool {
        let owner = self.owner.as_ref();
        self.dispatcher.has_pending() || owner.is_some_and(|owner| owner.has_pending())
    }

    /// Answers that wait to be sent, by socket. The backend takes out what it sends.
    pub fn outboxes(&mut self) -> &mut [Outbox] {
        &mut self.outboxes
    }

    /// Counts datagrams that a socket of `family` had no room for.
    fn account_unreceived(&self, family: IpFamily, datagrams: usize) {
        // A filter that does not count is there in a flood only, which fills buffers as well.
        let reason = match self.shields.do_not_count() {
            true => Reason::ForgedId,
            false => Reason::ReceiveBufferFull,
        };
        self.counters.traffic(family).reason(reason).add(datagrams);
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
            && let Some(outbox) = self.outboxes.get_mut(socket)
        {
            let dropped = outbox.truncate(resend_len_max);
            counters.reason(Reason::SendBufferFull).add(dropped);
        }
    }

    /// The same for a backend that learns later what became of answers: `unsent` are those that
    /// found no room. They are put before those that have been written since.
    pub fn account_late(
        &mut self,
        family: IpFamily,
        socket: usize,
        report: &SendReport,
        mut unsent: Outbox,
        resend_len_max: usize,
    ) {
        if let Some(outbox) = self.outboxes.get_mut(socket) {
            std::mem::swap(outbox, &mut unsent);
        }
        self.account(family, socket, report, resend_len_max);
        if let Some(outbox) = self.outboxes.get_mut(socket) {
            outbox.append(&mut unsent);
        }
    }
}

#[cfg(test)]
mod tests {
    use aquatic_tracker::persistence::Persistence;
    use std::io;

    use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
    use aquatic_channel::waker_pair;
    use aquatic_tracker::entropy::Entropy;
    use aquatic_types::{AnnounceEvent, InfoHash, PeerId};
    use aquatic_udp_protocol::{
        AnnounceRequest, ConnectRequest, ConnectionId, Request, Response, TransactionId,
    };

    use super::*;
    use crate::messages::{BATCH_ANNOUNCES_MAX, BATCHES_MAX};
    use crate::workers::{Dependencies, Workers, build_workers};

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
    pub(super) fn split() -> Workers {
        let config = Config {
            swarm_workers: 1,
            ..Config::default()
        };
        let dependencies = Dependencies {
            access_list: SharedAccessList::new(AccessListMode::Off, AccessList::default()),
            wakers: (0..2).map(|_| waker_pair(|| ()).1).collect(),
            persistence: Persistence::default(),
            sockets: 1,
            connection_secret: None,
            unix_micros: 0,
        };
        build_workers(&config, dependencies, &mut NoEntropy).unwrap()
    }

    fn receive(worker: &mut SocketWorker, request: &Request<'_>) {
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        worker.receive(Now::default(), 0, path(), &bytes);
    }

    pub(super) fn connect(worker: &mut SocketWorker) -> ConnectionId {
        let transaction_id = TransactionId([0; 4]);
        receive(worker, &Request::Connect(ConnectRequest { transaction_id }));
        let outbox = &mut worker.outboxes()[0];
        let (_, bytes) = outbox.get(0).unwrap();
        let Ok(Response::Connect(answer)) = Response::parse(bytes, IpFamily::V4) else {
            panic!("no connection id");
        };
        outbox.clear();
        answer.connection_id
    }

    pub(super) fn announce(worker: &mut SocketWorker, connection_id: ConnectionId) {
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
            num_want: 0,
            port: 6_881,
            options: &[],
        };
        receive(worker, &Request::Announce(announce));
    }

    #[test]
    fn drops_and_counts_what_the_owner_does_not_keep_up_with() {
        let mut workers = split();
        let worker = &mut workers.socket_workers[0];
        let id = connect(worker);
        let dropped = || {
            let traffic = workers.counted.workers[0].traffic(IpFamily::V4);
            traffic.reason(Reason::QueueFull).get()
        };
        let room = BATCHES_MAX * BATCH_ANNOUNCES_MAX;
        for round in 1..=3 {
            (0..room + 5).for_each(|_| announce(worker, id));
            assert_eq!(dropped(), 5 * round);
            worker.finish(Now::default());
            let in_flight = &workers.counted.workers[0].batches_in_flight;
            assert_eq!(in_flight.get(), BATCHES_MAX as u64);
            assert_eq!(worker.outboxes()[0].len(), 0);
            assert!(!worker.has_pending());

            let answered = workers.swarm_workers[0].process(Now::default());
            assert_eq!(answered, BATCHES_MAX);
            assert!(worker.has_pending());
            assert_eq!(worker.finish(Now::default()), BATCHES_MAX);
            assert_eq!(worker.outboxes()[0].len(), room);
            worker.outboxes()[0].clear();
            worker.finish(Now::default());
            assert_eq!(in_flight.get(), 0);
        }
    }

    /// However many torrents are scraped, there is room for announces.
    #[test]
    fn scrapes_leave_room_for_announces() {
        let mut workers = split();
        let worker = &mut workers.socket_workers[0];
        let id = connect(worker);
        let dropped = || {
            let traffic = workers.counted.workers[0].traffic(IpFamily::V4);
            traffic.reason(Reason::QueueFull).get()
        };
        let mut scrape = [&id.0[..], &[0, 0, 0, 2], b"abcd"].concat();
        scrape.extend([2; 70 * 20]);
        // Each round brings more than can be answered in it.
        for _ in 0..50 {
            for _ in 0..64 {
                worker.receive(Now::default(), 0, path(), &scrape);
            }
            worker.finish(Now::default());
        }
        let dropped_scrapes = dropped();
        assert!(dropped_scrapes > 1_000, "only {dropped_scrapes}");
        let room = BATCHES_MAX / 2 * BATCH_ANNOUNCES_MAX;
        (0..room).for_each(|_| announce(worker, id));
        assert_eq!(dropped(), dropped_scrapes, "announces are dropped");
        worker.finish(Now::default());
        workers.swarm_workers[0].process(Now::default());
        worker.finish(Now::default());
        let answers = worker.outboxes()[0].iter();
        let announces = answers.filter(|(_, bytes)| bytes[..4] == [0, 0, 0, 1]);
        assert_eq!(announces.count(), room);
    }

    #[test]
    fn accounts_for_what_a_backend_sends_and_does_not() {
        let mut workers = split();
        let worker = &mut workers.socket_workers[0];
        for packet in [b"1", b"2", b"3", b"4"] {
            worker.outboxes()[0].push(path(), packet);
        }
        let mut report = SendReport {
            sent: 7,
            sent_bytes: 700,
            failed: 2,
            last_error: Some(io::ErrorKind::PermissionDenied.into()),
            would_block: false,
        };
        worker.account(IpFamily::V4, 0, &report, 3);
        assert_eq!(
            worker.outboxes()[0].len(),
            4,
            "they have not been tried yet"
        );
        report.would_block = true;
        worker.account(IpFamily::V4, 0, &report, 3);
        let kept: Vec<_> = worker.outboxes()[0]
            .iter()
            .map(|(_, bytes)| bytes.to_vec())
            .collect();
        assert_eq!(kept, [b"1", b"2", b"3"], "the oldest");
        worker.account(IpFamily::V4, 0, &report, 0);
        assert!(worker.outboxes()[0].is_empty());

        let traffic = workers.counted.workers[0].traffic(IpFamily::V4);
        assert_eq!(traffic.sent_bytes.get(), 2_100);
        assert_eq!(traffic.reason(Reason::SendFailed).get(), 6);
        assert_eq!(traffic.reason(Reason::SendBufferFull).get(), 4);
    }

    #[test]
    fn what_found_no_room_does_not_cost_what_was_not_tried() {
        let mut workers = split();
        let worker = &mut workers.socket_workers[0];
        let report = SendReport {
            would_block: true,
            ..SendReport::default()
        };
        for (resend_len_max, kept) in [(2, &["1", "2", "4", "5"][..]), (0, &["4", "5"])] {
            let mut unsent = Outbox::new();
            for packet in [b"1", b"2", b"3"] {
                unsent.push(path(), packet);
            }
            worker.outboxes()[0].clear();
            for packet in [b"4", b"5"] {
                worker.outboxes()[0].push(path(), packet);
            }
            worker.account_late(IpFamily::V4, 0, &report, unsent, resend_len_max);
            let outbox = &worker.outboxes()[0];
            let packets = outbox.iter().map(|(_, bytes)| bytes);
            assert!(packets.eq(kept.iter().map(|packet| packet.as_bytes())));
        }
        let traffic = workers.counted.workers[0].traffic(IpFamily::V4);
        assert_eq!(traffic.reason(Reason::SendBufferFull).get(), 1 + 3);
    }

    #[test]
    fn a_socket_that_does_not_exist_is_harmless() {
        let mut workers = split();
        let worker = &mut workers.socket_workers[0];
        worker.receive(Now::default(), 1, path(), b"anything");
        worker.account(IpFamily::V4, 1, &SendReport::default(), 0);
        assert!(worker.outboxes()[0].is_empty());
    }
}
