use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_channel::waker_pair;
use aquatic_tracker::persistence::Persistence;
use aquatic_types::InfoHash;

use super::*;
use crate::config::Config;
use crate::workers::build_workers;

/// Those who waited for another worker may have something to ask of this one, at last.
#[test]
fn the_own_batch_is_not_slept_over() {
    let config = Config::default();
    let wakers = [waker_pair(|| ()).1];
    let access_list = SharedAccessList::new(AccessListMode::Off, AccessList::default());
    let entropy = &mut fastrand::Rng::with_seed(1);
    let (workers, _) = build_workers(
        &config,
        &access_list,
        &wakers,
        Persistence::default(),
        None,
        entropy,
    )
    .unwrap();
    let mut worker = workers.socket_workers.into_iter().next().unwrap();
    assert!(!worker.has_pending());
    let row = Scrape::new(ConnectionKey::default(), 0, InfoHash([1; 20]));
    worker.dispatcher.local_batch().unwrap().scrapes.push(row);
    assert!(worker.has_pending());
}
