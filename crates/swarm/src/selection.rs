//! Which peers an announcer gets: the one place where that is decided.
//!
//! # Many at once
//!
//! [`Choice::select`]: the candidates are a range of positions: all peers for a leecher, the
//! leechers for a seeder. Without the announcer, who is skipped, that leaves `n` places, of which
//! `wanted` are to be drawn at a cost that depends on `wanted` alone. Drawing them one by one would
//! cost a cache miss each in a large swarm; drawing one long run would always bring the same
//! neighbours together. So:
//!
//! 1. Bend the `n` places to a circle and start at a random one.
//! 2. Cut the circle into pieces, each with up to [`RUN_MAX`] places to be drawn and an equal share
//!    of those that are not.
//! 3. In each piece draw one run of neighbours, at a random distance from its beginning.
//!
//! **Fair:** whatever step 3 draws relative to the start, a start that is uniform over the circle
//! makes each place equally likely to be drawn. Exactly `wanted` are drawn, pieces do not overlap,
//! so each place is drawn with probability `wanted / n`, and never twice.
//!
//! # One by one
//!
//! [`RandomOrder`]: where the caller turns some peers down after a look at them, runs would not be
//! fair, since the neighbours of those would be drawn less often. So each peer is drawn for itself.

use std::ops::Range;

use arrayvec::ArrayVec;

/// Neighbours that are drawn together at most: one cache line of IPv4 peers.
const RUN_MAX: u32 = 8;

/// Runs whose peers are fetched into the cache together.
const RUNS_AT_ONCE: usize = 16;

/// Positions that a [`RandomOrder`] gives at most.
pub(crate) const DRAWN_MAX: usize = 256;

/// Whom to choose from, and how many.
pub(crate) struct Choice {
    pub(crate) candidates: Range<u32>,
    /// The announcer's position, if it has one: it is never chosen.
    pub(crate) announcer: Option<u32>,
    pub(crate) wanted: u32,
}

impl Choice {
    /// Calls `select_peers` with `wanted` positions of candidates, or with all if there are no
    /// more.
    ///
    /// Calls `prefetch` for the first and the last position of each run some time before: in a
    /// large swarm each run is a cache miss, and those of one answer should be waited for together.
    pub(crate) fn select(
        &self,
        rng: &mut fastrand::Rng,
        touch: impl Fn(u32),
        mut select_peers: impl FnMut(u32),
    ) {
        let circle = self.circle();
        if self.wanted >= circle.places {
            (0..circle.places).for_each(|place| select_peers(circle.position(place)));
            return;
        }
        let mut runs = circle.runs(self.wanted, rng);
        loop {
            let some: ArrayVec<_, RUNS_AT_ONCE> = runs.by_ref().take(RUNS_AT_ONCE).collect();
            if some.is_empty() {
                return;
            }
            for (place, len) in &some {
                touch(circle.position(*place));
                touch(circle.position(circle.around(*place, len - 1)));
            }
            for (mut place, len) in some {
                for _ in 0..len {
                    select_peers(circle.position(place));
                    place = circle.around(place, 1);
                }
            }
        }
    }

    /// Whether there is anything left when all that are wanted have been chosen.
    pub(crate) fn has_rest(&self) -> bool {
        self.circle().places > self.wanted
    }

    /// What is left of the candidates without the positions `chosen`.
    pub(crate) fn rest(&self, mut chosen: Vec<u32>) -> Rest {
        let Range { start, end } = self.candidates;
        chosen.extend(self.announcer.filter(|at| self.candidates.contains(at)));
        chosen.sort_unstable();
        let chosen_len = u32::try_from(chosen.len()).unwrap_or(u32::MAX);
        let len = (end - start).saturating_sub(chosen_len);
        let before = (0..).zip(chosen).map(|(place, at)| at - start - place);
        Rest {
            start,
            len,
            before: before.collect(),
        }
    }

    fn circle(&self) -> Circle {
        Circle::new(self.candidates.clone(), self.announcer)
    }
}

/// Positions of candidates that have not been chosen.
pub(crate) struct Rest {
    start: u32,
    len: u32,
    /// For each of the others, in order: how many of these come before it.
    before: Vec<u32>,
}

impl Rest {
    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The position of number `place`, counted from 0.
    pub(crate) fn position(&self, place: u32) -> u32 {
        let passed = self.before.partition_point(|before| *before <= place);
        self.start + place + u32::try_from(passed).unwrap_or(0)
    }
}

/// The candidates without the announcer, bent to a circle. Place 0 is the first position of the
/// candidates.
struct Circle {
    places: u32,
    first: u32,
    /// The announcer has no place: from this one on, positions are one higher.
    gap: u32,
}

