//! What is allowed, where limits or an access list are configured.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use aquatic_access_list::AccessListMode;
use aquatic_swarm::Refusal;
use aquatic_types::{InfoHash, PeerStatus};
use aquatic_udp::config::Config;

use super::model::{Announce, Model};
use super::states::{Bounds, States, Torrent, Window};

/// What is there already, just before an announce.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// 1 if the torrent is known, 0 if not.
    torrent: Bounds,
    /// 1 if the announcer is known, 0 if not.
    announcer: Bounds,
    /// In the part of the tracker to which the limit applies: one shard and IP family.
    torrents: Bounds,
    peers: Bounds,
    /// In all of it.
    peers_of_client: Bounds,
    /// What is allowed of the last three.
    max: [Option<u32>; 3],
}

impl Room {
    pub(crate) fn of(model: &Model, announce: &Announce) -> Self {
        let shard = model.shard_of(&announce.torrent.1);
        let is_near = |torrent: &Torrent| {
            torrent.0 == announce.torrent.0 && model.shard_of(&torrent.1) == shard
        };
        let client = client_of(announce.peer.ip());
        let none = Bounds::default();
        let (mut torrents, mut peers, mut peers_of_client) = (none, none, none);
        let (mut torrent, mut announcer) = (none, none);
        for (name, swarm) in &model.swarms {
            let states = || swarm.peers.values().map(|peer| peer.states);
            let of_client = swarm
                .peers
                .iter()
                .filter(|(addr, _)| client_of(addr.ip()) == client);
            let of_client = of_client.map(|(_, peer)| peer.states);
            peers_of_client.add(Bounds::count(of_client, States::PRESENT));
            let must_exist = states().any(|states| states.must_be(States::PRESENT));
            let exists = Bounds {
                min: must_exist.into(),
                max: swarm.may_exist.into(),
            };
            if is_near(name) {
                torrents.add(exists);
                peers.add(Bounds::count(states(), States::PRESENT));
            }
            if *name == announce.torrent {
                torrent = exists;
                let known = swarm.peers.get(&announce.peer).map(|peer| peer.states);
                announcer = Bounds::count(known, States::PRESENT);
            }
        }
        let limits = &model.config.limits.tracker;
        let shards = model.config.topology().shards();
        let max = [
            limits.max_torrents.div_ceil(shards),
            limits.max_peers.div_ceil(shards),
            limits.max_peers_per_ip,
        ];
        let max = max.map(|max| u32::try_from(max).ok().filter(|max| *max > 0));
        Self {
            torrent,
            announcer,
            torrents,
            peers,
            peers_of_client,
            max,
        }
    }

    /// The announce was refused: then it must have been possible that there was no room.
    pub(crate) fn assert_refused(&self, refusal: Refusal) {
        let [torrents_max, peers_max, peers_of_client_max] = self.max;
        assert_eq!(
            self.announcer.min, 0,
            "a known peer was refused: {refusal:?}, {self:?}"
        );
        let was_full = match refusal {
            Refusal::TorrentLimit => {
                self.torrent.min == 0 && may_reach(self.torrents, torrents_max)
            }
            Refusal::PeerLimit => may_reach(self.peers, peers_max),
            // Without the memory at hand, a share of it is no bound.
            Refusal::MemoryLimit => false,
            Refusal::NotAdmitted => may_reach(self.peers_of_client, peers_of_client_max),
        };
        assert!(was_full, "{refusal:?}, but there was room: {self:?}");
    }

    /// The announce was served: then it must have been possible that there was room.
    pub(crate) fn assert_served(&self) {
        if self.announcer.max > 0 {
            return;
        }
        let [torrents_max, peers_max, peers_of_client_max] = self.max;
        assert!(
            self.torrent.max == 1 || !must_reach(self.torrents, torrents_max),
            "more torrents than allowed: {self:?}"
        );
        assert!(
            !must_reach(self.peers, peers_max),
            "more peers than allowed: {self:?}"
        );
        assert!(
            !must_reach(self.peers_of_client, peers_of_client_max),
            "more peers of one client than allowed: {self:?}"
        );
    }
}

/// Whether a peer was answered, but kept out of the swarm, as its address has enough peers there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeptOut {
    No,
    Maybe,
    Yes,
}

impl KeptOut {
    /// `window` is what the torrent can have been.
    pub(crate) fn of(config: &Config, announce: &Announce, window: &Window) -> Self {
        let max = u32::from(config.limits.addresses.max_peers_per_ip_and_torrent);
        let before = window.peers.get(&announce.peer).copied();
        let before = before.unwrap_or(States::ABSENT);
        if announce.status == PeerStatus::Stopped || !before.may_be(States::ABSENT) {
            return Self::No;
        }
        let client = client_of(announce.peer.ip());
        let others = window
            .peers
            .iter()
            .filter(|(addr, _)| **addr != announce.peer && client_of(addr.ip()) == client);
        let others = Bounds::count(others.map(|(_, states)| *states), States::PRESENT);
        let max = Some(max).filter(|max| *max > 0);
        if before == States::ABSENT && must_reach(others, max) {
            Self::Yes
        } else if may_reach(others, max) {
            Self::Maybe
        } else {
            Self::No
        }
    }
}

fn may_reach(count: Bounds, max: Option<u32>) -> bool {
    max.is_some_and(|max| count.max >= max)
}

fn must_reach(count: Bounds, max: Option<u32>) -> bool {
    max.is_some_and(|max| count.min >= max)
}

/// What the access list says.
#[derive(Clone)]
pub(crate) struct Allowed {
    pub(crate) mode: AccessListMode,
    pub(crate) listed: HashSet<InfoHash>,
}

impl Allowed {
    pub(crate) fn allows(&self, info_hash: &InfoHash) -> bool {
        match self.mode {
            AccessListMode::Off => true,
            AccessListMode::Allow => self.listed.contains(info_hash),
            AccessListMode::Deny => !self.listed.contains(info_hash),
        }
    }
}

/// Requests of each client, to tell who sends too many.
#[derive(Default)]
pub(crate) struct Rates(BTreeMap<IpAddr, Vec<u64>>);

impl Rates {
    /// Whether a request is served. It is not if, counted from any earlier one, a client has been
    /// served as much as is allowed in the time since then and one second more.
    pub(crate) fn allow(&mut self, requests_per_second: u32, now_micros: u64, ip: IpAddr) -> bool {
        if requests_per_second == 0 {
            return true;
        }
        let served = self.0.entry(client_of(ip)).or_default();
        let micros_per_request = 1_000_000 / u64::from(requests_per_second);
        let paid = |(place, start): (usize, &u64)| {
            let requests = u64::try_from(served.len() - place).unwrap();
            start + requests * micros_per_request
        };
        let paid = served.iter().enumerate().map(paid).max().unwrap_or(0);
        if paid <= now_micros {
            served.clear();
        }
        let allowed = paid < now_micros + 1_000_000;
        if allowed {
            served.push(now_micros);
        }
        allowed
    }
}

/// Who counts as one client: an IPv4 address or an IPv6 network of 64 bits.
fn client_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            [a, b, c, d, 0, 0, 0, 0].into()
        }
    }
}
