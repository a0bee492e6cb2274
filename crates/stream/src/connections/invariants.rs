//! What holds whenever nobody is in the middle of something.

use super::Table;
use super::shared::NEVER;
use crate::connection::{Connection, Phase, Turn, Writing};
use crate::handler::{ConnectionKey, WaitingFor};
use crate::memory::SessionState;

/// If there are more connections, only these are looked at all together.
const PLACES_CHECKED: usize = 256;

impl<S: SessionState> Table<S> {
    /// After something has been done about one connection.
    ///
    /// # Panics
    /// If there is something wrong with it.
    pub(crate) fn check_one(&self, key: ConnectionKey) {
        if let Some(connection) = self.get(key) {
            self.check_duties(key, connection);
            self.check_bytes(connection);
        }
    }

    /// After something has been done about many.
    ///
    /// # Panics
    /// If there is something wrong with one of them, or with what is known of all.
    pub(crate) fn check_all(&self) {
        for key in self.keys(0..PLACES_CHECKED) {
            self.check_one(key);
        }
        if self.slots.len() <= PLACES_CHECKED {
            self.check_sums();
        }
    }

    /// Whoever has something to do about the connection knows it.
    fn check_duties(&self, key: ConnectionKey, connection: &Connection<S>) {
        let queue = &self.shared.queue;
        if queue.len() <= PLACES_CHECKED {
            let times = queue.iter().filter(|it| **it == key).count();
            assert_eq!(
                times,
                usize::from(connection.is_queued),
                "it is listed once"
            );
        }
        let is_known = connection.is_queued || self.flushed == Some(key);
        let is_pending = matches!(connection.writing, Writing::Pending { .. });
        let needs_the_loop = connection.has_ended() || is_pending;
        assert!(is_known || !needs_the_loop, "the loop is told");
        if connection.turn == Turn::AfterOutput && connection.is_open() {
            assert!(connection.pending() > 0, "what waits for output has some");
        }
        let has_time = self.deadlines.get(key.index()) != Some(&NEVER);
        let is_our_turn = match connection.phase {
            Phase::ProxyHeader(_) | Phase::Handshake(_) | Phase::Lingering { .. } => false,
            Phase::Open { waits_for, .. } | Phase::Draining { waits_for, .. } => {
                is_pending || waits_for == WaitingFor::Tracker && !connection.is_blocked()
            }
            Phase::Ended { .. } | Phase::Gone => true,
        };
        assert!(has_time || is_our_turn, "nobody waits for ever");
    }

    /// What it holds is in order, bounded, and counted.
    fn check_bytes(&self, connection: &Connection<S>) {
        let pending = connection.pending();
        assert_eq!(connection.writing == Writing::Idle, pending == 0);
        let bounds = &self.shared.bounds;
        match connection.phase {
            Phase::Draining { .. } => assert!(pending > 0, "it has not ended"),
            Phase::Lingering { .. } => {
                let is_held = connection.tls.is_some() || !connection.input.is_empty();
                assert!(
                    !is_held && pending == 0,
                    "a connection that lingers is a socket"
                );
            }
            Phase::Open { .. } if connection.tls.is_none() => {
                assert!(pending <= bounds.output_bytes_max, "output is bounded");
            }
            _ => {}
        }
        let is_counted = connection.counted == connection.count(bounds);
        assert!(
            is_counted || connection.is_light(),
            "it counts for what it holds"
        );
    }

    fn check_sums(&self) {
        let Self { slots, shared, .. } = self;
        let connections = slots.iter().filter_map(|it| it.connection.as_ref());
        assert_eq!(connections.clone().count(), self.len());
        let counted = connections.map(|it| it.counted);
        assert!(shared.memory.is_sum_of(counted, shared.pool.bytes()));
    }
}
