//! The swarms of both IP families in one shard, with everything that looks after them.
//!
//! For trackers whose peers are addresses (UDP, HTTP). An [`AddressSwarms`] knows who is in which
//! swarm, and keeps count of what comes and goes: client software, peers per IP address. Between
//! batches it is [maintained](Shard::maintain) a slice at a time: forgetting, counting.
//!
//! Its memory has a bound. When that is reached, torrents of those who have many give way to those
//! who have few (`memory`).
//!
//! It does not know requests: whether one may be served was decided before.

mod apply;
mod build;
pub(crate) mod kinds;
mod live;
mod memory;
pub mod outbox;
mod persist;
mod read;

use std::net::IpAddr;
use std::sync::Arc;

use aquatic_access_list::AccessListReader;
use aquatic_daemon::clock::Now;
use aquatic_daemon::per_client::PerClientLimit;
use aquatic_swarm::{
    Announce, Announced, BoundedMaps, CleaningCursor, CleaningVisitor, Counts, HashKey, Limits,
    PeerChange, PeerKey, PeerPolicy, Previous, Refusal, TorrentKey, TorrentKeys, TorrentMap,
};
use aquatic_swarm_log::{PeerAddress, PeerRecord, RecordBuffer};
use aquatic_types::{
    CompactAddr, CompactV4, CompactV6, InfoHash, IpFamily, PeerStatus, PerFamily, Seconds,
};

use crate::metrics::counters::SwarmGauges;
use crate::shard::client_stats::{ClientPrefix, ClientTable, PeerTag};
use crate::shard::maintenance::{Cleaner, Maintained, Maintenance, MaintenanceSettings, Reporting};
use crate::shard::{Batch, Shard};

pub use self::apply::Taken;
pub use self::build::{
    AddressShardConfig, AddressShardParts, AddressShards, Connected, FinishedShards,
};
pub use self::kinds::{AddressShard, AddressTag, Shared};
pub use self::live::LiveAddressShards;
use self::memory::network_of;
use self::outbox::{Journal, Outbox};

/// The swarms of both IP families.
pub type Swarms<V> = PerFamily<TorrentMap<CompactV4, V>, TorrentMap<CompactV6, V>>;

/// Records of peers of both IP families.
pub type PeerRecords =
    PerFamily<RecordBuffer<PeerRecord<CompactV4>>, RecordBuffer<PeerRecord<CompactV6>>>;

/// A peer's address: it says which of the [`Swarms`] the peer belongs to.
///
/// Implemented by [`CompactV4`] and [`CompactV6`].
pub trait PeerAddr: CompactAddr + PeerKey + PeerAddress {
    /// The family.
    const FAMILY: IpFamily;

    /// The swarms of this family.
    fn swarms<V>(all: &Swarms<V>) -> &TorrentMap<Self, V>;

    /// The swarms of this family, to change them.
    fn swarms_mut<V>(all: &mut Swarms<V>) -> &mut TorrentMap<Self, V>;

    /// The records of this family.
    fn records(all: &mut PeerRecords) -> &mut RecordBuffer<PeerRecord<Self>>;
}

impl PeerAddr for CompactV4 {
    const FAMILY: IpFamily = IpFamily::V4;

    fn swarms<V>(all: &Swarms<V>) -> &TorrentMap<Self, V> {
        &all.v4
    }

    fn swarms_mut<V>(all: &mut Swarms<V>) -> &mut TorrentMap<Self, V> {
        &mut all.v4
    }