impl Circle {
    fn new(candidates: Range<u32>, announcer: Option<u32>) -> Self {
        let len = candidates.end - candidates.start;
        let announcer = announcer.filter(|at| candidates.contains(at));
        Self {
            places: len - u32::from(announcer.is_some()),
            first: candidates.start,
            gap: announcer.map_or(len, |at| at - candidates.start),
        }
    }

    fn position(&self, place: u32) -> u32 {
        self.first + place + u32::from(place >= self.gap)
    }

    /// The place `steps` further on; `steps` goes round once at most.
    fn around(&self, place: u32, steps: u32) -> u32 {
        let left = self.places - place;
        if steps < left {
            place + steps
        } else {
            steps - left
        }
    }

    /// Draws `wanted` places, fewer than there are: the first place and the length of each run.
    fn runs(&self, wanted: u32, rng: &mut fastrand::Rng) -> impl Iterator<Item = (u32, u32)> {
        let pieces = wanted.div_ceil(RUN_MAX);
        let mut piece_start = rng.u32(..self.places);
        (0..pieces).map(move |piece| {
            let run = share(wanted, piece, pieces);
            let rest = share(self.places - wanted, piece, pieces);
            let run_start = self.around(piece_start, rng.u32(..=rest));
            piece_start = self.around(piece_start, run + rest);
            (run_start, run)
        })
    }
}

/// What falls to one of `pieces` pieces when `total` is dealt out as evenly as can be.
fn share(total: u32, piece: u32, pieces: u32) -> u32 {
    total / pieces + u32::from(piece < total % pieces)
}

/// The positions of a swarm in random order, each once, all orders being equally likely: the
/// shuffle of Fisher and Yates, done only as far as it is asked for, and keeping only what it has
/// moved.
pub(crate) struct RandomOrder {
    places: u32,
    drawn: u32,
    /// What lies where something else has been before, by place.
    moved: ArrayVec<(u32, u32), DRAWN_MAX>,
}

impl RandomOrder {
    /// Of the positions `0..places`.
    pub(crate) fn new(places: u32) -> Self {
        Self {
            places,
            drawn: 0,
            moved: ArrayVec::new(),
        }
    }

    /// The next position; `None` after the last one, or after [`DRAWN_MAX`].
    pub(crate) fn draw(&mut self, rng: &mut fastrand::Rng) -> Option<u32> {
        if self.drawn >= self.places || self.moved.is_full() {
            return None;
        }
        let place = rng.u32(self.drawn..self.places);
        let position = self.at(place);
        let first = self.at(self.drawn);
        match self.moved.iter_mut().find(|(at, _)| *at == place) {
            Some((_, now)) => *now = first,
            None => self.moved.push((place, first)),
        }
        self.drawn += 1;
        Some(position)
    }

