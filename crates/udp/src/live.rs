//! What changes while the tracker serves.

use std::sync::Arc;

use aquatic_daemon::live::LiveSettings;

use crate::config::Config;

/// What the front end goes by. Its workers have been made with the same.
#[derive(Clone)]
pub struct LiveFrontEnd {
    /// Of the services, and of those who write responses.
    pub settings: LiveSettings<Arc<Config>>,
}

impl LiveFrontEnd {
    /// As configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            settings: LiveSettings::new(Arc::new(config.clone())),
        }
    }

    /// Has it go by `config` from now on, as far as that does not need a restart
    /// ([`aquatic_config::reloading`]).
    pub fn set(&self, config: &Config) {
        self.settings.set(Arc::new(config.clone()));
    }
}
