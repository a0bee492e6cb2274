//! A swarm worker that does not keep up, in a tracker without sockets: who has asked for little is
//! served first, and nobody is refused.

use std::fmt::Write as _;

use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_channel::bell;
use aquatic_daemon::clock::Now;
use aquatic_http::arrangement::arrange;
use aquatic_http::config::Config;
use aquatic_http::counters::{Http, Reason};
use aquatic_stream::{ConnectionId, Settled};
use aquatic_tracker_stream::simulation::Simulation;
use aquatic_types::IpFamily;

const NOW: Now = Now {
    seconds: aquatic_types::Seconds(1),
    micros: 1_000_000,
};

/// Torrents of one scrape.
const TORRENTS: usize = 250;

struct Town {
    tracker: Simulation<Http>,
    clients: u16,
}

impl Town {
    /// One socket worker and one swarm worker.
    fn new() -> Self {
        let mut config = Config {
            swarm_workers: 1,
            ..Config::default()
        };
        config.protocol.max_scrape_torrents = TORRENTS;
        let bells: Vec<_> = (0..2).map(|_| bell(|| ()).1).collect();
        let access_list = SharedAccessList::new(AccessListMode::Off, AccessList::default());
        let entropy = &mut fastrand::Rng::with_seed(1);
        let (arrangement, _) = arrange(&config, &access_list, &bells, entropy).unwrap();
        Self {
            tracker: Simulation::new(arrangement, config.bounds()),
            clients: 0,
        }
    }

    /// Somebody connects and asks.
    fn ask(&mut self, request: &str) -> ConnectionId {
        self.clients += 1;
        let address = ([192, 0, 2, 1], self.clients).into();
        let id = self.tracker.accept(0, NOW, address).unwrap();
        let mut request = format!("GET {request} HTTP/1.1\r\nHost: tracker\r\n\r\n").into_bytes();
        self.tracker.hubs[0].receive(NOW, id, &mut request);
        id
    }

    fn finish(&mut self) {
        self.tracker.hubs[0].finish(NOW);
    }

    fn answer_to(&mut self, id: ConnectionId) -> String {
        let (bytes, _) = self.tracker.look_after(0, NOW, id, usize::MAX);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn announce() -> String {
    let info_hash = "%aa".repeat(20);
    format!("/announce?info_hash={info_hash}&peer_id=-TR4060-abcdefghijkl&port=6881&left=1")
}

fn scrape() -> String {
    let mut scrape = "/scrape?".to_owned();
    for torrent in 0..TORRENTS {
        let _ = write!(scrape, "info_hash={torrent:020}&");
    }
    scrape
}

#[test]
fn scrapes_of_others_do_not_starve_announces() {
    let mut town = Town::new();
    let scrapers: Vec<_> = (0..600).map(|_| town.ask(&scrape())).collect();
    town.finish();
    let honest: Vec<_> = (0..20).map(|_| town.ask(&announce())).collect();
    town.finish();
    // The queue is full of scrapes. Behind it each scraper has one turn of 16 torrents.
    let mut rounds = 0;
    let mut unserved = honest;
    while !unserved.is_empty() {
        rounds += 1;
        assert!(rounds <= 3, "{} announces starve", unserved.len());
        town.tracker.answer(0, NOW);
        town.finish();
        unserved.retain(|id| {
            let answer = town.answer_to(*id);
            assert!(
                answer.is_empty() || answer.contains("8:interval"),
                "{answer}"
            );
            assert!(!answer.contains("failure reason"), "{answer}");
            answer.is_empty()
        });
    }
    while town.tracker.has_mail() {
        town.tracker.answer(0, NOW);
        town.finish();
    }
    for scraper in scrapers {
        let answer = town.answer_to(scraper);
        assert_eq!(answer.matches("8:complete").count(), TORRENTS, "{answer}");
    }
    let traffic = town.tracker.counters[0].traffic(IpFamily::V4);
    assert_eq!(traffic.reason(Reason::QueueFull).get(), 0);
}

/// Clients that leave more than one announce behind have no more than a turn's worth of places.
#[test]
fn what_those_who_have_gone_leave_behind_is_bounded() {
    let mut town = Town::new();
    for _ in 0..600 {
        town.ask(&scrape());
    }
    town.finish();
    let stop = format!("GET {}&event=stopped HTTP/1.1\r\n\r\n", announce());
    let id = town.ask(&announce());
    town.tracker.hubs[0].receive(NOW, id, &mut stop.repeat(80).into_bytes());
    town.finish();
    town.tracker.hubs[0].failed(NOW, id);
    town.answer_to(id);
    let traffic = town.tracker.counters[0].traffic(IpFamily::V4);
    assert_eq!(traffic.reason(Reason::QueueFull).get(), 80 - 16);
    while town.tracker.has_mail() {
        town.tracker.answer(0, NOW);
        town.finish();
    }
    let late = town.ask(&announce());
    town.finish();
    while town.tracker.has_mail() {
        town.tracker.answer(0, NOW);
        town.finish();
    }
    let answer = town.answer_to(late);
    assert!(answer.contains("10:incompletei1e"), "{answer}");
}

/// What is on its way when the process is told to stop is the last answer on its connection, and
/// says so, whatever was meant when it was asked.
#[test]
fn the_last_answer_says_that_it_is_the_last() {
    let mut town = Town::new();
    let id = town.ask(&announce());
    town.finish();
    assert!(!town.tracker.hubs[0].stop(NOW));
    while town.tracker.has_mail() {
        town.tracker.answer(0, NOW);
        town.finish();
    }
    let (bytes, settled) = town.tracker.look_after(0, NOW, id, usize::MAX);
    let answer = String::from_utf8_lossy(&bytes);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(answer.contains("8:interval"), "{answer}");
    assert_eq!(settled, Settled::Close);
    assert!(town.tracker.hubs[0].stop(NOW));
}

/// Clients that ask and close at once have no connection to hold back. What they leave behind is
/// bounded, and serves nobody but others: to leave a swarm counts, to come does not.
#[test]
fn who_waits_may_go() {
    let mut town = Town::new();
    let scrapers: Vec<_> = (0..600).map(|_| town.ask(&scrape())).collect();
    town.finish();
    let gone: Vec<_> = (0..20).map(|_| town.ask(&announce())).collect();
    town.finish();
    for id in scrapers.into_iter().chain(gone) {
        town.tracker.hubs[0].failed(NOW, id);
        town.answer_to(id);
    }
    let late = town.ask(&announce());
    town.finish();
    while town.tracker.has_mail() {
        town.tracker.answer(0, NOW);
        town.finish();
    }
    let answer = town.answer_to(late);
    assert!(answer.contains("10:incompletei1e"), "{answer}");
}
