//! Clients of different nodes meet, as if they were connected to one.

use std::sync::Arc;

use aquatic_cluster::bus::Channel;
use aquatic_cluster::nodes::NodeState;
use aquatic_ws::cluster::counters::{LetterKind, LetterOutcome};

use super::client::Got;
use super::cluster::{Cluster, Fate, config};

const TOPOLOGIES: [(usize, usize); 4] = [(1, 0), (3, 0), (1, 1), (2, 2)];

const ANSWER: &str = "{\"type\":\"answer\"}";

#[test]
fn offers_and_answers_go_both_ways() {
    for (socket_workers, swarm_workers) in TOPOLOGIES {
        let mut cluster = Cluster::new(2, &config(socket_workers, swarm_workers));
        let [anna, bob] = [0, 1].map(|node| cluster.connect(node));
        cluster.announce(anna, b'a', &[1]);
        assert_eq!(cluster.take(anna), [Got::Counts(0, 1)]);
        cluster.announce(bob, b'b', &[2]);
        assert_eq!(cluster.take(bob), [Got::Counts(0, 2)]);
        assert_eq!(cluster.offers(anna), [(b'b', 2)]);
        cluster.answer(anna, b'a', b'b', 2);
        let answer = Got::Answer(b'a', 2, ANSWER.to_owned());
        assert_eq!(cluster.take(bob), [answer]);

        cluster.announce(anna, b'a', &[3]);
        assert_eq!(cluster.offers(bob), [(b'a', 3)]);
        cluster.answer(bob, b'b', b'a', 3);
        let answer = Got::Answer(b'b', 3, ANSWER.to_owned());
        assert_eq!(cluster.take(anna), [Got::Counts(0, 2), answer]);
    }
}

/// Not by anybody else, not twice, and not without an offer.
#[test]
fn an_offer_is_answered_once_by_who_got_it() {
    let mut cluster = Cluster::new(3, &config(2, 0));
    let [anna, bob, carl] = [0, 1, 2].map(|node| cluster.connect(node));
    cluster.announce(anna, b'a', &[]);
    cluster.settle();
    cluster.announce(bob, b'b', &[1]);
    assert_eq!(cluster.offers(anna), [(b'b', 1)]);
    cluster.announce(carl, b'c', &[]);
    cluster.settle();
    cluster.take(bob);
    let refusal = "offer_id names no open offer of to_peer_id to you";
    for (client, peer, to, offer) in [
        (carl, b'c', b'b', 1),
        (anna, b'a', b'b', 2),
        (anna, b'a', b'c', 1),
    ] {
        cluster.clients[client].take();
        cluster.answer(client, peer, to, offer);
        assert_eq!(cluster.take(client), [Got::Refusal(refusal.to_owned())]);
    }
    cluster.answer(anna, b'a', b'b', 1);
    cluster.answer(anna, b'a', b'b', 1);
    assert_eq!(cluster.take(anna), [Got::Refusal(refusal.to_owned())]);
    assert_eq!(cluster.take(bob), [Got::Answer(b'a', 1, ANSWER.to_owned())]);
}

/// Peers of one connection answer for each other, since nobody tells them whom an offer is for.
#[test]
fn siblings_answer_for_each_other() {
    let mut cluster = Cluster::new(2, &config(1, 0));
    let [anna, bob] = [0, 1].map(|node| cluster.connect(node));
    for peer in [b'a', b'x', b'y'] {
        cluster.announce(anna, peer, &[]);
    }
    cluster.settle();
    cluster.announce(bob, b'b', &[1, 2, 3]);
    let mut offers = cluster.offers(anna);
    offers.sort_unstable();
    assert_eq!(offers, [(b'b', 1), (b'b', 2), (b'b', 3)]);
    cluster.take(bob);
    for offer in [1, 2, 3] {
        cluster.answer(anna, b'a', b'b', offer);
        let answer = Got::Answer(b'a', offer, ANSWER.to_owned());
        assert_eq!(cluster.take(bob), [answer]);
    }
}

