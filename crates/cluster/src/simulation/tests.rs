use super::*;

const PEERS: Destination = Destination::All(Channel::Peers);

fn heard(bus: &mut SimulatedBus) -> Vec<u8> {
    let events = std::iter::from_fn(|| bus.next_event());
    let payload = |event: Event<Payload>| match event {
        Event::Heard(message) | Event::Logged(message) => message.payload.first().copied(),
        _ => None,
    };
    events.filter_map(payload).collect()
}

fn network(conditions: Conditions) -> (Network, [SimulatedBus; 3]) {
    let network = Network::new(conditions, 100, 1);
    let nodes = ["a", "b", "c"].map(|name| network.connect(name));
    (network, nodes)
}

#[test]
fn everybody_but_the_publisher_hears_in_order_and_not_before_time() {
    let (network, [mut a, mut b, mut c]) = network(Conditions::default());
    for number in 0..100 {
        a.publish(&PEERS, vec![number], 0).unwrap();
    }
    assert!(heard(&mut b).is_empty());
    network.set_now(2_000);
    let all: Vec<u8> = (0..100).collect();
    assert_eq!((heard(&mut b), heard(&mut c)), (all.clone(), all));
    assert!(heard(&mut a).is_empty());
    assert_eq!(network.published(), (100, 100));
}

#[test]
fn a_parcel_reaches_one_node_and_is_not_logged() {
    let (network, [mut a, mut b, mut c]) = network(Conditions::default());
    a.publish(&Destination::Node("b".to_owned()), vec![7], 0)
        .unwrap();
    network.set_now(2_000);
    assert_eq!((heard(&mut b), heard(&mut c)), (vec![7], vec![]));
    c.read_log(Duration::from_secs(1));
    assert!(matches!(c.next_event(), Some(Event::LogRead { .. })));
}

#[test]
fn what_goes_wrong_goes_wrong() {
    let (network, [mut a, mut b, _]) = network(Conditions {
        one_lost_of: 10,
        one_doubled_of: 10,
        reorders: true,
        ..Conditions::default()
    });
    let all: Vec<u8> = (0..250).collect();
    all.iter()
        .for_each(|number| a.publish(&PEERS, vec![*number], 0).unwrap());
    network.set_now(2_000);
    let mut heard = heard(&mut b);
    assert!(!heard.is_sorted());
    let many = heard.len();
    heard.sort_unstable();
    heard.dedup();
    assert!((200..250).contains(&heard.len()), "{}", heard.len());
    assert!((10..50).contains(&(many - heard.len())), "{many}");
}

#[test]
fn sides_do_not_hear_each_other_and_only_one_has_the_log() {
    let (network, [mut a, mut b, mut c]) = network(Conditions::default());
    network.part(|node| u8::from(node == 2));
    a.publish(&PEERS, vec![1], 1).unwrap();
    c.publish(&PEERS, vec![3], 3).unwrap();
    network.set_now(2_000);
    assert_eq!(
        (heard(&mut a), heard(&mut b), heard(&mut c)),
        (vec![], vec![1], vec![])
    );
    c.read_log(Duration::from_secs(1));
    assert!(matches!(c.next_event(), Some(Event::LogFailed(_))));
    network.part(|_| 0);
    c.read_log(Duration::from_secs(1));
    assert_eq!(heard(&mut c), [1]);
}

#[test]
fn who_publishes_is_told_what_the_log_has() {
    let (network, [mut a, mut b, mut c]) = network(Conditions::default());
    network.part(|node| u8::from(node == 2));
    let kept = |bus: &mut SimulatedBus, mark| {
        while bus.next_event().is_some() {}
        bus.publish(&PEERS, vec![1], mark).unwrap();
        bus.next_event()
    };
    assert_eq!(kept(&mut a, 5), Some(Event::Kept(5)));
    assert_eq!(kept(&mut b, 6), Some(Event::Kept(6)));
    assert_eq!(kept(&mut c, 7), None, "the log is on the other side");
    network.hang(0);
    assert_eq!(kept(&mut a, 8), None);
    network.part(|_| 0);
    assert_eq!(kept(&mut c, 9), Some(Event::Kept(9)));
    let nodes = Destination::All(Channel::Nodes);
    b.publish(&nodes, vec![1], 10).unwrap();
    assert_eq!(b.next_event(), None, "it is not to be logged");
}

