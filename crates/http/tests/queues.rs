//! A swarm worker that does not keep up, in a tracker without sockets: who has asked for little is
//! served first, nobody is refused, and a stop does not overtake it.

use std::fmt::Write as _;

use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_channel::waker_pair;
use aquatic_daemon::clock::Now;
use aquatic_http::config::Config;
use aquatic_http::counters::{Http, Reason};
use aquatic_http::workers::build_workers;
use aquatic_stream::{Closed, ConnectionKey, IoAction};
use aquatic_stream_tracker::simulation::Simulation;
use aquatic_tracker::persistence::Persistence;
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
        Self::of(1)
    }

    /// One socket worker and some swarm workers.
    fn of(swarm_workers: usize) -> Self {
        let mut config = Config {
            swarm_workers,
            ..Config::default()
        };
        config.protocol.max_scrape_torrents = TORRENTS;
        let wakers: Vec<_> = (0..=swarm_workers).map(|_| waker_pair(|| ()).1).collect();
        let access_list = SharedAccessList::new(AccessListMode::Off, AccessList::default());
        let entropy = &mut fastrand::Rng::with_seed(1);
        let (workers, _) = build_workers(
            &config,
            &access_list,
            &wakers,
            Persistence::default(),
            None,
            entropy,
        )
        .unwrap();
        Self {
            tracker: Simulation::new(workers, config.bounds()),
            clients: 0,
        }
    }

    fn connect(&mut self) -> ConnectionKey {
        self.clients += 1;
        let address = ([192, 0, 2, 1], self.clients).into();
        self.tracker.accept(0, NOW, address).unwrap()
    }

    /// Somebody connects and asks.
    fn ask(&mut self, request: &str) -> ConnectionKey {
        let id = self.connect();
        let mut request = get(request);
        self.tracker.hubs[0].receive(NOW, id, &mut request);
        id
    }

    fn finish(&mut self) {
        self.tracker.hubs[0].finish(NOW);
    }

    /// Every swarm worker empties its queue, and what comes back is passed on.
    fn answer(&mut self) {
        for worker in 0..self.tracker.swarm_workers.len() {
            self.tracker.answer(worker, NOW);
        }
        self.finish();
    }

    fn answer_to(&mut self, id: ConnectionKey) -> String {
        let (bytes, _) = self.tracker.look_after(0, NOW, id, usize::MAX);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn get(request: &str) -> Vec<u8> {
    format!("GET {request} HTTP/1.1\r\nHost: tracker\r\n\r\n").into_bytes()
}

fn announce() -> String {
    announce_of(TORRENTS)
}

fn announce_of(torrent: usize) -> String {
    format!("/announce?info_hash={torrent:020}&peer_id=-TR4060-abcdefghijkl&port=6881&left=1")
}

fn scrape() -> String {
    scrape_of(0..TORRENTS)
}

fn scrape_of(torrents: impl Iterator<Item = usize>) -> String {
    let mut scrape = "/scrape?".to_owned();
    for torrent in torrents {
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
    while town.tracker.has_pending() {
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
    while town.tracker.has_pending() {
        town.tracker.answer(0, NOW);
        town.finish();
    }
    let late = town.ask(&announce());
    town.finish();
    while town.tracker.has_pending() {
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
    while town.tracker.has_pending() {
        town.tracker.answer(0, NOW);
        town.finish();
    }
    let (bytes, settled) = town.tracker.look_after(0, NOW, id, usize::MAX);
    let answer = String::from_utf8_lossy(&bytes);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(answer.contains("8:interval"), "{answer}");
    // The client may have sent another request, for which its connection must not be reset.
    assert_eq!(settled, IoAction::CloseSendingHalf);
    assert!(!town.tracker.hubs[0].stop(NOW));
    town.tracker.hubs[0].read_ended(NOW, id);
    town.answer_to(id);
    assert!(town.tracker.hubs[0].stop(NOW));
    let closed = &town.tracker.connections[0].closed;
    assert_eq!(closed.of(Closed::Restart).get(), 1);
}

/// Whoever sends requests without waiting for answers gets all of them. The last one says so, not
/// an earlier one: a client would take the others for not served.
#[test]
fn the_last_of_several_answers_says_that_it_is_the_last() {
    const CLOSE: &str = "\r\nConnection: close\r\n";
    for (requests, bytes_behind) in [
        (vec![announce(), announce_of(1)], &b""[..]),
        (vec![announce(), scrape_of(0..3)], b""),
        (vec![scrape_of(0..3), announce()], b"GET /anno"),
        (
            vec![announce(), "/health".to_owned(), scrape_of(0..3)],
            b"\r\n",
        ),
        (vec![announce(), announce(), "/health".to_owned()], b""),
        (vec![announce(), announce(), "/unknown".to_owned()], b""),
    ] {
        let mut town = Town::new();
        let id = town.connect();
        let mut bytes: Vec<u8> = requests.iter().flat_map(|it| get(it)).collect();
        bytes.extend(bytes_behind);
        town.tracker.hubs[0].receive(NOW, id, &mut bytes);
        town.finish();
        let mut answers = Vec::new();
        for _ in 0..2 * requests.len() {
            town.tracker.hubs[0].stop(NOW);
            town.answer();
            let answer = town.answer_to(id);
            answers.extend((!answer.is_empty()).then_some(answer));
        }
        let answers = answers.concat();
        let answers: Vec<_> = answers.split("HTTP/1.1 ").skip(1).collect();
        assert_eq!(answers.len(), requests.len(), "{answers:?}");
        let (last, others) = answers.split_last().unwrap();
        assert!(last.contains(CLOSE), "{answers:?}");
        assert!(!others.concat().contains(CLOSE), "{answers:?}");
    }
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
    while town.tracker.has_pending() {
        town.tracker.answer(0, NOW);
        town.finish();
    }
    let answer = town.answer_to(late);
    assert!(answer.contains("10:incompletei1e"), "{answer}");
}

/// Torrents of each of two swarm workers.
fn by_swarm_worker(town: &mut Town, torrents: usize) -> [Vec<usize>; 2] {
    let mut found = [Vec::new(), Vec::new()];
    for torrent in 0.. {
        let client = town.ask(&announce_of(torrent));
        town.finish();
        let owner = &town.tracker.swarm_workers;
        let owner = owner.iter().position(|worker| worker.has_pending());
        found[owner.unwrap()].push(torrent);
        town.answer();
        assert!(!town.answer_to(client).is_empty());
        if found.iter().all(|it| it.len() >= torrents) {
            break;
        }
    }
    found
}

/// Those who wait for one swarm worker do not take the room of another one before those who wait
/// for that. Here they ask as much of either, and a little more of the second one, so that they use
/// up its room a moment before that of the first, for which they go on to wait.
#[test]
fn a_line_is_not_overtaken_from_another_line() {
    let mut town = Town::of(2);
    let [mut first, second] = by_swarm_worker(&mut town, TORRENTS / 2 + 1);
    let scrape = |first: &[usize]| {
        let mixed = first.iter().zip(&second).flat_map(|(a, b)| [*a, *b]);
        scrape_of(mixed.take(TORRENTS))
    };
    let even = scrape(&first);
    first[20] = second[TORRENTS / 2];
    let more = scrape(&first);
    for attacker in 0..2_000 {
        town.ask(if attacker % 8 == 0 { &more } else { &even });
    }
    town.finish();
    for torrent in [second[0], first[0]] {
        let honest = town.ask(&announce_of(torrent));
        town.finish();
        let mut rounds = 0;
        while town.answer_to(honest).is_empty() {
            rounds += 1;
            assert!(rounds <= 3, "it starves");
            town.answer();
        }
    }
}

/// A stop while the swarm worker has a request, and while another one is on its way to us.
#[test]
fn what_has_been_asked_is_answered_before_the_end() {
    let mut town = Town::new();
    let asked = town.ask(&announce());
    let (begun, idle) = (town.connect(), town.ask("/health"));
    let mut scrape = get(&scrape());
    let (beginning, rest) = scrape.split_at_mut(100);
    town.tracker.hubs[0].receive(NOW, begun, beginning);
    town.finish();
    let mut now = NOW;
    for seconds in [2, 3] {
        now = Now::from_micros(seconds * 1_000_000);
        town.tracker.hubs[0].stop(now);
        town.tracker.hubs[0].finish(now);
    }
    let mut is_closed = |id| {
        let (_, settled) = town.tracker.look_after(0, now, id, usize::MAX);
        settled == IoAction::CloseSendingHalf
    };
    assert_eq!(
        [asked, begun, idle].map(&mut is_closed),
        [false, false, true]
    );
    town.tracker.hubs[0].receive(now, begun, rest);
    town.tracker.hubs[0].finish(now);
    town.tracker.answer(0, now);
    town.tracker.hubs[0].finish(now);
    for id in [asked, begun] {
        let (bytes, settled) = town.tracker.look_after(0, now, id, usize::MAX);
        let answer = String::from_utf8_lossy(&bytes);
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert_eq!(settled, IoAction::CloseSendingHalf);
    }
}
