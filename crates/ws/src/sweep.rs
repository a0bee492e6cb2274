//! Looks at all connections of a worker now and then, or when there is a reason to, a slice at a
//! time. Pure.

use aquatic_daemon::clock::Now;
use aquatic_stream::{ConnectionKey, Connections};
use aquatic_types::Seconds;

use crate::session::Session;

/// Places in the table of connections that are looked at in one round.
const PLACES_PER_ROUND: usize = 256;

/// When all connections are looked at, and how far that has come.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// `None`: only when there is a reason to.
    interval_seconds: Option<u32>,
    next_seconds: Seconds,
    /// Where to go on, while one is under way.
    place: Option<usize>,
}

impl Sweep {
    /// Every so many seconds.
    pub(crate) fn new(interval_seconds: Option<u32>) -> Self {
        Self {
            interval_seconds,
            next_seconds: Seconds(0) + interval_seconds.unwrap_or_default(),
            place: None,
        }
    }

    /// Every so many seconds from now on, if it is now and then at all; and for the next time no
    /// later than that.
    pub(crate) fn set_interval(&mut self, now: Now, seconds: u32) {
        if let Some(interval_seconds) = &mut self.interval_seconds {
            *interval_seconds = seconds;
            self.next_seconds = self.next_seconds.min(now.seconds + seconds);
        }
    }

    /// Looks at all connections from now on: there is a reason to.
    pub(crate) fn start(&mut self) {
        self.place = Some(0);
    }

    /// Whether there is more to do at once.
    pub(crate) fn is_under_way(&self) -> bool {
        self.place.is_some()
    }

    /// Looks at some connections, if it is time.
    pub(crate) fn go_on(
        &mut self,
        now: Now,
        connections: &mut Connections<Session>,
        mut look: impl FnMut(ConnectionKey, &mut Session),
    ) {
        if let Some(interval_seconds) = self.interval_seconds
            && self.place.is_none()
            && now.seconds >= self.next_seconds
        {
            self.next_seconds = now.seconds + interval_seconds;
            self.place = Some(0);
        }
        let Some(start) = self.place else {
            return;
        };
        let end = start + PLACES_PER_ROUND;
        for id in connections.keys(start..end) {
            connections.with(id, |session, _| look(id, session));
        }
        self.place = (end < connections.places()).then_some(end);
    }
}
