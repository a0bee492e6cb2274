//! What came of a load.

use std::ops::Range;

use anyhow::Context;

use crate::cluster::table::Table;
use crate::cluster::to_f64;
use crate::statistics::quantile;

/// One request that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// When the request was due, counted from the start of the load.
    pub(crate) due_millis: u32,
    /// From then until its answer.
    pub(crate) micros: u32,
}

/// The answers of all nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    /// Requests per second for each node.
    pub(crate) rate: u32,
    /// Requests for each of them.
    pub(crate) sent: Vec<u64>,
    pub(crate) list: Vec<Answer>,
    pub(crate) refused: u64,
}

/// Those to requests that were due within some time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub(crate) sent: u64,
    /// Sorted.
    micros: Vec<f64>,
}

/// How many requests are due before so long.
fn due_before(rate: u32, millis: u32) -> u64 {
    (u64::from(rate) * u64::from(millis)).div_ceil(1_000)
}

impl Answers {
    /// Requests that were never answered.
    pub(crate) fn lost(&self) -> u64 {
        self.part(0..u32::MAX).lost()
    }

    /// By when requests were due, in milliseconds.
    pub(crate) fn part(&self, within: Range<u32>) -> Part {
        let sent_before = |millis, sent: u64| due_before(self.rate, millis).min(sent);
        let sent = self.sent.iter().map(|sent| {
            let before = sent_before(within.start, *sent);
            sent_before(within.end, *sent).saturating_sub(before)
        });
        let answers = self.list.iter();
        let answers = answers.filter(|answer| within.contains(&answer.due_millis));
        let mut micros: Vec<f64> = answers.map(|answer| answer.micros.into()).collect();
        micros.sort_by(f64::total_cmp);
        Part {
            sent: sent.sum(),
            micros,
        }
    }
}

impl Part {
    pub(crate) fn answered(&self) -> u64 {
        u64::try_from(self.micros.len()).unwrap_or(u64::MAX)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.answered())
    }

    /// Milliseconds after which this share was answered.
    ///
    /// # Errors
    /// If nothing was.
    pub(crate) fn quantile(&self, share: f64) -> anyhow::Result<f64> {
        let micros = quantile(&self.micros, share).context("nobody was answered")?;
        Ok(micros / 1e3)
    }

    /// Tells how many there are, and after how long.
    ///
    /// # Errors
    /// If nothing was answered.
    pub(crate) fn tell(&self, when: &str, table: &mut Table) -> anyhow::Result<()> {
        let (answered, lost) = (to_f64(self.answered()), to_f64(self.lost()));
        table.add(format!("{when}: answers"), "answers", answered);
        table.add(format!("{when}: answers lost"), "answers", lost);
        for (label, share) in QUANTILES {
            let name = format!("{when}: answered after, {label}");
            table.add(name, "ms", self.quantile(share)?);
        }
        Ok(())
    }
}

/// What is told of times.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(due_millis: u32, micros: u32) -> Answer {
        Answer { due_millis, micros }
    }

    /// Two nodes, ten requests per second for each: due at 0, 100, 200 ms and so on. Of the second
    /// node's, only three were sent.
    fn answers() -> Answers {
        Answers {
            rate: 10,
            sent: vec![5, 3],
            list: vec![answer(0, 1_000), answer(100, 9_000), answer(100, 2_000)],
            refused: 1,
        }
    }

    #[test]
    fn what_was_not_answered_is_lost() {
        assert_eq!(answers().lost(), 5);
    }

    #[test]
    fn requests_are_of_the_time_when_they_were_due() {
        let part = answers().part(100..301);
        assert_eq!((part.sent, part.answered(), part.lost()), (5, 2, 3));
        assert!((part.quantile(0.5).unwrap() - 2.0).abs() < 1e-9);
        assert!((part.quantile(0.999).unwrap() - 9.0).abs() < 1e-9);
        assert_eq!(answers().part(0..100).sent, 2);
        let nothing = answers().part(400..500);
        assert_eq!((nothing.sent, nothing.answered()), (1, 0));
        assert!(nothing.quantile(0.5).is_err());
    }

    #[test]
    fn parts_make_up_the_whole() {
        for rate in [3, 7, 999, 20_000] {
            let answers = Answers {
                rate,
                sent: vec![u64::from(rate) * 2],
                ..Answers::default()
            };
            let parts = [0..333, 333..334, 334..2_000].map(|range| answers.part(range).sent);
            assert_eq!(parts.iter().sum::<u64>(), u64::from(rate) * 2, "{rate}");
        }
    }
}
