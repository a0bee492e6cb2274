//! Medians and ratios.

/// A median, and all that it is the median of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle value, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// `None` if there is no value.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let (upper, lower) = (
            values.get(count / 2)?,
            values.get(count.checked_sub(1)? / 2)?,
        );
        Some(Self {
            median: f64::midpoint(*upper, *lower),
            min: *values.first()?,
            max: *values.last()?,
            count,
        })
    }

    /// Of the ratios of pairs; those that lack one side, or would divide by nothing, are left out.
    #[must_use]
    pub fn of_ratios(pairs: impl IntoIterator<Item = (Option<f64>, Option<f64>)>) -> Option<Self> {
        Self::of(pairs.into_iter().filter_map(|pair| match pair {
            (Some(one), Some(other)) if other > 0.0 => Some(one / other),
            _ => None,
        }))
    }
}

/// The value that this share of sorted values does not exceed; `None` if there is no value.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    // The smallest place whose share is enough: a walk would do, but there may be millions.
    let (mut low, mut high) = (0, last);
    while low < high {
        let middle = usize::midpoint(low, high);
        if share_of(middle + 1, sorted.len()) >= share {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    sorted.get(low).copied()
}

fn share_of(part: usize, all: usize) -> f64 {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    number(part) / number(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-9, "{value}, not {expected}");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let odd = Spread::of([5.0, 1.0, 3.0]).unwrap();
        near(odd.median, 3.0);
        near(odd.min, 1.0);
        near(odd.max, 5.0);
        near(Spread::of([4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        near(Spread::of([7.0]).unwrap().median, 7.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn quantiles_are_values_that_there_are() {
        let values: Vec<f64> = (1..=1_000).map(f64::from).collect();
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1_000.0)] {
            assert_eq!(quantile(&values, share), Some(expected), "{share}");
        }
        assert_eq!(quantile(&[7.0], 0.99), Some(7.0));
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        // Both sides are twice as slow in the second round: the ratios do not notice.
        let pairs = [(1.0, 2.0), (2.0, 4.0), (3.0, 4.0)];
        let pairs = pairs.map(|(one, other)| (Some(one), Some(other)));
        let ratios = Spread::of_ratios(pairs).unwrap();
        near(ratios.median, 0.5);
        near(ratios.max, 0.75);
        let broken = [(Some(1.0), None), (None, Some(1.0)), (Some(1.0), Some(0.0))];
        assert_eq!(Spread::of_ratios(broken), None);
    }
}