    fn at(&self, place: u32) -> u32 {
        let moved = self.moved.iter().find(|(at, _)| *at == place);
        moved.map_or(place, |(_, position)| *position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_order_has_each_position_once_and_all_orders() {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut orders = std::collections::BTreeMap::new();
        for _ in 0..24_000 {
            let mut order = RandomOrder::new(4);
            let mut drawn = Vec::new();
            while let Some(position) = order.draw(&mut rng) {
                drawn.push(position);
            }
            *orders.entry(drawn).or_insert(0_u32) += 1;
        }
        assert_eq!(orders.len(), 24);
        for (order, times) in orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
            // Five standard deviations of a binomial distribution.
            assert!((845..=1_155).contains(&times), "{order:?}: {times}");
        }
    }

    #[test]
    fn a_random_order_ends_with_the_swarm_or_at_its_bound() {
        let mut rng = fastrand::Rng::with_seed(6);
        let bound = u32::try_from(DRAWN_MAX).unwrap();
        for (places, expected) in [(0, 0), (bound, bound), (u32::MAX, bound)] {
            let mut order = RandomOrder::new(places);
            let drawn = std::iter::from_fn(|| order.draw(&mut rng));
            let drawn: std::collections::BTreeSet<_> = drawn.collect();
            assert_eq!(u32::try_from(drawn.len()), Ok(expected), "of {places}");
        }
    }

    fn choice(candidates: Range<u32>, announcer: Option<u32>, wanted: u32) -> Choice {
        Choice {
            candidates,
            announcer,
            wanted,
        }
    }

    #[test]
    fn the_rest_is_all_that_was_not_chosen() {
        let mut rng = fastrand::Rng::with_seed(7);
        for (candidates, announcer, wanted) in [
            (0..5, None, 0),
            (0..5, Some(2), 4),
            (3..40, Some(3), 10),
            (3..40, Some(1), 36),
            (10..300, Some(299), 50),
        ] {
            let choice = choice(candidates.clone(), announcer, wanted);
            let mut all = Vec::new();
            choice.select(&mut rng, |_| (), |at| all.push(at));
            let rest = choice.rest(all.clone());
            assert_eq!(rest.len() > 0, choice.has_rest());
            all.extend((0..rest.len()).map(|place| rest.position(place)));
            all.sort_unstable();
            assert!(candidates.filter(|at| Some(*at) != announcer).eq(all));
        }
    }

    /// Each in `candidates`, but for the announcer, as often as any other: a chi-square test,
    /// seeded.
    fn assert_fair(candidates: Range<u32>, announcer: Option<u32>, wanted: u32) {
        let mut rng = fastrand::Rng::with_seed(u64::from(wanted) << 32 | u64::from(candidates.end));
        let rounds = 20_000;
        let mut drawn = vec![0_u32; candidates.end as usize];
        for _ in 0..rounds {
            let mut answer = Vec::new();
            let choice = choice(candidates.clone(), announcer, wanted);
            choice.select(&mut rng, |_| (), |at| answer.push(at));
            assert!(
                answer
                    .iter()
                    .all(|at| candidates.contains(at) && Some(*at) != announcer)
            );
            let size = answer.len();
            answer.sort_unstable();
            answer.dedup();
            assert_eq!(answer.len(), size, "twice the same");
            answer.iter().for_each(|at| drawn[*at as usize] += 1);
        }
        let others: Vec<u32> = candidates
            .clone()
            .filter(|at| Some(*at) != announcer)
            .collect();
        let places = f64::from(u32::try_from(others.len()).unwrap());
        let probability = f64::from(wanted).min(places) / places;
        let expected = f64::from(rounds) * probability;
        assert_eq!(
            others.iter().map(|at| drawn[*at as usize]).sum::<u32>(),
            rounds * wanted.min(u32::try_from(others.len()).unwrap()),
            "exactly as many as wanted"
        );
        let variance = expected * (1.0 - probability);
        if variance == 0.0 {
            return;
        }
        let squares = others
            .iter()
            .map(|at| (f64::from(drawn[*at as usize]) - expected).powi(2));
        let chi_square: f64 = squares.sum::<f64>() / variance;
        // Runs make neighbours go together, so the sum scatters up to RUN_MAX times as widely as
        // that of independent draws, around the same mean.
        let scatter = f64::from(RUN_MAX).sqrt() * (2.0 * places).sqrt();
        assert!(
            (chi_square - places).abs() < 5.0 * scatter,
            "chi-square {chi_square} for {places} places, {candidates:?}, wanted {wanted}"
        );
    }

    #[test]
    fn every_peer_is_equally_likely() {
        for (end, wanted) in [
            (3, 1),
            (10, 3),
            (20, 19),
            (64, 30),
            (64, 50),
            (300, 50),
            (999, 74),
        ] {
            assert_fair(0..end, Some(0), wanted);
            assert_fair(0..end, Some(end / 2), wanted);
            assert_fair(0..end, Some(end - 1), wanted);
            // A seeder's candidates do not contain the seeder.
            assert_fair(end / 2..end, Some(end / 3), wanted);
            assert_fair(end / 2..end, None, wanted);
        }
    }

    #[test]
    fn neighbours_do_not_stick_together() {
        // Of two peers next to each other, either comes without the other often enough.
        let mut rng = fastrand::Rng::with_seed(3);
        let (mut one, mut both) = (0, 0);
        for _ in 0..50_000 {
            let mut seen = (false, false);
            let mut see = |at| {
                seen.0 |= at == 500;
                seen.1 |= at == 501;
            };
            choice(0..1_000, Some(0), 50).select(&mut rng, |_| (), &mut see);
            one += u32::from(seen.0 || seen.1);
            both += u32::from(seen.0 && seen.1);
        }
        assert!(both * 10 < one * 9, "{both} of {one}");
    }

    #[test]
    fn what_is_touched_is_handed_out() {
        let mut rng = fastrand::Rng::with_seed(8);
        let touched = std::cell::RefCell::new(Vec::new());
        let mut answer = Vec::new();
        let touch = |at| touched.borrow_mut().push(at);
        choice(0..100_000, Some(7), 50).select(&mut rng, touch, |at| answer.push(at));
        let touched = touched.into_inner();
        assert_eq!(touched.len(), 2 * 7, "both ends of each run");
        assert!(touched.iter().all(|at| answer.contains(at)));
    }

    #[test]
    fn nothing_to_draw() {
        let mut rng = fastrand::Rng::with_seed(4);
        for (candidates, announcer, wanted) in
            [(0..0, 0, 50), (0..1, 0, 50), (1..1, 0, 50), (0..9, 3, 0)]
        {
            let choice = choice(candidates, Some(announcer), wanted);
            choice.select(&mut rng, |_| (), |_| panic!("no peer is there"));
        }
    }
}
