//! The swarms of both IP families in one shard, with everything that looks after them.
//!
//! For trackers whose peers are addresses (UDP, HTTP). A [`Registry`] knows who is in which swarm,
//! and keeps count of what comes and goes: client software, peers per IP address. Between batches
//! it does a slice of its [background work](Registry::background): forgetting, counting.
//!
//! It does not know requests: whether one may be served was decided before.

use std::net::IpAddr;
use std::sync::Arc;

use aquatic_access_list::AccessListReader;
use aquatic_daemon::clock::Now;
use aquatic_daemon::per_client::PerClient;
use aquatic_swarm::{
    Announced, CleaningVisitor, Counts, HashKey, Limits, PeerChange, PeerKey, Refusal, TorrentKey,
    TorrentMap,
};
use aquatic_types::{
    CompactAddr, CompactV4, CompactV6, InfoHash, IpFamily, PeerStatus, PerFamily, Seconds,
};

use crate::cleaning::{Cleaning, Slice};
use crate::clients::{ClientTable, PeerTag, Prefix};
use crate::counters::{ShardCounters, SwarmGauges};
use crate::report::{PeerHistograms, ShardReport, empty_histograms};

/// The swarms of both IP families.
pub type Swarms<V> = PerFamily<TorrentMap<CompactV4, V>, TorrentMap<CompactV6, V>>;

/// A peer's address: it says which of the [`Swarms`] the peer belongs to.
///
/// Implemented by [`CompactV4`] and [`CompactV6`].
pub trait PeerAddr: CompactAddr + PeerKey {
    /// The swarms of this family.
    fn swarms<V>(all: &Swarms<V>) -> &TorrentMap<Self, V>;

    /// The swarms of this family, to change them.
    fn swarms_mut<V>(all: &mut Swarms<V>) -> &mut TorrentMap<Self, V>;
}

impl PeerAddr for CompactV4 {
    fn swarms<V>(all: &Swarms<V>) -> &TorrentMap<Self, V> {
        &all.v4
    }

    fn swarms_mut<V>(all: &mut Swarms<V>) -> &mut TorrentMap<Self, V> {
        &mut all.v4
    }
}

impl PeerAddr for CompactV6 {
    fn swarms<V>(all: &Swarms<V>) -> &TorrentMap<Self, V> {
        &all.v6
    }

    fn swarms_mut<V>(all: &mut Swarms<V>) -> &mut TorrentMap<Self, V> {
        &mut all.v6
    }
}

/// What an operator has set.
#[derive(Clone, Copy, Debug)]
pub struct RegistrySettings {
    /// What this shard may hold, of each family.
    pub limits: Limits,
    /// After how many seconds a peer that no longer announces is forgotten.
    pub peer_age_seconds_max: u32,
    /// Seconds between two cleanings.
    pub cleaning_interval_seconds: u32,
    /// Seconds between two reports of client software.
    pub report_interval_seconds: u32,
    /// Whether to count how many peers torrents have, with each cleaning.
    pub peer_histograms: bool,
}

/// What shards share with each other and with the rest of the daemon.
pub struct RegistryParts {
    /// Drawn at random at start; the same for all shards.
    pub hash_key: HashKey,
    /// Seeds this shard's choice of peers.
    pub rng_seed: u64,
    /// Which torrents stay.
    pub access_list: AccessListReader,
    /// Peers per client, if limited.
    pub peers_per_ip: Option<Arc<PerClient>>,
    /// Where this shard reports what is too large for counters.
    pub report: Arc<ShardReport>,
}

/// What a peer announces to one torrent.
#[derive(Clone, Copy, Debug)]
pub struct Announce<K> {
    /// Its address.
    pub peer: K,
    /// The first bytes of its peer id, which name the software (BEP 20).
    pub client: Prefix,
    /// Seeder, leecher or leaving.
    pub status: PeerStatus,
    /// The download has just finished.
    pub completed: bool,
    /// How many peers of the same family to hand out at most.
    pub peers_wanted: usize,
}

/// What an announcer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// How large the swarm of its family is.
    pub counts: Counts,
    /// Whether it was kept out of the swarm, since its address has as many peers there as are
    /// allowed: see [`PeerChange::NotAdded`].
    pub is_kept_out: bool,
    /// See [`Announced::surplus`].
    pub surplus: u32,
}

