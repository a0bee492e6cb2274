//! One network with very many peers, and a few others, beside honest ones.

use std::collections::HashMap;
use std::num::{NonZeroU8, NonZeroU16};

use aquatic_types::{CompactAddr, CompactV4, CompactV6, InfoHash, PeerStatus, Seconds};
use proptest::prelude::*;

use crate::{
    Announce, Announced, CleaningCursor, CleaningVisitor, Counts, HashKey, Keep, Limits,
    PeerChange, PeerKey, TorrentMap,
};

const LEECHER: PeerStatus = PeerStatus::Leecher;
const SEEDER: PeerStatus = PeerStatus::Seeder;

struct World<K> {
    map: TorrentMap<K>,
    rng: fastrand::Rng,
    now: Seconds,
}

impl<K: CompactAddr + PeerKey> World<K> {
    fn new(peers_max: u16, response_peers_max: u8) -> Self {
        let limits = Limits {
            max_peers_per_network: NonZeroU16::new(peers_max),
            max_response_peers_per_network: NonZeroU8::new(response_peers_max),
            ..Limits::default()
        };
        Self {
            map: TorrentMap::new(HashKey::new([3, 4]), limits),
            rng: fastrand::Rng::with_seed(5),
            now: Seconds(0),
        }
    }

    fn announce(&mut self, peer: K, status: PeerStatus, wanted: u16) -> (Announced, Vec<K>) {
        let key = self.map.key(InfoHash([1; 20]));
        let mut answer = Vec::new();
        let announce = Announce {
            peer,
            status,
            completed: false,
            num_want: wanted,
        };
        let select_peers = |peer: &K, (): &()| answer.push(*peer);
        let announced = self.map.announce(
            &key,
            &announce,
            self.now + 1_200,
            &mut Keep(()),
            &mut self.rng,
            select_peers,
        );
        (announced.unwrap(), answer)
    }

    fn peers(&self) -> Counts {
        self.map.scrape(&self.map.key(InfoHash([1; 20])))
    }
}

fn attacker(number: u8, port: u16) -> CompactV4 {
    CompactV4::new([198, 51, 100, number].into(), port)
}

fn honest(number: u16) -> CompactV4 {
    let [high, low] = number.to_be_bytes();
    CompactV4::new([10, 0, high, low].into(), 6_881)
}

fn is_honest(peer: &CompactV4) -> bool {
    peer.0[0] == 10
}

#[test]
fn a_network_fills_its_places_and_no_more_in_swarms_of_any_form() {
    for (max, others) in [
        (1, 0),
        (2, 0),
        (2, 1),
        (5, 20),
        (64, 0),
        (64, 5_000),
        (1_000, 9),
    ] {
        let mut world = World::new(max, 3);
        for number in 0..others {
            world.announce(honest(number), SEEDER, 0);
        }
        for port in 1..=3_000 {
            let (announced, answer) = world.announce(attacker(1, port), LEECHER, 5);
            let expected = match port <= max {
                true => PeerChange::Added,
                false => PeerChange::NotAdded,
            };
            assert_eq!(
                announced.change, expected,
                "{port} of {max}, {others} others"
            );
            let others = world.peers().peers() - u32::from(port <= max);
            assert_eq!(answer.len(), usize::try_from(others).unwrap().min(5));
        }
        world.map.assert_sound();
        assert_eq!(world.peers().leechers, u32::from(max));
        assert_eq!(
            world.announce(attacker(2, 1), LEECHER, 0).0.change,
            PeerChange::Added
        );

        // Who is there may renew and change its status, and makes room by leaving.
        let renewed = world.announce(attacker(1, max), SEEDER, 0).0.change;
        assert_eq!(renewed, PeerChange::Updated);
        world.announce(attacker(1, 1), PeerStatus::Stopped, 0);
        assert_eq!(
            world.announce(attacker(1, 5_000), LEECHER, 0).0.change,
            PeerChange::Added
        );
        assert_eq!(
            world.announce(attacker(1, 1), LEECHER, 0).0.change,
            PeerChange::NotAdded
        );
    }
}

#[test]
fn a_network_of_ipv6_is_64_bits() {
    let mut world = World::new(2, 3);
    let ip = |network: u16, host: u16| [0x2001, 0xdb8, 1, network, host, 0, 0, host].into();
    for host in 1..100 {
        let peer = CompactV6::new(ip(7, host), 1);
        let is_added = world.announce(peer, LEECHER, 0).0.change == PeerChange::Added;
        assert_eq!(is_added, host <= 2, "host {host}");
        let peer = CompactV6::new(ip(host + 7, host), 1);
        assert_eq!(world.announce(peer, LEECHER, 0).0.change, PeerChange::Added);
    }
}

