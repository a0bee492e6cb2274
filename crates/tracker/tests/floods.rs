//! Floods of random info hashes beside honest clients, at a small bound of memory.

use std::num::NonZeroUsize;

use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_daemon::clock::Now;
use aquatic_swarm::{Announce, HashKey, Limits};
use aquatic_tracker::shard::Shard;
use aquatic_tracker::shard::addresses::outbox::Unread;
use aquatic_tracker::shard::addresses::{
    AddressSwarms, AddressSwarmsParts, AddressSwarmsSettings, PeerAddr,
};
use aquatic_tracker::shard::maintenance::{MaintenanceSettings, Reporting};
use aquatic_types::{CompactAddr, CompactV4, CompactV6, InfoHash, IpFamily, PeerStatus};

/// Room for some 70,000 torrents with one peer. A test may have some times as much of all.
const BYTES_MAX: usize = 4 << 20;

/// Honest clients that were there before the flood, each with a torrent.
const OLD_CLIENTS: u32 = 5_000;

/// Torrents of one client that has many.
const SEEDBOX_TORRENTS: u32 = 2_000;

/// Rounds of the flood.
const FLOOD: u32 = 150_000;

/// Rounds of the flood for each two honest announces.
const FLOOD_PER_HONEST: u32 = 30;

/// Announces between two slices of background work, if they come evenly.
const BATCH: u32 = 256;

/// Announces in a second.
const PER_SECOND: u32 = 1_000;

/// After so many seconds a peer that no longer announces is forgotten.
const PEER_AGE_SECONDS: u32 = 1_200;

struct Fixture {
    swarms: AddressSwarms<()>,
    reporting: Reporting,
    rng: fastrand::Rng,
    announces: u32,
    /// Announces between two slices of background work.
    batch: u32,
    bytes_max: usize,
    bytes_seen: usize,
}

impl Fixture {
    fn new(bytes_max: usize) -> Self {
        let access_list = SharedAccessList::new(AccessListMode::Off, AccessList::default());
        let settings = AddressSwarmsSettings {
            limits: Limits::default(),
            peer_age_seconds_max: PEER_AGE_SECONDS,
            maintenance: MaintenanceSettings {
                bytes_max: NonZeroUsize::new(bytes_max),
                cleaning_interval_seconds: 60,
                report_interval_seconds: 5,
                peer_histograms: false,
            },
        };
        let reporting = Reporting::default();
        let parts = AddressSwarmsParts {
            hash_key: HashKey::new([1, 2]),
            rng_seed: 3,
            access_list: access_list.reader(),
            peers_per_ip: None,
            reporting: reporting.clone(),
        };
        Self {
            swarms: AddressSwarms::new(settings, parts, Unread),
            reporting,
            rng: fastrand::Rng::with_seed(4),
            announces: 0,
            batch: BATCH,
            bytes_max,
            bytes_seen: 0,
        }
    }

    fn now(&self) -> Now {
        let seconds = u64::from(self.announces / PER_SECOND);
        Now::from_micros(seconds * 1_000_000)
    }

    fn announce<K: PeerAddr>(&mut self, info_hash: InfoHash, peer: K) -> bool {
        self.announces += 1;
        if self.announces.is_multiple_of(self.batch) {
            while self.swarms.maintain(self.now()) {}
            let swarms = self.swarms.swarms();
            let bytes = swarms.v4.bytes() + swarms.v6.bytes();
            self.bytes_seen = self.bytes_seen.max(bytes);
        }
        let announce = Announce {
            peer,
            status: PeerStatus::Leecher,
            completed: false,
            num_want: 30,
        };
        let key = self.swarms.key(info_hash);
        let deadline = self.now().seconds + PEER_AGE_SECONDS;
        let outcome = self
            .swarms
            .announce(deadline, &key, [0; 8], &announce, |_| ());
        outcome.is_ok()
    }

    fn random_hash(&mut self) -> InfoHash {
        let mut info_hash = [0; 20];
        self.rng.fill(&mut info_hash);
        InfoHash(info_hash)
    }

    /// How many of a number of torrents have peers, in percent.
    fn percent_alive(&self, kind: u8, torrents: u32) -> u32 {
        let has_peers = |number: &u32| {
            let key = self.swarms.key(torrent(kind, *number));
            self.swarms.scrape(IpFamily::V4, &key).peers() > 0
        };
        let alive = (0..torrents).filter(has_peers).count();
        u32::try_from(alive).unwrap() * 100 / torrents
    }
}

