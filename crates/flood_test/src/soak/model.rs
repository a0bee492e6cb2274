//! What must be in the tracker: who has announced what, and who has left. Pure.
//!
//! The population consists of *places*, which take their turns one after the other, so that all of
//! them announce at one interval. In its turn, whoever has a place announces again, finishes its
//! download, leaves, or vanishes; then somebody else takes the place, with another torrent.
//!
//! A peer is counted when its first announce was answered. Until then, and while it leaves, it may
//! be in the tracker or not; so may one that has vanished, until it must have been forgotten. At
//! the end nobody is on the way, and what the tracker says must be what is counted here.

use std::collections::VecDeque;

use aquatic_load_test::core::population::Popularity;
use aquatic_types::AnnounceEvent;
use fastrand::Rng;

/// Popularity of torrents by Zipf's law: the largest swarm has some 2 % of all peers.
const ZIPF_EXPONENT: f64 = 0.8;

/// Of those who come, and have something to download.
const LEECHER_PROBABILITY: f64 = 0.8;

/// Draws of a torrent that its connection does not have yet.
const DRAWS_MAX: u32 = 100;

/// How large the population is, and when the tracker must have forgotten somebody.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Torrents.
    pub torrents: u32,
    /// Places for peers.
    pub places: u32,
    /// Sockets or connections, each of which speaks for as many places as any other.
    pub lanes: u32,
    /// Whether peers go with the connection that speaks for them.
    pub is_bound: bool,
    /// After this, a peer that has vanished is surely forgotten, in microseconds.
    pub forget_micros: u64,
    /// After this, a torrent without peers is surely forgotten, in microseconds.
    pub clean_micros: u64,
}

/// Who has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Nobody,
    Leecher,
    Seeder,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    torrent: u32,
    port: u16,
    peer: Peer,
    /// Its announce is not answered yet.
    waits: bool,
}

/// A swarm as the tracker must have it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Swarm {
    /// Those that surely are there, and have everything.
    pub seeders: u32,
    /// Those that surely are there, and lack something.
    pub leechers: u32,
    /// How often a download was completed, unless the torrent may have been forgotten meanwhile.
    completed: Option<u32>,
    /// How often somebody has begun to leave.
    pub departures: u32,
    joining: u32,
    leaving: u32,
    vanished: u32,
    /// Until when somebody may have been there; `None` if nobody ever was.
    last_micros: Option<u64>,
}

/// An announce that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// Whose turn it is.
    pub place: u32,
    /// The socket or connection that speaks for it.
    pub lane: u32,
    /// The torrent's number.
    pub torrent: u32,
    /// Where the peer says that it listens.
    pub port: u16,
    /// What has happened.
    pub event: AnnounceEvent,
    /// Whether it has everything.
    pub is_seeder: bool,
}

/// What is to be done in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// To send this.
    Announce(Announce),
    /// To close this connection, without a word. It was no turn.
    Vanish(u32),
}

/// The population.
#[derive(Debug)]
pub struct Model {
    shape: Shape,
    popularity: Popularity,
    places: Vec<Place>,
    swarms: Vec<Swarm>,
    /// The last port of each lane: no two peers of an address share one.
    ports: Vec<u16>,
    /// Requests of each lane that are not answered yet.
    busy: Vec<u32>,
    /// When a peer that has vanished is surely forgotten, and its torrent.
    vanished: VecDeque<(u64, u32)>,
    next: u32,
    is_settling: bool,
    /// Downloads that were completed.
    completed: u64,
}

impl Swarm {
    /// Peers that surely are there.
    #[must_use]
    pub fn peers_min(&self) -> u32 {
        self.seeders + self.leechers
    }

    /// Peers that may be there.
    #[must_use]
    pub fn peers_max(&self) -> u32 {
        self.peers_min() + self.joining + self.leaving + self.vanished
    }

    /// How often a download was completed, if a tracker must know: it may have forgotten a torrent
    /// without peers, or not yet.
    #[must_use]
    pub fn completed(&self) -> Option<u32> {
        self.completed.filter(|_| self.peers_min() > 0)
    }

    /// What is wrong with what the tracker says at the end, in words.
    #[must_use]
    pub fn difference(&self, seeders: u32, leechers: u32, completed: u32) -> Option<String> {
        let is_equal = (self.seeders, self.leechers) == (seeders, leechers)
            && self.completed().is_none_or(|it| it == completed);
        (!is_equal).then(|| {
            format!(
                "{seeders} seeders, {leechers} leechers, {completed} downloads, instead of {}, {} \
                 and {:?}",
                self.seeders,
                self.leechers,
                self.completed()
            )
        })
    }