/// Two connections with one peer id, of which nobody knows that they are one client.
#[test]
fn twins_at_two_nodes_do_not_meet_and_each_gets_its_answers() {
    let mut cluster = Cluster::new(3, &config(1, 0));
    let [one, other, carl] = [0, 1, 2].map(|node| cluster.connect(node));
    cluster.announce(one, b'a', &[1]);
    cluster.settle();
    cluster.announce(other, b'a', &[1]);
    assert_eq!(cluster.offers(one), [], "its own twin");
    cluster.announce(carl, b'c', &[]);
    cluster.settle();
    for (twin, offer) in [(one, 2), (other, 3)] {
        cluster.announce(twin, b'a', &[offer]);
    }
    let mut offers = cluster.offers(carl);
    offers.sort_unstable();
    assert_eq!(offers, [(b'a', 2), (b'a', 3)]);
    for twin in [one, other] {
        cluster.take(twin);
    }
    cluster.answer(carl, b'c', b'a', 3);
    assert_eq!(cluster.take(one), []);
    assert_eq!(
        cluster.take(other),
        [Got::Answer(b'c', 3, ANSWER.to_owned())]
    );
    cluster.answer(carl, b'c', b'a', 2);
    assert_eq!(cluster.take(one), [Got::Answer(b'c', 2, ANSWER.to_owned())]);
    assert_eq!(cluster.take(other), []);
}

fn withdrawn(cluster: &Cluster) -> u64 {
    cluster.letters(1, LetterKind::Withdrawal, LetterOutcome::Delivered)
}

/// Node 0 does not hear that the receiver has left.
#[test]
fn an_offer_for_a_peer_that_has_left_is_withdrawn() {
    for (socket_workers, swarm_workers) in TOPOLOGIES {
        let mut cluster = Cluster::new(2, &config(socket_workers, swarm_workers));
        let [anna, bob] = [0, 1].map(|node| cluster.connect(node));
        cluster.announce(anna, b'a', &[]);
        cluster.settle();
        cluster.fate = Box::new(|_, _, channel| match channel {
            Channel::Members => Fate::Lost,
            _ => Fate::Arrives,
        });
        cluster.fail(anna);
        cluster.settle();
        cluster.announce(bob, b'b', &[1]);
        assert_eq!(cluster.take(bob), [Got::Counts(0, 2)]);
        let refused = cluster.letters(0, LetterKind::Offer, LetterOutcome::Refused);
        assert_eq!((refused, withdrawn(&cluster)), (1, 1));
    }
}

/// The connection has gone, and its shard does not know it yet.
#[test]
fn an_offer_for_a_connection_that_has_just_gone_is_withdrawn() {
    let mut cluster = Cluster::new(2, &config(1, 1));
    let [anna, bob] = [0, 1].map(|node| cluster.connect(node));
    cluster.announce(anna, b'a', &[]);
    cluster.settle();
    cluster.announce(bob, b'b', &[1]);
    for _ in 0..4 {
        cluster.work(1);
        cluster.exchange(1);
    }
    cluster.hear(0);
    cluster.exchange(0);
    cluster.answer_all(0);
    cluster.exchange(0);
    let delivered = cluster.letters(0, LetterKind::Offer, LetterOutcome::Delivered);
    assert_eq!(delivered, 1);
    cluster.fail(anna);
    cluster.settle();
    assert_eq!(withdrawn(&cluster), 1);
    assert_eq!(cluster.peers(1), 1);
}

/// What its receiver may not be handed is closed at both nodes.
#[test]
fn an_offer_that_is_dropped_is_withdrawn() {
    let mut config = config(1, 0);
    config.protocol.max_offers_per_second_per_receiver = 1;
    let mut cluster = Cluster::new(2, &config);
    let [anna, bob] = [0, 1].map(|node| cluster.connect(node));
    cluster.announce(anna, b'a', &[]);
    cluster.settle();
    // As many as one connection may have open with another.
    for offer in 0..16 {
        cluster.announce(bob, b'b', &[offer]);
    }
    let offers = cluster.offers(anna);
    assert!((1..16).contains(&offers.len()), "{offers:?}");
    let dropped = 16 - offers.len();
    assert_eq!(usize::try_from(withdrawn(&cluster)), Ok(dropped));
    let refused = Got::Refusal("offer_id names no open offer of to_peer_id to you".to_owned());
    for offer in 0..16 {
        cluster.take(bob);
        cluster.answer(anna, b'a', b'b', offer);
        let has_come = offers.contains(&(b'b', offer));
        let answer = Got::Answer(b'a', offer, ANSWER.to_owned());
        let expected = |is: bool, it: &Got| if is { vec![it.clone()] } else { Vec::new() };
        assert_eq!(cluster.take(anna), expected(!has_come, &refused));
        assert_eq!(cluster.take(bob), expected(has_come, &answer));
    }
}

