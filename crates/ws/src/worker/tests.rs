use aquatic_access_list::{AccessList, SharedAccessList};
use aquatic_channel::bell;
use aquatic_types::{InfoHash, IpFamily, PeerId};

use super::*;
use crate::arrangement::arrange;
use crate::messages::{Evicted, HandedOffer, Member, Receiver, Request, What};

/// More than anything that waits is let grow to, or is dealt with in one round.
const MANY: usize = 40_000;

const TORRENT: InfoHash = InfoHash([1; 20]);
const PEER: PeerId = PeerId([2; 20]);

/// The first socket worker. The others do nothing.
fn worker(socket_workers: usize, swarm_workers: usize) -> Worker {
    let config = Config {
        socket_workers,
        swarm_workers,
        ..Config::default()
    };
    let workers = socket_workers + swarm_workers;
    let bells: Vec<_> = (0..workers).map(|_| bell(|| ()).1).collect();
    let access_list = SharedAccessList::new(AccessListMode::Off, AccessList::default());
    let entropy = &mut fastrand::Rng::with_seed(1);
    let arrangement = arrange(&config, &access_list, None, &bells, entropy).unwrap();
    arrangement.socket_workers.into_iter().next().unwrap()
}

fn member(worker: u16) -> Member {
    Member {
        worker,
        connection: ConnectionId::default(),
    }
}

fn dropped_offers(count: usize) -> DroppedOffers {
    let receiver = Receiver {
        member: member(0),
        network: 1,
        peer_id: PEER,
        hash: 3,
    };
    let handed = HandedOffer {
        info_hash: TORRENT,
        receiver,
    };
    DroppedOffers {
        offers: vec![handed; count].into(),
        has_new: true,
    }
}

/// A relay that does not keep up is told later, but what is to be told does not grow for ever.
#[test]
fn dropped_offers_that_wait_are_bounded() {
    let mut worker = worker(1, 1);
    let mut dropped = dropped_offers(MANY);
    worker.asker.withdraw(&mut dropped);
    assert_eq!(dropped.offers.len(), 16_384);
    worker.asker.withdraw(&mut dropped);
    assert!(!dropped.has_new, "there is no room: nothing can be done");
    // The other half of the room is for requests.
    let shard = worker.asker.shard_key.shard_of(&TORRENT, 1);
    let own = &mut worker.asker.own;
    assert!(
        worker
            .asker
            .router
            .batch_for(shard, own, || Batch::new(0))
            .is_some()
    );
}

/// The worker's own relay always has room. Its requests do not wait until it knows of all.
#[test]
fn not_all_dropped_offers_are_told_of_in_one_round() {
    let mut worker = worker(1, 0);
    let mut dropped = dropped_offers(10_000);
    for told in [4_096, 8_192, 10_000] {
        assert!(dropped.has_new);
        worker.asker.withdraw(&mut dropped);
        assert_eq!(worker.asker.own.requests.len(), told);
    }
    assert!(!dropped.has_new && dropped.offers.is_empty());
}

/// Another worker that does not keep up hears of them later, and of each.
#[test]
fn those_who_had_to_give_way_elsewhere_are_not_forgotten() {
    let mut worker = worker(2, 0);
    let evicted = Evicted {
        member: member(1),
        info_hash: TORRENT,
        peer_id: PEER,
    };
    worker.writer.evicted_elsewhere = vec![evicted; MANY].into();
    worker.writer.tell_of_evicted();
    // Sixteen parcels of 256.
    assert_eq!(worker.writer.evicted_elsewhere.len(), MANY - 4_096);
}

#[test]
fn what_is_left_to_do_is_not_slept_over() {
    let mut worker = worker(2, 0);
    assert!(!worker.has_mail());
    worker.writer.evicted.push(Evicted {
        member: member(0),
        info_hash: TORRENT,
        peer_id: PEER,
    });
    assert!(worker.has_mail(), "its connection is to be told");
    worker.writer.evicted.clear();
    worker.asker.own.requests.push(Request {
        connection: ConnectionId::default(),
        family: IpFamily::V4,
        network: 1,
        info_hash: TORRENT,
        what: What::Leave { peer_id: PEER },
    });
    assert!(worker.has_mail(), "nobody else decides about it");
}
