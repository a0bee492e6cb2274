//! The system under test: all workers of a tracker, without sockets and threads.

use std::collections::BTreeMap;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::waker_pair;
use aquatic_daemon::counter::Label;
use aquatic_http::config::Config;
use aquatic_http::counters::{Http, Reason, RequestKind, ResponseKind};
use aquatic_http::workers::build_workers;
use aquatic_keys::SharedKeys;
use aquatic_stream::TlsConfig;
use aquatic_stream_tracker::simulation::Simulation;
use aquatic_tracker::persistence::Persistence;
use aquatic_types::IpFamily;

/// Counts by IP version, metric and label; what is zero is left out.
pub(crate) type Counts = BTreeMap<(&'static str, &'static str, &'static str), u64>;

pub(crate) type Tracker = Simulation<Http>;

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
    let arranged = build_workers(config, access_list, &wakers, persistence, None, entropy);
    let (mut workers, _) = arranged.expect("this entropy never fails");
    for worker in &mut workers.socket_workers {
        worker.require_keys(keys);
    }
    Simulation::with_tls(workers, config.bounds(), tls)
}

/// What all workers have counted together.
pub(crate) fn counts(tracker: &Tracker) -> Counts {
    let mut counts = Counts::new();
    let mut add = |family: IpFamily, metric, label, count: u64| {
        if count > 0 {
            *counts.entry((family.digit(), metric, label)).or_default() += count;
        }
    };
    for counters in &tracker.counters {
        for family in IpFamily::ALL {
            let traffic = counters.traffic(family);
            for kind in RequestKind::ALL {
                let count = traffic.requests(*kind).get();
                add(family, "requests", kind.label(), count);
            }
            for kind in ResponseKind::ALL {
                let count = traffic.responses(*kind).get();
                add(family, "responses", kind.label(), count);
            }
            for reason in Reason::ALL {
                let count = traffic.reason(*reason).get();
                add(family, "reason", reason.label(), count);
            }
        }
    }
    counts
}
