//! A stop while a swarm worker has requests.

use aquatic_daemon::clock::Now;
use aquatic_ws::config::Config;

use super::town::{Town, announce};

#[test]
fn whoever_waits_for_an_answer_gets_it_before_the_end() {
    let mut town = Town::new(&Config {
        swarm_workers: 1,
        ..Config::default()
    });
    let (asking, idle) = (town.come(0), town.come(0));
    town.send(asking, &announce(asking, 1));
    town.finish();
    // Later than that, nobody is left who could be closed.
    for seconds in [1, 2] {
        town.now = Now::from_micros(seconds * 1_000_000);
        town.tracker.hubs[0].stop(town.now);
        town.finish();
    }
    assert!(town.is_open(asking) && !town.is_open(idle));
    town.tracker.answer(0, town.now);
    town.finish();
    assert_eq!(town.received(asking)[0]["incomplete"], 1);
    town.tracker.hubs[0].stop(town.now);
    town.finish();
    assert!(!town.is_open(asking));
}
