use std::num::NonZeroUsize;

use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};

use super::outbox::Unread;
use super::*;
use crate::shard::client_stats::ClientTag;

/// Swarms, and what they share with others.
struct Fixture {
    swarms: AddressSwarms<ClientTag>,
    access_list: SharedAccessList,
    reporting: Reporting,
    now_seconds: u32,
}

const SETTINGS: AddressSwarmsSettings = AddressSwarmsSettings {
    limits: Limits {
        max_torrents: None,
        max_peers: None,
        max_peers_per_network: None,
        max_response_peers_per_network: None,
    },
    peer_age_seconds_max: 1_200,
    maintenance: MaintenanceSettings {
        bytes_max: None,
        cleaning_interval_seconds: 120,
        report_interval_seconds: 5,
        peer_histograms: true,
    },
};

impl Fixture {
    fn new(limits: Limits, peers_per_ip_max: usize) -> Self {
        let access_list = SharedAccessList::new(AccessListMode::Deny, AccessList::default());
        let reporting = Reporting::default();
        let parts = AddressSwarmsParts {
            hash_key: HashKey::new([1, 2]),
            rng_seed: 3,
            access_list: access_list.reader(),
            peers_per_ip: NonZeroUsize::new(peers_per_ip_max)
                .map(|max| Arc::new(PerClientLimit::new(max))),
            reporting: reporting.clone(),
        };
        let settings = AddressSwarmsSettings { limits, ..SETTINGS };
        Self {
            swarms: AddressSwarms::new(settings, parts, Unread),
            access_list,
            reporting,
            now_seconds: 0,
        }
    }

    fn now(&self) -> Now {
        Now::from_micros(u64::from(self.now_seconds) * 1_000_000)
    }

    /// Announces a peer at 192.0.2.1, and says whether that was served.
    fn announce(&mut self, torrent: u8, port: u16, client: u8, status: PeerStatus) -> bool {
        let announce = Announce {
            peer: CompactV4::new([192, 0, 2, 1].into(), port),
            status,
            completed: false,
            num_want: 10,
        };
        let key = self.swarms.key(InfoHash([torrent; 20]));
        let deadline = self.now().seconds + SETTINGS.peer_age_seconds_max;
        let outcome = self
            .swarms
            .announce(deadline, &key, [client; 8], &announce, |_| ());
        outcome.is_ok()
    }

    fn maintain(&mut self) -> bool {
        self.swarms.maintain(self.now())
    }

    /// Lets time pass, cleans as often as is due, and lets the shard report.
    fn pass(&mut self, seconds: u32) {
        self.now_seconds += seconds;
        while self.maintain() {}
        self.now_seconds += SETTINGS.maintenance.report_interval_seconds;
        self.maintain();
    }

    fn clients(&mut self) -> Vec<(u8, usize)> {
        self.pass(0);
        let clients = self.reporting.report.clients().into_iter();
        let mut clients: Vec<_> = clients.map(|(prefix, peers)| (prefix[0], peers)).collect();
        clients.sort_unstable();
        clients
    }

    /// All the ways in which peers of the torrent leave.
    fn ways_out() -> [fn(&mut Self, u8); 3] {
        [
            |fixture, torrent| {
                for port in 1..=3 {
                    fixture.announce(torrent, port, 9, PeerStatus::Stopped);
                }
            },
            |fixture, _| fixture.pass(SETTINGS.peer_age_seconds_max + 1),
            |fixture, torrent| {
                fixture
                    .access_list
                    .replace([InfoHash([torrent; 20])].into_iter().collect());
                fixture.pass(SETTINGS.maintenance.cleaning_interval_seconds);
                fixture.access_list.replace(AccessList::default());
            },
        ]
    }
}

fn limits(max_torrents: usize, max_peers: usize) -> Limits {
    Limits {
        max_torrents: NonZeroUsize::new(max_torrents),
        max_peers: NonZeroUsize::new(max_peers),
        ..Limits::default()
    }
}

#[test]
fn clients_are_counted_exactly() {
    let mut fixture = Fixture::new(limits(0, 3), 0);
    for way_out in Fixture::ways_out() {
        fixture.announce(7, 1, 10, PeerStatus::Leecher);
        fixture.announce(7, 2, 10, PeerStatus::Seeder);
        fixture.announce(7, 3, 20, PeerStatus::Leecher);
        assert_eq!(fixture.clients(), [(10, 2), (20, 1)]);
        fixture.announce(7, 1, 20, PeerStatus::Seeder);
        assert_eq!(
            fixture.clients(),
            [(10, 1), (20, 2)],
            "a peer has changed its client"
        );
        assert!(!fixture.announce(7, 4, 30, PeerStatus::Leecher), "no room");
        fixture.announce(7, 5, 30, PeerStatus::Stopped);
        assert_eq!(fixture.clients(), [(10, 1), (20, 2)], "neither came in");
        way_out(&mut fixture, 7);
        assert_eq!(fixture.clients(), []);
    }
}

