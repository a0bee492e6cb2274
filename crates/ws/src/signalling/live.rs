//! Shards whose settings change while they serve.

use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_daemon::live::{LiveSettings, SettingsReader};
use aquatic_tracker::dispatch::shard_set::ShardSet;
use aquatic_tracker::shard::ShardSource;
use aquatic_tracker::shard::client_stats::{ClientStats, PeerTag};

use super::{SignallingShard, SignallingSwarms, limits, maintenance};
use crate::config::Config;

/// Lets all shards go by what the settings become.
pub fn follow(shards: &mut ShardSet<SignallingShard>, settings: &LiveSettings<Arc<Config>>) {
    shards.attach_to_each(|| Box::new(Follower(settings.reader())));
}

/// Tells one shard.
struct Follower(SettingsReader<Arc<Config>>);

impl ShardSource<SignallingShard> for Follower {
    fn process(&mut self, _: Now, _: &mut SignallingShard) -> usize {
        0
    }

    fn step(&mut self, now: Now, shard: &mut SignallingShard) -> bool {
        if let Some(config) = self.0.changed() {
            match shard {
                ClientStats::Off(swarms) => swarms.follow(now, &config),
                ClientStats::On(swarms) => swarms.follow(now, &config),
            }
        }
        false
    }
}

impl<V: PeerTag> SignallingSwarms<V> {
    fn follow(&mut self, now: Now, config: &Config) {
        self.members.swarms.set_limits(limits(config));
        self.maintenance.set_intervals(now, maintenance(config));
        self.offer_age_seconds_max = config.cleaning.max_offer_age;
        if let Some(sharing) = &mut self.members.counts.sharing {
            sharing.set_cleaning_interval(config.cleaning.torrent_cleaning_interval);
        }
    }
}