/// See the [module](self).
pub struct Registry<V> {
    swarms: Swarms<V>,
    rng: fastrand::Rng,
    doorkeeper: Doorkeeper,
    cleaning: Cleaning<IpFamily>,
    /// Of the cleaning that is going on, if they are wanted.
    histograms: Option<PeerHistograms>,
    report: Arc<ShardReport>,
    next_report_seconds: Seconds,
    settings: RegistrySettings,
}

impl<V: PeerTag> Registry<V> {
    /// An empty registry.
    #[must_use]
    pub fn new(settings: RegistrySettings, parts: RegistryParts) -> Self {
        Self {
            swarms: PerFamily {
                v4: TorrentMap::new(parts.hash_key, settings.limits),
                v6: TorrentMap::new(parts.hash_key, settings.limits),
            },
            rng: fastrand::Rng::with_seed(parts.rng_seed),
            doorkeeper: Doorkeeper {
                clients: ClientTable::new(),
                access_list: parts.access_list,
                peers_per_ip: parts.peers_per_ip,
            },
            cleaning: Cleaning::new(&IpFamily::ALL, settings.cleaning_interval_seconds),
            histograms: settings.peer_histograms.then(empty_histograms),
            report: parts.report,
            next_report_seconds: Seconds(0) + settings.report_interval_seconds,
            settings,
        }
    }

    /// Hashes an info hash for the other operations.
    #[must_use]
    pub fn key(&self, info_hash: InfoHash) -> TorrentKey {
        self.swarms.v4.key(info_hash)
    }

    /// Fetches what a batch of requests is going to read into the cache: see
    /// [`TorrentMap::touch`].
    pub fn touch<K: PeerAddr>(&self, keys: &[TorrentKey]) {
        K::swarms(&self.swarms).touch(keys);
    }

    /// The same, for the places of announcers in large swarms: see [`TorrentMap::touch_peers`].
    pub fn touch_peers<K: PeerAddr>(
        &self,
        keys: &[TorrentKey],
        peers: impl IntoIterator<Item = K>,
    ) {
        K::swarms(&self.swarms).touch_peers(keys, peers);
    }

    /// Notes what a peer says and hands other peers of its family out to it: see
    /// [`TorrentMap::announce`].
    ///
    /// # Errors
    /// When the announcer is new and there is no room for it. Nothing was changed then.
    pub fn announce<K: PeerAddr>(
        &mut self,
        now: Now,
        key: &TorrentKey,
        announce: &Announce<K>,
        mut hand_out: impl FnMut(&K),
    ) -> Result<Answered, Refusal> {
        let doorkeeper = &mut self.doorkeeper;
        let tag = V::count(announce.client, &mut doorkeeper.clients);
        let peers_per_ip = doorkeeper.peers_per_ip.as_deref();
        let outcome = K::swarms_mut(&mut self.swarms).announce(
            key,
            aquatic_swarm::Announce {
                peer: announce.peer,
                value: tag,
                status: announce.status,
                completed: announce.completed,
                peers_wanted: announce.peers_wanted,
                deadline: now.seconds + self.settings.peer_age_seconds_max,
            },
            &mut self.rng,
            |peer| peers_per_ip.is_none_or(|limit| limit.admit(ip_of(peer))),
            |peer, _| hand_out(peer),
        );
        doorkeeper.settle(tag, &announce.peer, &outcome);
        outcome.map(|announced| Answered {
            counts: announced.counts,
            is_kept_out: matches!(announced.change, PeerChange::NotAdded),
            surplus: announced.surplus,
        })
    }

    /// How many peers of a family could be handed out: see [`TorrentMap::available`].
    #[must_use]
    pub fn available<K: PeerAddr>(
        &self,
        key: &TorrentKey,
        to: PeerStatus,
        peer: Option<&K>,
    ) -> u32 {
        K::swarms(&self.swarms).available(key, to, peer)
    }

    /// Hands peers of one family out, to `peer` or to somebody of the other family: see
    /// [`TorrentMap::hand_out`].
    pub fn hand_out<K: PeerAddr>(
        &mut self,
        key: &TorrentKey,
        to: (PeerStatus, Option<&K>),
        peers_wanted: usize,
        mut hand_out: impl FnMut(&K),
    ) -> u32 {
        let swarms = K::swarms(&self.swarms);
        swarms.hand_out(key, to, peers_wanted, &mut self.rng, |peer, _| {
            hand_out(peer);
        })
    }

