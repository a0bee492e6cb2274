//! Who the others are, and what they say.

use aquatic_daemon::exposition::Exposition;

use super::*;
use crate::nodes::NodeState;

#[test]
fn what_others_publish_is_taken_in_and_its_age_is_known() {
    let mut fixture = Fixture::at_work();
    fixture.hears_alive("a", 1, 0, 0);
    fixture.hears_alive("b", 2, 0, 0);
    for (node, process, age) in [("a", 1, 0), ("b", 2, 1_000), ("b", 2, 1_001_000)] {
        fixture.hears_peers(node, process, 1, age);
    }
    let (a, b) = (NodeIndex(1), NodeIndex(2));
    assert_eq!(
        fixture.received(),
        [(a, 0, false), (b, 1, false), (b, 1_001, false)]
    );
    assert_eq!(fixture.states.get(a), NodeState::Alive);
    fixture.pass(FLUSH);
    assert_eq!(fixture.counters.nodes.get(), 2);
}

/// Its own messages of now do not come at all, or are no news.
#[test]
fn what_it_has_published_itself_is_heard_by_nobody() {
    let mut fixture = Fixture::at_work();
    fixture.hears_peers("here", HERE, 1, 0);
    assert_eq!(fixture.received(), []);
    assert_eq!(fixture.counters.invalid.get(), 0);
}

/// Somebody may have left here who was told of elsewhere before.
#[test]
fn what_it_has_published_itself_has_its_place_in_the_log() {
    let mut fixture = Fixture::at_work();
    let header = fixture.header(HERE, 7, SECOND);
    let logged = message("here", Channel::Peers, peers(&header, 1));
    fixture.happens(Event::Logged(logged));
    assert_eq!(fixture.received(), [(NodeIndex::UNKNOWN, 1_000, true)]);
}

#[test]
fn clocks_that_are_wrong_are_known_from_those_who_are_alive() {
    let mut fixture = Fixture::at_work();
    // 30 s behind, and 30 s ahead.
    fixture.hears_alive("behind", 1, 0, 30 * SECOND);
    fixture.micros += 60 * SECOND;
    let header = BatchHeader {
        unix_millis: fixture.time().unix_millis + 30_000,
        ..fixture.header(2, 0, 0)
    };
    let mut bytes = Vec::new();
    Alive::default().write(&mut bytes, &header);
    fixture.hears("ahead", Channel::Nodes, bytes);
    fixture.pass(FLUSH);
    assert_eq!(fixture.counters.skew_millis.get(), 30_000);
    fixture.hears_peers("behind", 1, 1, 32 * SECOND);
    let header = BatchHeader {
        unix_millis: fixture.time().unix_millis + 27_000,
        ..fixture.header(2, 1, 0)
    };
    fixture.hears("ahead", Channel::Peers, peers(&header, 1));
    let ages: Vec<u64> = fixture.received().iter().map(|it| it.1).collect();
    assert_eq!(ages, [2_000, 3_000]);
}

#[test]
fn what_is_no_batch_is_counted_and_nothing_else() {
    let mut fixture = Fixture::at_work();
    let good = peers(&fixture.header(1, 1, 0), 1);
    let mut other_version = good.clone();
    other_version[2] = 9;
    let mut wrong = good.clone();
    wrong[40] ^= 1;
    let mut with_more = good.clone();
    with_more.push(0);
    let torn = good[..good.len() - 1].to_vec();
    let bad = [
        vec![],
        b"hello".to_vec(),
        other_version,
        wrong,
        with_more,
        torn,
    ];
    let many = bad.len() as u64;
    for bytes in bad {
        fixture.hears("a", Channel::Peers, bytes.clone());
        fixture.happens(Event::Logged(message("a", Channel::Peers, bytes)));
    }
    assert_eq!(fixture.counters.invalid.get(), 2 * many);
    assert_eq!(fixture.received(), []);
    fixture.pass(FLUSH);
    assert_eq!(fixture.counters.nodes.get(), 0);
    fixture.hears("a", Channel::Peers, good);
    assert_eq!(fixture.received().len(), 1);
}

