//! What a tracker costs that nobody asks.

use std::thread;
use std::time::Duration;

use aquatic_types::IpFamily;

use crate::setup::on_every_setup;
use crate::{Program, torrents};

const WINDOW: Duration = Duration::from_secs(3);

const WINDOWS_MAX: usize = 5;

/// After some work, from which it has to find back to rest.
pub fn an_idle_tracker_takes_less_than_half_a_percent_of_a_core(program: &'static Program) {
    on_every_setup(program, |setup| {
        let daemon = setup.start_with_metrics("");
        let mut clients = IpFamily::ALL.map(|family| program.client_of(&daemon, family));
        for client in &mut clients {
            torrents().for_each(|info_hash| drop(client.join(info_hash, 1)));
        }
        // The window of a measurement, not a wait for something to happen. What else runs on the
        // machine makes each wake-up cost more, and never less: the best of some windows counts.
        let used_in_window = || {
            let before = daemon.cpu_time();
            thread::sleep(WINDOW);
            daemon.cpu_time().saturating_sub(before)
        };
        let mut windows = (0..WINDOWS_MAX).map(|_| used_in_window());
        let is_idle = windows.any(|used| used * 200 < WINDOW);
        assert!(
            is_idle,
            "more than half a percent in each of {WINDOWS_MAX} windows"
        );
    });
}
