//! Three machines as the document of clusters has them: whatever happens to one of them, clients
//! that use different trackers find each other.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use aquatic_e2e::Family;
use aquatic_e2e::ask::{Announce, UdpClient};
use aquatic_e2e::clients::{Client, Kind, Role};
use aquatic_e2e::cluster_lab::{COMPLETE_LIMIT, Cluster, Cut, HEALED_LIMIT, SHARED_LIMIT, ip};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::torrent::Torrent;
use aquatic_e2e::transfer::unless_clients_fail;
use aquatic_e2e::wait;

/// Clients announce when they please, some seconds after the event at most; once they have lost a
/// packet, later.
const CLIENTS_LIMIT: Duration = Duration::from_secs(120);

/// So long a cut lasts at least.
const CUT_PERIOD: Duration = Duration::from_secs(6);

const BEFORE: [u8; 20] = *b"announced before any";
const MEANWHILE: [u8; 20] = *b"announced meanwhile.";
const AT_CUT: [u8; 20] = *b"announced in the cut";

/// The file goes from a seeder that knows one URL to a leecher that knows another.
fn transfer(cluster: &mut Cluster, kinds: [Kind; 2], urls: [&str; 2]) -> Result<()> {
    let folder = Folder::new()?;
    let hosts = [0, 1].map(|it| cluster.client(it).clone());
    let torrent = Torrent::random(urls[0]);
    let start = |kind, role, host, torrent: &Torrent| {
        Client::start(kind, role, &folder, host, Family::V4, torrent)
    };
    let seeder = start(kinds[0], Role::Seeder, &hosts[0], &torrent)?;
    cluster.wait_for_all(torrent.info_hash(), (1, 0), CLIENTS_LIMIT)?;
    let there = torrent.at(urls[1]);
    let mut leecher = start(kinds[1], Role::Leecher, &hosts[1], &there)?;
    let info_hash = torrent.info_hash();
    leecher.wait_for_content(&torrent, || cluster.all_count(info_hash, (1, 1)))?;
    cluster.wait_for_all(info_hash, (2, 0), CLIENTS_LIMIT)?;
    leecher.stop()?;
    seeder.stop()
}

#[test]
fn clients_at_different_nodes_transfer_a_file() {
    let Some(mut cluster) = Cluster::started(2).unwrap() else {
        return;
    };
    let [a, b, c] = [0, 1, 2].map(|it: usize| ["udp", "http"].map(|s| cluster.machines[it].url(s)));
    let logs = cluster.machines.iter().map(|it| it.tracker_log().unwrap());
    let logs = logs.collect::<String>();
    for line in [
        "in 3 copies",
        "the swarms of all nodes of the cluster are known",
    ] {
        assert!(logs.contains(line), "{line}: {logs}");
    }
    for (kinds, urls) in [
        ([Kind::Aria2, Kind::Libtorrent], [&*a[0], &*b[1]]),
        ([Kind::Libtorrent, Kind::Aria2], [&*b[1], &*c[0]]),
        ([Kind::Aria2, Kind::Libtorrent], [&*c[0], &*a[1]]),
    ] {
        unless_clients_fail(|| transfer(&mut cluster, kinds, urls));
    }
}

#[test]
fn transmission_transfers_a_file_with_a_client_at_another_node() {
    let Some(mut cluster) = Cluster::started(2).unwrap() else {
        return;
    };
    let [a, b] = [0, 1].map(|it: usize| ["udp", "http"].map(|s| cluster.machines[it].url(s)));
    for (kinds, urls) in [
        ([Kind::Transmission, Kind::Aria2], [&*a[0], &*b[1]]),
        ([Kind::Libtorrent, Kind::Transmission], [&*a[1], &*b[0]]),
    ] {
        unless_clients_fail(|| transfer(&mut cluster, kinds, urls));
    }
}