    /// How large the swarm of one family is; zeros when the torrent is unknown.
    #[must_use]
    pub fn scrape(&self, family: IpFamily, key: &TorrentKey) -> Counts {
        match family {
            IpFamily::V4 => self.swarms.v4.scrape(key),
            IpFamily::V6 => self.swarms.v6.scrape(key),
        }
    }

    /// All swarms, to look at them.
    #[must_use]
    pub fn swarms(&self) -> &Swarms<V> {
        &self.swarms
    }

    /// This shard's source of randomness.
    pub fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.rng
    }

    /// Does a slice of whatever is due. Returns whether there is more to do at once.
    pub fn background(&mut self, now: Now, counters: &ShardCounters) -> bool {
        self.publish_gauges(counters);
        self.doorkeeper.access_list.refresh();
        if now.seconds >= self.next_report_seconds {
            self.next_report_seconds = now.seconds + self.settings.report_interval_seconds;
            self.report.set_clients(self.doorkeeper.clients.iter());
        }
        self.clean(now, counters)
    }

    fn publish_gauges(&self, counters: &ShardCounters) {
        publish(&self.swarms.v4, &counters.swarms.v4);
        publish(&self.swarms.v6, &counters.swarms.v6);
    }

    /// Forgets peers that no longer announce, torrents without peers, and torrents that are no
    /// longer allowed.
    fn clean(&mut self, now: Now, counters: &ShardCounters) -> bool {
        let Self {
            swarms,
            doorkeeper,
            histograms,
            ..
        } = self;
        let slice = self.cleaning.slice(now, |family, cursor, budget| {
            let histogram = histograms
                .as_mut()
                .map(|histograms| histograms.get_mut(family));
            let visitor = &mut Visitor {
                doorkeeper,
                histogram,
            };
            match family {
                IpFamily::V4 => swarms.v4.clean(cursor, now.seconds, budget, visitor),
                IpFamily::V6 => swarms.v6.clean(cursor, now.seconds, budget, visitor),
            }
        });
        if let Slice::Finished { micros } = slice {
            let micros = usize::try_from(micros).unwrap_or(usize::MAX);
            counters.cleaning_micros.set(micros);
            if let Some(histograms) = histograms {
                let finished = std::mem::replace(histograms, empty_histograms());
                self.report.set_histograms(finished);
            }
        }
        slice == Slice::More
    }
}

fn publish<K: PeerAddr, V>(swarms: &TorrentMap<K, V>, gauges: &SwarmGauges) {
    gauges.torrents.set(swarms.torrents());
    gauges.peers.set(swarms.peers());
    gauges.seeders.set(swarms.seeders());
    gauges.completed.set(swarms.completed());
}

/// Who may come in, and who is there.
struct Doorkeeper {
    clients: ClientTable,
    access_list: AccessListReader,
    peers_per_ip: Option<Arc<PerClient>>,
}

impl Doorkeeper {
    /// Makes up for the tag that was counted before it was known what becomes of the peer.
    fn settle<K: CompactAddr, V: PeerTag>(
        &mut self,
        tag: V,
        peer: &K,
        outcome: &Result<Announced<V>, Refusal>,
    ) {
        match outcome.as_ref().map(|announced| announced.change) {
            Ok(PeerChange::Added) => {}
            Ok(PeerChange::Updated(old)) => old.discount(&mut self.clients),
            Ok(PeerChange::Absent | PeerChange::NotAdded) | Err(_) => {
                tag.discount(&mut self.clients)
            }
            Ok(PeerChange::Removed(old)) => {
                tag.discount(&mut self.clients);
                self.has_left(peer, old);
            }
        }
    }

    fn has_left<K: CompactAddr, V: PeerTag>(&mut self, peer: &K, tag: V) {
        tag.discount(&mut self.clients);
        if let Some(limit) = &self.peers_per_ip {
            limit.release(ip_of(peer));
        }
    }
}

fn ip_of<K: CompactAddr>(peer: &K) -> IpAddr {
    peer.socket_addr().ip()
}

/// Decides during a cleaning, and counts what it sees.
struct Visitor<'a> {
    doorkeeper: &'a mut Doorkeeper,
    histogram: Option<&'a mut hdrhistogram::Histogram<u32>>,
}

