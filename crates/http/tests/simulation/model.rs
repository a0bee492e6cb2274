//! Who should be in which swarm: the same rules, in the simplest way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use aquatic_http::config::Config;
use aquatic_test_support::swarm_file::{Name, Torrent};
use aquatic_types::{InfoHash, IpFamily, PeerStatus, client_network};

/// What an announce says about its sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announce {
    pub(crate) torrent: InfoHash,
    pub(crate) peer: SocketAddr,
    pub(crate) status: PeerStatus,
    pub(crate) completed: bool,
    /// What the client wants; `None` = as many as it can get.
    pub(crate) wanted: Option<usize>,
    pub(crate) client: [u8; 8],
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    is_seeder: bool,
    /// It has been a seeder, or has had a download counted.
    is_finished: bool,
    deadline: u32,
    client: [u8; 8],
}

/// A torrent's half of one family; it is forgotten at a cleaning that finds no peers in it.
#[derive(Debug, Default)]
struct Half {
    peers: BTreeMap<SocketAddr, Peer>,
    completed: u32,
}

/// Seeders, leechers and completed downloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) seeders: u32,
    pub(crate) leechers: u32,
    pub(crate) completed: u32,
}

/// What the answer to an announce must be.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) size: Size,
    /// Who may be handed out.
    pub(crate) pool: BTreeSet<SocketAddr>,
    /// How many of them.
    pub(crate) count: usize,
    /// Its address has enough peers in the torrent.
    pub(crate) is_kept_out: bool,
}

pub(crate) struct Model {
    halves: BTreeMap<(InfoHash, bool), Half>,
    peer_age_max: u32,
    peers_max: usize,
    peers_per_address_max: usize,
    cleaning_interval: u32,
    next_cleaning: u32,
}

impl Model {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            halves: BTreeMap::new(),
            peer_age_max: config.cleaning.max_peer_age,
            peers_max: config.protocol.max_peers,
            peers_per_address_max: match config.limits.addresses.max_peers_per_ip_and_torrent {
                0 => usize::MAX,
                max => max.into(),
            },
            cleaning_interval: config.cleaning.torrent_cleaning_interval,
            next_cleaning: config.cleaning.torrent_cleaning_interval,
        }
    }

    pub(crate) fn announce(&mut self, announce: &Announce, now: u32) -> Outcome {
        let is_seeder = announce.status == PeerStatus::Seeder;
        let key = (announce.torrent, announce.peer.is_ipv4());
        let is_kept_out = announce.status != PeerStatus::Stopped && self.is_closed_to(announce);
        if announce.status == PeerStatus::Stopped {
            if let Some(half) = self.halves.get_mut(&key) {
                half.peers.remove(&announce.peer);
            }
        } else if !is_kept_out {
            let half = self.halves.entry(key).or_default();
            let old = half.peers.get(&announce.peer);
            let was_finished = old.is_some_and(|old| old.is_finished);
            let peer = Peer {
                is_seeder,
                is_finished: was_finished || is_seeder || announce.completed,
                // The tracker knows odd ones only.
                deadline: (now + self.peer_age_max) | 1,
                client: announce.client,
            };
            half.peers.insert(announce.peer, peer);
            half.completed += u32::from(announce.completed && !was_finished);
        }
        let pool: BTreeSet<_> = match announce.status {
            PeerStatus::Stopped => BTreeSet::new(),
            _ => self
                .peers(announce.torrent)
                .filter(|(addr, peer)| *addr != announce.peer && !(is_seeder && peer.is_seeder))
                .map(|(addr, _)| addr)
                .collect(),
        };
        let wanted = announce.wanted.unwrap_or(usize::MAX);
        Outcome {
            size: self.size(announce.torrent),
            count: wanted.min(self.peers_max).min(pool.len()),
            pool,
            is_kept_out,
        }
    }

    fn is_closed_to(&self, announce: &Announce) -> bool {
        let key = (announce.torrent, announce.peer.is_ipv4());
        self.halves.get(&key).is_some_and(|half| {
            let client = client_network(announce.peer.ip());
            let peers = half.peers.keys();
            let of_client = peers.filter(|addr| client_network(addr.ip()) == client);
            !half.peers.contains_key(&announce.peer)
                && of_client.count() >= self.peers_per_address_max
        })
    }

    /// All peers: their torrents, their status, and their deadlines.
    pub(crate) fn all_peers(&self) -> impl Iterator<Item = (Name, PeerStatus, u32)> {
        self.halves.iter().flat_map(|((torrent, _), half)| {
            half.peers.iter().map(|(addr, peer)| {
                let status = [PeerStatus::Leecher, PeerStatus::Seeder];
                let status = status[usize::from(peer.is_seeder)];
                ((*torrent, *addr), status, peer.deadline)
            })
        })
    }

    /// How often each torrent was completed by the peers of a family.
    pub(crate) fn all_completed(&self) -> impl Iterator<Item = (Torrent, u32)> {
        self.halves.iter().map(|((torrent, is_v4), half)| {
            let family = [IpFamily::V6, IpFamily::V4][usize::from(*is_v4)];
            ((Some(family), *torrent), half.completed)
        })
    }

    fn halves(&self, torrent: InfoHash) -> impl Iterator<Item = &Half> {
        [true, false]
            .into_iter()
            .filter_map(move |is_v4| self.halves.get(&(torrent, is_v4)))
    }

    fn peers(&self, torrent: InfoHash) -> impl Iterator<Item = (SocketAddr, Peer)> {
        self.halves(torrent)
            .flat_map(|half| half.peers.iter().map(|(addr, peer)| (*addr, *peer)))
    }

    pub(crate) fn size(&self, torrent: InfoHash) -> Size {
        let count = |is_seeder| {
            let peers = self.peers(torrent);
            let count = peers
                .filter(|(_, peer)| peer.is_seeder == is_seeder)
                .count();
            u32::try_from(count).unwrap()
        };
        Size {
            seeders: count(true),
            leechers: count(false),
            completed: self.halves(torrent).map(|half| half.completed).sum(),
        }
    }

    /// All workers have looked whether it is time to clean, and have finished if so.
    pub(crate) fn clean(&mut self, now: u32, is_allowed: impl Fn(&InfoHash) -> bool) {
        if now < self.next_cleaning {
            return;
        }
        self.next_cleaning = now + self.cleaning_interval;
        for half in self.halves.values_mut() {
            half.peers.retain(|_, peer| peer.deadline >= now);
        }
        self.halves
            .retain(|(torrent, _), half| !half.peers.is_empty() && is_allowed(torrent));
    }

    /// Torrents and peers of a family.
    pub(crate) fn gauges(&self, family: IpFamily) -> (u64, u64) {
        let halves = self.halves.iter();
        let of_family = halves.filter(|((_, is_v4), _)| *is_v4 == (family == IpFamily::V4));
        of_family.fold((0, 0), |(torrents, peers), (_, half)| {
            (torrents + 1, peers + half.peers.len() as u64)
        })
    }

    /// Peers by the beginning of their peer ids.
    pub(crate) fn clients(&self) -> BTreeMap<[u8; 8], usize> {
        let mut clients = BTreeMap::new();
        for peer in self.halves.values().flat_map(|half| half.peers.values()) {
            *clients.entry(peer.client).or_default() += 1;
        }
        clients
    }
}
