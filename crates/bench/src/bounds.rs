//! How long a plan may take: what is published is measured for as long as its plan says, and a look
//! at all of it in the time that somebody has.

use std::ops::RangeInclusive;

use crate::plan::Plan;

/// The most of each. What a plan has less of stays.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Bounds {
    /// Measure each set in at most so many rounds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds_max: Option<u32>,
    /// Measure each run for at most so many seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds_max: Option<u32>,
    /// Load for at most so many seconds before each run.
    #[arg(long, value_name = "N")]
    pub warm_up_seconds_max: Option<u32>,
    /// Let all plans together take at most so many minutes, as `list` counts them: to start, fill
    /// and stop trackers comes on top. Runs become shorter, down to 4 seconds, and then fewer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub minutes_max: Option<u32>,
}

/// Seconds of a run that are tried to stay within the minutes.
const SECONDS: RangeInclusive<u32> = 4..=60;
const ROUNDS: RangeInclusive<u32> = 1..=10;
/// Some trackers read a list of a million torrents when the load has begun.
const WARM_UP_SECONDS_MIN: u32 = 2;

impl Bounds {
    /// The plan as far as it stays within. All plans of the command take `total_seconds` without
    /// bounds; each gets its share of the minutes.
    #[must_use]
    pub fn apply(&self, plan: &Plan, total_seconds: u64) -> Plan {
        let own_seconds = plan.seconds_min();
        let plan = cut(
            plan,
            self.rounds_max.unwrap_or(u32::MAX),
            self.seconds_max.unwrap_or(u32::MAX),
            self.warm_up_seconds_max.unwrap_or(u32::MAX),
        );
        let Some(minutes) = self.minutes_max else {
            return plan;
        };
        let share = 60 * u64::from(minutes) * own_seconds / total_seconds.max(1);
        let fits = |plan: &Plan| plan.seconds_min() <= share;
        if fits(&plan) {
            return plan;
        }
        let mut shortest = plan.clone();
        for rounds in ROUNDS.rev() {
            for seconds in SECONDS.rev() {
                shortest = cut(
                    &plan,
                    rounds,
                    seconds,
                    (seconds / 4).max(WARM_UP_SECONDS_MIN),
                );
                if fits(&shortest) {
                    return shortest;
                }
            }
        }
        shortest
    }
}

fn cut(plan: &Plan, rounds: u32, seconds: u32, warm_up_seconds: u32) -> Plan {
    let mut plan = plan.clone();
    let least = |value: &mut u32, max: u32| *value = max.min(*value);
    least(&mut plan.rounds, rounds);
    least(&mut plan.seconds, seconds);
    least(&mut plan.warm_up_seconds, warm_up_seconds);
    for set in &mut plan.sets {
        set.rounds.iter_mut().for_each(|it| least(it, rounds));
        set.seconds.iter_mut().for_each(|it| least(it, seconds));
        let warm_ups = set.warm_up_seconds.iter_mut();
        warm_ups.for_each(|it| least(it, warm_up_seconds));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(name: &str) -> Plan {
        Plan::open(name).unwrap().1
    }

    #[test]
    fn without_bounds_a_plan_is_what_it_says() {
        assert_eq!(Bounds::default().apply(&plan("udp"), 1), plan("udp"));
    }

    #[test]
    fn no_set_has_more_than_the_bounds() {
        let bounds = Bounds {
            rounds_max: Some(2),
            seconds_max: Some(4),
            warm_up_seconds_max: Some(0),
            ..Bounds::default()
        };
        let plan = bounds.apply(&plan("udp"), 1);
        for set in &plan.sets {
            assert!(plan.rounds(set) <= 2, "{}", set.name);
            assert!(set.seconds.unwrap_or(plan.seconds) <= 4, "{}", set.name);
            assert_eq!(set.warm_up_seconds.unwrap_or(plan.warm_up_seconds), 0);
        }
        let memory = plan.sets.iter().find(|set| set.name == "memory-torrents");
        assert_eq!(memory.unwrap().rounds, Some(1), "less stays");
    }

    #[test]
    fn plans_share_the_minutes() {
        let plans = ["udp", "http", "ws"].map(plan);
        let total = plans.iter().map(Plan::seconds_min).sum();
        let within = |minutes: u32| {
            let bounds = Bounds {
                minutes_max: Some(minutes),
                ..Bounds::default()
            };
            plans.each_ref().map(|plan| bounds.apply(plan, total))
        };
        let seconds = |plans: [Plan; 3]| plans.iter().map(Plan::seconds_min).sum::<u64>();
        let some = seconds(within(20));
        assert!((15 * 60..=20 * 60).contains(&some), "{some}");
        assert_eq!(seconds(within(1_000)), total);
        for shortest in within(1) {
            assert_eq!((shortest.rounds, shortest.seconds), (1, 4));
        }
    }
}