impl<K: CompactAddr, V: PeerTag> CleaningVisitor<K, V> for Visitor<'_> {
    fn keep(&mut self, info_hash: &InfoHash) -> bool {
        self.doorkeeper.access_list.is_allowed(info_hash)
    }

    fn peer_removed(&mut self, peer: &K, tag: V) {
        self.doorkeeper.has_left(peer, tag);
    }

    fn torrent_remains(&mut self, _: &InfoHash, counts: Counts) {
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(u64::from(counts.peers()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};

    use super::*;
    use crate::clients::ClientTag;

    /// A registry, and what it shares with others.
    struct Desk {
        registry: Registry<ClientTag>,
        access_list: SharedAccessList,
        report: Arc<ShardReport>,
        counters: ShardCounters,
        now_seconds: u32,
    }

    const SETTINGS: RegistrySettings = RegistrySettings {
        limits: Limits {
            max_torrents: None,
            max_peers: None,
            max_peers_per_network: None,
            max_response_peers_per_network: None,
        },
        peer_age_seconds_max: 1_200,
        cleaning_interval_seconds: 120,
        report_interval_seconds: 5,
        peer_histograms: true,
    };

    impl Desk {
        fn new(limits: Limits, peers_per_ip_max: usize) -> Self {
            let access_list = SharedAccessList::new(AccessListMode::Deny, AccessList::default());
            let report = Arc::new(ShardReport::default());
            let parts = RegistryParts {
                hash_key: HashKey::new([1, 2]),
                rng_seed: 3,
                access_list: access_list.reader(),
                peers_per_ip: NonZeroUsize::new(peers_per_ip_max)
                    .map(|max| Arc::new(PerClient::new(max))),
                report: Arc::clone(&report),
            };
            let settings = RegistrySettings { limits, ..SETTINGS };
            Self {
                registry: Registry::new(settings, parts),
                access_list,
                report,
                counters: ShardCounters::default(),
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
                client: [client; 8],
                status,
                completed: false,
                peers_wanted: 10,
            };
            let key = self.registry.key(InfoHash([torrent; 20]));
            let outcome = self.registry.announce(self.now(), &key, &announce, |_| ());
            outcome.is_ok()
        }

        fn background(&mut self) -> bool {
            self.registry.background(self.now(), &self.counters)
        }

        /// Lets time pass, cleans as often as is due, and lets the shard report.
        fn pass(&mut self, seconds: u32) {
            self.now_seconds += seconds;
            while self.background() {}
            self.now_seconds += SETTINGS.report_interval_seconds;
            self.background();
        }

        fn clients(&mut self) -> Vec<(u8, usize)> {
            self.pass(0);
            let clients = self.report.clients().into_iter();
            let mut clients: Vec<_> = clients.map(|(prefix, peers)| (prefix[0], peers)).collect();
            clients.sort_unstable();
            clients
        }

        /// All the ways in which peers of the torrent leave.
        fn ways_out() -> [fn(&mut Self, u8); 3] {
            [
                |desk, torrent| {
                    for port in 1..=3 {
                        desk.announce(torrent, port, 9, PeerStatus::Stopped);
                    }
                },
                |desk, _| desk.pass(SETTINGS.peer_age_seconds_max + 1),
                |desk, torrent| {
                    desk.access_list
                        .replace([InfoHash([torrent; 20])].into_iter().collect());
                    desk.pass(SETTINGS.cleaning_interval_seconds);
                    desk.access_list.replace(AccessList::default());
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
        let mut desk = Desk::new(limits(0, 3), 0);
        for way_out in Desk::ways_out() {
            desk.announce(7, 1, 10, PeerStatus::Leecher);
            desk.announce(7, 2, 10, PeerStatus::Seeder);
            desk.announce(7, 3, 20, PeerStatus::Leecher);
            assert_eq!(desk.clients(), [(10, 2), (20, 1)]);
            desk.announce(7, 1, 20, PeerStatus::Seeder);
            assert_eq!(
                desk.clients(),
                [(10, 1), (20, 2)],
                "a peer has changed its client"
            );
            assert!(!desk.announce(7, 4, 30, PeerStatus::Leecher), "no room");
            desk.announce(7, 5, 30, PeerStatus::Stopped);
            assert_eq!(desk.clients(), [(10, 1), (20, 2)], "neither came in");
            way_out(&mut desk, 7);
            assert_eq!(desk.clients(), []);
        }
    }

    #[test]
    fn peers_per_ip_are_released_on_every_way_out() {
        let mut desk = Desk::new(Limits::default(), 3);
        for way_out in Desk::ways_out() {
            for port in 1..=3 {
                assert!(desk.announce(7, port, 1, PeerStatus::Leecher));
            }
            assert!(!desk.announce(8, 1, 1, PeerStatus::Leecher), "too many");
            assert!(
                desk.announce(7, 1, 1, PeerStatus::Seeder),
                "it is known already"
            );
            desk.announce(8, 1, 1, PeerStatus::Stopped);
            assert!(
                !desk.announce(8, 2, 1, PeerStatus::Leecher),
                "no one has left"
            );
            way_out(&mut desk, 7);
        }
    }

    #[test]
    fn a_refusal_for_lack_of_room_releases_nothing_and_takes_nothing() {
        let mut desk = Desk::new(limits(1, 0), 2);
        assert!(desk.announce(7, 1, 1, PeerStatus::Leecher));
        for port in 1..10 {
            assert!(!desk.announce(8, port, 1, PeerStatus::Leecher));
        }
        assert!(desk.announce(7, 2, 1, PeerStatus::Leecher));
        assert!(!desk.announce(7, 3, 1, PeerStatus::Leecher));
    }

    #[test]
    fn histograms_follow_each_cleaning() {
        let mut desk = Desk::new(Limits::default(), 0);
        assert!(desk.report.histograms().is_none());
        for (torrent, peers) in [(1, 1), (2, 5), (3, 5), (4, 70)] {
            for port in 1..=peers {
                desk.announce(torrent, port, 1, PeerStatus::Leecher);
            }
        }
        desk.announce(5, 1, 1, PeerStatus::Stopped);
        desk.pass(SETTINGS.cleaning_interval_seconds);
        let histograms = desk.report.histograms().unwrap();
        assert_eq!(histograms.v4.len(), 4);
        assert_eq!(
            [1, 5, 70].map(|size| histograms.v4.count_at(size)),
            [1, 2, 1]
        );
        assert_eq!(histograms.v6.len(), 0);
        desk.pass(SETTINGS.peer_age_seconds_max + 1);
        assert_eq!(desk.report.histograms().unwrap().v4.len(), 0);
    }

    #[test]
    fn the_other_family_is_handed_out_by_the_same_rules() {
        let mut desk = Desk::new(Limits::default(), 0);
        desk.announce(7, 1, 1, PeerStatus::Seeder);
        desk.announce(7, 2, 1, PeerStatus::Leecher);
        desk.announce(7, 3, 1, PeerStatus::Leecher);
        let key = desk.registry.key(InfoHash([7; 20]));
        let announcer = CompactV4::new([192, 0, 2, 1].into(), 2);
        for (status, outside, inside) in [
            (PeerStatus::Leecher, 3, 2),
            (PeerStatus::Seeder, 2, 1),
            (PeerStatus::Stopped, 0, 0),
        ] {
            let registry = &mut desk.registry;
            assert_eq!(registry.available::<CompactV4>(&key, status, None), outside);
            assert_eq!(registry.available(&key, status, Some(&announcer)), inside);
            assert_eq!(registry.available::<CompactV6>(&key, status, None), 0);
            let mut peers = 0;
            registry.hand_out(&key, (status, None), 10, |_: &CompactV4| peers += 1);
            assert_eq!(peers, outside);
        }
    }

    #[test]
    fn gauges_are_published_by_family() {
        let mut desk = Desk::new(Limits::default(), 0);
        desk.announce(7, 1, 1, PeerStatus::Seeder);
        desk.announce(7, 2, 1, PeerStatus::Leecher);
        desk.background();
        let PerFamily { v4, v6 } = &desk.counters.swarms;
        assert_eq!((v4.torrents.get(), v4.peers.get()), (1, 2));
        assert_eq!((v6.torrents.get(), v6.peers.get()), (0, 0));
        desk.pass(SETTINGS.peer_age_seconds_max + 2);
        assert_eq!(desk.counters.swarms.v4.peers.get(), 0);
    }
}
