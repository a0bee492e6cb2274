//! Machines that are apart for so long that trackers and servers give each other up, and servers
//! that are too few to keep a log.

use std::array;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aquatic_e2e::cluster_lab::{COMPLETE_LIMIT, Cluster, Cut, SHARED_LIMIT};
use aquatic_e2e::wait;

const CONNECTED: &str = "aquatic_cluster_connected";
const COMPLETE: &str = "aquatic_cluster_complete";
const NODES: &str = "aquatic_cluster_nodes";
const REPLAYS: &str = "aquatic_cluster_replays_total";

const NEW: [u8; 20] = *b"announced without it";

/// How often peers announce, and others are told of them. So often that a test can wait for it.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(20);
const INTERVALS: &str = "
refresh_interval = 8

[udp.protocol]
peer_announce_interval = 20

[udp.cleaning]
max_peer_age = 120

[http.protocol]
peer_announce_interval = 20
min_announce_interval = 10

[http.cleaning]
max_peer_age = 120
";

/// Announce intervals for which machines are apart: longer than trackers wait for a sign of each
/// other, and kernels for an answer.
const ROUNDS: u16 = 3;

/// The machine that is cut off.
const ALONE: usize = 1;

/// Peers that are there from the beginning, at each machine.
const PEERS: u16 = 2;

/// What is not told of is not known for so long: many times what it takes otherwise.
const UNHEARD_PERIOD: Duration = Duration::from_secs(10);

/// Of the peers that announce at this machine.
fn torrent(machine: usize) -> [u8; 20] {
    [u8::try_from(machine).unwrap() + 1; 20]
}

/// What each machine counts of the peers of each.
type Counts = [[u32; 3]; 3];

fn counts(cluster: &Cluster) -> Result<Counts> {
    let mut counts = Counts::default();
    for (machine, counts) in cluster.machines.iter().zip(&mut counts) {
        for (number, count) in counts.iter_mut().enumerate() {
            *count = machine.counts(torrent(number))?.seeders;
        }
    }
    Ok(counts)
}

fn wait_for(cluster: &Cluster, expected: Counts, limit: Duration) -> Result<()> {
    wait_for_one_of(cluster, &[expected], limit).map(drop)
}

/// Returns which of them it is.
fn wait_for_one_of(cluster: &Cluster, expected: &[Counts], limit: Duration) -> Result<Counts> {
    let mut last = Counts::default();
    let reached = wait::until("the right peers are known", limit, || {
        last = counts(cluster)?;
        Ok(expected.contains(&last).then_some(last))
    });
    reached.with_context(|| format!("{last:?}, not one of {expected:?}"))
}

/// So many peers announce at each machine.
fn announce(cluster: &Cluster, peers: u16) {
    for (number, machine) in cluster.machines.iter().enumerate() {
        for port in 1..=peers {
            machine.announce(torrent(number), port, 0).unwrap();
        }
    }
}

/// What is known when each side has heard of its own peers, and of so many of the other one.
fn apart(own: u16, of_others: u16) -> Counts {
    let counts = |at: usize, of: usize| match (at == ALONE) == (of == ALONE) {
        true => own.into(),
        false => of_others.into(),
    };
    array::from_fn(|at| array::from_fn(|of| counts(at, of)))
}

#[test]
fn sides_that_were_apart_for_long_give_each_other_up_and_become_one_again() {
    let Some(mut cluster) = Cluster::new(0).unwrap() else {
        return;
    };
    for machine in &cluster.machines {
        machine.configure(INTERVALS).unwrap();
    }
    cluster.start().unwrap();
    announce(&cluster, PEERS);
    wait_for(&cluster, apart(PEERS, PEERS), SHARED_LIMIT).unwrap();
    let replays = cluster.machines[ALONE].metric(REPLAYS).unwrap();
    let closed_before = routes_closed(&cluster);

    cluster.machines[ALONE].cut(Cut::Both).unwrap();
    for round in 1..=ROUNDS {
        announce(&cluster, PEERS + round);
        let expected = apart(PEERS + round, PEERS);
        wait_for(&cluster, expected, SHARED_LIMIT).unwrap();
        wait::hold(ANNOUNCE_INTERVAL, || {
            let counts = counts(&cluster)?;
            ensure!(counts == expected, "{counts:?}, not {expected:?}");
            Ok(())
        })
        .unwrap();
    }
    for (number, machine) in cluster.machines.iter_mut().enumerate() {
        let nodes = if number == ALONE { 1.0 } else { 2.0 };
        machine.wait_for_metric(NODES, nodes, SHARED_LIMIT).unwrap();
    }
    // Of two servers, and of one.
    let closed = routes_closed(&cluster);
    for (now, before) in closed.iter().zip(closed_before) {
        assert!(*now > before, "{closed:?}, {closed_before:?}");
    }

    cluster.machines[ALONE].heal().unwrap();
    // The log has all of one side. The other one publishes again what it has not.
    let all = PEERS + ROUNDS;
    wait_for(&cluster, apart(all, all), COMPLETE_LIMIT).unwrap();
    for machine in &mut cluster.machines {
        machine.wait_for_metric(NODES, 3.0, SHARED_LIMIT).unwrap();
    }
    // Servers choose who leads the log as slowly as after a start.
    wait::until("the log is read", COMPLETE_LIMIT, || {
        let is_read = cluster.machines[ALONE].metric(REPLAYS)? > replays;
        Ok(is_read.then_some(()))
    })
    .unwrap();
}

