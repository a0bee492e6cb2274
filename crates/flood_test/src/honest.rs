//! Honest clients: a hundred of them, each with an address of its own and two requests per second.
//! Over UDP, another one takes a client's place after five announces.
//!
//! Half of them ask for torrents that all have, and half of the requests are for new ones. Over
//! TCP, every other client keeps its connection, and the others open one for each request. A
//! request counts from when it is due, so a tracker that keeps a client waiting is not spared the
//! client's next request. It is served if it has been answered with a swarm within
//! [`ANSWER_TIMEOUT`], without being repeated; only a kept connection that has been closed
//! between two requests is opened again, as all clients do.

mod http;
mod stream;
mod udp;
mod ws;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use aquatic_daemon::clock::Clock;
use fastrand::Rng;

use crate::catalogue::Protocol;

/// Requests per second, all clients together.
pub const REQUESTS_PER_SECOND: u32 = CLIENTS * 1_000 / PERIOD_MS;

/// How long a client waits for the answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

const CLIENTS: u32 = 100;

/// Between two requests of a client.
const PERIOD_MS: u32 = 500;

/// Torrents that all clients share.
const OLD_TORRENTS: u32 = 10;

/// What a client can do.
trait Client: Send {
    /// Announces. Fails if the tracker does not answer, or not with a swarm that has the client.
    fn ask(&mut self, info_hash: &str) -> io::Result<()>;

    /// Connections that were closed between two requests.
    fn lost_connections(&self) -> u64 {
        0
    }
}

/// What became of honest clients' requests.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Requests that were due.
    pub due: u64,
    /// Time until the answer, of those that were served, in microseconds, in ascending order.
    pub latencies_micros: Vec<u64>,
    /// Kept connections that the tracker has closed.
    pub lost_connections: u64,
    /// Why a request was not served, the last time.
    pub last_failure: Option<String>,
}

impl Served {
    /// Requests that were served, of 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        let [served, due] = [self.latencies_micros.len() as u64, self.due].map(to_f64);
        if due == 0.0 { 0.0 } else { served / due }
    }

    /// The latency that `percent` of the requests do not exceed, in milliseconds.
    #[must_use]
    pub fn latency_ms(&self, percent: usize) -> f64 {
        let place = self.latencies_micros.len() * percent / 100;
        let last = self.latencies_micros.last();
        let micros = self.latencies_micros.get(place).or(last);
        micros.map_or(0.0, |micros| to_f64(*micros) / 1_000.0)
    }

    fn add(&mut self, other: Self) {
        self.due += other.due;
        self.latencies_micros.extend(other.latencies_micros);
        self.lost_connections += other.lost_connections;
        self.last_failure = other.last_failure.or(self.last_failure.take());
    }
}

/// Counts of a run are small.
fn to_f64(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Has honest clients ask for so long.
///
/// # Errors
/// If sockets or threads run out, or TLS cannot be set up.
pub fn run(
    protocol: Protocol,
    tracker: SocketAddr,
    is_tls: bool,
    seconds: u32,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Served> {
    let clock = Clock::start();
    let end = Duration::from_secs(seconds.into());
    let mut threads = Vec::new();
    for number in 0..CLIENTS {
        let client: Box<dyn Client> = match protocol {
            Protocol::Udp => Box::new(udp::UdpClient::new(number, tracker)?),
            Protocol::Http => Box::new(http::HttpClient::new(number, tracker, is_tls)?),
            Protocol::Ws => Box::new(ws::WsClient::new(number, tracker, is_tls)?),
        };
        let stop = Arc::clone(stop);
        let thread = thread::Builder::new()
            .name(format!("honest-{number}"))
            .stack_size(256 * 1_024)
            .spawn(move || live(client, number, clock, end, &stop));
        threads.push(thread.context("cannot start a thread for a client")?);
    }
    let mut all = Served::default();
    for thread in threads {
        all.add(
            thread
                .join()
                .map_err(|_| anyhow!("a client has panicked"))?,
        );
    }
    all.latencies_micros.sort_unstable();
    Ok(all)
}

/// The requests of one client.
fn live(
    mut client: Box<dyn Client>,
    number: u32,
    clock: Clock,
    end: Duration,
    stop: &AtomicBool,
) -> Served {
    let mut served = Served::default();
    let mut rng = Rng::with_seed(number.into());
    let mut due = Duration::from_millis((number * PERIOD_MS / CLIENTS).into());
    while due < end && !stop.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_sub(clock.elapsed()));
        served.due += 1;
        // A client that has waited so long has given this one up.
        if clock.elapsed() < due + ANSWER_TIMEOUT {
            match client.ask(&torrent(&mut rng)) {
                Ok(()) => {
                    let took = clock.elapsed().saturating_sub(due).as_micros();
                    served
                        .latencies_micros
                        .push(u64::try_from(took).unwrap_or(u64::MAX));
                }
                Err(error) => served.last_failure = Some(error.to_string()),
            }
        }
        due += Duration::from_millis(PERIOD_MS.into());
    }
    served.lost_connections = client.lost_connections();
    served
}

/// An info hash that needs no escapes: an old one, or one that nobody has.
fn torrent(rng: &mut Rng) -> String {
    if rng.bool() {
        return format!("honest-old-torrent-{}", rng.u32(..OLD_TORRENTS));
    }
    std::iter::repeat_with(|| rng.alphanumeric())
        .take(20)
        .collect()
}

/// A failure in words.
fn failure(reason: impl Into<String>) -> io::Error {
    io::Error::other(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_200_requests_per_second() {
        assert_eq!(REQUESTS_PER_SECOND, 200);
    }

    #[test]
    fn half_of_the_torrents_are_old() {
        let mut rng = Rng::with_seed(1);
        let all: Vec<_> = (0..1_000).map(|_| torrent(&mut rng)).collect();
        assert!(all.iter().all(|it| it.len() == 20), "{:?}", all[0]);
        let old = all.iter().filter(|it| it.starts_with("honest-old")).count();
        assert!((400..600).contains(&old), "{old}");
    }

    #[test]
    fn what_is_not_served_counts() {
        let mut all = Served::default();
        assert!(all.share() < f64::EPSILON, "nothing is no success");
        all.add(Served {
            due: 150,
            latencies_micros: (0..100).map(|it| it * 1_000).collect(),
            lost_connections: 2,
            last_failure: Some("silence".to_owned()),
        });
        all.add(Served {
            due: 50,
            latencies_micros: (100..150).map(|it| it * 1_000).collect(),
            ..Served::default()
        });
        assert!((all.share() - 0.75).abs() < f64::EPSILON);
        assert!((all.latency_ms(50) - 75.0).abs() < f64::EPSILON);
        assert!((all.latency_ms(99) - 148.0).abs() < f64::EPSILON);
        assert_eq!(all.last_failure.unwrap(), "silence");
    }

    struct Deaf;

    impl Client for Deaf {
        fn ask(&mut self, _: &str) -> io::Result<()> {
            Err(failure("no answer"))
        }
    }

    #[test]
    fn requests_are_due_whatever_comes_of_them() {
        let stop = AtomicBool::new(false);
        let end = Duration::from_millis(1_200);
        // Begun long ago, so nothing is waited for.
        let served = live(Box::new(Deaf), 0, Clock::start(), end, &stop);
        assert_eq!((served.due, served.latencies_micros.len()), (3, 0));
        assert_eq!(served.last_failure.unwrap(), "no answer");
    }
}
