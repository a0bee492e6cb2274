//! Who should be in which swarm, and what must come of a message: the same rules, in the simplest
//! way, for when one thing happens after the other.

use std::collections::{BTreeMap, BTreeSet};

use aquatic_types::{InfoHash, PeerId, PeerStatus};
use aquatic_ws::config::Config;
use aquatic_ws_protocol::OfferId;

#[derive(Debug)]
struct Peer {
    client: usize,
    is_seeder: bool,
    deadline: u32,
    /// Offers, who may answer each, and until when.
    open: Vec<(OfferId, PeerId, u32)>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    swarms: BTreeMap<InfoHash, BTreeMap<PeerId, Peer>>,
    completed: BTreeMap<InfoHash, u32>,
    /// The peer id that a client uses for a torrent.
    names: BTreeMap<(usize, InfoHash), PeerId>,
    torrents_per_client_max: usize,
    peer_age_max: u32,
    offer_age_max: u32,
    cleaning_interval: u32,
    next_cleaning: u32,
}

/// What a reply must say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Counts {
        seeders: u32,
        leechers: u32,
    },
    Failure(&'static str),
    /// The peer id is in the swarm by another client.
    Contested {
        seeders: u32,
        leechers: u32,
    },
}

impl Reply {
    pub(crate) fn contested(self) -> Self {
        match self {
            Self::Counts { seeders, leechers } => Self::Contested { seeders, leechers },
            other => other,
        }
    }
}

impl Model {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            torrents_per_client_max: config.protocol.max_torrents_per_connection,
            peer_age_max: config.cleaning.max_peer_age,
            offer_age_max: config.cleaning.max_offer_age,
            cleaning_interval: config.cleaning.torrent_cleaning_interval,
            next_cleaning: config.cleaning.torrent_cleaning_interval,
            ..Self::default()
        }
    }

    /// What must be replied to an announce, and which clients may be handed offers, with the peer
    /// id of each.
    pub(crate) fn announce(
        &mut self,
        (client, peer_id): (usize, PeerId),
        info_hash: InfoHash,
        status: PeerStatus,
        completed: bool,
        now: u32,
    ) -> (Reply, BTreeMap<usize, PeerId>) {
        let nobody = BTreeMap::new();
        let name = self.names.get(&(client, info_hash));
        if name.is_some_and(|name| *name != peer_id) {
            return (Reply::Failure("peer_id differs"), nobody);
        }
        let count = self.names.keys().filter(|(it, _)| *it == client).count();
        let comes = name.is_none() && status != PeerStatus::Stopped;
        if comes && count >= self.torrents_per_client_max {
            return (Reply::Failure("too many torrents"), nobody);
        }
        let swarm = self.swarms.entry(info_hash).or_default();
        if swarm
            .get(&peer_id)
            .is_some_and(|peer| peer.client != client)
        {
            self.names.remove(&(client, info_hash));
            return (self.counts(info_hash).contested(), nobody);
        }
        let is_seeder = status == PeerStatus::Seeder;
        let old = swarm.remove(&peer_id);
        if status == PeerStatus::Stopped {
            self.names.remove(&(client, info_hash));
            return (self.counts(info_hash), nobody);
        }
        let was_seeder = old.as_ref().is_some_and(|old| old.is_seeder);
        *self.completed.entry(info_hash).or_default() += u32::from(completed && !was_seeder);
        let pool = swarm.iter().filter(|(_, it)| !(is_seeder && it.is_seeder));
        let pool = pool.map(|(peer_id, it)| (it.client, *peer_id)).collect();
        let peer = Peer {
            client,
            is_seeder,
            deadline: now + self.peer_age_max,
            open: old.map(|old| old.open).unwrap_or_default(),
        };
        swarm.insert(peer_id, peer);
        self.names.insert((client, info_hash), peer_id);
        (self.counts(info_hash), pool)
    }

    /// An offer was handed out.
    pub(crate) fn offer(
        &mut self,
        info_hash: InfoHash,
        by: PeerId,
        offer_id: OfferId,
        to: PeerId,
        now: u32,
    ) {
        let swarm = self.swarms.get_mut(&info_hash).expect("a swarm");
        let open = &mut swarm.get_mut(&by).expect("a peer").open;
        open.push((offer_id, to, now + self.offer_age_max));
    }

    /// Which client must get an answer, or why it must be refused.
    pub(crate) fn answer(
        &mut self,
        (client, peer_id): (usize, PeerId),
        info_hash: InfoHash,
        to: PeerId,
        offer_id: OfferId,
        now: u32,
    ) -> Result<usize, &'static str> {
        let swarm = self.swarms.entry(info_hash).or_default();
        if swarm.get(&peer_id).is_none_or(|peer| peer.client != client) {
            return Err("peer_id is not in this swarm");
        }
        let unknown = "offer_id names no open offer";
        let offerer = swarm.get_mut(&to).ok_or(unknown)?;
        let is_it = |(id, by, until): &(OfferId, PeerId, u32)| {
            *id == offer_id && *by == peer_id && *until >= now
        };
        let at = offerer.open.iter().position(is_it).ok_or(unknown)?;
        offerer.open.remove(at);
        Ok(offerer.client)
    }

    /// Who has a peer id in a swarm.
    pub(crate) fn holder(&self, info_hash: InfoHash, peer_id: PeerId) -> Option<usize> {
        let peer = self.swarms.get(&info_hash)?.get(&peer_id)?;
        Some(peer.client)
    }

    pub(crate) fn counts(&self, info_hash: InfoHash) -> Reply {
        let swarm = self.swarms.get(&info_hash);
        let peers = swarm.into_iter().flat_map(BTreeMap::values);
        let (seeders, leechers): (Vec<_>, Vec<_>) = peers.partition(|peer| peer.is_seeder);
        let count = |peers: Vec<_>| u32::try_from(peers.len()).unwrap();
        Reply::Counts {
            seeders: count(seeders),
            leechers: count(leechers),
        }
    }

    pub(crate) fn completed(&self, info_hash: InfoHash) -> u32 {
        self.completed.get(&info_hash).copied().unwrap_or(0)
    }

    /// A client has gone.
    pub(crate) fn leave(&mut self, client: usize) {
        self.names.retain(|(it, _), _| *it != client);
        for swarm in self.swarms.values_mut() {
            swarm.retain(|_, peer| peer.client != client);
        }
    }

    /// Time has passed.
    pub(crate) fn clean(&mut self, now: u32) {
        if now < self.next_cleaning {
            return;
        }
        self.next_cleaning = now + self.cleaning_interval;
        for swarm in self.swarms.values_mut() {
            swarm.retain(|_, peer| peer.deadline >= now);
        }
        self.swarms.retain(|_, swarm| !swarm.is_empty());
        let swarms = &self.swarms;
        self.completed
            .retain(|info_hash, _| swarms.contains_key(info_hash));
    }

    /// Clients with a peer anywhere, each as often as it has peers.
    pub(crate) fn peers(&self) -> impl Iterator<Item = usize> {
        let peers = self.swarms.values().flat_map(BTreeMap::values);
        peers.map(|peer| peer.client)
    }

    /// Torrents that have peers.
    pub(crate) fn torrents(&self) -> BTreeSet<InfoHash> {
        let swarms = self.swarms.iter();
        let swarms = swarms.filter(|(_, swarm)| !swarm.is_empty());
        swarms.map(|(info_hash, _)| *info_hash).collect()
    }
}
