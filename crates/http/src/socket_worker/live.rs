//! What a socket worker does when settings have changed.

use std::sync::Arc;

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
    pub(super) fn follow(&mut self) {
        if let Some(config) = self.following.changed(Config::bounds) {
            self.service.follow(&config);
            self.writer.intervals = config.intervals();
        }
    }
}
