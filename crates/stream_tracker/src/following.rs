//! A socket worker's settings, while they change.

use std::sync::Arc;

use aquatic_daemon::live::SettingsReader;
use aquatic_stream::{Bounds, Deadlines};

/// Tells a socket worker of another configuration, and its connections of the deadlines in it. By
/// default, there is none.
#[derive(Debug)]
pub struct Following<C> {
    settings: Option<SettingsReader<Arc<C>>>,
    deadlines: Option<Deadlines>,
}

impl<C> Default for Following<C> {
    fn default() -> Self {
        Self {
            settings: None,
            deadlines: None,
        }
    }
}

impl<C> Following<C> {
    /// Tells what `settings` tell.
    #[must_use]
    pub fn new(settings: SettingsReader<Arc<C>>) -> Self {
        Self {
            settings: Some(settings),
            deadlines: None,
        }
    }

    /// Another configuration, if there is one since this was called last. `bounds` are those that
    /// it has for connections. To be called in each round.
    #[inline]
    pub fn changed(&mut self, bounds: impl FnOnce(&C) -> Bounds) -> Option<Arc<C>> {
        let config = self.settings.as_mut()?.changed()?;
        self.deadlines = Some(bounds(&config).deadlines());
        Some(config)
    }

    /// What [`Handler::changed_deadlines`](aquatic_stream::Handler::changed_deadlines) answers.
    pub fn take_deadlines(&mut self) -> Option<Deadlines> {
        self.deadlines.take()
    }
}
