//! Whose turn it is.

/// One run: a round, and the place of a contender in its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// From 0.
    pub round: u32,
    /// From 0.
    pub contender: usize,
}

/// A B C, A B C, and so on: neighbours in time are compared, so that what changes slowly on the
/// machine concerns both.
pub fn alternating(contenders: usize, rounds: u32) -> impl Iterator<Item = Turn> {
    (0..rounds)
        .flat_map(move |round| (0..contenders).map(move |contender| Turn { round, contender }))
}

/// A B, B A, and so on: the same, if a run may leave something behind for the next one.
pub fn there_and_back(contenders: usize, rounds: u32) -> impl Iterator<Item = Turn> {
    alternating(contenders, rounds).map(move |Turn { round, contender }| Turn {
        round,
        contender: match round % 2 {
            0 => contender,
            _ => contenders - 1 - contender,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_take_turns() {
        let turns: Vec<_> = alternating(2, 2)
            .map(|turn| (turn.round, turn.contender))
            .collect();
        assert_eq!(turns, [(0, 0), (0, 1), (1, 0), (1, 1)]);
        assert_eq!(alternating(0, 5).count(), 0);
    }

    #[test]
    fn every_other_round_is_backwards() {
        let turns: Vec<_> = there_and_back(3, 3).map(|turn| turn.contender).collect();
        assert_eq!(turns, [0, 1, 2, 2, 1, 0, 0, 1, 2]);
    }
}
