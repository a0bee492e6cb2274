//! Which peers an announcer gets: the one place where that is decided.
//!
//! The pool is a range of positions: all peers for a leecher, the leechers for a seeder. Without
//! the announcer, who is skipped, that leaves `n` places, of which `wanted` are to be drawn at a
//! cost that depends on `wanted` alone. Drawing them one by one would cost a cache miss each in a
//! large swarm; drawing one long run would always bring the same neighbours together. So:
//!
//! 1. Bend the `n` places to a circle and start at a random one.
//! 2. Cut the circle into pieces, each with up to [`RUN_MAX`] places to be drawn and an equal share
//!    of those that are not.
//! 3. In each piece draw one run of neighbours, at a random distance from its beginning.
//!
//! **Fair:** whatever step 3 draws relative to the start, a start that is uniform over the circle
//! makes each place equally likely to be drawn. Exactly `wanted` are drawn, pieces do not overlap,
//! so each place is drawn with probability `wanted / n`, and never twice.

use std::ops::Range;

/// Neighbours that are drawn together at most: one cache line of IPv4 peers.
const RUN_MAX: u32 = 8;

/// Calls `hand_out` with `wanted` positions of `pool`, or with all if there are no more, but never
/// with `announcer`.
pub(crate) fn select(
    pool: Range<u32>,
    announcer: u32,
    wanted: u32,
    rng: &mut fastrand::Rng,
    mut hand_out: impl FnMut(u32),
) {
    // Place 0 of the circle is the first position of the pool; the announcer has no place.
    let places = (pool.end - pool.start) - u32::from(pool.contains(&announcer));
    let mut hand_out = |place: u32| {
        let position = pool.start + place;
        let skip = pool.contains(&announcer) && position >= announcer;
        hand_out(position + u32::from(skip));
    };
    if wanted >= places {
        (0..places).for_each(hand_out);
        return;
    }
    let pieces = wanted.div_ceil(RUN_MAX);
    let mut place = rng.u32(..places);
    for piece in 0..pieces {
        let run = share(wanted, piece, pieces);
        let rest = share(places - wanted, piece, pieces);
        let before = rng.u32(..=rest);
        place = around(place, before, places);
        for _ in 0..run {
            hand_out(place);
            place = around(place, 1, places);
        }
        place = around(place, rest - before, places);
    }
}

/// What falls to one of `pieces` pieces when `total` is dealt out as evenly as can be.
fn share(total: u32, piece: u32, pieces: u32) -> u32 {
    total / pieces + u32::from(piece < total % pieces)
}

/// The place `steps` further on a circle of `places`; `steps` goes round once at most.
fn around(place: u32, steps: u32, places: u32) -> u32 {
    let left = places - place;
    if steps < left {
        place + steps
    } else {
        steps - left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each in `pool`, but for the announcer, as often as any other: a chi-square test, seeded.
    fn assert_fair(pool: Range<u32>, announcer: u32, wanted: u32) {
        let mut rng = fastrand::Rng::with_seed(u64::from(wanted) << 32 | u64::from(pool.end));
        let rounds = 20_000;
        let mut drawn = vec![0_u32; pool.end as usize];
        for _ in 0..rounds {
            let mut answer = Vec::new();
            select(pool.clone(), announcer, wanted, &mut rng, |at| {
                answer.push(at)
            });
            assert!(
                answer
                    .iter()
                    .all(|at| pool.contains(at) && *at != announcer)
            );
            let size = answer.len();
            answer.sort_unstable();
            answer.dedup();
            assert_eq!(answer.len(), size, "twice the same");
            answer.iter().for_each(|at| drawn[*at as usize] += 1);
        }
        let others: Vec<u32> = pool.clone().filter(|at| *at != announcer).collect();
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
            "chi-square {chi_square} for {places} places, pool {pool:?}, wanted {wanted}"
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
            assert_fair(0..end, 0, wanted);
            assert_fair(0..end, end / 2, wanted);
            assert_fair(0..end, end - 1, wanted);
            // A seeder's pool does not contain the seeder.
            assert_fair(end / 2..end, end / 3, wanted);
        }
    }

    #[test]
    fn neighbours_do_not_stick_together() {
        // Of two peers next to each other, either comes without the other often enough.
        let mut rng = fastrand::Rng::with_seed(3);
        let (mut one, mut both) = (0, 0);
        for _ in 0..50_000 {
            let mut seen = (false, false);
            select(0..1_000, 0, 50, &mut rng, |at| {
                seen.0 |= at == 500;
                seen.1 |= at == 501;
            });
            one += u32::from(seen.0 || seen.1);
            both += u32::from(seen.0 && seen.1);
        }
        assert!(both * 10 < one * 9, "{both} of {one}");
    }

    #[test]
    fn nothing_to_draw() {
        let mut rng = fastrand::Rng::with_seed(4);
        for (pool, announcer, wanted) in [(0..0, 0, 50), (0..1, 0, 50), (1..1, 0, 50), (0..9, 3, 0)]
        {
            select(pool, announcer, wanted, &mut rng, |_| {
                panic!("no peer is there")
            });
        }
    }
}
