use aquatic_access_list::{AccessListMode, SharedAccessList};
use aquatic_stream::ConnectionKey;
use aquatic_swarm::PEER_AGE_MAX_SECONDS;
use aquatic_types::PeerId;

use super::*;
use crate::messages::ConnectionRef;

fn sharing(refresh_seconds: u32, cleaning_seconds: u32) -> Sharing {
    let access_list = SharedAccessList::new(AccessListMode::Off, [].into_iter().collect());
    let nodes = NodeStates::default();
    let mut sharing = Sharing::new(nodes, access_list.reader(), refresh_seconds);
    sharing.set_cleaning_interval(cleaning_seconds);
    sharing
}

fn key(number: u32) -> MemberKey {
    let connection = ConnectionKey::from_bits(u64::from(number));
    MemberKey::new(ConnectionRef::here(3, connection), 7, &PeerId([1; 20]))
}

const PRESENCE: Presence = Presence {
    family: IpFamily::V4,
    status: PeerStatus::Leecher,
    has_completed: false,
    is_finished: false,
};

fn note(sharing: &mut Sharing, now: u32, number: u32) {
    sharing.note(Seconds(now), InfoHash([2; 20]), &key(number), PRESENCE);
}

/// Records that are fetched: of which connection, and for how long each holds.
fn fetch(sharing: &mut Sharing, now: u32, max: usize) -> (Vec<(u64, u16)>, usize, bool) {
    let mut records = Vec::new();
    let (dropped, has_more) = sharing.fetch(Seconds(now), max, &mut records);
    let records = records
        .iter()
        .map(|it| (it.member.connection, it.seconds_left));
    (records.collect(), dropped, has_more)
}

/// However cleanings fall, nobody is left out for longer than what holds, told of twice.
#[test]
fn everybody_has_a_turn_in_time() {
    let mut rng = fastrand::Rng::with_seed(1);
    for (refresh, cleaning) in [(64, 30), (512, 30), (64, 100), (1, 30), (100, 7)] {
        let mut sharing = sharing(refresh, cleaning);
        let mut told = [0; 200];
        let (mut now, mut turns) = (0, 0);
        let period = u32::max(refresh, cleaning);
        while now < 20 * period {
            now += rng.u32(cleaning - 1..=cleaning);
            sharing.cleans(Seconds(now));
            // All slices of a cleaning are about the same turns.
            sharing.cleans(Seconds(now + 1));
            for (number, told) in (0..).zip(&mut told) {
                if sharing.is_turn_of(&key(number)) {
                    assert!(now - *told <= period + cleaning, "{} since", now - *told);
                    (*told, turns) = (now, turns + 1);
                }
            }
            sharing.has_cleaned();
        }
        assert!(told.iter().all(|it| now - it <= period + cleaning));
        assert!(sharing.lives.life() > 2 * period + cleaning);
        let once = 200 * now / period;
        let most = once + once / 10 + 200;
        assert!((once - 200..=most).contains(&turns), "{turns}, not {once}");
    }
}

#[test]
fn turns_are_spread() {
    let mut sharing = sharing(60, 1);
    let mut turns = Vec::new();
    for now in 1..=60 {
        sharing.cleans(Seconds(now));
        let is_turn = |number: &u32| sharing.is_turn_of(&key(*number));
        turns.push((0..6_000).filter(is_turn).count());
        sharing.has_cleaned();
    }
    assert_eq!(turns.iter().sum::<usize>(), 6_000);
    assert!(turns.iter().all(|it| (50..=150).contains(it)), "{turns:?}");
}

#[test]
fn what_waits_holds_for_less() {
    let mut sharing = sharing(64, 30);
    let life = u16::try_from(sharing.lives.life()).unwrap();
    assert_eq!(life, 2 * 64 + 30 + 30);
    for (now, number) in [(10, 1), (12, 2), (400, 3)] {
        note(&mut sharing, now, number);
    }
    assert_eq!(fetch(&mut sharing, 15, 1), (vec![(1, life - 5)], 0, true));
    assert_eq!(fetch(&mut sharing, 400, 9), (vec![(3, life)], 0, false));
    assert_eq!(fetch(&mut sharing, 400, 9), (vec![], 0, false));
}

