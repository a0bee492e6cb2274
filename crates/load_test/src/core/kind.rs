//! Things that are counted apart: kinds of requests, kinds of errors.

use std::fmt::Debug;

use fastrand::Rng;

/// One of a few kinds. Each tester has two such types: its requests, and what can go wrong.
pub trait Kind: Copy + Debug + Eq + 'static {
    /// All kinds, in the order in which they are reported.
    const ALL: &'static [Self];

    /// The key in reports for scripts.
    fn key(self) -> &'static str;

    /// What reports for people call it.
    fn name(self) -> &'static str {
        self.key()
    }

    /// Its place in [`Self::ALL`].
    fn index(self) -> usize {
        let place = Self::ALL.iter().position(|kind| *kind == self);
        place.expect("ALL holds all kinds")
    }
}

/// How often each kind of request is chosen, in proportion to the others.
#[derive(Clone, Debug)]
pub struct Mix<R> {
    weights: Vec<(R, u32)>,
    total: u64,
}

impl<R: Kind> Mix<R> {
    /// At least one of the weights must not be 0.
    #[must_use]
    pub fn new(weights: &[(R, u32)]) -> Self {
        Self {
            weights: weights.to_vec(),
            total: weights.iter().map(|(_, weight)| u64::from(*weight)).sum(),
        }
    }

    /// Draws a kind.
    #[must_use]
    pub fn sample(&self, rng: &mut Rng) -> R {
        let mut ticket = rng.u64(..self.total);
        for (kind, weight) in &self.weights {
            let weight = u64::from(*weight);
            if ticket < weight {
                return *kind;
            }
            ticket -= weight;
        }
        unreachable!("the ticket is less than the sum of the weights")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Requests of a made-up protocol.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Request {
        Announce,
        Scrape,
        Greet,
    }

    impl Kind for Request {
        const ALL: &'static [Self] = &[Self::Announce, Self::Scrape, Self::Greet];

        fn key(self) -> &'static str {
            match self {
                Self::Announce => "announce",
                Self::Scrape => "scrape",
                Self::Greet => "greet",
            }
        }
    }

    #[test]
    fn kinds_are_drawn_by_weight() {
        let mix = Mix::new(&[
            (Request::Greet, 50),
            (Request::Announce, 49),
            (Request::Scrape, 1),
        ]);
        let mut rng = Rng::with_seed(1);
        let mut counts = [0; 3];
        for _ in 0..100_000 {
            counts[mix.sample(&mut rng).index()] += 1;
        }
        let [announces, scrapes, greetings] = counts;
        assert!((48_000..50_000).contains(&announces), "{counts:?}");
        assert!((800..1200).contains(&scrapes), "{counts:?}");
        assert!((49_000..51_000).contains(&greetings), "{counts:?}");
    }

    #[test]
    fn weight_zero_is_never_drawn() {
        let mix = Mix::new(&[
            (Request::Greet, 0),
            (Request::Announce, 1),
            (Request::Scrape, 0),
        ]);
        let mut rng = Rng::with_seed(1);
        assert!((0..1000).all(|_| mix.sample(&mut rng) == Request::Announce));
    }
}
