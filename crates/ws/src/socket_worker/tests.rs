use std::net::SocketAddr;

use aquatic_access_list::{AccessList, SharedAccessList};
use aquatic_channel::{exchange, waker_pair};
use aquatic_tracker::limits::ClientLimits;
use aquatic_tracker::persistence::Persistence;
use aquatic_types::{InfoHash, IpFamily, PeerId};

use super::*;
use crate::messages::{Batch, ConnectionRef, Evicted, HandedOffer, Receiver, Request, RequestKind};
use crate::notices::Departure;
use crate::workers::build_workers;

/// More than anything that waits is let grow to, or is dealt with in one round.
const MANY: usize = 40_000;

const TORRENT: InfoHash = InfoHash([1; 20]);
const PEER: PeerId = PeerId([2; 20]);

/// The first socket worker. The others do nothing.
fn worker(socket_workers: usize, swarm_workers: usize) -> SocketWorker {
    let config = Config {
        socket_workers,
        swarm_workers,
        ..Config::default()
    };
    let workers = socket_workers + swarm_workers;
    let wakers: Vec<_> = (0..workers).map(|_| waker_pair(|| ()).1).collect();
    let access_list = SharedAccessList::new(AccessListMode::Off, AccessList::default());
    let entropy = &mut fastrand::Rng::with_seed(1);
    let limits = ClientLimits::from_config(&config.limits.connections.tracker, entropy).unwrap();
    let workers = build_workers(
        &config,
        &access_list,
        None,
        &wakers,
        limits,
        Persistence::default(),
        entropy,
    )
    .unwrap();
    workers.socket_workers.into_iter().next().unwrap()
}

fn member(worker: u16) -> ConnectionRef {
    ConnectionRef::here(worker, ConnectionKey::default())
}

fn drop_offers(worker: &mut SocketWorker, count: usize) {
    let receiver = Receiver {
        member: member(0),
        network: 1,
        peer_id: PEER,
        hash: 3,
    };
    let handed = HandedOffer {
        info_hash: TORRENT,
        receiver,
        origin: None,
    };
    for _ in 0..count {
        worker.requests.notices.withdraw(handed);
    }
}

fn scrape() -> Request {
    Request {
        connection: ConnectionKey::default(),
        family: IpFamily::V4,
        network: 1,
        info_hash: TORRENT,
        kind: RequestKind::Scrape { row: 0 },
    }
}

/// Puts requests for [`TORRENT`] on their way, as clients do, until there is no room. Returns how
/// many.
fn fill(worker: &mut SocketWorker) -> usize {
    let requests = &mut worker.requests;
    let mut asked = 0;
    while let Some(batch) = requests.batch_of(0) {
        batch.requests.push(scrape());
        requests.has_asked(0);
        asked += 1;
    }
    asked
}

/// Takes in what has come back from other workers, and returns how many batches that were.
fn collect(worker: &mut SocketWorker) -> usize {
    let dispatcher = &mut worker.requests.dispatcher;
    let finished = dispatcher.finish(Now::default(), None, Batch::clear);
    finished.batches
}

/// What the worker is going to ask its own shard.
fn own_requests(worker: &mut SocketWorker) -> &mut Vec<Request> {
    &mut worker.requests.dispatcher.local_batch().unwrap().requests
}

/// What can be on its way to a shard.
const ROOM: usize = 16 * 256;

/// A shard that does not keep up is told later, but what is to be told does not grow for ever.
#[test]
fn dropped_offers_that_wait_are_bounded() {
    let mut worker = worker(1, 1);
    drop_offers(&mut worker, MANY);
    worker.requests.tell_of_dropped_offers(0);
    assert!(
        !worker.requests.has_notices(),
        "there is no room: nothing can be done"
    );
    assert_eq!(
        fill(&mut worker),
        ROOM / 2,
        "the other half of the room is for requests"
    );
    drop_offers(&mut worker, MANY);
    assert_eq!(worker.requests.notices.dropped_offers(), 16_384);
}

/// The worker's own shard always has room. Its requests do not wait until it knows of all.
#[test]
fn not_all_dropped_offers_are_told_of_in_one_round() {
    let mut worker = worker(1, 0);
    drop_offers(&mut worker, 10_000);
    for told in [4_096, 8_192, 10_000] {
        worker.requests.tell_of_dropped_offers(0);
        assert_eq!(own_requests(&mut worker).len(), told);
    }
    assert!(!worker.requests.has_notices());
}

