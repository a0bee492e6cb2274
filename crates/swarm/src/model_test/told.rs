//! What others tell of peers, and what is told to whoever has to tell others.

use aquatic_types::{CompactV4, InfoHash, PeerStatus, Seconds};

use super::{ModelPeer, Policy, World};
use crate::hash::TorrentKey;
use crate::{Applied, RefreshInterval, Refusal, Told};

/// Tells the map and its model the same.
pub(super) fn apply(world: &mut World, info_hash: InfoHash, told: &Told<CompactV4>) {
    world.next_value += 1;
    let mut policy = Policy {
        peer: told.peer,
        value: world.next_value,
        deadline: told.deadline,
        asked: 0,
        updated: None,
        previous: None,
    };
    let key = world.map.key(info_hash);
    let outcome = world.map.apply(Seconds(world.now), &key, told, &mut policy);
    // It is asked about those only who are new, and nobody has announced.
    assert!(policy.updated.is_none() && policy.previous.is_none());
    let torrent = world.model.get(&info_hash);
    let is_known = torrent.is_some_and(|torrent| torrent.peers.contains_key(&told.peer));
    let is_over = told.deadline.0 | 1 < world.now;
    if is_over || (!is_known && told.status == PeerStatus::Stopped) {
        assert_eq!((outcome, policy.asked), (Ok(Applied::Nothing), 0));
    } else if is_known {
        assert_eq!(policy.asked, 0);
        assert_eq!(outcome, Ok(expect_known(world, info_hash, told)));
    } else if world.is_closed_to(info_hash, told.peer) {
        assert_eq!((outcome, policy.asked), (Ok(Applied::NotAdded), 0));
    } else if let Some(refusal) = world.expected_refusal(info_hash, told.peer, policy.asked) {
        assert_eq!(outcome, Err::<_, Refusal>(refusal));
    } else {
        assert_eq!(outcome, Ok(Applied::Added));
        let seeder = told.status == PeerStatus::Seeder;
        let torrent = world.model.entry(info_hash).or_default();
        let peer = ModelPeer {
            seeder,
            is_finished: seeder || told.is_finished || told.completed,
            deadline: told.deadline.0 | 1,
            value: policy.value,
        };
        assert_eq!(torrent.peers.insert(told.peer, peer), None);
        let counts_more = told.completed && !told.is_finished;
        torrent.completed += u32::from(counts_more);
    }
}

/// The later deadline holds, and what goes with it; but a download counts whenever it is told of.
fn expect_known(world: &mut World, info_hash: InfoHash, told: &Told<CompactV4>) -> Applied<u64> {
    let torrent = world.model.get_mut(&info_hash).unwrap();
    let known = torrent.peers[&told.peer];
    let is_newer = known.deadline <= told.deadline.0 | 1;
    if is_newer && told.status == PeerStatus::Stopped {
        torrent.peers.remove(&told.peer);
        return Applied::Removed(known.value);
    }
    let seeder = told.status == PeerStatus::Seeder;
    let counts_more = told.completed && !known.is_finished;
    torrent.completed += u32::from(counts_more);
    let mut peer = ModelPeer {
        is_finished: known.is_finished || told.is_finished || told.completed || seeder,
        ..known
    };
    if is_newer {
        peer.seeder = seeder;
        peer.deadline = told.deadline.0 | 1;
    }
    torrent.peers.insert(told.peer, peer);
    match is_newer {
        true => Applied::Updated,
        false => Applied::Nothing,
    }
}

/// What an announce has told of the peer as it was before.
pub(super) fn compare_previous(key: &TorrentKey, policy: &Policy, known: Option<ModelPeer>) {
    assert_eq!(policy.previous.is_some(), known.is_some());
    let Some((previous, known)) = policy.previous.zip(known) else {
        return;
    };
    assert_eq!(previous.is_seeder(), known.seeder);
    assert_eq!(previous.is_finished(), known.is_finished);
    // The shortest interval has the steps that deadlines are kept in.
    let is_due = |deadline| RefreshInterval::MIN.is_due(key, &policy.peer, &previous, deadline);
    assert!(!is_due(Seconds(known.deadline)));
    let is_another = known.deadline != policy.deadline.0 | 1;
    assert_eq!(is_due(policy.deadline), is_another);
}
