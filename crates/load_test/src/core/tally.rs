//! What is counted about requests and answers.
//!
//! A request belongs to the measurement if it was *due* within the window, whenever its answer
//! comes. So each measured request ends up in exactly one of four counts: answered in time, late,
//! refused (with the tracker's reason), lost.

use std::array;
use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::Range;

use hdrhistogram::Histogram;

use crate::core::connections::ConnectionCounts;
use crate::core::kind::{Fault, RequestKind};
use crate::core::progress::Reporter;
use crate::core::stalls::StallMeter;

/// Different messages of refusals that are told apart; more are counted as [`OTHER_MESSAGES`]. A
/// tracker that puts the time into its messages must not fill our memory.
const MESSAGES_MAX: usize = 16;

/// Stands for all messages beyond the first few.
pub const OTHER_MESSAGES: &str = "(other messages)";

/// Latencies from one microsecond to one minute, within 1 %.
const LATENCY_MICROS_MAX: u64 = 60_000_000;
const LATENCY_DIGITS: u8 = 2;

/// A request, as far as its answer must be judged by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What it asked for.
    pub kind: RequestKind,
    /// Which peer announced, how many torrents a scrape asked about, or whatever else the sender
    /// wants to be told again.
    pub item: u32,
    /// When it was meant to be sent. Latency counts from here.
    pub due_micros: u64,
}

/// Counts of one kind of request, or of all.
#[derive(Clone, Debug)]
pub struct KindTally {
    /// Requests that were due within the window.
    pub sent: u64,
    /// Those that were answered in time.
    pub answered: u64,
    /// Those that were answered, but late.
    pub late: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those that were never answered.
    pub lost: u64,
    /// Answers that came within the window, refusals too, to whichever requests.
    pub received_in_window: u64,
    /// From due time to answer, late ones and refusals too, in microseconds.
    pub latency_micros: Histogram<u64>,
}

/// All counts of a worker.
#[derive(Clone, Debug)]
pub struct Tally {
    window_micros: Range<u64>,
    late_after_micros: u64,
    kinds: [KindTally; RequestKind::COUNT],
    errors: [u64; Fault::COUNT],
    /// Connections, from the beginning of the run.
    pub connections: ConnectionCounts,
    /// Peers in the answers to announces within the window.
    pub peers: u64,
    /// Answers that were looked at for peers.
    pub answers_with_peers: u64,
    /// Whether the worker ran all the time. Says something only of workers that hardly
    /// sleep.
    pub stalls: StallMeter,
    /// Where copies of the counts go while the run lasts.
    pub progress: Reporter,
    /// Messages of refusals, from the start of the window.
    pub messages: BTreeMap<String, u64>,
}

impl Asked {
    /// A request of which nothing else has to be known.
    #[must_use]
    pub fn new(kind: RequestKind, due_micros: u64) -> Self {
        Self {
            kind,
            item: 0,
            due_micros,
        }
    }
}

impl Default for KindTally {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, LATENCY_DIGITS);
        Self {
            sent: 0,
            answered: 0,
            late: 0,
            refused: 0,
            lost: 0,
            received_in_window: 0,
            latency_micros: latency.expect("the bounds are constant and in order"),
        }
    }
}

impl KindTally {
    /// Requests that are not waited for any longer.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.answered + self.late + self.refused + self.lost
    }

    /// Adds the counts of another worker, or of another kind.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.late += other.late;
        self.refused += other.refused;
        self.lost += other.lost;
        self.received_in_window += other.received_in_window;
        let added = self.latency_micros.add(&other.latency_micros);
        added.expect("all histograms have the same bounds");
    }
}

impl Tally {
    /// Counts requests that are due within the window. An answer that takes longer than
    /// `late_after_micros` is late.
    #[must_use]
    pub fn new(window_micros: Range<u64>, late_after_micros: u64) -> Self {
        Self {
            stalls: StallMeter::new(window_micros.clone()),
            window_micros,
            late_after_micros,
            kinds: array::from_fn(|_| KindTally::default()),
            errors: [0; Fault::COUNT],
            connections: ConnectionCounts::default(),
            peers: 0,
            answers_with_peers: 0,
            progress: Reporter::default(),
            messages: BTreeMap::new(),
        }
    }

    /// The counts of one kind.
    #[must_use]
    pub fn kind(&self, kind: RequestKind) -> &KindTally {
        &self.kinds[kind as usize]
    }