/// A torrent with a name.
fn torrent(kind: u8, number: u32) -> InfoHash {
    let mut info_hash = [kind; 20];
    info_hash[..4].copy_from_slice(&number.to_be_bytes());
    InfoHash(info_hash)
}

/// A client in a part of the Internet that has 2^24 addresses.
fn client(part: u8, number: u32) -> CompactV4 {
    let [_, b, c, d] = number.to_be_bytes();
    CompactV4::new([part, b, c, d].into(), 6_881)
}

/// Lets honest clients and a seedbox come, and then the flood beside more honest clients, each of
/// which announces a torrent of its own and one that was there before. Nearly all of these must be
/// served, and those that were there must stay.
fn withstand(times: u32, mut flood: impl FnMut(&mut Fixture, u32)) {
    let fixture = &mut Fixture::new(BYTES_MAX * times as usize);
    for number in 0..OLD_CLIENTS {
        assert!(fixture.announce(torrent(1, number), client(10, number)));
    }
    for number in 0..SEEDBOX_TORRENTS {
        assert!(fixture.announce(torrent(2, number), client(100, 1)));
    }
    let (mut honest, mut served) = (0, [0, 0]);
    for number in 0..FLOOD * times {
        flood(fixture, number);
        if number.is_multiple_of(FLOOD_PER_HONEST) {
            honest += 1;
            let newcomer = client(20, honest);
            served[0] += u32::from(fixture.announce(torrent(3, honest), newcomer));
            let old = torrent(1, honest % OLD_CLIENTS);
            served[1] += u32::from(fixture.announce(old, newcomer));
        }
    }
    let percent = served.map(|served| served * 100 / honest);
    let old = fixture.percent_alive(1, OLD_CLIENTS);
    let new = fixture.percent_alive(3, honest);
    let seedbox = fixture.percent_alive(2, SEEDBOX_TORRENTS);
    let bytes = fixture.bytes_seen;
    let evicted: u64 = IpFamily::ALL
        .map(|family| fixture.reporting.counters.swarms.get(family).evicted.get())
        .iter()
        .sum();
    let all = format!(
        "{percent:?} % served; {old} % of the old, {seedbox} % of the seedbox, {new} % of the new \
         stayed; {bytes} bytes; {evicted} evicted"
    );
    println!("{all}");
    assert!(percent.iter().all(|percent| *percent >= 95), "{all}");
    assert!(old >= 99 && new >= 95, "{all}");
    assert!(seedbox >= 90, "{all}");
    assert!(
        bytes <= fixture.bytes_max && bytes >= fixture.bytes_max / 10 * 8,
        "{all}"
    );
    assert!(evicted > 1_000, "{all}");
}

#[test]
fn from_one_address() {
    withstand(1, |fixture, _| {
        let info_hash = fixture.random_hash();
        let port = fixture.rng.u16(1..);
        fixture.announce(info_hash, CompactV4::new([198, 51, 100, 1].into(), port));
    });
}

/// A flood that holds a fifth of the young torrents, and of whose own announces there are few: a
/// search may well miss it.
#[test]
fn that_is_slow_beside_many_newcomers() {
    let fixture = &mut Fixture::new(BYTES_MAX);
    let flood = |fixture: &mut Fixture| {
        let info_hash = fixture.random_hash();
        let port = fixture.rng.u16(1..);
        fixture.announce(info_hash, CompactV4::new([198, 51, 100, 1].into(), port));
    };
    // Until somebody has to give way.
    let mut honest = 0;
    while fixture.reporting.counters.swarms.v4.evicted.get() == 0 {
        assert!(honest < 100_000, "there is no bound");
        fixture.announce(torrent(1, honest), client(10, honest));
        honest += 1;
        let is_young = fixture.bytes_seen > BYTES_MAX * 6 / 10;
        if is_young && honest.is_multiple_of(4) {
            flood(fixture);
        }
    }
    let mut served = 0;
    for number in 0..3_000 {
        served += u32::from(fixture.announce(torrent(3, number), client(20, number)));
        if number.is_multiple_of(10) {
            flood(fixture);
        }
    }
    assert!(served >= 2_850, "{served} of 3,000 were served");
    assert!(fixture.bytes_seen <= BYTES_MAX);
}

#[test]
fn from_ten_thousand_addresses() {
    withstand(4, |fixture, number| {
        let info_hash = fixture.random_hash();
        fixture.announce(info_hash, client(50, number % 10_000));
    });
}

