//! The swarms of both IP families in one shard, with everything that looks after them.
//!
//! For trackers whose peers are addresses (UDP, HTTP). A [`Registry`] knows who is in which swarm,
//! and keeps count of what comes and goes: client software, peers per IP address. Between batches
//! it does a slice of its [background work](Registry::background): forgetting, counting.
//!
//! Its memory has a bound. When that is reached, torrents of those who have many give way to those
//! who have few (`memory`).
//!
//! It does not know requests: whether one may be served was decided before.

mod memory;

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use aquatic_access_list::AccessListReader;
use aquatic_daemon::clock::Now;
use aquatic_daemon::per_client::PerClient;
use aquatic_swarm::{
    Announce, Announced, BoundedMaps, CleaningVisitor, Counts, HashKey, Limits, PeerChange,
    PeerKey, PeerPolicy, Refusal, Room, TorrentKey, TorrentMap,
};
use aquatic_types::{
    CompactAddr, CompactV4, CompactV6, InfoHash, IpFamily, PeerStatus, PerFamily, Seconds,
};

use crate::cleaning::{Cleaning, Slice};
use crate::clients::{ClientPrefix, ClientTable, PeerTag};
use crate::counters::{ShardCounters, SwarmGauges};
use crate::report::{PeerHistograms, ShardReport, empty_histograms};

use self::memory::network_of;

/// The swarms of both IP families.
pub type Swarms<V> = PerFamily<TorrentMap<CompactV4, V>, TorrentMap<CompactV6, V>>;

/// A peer's address: it says which of the [`Swarms`] the peer belongs to.
///
/// Implemented by [`CompactV4`] and [`CompactV6`].
pub trait PeerAddr: CompactAddr + PeerKey {
    /// The family.
    const FAMILY: IpFamily;

    /// The swarms of this family.
    fn swarms<V>(all: &Swarms<V>) -> &TorrentMap<Self, V>;

    /// The swarms of this family, to change them.
    fn swarms_mut<V>(all: &mut Swarms<V>) -> &mut TorrentMap<Self, V>;
}

impl PeerAddr for CompactV4 {
    const FAMILY: IpFamily = IpFamily::V4;

    fn swarms<V>(all: &Swarms<V>) -> &TorrentMap<Self, V> {
        &all.v4
    }

    fn swarms_mut<V>(all: &mut Swarms<V>) -> &mut TorrentMap<Self, V> {
        &mut all.v4
    }
}

impl PeerAddr for CompactV6 {
    const FAMILY: IpFamily = IpFamily::V6;

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
    /// Bytes that the torrents of this shard may take, of both families together; `None` means no
    /// bound.
    pub bytes_max: Option<NonZeroUsize>,
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
    room: Room,
    /// Peers that have had to give way, since the start.
    evicted: PerFamily<usize>,
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
            room: Room::new(settings.bytes_max, parts.hash_key),
            evicted: PerFamily::default(),
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
    /// [`TorrentMap::announce`]. `client` is the beginning of its peer id, which names the software
    /// (BEP 20).
    ///
    /// # Errors
    /// When the announcer is new and there is no room for it. Nothing was changed then.
    #[inline]
    pub fn announce<K: PeerAddr>(
        &mut self,
        now: Now,
        key: &TorrentKey,
        client: ClientPrefix,
        announce: &Announce<K>,
        mut hand_out: impl FnMut(&K),
    ) -> Result<Answered, Refusal> {
        let mut outcome = self.tell(now, key, client, announce, &mut hand_out);
        let network = network_of(&announce.peer);
        let is_full = |registry: &Self| K::swarms(&registry.swarms).is_full();
        if matches!(outcome, Err(Refusal::MemoryLimit)) && self.make_room(network, key, is_full) {
            outcome = self.tell_again(now, key, client, announce, &mut hand_out);
        }
        match outcome.as_ref().map(|announced| announced.change) {
            Ok(PeerChange::Added) => self.note_added(network),
            Ok(PeerChange::Removed(tag)) => self.doorkeeper.has_left(&announce.peer, tag),
            Ok(PeerChange::Updated | PeerChange::Absent | PeerChange::NotAdded) | Err(_) => {}
        }
        outcome.map(|announced| Answered {
            counts: announced.counts,
            is_kept_out: matches!(announced.change, PeerChange::NotAdded),
            surplus: announced.surplus,
        })
    }

