//! The model against a tracker of a few lines, with and without faults.

use std::collections::HashMap;

use super::*;

const SECOND: u64 = 1_000_000;

fn shape(is_bound: bool) -> Shape {
    Shape {
        torrents: 40,
        places: 400,
        lanes: 100,
        is_bound,
        forget_micros: 20 * SECOND,
        clean_micros: 5 * SECOND,
    }
}

/// A tracker of a few lines: peers by torrent, lane and port, and when they were last heard.
#[derive(Default)]
struct Tracker {
    peers: HashMap<(u32, u32, u16), (bool, u64)>,
    completed: HashMap<u32, u32>,
}

impl Tracker {
    fn announce(&mut self, it: &Announce, now_micros: u64) {
        let name = (it.torrent, it.lane, it.port);
        if it.event == AnnounceEvent::Stopped {
            self.peers.remove(&name);
            return;
        }
        if it.event == AnnounceEvent::Completed {
            *self.completed.entry(it.torrent).or_default() += 1;
        }
        self.peers.insert(name, (it.is_seeder, now_micros));
    }

    fn clean(&mut self, now_micros: u64) {
        let is_young = |heard: u64| heard + 15 * SECOND > now_micros;
        self.peers.retain(|_, (_, heard)| is_young(*heard));
        let peers = &self.peers;
        let mut names = peers.keys();
        self.completed
            .retain(|torrent, _| names.clone().any(|name| name.0 == *torrent));
        assert!(names.all(|name| name.2 != 0));
    }

    fn count(&self, torrent: u32) -> [u32; 3] {
        let of = |seeders| {
            let peers = self.peers.iter();
            let peers = peers.filter(|(name, it)| name.0 == torrent && it.0 == seeders);
            u32::try_from(peers.count()).unwrap()
        };
        let completed = self.completed.get(&torrent).copied().unwrap_or(0);
        [of(true), of(false), completed]
    }
}

/// Lets them live for 200 s, then settle. What differs in the end.
fn run(is_bound: bool, mut harm: impl FnMut(&mut Tracker)) -> Vec<String> {
    let (mut model, mut tracker) = (Model::new(shape(is_bound)), Tracker::default());
    let mut rng = Rng::with_seed(7);
    let mut now = 0;
    for step in 0..24_000 {
        now = step * 10_000;
        model.expire(now);
        if step % 300 == 0 {
            tracker.clean(now);
        }
        match model.turn(now, &mut rng).unwrap() {
            Turn::Announce(announce) => {
                tracker.announce(&announce, now);
                model.answered(&announce, now);
            }
            Turn::Vanish(lane) => tracker.peers.retain(|name, _| name.1 != lane),
        }
        if step == 21_000 {
            model.settle();
        }
    }
    harm(&mut tracker);
    tracker.clean(now);
    assert!(model.is_settled());
    let differences = (0..40).filter_map(|torrent| {
        let [seeders, leechers, completed] = tracker.count(torrent);
        model
            .swarm(torrent)
            .difference(seeders, leechers, completed)
    });
    let known = model.swarms().iter().filter(|it| it.completed().is_some());
    assert!(known.count() > 20, "most swarms are never empty");
    assert!(model.completed() > 100 && tracker.peers.len() > 200);
    differences.collect()
}

#[test]
fn a_tracker_without_faults_agrees() {
    for is_bound in [false, true] {
        assert_eq!(run(is_bound, |_| ()), [""; 0], "{is_bound}");
    }
}

#[test]
fn a_lost_peer_is_seen() {
    let differences = run(false, |tracker| {
        let name = *tracker.peers.keys().next().unwrap();
        tracker.peers.remove(&name);
    });
    assert_eq!(differences.len(), 1, "{differences:?}");
}

#[test]
fn a_peer_that_should_be_gone_is_seen() {
    let differences = run(true, |tracker| {
        tracker.peers.insert((39, 1, 9), (true, u64::MAX / 2));
    });
    assert_eq!(differences.len(), 1, "{differences:?}");
}

#[test]
fn a_lost_download_is_seen() {
    let differences = run(false, |tracker| {
        *tracker.completed.get_mut(&0).unwrap() -= 1
    });
    assert!(differences[0].contains("downloads"), "{differences:?}");
}

#[test]
fn downloads_of_a_torrent_without_peers_may_be_forgotten() {
    let shape = Shape {
        torrents: 1,
        places: 1,
        lanes: 1,
        ..shape(false)
    };
    let (mut model, mut rng) = (Model::new(shape), Rng::with_seed(1));
    let announce = |model: &mut Model, event, is_seeder, now_micros| {
        let announce = match model.announce(0, event) {
            Turn::Announce(it) => Announce { is_seeder, ..it },
            Turn::Vanish(_) => panic!("nobody vanishes"),
        };
        model.answered(&announce, now_micros);
    };
    model.join(0, 0, &mut rng);
    model.places[0].peer = Peer::Leecher;
    announce(&mut model, AnnounceEvent::Started, false, 0);
    announce(&mut model, AnnounceEvent::Completed, true, 0);
    assert_eq!(model.swarm(0).completed(), Some(1));
    announce(&mut model, AnnounceEvent::Stopped, true, 0);
    for completed in [0, 1] {
        assert_eq!(model.swarm(0).difference(0, 0, completed), None);
    }
    // Who comes at once may find it as it was; who comes later does not.
    for (now_micros, completed) in [(SECOND, None), (30 * SECOND, Some(0))] {
        model.join(0, now_micros, &mut rng);
        let is_seeder = model.places[0].peer == Peer::Seeder;
        announce(&mut model, AnnounceEvent::Started, is_seeder, now_micros);
        assert_eq!(model.swarm(0).completed(), completed);
        announce(&mut model, AnnounceEvent::Stopped, is_seeder, now_micros);
    }
}

#[test]
fn who_is_on_the_way_may_be_there() {
    let mut model = Model::new(shape(false));
    let mut rng = Rng::with_seed(1);
    let Some(Turn::Announce(first)) = model.turn(0, &mut rng) else {
        panic!("somebody comes");
    };
    assert_eq!(first.event, AnnounceEvent::Started);
    let swarm = *model.swarm(first.torrent);
    assert_eq!((swarm.peers_min(), swarm.peers_max()), (0, 1));
    model.answered(&first, 1);
    assert_eq!(model.swarm(first.torrent).peers_min(), 1);
    model.vanish(first.place, 1);
    let swarm = *model.swarm(first.torrent);
    assert_eq!((swarm.peers_min(), swarm.peers_max()), (0, 1));
    model.expire(20 * SECOND + 1);
    assert_eq!(model.swarm(first.torrent).peers_max(), 0);
}