    fn records(all: &mut PeerRecords) -> &mut RecordBuffer<PeerRecord<Self>> {
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

    fn records(all: &mut PeerRecords) -> &mut RecordBuffer<PeerRecord<Self>> {
        &mut all.v6
    }
}

/// What an operator has set.
#[derive(Clone, Copy, Debug)]
pub struct AddressSwarmsSettings {
    /// What this shard may hold, of each family.
    pub limits: Limits,
    /// How long something is remembered at most of which nothing is heard: peers that a former
    /// process has written down, or counts of downloads.
    pub peer_age_seconds_max: u32,
    /// How the shard is looked after.
    pub maintenance: MaintenanceSettings,
}

/// What shards share with each other and with the rest of the daemon.
pub struct AddressSwarmsParts {
    /// Drawn at random at start; the same for all shards.
    pub hash_key: HashKey,
    /// Seeds this shard's choice of peers.
    pub rng_seed: u64,
    /// Which torrents stay.
    pub access_list: AccessListReader,
    /// Peers per client, if limited.
    pub peers_per_ip: Option<Arc<PerClientLimit>>,
    /// Where this shard tells about itself.
    pub reporting: Reporting,
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
pub struct AddressSwarms<V: AddressTag> {
    maps: AddressMaps<V>,
    rng: fastrand::Rng,
    maintenance: Maintenance,
    peer_age_seconds_max: u32,
    journal: V::Journal,
}

/// The swarms, and who may be in them.
struct AddressMaps<V> {
    swarms: Swarms<V>,
    access_list: AccessListReader,
    peers_per_ip: Option<Arc<PerClientLimit>>,
}

impl<V: AddressTag> AddressSwarms<V> {
    /// Empty swarms, of which this journal hears.
    #[must_use]
    pub fn new(
        settings: AddressSwarmsSettings,
        parts: AddressSwarmsParts,
        journal: V::Journal,
    ) -> Self {
        let AddressSwarmsSettings {
            limits,
            peer_age_seconds_max,
            maintenance,
        } = settings;
        Self {
            maps: AddressMaps {
                swarms: PerFamily {
                    v4: TorrentMap::new(parts.hash_key, limits),
                    v6: TorrentMap::new(parts.hash_key, limits),
                },
                access_list: parts.access_list,
                peers_per_ip: parts.peers_per_ip,
            },
            rng: fastrand::Rng::with_seed(parts.rng_seed),
            maintenance: Maintenance::new(maintenance, parts.hash_key, parts.reporting),
            peer_age_seconds_max,
            journal,
        }
    }

    /// Hashes an info hash for the other operations.
    #[must_use]
    pub fn key(&self, info_hash: InfoHash) -> TorrentKey {
        self.maps.swarms.v4.key(info_hash)
    }

    /// The same for the first [`PREFETCH_BATCH`](aquatic_swarm::PREFETCH_BATCH) of these.
    pub fn keys(&self, info_hashes: impl IntoIterator<Item = InfoHash>) -> TorrentKeys {
        self.maps.swarms.v4.keys(info_hashes)
    }

    /// Fetches what a batch of requests is going to read into the cache: see
    /// [`TorrentMap::prefetch`].
    pub fn prefetch<K: PeerAddr>(&self, keys: &[TorrentKey]) {
        K::swarms(&self.maps.swarms).prefetch(keys);
    }

    /// The same, for the places of announcers in large swarms: see [`TorrentMap::prefetch_peers`].
    pub fn prefetch_peers<K: PeerAddr>(
        &self,
        keys: &[TorrentKey],
        peers: impl IntoIterator<Item = K>,
    ) {
        K::swarms(&self.maps.swarms).prefetch_peers(keys, peers);
    }