/// Networks share counters in the index of a large swarm. Were one closed because others that
/// share its counter are full, attackers would keep honest peers out.
#[test]
fn full_networks_close_no_other_one() {
    let mut world = World::new(64, 3);
    for number in 0..250 {
        for port in 1..=70 {
            let (announced, _) = world.announce(attacker(number, port), LEECHER, 0);
            assert_eq!(announced.change == PeerChange::Added, port <= 64);
        }
    }
    for number in 0..20_000 {
        let change = world.announce(honest(number), SEEDER, 0).0.change;
        assert_eq!(change, PeerChange::Added, "{number}");
    }
    world.map.assert_sound();
}

/// Counters that have been at their end, and tables that grow and shrink: whoever leaves, however
/// many there have been, there is room again afterwards, and not before.
#[test]
fn places_are_given_back_on_every_way_out() {
    struct Ignored;
    impl CleaningVisitor<CompactV4, ()> for Ignored {
        fn keep(&mut self, _: &InfoHash) -> bool {
            true
        }

        fn peer_removed(&mut self, _: &CompactV4, (): ()) {}

        fn torrent_remains(&mut self, _: &InfoHash, _: Counts) {}
    }
    let mut world = World::new(700, 3);
    for round in 0..4_u16 {
        for port in 1..=2_000 {
            let is_added = world.announce(attacker(1, port), LEECHER, 0).0.change;
            assert_eq!(is_added == PeerChange::Added, port <= 700, "round {round}");
            world.announce(honest(port), LEECHER, 0);
        }
        world.map.assert_sound();
        if round % 2 == 0 {
            for port in 1..=2_000 {
                world.announce(attacker(1, port), PeerStatus::Stopped, 0);
            }
        } else {
            world.now = world.now + 1_202;
            let mut cursor = CleaningCursor::default();
            let now = world.now;
            while !world.map.clean(&mut cursor, now, 100, &mut Ignored) {}
            assert_eq!(world.map.peers(), 0);
        }
    }
}

/// What honest leechers get of 50 peers, on average: how many honest peers.
fn honest_share(peers_max: u16, response_peers_max: u8, attackers: u8, ports: u16) -> u32 {
    let mut world = World::new(peers_max, response_peers_max);
    for port in 1..=ports {
        for number in 0..attackers {
            world.announce(attacker(number, port), SEEDER, 0);
        }
    }
    for number in 0..20 {
        world.announce(honest(number), SEEDER, 0);
    }
    let leecher = honest(500);
    let rounds = 500;
    let mut sum = 0;
    for _ in 0..rounds {
        let (_, mut answer) = world.announce(leecher, LEECHER, 50);
        sum += u32::try_from(answer.iter().filter(|peer| is_honest(peer)).count()).unwrap();
        let len = answer.len();
        answer.sort_unstable();
        answer.dedup();
        assert_eq!((len, answer.len()), (50, 50));
    }
    // Rounded to the nearest tenth, in tenths.
    (sum * 10 + rounds / 2) / rounds
}

#[test]
fn one_address_with_all_ports_beside_20_seeders() {
    assert_eq!(honest_share(64, 3, 1, 65_534), 200, "always all 20");
    assert!(
        honest_share(0, 0, 1, 65_534) <= 1,
        "nearly nobody without limits"
    );
    assert_eq!(
        honest_share(64, 0, 1, 65_534),
        119,
        "20 of 84 in each of 50 places"
    );
    assert_eq!(honest_share(0, 3, 1, 200), 200, "while all are looked at");
}

