//! What a tracker costs that nobody asks.

use std::thread;
use std::time::Duration;

use aquatic_types::IpFamily;

use crate::setup::on_every_setup;
use crate::{Program, torrents};

const WINDOW: Duration = Duration::from_secs(3);

/// For each worker, and as many for all other threads. A wake-up costs 30 to 100 microseconds: so a
/// tracker with one worker uses less than half a percent of a core.
const WAKE_UPS_PER_SECOND_MAX: usize = 20;

/// After some work, from which it has to find back to rest.
///
/// Wake-ups are counted, rather than the CPU time that they take, since other work of the machine
/// makes each of them cost more. That may cost several times as much as on a quiet machine, and no
/// more: one percent of a core for each worker, and one for all other threads.
pub fn an_idle_tracker_rests(program: &'static Program) {
    on_every_setup(program, |setup| {
        let daemon = setup.start_with_metrics("");
        let mut clients = IpFamily::ALL.map(|family| program.client_of(&daemon, family));
        for client in &mut clients {
            torrents().for_each(|info_hash| drop(client.join(info_hash, 1)));
        }
        let (wake_ups, used) = (daemon.wake_ups(), daemon.cpu_time());
        // The window of a measurement, not a wait for something to happen.
        thread::sleep(WINDOW);
        let wake_ups = daemon.wake_ups() - wake_ups;
        let workers = setup.socket_workers + setup.swarm_workers;
        let allowed = (1 + workers) * WAKE_UPS_PER_SECOND_MAX;
        assert!(
            wake_ups <= allowed as u64 * WINDOW.as_secs(),
            "it wakes up {wake_ups} times in {WINDOW:?}"
        );
        let used = daemon.cpu_time().saturating_sub(used);
        let allowed = WINDOW / 100 * u32::try_from(1 + workers).unwrap();
        assert!(used < allowed, "{used:?} in {WINDOW:?}");
    });
}