#[test]
fn who_hangs_is_not_heard_and_hears_nothing_until_it_is_connected_again() {
    let (network, [mut a, mut b, _]) = network(Conditions::default());
    heard(&mut a);
    network.hang(0);
    a.publish(&PEERS, vec![1], 1).unwrap();
    a.confirm(1);
    b.publish(&PEERS, vec![2], 2).unwrap();
    network.set_now(2_000);
    assert_eq!((a.next_event(), heard(&mut b)), (None, vec![]));
    network.set_connected(0, false);
    network.set_connected(0, true);
    assert_eq!(a.next_event(), Some(Event::Disconnected));
    assert_eq!(a.next_event(), Some(Event::Connected));
    a.confirm(2);
    assert_eq!(a.next_event(), Some(Event::Confirmed(2)));
    a.publish(&PEERS, vec![3], 3).unwrap();
    network.set_now(4_000);
    assert_eq!(heard(&mut b), [3]);
}

/// What is logged meanwhile is read, too.
#[test]
fn the_log_is_read_as_fast_as_it_can_be() {
    let (network, [mut a, mut b, _]) = network(Conditions {
        logged_per_second: 10,
        ..Conditions::default()
    });
    network.part(|node| u8::from(node == 1));
    for number in 0..10 {
        a.publish(&PEERS, vec![number], 0).unwrap();
    }
    network.part(|_| 0);
    b.read_log(Duration::from_secs(1));
    let mut read = Vec::new();
    for tenth in 0..10 {
        network.set_now(tenth * 100_000);
        read.extend(heard(&mut b));
        assert_eq!(read.len() as u64, tenth + 1);
    }
    a.publish(&PEERS, vec![10], 10).unwrap();
    network.set_now(1_000_000);
    assert_eq!(heard(&mut b), [10, 10], "it is heard as well");
    network.set_now(1_100_000);
    let age = Duration::from_micros(1_100_000);
    assert_eq!(b.next_event(), Some(Event::LogRead { age }));
    assert_eq!(b.next_event(), None);
}

#[test]
fn a_reading_fails_when_the_log_goes() {
    let (network, [mut a, mut b, _]) = network(Conditions {
        logged_per_second: 1,
        ..Conditions::default()
    });
    for number in 0..10 {
        a.publish(&PEERS, vec![number], 0).unwrap();
    }
    b.read_log(Duration::from_secs(1));
    network.part(|node| u8::from(node == 1));
    assert_eq!(b.next_event(), Some(Event::Connected));
    assert!(matches!(b.next_event(), Some(Event::LogFailed(_))));
    network.set_now(20_000_000);
    assert_eq!(heard(&mut b).len(), 10, "as it was published");
}

#[test]
fn what_comes_twice_may_come_much_later() {
    let (network, [mut a, mut b, _]) = network(Conditions {
        one_doubled_of: 1,
        doubled_after_micros: 10_000_000,
        ..Conditions::default()
    });
    let all: Vec<u8> = (0..200).collect();
    all.iter()
        .for_each(|number| a.publish(&PEERS, vec![*number], 0).unwrap());
    network.set_now(2_000);
    let soon = heard(&mut b);
    assert!((200..210).contains(&soon.len()), "{}", soon.len());
    network.set_now(10_002_000);
    assert_eq!(soon.len() + heard(&mut b).len(), 400);
}

#[test]
fn a_connection_ends_with_its_node() {
    let (network, [mut a, b, _]) = network(Conditions::default());
    drop(b);
    a.publish(&PEERS, vec![1], 1).unwrap();
    let mut b = network.connect("b");
    network.set_now(2_000);
    assert!(heard(&mut b).is_empty());
    assert_eq!(b.number(), 3);
}

#[test]
fn who_has_no_connection_hears_and_publishes_nothing() {
    let (network, [mut a, mut b, _]) = network(Conditions::default());
    network.set_connected(0, false);
    assert_eq!(a.publish(&PEERS, vec![1], 1), Err(vec![1]));
    b.publish(&PEERS, vec![2], 2).unwrap();
    network.set_now(2_000);
    network.set_connected(0, true);
    let events: Vec<_> = std::iter::from_fn(|| a.next_event()).collect();
    assert_eq!(
        events,
        [Event::Connected, Event::Disconnected, Event::Connected]
    );
    a.read_log(Duration::from_secs(1));
    assert_eq!(heard(&mut a), [2]);
    network.set_now(101_000_000);
    a.read_log(Duration::from_secs(101));
    assert!(heard(&mut a).is_empty(), "it is too old");
}
