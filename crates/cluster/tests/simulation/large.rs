//! Many nodes and many peers; and, if asked, as many as are asked for:
//!
//! `SIMULATION_PEERS=1000000 SIMULATION_MINUTES=5 cargo test --release -p aquatic_cluster --test
//! simulation -- --ignored --nocapture a_hundred_nodes`
//!
//! That one needs 2.6 GB and ten minutes on one core. Both grow with peers times nodes, and time
//! with minutes, of which 22 pass before anything is measured.

use std::str::FromStr;

use crate::cluster::{Cluster, Settings};
use crate::measures::{Figures, ROUNDING_MICROS, share};
use crate::node::{AGE, ANNOUNCE_INTERVAL};

fn number<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    }
}

/// Memory that is in use, in MiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() / 1_024
}

#[test]
#[ignore = "takes minutes and gigabytes"]
fn a_hundred_nodes() {
    let nodes = number("SIMULATION_NODES", 100);
    let minutes = number("SIMULATION_MINUTES", 60);
    all_know_all(nodes, number("SIMULATION_PEERS", 100_000), minutes);
}

#[test]
fn twenty_nodes() {
    all_know_all(20, 20_000, 3);
}

fn all_know_all(nodes: usize, peers: usize, minutes: usize) {
    let mut cluster = Cluster::new(Settings {
        nodes,
        peers,
        tick: 500_000,
        flush: 500_000,
        ticks_per_sample: 0,
        ..Settings::default()
    });
    cluster.pass(u64::from(AGE + ANNOUNCE_INTERVAL));
    let (announces, published) = (cluster.population.announces, cluster.published());
    let mut figures = Figures::default();
    let looks = nodes.min(4);
    println!("minute | live at each | missing | left | vanished | MiB");
    for minute in 1..=minutes {
        cluster.pass(60);
        // Different nodes each time.
        let mut of_now = Figures::default();
        for place in 0..looks {
            of_now += cluster.compare((minute * looks + place) % nodes, 0);
        }
        let each = looks as u64;
        println!(
            "{minute:6} | {:12} | {:7} | {:4} | {:8} | {}",
            of_now.live / each,
            of_now.missing / each,
            of_now.left / each,
            of_now.vanished / each,
            memory()
        );
        figures += of_now;
    }
    let announces = cluster.population.announces - announces;
    let published = cluster.published() - published;
    println!(
        "{announces} announces, {published} records: {:.3} per announce; missing {:.4} %, {:.3} s \
         late at most",
        share(published, announces),
        figures.missing_share() * 100.0,
        Figures::seconds(figures.latest_micros),
    );
    assert!((share(published, announces) - 0.30).abs() <= 0.03);
    assert!(figures.live > (peers * looks * minutes / 2) as u64);
    // What is published within the last second is on its way.
    assert!(figures.missing_share() <= 0.000_5);
    assert!(figures.latest_micros <= ROUNDING_MICROS);
    assert_eq!((figures.missing_at_home, figures.strangers), (0, 0));
}
