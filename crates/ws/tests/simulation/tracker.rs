//! The system under test: all workers of a tracker, without sockets and threads.

use std::collections::BTreeSet;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::waker_pair;
use aquatic_daemon::clock::Now;
use aquatic_daemon::counter::Label;
use aquatic_keys::SharedKeys;
use aquatic_stream::TlsConfig;
use aquatic_stream_tracker::simulation::Simulation;
use aquatic_tracker::limits::ClientLimits;
use aquatic_tracker::persistence::Persistence;
use aquatic_types::IpFamily;
use aquatic_ws::config::Config;
use aquatic_ws::counters::{Reason, WebTorrent};
use aquatic_ws::workers::build_workers;

pub(crate) type Tracker = Simulation<WebTorrent>;

/// All workers of a tracker, with secrets of this seed.
pub(crate) fn arranged(
    config: &Config,
    access_list: &SharedAccessList,
    keys: &SharedKeys,
    tls: Option<&TlsConfig>,
    persistence: Persistence,
    seed: u64,
) -> Tracker {
    let workers = config.topology().workers();
    let wakers: Vec<_> = (0..workers).map(|_| waker_pair(|| ()).1).collect();
    let entropy = &mut fastrand::Rng::with_seed(seed);
    let limits = ClientLimits::from_config(&config.limits.connections.tracker, entropy).unwrap();
    let arranged = build_workers(
        config,
        access_list,
        tls,
        &wakers,
        limits,
        persistence,
        entropy,
    );
    let mut workers = arranged.expect("this entropy never fails");
    for worker in &mut workers.socket_workers {
        worker.require_keys(keys);
    }
    Simulation::with_tls(workers, config.bounds(), tls)
}

/// All swarm workers answer what they have been asked.
pub(crate) fn answer_all(tracker: &mut Tracker, now: Now) {
    for worker in 0..tracker.swarm_workers.len() {
        tracker.answer(worker, now);
    }
}

/// All background work of all workers.
pub(crate) fn maintain(tracker: &mut Tracker, now: Now) {
    for worker in 0..tracker.counters.len() {
        while tracker.maintain(worker, now) {}
    }
}

/// Torrents, and peers by family, that the tracker says it has.
pub(crate) fn gauges(tracker: &Tracker) -> (u64, [u64; 2]) {
    let [(torrents_v4, peers_v4), (torrents_v6, peers_v6)] =
        IpFamily::ALL.map(|family| tracker.gauges(family));
    (torrents_v4 + torrents_v6, [peers_v4, peers_v6])
}

/// Why messages were refused or dropped.
pub(crate) fn reasons(tracker: &Tracker) -> BTreeSet<&'static str> {
    let mut reasons = BTreeSet::new();
    for counters in &tracker.counters {
        for family in IpFamily::ALL {
            for reason in Reason::ALL {
                if counters.traffic(family).reason(*reason).get() > 0 {
                    reasons.insert(reason.label());
                }
            }
        }
    }
    reasons
}
