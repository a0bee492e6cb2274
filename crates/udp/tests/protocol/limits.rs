//! Bounds on what strangers can make the tracker hold or do.

use std::net::Ipv4Addr;

use aquatic_daemon::clock::Clock;
use aquatic_types::{AnnounceEvent, IpFamily};
use aquatic_udp_protocol::AnnounceRequest;

use super::client::{Client, announce_bytes, row, torrent};
use super::daemon::{Daemon, Place, until};
use super::metrics;
use super::setup::{Setup, on_every_setup};

const LEECHER: u64 = 1;

fn start(setup: Setup, settings: &str) -> Daemon {
    let place = Place::new();
    let settings = format!("{}{settings}", place.metrics_settings());
    place.start(setup, &settings)
}

/// Whether a peer may join; if not, it is told so in these words.
#[track_caller]
fn joins(client: &mut Client, number: u32, port: u16, refusal: &str) -> bool {
    let request = announce_bytes(&client.peer(torrent(number), port, LEECHER));
    let answer = client.ask(&request);
    let joined = answer[3] == 1;
    assert!(
        joined || answer[8..] == *refusal.as_bytes(),
        "{}",
        answer.escape_ascii()
    );
    joined
}

#[test]
fn torrents_are_limited() {
    const MAX: u32 = 12;
    const ASKED: u32 = 100;
    on_every_setup(|setup| {
        let daemon = start(setup, &format!("limits.max_torrents = {MAX}"));
        let refusal = "tracker is full: no new torrents for now";
        for family in IpFamily::ALL {
            let mut client = Client::new(&daemon, family);
            let admitted: Vec<_> = (0..ASKED)
                .filter(|number| joins(&mut client, *number, 1, refusal))
                .collect();
            assert_eq!(admitted.len(), MAX as usize);
            // Others may join these, and only these.
            for number in 0..ASKED {
                let expected = admitted.contains(&number);
                assert_eq!(joins(&mut client, number, 2, refusal), expected);
                let leechers = if expected { 2 } else { 0 };
                assert_eq!(client.scrape(&[torrent(number)]), [row(0, 0, leechers)]);
            }
        }
        let refused = 2.0 * f64::from(ASKED - MAX);
        metrics::wait_for(
            &daemon,
            &[
                (
                    "aquatic_refused_total{reason=torrent_limit,ip_version=4}",
                    refused,
                ),
                (
                    "aquatic_refused_total{reason=torrent_limit,ip_version=6}",
                    refused,
                ),
                ("aquatic_responses_total{type=error}", 2.0 * refused),
                ("aquatic_torrents{ip_version=6}", f64::from(MAX)),
            ],
        );
    });
}

#[test]
fn peers_are_limited() {
    const MAX: u16 = 12;
    const ASKED: u16 = 40;
    on_every_setup(|setup| {
        let daemon = start(setup, &format!("limits.max_peers = {MAX}"));
        let refusal = "tracker is full: no new peers for now";
        let share = usize::from(MAX) / setup.shards();
        for family in IpFamily::ALL {
            let mut client = Client::new(&daemon, family);
            // One swarm fills the share of its shard.
            let admitted = (1..=ASKED)
                .filter(|port| joins(&mut client, 1, *port, refusal))
                .count();
            assert_eq!(admitted, share);
            // Who is in may stay; who leaves makes room.
            assert!(joins(&mut client, 1, 1, refusal));
            let event = AnnounceEvent::Stopped;
            let leaving = AnnounceRequest {
                event,
                ..client.peer(torrent(1), 1, LEECHER)
            };
            client.announce(&leaving);
            assert!(joins(&mut client, 1, ASKED, refusal));
            assert!(!joins(&mut client, 1, 1, refusal));
        }
        let refused = f64::from(ASKED + 1) - f64::from(u32::try_from(share).unwrap());
        metrics::wait_for(
            &daemon,
            &[
                (
                    "aquatic_refused_total{reason=peer_limit,ip_version=4}",
                    refused,
                ),
                (
                    "aquatic_refused_total{reason=peer_limit,ip_version=6}",
                    refused,
                ),
            ],
        );
    });
}

#[test]
fn peers_of_an_address_are_limited() {
    on_every_setup(|setup| {
        let daemon = start(setup, "limits.max_peers_per_ip = 5");
        let refusal = "too many peers from your address";
        for family in IpFamily::ALL {
            let mut client = Client::new(&daemon, family);
            // Over all torrents, wherever they are.
            let joined = |client: &mut Client| {
                (0..20)
                    .filter(|number| joins(client, *number, 1, refusal))
                    .count()
            };
            assert_eq!(joined(&mut client), 5);
            assert_eq!(joined(&mut client), 5, "the same ones");
            let event = AnnounceEvent::Stopped;
            for number in 0..20 {
                let leaving = AnnounceRequest {
                    event,
                    ..client.peer(torrent(number), 1, LEECHER)
                };
                client.announce(&leaving);
            }
            assert!(joins(&mut client, 19, 1, refusal), "there is room again");
        }
        let neighbour = Ipv4Addr::new(127, 0, 0, 2).into();
        let mut other = Client::between(neighbour, daemon.address(IpFamily::V4));
        other.connect();
        assert!(
            (0..5).all(|number| joins(&mut other, number, 1, refusal)),
            "another address"
        );
        metrics::wait_for(
            &daemon,
            &[
                (
                    "aquatic_refused_total{reason=peers_per_ip,ip_version=4}",
                    30.0,
                ),
                (
                    "aquatic_refused_total{reason=peers_per_ip,ip_version=6}",
                    30.0,
                ),
            ],
        );
    });
}

#[test]
fn requests_of_an_address_are_limited() {
    const SENT: u16 = 300;
    on_every_setup(|setup| {
        let clock = Clock::start();
        let daemon = start(setup, "limits.requests_per_second_per_ip = 20");
        for (family, ip_version) in IpFamily::ALL.into_iter().zip(["4", "6"]) {
            let client = Client::stranger(&daemon, family);
            for _ in 0..SENT {
                client.send(&client.connect_request());
            }
            let counters = [
                format!("aquatic_dropped_total{{reason=request_rate,ip_version={ip_version}}}"),
                format!("aquatic_responses_total{{type=connect,ip_version={ip_version}}}"),
            ];
            let answers = until("all requests are counted", || {
                let samples = metrics::scrape(&daemon);
                let [dropped, answered] = counters
                    .each_ref()
                    .map(|counter| metrics::sum(&samples, counter));
                (dropped + answered == f64::from(SENT)).then_some(answered)
            });
            // A second's worth at once, then the rate.
            let answers_max = 21.0 + 20.0 * clock.elapsed().as_secs_f64();
            assert!((20.0..=answers_max).contains(&answers), "{answers} answers");
            assert_eq!(
                f64::from(u16::try_from(client.received().len()).unwrap()),
                answers
            );
        }
        let neighbour = Ipv4Addr::new(127, 0, 0, 2).into();
        Client::between(neighbour, daemon.address(IpFamily::V4)).connect();
    });
}
