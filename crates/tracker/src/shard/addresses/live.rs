//! Shards of addresses whose settings change while they serve.

use aquatic_daemon::clock::Now;
use aquatic_daemon::live::{LiveSettings, SettingsReader};

use super::kinds::in_each;
use super::{AddressShard, AddressShardConfig, AddressSwarms, AddressSwarmsSettings, AddressTag};
use crate::dispatch::shard_set::ShardSet;
use crate::shard::ShardSource;

/// A way to change what shards go by. There is one, however many protocols they serve.
#[derive(Clone, Debug)]
pub struct LiveAddressShards {
    shards: usize,
    settings: LiveSettings<AddressSwarmsSettings>,
}

impl LiveAddressShards {
    /// Lets `shards` follow, which have been made by `config`.
    #[must_use]
    pub(super) fn attach(
        config: &AddressShardConfig<'_>,
        shards: &mut ShardSet<AddressShard>,
    ) -> Self {
        let live = Self {
            shards: shards.len(),
            settings: LiveSettings::new(config.settings(shards.len())),
        };
        shards.attach_to_each(|| Box::new(Follower(live.settings.reader())));
        live
    }

    /// Has all shards go by these keys from now on, as far as that does not need a restart
    /// ([`aquatic_config::reloading`]).
    pub fn set(&self, config: &AddressShardConfig<'_>) {
        self.settings.set(config.settings(self.shards));
    }
}

/// Tells one shard.
struct Follower(SettingsReader<AddressSwarmsSettings>);

impl ShardSource<AddressShard> for Follower {
    fn process(&mut self, _: Now, _: &mut AddressShard) -> usize {
        0
    }

    fn step(&mut self, now: Now, shard: &mut AddressShard) -> bool {
        if let Some(settings) = self.0.changed() {
            in_each!(shard, swarms => swarms.follow(now, settings));
        }
        false
    }
}

impl<V: AddressTag> AddressSwarms<V> {
    fn follow(&mut self, now: Now, settings: AddressSwarmsSettings) {
        let AddressSwarmsSettings {
            limits,
            peer_age_seconds_max,
            maintenance,
        } = settings;
        self.maps.swarms.v4.set_limits(limits);
        self.maps.swarms.v6.set_limits(limits);
        self.peer_age_seconds_max = peer_age_seconds_max;
        self.maintenance.set_intervals(now, maintenance);
    }
}
