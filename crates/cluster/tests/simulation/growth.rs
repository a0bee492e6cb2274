//! What more nodes cost.

use aquatic_tracker::shard::addresses::Taken;

use crate::cluster::{Cluster, Settings};
use crate::measures::{Figures, share};
use crate::node::{ANNOUNCE_INTERVAL, REFRESH_INTERVAL};

/// What a node has done, on average and at most.
struct Work {
    announces: f64,
    published: f64,
    applied: f64,
    applied_at_most: u64,
    figures: Figures,
    records_per_announce: f64,
}

fn measure(nodes: usize) -> Work {
    let mut cluster = Cluster::new(Settings {
        nodes,
        peers: 2_000,
        tick: 500_000,
        flush: 500_000,
        ticks_per_sample: 0,
        history: true,
        ..Settings::default()
    });
    cluster.pass(u64::from(REFRESH_INTERVAL + ANNOUNCE_INTERVAL));
    let taken = |cluster: &Cluster, number: usize| {
        let known = cluster.taken(number, Taken::Known);
        cluster.taken(number, Taken::Applied) + known
    };
    let before: Vec<u64> = (0..nodes).map(|it| taken(&cluster, it)).collect();
    let (announces, published) = (cluster.population.announces, cluster.published());
    cluster.pass(u64::from(2 * REFRESH_INTERVAL));
    let announces = cluster.population.announces - announces;
    let published = cluster.published() - published;
    let applied = before.iter().enumerate();
    let applied = applied.map(|(number, before)| taken(&cluster, number) - before);
    let applied: Vec<u64> = applied.collect();
    let mut figures = Figures::default();
    for number in [0, nodes / 2] {
        figures += cluster.compare(number, 0);
    }
    let all = nodes as u64;
    Work {
        announces: share(announces, all),
        published: share(published, all),
        applied: share(applied.iter().sum(), all),
        applied_at_most: applied.iter().copied().max().unwrap(),
        figures,
        records_per_announce: share(published, announces),
    }
}

/// The same peers, over more and more nodes: each has its part of the announces, and applies what
/// others publish, which is the same for all.
#[test]
fn work_grows_with_peers_and_not_with_nodes() {
    println!("nodes | per node: announces | published | applied (most) | together");
    let mut alone = None;
    for nodes in [1, 2, 4, 8, 16, 100] {
        let work = measure(nodes);
        println!(
            "{nodes:5} | {:19.0} | {:9.0} | {:7.0} ({:4}) | {:8.0}",
            work.announces,
            work.published,
            work.applied,
            work.applied_at_most,
            work.announces + work.applied
        );
        let total = *alone.get_or_insert(work.published);
        let count = f64::from(u32::try_from(nodes).unwrap());
        assert!((work.published * count / total - 1.0).abs() < 0.2);
        // Departures are told to shards twice.
        let applied = total * (count - 1.0) / count;
        assert!((work.applied - applied).abs() <= 0.2 * applied);
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let at_most = work.applied_at_most as f64;
        assert!(at_most <= 1.2 * total);
        assert!((work.records_per_announce - 0.30).abs() <= 0.03);
        assert!(work.figures.live > 1_000 || nodes == 1);
        assert!(
            work.figures.missing <= work.figures.live / 500,
            "{:?}",
            work.figures
        );
        assert_eq!(
            (work.figures.missing_at_home, work.figures.strangers),
            (0, 0)
        );
    }
}
