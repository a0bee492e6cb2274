//! A swarm worker that does not keep up: who has asked for little is served first, and nobody is
//! refused.

use aquatic_ws::config::Config;
use aquatic_ws::counters::{Reason, RequestKind};
use serde_json::{Value, json};

use super::town::{
    Name, Town, announce, announce_with_offer, announce_with_offers, answer_to, name_of,
};

/// Of requests that can be on their way to a swarm worker.
const ROOM: usize = 16 * 256;

fn town() -> Town {
    town_of(1)
}

fn town_of(swarm_workers: usize) -> Town {
    let mut config = Config {
        swarm_workers,
        ..Config::default()
    };
    config.protocol.max_scrape_torrents = 250;
    Town::new(&config)
}

fn scrape(from: usize) -> Value {
    let hashes: Vec<_> = (from..from + 250).map(name_of).collect();
    json!({"action": "scrape", "info_hash": hashes})
}

/// The attack: 60 sockets that send nothing but scrapes of 250 torrents, one behind the other.
fn besieged() -> (Town, Vec<Name>) {
    let mut town = town();
    let attackers: Vec<_> = (0..60).map(|_| town.come(0)).collect();
    let scrape = scrape(0).to_string();
    for attacker in &attackers {
        town.send_together(*attacker, &[&scrape[..]; 10]);
    }
    town.finish();
    (town, attackers)
}

/// How often the swarm worker has to empty its queue until somebody is served.
fn rounds_until_served(town: &mut Town, name: Name) -> usize {
    for round in 1..1_000 {
        for worker in 0..town.tracker.swarm_workers.len() {
            town.tracker.answer(worker, town.now);
        }
        town.finish();
        if !town.received(name).is_empty() {
            return round;
        }
    }
    panic!("it starves");
}

#[test]
fn scrapes_of_others_do_not_starve_announces() {
    let (mut town, attackers) = besieged();
    let scraped = 60 * 10 * 250;
    assert!(scraped > 30 * ROOM);
    for torrent in 0..20 {
        let honest = town.come(0);
        town.send(honest, &announce(honest, torrent));
        town.finish();
        // Not behind all scrapes: each socket has one turn before it, of 16 rows.
        let rounds = rounds_until_served(&mut town, honest);
        assert!(rounds <= 2, "served after {rounds} queues full");
    }
    town.rest();
    for attacker in attackers {
        let answers = town.received(attacker);
        assert_eq!(answers.len(), 10);
        for answer in answers {
            assert_eq!(
                answer["files"].as_object().map(serde_json::Map::len),
                Some(250)
            );
        }
    }
    assert_eq!(town.count(Reason::QueueFull), 0);
}

#[test]
fn announces_of_others_do_not_starve_announces() {
    let mut town = town();
    let attackers: Vec<_> = (0..100).map(|_| town.come(0)).collect();
    for attacker in &attackers {
        let messages: Vec<_> = (0..500)
            .map(|torrent| announce_with_offer(*attacker, torrent % 100, 300).to_string())
            .collect();
        let messages: Vec<_> = messages.iter().map(String::as_str).collect();
        town.send_together(*attacker, &messages);
    }
    town.finish();
    let honest = town.come(0);
    town.send(honest, &announce(honest, 1));
    town.finish();
    let rounds = rounds_until_served(&mut town, honest);
    assert!(rounds <= 3, "served after {rounds} queues full");
    town.rest();
    assert_eq!(town.count(Reason::QueueFull), 0);
    for attacker in attackers {
        let replies = town.received(attacker);
        let replies = replies.iter().filter(|it| !it["interval"].is_null());
        assert_eq!(replies.count(), 500);
    }
    let traffic = town.tracker.counters[0].traffic(aquatic_types::IpFamily::V4);
    let announces = traffic.requests(RequestKind::Announce).get();
    assert_eq!(
        announces,
        100 * 500 + 1,
        "each is counted once, however long it waits"
    );
}

/// The rows of a scrape that waited for another worker's shard may be followed by some of the
/// worker's own, when nothing else is on its way.
#[test]
fn who_has_waited_for_another_worker_is_served_by_its_own() {
    let mut config = Config {
        socket_workers: 2,
        ..Config::default()
    };
    config.protocol.max_scrape_torrents = 250;
    for clients in 20..60 {
        let mut town = Town::new(&config);
        let clients: Vec<_> = (0..clients).map(|_| town.come(0)).collect();
        for client in &clients {
            town.send(*client, &scrape(*client));
        }
        town.rest();
        for client in clients {
            assert_eq!(town.received(client).len(), 1);
        }
    }
}