/// A node that takes smaller offers than others says so.
#[test]
fn an_offer_that_is_too_large_for_the_other_node_is_withdrawn() {
    let [mut modest, usual] = [config(1, 0), config(1, 0)];
    modest.protocol.max_offer_size = 8;
    let mut cluster = Cluster::of(&[modest, usual]);
    let [anna, bob] = [0, 1].map(|node| cluster.connect(node));
    cluster.announce(anna, b'a', &[]);
    cluster.settle();
    cluster.announce(bob, b'b', &[1]);
    assert_eq!(cluster.offers(anna), []);
    let too_large = cluster.letters(0, LetterKind::Offer, LetterOutcome::TooLarge);
    assert_eq!((too_large, withdrawn(&cluster)), (1, 1));
    // Until it takes larger ones.
    cluster.nodes[0].settings.set(Arc::new(config(1, 0)));
    cluster.announce(bob, b'b', &[2]);
    assert_eq!(cluster.offers(anna), [(b'b', 2)]);
}

/// It has been handed an offer by it before.
#[test]
fn nothing_is_sent_to_a_node_that_has_gone() {
    let mut cluster = Cluster::new(2, &config(1, 0));
    let [anna, bob] = [0, 1].map(|node| cluster.connect(node));
    cluster.announce(anna, b'a', &[]);
    cluster.settle();
    cluster.announce(bob, b'b', &[1]);
    assert_eq!(cluster.offers(anna), [(b'b', 1)]);
    cluster.take(bob);
    cluster.think(0, 1, NodeState::Gone);
    cluster.answer(anna, b'a', b'b', 1);
    assert_eq!(cluster.take(anna), []);
    assert_eq!(cluster.take(bob), []);
    let gone = cluster.letters(0, LetterKind::Answer, LetterOutcome::NodeGone);
    assert_eq!(gone, 1);
}

#[test]
fn who_is_at_a_silent_node_gets_no_offers() {
    let mut cluster = Cluster::new(3, &config(2, 0));
    let [anna, bob, carl] = [0, 1, 2].map(|node| cluster.connect(node));
    for (client, peer) in [(anna, b'a'), (bob, b'b'), (carl, b'c')] {
        cluster.announce(client, peer, &[]);
        cluster.settle();
    }
    cluster.think(2, 0, NodeState::Silent);
    cluster.announce(carl, b'c', &[1, 2, 3]);
    assert_eq!(cluster.offers(anna), []);
    let offers = cluster.offers(bob);
    assert_eq!(offers.len(), 1, "{offers:?}");
    cluster.take(carl);
    cluster.announce(carl, b'c', &[]);
    assert_eq!(cluster.take(carl), [Got::Counts(0, 3)], "it is there still");
    cluster.think(2, 0, NodeState::Alive);
    cluster.announce(carl, b'c', &[4, 5]);
    assert_eq!(cluster.offers(anna).len(), 1);
}

/// Whichever node they are at, all others of a swarm are equally likely to get an offer.
#[test]
fn the_choice_is_fair_to_all_nodes() {
    const ROUNDS: u32 = 3_000;
    let mut config = config(1, 0);
    config.protocol.max_offers_per_second_per_receiver = 0;
    let mut cluster = Cluster::new(3, &config);
    // Most are at one node.
    let at = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 0];
    let clients = at.map(|node| cluster.connect(node));
    for (client, peer) in clients.iter().zip(1..) {
        cluster.announce(*client, peer, &[]);
    }
    cluster.settle();
    let (me, others) = clients.split_last().unwrap();
    let mut offers = vec![0_u32; others.len()];
    let number = u8::try_from(at.len()).unwrap();
    for round in 0..ROUNDS {
        let round = u8::try_from(round % 250).unwrap();
        cluster.announce(*me, number, &[round]);
        if round % 50 == 0 {
            for (count, client) in offers.iter_mut().zip(others) {
                *count += u32::try_from(cluster.offers(*client).len()).unwrap();
            }
        }
    }
    for (count, client) in offers.iter_mut().zip(others) {
        *count += u32::try_from(cluster.offers(*client).len()).unwrap();
    }
    assert_eq!(offers.iter().sum::<u32>(), ROUNDS);
    let expected = f64::from(ROUNDS) / 10.0;
    let squares = offers
        .iter()
        .map(|it| (f64::from(*it) - expected).powi(2) / expected);
    // Nine degrees of freedom: it is exceeded once in 10,000 times.
    let chi_square: f64 = squares.sum();
    assert!(chi_square < 33.7, "{chi_square}: {offers:?}");
}
