//! What is counted about requests and answers.
//!
//! A request belongs to the measurement if it was *due* within the window, whenever its answer
//! comes. So each measured request ends up in exactly one of four counts:
//! answered in time, late, refused (an error packet), lost.

use std::collections::BTreeMap;
use std::ops::Range;

use hdrhistogram::Histogram;

use crate::in_flight::Asked;
use crate::plan::RequestKind;

/// Different error messages that are told apart; more are counted as [`OTHER_MESSAGES`]. A tracker
/// that puts the time into its messages must not fill our memory.
const MESSAGES_MAX: usize = 16;

/// Stands for all error messages beyond the first few.
pub const OTHER_MESSAGES: &str = "(other messages)";

/// Latencies from one microsecond to one minute, within 1 %.
const LATENCY_MICROS_MAX: u64 = 60_000_000;
const LATENCY_DIGITS: u8 = 2;

/// Counts of one kind of request, or of all.
#[derive(Clone, Debug)]
pub struct KindTally {
    /// Requests that were due within the window.
    pub sent: u64,
    /// Those that were answered in time.
    pub answered: u64,
    /// Those that were answered, but late.
    pub late: u64,
    /// Those that were answered with an error packet.
    pub refused: u64,
    /// Those that were never answered.
    pub lost: u64,
    /// Answers that came within the window, error packets too, to whichever requests.
    pub received_in_window: u64,
    /// From due time to answer, late ones and error packets too, in microseconds.
    pub latency_micros: Histogram<u64>,
}

/// Answers that should not have come like this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StrangeAnswers {
    /// To requests that had been answered already.
    pub duplicate: u64,
    /// To requests that were never sent, or that had been given up as lost.
    pub unknown_transaction: u64,
    /// No tracker's answers at all.
    pub malformed: u64,
    /// A connect answer to an announce and the like.
    pub wrong_kind: u64,
    /// More peers than wanted, or scrape rows of another number than asked for.
    pub wrong_count: u64,
}

/// All counts of a worker.
#[derive(Clone, Debug)]
pub struct Tally {
    window_micros: Range<u64>,
    kinds: [KindTally; 3],
    /// Peers in the answers to announces within the window.
    pub peers: u64,
    /// Answers that should not have come like this, from the start of the window.
    pub strange: StrangeAnswers,
    /// Packets that the kernel refused to send. Their requests are lost too.
    pub send_failures: u64,
    /// Messages of error packets, from the start of the window.
    pub messages: BTreeMap<String, u64>,
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
    /// Counts requests that are due within the window.
    #[must_use]
    pub fn new(window_micros: Range<u64>) -> Self {
        Self {
            window_micros,
            kinds: Default::default(),
            peers: 0,
            strange: StrangeAnswers::default(),
            send_failures: 0,
            messages: BTreeMap::new(),
        }
    }

    /// The counts of one kind.
    #[must_use]
    pub fn kind(&self, kind: RequestKind) -> &KindTally {
        &self.kinds[kind.index()]
    }

    /// The counts of all kinds together.
    #[must_use]
    pub fn all_kinds(&self) -> KindTally {
        self.kinds
            .iter()
            .fold(KindTally::default(), |mut sum, kind| {
                sum.add(kind);
                sum
            })
    }

    /// A request is on its way.
    pub fn sent(&mut self, asked: &Asked) {
        if self.is_measured(asked) {
            self.kinds[asked.kind.index()].sent += 1;
        }
    }

