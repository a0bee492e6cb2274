//! One connection, and one address, have a bounded share of a swarm and of what others are handed.

use std::net::{IpAddr, Ipv4Addr};

use aquatic_daemon::clock::Now;
use aquatic_ws::config::Config;
use aquatic_ws::counters::Reason;
use serde_json::{Value, json};

use super::town::{Name, Town, announce, announce_with_offers, answer_to, name_of};

/// Honest peers that are there before the attacker.
const HONEST: usize = 20;

/// Offers of an announce.
const OFFERS: usize = 10;

/// Numbers of an attacker's offers begin here.
const HOSTILE: usize = 1_000_000;

const TORRENT: usize = 1;

fn attacker_ip() -> IpAddr {
    [198, 51, 100, 1].into()
}

/// Each honest client has an address of its own.
fn honest_ip(number: usize) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + u32::try_from(number).unwrap()).into()
}

/// A swarm of honest peers.
fn swarm(config: &Config) -> (Town, Vec<Name>) {
    let mut town = Town::new(config);
    let come = |number| {
        let honest = town.come_from(number % config.socket_workers, honest_ip(number));
        town.ask(honest, &announce(honest, TORRENT));
        honest
    };
    let honest = (0..HONEST).map(come).collect();
    (town, honest)
}

fn is_offer(message: &&Value) -> bool {
    !message["offer"].is_null()
}

/// How many offers of honest newcomers reach the honest, in percent.
fn percent_to_honest(town: &mut Town, honest: &[Name]) -> usize {
    const NEWCOMERS: usize = 10;
    let mut came = 0;
    for number in 0..NEWCOMERS {
        let newcomer = town.come_from(0, honest_ip(1_000 + number));
        let first = number * OFFERS;
        let message = announce_with_offers(newcomer, TORRENT, first..first + OFFERS);
        town.ask(newcomer, &message);
        let mut leave = announce(newcomer, TORRENT);
        leave["event"] = json!("stopped");
        town.ask(newcomer, &leave);
        for name in honest {
            came += town.received(*name).iter().filter(is_offer).count();
        }
    }
    came * 100 / (NEWCOMERS * OFFERS)
}

/// An announce as a peer of this number.
fn announce_as(peer: usize) -> Value {
    let mut message = announce(0, TORRENT);
    message["peer_id"] = json!(name_of(peer));
    message
}

#[test]
fn one_connection_does_not_own_a_swarm() {
    for socket_workers in [1, 2] {
        let config = Config {
            socket_workers,
            ..Config::default()
        };
        let (mut town, honest) = swarm(&config);
        let attacker = town.come_from(0, attacker_ip());
        for peer in 0..1_000 {
            town.send(attacker, &announce_as(HOSTILE + peer));
            town.rest();
        }
        let percent = percent_to_honest(&mut town, &honest);
        assert!(percent >= 90, "{percent} %");
        assert_eq!(town.count(Reason::TorrentsPerConnection), 992);
    }
}

/// Clients in one page may share a connection.
#[test]
fn a_few_peers_of_one_connection_are_peers() {
    let mut town = Town::new(&Config::default());
    let page = town.come(0);
    for peer in 0..8 {
        let reply = town.ask(page, &announce_as(HOSTILE + peer)).remove(0);
        assert_eq!(reply["incomplete"], peer + 1);
    }
    let refused = town.ask(page, &announce_as(HOSTILE + 8)).remove(0);
    assert_eq!(
        refused["failure reason"]
            .as_str()
            .or(refused["warning message"].as_str()),
        Some("too many peer ids in one torrent over one connection")
    );
    let other = town.come(0);
    town.ask(other, &announce_with_offers(other, TORRENT, 0..OFFERS));
    assert_eq!(
        town.received(page).len(),
        8,
        "each gets an offer if nobody else is there"
    );
    // A peer that has left makes room for another one.
    let mut leave = announce_as(HOSTILE + 3);
    leave["event"] = json!("stopped");
    town.ask(page, &leave);
    assert_eq!(
        town.ask(page, &announce_as(HOSTILE + 9)).remove(0)["incomplete"],
        9
    );
}