/// Of a later version, which has more to say than this one understands.
#[test]
fn a_kind_that_is_not_known_is_counted_and_leaves_no_hole() {
    let mut fixture = Fixture::at_work();
    fixture.hears_peers("a", 1, 1, 0);
    fixture.received();
    let mut unknown = peers(&fixture.header(1, 2, 0), 1);
    unknown[3] = 99;
    let end = unknown.len() - 4;
    let checksum = crc(&unknown[..end]);
    unknown.truncate(end);
    unknown.extend_from_slice(&checksum.to_be_bytes());
    fixture.hears("a", Channel::Peers, unknown);
    assert_eq!(fixture.received(), []);
    assert_eq!(fixture.counters.invalid.get(), 1);
    fixture.hears_peers("a", 1, 3, 0);
    assert_eq!(fixture.received().len(), 1);
    assert_eq!(fixture.counters.missed.get(), 0);
}

/// CRC-32 as of IEEE, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    };
    !bytes.iter().fold(u32::MAX, step)
}

#[test]
fn who_says_absurd_things_does_no_harm() {
    let mut fixture = Fixture::at_work();
    for unix_millis in [0, 1, u64::MAX / 2, u64::MAX] {
        for sequence in [0, 1, u64::MAX - 1, u64::MAX] {
            let header = BatchHeader {
                process: sequence ^ 5,
                sequence,
                unix_millis,
            };
            let mut alive = Vec::new();
            let (peers_told, members) = (u64::MAX, u64::MAX);
            Alive {
                peers: peers_told,
                members,
                told_within: u32::MAX,
            }
            .write(&mut alive, &header);
            let mut leaving = Vec::new();
            Leaving.write(&mut leaving, &header);
            for bytes in [alive, peers(&header, 1), leaving] {
                for channel in Channel::ALL {
                    for _ in 0..2 {
                        fixture.hears("liar", channel, bytes.clone());
                        fixture.pass(FLUSH);
                        let logged = message("liar", channel, bytes.clone());
                        fixture.happens(Event::Logged(logged));
                    }
                }
            }
        }
    }
    fixture.pass(SECOND);
    fixture.received();
    fixture.hears_alive("a", 1, 0, 0);
    fixture.hears_peers("a", 1, 1, 0);
    assert_eq!(fixture.received().len(), 1);
}

#[test]
fn who_leaves_is_gone_at_once_and_who_is_silent_later() {
    let mut fixture = Fixture::at_work();
    fixture.hears_alive("a", 1, 0, 0);
    fixture.hears_alive("b", 2, 0, 0);
    let mut bytes = Vec::new();
    Leaving.write(&mut bytes, &fixture.header(1, 0, 0));
    fixture.hears("a", Channel::Nodes, bytes);
    let states = fixture.states.clone();
    let state = |index| states.get(NodeIndex(index));
    assert_eq!((state(1), state(2)), (NodeState::Gone, NodeState::Alive));
    fixture.pass(6 * SECOND);
    assert_eq!(state(2), NodeState::Silent);
    fixture.pass(25 * SECOND);
    assert_eq!(state(2), NodeState::Gone);
    assert_eq!(fixture.counters.nodes.get(), 0);
}

/// Somebody has forgotten to give it a name of its own. Both are heard.
#[test]
fn a_node_with_the_name_of_this_one_is_heard() {
    let mut fixture = Fixture::at_work();
    fixture.hears_peers("here", 1, 1, 0);
    fixture.hears_peers("here", 1, 2, 0);
    assert_eq!(fixture.received().len(), 2);
    assert_eq!(fixture.counters.missed.get(), 0);
}

/// Downloads that it tells of would be counted again, once at each reading.
#[test]
fn what_was_taken_in_before_is_said_to_be_when_it_is_read() {
    let mut fixture = Fixture::at_work();
    fixture.hears_peers("a", 1, 5, 0);
    fixture.hears_peers("a", 1, 8, 0);
    let mut repeated = |process, numbers: &[u64], age| -> Vec<bool> {
        fixture.shards.lock().unwrap().repeated.clear();
        for sequence in numbers {
            let header = fixture.header(process, *sequence, age);
            let node = if process == HERE { "here" } else { "a" };
            let logged = message(node, Channel::Peers, peers(&header, 1));
            fixture.happens(Event::Logged(logged));
        }
        std::mem::take(&mut fixture.shards.lock().unwrap().repeated)
    };
    assert_eq!(
        repeated(1, &[5, 6, 7, 6, 8], SECOND),
        [true, false, false, true, true]
    );
    // Of one that is not heard, what was read to the end at the start has been taken in.
    assert_eq!(
        repeated(9, &[1], 30 * SECOND),
        [false],
        "it was published since"
    );
    assert_eq!(repeated(9, &[1], 61 * SECOND), [true]);
    assert_eq!(repeated(HERE, &[1], SECOND), [true]);
}

