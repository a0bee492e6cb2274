//! What one thread counts and others read.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number with one writer and any number of readers: adding costs a plain load and a plain store.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `amount`. To be called by the one writer only: two would lose additions.
    pub fn add(&self, amount: usize) {
        let amount = u64::try_from(amount).unwrap_or(u64::MAX);
        self.0
            .store(self.get().wrapping_add(amount), Ordering::Relaxed);
    }

    /// Replaces the number: for gauges.
    pub fn set(&self, value: usize) {
        self.0
            .store(u64::try_from(value).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The values of a metric label: an enum, made by [`labels!`](crate::labels!).
pub trait Label: Copy + Debug + Eq + Send + Sync + 'static {
    /// All of them, in the order in which they are reported.
    const ALL: &'static [Self];

    /// The value as it stands in the metric.
    fn label(self) -> &'static str;

    /// Its place in [`Self::ALL`].
    fn index(self) -> usize;
}

/// Declares an enum of label values: the enum, all its values, and their labels.
///
/// ```
/// use aquatic_daemon::counter::Label;
///
/// aquatic_daemon::labels! {
///     /// Why a visitor left.
///     pub enum Reason {
///         /// Time to go home.
///         Late = "late",
///         /// Nothing to drink.
///         Thirsty = "thirsty",
///     }
/// }
/// assert_eq!(Reason::ALL, [Reason::Late, Reason::Thirsty]);
/// assert_eq!(Reason::Thirsty.label(), "thirsty");
/// ```
#[macro_export]
macro_rules! labels {
    (
        $(#[$doc:meta])*
        $visibility:vis enum $name:ident {
            $( $(#[$value_doc:meta])* $value:ident = $label:literal, )+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $visibility enum $name { $( $(#[$value_doc])* $value, )+ }

        impl $crate::counter::Label for $name {
            const ALL: &'static [Self] = &[$(Self::$value),+];

            fn label(self) -> &'static str {
                match self { $(Self::$value => $label),+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

/// One [`Counter`] per value of a label.
#[derive(Debug)]
pub struct Counts<L> {
    counters: Box<[Counter]>,
    labels: PhantomData<L>,
}

impl<L: Label> Counts<L> {
    /// The counter of a value.
    #[must_use]
    pub fn of(&self, label: L) -> &Counter {
        &self.counters[label.index()]
    }

    /// Each value with its number.
    pub fn iter(&self) -> impl Iterator<Item = (L, u64)> {
        L::ALL
            .iter()
            .zip(&self.counters)
            .map(|(label, counter)| (*label, counter.get()))
    }
}

impl<L: Label> Default for Counts<L> {
    fn default() -> Self {
        Self {
            counters: L::ALL.iter().map(|_| Counter::default()).collect(),
            labels: PhantomData,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_can_be_set() {
        let counter = Counter::new();
        counter.add(3);
        counter.add(4);
        assert_eq!(counter.get(), 7);
        counter.set(2);
        assert_eq!(counter.get(), 2);
    }

    crate::labels! {
        /// For the test.
        enum Fruit {
            /// Red.
            Apple = "apple",
            /// Yellow.
            Pear = "pear",
        }
    }

    #[test]
    fn each_value_of_a_label_has_its_own_counter() {
        let counts = Counts::<Fruit>::default();
        counts.of(Fruit::Pear).add(3);
        counts.of(Fruit::Apple).set(5);
        let all: Vec<_> = counts.iter().collect();
        assert_eq!(all, [(Fruit::Apple, 5), (Fruit::Pear, 3)]);
    }
}
