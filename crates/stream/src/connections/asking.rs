//! Which connections the kernel is asked about: what it keeps of their input and output.
//!
//! Nobody is asked about as long as there would be room enough even if the kernel kept all that it
//! may (`memory`). Otherwise, all those of which that is not known are asked about; and if it turns
//! out that there is too little room, all connections, again and again.

use std::ops::Range;

use aquatic_daemon::clock::Now;

use super::Table;
use crate::handler::ConnectionKey;
use crate::memory::{Counted, KernelBytes, SessionState};

/// As long as there is too little room, or may be, the kernel is asked again after so long. Clients
/// go on sending meanwhile: at 1 Gbit/s, 30 MB to those that are not read from.
const PASS_MICROS: u64 = 250_000;

/// Connections that are asked about in one round: some hundred microseconds.
const ASKED_PER_ROUND: usize = 1_024;

/// Who is to be asked about.
#[derive(Debug, Default)]
pub(super) struct Asking {
    is_under_way: bool,
    /// In the places of these.
    places: Range<usize>,
    /// So many in this round.
    left_in_round: usize,
    /// When all are to be asked about again.
    next_pass_micros: u64,
}

impl<S: SessionState> Table<S> {
    /// A round begins. Nearly always, there is nobody to ask about.
    pub(crate) fn begin_asking(&mut self, now: Now) {
        let (asking, memory) = (&mut self.asking, &self.shared.memory);
        if !memory.is_uncertain() {
            asking.is_under_way = false;
            return;
        }
        asking.left_in_round = ASKED_PER_ROUND;
        let is_due = now.micros >= asking.next_pass_micros || memory.has_written_much();
        if !asking.is_under_way && is_due {
            asking.is_under_way = true;
            asking.places = 0..self.slots.len();
            asking.next_pass_micros = now.micros.saturating_add(PASS_MICROS);
        }
    }

    /// One that is to be asked about in this round. When all have been, those that hold most give
    /// way if there is too little room.
    pub(crate) fn next_unknown(&mut self, now: Now) -> Option<ConnectionKey> {
        let is_tight = self.shared.memory.is_tight();
        while self.asking.is_under_way && self.asking.left_in_round > 0 {
            let Some(place) = self.asking.places.next() else {
                self.asking.is_under_way = false;
                self.keep_in_bounds(now);
                return None;
            };
            let connection = self.slots.get(place).and_then(|it| it.connection.as_ref());
            let is_unknown = connection
                .is_some_and(|it| !it.is_dismissed() && (is_tight || it.counted.is_uncertain()));
            if is_unknown {
                self.asking.left_in_round -= 1;
                return self.key(place);
            }
        }
        None
    }

    /// Whether there are more to be asked about in the next round.
    pub(crate) fn has_unknown(&self) -> bool {
        self.asking.is_under_way
    }

    /// What the kernel has said.
    pub(crate) fn kernel_holds(&mut self, now: Now, key: ConnectionKey, kernel: KernelBytes) {
        if let Some((connection, cx)) = self.enter(now, key)
            && !connection.is_dismissed()
        {
            connection.know_unsent(kernel.unsent);
            let counted = Counted {
                unread_bytes: kernel.unread,
                ..connection.count(&cx.shared.bounds)
            };
            // Not before all have been asked about, anybody gives way.
            cx.shared.memory.recount(&mut connection.counted, counted);
        }
    }
}