/// It would fill logs, and have everybody greet it.
#[test]
fn who_leaves_without_having_been_there_is_nobody() {
    let mut fixture = Fixture::at_work();
    fixture.pass(SECOND);
    fixture.published(Channel::Nodes);
    for process in 1..100 {
        let mut bytes = Vec::new();
        Leaving.write(&mut bytes, &fixture.header(process, 0, 0));
        fixture.hears("a", Channel::Nodes, bytes);
    }
    assert!(fixture.published(Channel::Nodes).is_empty());
    assert_eq!(fixture.states.get(NodeIndex(1)), NodeState::Gone);
    assert_eq!(fixture.counters.invalid.get(), 0);
}

/// Its peers would be forgotten here again and again.
#[test]
fn who_tells_of_peers_too_seldom_is_told_about_once() {
    let ages = PeerAges {
        min_seconds: 1_200,
        max_seconds: 3_600,
    };
    for (told_within, is_too_seldom) in [(0, false), (1_200, false), (1_201, true)] {
        assert_eq!(is_told_too_seldom(told_within, ages), is_too_seldom);
    }
    assert!(
        !is_told_too_seldom(7, PeerAges::default()),
        "there are none"
    );
    let mut table = NodeTable::new(NodeStates::default());
    table.hear(Now::from_micros(0), "a", 1);
    let node = table.get_mut("a", 1).unwrap();
    let changes = [0, 632, 632, 700].map(|seconds| node.has_changed_times(seconds));
    assert_eq!(changes, [false, true, false, true]);
}

#[test]
fn a_node_that_listens_to_nothing_else_is_told_nothing_else() {
    let mut fixture = Fixture::listening(settings(), Channel::Members);
    fixture.happens(Event::Connected);
    fixture.hears_peers("a", 1, 1, 0);
    assert_eq!(fixture.received(), []);
    let members = peers(&fixture.header(1, 1, 0), 1);
    fixture.hears("a", Channel::Members, members);
    assert_eq!(fixture.received(), [(NodeIndex(1), 0, false)]);
}

/// Downloads in it are not to be counted again.
#[test]
fn what_is_heard_again_is_known_to_have_been_heard() {
    let mut fixture = Fixture::at_work();
    for sequence in [1, 2, 5, 5, 3, 3, 1, 6] {
        fixture.hears_peers("a", 1, sequence, 0);
    }
    let repeated = std::mem::take(&mut fixture.shards.lock().unwrap().repeated);
    assert_eq!(
        repeated,
        [false, false, false, true, false, true, true, false]
    );
}

/// It is old because it was published before.
#[test]
fn what_is_heard_again_says_nothing_about_the_way() {
    let mut fixture = Fixture::at_work();
    fixture.hears_alive("a", 1, 0, 0);
    fixture.hears_peers("a", 1, 1, 0);
    fixture.hears_peers("a", 1, 3, 0);
    fixture.reads();
    let delivered = |fixture: &Fixture| {
        let mut text = Exposition::default();
        crate::counters::write(&fixture.counters, &mut text);
        let text = text.into_text();
        let mut lines = text.lines();
        let count = lines.find(|it| it.starts_with("aquatic_cluster_delivery_seconds_count"));
        count.unwrap().to_owned()
    };
    let before = delivered(&fixture);
    fixture.hears_peers("a", 1, 2, 600 * SECOND);
    fixture.hears_peers("a", 1, 3, 600 * SECOND);
    assert_eq!(delivered(&fixture), before);
    fixture.hears_peers("a", 1, 4, 0);
    assert_ne!(delivered(&fixture), before);
}
