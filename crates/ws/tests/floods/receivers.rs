//! What others send never ends a connection, and an offer that was dropped is not open.

use aquatic_ws::config::Config;
use aquatic_ws::counters::Reason;
use serde_json::json;

use super::town::{Name, Town, announce, announce_with_offer, answer_to};

/// Arrangements in which receiver and sender are at one worker and at two.
fn topologies() -> [(Config, usize); 3] {
    let arranged = |socket_workers, swarm_workers| {
        let mut config = Config {
            socket_workers,
            swarm_workers,
            ..Config::default()
        };
        config.protocol.max_offers_per_second_per_receiver = 0;
        config
    };
    [
        (arranged(1, 0), 0),
        (arranged(2, 0), 1),
        (arranged(2, 1), 1),
    ]
}

/// The attack: 12 announces with offers of 120 KB each, at a browser behind a slow line. And with a
/// bound on the size of offers that lets them pass.
#[test]
fn nobody_can_disconnect_a_slow_receiver_by_offers() {
    for (mut config, receiver_at) in topologies() {
        for offer_bytes_max in [config.protocol.max_offer_size, 131_072] {
            config.protocol.max_offer_size = offer_bytes_max;
            let mut town = Town::new(&config);
            let (victim, attacker) = (town.come(receiver_at), town.come(0));
            town.ask(victim, &announce(victim, 1));
            town.stop_reading(victim);
            for _ in 0..12 {
                let replies = town.ask(attacker, &announce_with_offer(attacker, 1, 120_000));
                assert_eq!(replies[0]["incomplete"], 2);
            }
            assert!(town.is_open(victim), "disconnected by a stranger");
            let is_bounded = offer_bytes_max < 120_000;
            let came_max = if is_bounded { 0 } else { 2 };
            let reason = if is_bounded {
                Reason::OfferSize
            } else {
                Reason::ReceiverFull
            };
            assert_eq!(town.count(reason), 12 - came_max);

            town.go_on_reading(victim);
            town.rest();
            let came = town.received(victim);
            assert_eq!(u64::try_from(came.len()).unwrap(), came_max);
            // It is heard, and introduced to others, as before.
            assert_eq!(town.ask(victim, &announce(victim, 1))[0]["incomplete"], 2);
            town.ask(attacker, &announce_with_offer(attacker, 1, 1_000));
            assert_eq!(town.received(victim).len(), 1);
        }
    }
}

/// When all connections together hold almost as much as they may, whoever holds most is closed.
#[test]
fn nobody_can_have_a_slow_receiver_closed_for_its_memory() {
    for (config, receiver_at) in topologies() {
        // For what the kernel keeps of a client that does not read, an offer, and little more.
        let mut town = Town::with_memory(&config, 180 * 1_024);
        let (victim, attacker) = (town.come(receiver_at), town.come(0));
        town.ask(victim, &announce(victim, 1));
        town.stop_reading(victim);
        for _ in 0..12 {
            let replies = town.ask(attacker, &announce_with_offer(attacker, 1, 10_000));
            assert_eq!(replies[0]["incomplete"], 2);
        }
        assert!(town.is_open(victim), "closed for what a stranger has sent");
        assert_eq!(town.count(Reason::ReceiverFull), 11);
        town.go_on_reading(victim);
        town.ask(attacker, &announce_with_offer(attacker, 1, 10_000));
        assert_eq!(town.received(victim).len(), 2);
    }
}

#[test]
fn nobody_can_disconnect_a_slow_offerer_by_answers() {
    for (mut config, answerer_at) in topologies() {
        config.protocol.max_offer_size = 131_072;
        let mut town = Town::new(&config);
        let (victim, attacker) = (town.come(0), town.come(answerer_at));
        town.ask(attacker, &announce(attacker, 1));
        town.ask(victim, &announce_with_offer(victim, 1, 100));
        town.stop_reading(victim);
        // The victim goes on offering: nobody else could make it get answers.
        for _ in 0..12 {
            let offer = town.received(attacker).remove(0);
            town.ask(attacker, &answer_to(&offer, attacker, 120_000));
            assert!(town.is_open(victim), "disconnected by a stranger");
            town.ask(victim, &announce_with_offer(victim, 1, 100));
        }
        assert!(town.count(Reason::ReceiverFull) >= 9);
    }
}

#[test]
fn a_client_is_disconnected_for_what_it_has_asked_for_itself() {
    let mut config = Config::default();
    config.network.websocket_max_message_size = 20_000;
    config.network.websocket_write_buffer_size = 80_000;
    let mut town = Town::new(&config);
    let client = town.come(0);
    town.stop_reading(client);
    // Each is refused in some 70 bytes.
    town.send_together(client, &["{}"; 2_000]);
    town.finish();
    assert!(!town.is_open(client));
}

