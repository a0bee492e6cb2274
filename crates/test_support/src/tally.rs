//! What has happened in the runs of a simulation: one that finds nothing may have looked at
//! nothing.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// How often each of several things has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    /// Something has happened so many times, perhaps 0.
    pub fn add(&mut self, what: &'static str, times: u64) {
        *self.0.entry(what).or_default() += times;
    }

    /// Something has happened once.
    pub fn note(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    /// As [`Self::note`], if it is so.
    pub fn note_if(&mut self, what: &'static str, is_so: bool) {
        self.add(what, is_so.into());
    }

    /// Adds what has happened in another run.
    pub fn join(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            self.add(what, *times);
        }
    }

    /// How often something has happened.
    #[must_use]
    pub fn times(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// Checks that all of these have happened.
    ///
    /// # Panics
    /// If one has not.
    pub fn check(&self, expected: &[&str]) {
        for what in expected {
            assert!(self.times(what) > 0, "never happened: {what}\n{self}");
        }
    }
}

impl Display for Tally {
    /// A line for each thing.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (what, times) in &self.0 {
            writeln!(f, "{times:>10}  {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "never happened: rain")]
    fn what_has_never_happened_is_named() {
        let mut tally = Tally::default();
        tally.note("sun");
        tally.add("rain", 0);
        tally.check(&["sun", "rain"]);
    }

    #[test]
    fn runs_are_joined() {
        let (mut all, mut run) = (Tally::default(), Tally::default());
        run.note("rain");
        run.note_if("snow", false);
        all.join(&run);
        all.join(&run);
        assert_eq!((all.times("rain"), all.times("snow")), (2, 0));
        assert_eq!(all.to_string(), "         2  rain\n         0  snow\n");
    }
}