    fn begin_to_join(&mut self, now_micros: u64, clean_micros: u64) {
        if self.peers_min() + self.joining == 0 {
            let is_new = self
                .last_micros
                .is_none_or(|last| now_micros > last + clean_micros);
            let is_empty = self.peers_max() == 0;
            self.completed = (is_new && is_empty).then_some(0);
        }
        self.joining += 1;
    }

    fn depart(&mut self, was_seeder: bool) {
        match was_seeder {
            true => self.seeders -= 1,
            false => self.leechers -= 1,
        }
        self.departures += 1;
        if self.peers_min() == 0 && self.joining > 0 {
            // Nobody knows whether the one came before the other went.
            self.completed = None;
        }
    }
}

impl Model {
    /// Nobody is there yet.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let nobody = Place {
            torrent: 0,
            port: 0,
            peer: Peer::Nobody,
            waits: false,
        };
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            shape,
            popularity: Popularity::zipf(shape.torrents, ZIPF_EXPONENT),
            places: vec![nobody; size(shape.places)],
            swarms: vec![Swarm::default(); size(shape.torrents)],
            ports: vec![0; size(shape.lanes)],
            busy: vec![0; size(shape.lanes)],
            vanished: VecDeque::new(),
            next: 0,
            is_settling: false,
            completed: 0,
        }
    }

    /// A swarm.
    #[must_use]
    pub fn swarm(&self, torrent: u32) -> &Swarm {
        &self.swarms[index(torrent)]
    }

    /// All swarms, by their torrents' numbers.
    #[must_use]
    pub fn swarms(&self) -> &[Swarm] {
        &self.swarms
    }

    /// Downloads that were completed, all torrents together.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// From now on nobody comes or goes; all that are there keep announcing.
    pub fn settle(&mut self) {
        self.is_settling = true;
    }

    /// Whether nobody is on the way, and those that have vanished must have been forgotten.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_waiting = |swarm: &Swarm| swarm.peers_max() != swarm.peers_min();
        self.is_settling && !self.swarms.iter().any(is_waiting)
    }

    /// A request is sent over a lane.
    pub fn ask(&mut self, lane: u32) {
        self.busy[index(lane)] += 1;
    }

    /// It is answered.
    pub fn hear(&mut self, lane: u32) {
        self.busy[index(lane)] -= 1;
    }

    /// Draws a torrent: popular ones more often.
    pub fn draw(&self, rng: &mut Rng) -> u32 {
        self.popularity.sample(rng)
    }

    /// Forgets whom the tracker must have forgotten by now.
    pub fn expire(&mut self, now_micros: u64) {
        while let Some((due, torrent)) = self.vanished.front().copied() {
            if due > now_micros {
                return;
            }
            self.vanished.pop_front();
            let swarm = &mut self.swarms[index(torrent)];
            swarm.vanished -= 1;
            swarm.last_micros = Some(now_micros);
        }
    }

    /// What happens next. `None` if there is nobody who could do anything.
    pub fn turn(&mut self, now_micros: u64, rng: &mut Rng) -> Option<Turn> {
        for _ in 0..self.places.len() {
            let place = self.next;
            self.next = (place + 1) % self.shape.places;
            let turn = match self.places[index(place)] {
                Place { waits: true, .. } => None,
                Place {
                    peer: Peer::Nobody, ..
                } if self.is_settling => None,
                Place {
                    peer: Peer::Nobody, ..
                } => self.join(place, now_micros, rng),
                _ if self.is_settling => Some(self.announce(place, AnnounceEvent::None)),
                _ => self.live(place, now_micros, rng),
            };
            if turn.is_some() {
                return turn;
            }
        }
        None
    }

    /// The tracker has answered an announce.
    pub fn answered(&mut self, announce: &Announce, now_micros: u64) {
        let swarm = &mut self.swarms[index(announce.torrent)];
        let place = &mut self.places[index(announce.place)];
        place.waits = false;
        match announce.event {
            AnnounceEvent::None => {}
            AnnounceEvent::Started => {
                swarm.joining -= 1;
                match announce.is_seeder {
                    true => swarm.seeders += 1,
                    false => swarm.leechers += 1,
                }
            }
            AnnounceEvent::Completed => {
                swarm.leechers -= 1;
                swarm.seeders += 1;
                swarm.completed = swarm.completed.map(|it| it + 1);
                place.peer = Peer::Seeder;
                self.completed += 1;
            }
            AnnounceEvent::Stopped => {
                swarm.leaving -= 1;
                swarm.last_micros = Some(now_micros);
                place.peer = Peer::Nobody;
            }
        }
    }

    fn live(&mut self, place: u32, now_micros: u64, rng: &mut Rng) -> Option<Turn> {
        let is_seeder = self.places[index(place)].peer == Peer::Seeder;
        let [completes, stops, vanishes] = match is_seeder {
            true => [0.0, 0.06, 0.03],
            false => [0.10, 0.02, 0.02],
        };
        let lot = rng.f64();
        let event = if lot < completes {
            AnnounceEvent::Completed
        } else if lot < completes + stops {
            AnnounceEvent::Stopped
        } else if lot < completes + stops + vanishes {
            if !self.shape.is_bound {
                self.vanish(place, now_micros);
                return self.join(place, now_micros, rng);
            }
            // All places of a connection vanish with it.
            let is_chosen = rng.u32(..self.places_per_lane()) == 0;
            let lane = place % self.shape.lanes;
            if is_chosen && self.busy[index(lane)] == 0 {
                self.vanish_lane(lane, now_micros);
                return Some(Turn::Vanish(lane));
            }
            AnnounceEvent::None
        } else {
            AnnounceEvent::None
        };
        Some(self.announce(place, event))
    }

    fn join(&mut self, place: u32, now_micros: u64, rng: &mut Rng) -> Option<Turn> {
        let lane = place % self.shape.lanes;
        let torrent = (0..DRAWS_MAX)
            .map(|_| self.popularity.sample(rng))
            .find(|torrent| !self.shape.is_bound || !self.has(lane, *torrent))?;
        let port = &mut self.ports[index(lane)];
        *port = port.checked_add(1).unwrap_or(1);
        self.places[index(place)] = Place {
            torrent,
            port: *port,
            peer: match rng.f64() < LEECHER_PROBABILITY {
                true => Peer::Leecher,
                false => Peer::Seeder,
            },
            waits: false,
        };
        let clean_micros = self.shape.clean_micros;
        self.swarms[index(torrent)].begin_to_join(now_micros, clean_micros);
        Some(self.announce(place, AnnounceEvent::Started))
    }

    /// Whether a connection takes part in a swarm already.
    fn has(&self, lane: u32, torrent: u32) -> bool {
        let mut places = self.lane_places(lane);
        places.any(|place| {
            let place = &self.places[index(place)];
            place.peer != Peer::Nobody && place.torrent == torrent
        })
    }

    fn lane_places(&self, lane: u32) -> impl Iterator<Item = u32> + use<> {
        (lane..self.shape.places).step_by(index(self.shape.lanes))
    }

    fn places_per_lane(&self) -> u32 {
        self.shape.places.div_ceil(self.shape.lanes)
    }

    fn announce(&mut self, number: u32, event: AnnounceEvent) -> Turn {
        let place = &mut self.places[index(number)];
        place.waits = true;
        let was_seeder = place.peer == Peer::Seeder;
        if event == AnnounceEvent::Stopped {
            let swarm = &mut self.swarms[index(place.torrent)];
            swarm.depart(was_seeder);
            swarm.leaving += 1;
        }
        Turn::Announce(Announce {
            place: number,
            lane: number % self.shape.lanes,
            torrent: place.torrent,
            port: place.port,
            event,
            is_seeder: was_seeder || event == AnnounceEvent::Completed,
        })
    }

    fn vanish_lane(&mut self, lane: u32, now_micros: u64) {
        for place in self.lane_places(lane) {
            if self.places[index(place)].peer != Peer::Nobody {
                self.vanish(place, now_micros);
            }
        }
    }

    fn vanish(&mut self, place: u32, now_micros: u64) {
        let place = &mut self.places[index(place)];
        let swarm = &mut self.swarms[index(place.torrent)];
        swarm.depart(place.peer == Peer::Seeder);
        swarm.vanished += 1;
        place.peer = Peer::Nobody;
        let forgotten = now_micros + self.shape.forget_micros;
        self.vanished.push_back((forgotten, place.torrent));
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
