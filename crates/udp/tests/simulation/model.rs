//! What the tracker should know: a shadow of its swarms, in plain maps.
//!
//! A request takes effect at some moment between its delivery and its answer, and a cleaning
//! may remove an expired peer at any time. So the model keeps, for each peer, the *set* of states
//! that it can be in, and for each open request a [`Window`]: everything that the torrent can have
//! been since the request was delivered. When nothing else is going on, all sets have one element,
//! and the answer is known exactly.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use aquatic_test_support::swarm_file::Possible;
use aquatic_types::{InfoHash, IpFamily, PeerStatus, ShardKey};
use aquatic_udp::config::Config;

use super::limits::{KeptOut, Room};
use super::states::{Bounds, States, Torrent, Window};

type WindowId = u64;

pub(crate) struct Model {
    pub(crate) config: Config,
    shard_key: ShardKey,
    pub(crate) swarms: BTreeMap<Torrent, Swarm>,
    windows: BTreeMap<WindowId, Window>,
    next_window: WindowId,
    cleanings: u64,
    /// What a snapshot can hold that is being written.
    pub(crate) snapshot: Option<Possible>,
}

#[derive(Default)]
pub(crate) struct Swarm {
    pub(crate) peers: BTreeMap<SocketAddr, Peer>,
    /// Times that a download was completed.
    completed: Bounds,
    /// Whether the tracker may know the torrent.
    pub(crate) may_exist: bool,
    watchers: Vec<WindowId>,
}

pub(crate) struct Peer {
    pub(crate) states: States,
    /// The last second in which it is certainly, or possibly, safe from cleaning.
    deadline: Bounds,
    /// Its announces that have not been answered yet.
    open: usize,
    /// How many of its announces have begun.
    begun: u32,
    /// Whether it may have been a seeder, or have had a download counted.
    may_be_finished: bool,
    /// All its announces since it last had none open.
    period: Period,
}

impl Peer {
    /// The first and last second that can be its deadline; `last`, that of an announce of now.
    pub(crate) fn deadlines(&self, last: u32) -> (u32, u32) {
        let max = if self.open > 0 { last } else { 0 };
        (self.deadline.min, self.deadline.max.max(max))
    }
}

impl Swarm {
    /// How many downloads can have been completed.
    pub(crate) fn completed(&self) -> Bounds {
        self.completed
    }
}

struct Period {
    begun_seconds: u32,
    /// What those that have been answered can have left behind.
    after: Option<States>,
    /// A cleaning may have come last.
    cleaned: bool,
}

impl Period {
    fn begin(now_seconds: u32) -> Self {
        Self {
            begun_seconds: now_seconds,
            after: None,
            cleaned: false,
        }
    }
}

/// What a peer announces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announce {
    pub(crate) torrent: Torrent,
    pub(crate) peer: SocketAddr,
    pub(crate) status: PeerStatus,
    pub(crate) completed: bool,
    pub(crate) client: usize,
    pub(crate) num_want: usize,
}

impl Announce {
    fn after(&self) -> States {
        States::after(self.status, self.client)
    }
}

/// An announce that has not been answered yet.
pub(crate) struct OpenAnnounce {
    pub(crate) announce: Announce,
    window: WindowId,
    /// How much room there was, and how many cleanings there had been.
    room: Option<(Room, u64)>,
    /// If its peer cannot have finished its download before: how many announces of it had begun.
    first_to_finish: Option<u32>,
}

/// A scrape that has not been answered yet: a window for each row, or none if it must be zeros.
pub(crate) struct OpenScrape(Vec<Option<WindowId>>);

impl OpenScrape {
    pub(crate) fn rows(&self) -> usize {
        self.0.len()
    }
}

impl Model {
    pub(crate) fn new(config: Config, shard_key: ShardKey) -> Self {
        Self {
            config,
            shard_key,
            swarms: BTreeMap::new(),
            windows: BTreeMap::new(),
            next_window: 0,
            cleanings: 0,
            snapshot: None,
        }
    }

    /// The shard that a torrent belongs to.
    pub(crate) fn shard_of(&self, info_hash: &InfoHash) -> usize {
        let shards = self.config.topology().shards();
        self.shard_key.shard_of(info_hash, shards)
    }

