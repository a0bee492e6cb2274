//! Who should be in which swarm, and what must come of a message: the same rules, in the simplest
//! way, for when one thing happens after the other.

use std::collections::{BTreeMap, BTreeSet};

use aquatic_types::{InfoHash, PeerId, PeerStatus};
use aquatic_ws::config::Config;
use aquatic_ws::membership::PEERS_PER_TORRENT_MAX;
use aquatic_ws_protocol::OfferId;

use super::keys::{FEW_MAX, FULL, KeysOfClients};

/// A peer: a client's connection, and a peer id.
pub(crate) type ConnectionRef = (usize, PeerId);

#[derive(Debug)]
struct Peer {
    is_seeder: bool,
    /// It is or was a seeder, or has said that its download is done: that counts once.
    is_finished: bool,
}

/// An offer that can be answered.
#[derive(Debug)]
struct Open {
    offer_id: OfferId,
    by: ConnectionRef,
    /// Peers of the client that has got it. It is for one of them; which one, nobody is told.
    to: BTreeSet<ConnectionRef>,
    /// One of them has left: it may have been the one.
    is_doubtful: bool,
    until: u32,
}

/// What must come of an answer.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// This client gets it, if it is there.
    Goes(usize),
    /// This client may get it.
    MayGo(usize),
    /// It must be refused.
    Refused(&'static str),
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    swarms: BTreeMap<InfoHash, BTreeMap<ConnectionRef, Peer>>,
    open: BTreeMap<InfoHash, Vec<Open>>,
    completed: BTreeMap<InfoHash, u32>,
    /// Torrents that the access list forbids.
    pub(crate) forbidden: BTreeSet<InfoHash>,
    pub(crate) keys: KeysOfClients,
    peers_per_client_max: usize,
    peers_per_ip_max: usize,
    peers_per_ip_and_torrent_max: usize,
    offer_age_max: u32,
    cleaning_interval: u32,
    next_cleaning: u32,
}

/// What a reply must say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Counts { seeders: u32, leechers: u32 },
    Failure(&'static str),
}

