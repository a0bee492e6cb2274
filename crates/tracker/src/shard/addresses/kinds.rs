//! The kinds of shards that there are: what is kept with a peer is part of the type of its swarms,
//! since it makes every peer larger, and so is who hears of peers, since nobody should pay for what
//! he does not use. The configuration decides between them.

use aquatic_daemon::clock::Now;
use aquatic_swarm::{Counts, WalkCursor};
use aquatic_swarm_log::Contents;
use aquatic_types::{InfoHash, IpFamily};

use super::outbox::{Journal, Outbox, SharedRefreshInterval, Unread};
use super::{AddressProcessor, AddressSwarms, AddressSwarmsParts, AddressSwarmsSettings};
use crate::persistence::persistent::{Entry, Persistent, Records, Restored};
use crate::shard::client_stats::{ClientPrefix, ClientTable, ClientTag, PeerTag};
use crate::shard::{BatchProcessor, Shard};
use crate::torrents::readable::{Readable, TorrentCounts, TorrentPeer};

/// What is kept with a peer that is an address, and who hears of it.
pub trait AddressTag: PeerTag {
    /// Hears of what such peers announce.
    type Journal: Journal;
}

impl AddressTag for () {
    type Journal = Unread;
}

impl AddressTag for ClientTag {
    type Journal = Unread;
}

/// Keeps this with a peer of whom other trackers hear. Takes no more memory.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Shared<T>(T);

impl<T: PeerTag> PeerTag for Shared<T> {
    fn count(prefix: ClientPrefix, clients: &mut ClientTable) -> Self {
        Self(T::count(prefix, clients))
    }

    fn count_unknown(clients: &mut ClientTable) -> Self {
        Self(T::count_unknown(clients))
    }

    fn discount(self, clients: &mut ClientTable) {
        self.0.discount(clients);
    }

    fn prefix(self, clients: &ClientTable) -> Option<ClientPrefix> {
        self.0.prefix(clients)
    }

    fn recount(&mut self, prefix: ClientPrefix, clients: &mut ClientTable) {
        self.0.recount(prefix, clients);
    }
}

impl<T: PeerTag> AddressTag for Shared<T> {
    type Journal = Outbox;
}

/// A shard for peers that are addresses.
pub enum AddressShard {
    /// Nothing is kept with peers.
    Plain(AddressSwarms<()>),
    /// Clients are counted.
    CountingClients(AddressSwarms<ClientTag>),
    /// Other trackers hear of peers.
    Shared(AddressSwarms<Shared<()>>),
    /// Both.
    SharedCountingClients(AddressSwarms<Shared<ClientTag>>),
}

/// The same for the swarms of each kind of [`AddressShard`].
macro_rules! in_each {
    ($shard:expr, $swarms:ident => $do:expr) => {
        match $shard {
            $crate::shard::addresses::AddressShard::Plain($swarms) => $do,
            $crate::shard::addresses::AddressShard::CountingClients($swarms) => $do,
            $crate::shard::addresses::AddressShard::Shared($swarms) => $do,
            $crate::shard::addresses::AddressShard::SharedCountingClients($swarms) => $do,
        }
    };
}
pub(crate) use in_each;

impl AddressShard {
    /// An empty shard. Other trackers hear of its peers if there is an interval after which they
    /// are told of them again.
    #[must_use]
    pub fn new(
        counts_clients: bool,
        sharing: Option<SharedRefreshInterval>,
        settings: AddressSwarmsSettings,
        parts: AddressSwarmsParts,
    ) -> Self {
        match (sharing.map(Outbox::new), counts_clients) {
            (None, false) => Self::Plain(AddressSwarms::new(settings, parts, Unread)),
            (None, true) => Self::CountingClients(AddressSwarms::new(settings, parts, Unread)),
            (Some(outbox), false) => Self::Shared(AddressSwarms::new(settings, parts, outbox)),
            (Some(outbox), true) => {
                Self::SharedCountingClients(AddressSwarms::new(settings, parts, outbox))
            }
        }
    }
}

impl Shard for AddressShard {
    fn maintain(&mut self, now: Now) -> bool {
        in_each!(self, swarms => swarms.maintain(now))
    }
}

impl<P: AddressProcessor> BatchProcessor for P {
    type Shard = AddressShard;
    type Batch = P::Batch;

    fn process(&mut self, now: Now, shard: &mut AddressShard, batch: &mut P::Batch) {
        in_each!(shard, swarms => self.process_in(now, swarms, batch));
    }
}

impl Persistent for AddressShard {
    const MAPS: usize = IpFamily::ALL.len();

    fn snapshot(&mut self, now: Now, map: usize, budget: usize, records: &mut Records) -> bool {
        in_each!(self, swarms => swarms.snapshot(now, map, budget, records))
    }

    fn abandon_snapshot(&mut self) {
        in_each!(self, swarms => swarms.abandon_snapshot());
    }

    fn accepts(contents: Contents) -> bool {
        AddressSwarms::<()>::accepts(contents)
    }

    fn restore(&mut self, now: Now, entry: Entry) -> Restored {
        in_each!(self, swarms => swarms.restore(now, entry))
    }
}

impl Readable for AddressShard {
    const MAPS: usize = IpFamily::ALL.len();

    fn family(map: usize) -> IpFamily {
        AddressSwarms::<()>::family(map)
    }

    fn walk(
        &self,
        map: usize,
        cursor: &mut WalkCursor,
        budget: usize,
        show: impl FnMut(&InfoHash, Counts),
    ) -> bool {
        in_each!(self, swarms => swarms.walk(map, cursor, budget, show))
    }

    fn counts(&self, info_hash: &InfoHash) -> TorrentCounts {
        in_each!(self, swarms => swarms.counts(info_hash))
    }

    fn counts_besides(&self, map: usize, info_hash: &InfoHash, counts: Counts) -> TorrentCounts {
        in_each!(self, swarms => swarms.counts_besides(map, info_hash, counts))
    }

    fn peers(
        &self,
        now: Now,
        info_hash: &InfoHash,
        peers_max: usize,
        show: impl FnMut(TorrentPeer),
    ) {
        in_each!(self, swarms => swarms.peers(now, info_hash, peers_max, show));
    }
}