#[test]
fn of_torrents_with_peers_of_two_addresses() {
    withstand(1, |fixture, number| {
        let peer = client(50, number % 2 + number / 2 % 100);
        fixture.announce(torrent(9, number / 2), peer);
    });
}

#[test]
fn of_a_few_large_swarms() {
    withstand(1, |fixture, number| {
        for _ in 0..2 {
            let port = fixture.rng.u16(1..);
            let host = fixture.rng.u8(..200);
            let peer = CompactV4::new([198, 51, 100, host].into(), port);
            fixture.announce(torrent(9, number % 100), peer);
        }
    });
}

/// The flood is there before memory is scarce, and grows where it is.
#[test]
fn that_is_old_itself() {
    withstand(1, |fixture, number| {
        let (round, number) = (number / 25_000, number % 25_000);
        let peer = client(50, number % 10 + round * 10);
        fixture.announce(torrent(9, number), peer);
    });
}

#[test]
fn from_one_site_of_ipv6() {
    withstand(1, |fixture, _| {
        let info_hash = fixture.random_hash();
        let mut ip = [0; 16];
        fixture.rng.fill(&mut ip);
        ip[..6].copy_from_slice(&[0x2a, 0, 0, 1, 0, 1]);
        fixture.announce(info_hash, CompactV6::new(ip.into(), 1));
    });
}

/// Whoever has many torrents in the smaller family does not go before the flood in the other.
#[test]
fn of_one_family_costs_nobody_of_the_other() {
    const TORRENTS: u32 = 500;
    let fixture = &mut Fixture::new(BYTES_MAX);
    let flood = |fixture: &mut Fixture| {
        let mut ip = [0; 16];
        fixture.rng.fill(&mut ip);
        ip[..6].copy_from_slice(&[0x2a, 0, 0, 1, 0, 1]);
        let info_hash = fixture.random_hash();
        fixture.announce(info_hash, CompactV6::new(ip.into(), 1));
    };
    for _ in 0..FLOOD {
        flood(fixture);
    }
    for number in 0..TORRENTS {
        assert!(fixture.announce(torrent(2, number), client(100, 1)));
        flood(fixture);
    }
    for number in 0..5_000 {
        assert!(fixture.announce(torrent(3, number), client(20, number)));
        flood(fixture);
    }
    let seedbox = fixture.percent_alive(2, TORRENTS);
    assert!(seedbox >= 95, "{seedbox} % of the seedbox stayed");
    assert!(fixture.reporting.counters.swarms.v6.evicted.get() > 1_000);
}

/// The swarm of an honest torrent is itself the flood: from one site, 64 peers of each of its
/// networks.
#[test]
fn of_one_swarm_leaves_it_open() {
    let fixture = &mut Fixture::new(BYTES_MAX);
    let swarm = torrent(1, 1);
    let mut number = 0_u32;
    let mut flood = |fixture: &mut Fixture| {
        number += 1;
        let [_, b, c, d] = (number / 64).to_be_bytes();
        let ip = [0x2a, 0, 0, 1, 0, 1, c, d, b, 0, 0, 0, 0, 0, 0, 1];
        let port = u16::try_from(number % 64 + 1).unwrap();
        fixture.announce(swarm, CompactV6::new(ip.into(), port))
    };
    let mut peers = 0;
    while flood(fixture) {
        peers += 1;
        assert!(peers < 1_000_000, "there is no bound");
    }
    let mut served = 0;
    for number in 0..1_000_u32 {
        let [a, b, c, d] = number.to_be_bytes();
        let ip = [0x2a, 1, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        served += u32::from(fixture.announce(swarm, CompactV6::new(ip.into(), 1)));
        for _ in 0..30 {
            flood(fixture);
        }
    }
    assert!(served >= 990, "{served} of 1,000 were served");
}

/// The attack: fill the memory in one burst, between two slices of background work, so that nobody
/// has counted whose peers fill it.
#[test]
fn that_comes_at_once() {
    let mut fixture = Fixture::new(1 << 20);
    fixture.batch = u32::MAX;
    let peer = CompactV4::new([192, 0, 2, 1].into(), 6_881);
    let served = (0..60_000).filter(|number| fixture.announce(torrent(1, *number), peer));
    assert!(served.count() < 50_000, "there is room");
    let newcomer = |number: u32| CompactV4::new(std::net::Ipv4Addr::from(0x0a00_0000 + number), 1);
    let served = (0..200).filter(|number| fixture.announce(torrent(2, *number), newcomer(*number)));
    let served = served.count();
    assert!(served >= 198, "{served} of 200 newcomers");
}