impl Model {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            peers_per_client_max: config.protocol.max_torrents_per_connection,
            peers_per_ip_max: config.limits.connections.tracker.max_peers_per_ip,
            peers_per_ip_and_torrent_max: match config.limits.addresses.max_peers_per_ip_and_torrent
            {
                0 => usize::MAX,
                max => max.into(),
            },
            offer_age_max: config.cleaning.max_offer_age,
            cleaning_interval: config.cleaning.torrent_cleaning_interval,
            next_cleaning: config.cleaning.torrent_cleaning_interval,
            ..Self::default()
        }
    }

    /// What must be replied to an announce, and which peers may be handed offers. `neighbours` are
    /// the clients with the same address.
    pub(crate) fn announce(
        &mut self,
        by: ConnectionRef,
        info_hash: InfoHash,
        status: PeerStatus,
        completed: bool,
        neighbours: &BTreeSet<usize>,
    ) -> (Reply, BTreeSet<ConnectionRef>) {
        if let Some(refusal) = self.keys.refusal(by.0) {
            return (Reply::Failure(refusal), BTreeSet::new());
        }
        if self.forbidden.contains(&info_hash) {
            // A goodbye is one, though it is refused.
            if status == PeerStatus::Stopped
                && let Some(swarm) = self.swarms.get_mut(&info_hash)
            {
                swarm.remove(&by);
                self.forget_offers();
            }
            return (Reply::Failure("torrent not allowed"), BTreeSet::new());
        }
        let of_address = self
            .peers()
            .filter(|(it, _)| neighbours.contains(it))
            .count();
        let count = self.peers().filter(|(client, _)| *client == by.0).count();
        let is_full = self.keys.is_limited(by.0) && self.active() >= FEW_MAX;
        let swarm = self.swarms.entry(info_hash).or_default();
        let comes = !swarm.contains_key(&by) && status != PeerStatus::Stopped;
        if comes && count >= self.peers_per_client_max {
            return (Reply::Failure("too many torrents"), BTreeSet::new());
        }
        let siblings = swarm.keys().filter(|(client, _)| *client == by.0).count();
        if comes && siblings >= PEERS_PER_TORRENT_MAX {
            return (Reply::Failure("too many peer ids"), BTreeSet::new());
        }
        if comes && of_address >= self.peers_per_ip_max {
            return (Reply::Failure("too many peers"), BTreeSet::new());
        }
        if comes && is_full {
            return (Reply::Failure(FULL), BTreeSet::new());
        }
        let neighbours_here = swarm.keys().filter(|(it, _)| neighbours.contains(it));
        if comes && neighbours_here.count() >= self.peers_per_ip_and_torrent_max {
            // It is answered and its offers go to others, but it is not told of.
            let others = swarm.keys().filter(|(_, peer_id)| *peer_id != by.1);
            let pool = others.copied().collect();
            return (self.counts(info_hash), pool);
        }
        let old = swarm.remove(&by);
        if status == PeerStatus::Stopped {
            self.forget_offers();
            return (self.counts(info_hash), BTreeSet::new());
        }
        let was_finished = old.as_ref().is_some_and(|old| old.is_finished);
        *self.completed.entry(info_hash).or_default() += u32::from(completed && !was_finished);
        let others = swarm.keys().filter(|(_, peer_id)| *peer_id != by.1);
        let pool = others.copied().collect();
        let is_seeder = status == PeerStatus::Seeder;
        let peer = Peer {
            is_seeder,
            is_finished: was_finished || is_seeder || completed,
        };
        swarm.insert(by, peer);
        (self.counts(info_hash), pool)
    }

    /// An offer was handed out, to one of these.
    pub(crate) fn offer(
        &mut self,
        info_hash: InfoHash,
        by: ConnectionRef,
        offer_id: OfferId,
        to: BTreeSet<ConnectionRef>,
        now: u32,
    ) {
        self.open.entry(info_hash).or_default().push(Open {
            offer_id,
            by,
            to,
            is_doubtful: false,
            until: now + self.offer_age_max,
        });
    }

    /// Any peer of the client that has got an offer may answer it.
    pub(crate) fn answer(
        &mut self,
        by: ConnectionRef,
        info_hash: InfoHash,
        to: PeerId,
        offer_id: OfferId,
        now: u32,
    ) -> Verdict {
        if let Some(refusal) = self.keys.refusal(by.0) {
            return Verdict::Refused(refusal);
        }
        if self.forbidden.contains(&info_hash) {
            return Verdict::Refused("torrent not allowed");
        }
        let swarm = self.swarms.entry(info_hash).or_default();
        if !swarm.contains_key(&by) {
            return Verdict::Refused("peer_id is not in this swarm");
        }
        let open = self.open.entry(info_hash).or_default();
        let at = open.iter().position(|it| {
            let is_it = it.offer_id == offer_id && it.by.1 == to && it.until >= now;
            is_it && it.to.iter().any(|(client, _)| *client == by.0)
        });
        let Some(at) = at else {
            return Verdict::Refused("offer_id names no open offer");
        };
        let closed = open.remove(at);
        match closed.is_doubtful {
            true => Verdict::MayGo(closed.by.0),
            false => Verdict::Goes(closed.by.0),
        }
    }

    /// With a peer go the offers that it might have answered.
    fn forget_offers(&mut self) {
        let swarms = &self.swarms;
        for (info_hash, open) in &mut self.open {
            let is_there = |it: &ConnectionRef| {
                let swarm = swarms.get(info_hash);
                swarm.is_some_and(|swarm| swarm.contains_key(it))
            };
            for offer in &mut *open {
                let before = offer.to.len();
                offer.to.retain(is_there);
                offer.is_doubtful |= offer.to.len() < before;
            }
            open.retain(|offer| !offer.to.is_empty());
        }
    }

    /// What a scrape must say.
    pub(crate) fn scrape(&self, info_hash: InfoHash) -> (Reply, u32) {
        if self.forbidden.contains(&info_hash) {
            let nothing = Reply::Counts {
                seeders: 0,
                leechers: 0,
            };
            return (nothing, 0);
        }
        let completed = self.completed.get(&info_hash).copied();
        (self.counts(info_hash), completed.unwrap_or(0))
    }

    fn counts(&self, info_hash: InfoHash) -> Reply {
        let swarm = self.swarms.get(&info_hash);
        let peers = swarm.into_iter().flat_map(BTreeMap::values);
        let (seeders, leechers): (Vec<_>, Vec<_>) = peers.partition(|peer| peer.is_seeder);
        let count = |peers: Vec<_>| u32::try_from(peers.len()).unwrap();
        Reply::Counts {
            seeders: count(seeders),
            leechers: count(leechers),
        }
    }

    /// A client has gone.
    pub(crate) fn leave(&mut self, client: usize) {
        for swarm in self.swarms.values_mut() {
            swarm.retain(|(it, _), _| *it != client);
        }
        self.forget_offers();
    }

    /// Time has passed: torrents without peers are forgotten, if it is time, and with them what was
    /// completed. Returns whether it is.
    pub(crate) fn clean(&mut self, now: u32) -> bool {
        if now < self.next_cleaning {
            return false;
        }
        self.next_cleaning = now + self.cleaning_interval;
        self.swarms.retain(|_, swarm| !swarm.is_empty());
        let swarms = &self.swarms;
        self.completed
            .retain(|info_hash, _| swarms.contains_key(info_hash));
        true
    }

    /// Peers in forbidden torrents leave.
    pub(crate) fn leave_forbidden(&mut self) {
        for info_hash in &self.forbidden {
            if let Some(swarm) = self.swarms.get_mut(info_hash) {
                swarm.clear();
            }
        }
        self.forget_offers();
    }

    /// All peers, each as often as it is in a swarm.
    pub(crate) fn peers(&self) -> impl Iterator<Item = ConnectionRef> {
        self.swarms.values().flat_map(BTreeMap::keys).copied()
    }

    /// Peers of the key that may have few.
    pub(crate) fn active(&self) -> usize {
        let is_of_key = |(client, _): &ConnectionRef| self.keys.is_limited(*client);
        self.peers().filter(is_of_key).count()
    }

    /// How often each torrent was completed.
    pub(crate) fn completed(&self) -> impl Iterator<Item = (InfoHash, u32)> {
        self.completed
            .iter()
            .map(|(torrent, count)| (*torrent, *count))
    }

    /// Torrents that have peers.
    pub(crate) fn torrents(&self) -> BTreeSet<InfoHash> {
        let swarms = self.swarms.iter();
        let swarms = swarms.filter(|(_, swarm)| !swarm.is_empty());
        swarms.map(|(info_hash, _)| *info_hash).collect()
    }
}