/// Nor does a reader who is always a little behind keep all that it has ever been sent in memory,
/// or lose its voice.
#[test]
fn a_receiver_that_is_always_behind_is_heard() {
    let (config, _) = &topologies()[0];
    let mut town = Town::new(config);
    let (victim, attacker) = (town.come(0), town.come(0));
    town.ask(victim, &announce(victim, 1));
    town.stop_reading(victim);
    for _ in 0..40 {
        town.ask(attacker, &announce_with_offer(attacker, 1, 16_000));
    }
    assert!(town.count(Reason::ReceiverFull) > 10);
    let mut leave = announce(victim, 1);
    leave["event"] = json!("stopped");
    town.ask(victim, &leave);
    let reply = town.ask(attacker, &announce(attacker, 1)).remove(0);
    assert_eq!(reply["incomplete"], 1, "the victim's message was not read");
}

/// A swarm of one who receives, one who is honest, and many who offer.
fn besieged(config: &Config, receiver_at: usize) -> (Town, Name, Name) {
    let mut town = Town::new(config);
    let (receiver, honest) = (town.come(receiver_at), town.come(0));
    town.ask(receiver, &announce(receiver, 1));
    town.ask(honest, &announce_with_offer(honest, 1, 1_000));
    (town, receiver, honest)
}

/// The receiver has room for 120 open offers. Those that it did not get do not push others out.
#[test]
fn dropped_offers_do_not_stay_open() {
    for (mut config, receiver_at) in topologies() {
        config.protocol.max_offers_per_second_per_receiver = 1;
        config.cleaning.max_offer_age = 10_000;
        let (mut town, receiver, honest) = besieged(&config, receiver_at);
        let offer = town.received(receiver).remove(0);
        for _ in 0..130 {
            let attacker = town.come(0);
            // One for each who is there: the others have left again.
            let mut message = announce_with_offer(attacker, 1, 100);
            let offer = &message["offers"][0];
            message["offers"] = json!([offer, offer]);
            town.ask(attacker, &message);
            message["event"] = json!("stopped");
            town.ask(attacker, &message);
        }
        let dropped = town.count(Reason::OfferRate);
        assert!(
            dropped >= 2 * 120,
            "only {dropped} offers were dropped, half of them for the receiver"
        );
        town.received(honest);
        town.ask(receiver, &answer_to(&offer, receiver, 1_000));
        let came = town.received(honest);
        assert_eq!(came.len(), 1, "its offer was pushed out");
        assert_eq!(town.count(Reason::OfferUnknown), 0);
    }
}

/// By default, too.
#[test]
fn offers_per_second_and_receiver_are_bounded() {
    for (mut config, receiver_at) in topologies() {
        config.protocol.max_offers_per_second_per_receiver = Config::default()
            .protocol
            .max_offers_per_second_per_receiver;
        let mut town = Town::new(&config);
        let receiver = town.come(receiver_at);
        town.ask(receiver, &announce(receiver, 1));
        let offer_by_many = |town: &mut Town, first: u8| {
            for host in first..first + 100 {
                let attacker = town.come_from(0, [198, 51, 100, host].into());
                let mut message = announce_with_offer(attacker, 1, 100);
                town.ask(attacker, &message);
                // So that the next offer is for the same one, too.
                message["event"] = json!("stopped");
                town.ask(attacker, &message);
            }
        };
        offer_by_many(&mut town, 0);
        assert_eq!(town.received(receiver).len(), 64);
        assert_eq!(town.count(Reason::OfferRate), 100 - 64);
        // A second later there is room for as many as fit into one.
        town.now = aquatic_daemon::clock::Now::from_micros(2_000_000);
        offer_by_many(&mut town, 100);
        let came = town.received(receiver).len();
        assert!((15..=17).contains(&came), "{came}");
    }
}

/// One address has half of that, and a few more.
#[test]
fn offers_of_one_address_to_a_receiver_are_bounded() {
    for (mut config, receiver_at) in topologies() {
        config.protocol.max_offers_per_second_per_receiver = 16;
        let mut town = Town::new(&config);
        let (receiver, attacker) = (town.come(receiver_at), town.come(0));
        town.ask(receiver, &announce(receiver, 1));
        for _ in 0..200 {
            town.ask(attacker, &announce_with_offer(attacker, 1, 100));
        }
        assert_eq!(town.received(receiver).len(), 32 + 4);
        assert_eq!(town.count(Reason::OfferRate), 200 - 32 - 4);
    }
}

#[test]
fn an_answer_that_is_too_large_is_refused() {
    let (config, _) = &topologies()[0];
    let (mut town, receiver, honest) = besieged(config, 0);
    let offer = town.received(receiver).remove(0);
    town.received(honest);
    let refused = town
        .ask(receiver, &answer_to(&offer, receiver, 16_385))
        .remove(0);
    assert_eq!(refused["failure reason"], "answer is too large");
    assert_eq!(town.count(Reason::AnswerSize), 1);
    town.ask(receiver, &answer_to(&offer, receiver, 16_384));
    assert_eq!(town.received(honest).len(), 1, "the offer is still open");
}