    /// The answer that was asked for has come.
    pub fn answered(&mut self, asked: &Asked, now_micros: u64, is_late: bool) {
        self.received(asked, now_micros);
        if self.is_measured(asked) {
            let kind = &mut self.kinds[asked.kind.index()];
            if is_late {
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
        }
    }

    /// An error packet has come.
    pub fn refused(&mut self, asked: &Asked, now_micros: u64, message: &[u8]) {
        self.received(asked, now_micros);
        if self.is_measured(asked) {
            self.kinds[asked.kind.index()].refused += 1;
        }
        if now_micros >= self.window_micros.start {
            self.count_message(String::from_utf8_lossy(message).trim_end_matches('\0'), 1);
        }
    }

    /// No answer has come, and none is waited for any longer.
    pub fn lost(&mut self, asked: &Asked) {
        if self.is_measured(asked) {
            self.kinds[asked.kind.index()].lost += 1;
        }
    }

    /// The count of a sort of strange answers, to be raised; `None` before the window.
    pub fn strange(&mut self, now_micros: u64) -> Option<&mut StrangeAnswers> {
        (now_micros >= self.window_micros.start).then_some(&mut self.strange)
    }

    /// Adds the counts of another worker.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in self.kinds.iter_mut().zip(&other.kinds) {
            own.add(other);
        }
        self.peers += other.peers;
        self.strange.duplicate += other.strange.duplicate;
        self.strange.unknown_transaction += other.strange.unknown_transaction;
        self.strange.malformed += other.strange.malformed;
        self.strange.wrong_kind += other.strange.wrong_kind;
        self.strange.wrong_count += other.strange.wrong_count;
        self.send_failures += other.send_failures;
        for (message, count) in &other.messages {
            self.count_message(message, *count);
        }
    }

    fn received(&mut self, asked: &Asked, now_micros: u64) {
        let in_window = self.window_micros.contains(&now_micros);
        let is_measured = self.is_measured(asked);
        let kind = &mut self.kinds[asked.kind.index()];
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

#[cfg(test)]
mod tests {
    use super::*;

    fn announce(due_micros: u64) -> Asked {
        Asked {
            kind: RequestKind::Announce,
            item: 0,
            due_micros,
        }
    }

    #[test]
    fn the_window_is_about_when_a_request_was_due() {
        let mut tally = Tally::new(1_000..2_000);
        for due in [999, 1_000, 1_999, 2_000] {
            tally.sent(&announce(due));
            tally.answered(&announce(due), 2_500, false);
            tally.got_peers(&announce(due), 30);
            tally.lost(&announce(due));
        }
        let kind = tally.kind(RequestKind::Announce);
        assert_eq!((kind.sent, kind.answered, kind.lost), (2, 2, 2));
        assert_eq!(kind.received_in_window, 0);
        assert_eq!(kind.latency_micros.len(), 2);
        assert_eq!(tally.peers, 60);

        // Due before the window, answered within it: work done in the window, yet not measured.
        tally.answered(&announce(0), 1_500, false);
        assert_eq!(tally.kind(RequestKind::Announce).received_in_window, 1);
        assert_eq!(tally.kind(RequestKind::Announce).answered, 2);
        assert_eq!(tally.kind(RequestKind::Connect).sent, 0);
    }

    #[test]
    fn each_request_ends_in_one_count() {
        let mut tally = Tally::new(0..1_000);
        for due in 0..10 {
            tally.sent(&announce(due));
        }
        tally.answered(&announce(0), 400, false);
        tally.answered(&announce(1), 5_000, true);
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
        let mut one = Tally::new(0..1_000);
        one.sent(&announce(1));
        one.answered(&announce(1), 101, false);
        one.refused(&announce(2), 102, b"no");
        one.strange(1).unwrap().duplicate += 1;
        let mut sum = one.clone();
        sum.add(&one);
        sum.add(&one);
        let kind = sum.kind(RequestKind::Announce);
        assert_eq!((kind.sent, kind.answered, kind.refused), (3, 3, 3));
        assert_eq!(kind.latency_micros.len(), 6);
        assert_eq!(sum.messages["no"], 3);
        assert_eq!(sum.strange.duplicate, 3);
    }

    #[test]
    fn before_the_window_nothing_is_strange() {
        let mut tally = Tally::new(1_000..2_000);
        assert_eq!(tally.strange(999), None);
        tally.refused(&announce(1), 999, b"no");
        assert!(tally.messages.is_empty());
        assert!(tally.strange(1_000).is_some());
    }

    #[test]
    fn different_messages_are_bounded() {
        let mut tally = Tally::new(0..1_000);
        for number in 0..100 {
            tally.refused(&announce(1), 2, format!("message {number}").as_bytes());
        }
        assert_eq!(tally.messages.len(), MESSAGES_MAX + 1);
        assert_eq!(tally.messages[OTHER_MESSAGES], 100 - 16);
    }
}