/// A third node comes, one is killed and comes back, and clients find each other all the time.
#[test]
fn nodes_come_and_go_while_clients_find_each_other() {
    let Some(mut cluster) = Cluster::new(2).unwrap() else {
        return;
    };
    cluster.start_servers().unwrap();
    for machine in &mut cluster.machines[..2] {
        machine.start_tracker().unwrap();
    }
    for machine in &mut cluster.machines[..2] {
        machine.wait_until_complete().unwrap();
    }
    let [a, b, c] = [0, 1, 2].map(|it: usize| cluster.machines[it].url("udp"));
    let a_http = cluster.machines[0].url("http");
    let kinds = [Kind::Aria2, Kind::Libtorrent];
    unless_clients_fail(|| transfer(&mut cluster, kinds, [&a, &b]));
    cluster.machines[0].announce(BEFORE, 1, 0).unwrap();
    cluster.wait_for_all(BEFORE, (1, 0), SHARED_LIMIT).unwrap();

    // One that is added.
    cluster.machines[2].start_tracker().unwrap();
    cluster.machines[2].wait_until_complete().unwrap();
    let nodes = ("aquatic_cluster_nodes", 3.0);
    for machine in &mut cluster.machines {
        machine.wait_for(BEFORE, (1, 0), SHARED_LIMIT).unwrap();
        machine
            .wait_for_metric(nodes.0, nodes.1, SHARED_LIMIT)
            .unwrap();
    }

    // One that is killed, after somebody has announced there who does not hear of it.
    unless_clients_fail(|| {
        if cluster.machines[0].tracker_log().is_err() {
            cluster.machines[0].start_tracker()?;
            cluster.machines[0].wait_until_complete()?;
        }
        let folder = Folder::new()?;
        let hosts = [0, 1].map(|it| cluster.client(it).clone());
        let torrent = Torrent::random(&a_http);
        let start = |kind, role, host, torrent: &Torrent| {
            Client::start(kind, role, &folder, host, Family::V4, torrent)
        };
        let seeder = start(kinds[0], Role::Seeder, &hosts[0], &torrent)?;
        cluster.wait_for_all(torrent.info_hash(), (1, 0), CLIENTS_LIMIT)?;
        cluster.machines[0].kill_tracker()?;
        let listed = torrent.at_tier(&[&a, &c, &b]);
        let mut leecher = start(kinds[1], Role::Leecher, &hosts[1], &listed)?;
        let info_hash = torrent.info_hash();
        leecher.wait_for_content(&torrent, || cluster.all_count(info_hash, (1, 1)))?;
        cluster.wait_for_all(torrent.info_hash(), (2, 0), CLIENTS_LIMIT)?;
        leecher.stop()?;
        seeder.stop()
    });
    cluster.machines[1].announce(MEANWHILE, 2, 0).unwrap();

    // It comes back, and knows what was before and what happened meanwhile.
    cluster.machines[0].start_tracker().unwrap();
    cluster.machines[0].wait_until_complete().unwrap();
    for torrent in [BEFORE, MEANWHILE] {
        cluster.machines[0]
            .wait_for(torrent, (1, 0), SHARED_LIMIT)
            .unwrap();
    }
    unless_clients_fail(|| transfer(&mut cluster, kinds, [&c, &a]));
}