    /// How often something went wrong.
    #[must_use]
    pub fn errors(&self, error: Fault) -> u64 {
        self.errors[error as usize]
    }

    /// The counts of all kinds together.
    #[must_use]
    pub fn all_kinds(&self) -> KindTally {
        let mut sum = KindTally::default();
        for kind in &self.kinds {
            sum.add(kind);
        }
        sum
    }

    /// Shows how far the worker has come, if it is time to. Workers call it between rounds.
    pub fn show_progress(&mut self, now_micros: u64) {
        if self.progress.is_due(now_micros) {
            self.progress.send(now_micros, self.all_kinds());
        }
    }

    /// A request is on its way.
    pub fn sent(&mut self, asked: &Asked) {
        if self.is_measured(asked) {
            self.kinds[asked.kind as usize].sent += 1;
        }
    }

    /// The answer that was asked for has come.
    pub fn answered(&mut self, asked: &Asked, now_micros: u64) {
        self.received(asked, now_micros);
        if self.is_measured(asked) {
            let kind = &mut self.kinds[asked.kind as usize];
            if now_micros.saturating_sub(asked.due_micros) > self.late_after_micros {
                kind.late += 1;
            } else {
                kind.answered += 1;
            }
        }
    }

    /// An announce was answered with this many peers.
    pub fn got_peers(&mut self, asked: &Asked, peers: usize) {
        if self.is_measured(asked) {
            self.peers += u64::try_from(peers).unwrap_or(u64::MAX);
            self.answers_with_peers += 1;
        }
    }

    /// The tracker has answered that it will not.
    pub fn refused(&mut self, asked: &Asked, now_micros: u64, message: &[u8]) {
        self.received(asked, now_micros);
        if self.is_measured(asked) {
            self.kinds[asked.kind as usize].refused += 1;
        }
        if now_micros >= self.window_micros.start {
            self.count_message(String::from_utf8_lossy(message).trim_end_matches('\0'), 1);
        }
    }

    /// No answer has come, and none is waited for any longer.
    pub fn lost(&mut self, asked: &Asked) {
        if self.is_measured(asked) {
            self.kinds[asked.kind as usize].lost += 1;
        }
    }

    /// What was sent and has not come is lost. For requests whose answers come to somebody else
    /// than their senders: nobody could tell before all counts are in one.
    pub fn lose_unanswered(&mut self, kind: RequestKind) {
        let kind = &mut self.kinds[kind as usize];
        let settled = kind.answered + kind.late + kind.refused;
        kind.lost = kind.sent.saturating_sub(settled);
    }

    /// Something has gone wrong. What does so before the window is not counted.
    pub fn error(&mut self, error: Fault, now_micros: u64) {
        if now_micros >= self.window_micros.start {
            self.add_errors(error, 1);
        }
    }

    /// Something has gone wrong so many times.
    pub fn add_errors(&mut self, error: Fault, times: u64) {
        self.errors[error as usize] += times;
    }

    /// Adds the counts of another worker.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in self.kinds.iter_mut().zip(&other.kinds) {
            own.add(other);
        }
        self.stalls.add(&other.stalls);
        self.connections.add(other.connections);
        self.peers += other.peers;
        self.answers_with_peers += other.answers_with_peers;
        for (own, other) in self.errors.iter_mut().zip(&other.errors) {
            *own += other;
        }
        for (message, count) in &other.messages {
            self.count_message(message, *count);
        }
    }

    fn received(&mut self, asked: &Asked, now_micros: u64) {
        let in_window = self.window_micros.contains(&now_micros);
        let is_measured = self.is_measured(asked);
        let kind = &mut self.kinds[asked.kind as usize];
        kind.received_in_window += u64::from(in_window);
        if is_measured {
            let latency = now_micros.saturating_sub(asked.due_micros);
            kind.latency_micros.saturating_record(latency.max(1));
        }
    }

    fn is_measured(&self, asked: &Asked) -> bool {
        self.window_micros.contains(&asked.due_micros)
    }

    fn count_message(&mut self, message: &str, count: u64) {
        let is_known = self.messages.contains_key(message);
        let message = if is_known || self.messages.len() < MESSAGES_MAX {
            message
        } else {
            OTHER_MESSAGES
        };
        *self.messages.entry(message.to_owned()).or_default() += count;
    }
}