/// With many addresses there are enough others than honest ones; what is left of the honest share
/// is that of one address among all.
#[test]
fn fifty_addresses_beside_20_seeders() {
    let without = honest_share(0, 0, 50, 2_000);
    let with = honest_share(64, 3, 50, 2_000);
    println!("honest of 50 peers, in tenths: {without} without limits, {with} with");
    assert!(without <= 1 && (2..=4).contains(&with));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever networks there are, each answer is as long as it should be, has no peer twice, and
    /// no network has more than its share while others have not had theirs.
    #[test]
    fn answers_share_places_among_networks(
        networks in prop::collection::vec(1..60_u8, 1..40),
        max in 1..6_u8,
        wanted in 1..120_u16,
        to in prop_oneof![Just(LEECHER), Just(SEEDER)],
    ) {
        let mut world = World::new(0, max);
        let mut all = Vec::new();
        for (number, peers) in (0..).zip(networks) {
            let peers = (1..=u16::from(peers)).map(|port| attacker(number, port));
            all.extend(peers.take(250 - all.len().min(250)));
        }
        for peer in &all {
            world.announce(*peer, LEECHER, 0);
        }
        let per_network = |peers: &[CompactV4]| {
            let mut counts = HashMap::<_, usize>::new();
            peers.iter().for_each(|peer| *counts.entry(peer.network()).or_default() += 1);
            counts
        };
        let share = |peers: &[CompactV4]| -> usize {
            per_network(peers).values().map(|count| (*count).min(max.into())).sum()
        };
        let (announced, answer) = world.announce(honest(1), to, wanted);
        prop_assert_eq!(answer.len(), usize::from(wanted).min(all.len()));
        let mut distinct = answer.clone();
        distinct.sort_unstable();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), answer.len());
        if usize::from(wanted) < all.len() {
            prop_assert_eq!(share(&answer), usize::from(wanted).min(share(&all)));
            let surplus = usize::try_from(announced.surplus).unwrap();
            prop_assert_eq!(surplus, answer.len() - share(&answer));
            let restrained = &answer[..answer.len() - surplus];
            prop_assert_eq!(share(restrained), restrained.len());
        }
    }
}

/// Honest peers are equally likely, wherever they are: also as neighbours of an attacker.
#[test]
fn honest_peers_are_equally_likely_beside_an_attacker() {
    for (attackers, others, wanted) in [(60, 200, 30), (64, 1_000, 50), (30, 34, 20)] {
        let mut world = World::new(64, 3);
        for number in 0..others / 2 {
            world.announce(honest(number), LEECHER, 0);
        }
        for port in 1..=attackers {
            world.announce(attacker(1, port), LEECHER, 0);
        }
        for number in others / 2..others {
            world.announce(honest(number), LEECHER, 0);
        }
        let rounds = 20_000_u32;
        let mut times = HashMap::<_, u32>::new();
        for _ in 0..rounds {
            let (_, answer) = world.announce(attacker(2, 1), LEECHER, wanted);
            let attackers = answer
                .iter()
                .filter(|peer| peer.0[3] == 1 && !is_honest(peer));
            assert!(attackers.count() <= 3);
            for peer in answer.into_iter().filter(is_honest) {
                *times.entry(peer).or_default() += 1;
            }
        }
        let total: u32 = times.values().sum();
        let mean = f64::from(total) / f64::from(others);
        let deviation = mean.sqrt();
        assert_eq!(times.len(), usize::from(others));
        for (peer, times) in times {
            let off = f64::from(times) - mean;
            assert!(
                // What comes by replacement depends a little on who is beside the attacker.
                off.abs() <= 5.0 * deviation + 0.03 * mean,
                "{peer:?}: {times} times, {mean} expected"
            );
        }
    }
}

#[test]
fn going_to_and_fro_is_one_download() {
    let mut world = World::new(64, 3);
    let mut announce = |peer, status, completed| {
        let announce = Announce {
            peer,
            status,
            completed,
            num_want: 0,
        };
        let key = world.map.key(InfoHash([1; 20]));
        let rng = &mut world.rng;
        let announced = world.map.announce(
            &key,
            &announce,
            Seconds(1_200),
            &mut Keep(()),
            rng,
            |_, ()| (),
        );
        announced.unwrap().counts.completed
    };
    // As an inline peer, in a list and in a large swarm.
    for number in 1..=200 {
        announce(honest(number), LEECHER, false);
        for _ in 0..5 {
            assert_eq!(announce(honest(number), SEEDER, true), u32::from(number));
            assert_eq!(announce(honest(number), LEECHER, true), u32::from(number));
            assert_eq!(announce(honest(number), LEECHER, false), u32::from(number));
        }
    }
    // A seeder has finished, whether it says so or not.
    announce(honest(300), SEEDER, false);
    announce(honest(300), LEECHER, false);
    assert_eq!(announce(honest(300), SEEDER, true), 200);
    // Who stays outside counts nothing.
    for port in 1..=64 {
        announce(attacker(1, port), LEECHER, false);
    }
    assert_eq!(announce(attacker(1, 65), SEEDER, true), 200);
    assert_eq!(world.map.completed(), 200);
}
