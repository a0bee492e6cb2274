//! What holds whenever nobody is in the middle of something.

use super::Table;
use super::shared::NEVER;
use crate::READ_BYTES_MAX;
use crate::connection::{Connection, Phase, Turn, Writing};
use crate::handler::{ConnectionId, Deadline};
use crate::memory::SessionState;

/// If there are more connections, only these are looked at: it is done very often.
const PLACES_CHECKED: usize = 256;

impl<S: SessionState> Table<S> {
    /// # Panics
    /// If one of them does not hold.
    pub(crate) fn check_invariants(&self) {
        let slots = self.slots.iter().take(PLACES_CHECKED);
        for (place, slot) in slots.enumerate() {
            if let (Some(connection), Some(key)) = (&slot.connection, self.key(place)) {
                self.check_duties(key, connection);
                self.check_bytes(connection);
            }
        }
        if self.slots.len() <= PLACES_CHECKED {
            self.check_sums();
        }
    }

    /// Whoever has something to do about the connection knows it.
    fn check_duties(&self, key: ConnectionId, connection: &Connection<S>) {
        let listed = self.shared.dirty.iter().filter(|it| **it == key).count();
        assert_eq!(listed, usize::from(connection.is_dirty), "listed once");
        let is_known = connection.is_dirty || self.looked_after == Some(key);
        let is_pending = matches!(connection.writing, Writing::Pending { .. });
        let needs_the_loop = connection.has_ended() || is_pending;
        assert!(is_known || !needs_the_loop, "the loop is told");
        if connection.turn == Turn::AfterOutput && connection.is_open() {
            assert!(connection.pending() > 0, "what waits for output has some");
        }
        let has_time = self.deadlines.get(place(key)) != Some(&NEVER);
        let is_our_turn = match connection.phase {
            Phase::ProxyHeader(_) | Phase::Handshake(_) | Phase::Lingering { .. } => false,
            Phase::Open(_) | Phase::Draining { .. } => {
                is_pending || connection.waits_for == Deadline::None && !connection.is_blocked()
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
            Phase::Open(_) if connection.tls.is_none() => {
                let input_bytes_max = bounds.input_bytes_max + READ_BYTES_MAX;
                assert!(
                    connection.input.len() <= input_bytes_max,
                    "input is bounded"
                );
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

fn place(key: ConnectionId) -> usize {
    usize::try_from(key.slot).unwrap_or(usize::MAX)
}