    #[inline(always)]
    fn tell<K: PeerAddr>(
        &mut self,
        now: Now,
        key: &TorrentKey,
        client: ClientPrefix,
        announce: &Announce<K>,
        hand_out: &mut impl FnMut(&K),
    ) -> Result<Announced<V>, Refusal> {
        let policy = &mut Admission {
            clients: &mut self.doorkeeper.clients,
            client,
            peers_per_ip: self.doorkeeper.peers_per_ip.as_deref(),
        };
        K::swarms_mut(&mut self.swarms).announce(
            key,
            announce,
            now.seconds + self.settings.peer_age_seconds_max,
            policy,
            &mut self.rng,
            |peer, _| hand_out(peer),
        )
    }

    /// The same, out of the way of all those for whom there is room at once.
    #[cold]
    #[inline(never)]
    fn tell_again<K: PeerAddr>(
        &mut self,
        now: Now,
        key: &TorrentKey,
        client: ClientPrefix,
        announce: &Announce<K>,
        hand_out: &mut impl FnMut(&K),
    ) -> Result<Announced<V>, Refusal> {
        self.tell(now, key, client, announce, hand_out)
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
        self.share_memory();
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
        for family in IpFamily::ALL {
            let evicted = *self.evicted.get(family);
            counters.swarms.get(family).evicted.set(evicted);
        }
    }

    /// Forgets peers that no longer announce, torrents without peers, and torrents that are no
    /// longer allowed.
    fn clean(&mut self, now: Now, counters: &ShardCounters) -> bool {
        let Self {
            swarms,
            doorkeeper,
            room,
            histograms,
            ..
        } = self;
        let slice = self.cleaning.slice(now, |family, cursor, budget| {
            let histogram = histograms
                .as_mut()
                .map(|histograms| histograms.get_mut(family));
            let visitor = &mut Visitor {
                doorkeeper,
                room,
                histogram,
            };
            match family {
                IpFamily::V4 => swarms.v4.clean(cursor, now.seconds, budget, visitor),
                IpFamily::V6 => swarms.v6.clean(cursor, now.seconds, budget, visitor),
            }
        });
        if let Slice::Finished { micros } = slice {
            room.pass_ended();
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
    fn has_left<K: CompactAddr, V: PeerTag>(&mut self, peer: &K, tag: V) {
        tag.discount(&mut self.clients);
        if let Some(limit) = &self.peers_per_ip {
            limit.release(ip_of(peer));
        }
    }
}

/// Of one announce.
struct Admission<'a> {
    clients: &'a mut ClientTable,
    client: ClientPrefix,
    peers_per_ip: Option<&'a PerClient>,
}

impl<K: CompactAddr, V: PeerTag> PeerPolicy<K, V> for Admission<'_> {
    fn admit(&mut self, peer: &K) -> Option<V> {
        let is_admitted = |limit: &PerClient| limit.admit(ip_of(peer));
        let is_admitted = self.peers_per_ip.is_none_or(is_admitted);
        is_admitted.then(|| V::count(self.client, self.clients))
    }

    fn update(&mut self, tag: &mut V) {
        tag.recount(self.client, self.clients);
    }
}

fn ip_of<K: CompactAddr>(peer: &K) -> IpAddr {
    peer.socket_addr().ip()
}

/// Decides during a cleaning, and counts what it sees.
struct Visitor<'a> {
    doorkeeper: &'a mut Doorkeeper,
    room: &'a mut Room,
    histogram: Option<&'a mut hdrhistogram::Histogram<u32>>,
}

impl<K: PeerAddr, V: PeerTag> CleaningVisitor<K, V> for Visitor<'_> {
    fn keep(&mut self, info_hash: &InfoHash) -> bool {
        self.doorkeeper.access_list.is_allowed(info_hash)
    }

    fn peer_remains(&mut self, peer: &K, _: &mut V) {
        self.room.remains(network_of(peer));
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
mod tests;
