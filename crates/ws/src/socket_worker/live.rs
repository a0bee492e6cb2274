//! What a socket worker does when settings have changed.

use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_daemon::live::SettingsReader;
use aquatic_stream_tracker::Following;

use super::SocketWorker;
use crate::config::Config;

impl SocketWorker {
    /// The same worker, with settings that change while it works.
    #[must_use]
    pub fn following(mut self, settings: SettingsReader<Arc<Config>>) -> Self {
        self.following = Following::new(settings);
        self
    }

    /// Looks whether they have.
    pub(super) fn follow(&mut self, now: Now) {
        self.writer.intervals.refresh();
        let Some(config) = self.following.changed(Config::bounds) else {
            return;
        };
        self.doorkeeper.follow(&config);
        if self.requests.service.follow(&config) {
            self.sweep.start();
        }
        self.requests.offers_max = config.protocol.max_offers;
        self.requests.peers_max = config.protocol.max_torrents_per_connection;
        let protocol = &config.protocol;
        let intervals = &mut self.writer.intervals;
        intervals.set(protocol.peer_announce_interval, &protocol.intervals);
        self.writer.bounds = config.forwarding_bounds();
        self.patience = config.patience();
        let cleaning = &config.cleaning;
        self.sweep
            .set_interval(now, cleaning.torrent_cleaning_interval);
        if let Some((_, watch)) = &mut self.certificates {
            watch.set_grace(now, cleaning.close_after_tls_update_grace_period);
        }
    }
}