#[test]
fn one_address_does_not_own_a_swarm() {
    let config = Config::default();
    let (mut town, honest) = swarm(&config);
    for connection in 0..300 {
        let attacker = town.come_from(0, attacker_ip());
        for peer in 0..8 {
            town.send(attacker, &announce_as(HOSTILE + connection * 8 + peer));
        }
        town.finish();
    }
    town.rest();
    let percent = percent_to_honest(&mut town, &honest);
    assert!(percent >= 70, "{percent} %");
    assert_eq!(town.count(Reason::PeersPerIpAndTorrent), 300 * 8 - 64);
    // Whoever is not kept gets its answer, and meets others by its own offers.
    let late = town.come_from(0, attacker_ip());
    let message = announce_with_offers(late, TORRENT, HOSTILE..HOSTILE + OFFERS);
    let reply = town.ask(late, &message).remove(0);
    assert_eq!(reply["incomplete"], HONEST + 64);
    let mut offers = Vec::new();
    for name in &honest {
        let came = town.received(*name);
        offers.extend(
            came.into_iter()
                .filter(|it| is_offer(&it))
                .map(|it| (*name, it)),
        );
    }
    assert!(offers.len() >= 7, "{} offers", offers.len());
    let (answerer, offer) = offers.remove(0);
    town.ask(answerer, &answer_to(&offer, answerer, 100));
    assert_eq!(town.received(late).len(), 1);
}

/// Behind one address there may be a whole swarm, which meets nobody else.
#[test]
fn neighbours_meet_each_other() {
    let mut town = Town::new(&Config::default());
    let neighbours: Vec<_> = (0..30).map(|_| town.come(0)).collect();
    for name in &neighbours {
        town.ask(*name, &announce(*name, TORRENT));
    }
    let newcomer = town.come(0);
    town.ask(
        newcomer,
        &announce_with_offers(newcomer, TORRENT, 0..OFFERS),
    );
    let came: usize = neighbours.iter().map(|it| town.received(*it).len()).sum();
    assert_eq!(came, OFFERS);
}

/// The attack: 40 sockets of one address offer 3,200 times a second to a swarm of 20, who answer
/// whatever they get. Beside it, honest newcomers join.
#[test]
fn offers_of_one_address_leave_room_for_those_of_others() {
    for (socket_workers, swarm_workers) in [(1, 0), (2, 1)] {
        let config = Config {
            socket_workers,
            swarm_workers,
            ..Config::default()
        };
        let (mut town, mut members) = swarm(&config);
        let attackers: Vec<_> = (0..40).map(|_| town.come_from(0, attacker_ip())).collect();
        let (mut offered, mut came, mut answered) = (0, 0, 0);
        for round in 0..400 {
            town.now = Now::from_micros(1_000_000 + round * 25_000);
            let some = usize::try_from(round).unwrap() % 5 * 8;
            for attacker in &attackers[some..some + 8] {
                let first = HOSTILE + offered;
                let message = announce_with_offers(*attacker, TORRENT, first..first + OFFERS);
                town.send(*attacker, &message);
                offered += OFFERS;
            }
            if round % 20 == 10 {
                let number = usize::try_from(round).unwrap();
                let newcomer = town.come_from(0, honest_ip(1_000 + number));
                let first = number * OFFERS;
                let message = announce_with_offers(newcomer, TORRENT, first..first + OFFERS);
                town.send(newcomer, &message);
                members.push(newcomer);
            }
            town.rest();
            for name in &members {
                for message in town.received(*name) {
                    if is_offer(&&message) {
                        came += usize::from(is_honest(&message));
                        town.send(*name, &answer_to(&message, *name, 100));
                    }
                    answered += usize::from(!message["answer"].is_null());
                }
            }
        }
        // Some are for the attacker, who is one of the swarm.
        let honest = 20 * (OFFERS - 3);
        let all = format!("{came} of {honest} offers of honest clients came, {answered} answered");
        println!(
            "{all}, of {offered} others dropped {}",
            town.count(Reason::OfferRate)
        );
        assert!(
            came * 100 >= honest * 95 && answered * 100 >= honest * 93,
            "{all}"
        );
    }
}

fn is_honest(offer: &Value) -> bool {
    let number: usize = offer["offer_id"].as_str().unwrap().parse().unwrap();
    number < HOSTILE
}
