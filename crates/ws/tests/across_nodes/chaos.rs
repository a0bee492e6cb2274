//! A bus that loses, repeats and mixes up what it carries, a log that is read again, connections
//! that end, and nodes that fall silent. Whatever happens, no answer comes without its offer; and
//! when all is quiet, all nodes agree.

use std::collections::BTreeSet;

use aquatic_cluster::nodes::NodeState;
use aquatic_test_support::seeds::for_each_seed;
use aquatic_types::AnnounceEvent;

use super::client::{Got, torrent};
use super::cluster::{Cluster, Fate, LIFE_SECONDS, config};

const NODES: usize = 3;
const STEPS: usize = 150;
const RUNS: u64 = 24;

struct World {
    cluster: Cluster,
    rng: fastrand::Rng,
    /// Clients that are in the torrent, and whether each is a seeder.
    members: Vec<(usize, bool)>,
    /// Offers that were made, by peer and number, and those that have come: to whom.
    made: BTreeSet<(u8, u8)>,
    came: BTreeSet<(usize, u8, u8)>,
    /// Answers that were given: by whom, to whom, and which.
    given: BTreeSet<(u8, u8, u8)>,
    answers: usize,
}

/// Each client has one.
fn name(client: usize) -> u8 {
    u8::try_from(client).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let [one, split] = [config(2, 0), config(1, 2)];
        let mut configs = vec![one; NODES - 1];
        configs.push(split);
        for config in &mut configs {
            config.protocol.max_offers_per_second_per_receiver = [0, 2][rng.usize(..2)];
            config.cleaning.max_offer_age = 20;
        }
        let mut cluster = Cluster::of(&configs);
        let mut dice = rng.fork();
        cluster.fate = Box::new(move |_, _, _| match dice.u8(..10) {
            0 => Fate::Lost,
            1 => Fate::Twice,
            2 | 3 => Fate::Early,
            _ => Fate::Arrives,
        });
        Self {
            cluster,
            rng,
            members: Vec::new(),
            made: BTreeSet::new(),
            came: BTreeSet::new(),
            given: BTreeSet::new(),
            answers: 0,
        }
    }

    fn step(&mut self) {
        match self.rng.u8(..20) {
            0..4 if self.cluster.clients.len() < 200 => {
                let node = self.rng.usize(..NODES);
                let client = self.cluster.connect(node);
                self.members.push((client, false));
                self.announce(self.members.len() - 1);
            }
            4..10 if !self.members.is_empty() => {
                let member = self.rng.usize(..self.members.len());
                self.members[member].1 = self.rng.bool();
                self.announce(member);
            }
            10 if !self.members.is_empty() => {
                let (client, _) = self.leaver();
                self.cluster.leave(client, name(client));
            }
            11 if !self.members.is_empty() => {
                let (client, _) = self.leaver();
                self.cluster.fail(client);
            }
            12..16 => self.answer(),
            16 => {
                let [node, of] = [(); 2].map(|()| self.rng.usize(..NODES));
                let states = [NodeState::Alive, NodeState::Silent, NodeState::Gone];
                if node != of {
                    self.cluster.think(node, of, states[self.rng.usize(..3)]);
                }
            }
            17 => {
                let seconds = self.rng.u32(1..30);
                self.cluster.pass(seconds);
            }
            18 => {
                let node = self.rng.usize(..NODES);
                let millis_ago = self.rng.u64(..self.cluster.micros / 1_000);
                self.cluster.read_log(node, millis_ago);
            }
            _ => {}
        }
        // Often, not everything that is on its way has come when the next thing happens.
        for _ in 0..self.rng.usize(..4) {
            let node = self.rng.usize(..NODES);
            self.cluster.work(node);
            self.cluster.exchange(node);
        }
        self.look();
    }

    fn leaver(&mut self) -> (usize, bool) {
        let member = self.rng.usize(..self.members.len());
        self.members.swap_remove(member)
    }

    fn announce(&mut self, member: usize) {
        let (client, is_seeder) = self.members[member];
        let mut offers: BTreeSet<u8> = (0..self.rng.u8(..4)).map(|_| self.rng.u8(..)).collect();
        // Each is made once, so that it is known who may have got it: whoever else answers it, has
        // not.
        offers.retain(|it| !self.made.contains(&(name(client), *it)));
        self.made
            .extend(offers.iter().map(|it| (name(client), *it)));
        let offers: Vec<_> = offers.into_iter().collect();
        let left = Some(u64::from(!is_seeder));
        let event = AnnounceEvent::None;
        self.cluster
            .announce_in(torrent(1), client, name(client), left, event, &offers);
    }

    /// Somebody answers an offer that has come, perhaps once more, or perhaps another client does
    /// that has not got it.
    fn answer(&mut self) {
        let came: Vec<_> = self.came.iter().copied().collect();
        let Some((receiver, offerer, offer)) = self.rng.choice(came) else {
            return;
        };
        let is_stranger = self.rng.u8(..4) == 0 && !self.members.is_empty();
        let client = match is_stranger {
            true => self.members[self.rng.usize(..self.members.len())].0,
            false => receiver,
        };
        if self.came.contains(&(client, offerer, offer)) {
            self.given.insert((name(client), offerer, offer));
        }
        self.cluster.answer(client, name(client), offerer, offer);
    }

    /// What has come is what was sent, to whom it may come.
    fn look(&mut self) {
        for client in 0..self.cluster.clients.len() {
            for got in self.cluster.clients[client].take() {
                match got {
                    Got::Offer(from, offer, _) => {
                        assert!(self.made.contains(&(from, offer)));
                        assert_ne!(from, name(client), "nobody is handed its own");
                        self.came.insert((client, from, offer));
                    }
                    Got::Answer(from, offer, _) => {
                        assert!(self.given.contains(&(from, name(client), offer)));
                        self.answers += 1;
                    }
                    Got::Counts(..) | Got::Refusal(_) | Got::Scrape(..) => {}
                }
            }
        }
    }

    /// The bus works, and all nodes hear each other, for long enough.
    fn calm_down(&mut self) {
        self.cluster.fate = Box::new(|_, _, _| Fate::Arrives);
        for node in 0..NODES {
            for of in 0..NODES {
                self.cluster.think(node, of, NodeState::Alive);
            }
        }
        self.cluster.pass(LIFE_SECONDS + 61);
        self.look();
    }

    fn check(&mut self) {
        let all = u32::try_from(self.members.len()).unwrap();
        let seeders = self.members.iter().filter(|it| it.1).count();
        let seeders = u32::try_from(seeders).unwrap();
        for node in 0..NODES {
            let client = self.cluster.connect(node);
            let (found, leechers, _) = self.cluster.scrape(client, torrent(1));
            assert_eq!((found, leechers), (seeders, all - seeders), "node {node}");
            assert_eq!(self.cluster.peers(node), u64::from(all));
        }
    }
}

#[test]
fn when_all_is_quiet_all_nodes_agree() {
    let mut answers = 0;
    let is_whole = for_each_seed(RUNS, |seed| {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.calm_down();
        world.check();
        for (client, _) in std::mem::take(&mut world.members) {
            world.cluster.fail(client);
        }
        world.cluster.settle();
        world.check();
        answers += world.answers;
    });
    assert!(!is_whole || answers > 100, "only {answers} answers came");
}