/// Without scrapes and without anybody else: of what a client has sent, 64 requests are taken up.
#[test]
fn one_connection_does_not_fill_the_queue_alone() {
    let mut town = town();
    let attacker = town.come(0);
    let messages: Vec<_> = (0..500)
        .map(|_| announce(attacker, 1).to_string())
        .collect();
    let messages: Vec<_> = messages.iter().map(String::as_str).collect();
    town.send_together(attacker, &messages);
    town.finish();
    let counters = std::sync::Arc::clone(&town.tracker.counters[0]);
    let traffic = counters.traffic(aquatic_types::IpFamily::V4);
    assert_eq!(traffic.requests(RequestKind::Announce).get(), 64);
    town.rest();
    assert_eq!(town.received(attacker).len(), 500);
}

/// Torrents of each of two swarm workers.
fn by_swarm_worker(town: &mut Town, torrents: usize) -> [Vec<usize>; 2] {
    let (client, mut found) = (town.come(0), [Vec::new(), Vec::new()]);
    for torrent in 0.. {
        town.send(client, &announce(client, torrent));
        town.finish();
        let owner = &town.tracker.swarm_workers;
        let owner = owner.iter().position(|worker| worker.has_pending());
        found[owner.unwrap()].push(torrent);
        town.rest();
        if found.iter().all(|it| it.len() >= torrents) {
            break;
        }
    }
    found
}

/// Those who wait for one swarm worker do not take the room of another one before those who wait
/// for that. Here they ask as much of either, and a little more of the second one, so that they use
/// up its room a moment before that of the first, for which they go on to wait.
#[test]
fn a_line_is_not_overtaken_from_another_line() {
    let mut town = town_of(2);
    let [mut first, second] = by_swarm_worker(&mut town, 126);
    let scrape = |first: &[usize]| {
        let mixed = first.iter().zip(&second);
        let names = mixed.flat_map(|(a, b)| [name_of(*a), name_of(*b)]);
        let hashes: Vec<_> = names.take(250).collect();
        json!({"action": "scrape", "info_hash": hashes}).to_string()
    };
    let even = scrape(&first);
    first[20] = second[125];
    let more = scrape(&first);
    for attacker in 0..400 {
        let scrape = if attacker % 8 == 0 { &more } else { &even };
        let name = town.come(0);
        town.send_together(name, &[&scrape[..]; 2]);
    }
    town.finish();
    for torrent in [second[0], first[0]] {
        let honest = town.come(0);
        town.send(honest, &announce(honest, torrent));
        town.finish();
        let rounds = rounds_until_served(&mut town, honest);
        assert!(rounds <= 2, "served after {rounds} queues full");
    }
}

/// Whoever leaves while it waits takes nothing with it.
#[test]
fn who_waits_may_go() {
    let (mut town, attackers) = besieged();
    let honest = town.come(0);
    town.send(honest, &announce(honest, 1));
    town.finish();
    for attacker in attackers {
        town.vanish(attacker);
    }
    town.vanish(honest);
    let late = town.come(0);
    town.send(late, &announce(late, 1));
    town.rest();
    assert_eq!(town.received(late)[0]["incomplete"], 1);
    assert_eq!(town.count(Reason::QueueFull), 0);
}

/// When very many leave at once, they have no more than half of the room.
#[test]
fn who_leaves_takes_no_turn_of_others() {
    let mut town = town();
    let crowd: Vec<_> = (0..20).map(|_| town.come(0)).collect();
    for name in &crowd {
        for torrent in 0..500 {
            town.send(*name, &announce(*name, torrent));
        }
        town.rest();
    }
    for name in crowd {
        town.vanish(name);
    }
    let honest = town.come(0);
    town.send(honest, &announce(honest, 1));
    town.finish();
    assert_eq!(rounds_until_served(&mut town, honest), 1);
}

/// A worker that owns the torrents itself has room for all, and yet does not serve them in one go.
#[test]
fn not_all_who_leave_are_told_of_in_one_round() {
    let mut town = town_of(0);
    let crowd: Vec<_> = (0..20).map(|_| town.come(0)).collect();
    for name in &crowd {
        for torrent in 0..500 {
            town.send(*name, &announce(*name, torrent));
        }
        town.rest();
    }
    for name in crowd {
        town.vanish(name);
    }
    let mut peers = || {
        town.tracker.maintain(0, town.now);
        let peers = town.tracker.gauges(aquatic_types::IpFamily::V4).1;
        town.finish();
        peers
    };
    assert_eq!(
        [peers(), peers(), peers(), peers()],
        [10_000, 5_904, 1_808, 0]
    );
}