    /// An announce has been delivered. From now on it can take effect.
    pub(crate) fn begin_announce(&mut self, announce: Announce, now_seconds: u32) -> OpenAnnounce {
        // How much room there is, is only known if nothing else is going on.
        let alone = self.windows.is_empty();
        let room = alone.then(|| (Room::of(self, &announce), self.cleanings));
        let window = self.watch(announce.torrent);
        let Announce {
            torrent,
            peer: addr,
            status,
            ..
        } = announce;
        let deadline = self.deadline(now_seconds);
        let swarm = self.swarms.entry(torrent).or_default();
        swarm.may_exist |= status != PeerStatus::Stopped;
        let peer = swarm.peers.entry(addr).or_insert_with(|| Peer {
            states: States::ABSENT,
            deadline: Bounds {
                min: deadline,
                max: deadline,
            },
            open: 0,
            begun: 0,
            may_be_finished: false,
            period: Period::begin(now_seconds),
        });
        let before = peer.states;
        peer.begun += 1;
        let first_to_finish = (!peer.may_be_finished).then_some(peer.begun);
        peer.may_be_finished |= announce.completed || status == PeerStatus::Seeder;
        if peer.open == 0 {
            peer.period = Period::begin(now_seconds);
        }
        peer.open += 1;
        swarm.completed.max += u32::from(announce.completed);
        self.may_become(torrent, addr, announce.after());
        self.note_torrent(torrent, now_seconds);
        // Its own effect is not among what it can have met.
        if let Some(window) = self.windows.get_mut(&window) {
            window.peers.insert(addr, before);
        }
        OpenAnnounce {
            announce,
            window,
            room,
            first_to_finish,
        }
    }

    /// The last second of a peer that announces now: tracker and model know odd ones only.
    pub(crate) fn deadline(&self, now_seconds: u32) -> u32 {
        (now_seconds + self.config.cleaning.max_peer_age) | 1
    }

    /// An announce has been answered. Gives back what the torrent can have been just before, and
    /// whether the peer was kept out of it.
    pub(crate) fn end_announce(
        &mut self,
        open: &OpenAnnounce,
        now_seconds: u32,
    ) -> (Window, KeptOut) {
        let window = self.close(open.window);
        let Announce {
            torrent,
            peer,
            completed,
            ..
        } = open.announce;
        let before = window.peers.get(&peer).copied().unwrap_or(States::ABSENT);
        let kept_out = KeptOut::of(&self.config, &open.announce, &window);
        if let Some(swarm) = self.swarms.get_mut(&torrent).filter(|_| completed) {
            let begun = swarm.peers.get(&peer).map(|peer| peer.begun);
            let is_first = begun.is_some() && begun == open.first_to_finish;
            if before.must_be(States::SEEDER) || kept_out == KeptOut::Yes {
                swarm.completed.max -= 1;
            } else if is_first && kept_out == KeptOut::No && !window.forgotten {
                swarm.completed.min += 1;
            }
        }
        let after = match kept_out {
            KeptOut::No => open.announce.after(),
            KeptOut::Maybe => open.announce.after() | States::ABSENT,
            KeptOut::Yes => States::ABSENT,
        };
        self.settle_peer(open, after, now_seconds);
        (window, kept_out)
    }

    /// An announce has been refused: so its peer was absent, and still is as far as it is
    /// concerned.
    pub(crate) fn end_refused(&mut self, open: &OpenAnnounce, now_seconds: u32) -> Window {
        let window = self.close(open.window);
        if let Some(swarm) = self.swarms.get_mut(&open.announce.torrent) {
            swarm.completed.max -= u32::from(open.announce.completed);
        }
        self.settle_peer(open, States::ABSENT, now_seconds);
        window
    }

    /// How much room there was for an announce, if nothing else has begun since then.
    pub(crate) fn room<'a>(&self, open: &'a OpenAnnounce) -> Option<&'a Room> {
        let (room, cleanings) = open.room.as_ref()?;
        (open.window + 1 == self.next_window && *cleanings == self.cleanings).then_some(room)
    }

    fn settle_peer(&mut self, open: &OpenAnnounce, after: States, now_seconds: u32) {
        let last = self.deadline(now_seconds);
        let age = self.config.cleaning.max_peer_age;
        let Announce {
            torrent,
            peer: addr,
            ..
        } = open.announce;
        let Some(swarm) = self.swarms.get_mut(&torrent) else {
            return;
        };
        let Some(peer) = swarm.peers.get_mut(&addr) else {
            return;
        };
        let period = &mut peer.period;
        let after = period.after.map_or(after, |others| others | after);
        period.after = Some(after);
        peer.open -= 1;
        if peer.open > 0 {
            return;
        }
        peer.states = if period.cleaned {
            after | States::ABSENT
        } else {
            after
        };
        peer.deadline = Bounds {
            min: (period.begun_seconds + age) | 1,
            max: last,
        };
        let is_absent = peer.states == States::ABSENT;
        self.note_torrent(torrent, now_seconds);
        if let Some(swarm) = self.swarms.get_mut(&torrent).filter(|_| is_absent) {
            swarm.peers.remove(&addr);
        }
    }

    /// A scrape of these torrents has been delivered; `None` stands for one that is not allowed.
    pub(crate) fn begin_scrape(&mut self, torrents: &[Option<Torrent>]) -> OpenScrape {
        let windows = torrents
            .iter()
            .map(|torrent| torrent.map(|torrent| self.watch(torrent)));
        OpenScrape(windows.collect())
    }

    /// A scrape has been answered or dropped. Gives back what each torrent can have been.
    pub(crate) fn end_scrape(&mut self, open: OpenScrape) -> Vec<Option<Window>> {
        open.0
            .into_iter()
            .map(|id| id.map(|id| self.close(id)))
            .collect()
    }

    fn watch(&mut self, torrent: Torrent) -> WindowId {
        let id = self.next_window;
        self.next_window += 1;
        let swarm = self.swarms.entry(torrent).or_default();
        swarm.watchers.push(id);
        let peers = swarm
            .peers
            .iter()
            .map(|(addr, peer)| (*addr, peer.states))
            .collect();
        let completed = swarm.completed;
        self.windows.insert(
            id,
            Window {
                torrent,
                peers,
                completed,
                forgotten: false,
            },
        );
        id
    }

    fn close(&mut self, id: WindowId) -> Window {
        let window = self.windows.remove(&id).expect("it is open");
        if let Some(swarm) = self.swarms.get_mut(&window.torrent) {
            swarm.watchers.retain(|watcher| *watcher != id);
        }
        window
    }

    /// Lets everyone who watches know what a peer can become.
    fn may_become(&mut self, torrent: Torrent, addr: SocketAddr, states: States) {
        let Some(swarm) = self.swarms.get_mut(&torrent) else {
            return;
        };
        if let Some(peer) = swarm.peers.get_mut(&addr) {
            peer.states |= states;
        }
        for watcher in &swarm.watchers {
            if let Some(window) = self.windows.get_mut(watcher) {
                *window.peers.entry(addr).or_insert(States::ABSENT) |= states;
                window.completed.widen(swarm.completed);
            }
        }
    }
}