impl Sum for Tally {
    /// The tallies of all workers in one, which itself counts no more.
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        let mut sum = Self::new(0..0, 0);
        for tally in tallies {
            sum.add(&tally);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(window_micros: Range<u64>) -> Tally {
        Tally::new(window_micros, 2_000)
    }

    fn announce(due_micros: u64) -> Asked {
        Asked::new(RequestKind::Announce, due_micros)
    }

    #[test]
    fn the_window_is_about_when_a_request_was_due() {
        let mut tally = tally(1_000..2_000);
        for due in [999, 1_000, 1_999, 2_000] {
            tally.sent(&announce(due));
            tally.answered(&announce(due), 2_500);
            tally.got_peers(&announce(due), 30);
            tally.lost(&announce(due));
        }
        let kind = tally.kind(RequestKind::Announce);
        assert_eq!((kind.sent, kind.answered, kind.lost), (2, 2, 2));
        assert_eq!(kind.received_in_window, 0);
        assert_eq!(kind.latency_micros.len(), 2);
        assert_eq!(tally.peers, 60);

        // Due before the window, answered within it: work done in the window, yet not measured.
        tally.answered(&announce(0), 1_500);
        assert_eq!(tally.kind(RequestKind::Announce).received_in_window, 1);
        assert_eq!(tally.kind(RequestKind::Announce).answered, 2);
        assert_eq!(tally.kind(RequestKind::Connect).sent, 0);
    }

    #[test]
    fn each_request_ends_in_one_count() {
        let mut tally = tally(0..1_000);
        for due in 0..10 {
            tally.sent(&announce(due));
        }
        tally.answered(&announce(0), 400);
        tally.answered(&announce(1), 5_000);
        tally.refused(&announce(2), 402, b"torrent not allowed\0");
        (3..10).for_each(|due| tally.lost(&announce(due)));

        let all = tally.all_kinds();
        assert_eq!(
            (all.sent, all.answered, all.late, all.refused, all.lost),
            (10, 1, 1, 1, 7)
        );
        assert_eq!(all.received_in_window, 2);
        assert_eq!(all.latency_micros.len(), 3);
        assert_eq!(tally.messages["torrent not allowed"], 1);
    }

    #[test]
    fn workers_add_up() {
        let mut one = tally(0..1_000);
        one.sent(&announce(1));
        one.answered(&announce(1), 101);
        one.refused(&announce(2), 102, b"no");
        one.error(Fault::Duplicate, 1);
        let sum: Tally = [one.clone(), one.clone(), one].into_iter().sum();
        let kind = sum.kind(RequestKind::Announce);
        assert_eq!((kind.sent, kind.answered, kind.refused), (3, 3, 3));
        assert_eq!(kind.latency_micros.len(), 6);
        assert_eq!(sum.messages["no"], 3);
        assert_eq!(sum.errors(Fault::Duplicate), 3);
        assert_eq!(sum.errors(Fault::Malformed), 0);
    }

    #[test]
    fn what_nobody_has_got_is_lost() {
        let (mut one, mut other) = (tally(0..1_000), tally(0..1_000));
        for due in 0..10 {
            one.sent(&announce(due));
        }
        (0..5).for_each(|due| other.answered(&announce(due), 400));
        other.answered(&announce(5), 5_000);
        other.refused(&announce(6), 500, b"no");
        one.add(&other);
        one.lose_unanswered(RequestKind::Announce);
        assert_eq!(one.kind(RequestKind::Announce).lost, 3);
    }

    #[test]
    fn before_the_window_nothing_is_strange() {
        let mut tally = tally(1_000..2_000);
        tally.error(Fault::Malformed, 999);
        tally.refused(&announce(1), 999, b"no");
        assert!(tally.messages.is_empty());
        assert_eq!(tally.errors(Fault::Malformed), 0);
        tally.error(Fault::Malformed, 1_000);
        assert_eq!(tally.errors(Fault::Malformed), 1);
    }

    #[test]
    fn different_messages_are_bounded() {
        let mut tally = tally(0..1_000);
        for number in 0..100 {
            tally.refused(&announce(1), 2, format!("message {number}").as_bytes());
        }
        assert_eq!(tally.messages.len(), MESSAGES_MAX + 1);
        assert_eq!(tally.messages[OTHER_MESSAGES], 100 - 16);
    }
}