/// A line that does not end while a test looks: clients who send announces to one torrent, one
/// behind the other.
fn endless_line(town: &mut Town, clients: &[Name]) {
    for client in clients {
        let message = announce(*client, 0).to_string();
        town.send_together(*client, &vec![&message[..]; 500]);
    }
    town.finish();
}

/// The swarm worker empties its queue so often, while others wait for it all the time.
fn rounds(town: &mut Town, rounds: usize) {
    for _ in 0..rounds {
        let worker = &mut town.tracker.swarm_workers[0];
        assert!(worker.has_pending(), "the line has ended");
        town.tracker.answer(0, town.now);
        town.finish();
    }
}

/// Peers of connections that have gone would be handed the offers of others.
#[test]
fn who_has_gone_leaves_while_others_wait() {
    let mut town = town();
    let crowd: Vec<_> = (0..20).map(|_| town.come(0)).collect();
    for name in &crowd {
        for torrent in 1..=100 {
            town.send(*name, &announce(*name, torrent));
        }
        town.rest();
    }
    let clients: Vec<_> = (0..200).map(|_| town.come(0)).collect();
    endless_line(&mut town, &clients);
    for name in crowd {
        town.vanish(name);
    }
    rounds(&mut town, 4);
    town.pass_time(0);
    let peers = town.tracker.gauges(aquatic_types::IpFamily::V4).1;
    assert_eq!(peers, 64, "those in the line are in one torrent");
    rounds(&mut town, 4);
}

/// An offer that never came would take the place of one that did, among those that can be answered.
#[test]
fn dropped_offers_are_withdrawn_while_others_wait() {
    let mut town = town();
    let (offerer, receiver) = (town.come(0), town.come(0));
    let clients: Vec<_> = (0..200).map(|_| town.come(0)).collect();
    town.ask(receiver, &announce(receiver, 1));
    let offers = |number| announce_with_offers(offerer, 1, number..number + 1);
    let offers: Vec<_> = (0..60).map(|number| offers(number).to_string()).collect();
    let offers: Vec<_> = offers.iter().map(String::as_str).collect();
    town.send_together(offerer, &offers);
    town.finish();
    town.tracker.answer(0, town.now);
    // Some are dropped when there is a line already.
    endless_line(&mut town, &clients);
    rounds(&mut town, 2);
    let came = town.received(receiver);
    let dropped = usize::try_from(town.count(Reason::OfferRate)).unwrap();
    assert_eq!((came.len(), dropped), (36, 24));
    town.received(offerer);
    // Nobody but the shard knows that this one has not come.
    let mut last = came[0].clone();
    last["offer_id"] = json!(name_of(59));
    town.send(receiver, &answer_to(&last, receiver, 100));
    rounds(&mut town, 2);
    let refused = &town.received(receiver)[0];
    assert!(refused["failure reason"].is_string(), "{refused}");
    assert_eq!(town.received(offerer), [] as [Value; 0]);
    rounds(&mut town, 2);
}

/// The attack: a thousand connections send very much at once. Whoever comes next would wait for all
/// of it, as each round serves everybody, and it takes some rounds to be served.
#[test]
fn who_asks_much_does_not_make_a_round_long() {
    let mut town = town_of(0);
    let crowd: Vec<_> = (0..1_000).map(|_| town.come(0)).collect();
    for name in &crowd {
        let message = announce(*name, 1).to_string();
        town.send_together(*name, &vec![&message[..]; 400]);
    }
    let counters = std::sync::Arc::clone(&town.tracker.counters[0]);
    let traffic = counters.traffic(aquatic_types::IpFamily::V4);
    let mut served = 0;
    let mut rounds = 0;
    while served < 400_000 {
        town.pass_time(0);
        let before = std::mem::replace(&mut served, traffic.requests(RequestKind::Announce).get());
        rounds += 1;
        assert!(
            served - before <= 16_000,
            "{} in round {rounds}",
            served - before
        );
        assert!(served > before, "they starve");
    }
    for name in crowd {
        assert_eq!(town.received(name).len(), 400);
    }
}
