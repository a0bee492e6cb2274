//! A number for each value of a label, whatever the label.

use serde::{Serialize, Serializer};

use crate::metrics::counters::{Counts, Label};

/// Numbers by their names, in the order in which the protocol has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByLabel(Vec<(&'static str, u64)>);

impl ByLabel {
    /// Those of a label, as far as they are `wanted`.
    #[must_use]
    pub fn of<L: Label>(counts: &Counts<L>, wanted: impl Fn(L) -> bool) -> Self {
        let counts = counts.iter().filter(|(label, _)| wanted(*label));
        Self(
            counts
                .map(|(label, count)| (label.label(), count))
                .collect(),
        )
    }

    /// Names that all have the same number.
    #[cfg(test)]
    pub(super) fn same(names: Vec<&'static str>, number: u64) -> Self {
        Self(names.into_iter().map(|name| (name, number)).collect())
    }

    /// Each name with its number.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().copied()
    }

    /// The number of a name; 0 if there is no such name.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        let mut numbers = self.0.iter();
        let found = numbers.find(|(other, _)| *other == name);
        found.map_or(0, |(_, number)| *number)
    }

    /// All numbers together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().map(|(_, number)| number).sum()
    }

    /// Adds numbers to those of the same names.
    pub fn add(&mut self, other: &Self) {
        for (name, number) in other.iter() {
            match self.0.iter_mut().find(|(own, _)| *own == name) {
                Some((_, own)) => *own += number,
                None => self.0.push((name, number)),
            }
        }
    }
}

impl Serialize for ByLabel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::counters::test_protocol::Reason;

    #[test]
    fn numbers_of_the_same_name_are_added() {
        let counts = Counts::<Reason>::default();
        counts.of(Reason::TooShort).add(2);
        counts.of(Reason::PeerLimit).add(3);
        let mut sum = ByLabel::of(&counts, |reason| reason == Reason::PeerLimit);
        assert_eq!((sum.sum(), sum.get("too_short")), (3, 0));
        sum.add(&ByLabel::of(&counts, |_| true));
        assert_eq!(
            serde_json::to_string(&sum).unwrap(),
            r#"{"peer_limit":6,"too_short":2}"#
        );
    }
}