/// Cleaning.
impl Model {
    /// A shard may have been cleaned, or a part of it.
    pub(crate) fn may_clean(
        &mut self,
        now_seconds: u32,
        shard: usize,
        is_allowed: impl Fn(&InfoHash) -> bool,
    ) {
        self.cleanings += 1;
        let mut torrents: Vec<_> = self.swarms.keys().copied().collect();
        torrents.retain(|(_, name)| self.shard_of(name) == shard);
        for torrent in torrents {
            self.may_clean_torrent(now_seconds, torrent, is_allowed(&torrent.1));
        }
    }

    fn may_clean_torrent(&mut self, now_seconds: u32, torrent: Torrent, allowed: bool) {
        let age = self.config.cleaning.max_peer_age;
        let Some(swarm) = self.swarms.get_mut(&torrent) else {
            return;
        };
        let has_gone = |deadline| !allowed || deadline < now_seconds;
        let mut removed = Vec::new();
        let mut stays = false;
        for (addr, peer) in &mut swarm.peers {
            peer.period.cleaned |= has_gone((peer.period.begun_seconds + age) | 1);
            if !has_gone(peer.deadline.min) {
                stays |= peer.states.must_be(States::PRESENT);
            } else if !peer.states.may_be(States::ABSENT) {
                removed.push(*addr);
            }
        }
        if !stays {
            swarm.completed.min = 0;
            for watcher in &swarm.watchers {
                if let Some(window) = self.windows.get_mut(watcher) {
                    window.forgotten = true;
                    window.completed.min = 0;
                }
            }
        }
        for addr in removed {
            self.may_become(torrent, addr, States::ABSENT);
        }
        self.note_torrent(torrent, now_seconds);
    }

    /// All owners have cleaned all their torrents at this time, and nothing else is going on.
    pub(crate) fn must_have_cleaned(
        &mut self,
        now_seconds: u32,
        is_allowed: impl Fn(&InfoHash) -> bool,
    ) {
        assert!(self.is_quiet());
        self.swarms.retain(|torrent, swarm| {
            let allowed = is_allowed(&torrent.1);
            swarm
                .peers
                .retain(|_, peer| allowed && peer.deadline.max >= now_seconds);
            if !swarm
                .peers
                .values()
                .any(|peer| peer.states.must_be(States::PRESENT))
            {
                swarm.completed.min = 0;
            }
            !swarm.peers.is_empty()
        });
    }

    /// Whether all requests have been answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.windows.is_empty()
    }

    /// The peers about which something is not known.
    pub(crate) fn uncertain_peers(&self) -> Vec<(Torrent, SocketAddr)> {
        let uncertain = |swarm: &Swarm| {
            let peers = swarm
                .peers
                .iter()
                .filter(|(_, peer)| !peer.states.is_certain());
            peers.map(|(addr, _)| *addr).collect::<Vec<_>>()
        };
        let swarms = self.swarms.iter();
        swarms
            .flat_map(|(torrent, swarm)| uncertain(swarm).into_iter().map(|addr| (*torrent, addr)))
            .collect()
    }

    /// The states of all peers of a family, torrent by torrent.
    pub(crate) fn swarms_of(&self, family: IpFamily) -> impl Iterator<Item = Vec<States>> + '_ {
        let swarms = self
            .swarms
            .iter()
            .filter(move |(torrent, _)| torrent.0 == family);
        swarms.map(|(_, swarm)| swarm.peers.values().map(|peer| peer.states).collect())
    }
}