    /// Notes what a peer says and hands other peers of its family out to it: see
    /// [`TorrentMap::announce`]. `client` is the beginning of its peer id, which names the software
    /// (BEP 20). It is forgotten at `deadline` unless it announces again.
    ///
    /// # Errors
    /// When the announcer is new and there is no room for it. Nothing was changed then.
    #[inline]
    pub fn announce<K: PeerAddr>(
        &mut self,
        deadline: Seconds,
        key: &TorrentKey,
        client: ClientPrefix,
        announce: &Announce<K>,
        mut select_peers: impl FnMut(&K),
    ) -> Result<Answered, Refusal> {
        let (mut outcome, mut before) =
            self.tell(deadline, key, client, announce, &mut select_peers);
        let network = network_of(&announce.peer);
        let is_full = |swarms: &Self| K::swarms(&swarms.maps.swarms).is_full();
        if matches!(outcome, Err(Refusal::MemoryLimit)) && self.make_room(network, key, is_full) {
            (outcome, before) = self.tell_again(deadline, key, client, announce, &mut select_peers);
        }
        if let Ok(announced) = &outcome {
            let change = &announced.change;
            self.journal.note(key, announce, deadline, change, before);
        }
        match outcome.as_ref().map(|announced| announced.change) {
            Ok(PeerChange::Added) => self.note_added(network),
            Ok(PeerChange::Removed(tag)) => {
                let clients = &mut self.maintenance.clients;
                let peers_per_ip = self.maps.peers_per_ip.as_deref();
                has_left(clients, peers_per_ip, &announce.peer, tag);
            }
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
        deadline: Seconds,
        key: &TorrentKey,
        client: ClientPrefix,
        announce: &Announce<K>,
        select_peers: &mut impl FnMut(&K),
    ) -> (Result<Announced<V>, Refusal>, Before<V>) {
        let policy = &mut AnnouncerPolicy::<V> {
            clients: &mut self.maintenance.clients,
            client,
            peers_per_ip: self.maps.peers_per_ip.as_deref(),
            before: Default::default(),
        };
        let outcome = K::swarms_mut(&mut self.maps.swarms).announce(
            key,
            announce,
            deadline,
            policy,
            &mut self.rng,
            |peer, _| select_peers(peer),
        );
        (outcome, policy.before)
    }

    /// The same, out of the way of all those for whom there is room at once.
    #[cold]
    #[inline(never)]
    fn tell_again<K: PeerAddr>(
        &mut self,
        deadline: Seconds,
        key: &TorrentKey,
        client: ClientPrefix,
        announce: &Announce<K>,
        select_peers: &mut impl FnMut(&K),
    ) -> (Result<Announced<V>, Refusal>, Before<V>) {
        self.tell(deadline, key, client, announce, select_peers)
    }

    /// How many peers of a family could be handed out: see [`TorrentMap::available`].
    #[must_use]
    pub fn available<K: PeerAddr>(
        &self,
        key: &TorrentKey,
        to: PeerStatus,
        peer: Option<&K>,
    ) -> u32 {
        K::swarms(&self.maps.swarms).available(key, to, peer)
    }

    /// Hands peers of one family out, to `peer` or to somebody of the other family: see
    /// [`TorrentMap::select_peers`].
    pub fn select_peers<K: PeerAddr>(
        &mut self,
        key: &TorrentKey,
        to: (PeerStatus, Option<&K>),
        num_want: usize,
        mut select_peers: impl FnMut(&K),
    ) -> u32 {
        let swarms = K::swarms(&self.maps.swarms);
        swarms.select_peers(key, to, num_want, &mut self.rng, |peer, _| {
            select_peers(peer);
        })
    }

    /// How large the swarm of one family is; zeros when the torrent is unknown.
    #[must_use]
    pub fn scrape(&self, family: IpFamily, key: &TorrentKey) -> Counts {
        match family {
            IpFamily::V4 => self.maps.swarms.v4.scrape(key),
            IpFamily::V6 => self.maps.swarms.v6.scrape(key),
        }
    }

    /// All swarms, to look at them.
    #[must_use]
    pub fn swarms(&self) -> &Swarms<V> {
        &self.maps.swarms
    }

    /// This shard's source of randomness.
    pub fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.rng
    }

    /// What other trackers are to be told, to write in it; `None` if nobody is.
    pub fn outbox(&mut self) -> Option<&mut Outbox> {
        self.journal.outbox()
    }

    /// All swarms, and which torrents are allowed.
    pub fn swarms_and_access_list(&mut self) -> (&Swarms<V>, &mut AccessListReader) {
        (&self.maps.swarms, &mut self.maps.access_list)
    }
}

impl<V: AddressTag> Shard for AddressSwarms<V> {
    fn maintain(&mut self, now: Now) -> bool {
        self.share_memory();
        self.maps.access_list.refresh();
        self.maintenance.step(now, &mut self.maps)
    }
}

/// How the requests of one protocol are processed in swarms of addresses, whether clients are
/// counted or not.
pub trait AddressProcessor: Send + 'static {
    /// Requests, and after processing the responses to them.
    type Batch: Batch + Default + Send + 'static;