#[test]
fn peers_per_ip_are_released_on_every_way_out() {
    let mut fixture = Fixture::new(Limits::default(), 3);
    for way_out in Fixture::ways_out() {
        for port in 1..=3 {
            assert!(fixture.announce(7, port, 1, PeerStatus::Leecher));
        }
        assert!(!fixture.announce(8, 1, 1, PeerStatus::Leecher), "too many");
        assert!(
            fixture.announce(7, 1, 1, PeerStatus::Seeder),
            "it is known already"
        );
        fixture.announce(8, 1, 1, PeerStatus::Stopped);
        assert!(
            !fixture.announce(8, 2, 1, PeerStatus::Leecher),
            "no one has left"
        );
        way_out(&mut fixture, 7);
    }
}

#[test]
fn a_refusal_for_lack_of_room_releases_nothing_and_takes_nothing() {
    let mut fixture = Fixture::new(limits(1, 0), 2);
    assert!(fixture.announce(7, 1, 1, PeerStatus::Leecher));
    for port in 1..10 {
        assert!(!fixture.announce(8, port, 1, PeerStatus::Leecher));
    }
    assert!(fixture.announce(7, 2, 1, PeerStatus::Leecher));
    assert!(!fixture.announce(7, 3, 1, PeerStatus::Leecher));
}

#[test]
fn histograms_follow_each_cleaning() {
    let mut fixture = Fixture::new(Limits::default(), 0);
    assert!(fixture.reporting.report.histograms().is_none());
    for (torrent, peers) in [(1, 1), (2, 5), (3, 5), (4, 70)] {
        for port in 1..=peers {
            fixture.announce(torrent, port, 1, PeerStatus::Leecher);
        }
    }
    fixture.announce(5, 1, 1, PeerStatus::Stopped);
    fixture.pass(SETTINGS.maintenance.cleaning_interval_seconds);
    let histograms = fixture.reporting.report.histograms().unwrap();
    assert_eq!(histograms.v4.len(), 4);
    assert_eq!(
        [1, 5, 70].map(|size| histograms.v4.count_at(size)),
        [1, 2, 1]
    );
    assert_eq!(histograms.v6.len(), 0);
    fixture.pass(SETTINGS.peer_age_seconds_max + 1);
    assert_eq!(fixture.reporting.report.histograms().unwrap().v4.len(), 0);
}

#[test]
fn the_other_family_is_handed_out_by_the_same_rules() {
    let mut fixture = Fixture::new(Limits::default(), 0);
    fixture.announce(7, 1, 1, PeerStatus::Seeder);
    fixture.announce(7, 2, 1, PeerStatus::Leecher);
    fixture.announce(7, 3, 1, PeerStatus::Leecher);
    let key = fixture.swarms.key(InfoHash([7; 20]));
    let announcer = CompactV4::new([192, 0, 2, 1].into(), 2);
    for (status, outside, inside) in [
        (PeerStatus::Leecher, 3, 2),
        (PeerStatus::Seeder, 2, 1),
        (PeerStatus::Stopped, 0, 0),
    ] {
        let swarms = &mut fixture.swarms;
        assert_eq!(swarms.available::<CompactV4>(&key, status, None), outside);
        assert_eq!(swarms.available(&key, status, Some(&announcer)), inside);
        assert_eq!(swarms.available::<CompactV6>(&key, status, None), 0);
        let mut peers = 0;
        swarms.select_peers(&key, (status, None), 10, |_: &CompactV4| peers += 1);
        assert_eq!(peers, outside);
    }
}

#[test]
fn gauges_are_published_by_family() {
    let mut fixture = Fixture::new(Limits::default(), 0);
    fixture.announce(7, 1, 1, PeerStatus::Seeder);
    fixture.announce(7, 2, 1, PeerStatus::Leecher);
    fixture.maintain();
    let PerFamily { v4, v6 } = &fixture.reporting.counters.swarms;
    assert_eq!((v4.torrents.get(), v4.peers.get()), (1, 2));
    assert_eq!((v6.torrents.get(), v6.peers.get()), (0, 0));
    fixture.pass(SETTINGS.peer_age_seconds_max + 2);
    assert_eq!(fixture.reporting.counters.swarms.v4.peers.get(), 0);
}
