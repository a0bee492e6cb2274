//! Peers of both IP families in one answer (BEP 7), chosen fairly from their union. Pure.
//!
//! The swarms of a torrent are kept by family, and each hands out a fair choice of its own. What is
//! left to decide is how many of the peers come from which: as if all had been in one hat.

/// How many of `wanted` peers come from the first of two swarms that have so many to hand out, when
/// every choice of `wanted` peers is equally likely (a hypergeometric distribution).
///
/// Takes time in proportion to `wanted`, and none if all come from one swarm, or all are wanted.
pub fn share_of_first(first: u32, second: u32, wanted: u32, rng: &mut fastrand::Rng) -> u32 {
    if first == 0 || second == 0 || wanted >= first.saturating_add(second) {
        return first.min(wanted);
    }
    let (mut first_left, mut left) = (first, first.saturating_add(second));
    for _ in 0..wanted {
        first_left -= u32::from(rng.u32(..left) < first_left);
        left -= 1;
    }
    first - first_left
}

/// What a swarm has to hand out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Peers whose addresses have no more than their share of the answer.
    pub shares: u32,
    /// Others: see [`Announced::surplus`](aquatic_swarm::Announced::surplus).
    pub surplus: u32,
}

/// What is taken of what a swarm has [`Offered`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    from: Offered,
    peers: Offered,
}

/// Chooses `wanted` peers of what two swarms have offered; of the surplus only when there is
/// nothing else.
pub fn merge([first, second]: [Offered; 2], wanted: u32, rng: &mut fastrand::Rng) -> [Taken; 2] {
    let mut split = |first: u32, second: u32, wanted: u32| {
        let wanted = wanted.min(first.saturating_add(second));
        let share = share_of_first(first, second, wanted, rng);
        [share, wanted - share]
    };
    let shares = split(first.shares, second.shares, wanted);
    let missing = wanted - shares.iter().sum::<u32>();
    let surplus = split(first.surplus, second.surplus, missing);
    let [first_shares, second_shares] = shares;
    let [first_surplus, second_surplus] = surplus;
    let take = |from, shares, surplus| Taken {
        from,
        peers: Offered { shares, surplus },
    };
    [
        take(first, first_shares, first_surplus),
        take(second, second_shares, second_surplus),
    ]
}

impl Taken {
    /// Leaves those in `rows` that are taken. There all that were offered are, of `size` bytes
    /// each, the surplus last.
    pub fn keep(self, rows: &mut Vec<u8>, size: usize) {
        let Self { from, peers } = self;
        let bytes = |peers: u32| {
            let peers = usize::try_from(peers).unwrap_or(usize::MAX);
            peers.saturating_mul(size).min(rows.len())
        };
        let offered = bytes(from.shares);
        let shares = bytes(peers.shares).min(offered);
        let taken = bytes(peers.shares + peers.surplus);
        rows.drain(shares..offered);
        rows.truncate(taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of ways to choose `k` of `n`.
    fn choose(n: u32, k: u32) -> f64 {
        (0..k).fold(1.0, |ways, i| ways * f64::from(n - i) / f64::from(i + 1))
    }

    #[test]
    fn shares_are_those_of_one_hat() {
        let mut rng = fastrand::Rng::with_seed(1);
        for (first, second, wanted) in [(3, 5, 4), (1, 60, 50), (200, 100, 50), (7, 7, 1)] {
            let rounds = 100_000;
            let mut counts = vec![0_u32; usize::try_from(wanted).unwrap() + 1];
            for _ in 0..rounds {
                let share = share_of_first(first, second, wanted, &mut rng);
                assert!(share <= first && wanted - share <= second);
                counts[usize::try_from(share).unwrap()] += 1;
            }
            for (share, count) in (0..).zip(counts) {
                let ways = if share <= first && wanted - share <= second {
                    choose(first, share) * choose(second, wanted - share)
                } else {
                    0.0
                };
                let likelihood = ways / choose(first + second, wanted);
                let expected = likelihood * f64::from(rounds);
                // Five standard deviations, and a little for the rare.
                let tolerance = 5.0 * (expected * (1.0 - likelihood)).sqrt() + 3.0;
                assert!(
                    (f64::from(count) - expected).abs() <= tolerance,
                    "{share} of {first}+{second}: {count} times instead of {expected}"
                );
            }
        }
    }

    #[test]
    fn surplus_is_taken_last() {
        let mut rng = fastrand::Rng::with_seed(2);
        let offered = |shares, surplus| Offered { shares, surplus };
        for (first, second, wanted) in [
            (offered(20, 0), offered(3, 47), 50),
            (offered(3, 47), offered(3, 10), 50),
            (offered(50, 0), offered(3, 47), 50),
            (offered(2, 1), offered(0, 0), 3),
        ] {
            let [one, other] = merge([first, second], wanted, &mut rng);
            let shares = one.peers.shares + other.peers.shares;
            let surplus = one.peers.surplus + other.peers.surplus;
            assert_eq!(shares, wanted.min(first.shares + second.shares));
            assert_eq!(shares + surplus, wanted);
            for taken in [one, other] {
                let Offered { shares, surplus } = taken.from;
                let rows = |first: u8, count: u32| (0..count).flat_map(move |_| [first; 6]);
                let mut kept: Vec<u8> = rows(1, shares).chain(rows(2, surplus)).collect();
                taken.keep(&mut kept, 6);
                let Offered { shares, surplus } = taken.peers;
                let expected = rows(1, shares).chain(rows(2, surplus));
                assert!(expected.eq(kept));
            }
        }
    }

    #[test]
    fn nothing_is_drawn_where_there_is_no_choice() {
        let mut rng = fastrand::Rng::with_seed(1);
        let unused = rng.clone().u64(..);
        for ((first, second, wanted), share) in [
            ((5, 0, 3), 3),
            ((5, 0, 9), 5),
            ((0, 5, 3), 0),
            ((0, 0, 3), 0),
            ((2, 3, 5), 2),
            ((2, 3, 50), 2),
            ((2, 3, 0), 0),
            ((u32::MAX, u32::MAX, 0), 0),
        ] {
            assert_eq!(share_of_first(first, second, wanted, &mut rng), share);
        }
        assert_eq!(rng.u64(..), unused);
    }
}
