//! The programs `aquatic_udp` and `aquatic_http` as nodes of one cluster, with several workers
//! each: a torrent is at one worker of each node, and a record from another node has to get there.

use std::time::Duration;

use anyhow::{Result, ensure};
use aquatic_e2e::ask::{Announce, UdpClient};
use aquatic_e2e::curl::{Curl, percent};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::{Protocol, wait, workspace};
use aquatic_test_support::metrics::{scrape, wait_for};
use aquatic_test_support::nats::{self, NatsServer};
use aquatic_test_support::{Daemon, Place};

/// Of each node.
const TORRENTS: u8 = 20;

const WORKERS: usize = 2;

/// Machines are busy.
const LIMIT: Duration = Duration::from_secs(30);

/// A node that is connected. `section` has the keys of its metrics.
fn node(program: &str, section: &str, topology: &str, server: &NatsServer) -> Daemon {
    let place = Place::new();
    let settings = format!(
        "{topology}\nnetwork.address = ['127.0.0.1:{}']\n\
         {section}.interval = 1\n{section}.run_prometheus_endpoint = true\n\
         {section}.prometheus_endpoint_address = '{}'\n\
         cluster.servers = ['{}']\ncluster.node = '{program}'\n",
        place.port(),
        place.metrics_address(),
        server.url()
    );
    place.write("config.toml", settings);
    let binary = workspace::binary(program).unwrap();
    let mut command = place.command_with(binary.to_str().unwrap(), &["-c", "config.toml"]);
    place.start_by(&mut command)
}

fn torrent(number: u8) -> [u8; 20] {
    // As random as those of clients are.
    let mut random = fastrand::Rng::with_seed(number.into());
    std::array::from_fn(|_| random.u8(..))
}

fn announce_by_udp(node: &Daemon, number: u8) -> Result<()> {
    let announce = Announce {
        info_hash: torrent(number),
        peer_id: [number; 20],
        left: 0,
        event: 2,
        numwant: 0,
        port: 1_000 + u16::from(number),
    };
    // Each from a port of its own, so that all sockets have their share.
    let client = UdpClient::new(
        &Host::loopback(),
        ([127, 0, 0, 1], node.place.port()).into(),
    )?;
    client.announce(&announce)?;
    Ok(())
}

fn announce_by_http(curl: &Curl, number: u8) -> Result<()> {
    let answer = curl.get(
        &[],
        &format!(
            "/announce?info_hash={}&peer_id={}&port={}&uploaded=0&downloaded=0&left=0&compact=1",
            percent(&torrent(number)),
            percent(&[number; 20]),
            1_000 + u16::from(number)
        ),
    )?;
    ensure!(answer.integer("complete") == 1, "{answer:?}");
    Ok(())
}

/// Waits until each of these torrents has one seeder, and nobody else.
fn wait_for_seeders(
    torrents: impl Iterator<Item = u8>,
    seeders_of: impl Fn([u8; 20]) -> Result<(u32, u32)>,
) {
    for number in torrents {
        let what = format!("torrent {number} has one seeder");
        wait::until(&what, LIMIT, || {
            Ok((seeders_of(torrent(number))? == (1, 0)).then_some(()))
        })
        .unwrap();
    }
}

/// `topology` is of the node over UDP.
fn share(topology: &str) {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let http_workers = format!("socket_workers = {WORKERS}");
    let a = node("aquatic_udp", "statistics", topology, &server);
    let b = node("aquatic_http", "metrics", &http_workers, &server);
    for node in [&a, &b] {
        let joined = [
            ("aquatic_cluster_complete", 1.0),
            ("aquatic_cluster_nodes", 2.0),
        ];
        wait_for(node, &joined);
    }
    let (host, folder) = (Host::loopback(), Folder::new().unwrap());
    let http = ([127, 0, 0, 1], b.place.port()).into();
    let curl = Curl::new(&host, &folder, Protocol::Http, http);

    let (of_a, of_b) = (0..TORRENTS, TORRENTS..2 * TORRENTS);
    for number in of_a.clone() {
        announce_by_udp(&a, number).unwrap();
    }
    for number in of_b.clone() {
        announce_by_http(&curl, number).unwrap();
    }
    wait_for_seeders(of_a, |torrent| {
        let counts = curl.counts(torrent)?;
        Ok((counts.seeders, counts.leechers))
    });
    let udp = UdpClient::new(&host, ([127, 0, 0, 1], a.place.port()).into()).unwrap();
    wait_for_seeders(of_b, |torrent| {
        let counts = udp.scrape(&[torrent])?;
        Ok((counts[0].seeders, counts[0].leechers))
    });

    // Otherwise this would show no more than with one worker.
    let all = f64::from(2 * TORRENTS);
    for node in [&a, &b] {
        wait_for(node, &[("aquatic_torrents{ip_version=4}", all)]);
        for metric in ["aquatic_torrents", "aquatic_requests_total"] {
            let samples = scrape(node).into_iter();
            let used = samples.filter(|it| it.name == metric && it.value > 0.0);
            assert_eq!(used.count(), WORKERS, "{metric}");
        }
    }
}

#[test]
fn udp_workers_that_keep_swarms_share_them_with_http() {
    share("socket_workers = 2\nswarm_workers = 0");
}

#[test]
fn udp_workers_that_ask_others_for_swarms_share_them_with_http() {
    share("socket_workers = 2\nswarm_workers = 2");
}