    /// Processes every request of a batch.
    fn process_in<V: AddressTag>(
        &mut self,
        now: Now,
        swarms: &mut AddressSwarms<V>,
        batch: &mut Self::Batch,
    );
}

/// Forgets peers that no longer announce, torrents without peers, and torrents that are no longer
/// allowed.
impl<V: PeerTag> Maintained for AddressMaps<V> {
    const MAPS: usize = IpFamily::ALL.len();

    fn publish(&self, gauges: &PerFamily<SwarmGauges>) {
        publish(&self.swarms.v4, &gauges.v4);
        publish(&self.swarms.v6, &gauges.v6);
    }

    fn clean(
        &mut self,
        map: usize,
        cursor: &mut CleaningCursor,
        budget: usize,
        cleaner: &mut Cleaner<'_>,
    ) -> bool {
        let Self {
            swarms,
            access_list,
            peers_per_ip,
        } = self;
        let now = cleaner.now;
        let visitor = &mut Visitor {
            access_list,
            peers_per_ip: peers_per_ip.as_deref(),
            cleaner,
        };
        match map {
            0 => swarms.v4.clean(cursor, now, budget, visitor),
            _ => swarms.v6.clean(cursor, now, budget, visitor),
        }
    }
}

fn publish<K: PeerAddr, V>(swarms: &TorrentMap<K, V>, gauges: &SwarmGauges) {
    gauges.torrents.set(swarms.torrents());
    gauges.peers.set(swarms.peers());
    gauges.seeders.set(swarms.seeders());
    gauges.completed.set(swarms.completed());
}

/// A peer is in its swarm no longer.
fn has_left<K: CompactAddr, V: PeerTag>(
    clients: &mut ClientTable,
    peers_per_ip: Option<&PerClientLimit>,
    peer: &K,
    tag: V,
) {
    tag.discount(clients);
    if let Some(limit) = peers_per_ip {
        limit.release(ip_of(peer));
    }
}

/// Who may come in by one announce: counts the client.
struct AnnouncerPolicy<'a, V: AddressTag> {
    clients: &'a mut ClientTable,
    client: ClientPrefix,
    peers_per_ip: Option<&'a PerClientLimit>,
    before: Before<V>,
}

/// What the journal wants to be kept of an announcer while its announce is processed.
type Before<V> = <<V as AddressTag>::Journal as Journal>::Before;

impl<K: CompactAddr, V: AddressTag> PeerPolicy<K, V> for AnnouncerPolicy<'_, V> {
    fn admit(&mut self, peer: &K) -> Option<V> {
        let is_admitted = |limit: &PerClientLimit| limit.admit(ip_of(peer));
        let is_admitted = self.peers_per_ip.is_none_or(is_admitted);
        is_admitted.then(|| V::count(self.client, self.clients))
    }

    fn update(&mut self, tag: &mut V) {
        tag.recount(self.client, self.clients);
    }

    fn replaces(&mut self, previous: Previous) {
        self.before = V::Journal::before(previous);
    }
}

fn ip_of<K: CompactAddr>(peer: &K) -> IpAddr {
    peer.socket_addr().ip()
}

/// Decides during a cleaning, and tells of what it sees.
struct Visitor<'a, 'c> {
    access_list: &'a mut AccessListReader,
    peers_per_ip: Option<&'a PerClientLimit>,
    cleaner: &'a mut Cleaner<'c>,
}

impl<K: PeerAddr, V: PeerTag> CleaningVisitor<K, V> for Visitor<'_, '_> {
    fn keep(&mut self, info_hash: &InfoHash) -> bool {
        self.access_list.is_allowed(info_hash)
    }

    fn peer_remains(&mut self, peer: &K, _: &mut V) {
        self.cleaner.room.remains(network_of(peer));
    }

    fn peer_removed(&mut self, peer: &K, tag: V) {
        has_left(self.cleaner.clients, self.peers_per_ip, peer, tag);
    }

    fn torrent_remains(&mut self, _: &InfoHash, counts: Counts) {
        self.cleaner.torrent_remains(K::FAMILY, counts);
    }
}

#[cfg(test)]
mod tests;