/// By each server, so far.
fn routes_closed(cluster: &Cluster) -> [usize; 3] {
    let logs = [0, 1, 2].map(|it: usize| cluster.machines[it].server_log().unwrap());
    logs.map(|log| {
        let closed = log.matches("Router connection closed: ").count();
        closed - log.matches("closed: Duplicate Route").count()
    })
}

/// Servers keep a log if there are two of them. One passes on what it is told.
#[test]
fn one_server_of_three_goes_on_without_the_log_which_comes_back_with_the_second() {
    let Some(mut cluster) = Cluster::started(0).unwrap() else {
        return;
    };
    announce(&cluster, PEERS);
    let first = apart(PEERS, PEERS);
    wait_for(&cluster, first, SHARED_LIMIT).unwrap();
    // Whoever begins anew reads it in the log. What is not in there yet would be published again.
    cluster.machines[2].kill_tracker().unwrap();
    cluster.machines[2].start_tracker().unwrap();
    cluster.machines[2].wait_until_complete().unwrap();
    wait_for(&cluster, first, SHARED_LIMIT).unwrap();
    for machine in &mut cluster.machines[1..] {
        machine.kill_server().unwrap();
    }
    // Their trackers go on to the one that is left. What is said before they are there is told of
    // again, in the refresh interval.
    for machine in &cluster.machines[1..] {
        wait::until("it has gone on", COMPLETE_LIMIT, || {
            // One may have been at both of those that have gone.
            let is_some = |name| machine.metric(name).is_ok_and(|it| it > 0.9);
            let is_there = is_some("aquatic_cluster_reconnects_total") && is_some(CONNECTED);
            Ok(is_there.then_some(()))
        })
        .unwrap();
    }
    announce(&cluster, PEERS + 1);
    let all = apart(PEERS + 1, PEERS + 1);
    wait_for(&cluster, all, SHARED_LIMIT).unwrap();

    // Who knows nothing hears what happens, and what is published again since it is in no log: the
    // last peer of each machine. No more.
    cluster.machines[2].kill_tracker().unwrap();
    cluster.machines[2].start_tracker().unwrap();
    cluster.machines[2]
        .wait_for_metric(CONNECTED, 1.0, COMPLETE_LIMIT)
        .unwrap();
    for machine in &cluster.machines[..2] {
        machine.announce(NEW, 1, 0).unwrap();
    }
    cluster.wait_for_all(NEW, (2, 0), SHARED_LIMIT).unwrap();
    wait::hold(UNHEARD_PERIOD, || {
        let counts = counts(&cluster)?;
        ensure!(counts[2].iter().all(|it| *it <= 1), "{counts:?}");
        ensure!(cluster.machines[2].metric(COMPLETE)? < 0.1, "complete");
        Ok(())
    })
    .unwrap();

    // The log has what was published while there was one, and what is published again. Nobody does
    // that for a tracker that has ended: its last peer is there only if the server that was left
    // has led the log, and had stored the announce before it noticed that it was alone. Servers
    // let the log be read some time before they have chosen who leads it, and takes more.
    cluster.machines[1].start_server().unwrap();
    cluster.machines[2].wait_until_complete().unwrap();
    let mut without_last = all;
    without_last[2][2] = PEERS.into();
    let expected = wait_for_one_of(&cluster, &[all, without_last], COMPLETE_LIMIT).unwrap();
    cluster.machines[2].kill_tracker().unwrap();
    cluster.machines[2].start_tracker().unwrap();
    cluster.machines[2].wait_until_complete().unwrap();
    // As soon as servers have chosen who leads the log, which takes what waits for it. Before, the
    // last one may have been on its way.
    wait_for_one_of(&cluster, &[all, expected], COMPLETE_LIMIT).unwrap();
}