/// A shard that gives one batch back at a time, while clients have more than enough for it.
#[test]
fn while_the_way_is_busy_errands_have_their_share_of_it() {
    const BATCHES: usize = 64;
    let mut worker = worker(1, 1);
    let (requester, mut shard) = exchange(16, waker_pair(|| ()).1, waker_pair(|| ()).1);
    let key = ShardKey::new([1; 52]);
    worker.requests.dispatcher = Dispatcher::remote(key, vec![requester]);
    assert_eq!(fill(&mut worker), ROOM);
    drop_offers(&mut worker, 16_384);
    for _ in 0..MANY {
        worker.requests.notices.depart(Departure {
            connection: ConnectionKey::default(),
            client: SocketAddr::from(([192, 0, 2, 1], 1)).into(),
            info_hash: TORRENT,
            peer_id: PEER,
            is_certain: true,
        });
    }
    let (mut asked, mut departed) = (0, 0);
    for _ in 0..BATCHES {
        let batch = shard.receive().unwrap();
        shard.answer(batch).unwrap();
        assert_eq!(collect(&mut worker), 1);
        while worker.requests.next_departure(0).is_some() {
            worker.requests.batch_of(0).unwrap().requests.push(scrape());
            departed += 1;
        }
        worker.requests.tell_of_dropped_offers(0);
        asked += fill(&mut worker);
        worker.requests.dispatcher.send();
    }
    let told = 16_384 - worker.requests.notices.dropped_offers();
    assert!(asked >= 110 * BATCHES, "{asked} requests");
    assert!(departed >= 110 * BATCHES, "{departed} departures");
    assert!(told >= 25 * BATCHES, "{told} dropped offers");
    // When all have come back, what was saved up is worth nothing: others have half of the room.
    while let Some(batch) = shard.receive() {
        shard.answer(batch).unwrap();
    }
    assert_eq!(collect(&mut worker), 16);
    while worker.requests.next_departure(0).is_some() {
        worker.requests.batch_of(0).unwrap().requests.push(scrape());
    }
    assert_eq!(fill(&mut worker), ROOM / 2);
}

/// Another worker that does not keep up hears of them later, and of each.
#[test]
fn those_who_had_to_give_way_elsewhere_are_not_forgotten() {
    let mut worker = worker(2, 0);
    let wakers = [waker_pair(|| ()).1, waker_pair(|| ()).1];
    let [own, mut other] = Forwarding::connect(&wakers, None).try_into().unwrap();
    worker.writer.forwarding = own;
    let evicted = Evicted {
        member: member(1),
        info_hash: TORRENT,
        peer_id: PEER,
    };
    worker.writer.evicted_elsewhere = vec![evicted; MANY].into();
    let mut told = 0;
    while !worker.writer.evicted_elsewhere.is_empty() {
        worker.writer.forwarding.collect();
        worker.writer.tell_of_evicted();
        worker.writer.forwarding.forward();
        let is_over = worker.writer.evicted_elsewhere.is_empty();
        assert!(is_over || !worker.has_pending(), "there is no room");
        other.unpack(|batch| told += batch.evicted().len());
        assert!(is_over || worker.has_pending(), "there is room again");
    }
    assert_eq!(told, MANY);
}

#[test]
fn what_is_left_to_do_is_not_slept_over() {
    let mut worker = worker(2, 0);
    assert!(!worker.has_pending());
    worker.writer.evicted.push(Evicted {
        member: member(0),
        info_hash: TORRENT,
        peer_id: PEER,
    });
    assert!(worker.has_pending(), "its connection is to be told");
    worker.writer.evicted.clear();
    drop_offers(&mut worker, 1);
    assert!(worker.has_pending(), "its shard is to be told");
    worker.requests.tell_of_dropped_offers(0);
    worker.requests.tell_of_dropped_offers(1);
    own_requests(&mut worker).clear();
    assert!(!worker.has_pending(), "it is on its way");
    own_requests(&mut worker).push(Request {
        connection: ConnectionKey::default(),
        family: IpFamily::V4,
        network: 1,
        info_hash: TORRENT,
        kind: RequestKind::Leave { peer_id: PEER },
    });
    assert!(worker.has_pending(), "nobody else decides about it");
}