fn refresh(sharing: &mut Sharing, now: u32, number: u32) {
    sharing.refresh(Seconds(now), InfoHash([2; 20]), &key(number), PRESENCE);
}

/// As many news as if there were nothing else.
#[test]
fn what_nobody_fetches_is_bounded_and_the_oldest_goes() {
    for refreshes in [0, REFRESHES_MAX] {
        let mut sharing = sharing(64, 30);
        let max = u32::try_from(NEWS_MAX).unwrap();
        for number in 0..u32::try_from(refreshes).unwrap() {
            refresh(&mut sharing, 1, number);
        }
        for number in 0..max {
            note(&mut sharing, 1, number);
        }
        assert_eq!(sharing.outbox.len(), NEWS_MAX + refreshes);
        for number in max..max + 7 {
            note(&mut sharing, 1, number);
        }
        let (records, dropped, has_more) = fetch(&mut sharing, 1, 2);
        let connections: Vec<_> = records.iter().map(|it| it.0).collect();
        let lost = refreshes + 7;
        assert_eq!((connections, dropped, has_more), (vec![7, 8], lost, true));
        let (records, dropped, has_more) = fetch(&mut sharing, 1, usize::MAX);
        assert_eq!((records.len(), dropped, has_more), (NEWS_MAX - 2, 0, false));
        assert_eq!(sharing.refreshes, 0);
        assert!(sharing.outbox.capacity() <= 2 * OUTBOX_KEPT);
    }
}

#[test]
fn who_is_still_there_is_told_of_when_there_is_room() {
    let mut sharing = sharing(64, 30);
    let enough = u32::try_from(REFRESHES_ENOUGH).unwrap();
    fetch(&mut sharing, 5, 1);
    for number in 0..enough {
        assert!(sharing.may_clean(Seconds(5)));
        refresh(&mut sharing, 5, number);
    }
    for (now, may_clean) in [(5, false), (15, false), (16, true), (15, false)] {
        assert_eq!(sharing.may_clean(Seconds(now)), may_clean, "{now}");
    }
    assert_eq!(fetch(&mut sharing, 16, 1).1, 0);
    assert!(sharing.may_clean(Seconds(16)), "there is room");
    for number in 0..3 * enough {
        refresh(&mut sharing, 16, number);
    }
    assert_eq!(sharing.outbox.len(), REFRESHES_MAX);
    assert!(!sharing.may_clean(Seconds(16)));
    let (records, dropped, _) = fetch(&mut sharing, 17, usize::MAX);
    let all = 4 * REFRESHES_ENOUGH - 1;
    assert_eq!(records.len() + dropped, all);
    // The order is that in which it was noted, whatever it is.
    refresh(&mut sharing, 20, 1);
    note(&mut sharing, 20, 2);
    refresh(&mut sharing, 20, 3);
    let (records, ..) = fetch(&mut sharing, 20, 9);
    let connections: Vec<_> = records.iter().map(|it| it.0).collect();
    assert_eq!(connections, [1, 2, 3]);
}

/// Else who leaves would seem to have left before it was last told of.
#[test]
fn what_is_told_never_holds_for_less_than_before() {
    let mut sharing = sharing(64, 100);
    let life = sharing.lives.life();
    sharing.set_cleaning_interval(10);
    assert_eq!(sharing.lives.life(), life);
    sharing.set_cleaning_interval(200);
    assert!(sharing.lives.life() > life);
    sharing.set_cleaning_interval(u32::MAX);
    assert_eq!(sharing.lives.life(), PEER_AGE_MAX_SECONDS);
}

#[test]
fn members_of_other_nodes_are_counted_by_node() {
    let mut sharing = sharing(64, 30);
    let nodes = sharing.nodes.clone();
    for (node, state) in [(3, NodeState::Alive), (5, NodeState::Silent)] {
        nodes.set(NodeIndex(node), state);
        sharing.other_added(NodeIndex(node));
        sharing.other_added(NodeIndex(node));
    }
    assert_eq!((sharing.others(), sharing.is_to_sweep()), (4, false));
    nodes.set(NodeIndex(5), NodeState::Gone);
    for left in [3, 2] {
        assert!(sharing.is_to_sweep());
        sharing.other_removed(NodeIndex(5));
        assert_eq!(sharing.others(), left);
    }
    assert!(!sharing.is_to_sweep());
}
