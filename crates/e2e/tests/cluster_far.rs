//! A node that is far from its server: what it does takes longer, by what the way takes, and
//! nothing goes wrong for that.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aquatic_e2e::cluster_lab::{Cluster, Machine, SHARED_LIMIT};
use aquatic_e2e::wait;

/// From a node to its server, or back: between two continents.
const DELAY: Duration = Duration::from_millis(80);
const ROUND_TRIP: Duration = Duration::from_millis(160);

/// `cluster.flush_interval`: when something is published that has just been announced.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// It waits for the flush and goes one way. The rest is for programs that wait for a processor, and
/// for the test, which looks each 50 ms; there is no room for a try that fails. Most are that
/// quick: a machine may do something else for a second.
const HEARD_LIMIT: Duration = FLUSH_INTERVAL.saturating_add(ROUND_TRIP.saturating_mul(4));

/// Each node tells within this that it is alive, and how much it has published; before, it is not
/// known whether all is known.
const ALIVE_LIMIT: Duration = Duration::from_millis(1_500);

/// The server speaks, TLS and NATS greet each other, the stream is looked for, and its log read:
/// eight questions or less, one after the other. Programs that wait for a processor have as much.
const COMPLETE_LIMIT: Duration = ALIVE_LIMIT.saturating_add(ROUND_TRIP.saturating_mul(16));

/// The numbers of batches show what was missed in two seconds.
const MISSED_PERIOD: Duration = Duration::from_secs(3);

/// All at one machine have one address, which may have so many peers in a torrent.
const PEERS: u16 = 60;

const NEAR: usize = 0;
const FAR: usize = 1;

fn torrent(number: u8) -> [u8; 20] {
    [number; 20]
}

/// From an announce at one machine until the other one has it.
#[expect(
    clippy::disallowed_methods,
    reason = "the programs that are measured live in real time"
)]
fn way(cluster: &mut Cluster, [from, to]: [usize; 2], number: u8, port: u16) -> Duration {
    let before = cluster.machines[to].counts(torrent(number)).unwrap();
    let after = (before.seeders + 1, before.leechers);
    let start = Instant::now();
    cluster.machines[from]
        .announce(torrent(number), port, 0)
        .unwrap();
    cluster.machines[to]
        .wait_for(torrent(number), after, SHARED_LIMIT)
        .unwrap();
    start.elapsed()
}

/// Many peers announce everywhere, and are known everywhere.
fn crowd(cluster: &mut Cluster, number: u8) {
    let mut seeders = 0;
    for port in 1..=PEERS {
        for machine in &cluster.machines {
            machine.announce(torrent(number), port, 0).unwrap();
            seeders += 1;
        }
    }
    cluster
        .wait_for_all(torrent(number), (seeders, 0), SHARED_LIMIT)
        .unwrap();
}

/// The far node starts, and is complete in time: once in some starts, as the machine may do
/// something else for a second.
fn start_far(machine: &mut Machine) {
    const STARTS: usize = 4;
    for start in 1..=STARTS {
        machine.start_tracker().unwrap();
        let complete = machine.wait_for_metric("aquatic_cluster_complete", 1.0, COMPLETE_LIMIT);
        match complete {
            Err(error) if start < STARTS => eprintln!("once more, after this: {error:#}"),
            complete => return complete.unwrap(),
        }
        machine.kill_tracker().unwrap();
    }
}

fn skew(machine: &Machine) -> Result<f64> {
    machine.metric("aquatic_cluster_clock_skew_seconds")
}

/// Now, and for some time.
fn nothing_goes_wrong(cluster: &Cluster) {
    // Whose clock is wrong, and who is far away, is the same to a node.
    wait::until("the way is taken for a clock", SHARED_LIMIT, || {
        let is_seen = skew(&cluster.machines[FAR])? > DELAY.as_secs_f64() / 2.0;
        Ok(is_seen.then_some(()))
    })
    .unwrap();
    wait::hold(MISSED_PERIOD, || {
        for machine in &cluster.machines {
            for name in [
                "aquatic_cluster_batches_missed_total",
                "aquatic_cluster_messages_overrun_total",
                "aquatic_cluster_replay_failures_total",
                "aquatic_cluster_reconnects_total",
            ] {
                let count = machine.metric(name)?;
                ensure!(count < 0.5, "{name} {count}");
            }
            let skew = skew(machine)?;
            ensure!(skew < 1.0, "one clock is {skew} s apart from itself");
            let nodes = machine.metric("aquatic_cluster_nodes")?;
            ensure!(nodes > 2.5, "{nodes} nodes");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_node_that_is_far_from_its_server_hears_and_is_heard_later_and_misses_nothing() {
    let Some(mut cluster) = Cluster::new(0).unwrap() else {
        return;
    };
    let _way = cluster.machines[FAR].move_away(DELAY).unwrap();
    cluster.start_servers().unwrap();
    for machine in [0, 2] {
        cluster.machines[machine].start_tracker().unwrap();
    }
    for machine in [0, 2] {
        cluster.machines[machine].wait_until_complete().unwrap();
    }
    for port in 1..=PEERS {
        cluster.machines[NEAR]
            .announce(torrent(1), port, 0)
            .unwrap();
    }
    start_far(&mut cluster.machines[FAR]);
    let counts = cluster.machines[FAR].counts(torrent(1)).unwrap();
    assert_eq!(counts.seeders, u32::from(PEERS), "complete");

    for (way_of, port) in [([NEAR, FAR], 1), ([FAR, NEAR], 2)] {
        let taken = (10..20).map(|number| way(&mut cluster, way_of, number, port));
        let mut taken: Vec<_> = taken.collect();
        taken.sort_unstable();
        assert!(taken[0] >= DELAY, "{taken:?}: nobody is far away");
        assert!(taken[taken.len() / 2] <= HEARD_LIMIT, "{taken:?}");
    }
    crowd(&mut cluster, 2);
    nothing_goes_wrong(&cluster);

    // It knows as soon what is in the log by now.
    cluster.machines[FAR].kill_tracker().unwrap();
    start_far(&mut cluster.machines[FAR]);
    let counts = cluster.machines[FAR].counts(torrent(2)).unwrap();
    assert_eq!(counts.seeders, 3 * u32::from(PEERS), "complete");
    nothing_goes_wrong(&cluster);
}