/// Each side serves what it has, and hears of the rest when it can. Whose packets are not confirmed
/// may be heard nevertheless.
fn cut_off(cut: impl Fn(&Cluster), heal: impl Fn(&Cluster), [hears, is_heard]: [bool; 2]) {
    let Some(mut cluster) = Cluster::started(0).unwrap() else {
        return;
    };
    cluster.machines[0].announce(BEFORE, 1, 0).unwrap();
    cluster.wait_for_all(BEFORE, (1, 0), SHARED_LIMIT).unwrap();
    cut(&cluster);
    cluster.machines[0].announce(MEANWHILE, 1, 0).unwrap();
    cluster.machines[1].announce(AT_CUT, 1, 5).unwrap();
    cluster.machines[2]
        .wait_for(MEANWHILE, (1, 0), SHARED_LIMIT)
        .unwrap();
    wait::hold(CUT_PERIOD, || {
        assert_eq!(cluster.machines[0].counts(BEFORE)?.seeders, 1);
        assert_eq!(cluster.machines[1].counts(BEFORE)?.seeders, 1);
        assert_eq!(cluster.machines[1].counts(AT_CUT)?.leechers, 1);
        let heard = cluster.machines[1].counts(MEANWHILE)?.seeders;
        assert!(hears || heard == 0, "nothing was cut");
        let told = cluster.machines[0].counts(AT_CUT)?.leechers;
        assert!(is_heard || told == 0, "nothing was cut");
        Ok(())
    })
    .unwrap();
    heal(&cluster);
    cluster
        .wait_for_all(MEANWHILE, (1, 0), HEALED_LIMIT)
        .unwrap();
    cluster.wait_for_all(AT_CUT, (0, 1), HEALED_LIMIT).unwrap();
    cluster.wait_for_all(BEFORE, (1, 0), HEALED_LIMIT).unwrap();
}

#[test]
fn a_node_without_its_cable_serves_what_it_has_and_hears_the_rest_afterwards() {
    let plug = |is_up| move |cluster: &Cluster| cluster.set_link(1, is_up).unwrap();
    cut_off(plug(false), plug(true), [false, false]);
}

fn cut_off_by(cut: Cut, may: [bool; 2]) {
    cut_off(
        |cluster| cluster.machines[1].cut(cut).unwrap(),
        |cluster| cluster.machines[1].heal().unwrap(),
        may,
    );
}

#[test]
fn a_node_that_is_cut_off_from_the_others_hears_the_rest_afterwards() {
    cut_off_by(Cut::Both, [false, false]);
}

#[test]
fn a_node_that_hears_nothing_hears_it_afterwards() {
    cut_off_by(Cut::Incoming, [false, true]);
}

#[test]
fn a_node_that_nobody_hears_is_heard_afterwards() {
    cut_off_by(Cut::Outgoing, [true, false]);
}

#[test]
fn where_one_packet_in_a_hundred_is_lost_all_nodes_agree() {
    let Some(mut cluster) = Cluster::started(0).unwrap() else {
        return;
    };
    for machine in &cluster.machines {
        machine.cut(Cut::Percent).unwrap();
    }
    for torrent in [BEFORE, MEANWHILE, AT_CUT] {
        // All at one machine have one address, which may have so many peers in a torrent.
        for port in 1..=60 {
            for machine in &cluster.machines {
                machine.announce(torrent, port, 0).unwrap();
            }
        }
        cluster
            .wait_for_all(torrent, (180, 0), SHARED_LIMIT)
            .unwrap();
    }
}

/// Trackers go on to another server, and the log is there without any one of them.
#[test]
fn the_log_outlives_any_one_of_the_servers() {
    let Some(mut cluster) = Cluster::started(0).unwrap() else {
        return;
    };
    for victim in 0..3 {
        let torrent = [u8::try_from(victim).unwrap(); 20];
        let next = (victim + 1) % 3;
        cluster.machines[victim].announce(torrent, 1, 0).unwrap();
        cluster.wait_for_all(torrent, (1, 0), SHARED_LIMIT).unwrap();
        cluster.machines[victim].kill_server().unwrap();
        cluster.machines[victim].announce(torrent, 2, 5).unwrap();
        cluster
            .wait_for_all(torrent, (1, 1), COMPLETE_LIMIT)
            .unwrap();
        let log = cluster.machines[victim].tracker_log().unwrap();
        assert!(log.contains("the connection to NATS is lost"), "{log}");
        // What is known to somebody who knows nothing can only be in the log.
        cluster.machines[next].kill_tracker().unwrap();
        cluster.machines[next].start_tracker().unwrap();
        cluster.machines[next].wait_until_complete().unwrap();
        cluster.machines[next]
            .wait_for(torrent, (1, 1), SHARED_LIMIT)
            .unwrap();
        // The server reads what it has missed, before the next one goes.
        cluster.machines[victim].start_server().unwrap();
        cluster.machines[victim].kill_tracker().unwrap();
        cluster.machines[victim].start_tracker().unwrap();
        cluster.machines[victim].wait_until_complete().unwrap();
        cluster
            .wait_for_all(torrent, (1, 1), COMPLETE_LIMIT)
            .unwrap();
    }
}

