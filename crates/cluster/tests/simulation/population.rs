//! Peers: when they come, announce and go, and so who is in which swarm. This is the model that
//! nodes are compared with.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use aquatic_types::{InfoHash, IpFamily, PeerStatus};
use fastrand::Rng;

use crate::node::{Address, Intervals, Question};

pub(crate) const SECOND: u64 = 1_000_000;

/// How long a peer stays, on average.
const SESSION_MICROS: f64 = 3_600.0 * 1e6;

/// So many leave cleanly, and so many are of IPv6.
const CLEAN: f64 = 0.7;
const V6: f64 = 0.2;

/// An announce in so many tells that the download is complete, unless it was before.
const ANNOUNCES_PER_COMPLETION: u32 = 30;

/// How a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It has not announced yet.
    Coming,
    Live,
    /// It has said that it leaves.
    Left,
    /// It has said nothing.
    Vanished,
}

/// A peer, from its first announce to its end. Its number is its address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    pub(crate) torrent: u32,
    pub(crate) family: IpFamily,
    /// The node that it announces to.
    pub(crate) node: usize,
    pub(crate) state: State,
    pub(crate) is_seeder: bool,
    /// When it has announced first, and last; when it has become what it is.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) changed: u64,
    /// Until when it is remembered by the node it has announced to last.
    pub(crate) until: u64,
    /// When it goes, or has gone.
    pub(crate) end: u64,
}

/// What a peer does.
pub(crate) struct Act {
    pub(crate) session: u32,
    pub(crate) question: Question,
}

/// See the [module](self).
pub(crate) struct Population {
    pub(crate) sessions: Vec<Session>,
    /// By torrent: who may be known of it.
    pub(crate) torrents: Vec<Vec<u32>>,
    /// Who does something when.
    events: BinaryHeap<Reverse<(u64, u32)>>,
    pub(crate) announces: u64,
    pub(crate) vanished: u64,
    /// Downloads of peers of IPv4, by torrent.
    pub(crate) completed: Vec<u32>,
    intervals: Intervals,
    /// Of this many announces, as a part of all, each is to another node than the one before.
    moving: f64,
}

impl Population {
    /// So many peers, in torrents of which those with s peers are as s^-2. They begin to announce
    /// within one interval.
    pub(crate) fn new(
        peers: usize,
        intervals: Intervals,
        moving: f64,
        now: u64,
        rng: &mut Rng,
    ) -> Self {
        let mut population = Self {
            sessions: Vec::new(),
            torrents: Vec::new(),
            events: BinaryHeap::new(),
            announces: 0,
            vanished: 0,
            completed: Vec::new(),
            intervals,
            moving,
        };
        while population.sessions.len() < peers {
            #[expect(clippy::cast_precision_loss, reason = "a few peers more or less")]
            let largest = peers as f64 / 5.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "from 1 to the number of peers"
            )]
            let size = (1.0 / (1.0 - rng.f64())).min(largest) as usize;
            let size = size.clamp(1, peers - population.sessions.len());
            let torrent = u32::try_from(population.torrents.len()).unwrap();
            population.torrents.push(Vec::new());
            population.completed.push(0);
            for _ in 0..size {
                let first = now + rng.u64(..u64::from(intervals.announce) * SECOND);
                population.add(torrent, first, rng);
            }
        }
        population
    }

    fn add(&mut self, torrent: u32, first: u64, rng: &mut Rng) {
        let number = u32::try_from(self.sessions.len()).unwrap();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "some hours"
        )]
        let stays = (-(1.0 - rng.f64()).ln() * SESSION_MICROS) as u64;
        self.sessions.push(Session {
            torrent,
            family: match rng.f64() < V6 {
                true => IpFamily::V6,
                false => IpFamily::V4,
            },
            node: usize::MAX,
            state: State::Coming,
            is_seeder: rng.u8(..3) == 0,
            first,
            last: 0,
            changed: first,
            until: 0,
            end: first + stays.max(SECOND),
        });
        self.events.push(Reverse((first, number)));
    }

    /// What somebody does next, until `now`. `nodes`: those that can be asked.
    pub(crate) fn act(&mut self, now: u64, nodes: &[usize], rng: &mut Rng) -> Option<Act> {
        loop {
            let Reverse((due, number)) = *self.events.peek()?;
            if due > now {
                return None;
            }
            self.events.pop();
            if let Some(question) = self.act_as(number, now, nodes, rng) {
                self.announces += 1;
                return Some(Act {
                    session: number,
                    question,
                });
            }
        }
    }

    fn act_as(
        &mut self,
        number: u32,
        now: u64,
        nodes: &[usize],
        rng: &mut Rng,
    ) -> Option<Question> {
        let session = &mut self.sessions[number as usize];
        let torrent = session.torrent;
        if session.state == State::Coming {
            session.state = State::Live;
            session.first = now;
            session.changed = now;
            self.torrents[torrent as usize].push(number);
        } else if session.end <= now {
            session.end = now;
            let is_clean = rng.f64() < CLEAN;
            session.state = match is_clean {
                true => State::Left,
                false => State::Vanished,
            };
            let question = is_clean.then(|| session.announces(number, PeerStatus::Stopped, false));
            self.vanished += u64::from(!is_clean);
            // Somebody else comes.
            self.add(torrent, now + rng.u64(..60 * SECOND), rng);
            return question;
        }
        if rng.f64() < self.moving || !nodes.contains(&session.node) {
            session.node = nodes[rng.usize(..nodes.len())];
        }
        let mut completed = false;
        if !session.is_seeder && session.last > 0 && rng.u32(..ANNOUNCES_PER_COMPLETION) == 0 {
            session.is_seeder = true;
            session.changed = now;
            completed = true;
            if session.family == IpFamily::V4 {
                self.completed[torrent as usize] += 1;
            }
        }
        session.last = now;
        let jitter = rng.u64(..2 * SECOND);
        let next = now + u64::from(self.intervals.announce) * SECOND + jitter - SECOND;
        self.events
            .push(Reverse((next.min(session.end.max(now + 1)), number)));
        let status = match session.is_seeder {
            true => PeerStatus::Seeder,
            false => PeerStatus::Leecher,
        };
        Some(session.announces(number, status, completed))
    }

    /// Nobody does anything any more.
    pub(crate) fn stop(&mut self) {
        self.events.clear();
    }

    /// Forgets in a torrent who has been gone for so long that nobody remembers.
    pub(crate) fn prune(&mut self, torrent: usize, now: u64) {
        let (sessions, age) = (&self.sessions, self.intervals.age);
        self.torrents[torrent].retain(|number| {
            let session = &sessions[*number as usize];
            let is_over = session.end + u64::from(2 * age) * SECOND < now;
            session.state == State::Live || !is_over
        });
    }
}

impl Session {
    fn announces(&self, number: u32, status: PeerStatus, completed: bool) -> Question {
        Question::Announce {
            torrent: info_hash(self.torrent),
            peer: Address::new(number, self.family),
            status,
            completed,
            num_want: 0,
        }
    }

    /// It has announced to a node that started at this time, and remembers peers for so long.
    pub(crate) fn is_told(&mut self, now: u64, (started, age): (u64, u32)) {
        let deadline = (now - started) / SECOND + u64::from(age);
        // Deadlines are kept in steps of two seconds.
        self.until = started + ((deadline | 1) + 1) * SECOND;
    }
}

/// Of the torrent with this number.
pub(crate) fn info_hash(torrent: u32) -> InfoHash {
    let mut rng = Rng::with_seed(u64::from(torrent) + 1);
    InfoHash(std::array::from_fn(|_| rng.u8(..)))
}