#[test]
fn without_any_server_trackers_serve_and_afterwards_they_share_what_has_come() {
    let Some(mut cluster) = Cluster::started(0).unwrap() else {
        return;
    };
    cluster.machines[0].announce(BEFORE, 1, 0).unwrap();
    cluster.wait_for_all(BEFORE, (1, 0), SHARED_LIMIT).unwrap();
    for machine in &mut cluster.machines {
        machine.kill_server().unwrap();
    }
    for machine in &mut cluster.machines {
        let connected = "aquatic_cluster_connected";
        machine
            .wait_for_metric(connected, 0.0, SHARED_LIMIT)
            .unwrap();
        machine.announce(MEANWHILE, 2, 5).unwrap();
    }
    wait::hold(CUT_PERIOD, || {
        for machine in &cluster.machines {
            assert_eq!(machine.counts(BEFORE)?.seeders, 1);
            assert_eq!(machine.counts(MEANWHILE)?.leechers, 1);
        }
        Ok(())
    })
    .unwrap();
    cluster.start_servers().unwrap();
    cluster
        .wait_for_all(MEANWHILE, (0, 3), COMPLETE_LIMIT)
        .unwrap();
    cluster.wait_for_all(BEFORE, (1, 0), SHARED_LIMIT).unwrap();
}

/// A client connects at one node and announces at another that has the same address.
#[test]
fn nodes_behind_one_address_accept_each_other_s_connection_ids_if_they_share_a_secret() {
    let Some(mut cluster) = Cluster::new(1).unwrap() else {
        return;
    };
    let anycast = SocketAddr::from(([192, 0, 2, 100], 3000));
    for machine in &mut cluster.machines {
        ip(machine.host(), "address add 192.0.2.100/32 dev lo").unwrap();
        let file = "\n[udp.network]\nconnection_secret_file = \"SECRET\"\n";
        let secret = machine.path("etc/aquatic/connection-secret");
        let file = file.replace("SECRET", secret.to_str().unwrap());
        machine.configure(&file).unwrap();
    }
    // The third machine makes a secret of its own.
    cluster.start_servers().unwrap();
    cluster.machines[0].start_tracker().unwrap();
    let secret = "etc/aquatic/connection-secret";
    let [first, second] = [0, 1].map(|it: usize| cluster.machines[it].path(secret));
    fs::copy(first, second).unwrap();
    for machine in &mut cluster.machines[1..] {
        machine.start_tracker().unwrap();
    }
    let go_to = |machine: u8| {
        let way = format!("route replace 192.0.2.100/32 via 192.0.2.{machine} dev eth0");
        ip(cluster.client(0), &way).unwrap();
    };
    let client = |()| UdpClient::new(cluster.client(0), anycast).unwrap();
    let announce = Announce {
        info_hash: BEFORE,
        peer_id: *b"-e2e000-000000000001",
        left: 0,
        event: 2,
        numwant: -1,
        port: 1,
    };
    go_to(1);
    let id = client(()).connect().unwrap();
    go_to(2);
    let announced = client(()).announce_with(id, &announce).unwrap();
    assert_eq!(announced.seeders, 1);
    go_to(3);
    let refusal = client(()).announce_with(id, &announce).unwrap_err();
    assert!(refusal.to_string().starts_with("refused: "), "{refusal}");
    // What was announced at the second is known at the first.
    cluster.machines[0]
        .wait_for(BEFORE, (1, 0), COMPLETE_LIMIT)
        .unwrap();
}
