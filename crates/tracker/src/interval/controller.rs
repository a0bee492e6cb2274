//! From the load to the factor by which announce intervals are longer. Pure.
//!
//! A longer interval works late: a client comes back when the interval is over that it was told
//! before. And clients come in waves, the more so after each change of the interval. So the load of
//! the moment tells little of the interval that is needed, and a controller that follows it swings.
//! This one counts clients instead: whoever has been told to come back, and has not been due, is
//! one. How many that are does not change with waves, nor with the interval. From their number and
//! the CPU time that an announce costs follows the interval that keeps the workers as busy as they
//! may be ([`BUSY_WANTED`]). Nothing is integrated, so nothing winds up.
//!
//! Clients that are not served yet are unknown. Those that are stay away for longer, so that there
//! is room for others, which are known then: the factor rises with each interval until it suffices.
//! It falls by [`FALL_PER_INTERVAL`] in an interval at most.

/// The share of the workers' time that may be used before intervals become longer.
pub(super) const BUSY_WANTED: f64 = 0.7;

/// By how much the factor falls at most while the base interval goes by once.
const FALL_PER_INTERVAL: f64 = 0.25;

/// With more of its requests lost, a tracker has no time left, however busy it seems: another
/// process may have the CPUs.
const LOST_SHARE_MAX: f64 = 0.01;

/// Into so many parts the time is divided in which clients come back.
const PARTS: usize = 512;

/// What has been seen since the last step.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// How long that was.
    pub seconds: f64,
    /// The share of their time that the workers were busy, 0 to 1.
    pub busy_share: f64,
    /// The share of requests that were lost for want of time, 0 to 1.
    pub lost_share: f64,
    /// The clients of each protocol whose interval may become longer.
    pub clients: &'a [Clients],
}

/// The clients of a protocol.
#[derive(Clone, Copy, Debug)]
pub struct Clients {
    /// The interval that they are told without any factor, in seconds, on average.
    pub base_seconds: f64,
    /// The largest factor.
    pub factor_max: f64,
    /// How many of them have been told an interval since the last step.
    pub announces: f64,
}

/// Decides the factor, step by step.
#[derive(Debug)]
pub struct Controller {
    factor: f64,
    /// For how many seconds the workers were busy lately, and how many clients announced then.
    busy_seconds: f64,
    announces: f64,
    returns: Returns,
}

impl Default for Controller {
    fn default() -> Self {
        Self {
            factor: 1.0,
            busy_seconds: 0.0,
            announces: 0.0,
            returns: Returns::default(),
        }
    }
}

impl Controller {
    /// Takes note of what has been seen. Returns the factor, 1 or more, for the clients that come
    /// until the next step.
    pub fn step(&mut self, seen: Observation<'_>) -> f64 {
        let highest =
            |value: fn(&Clients) -> f64| seen.clients.iter().map(value).fold(0.0, f64::max);
        let factor_max = highest(|it| it.factor_max);
        let base_seconds = highest(|it| it.base_seconds);
        if factor_max <= 1.0 || base_seconds < 1.0 {
            *self = Self::default();
            return self.factor;
        }
        let longest = highest(|it| it.base_seconds * it.factor_max);
        self.returns.pass(seen.seconds, longest);
        for it in seen.clients {
            let returns_in = it.base_seconds * self.factor.min(it.factor_max);
            let per_second = it.announces * self.factor / returns_in;
            self.returns.expect(returns_in, per_second);
        }
        let fresh = (-seen.seconds / base_seconds).exp();
        let is_losing = seen.lost_share > LOST_SHARE_MAX;
        let busy_share = if is_losing { 1.0 } else { seen.busy_share };
        self.busy_seconds = self.busy_seconds * fresh + busy_share.clamp(0.0, 1.0) * seen.seconds;
        let announces = seen.clients.iter().map(|it| it.announces).sum::<f64>();
        self.announces = self.announces * fresh + announces;

        let cost = self.busy_seconds / self.announces.max(1.0);
        let wanted = cost * self.returns.per_second() / BUSY_WANTED;
        let fall = FALL_PER_INTERVAL * self.factor * seen.seconds / base_seconds;
        self.factor = wanted.max(self.factor - fall).clamp(1.0, factor_max);
        self.factor
    }
}

/// When the clients come back that have been told when.
#[derive(Debug)]
struct Returns {
    /// A ring of parts of the time to come: how many announces per second those who come then would
    /// make without any factor.
    parts: Vec<f64>,
    /// The present part, and how much of it has gone by, in seconds.
    present: usize,
    elapsed_seconds: f64,
    part_seconds: f64,
}

impl Default for Returns {
    fn default() -> Self {
        Self {
            parts: vec![0.0; PARTS],
            present: 0,
            elapsed_seconds: 0.0,
            part_seconds: 0.0,
        }
    }
}

impl Returns {
    /// Lets time go by. `longest_seconds` is the longest time that anybody may be told.
    fn pass(&mut self, seconds: f64, longest_seconds: f64) {
        let parts = u32::try_from(PARTS - 2).unwrap_or(u32::MAX);
        let part_seconds = longest_seconds / f64::from(parts);
        if part_seconds.to_bits() != self.part_seconds.to_bits() {
            self.divide(part_seconds);
        }
        self.elapsed_seconds += seconds;
        for _ in 0..PARTS {
            if self.elapsed_seconds < part_seconds {
                return;
            }
            self.elapsed_seconds -= part_seconds;
            self.present = (self.present + 1) % PARTS;
            if let Some(part) = self.parts.get_mut(self.present) {
                *part = 0.0;
            }
        }
        // All that was expected is past.
        self.elapsed_seconds = 0.0;
    }

    /// Divides the time to come anew: other keys have another longest time.
    fn divide(&mut self, part_seconds: f64) {
        let before = std::mem::take(self);
        self.part_seconds = part_seconds;
        let (past, to_come) = before.parts.split_at(before.present + 1);
        let mut seconds = 0.0;
        for per_second in to_come.iter().chain(past) {
            seconds += before.part_seconds;
            self.expect(seconds, *per_second);
        }
    }

    /// Clients come back in this time that would make so many announces per second.
    fn expect(&mut self, seconds: f64, per_second: f64) {
        let parts = (seconds + self.elapsed_seconds) / self.part_seconds;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "no more than the ring has, by the choice of the length of a part"
        )]
        let ahead = (parts as usize).clamp(1, PARTS - 1);
        if let Some(part) = self.parts.get_mut((self.present + ahead) % PARTS) {
            *part += per_second;
        }
    }

    /// How many announces per second all of them would make without any factor.
    fn per_second(&self) -> f64 {
        self.parts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets seconds go by in which the workers are busy, requests are lost, and clients announce.
    fn after(
        controller: &mut Controller,
        seconds: u32,
        [busy_share, lost_share]: [f64; 2],
        clients: &[Clients],
    ) -> f64 {
        let seen = Observation {
            seconds: 1.0,
            busy_share,
            lost_share,
            clients,
        };
        (0..seconds).map(|_| controller.step(seen)).last().unwrap()
    }

    fn clients(base_seconds: f64, factor_max: f64, announces: f64) -> Clients {
        Clients {
            base_seconds,
            factor_max,
            announces,
        }
    }

    #[test]
    fn without_load_or_without_permission_nothing_is_longer() {
        let mut controller = Controller::default();
        let free = [clients(900.0, 4.0, 100.0)];
        assert!(after(&mut controller, 5_000, [0.69, 0.0], &free) <= 1.0);
        let bound = [clients(900.0, 1.0, 100.0)];
        assert!(after(&mut controller, 5_000, [1.0, 0.8], &bound) <= 1.0);
        assert!(after(&mut controller, 5_000, [1.0, 0.8], &[]) <= 1.0);
    }

    #[test]
    fn it_is_what_the_clients_need_that_are_known_and_no_more_than_allowed() {
        let known = [clients(900.0, 8.0, 100.0)];
        let mut controller = Controller::default();
        // As many clients as the workers can serve.
        let factor = after(&mut controller, 900, [1.0, 0.0], &known);
        assert!((factor - 1.0 / BUSY_WANTED).abs() < 0.02, "{factor}");
        let bounded = [clients(900.0, 1.2, 100.0)];
        let factor = after(&mut Controller::default(), 900, [1.0, 0.0], &bounded);
        assert!((factor - 1.2).abs() < 0.001, "{factor}");
    }

    /// Busy workers, but nobody who could come later: scrapes, say.
    #[test]
    fn what_no_interval_changes_lengthens_none() {
        let nobody = [clients(900.0, 4.0, 0.0)];
        assert!(after(&mut Controller::default(), 5_000, [1.0, 0.5], &nobody) <= 1.0);
    }

    /// Another process has half of the CPU time.
    #[test]
    fn lost_requests_show_that_there_is_no_time_left() {
        let some = [clients(900.0, 4.0, 100.0)];
        let factor = after(&mut Controller::default(), 900, [0.5, 0.0], &some);
        assert!(factor <= 1.0, "{factor}");
        let factor = after(&mut Controller::default(), 900, [0.5, 0.02], &some);
        assert!(factor > 1.4, "{factor}");
    }

    #[test]
    fn it_falls_slowly() {
        let mut controller = Controller::default();
        let many = [clients(900.0, 8.0, 100.0)];
        let high = after(&mut controller, 3_600, [1.0, 0.0], &many);
        assert!(high > 2.0, "{high}");
        let few = [clients(900.0, 8.0, 1.0)];
        let later = after(&mut controller, 900, [0.01, 0.0], &few);
        assert!(later > high * 0.7, "{high}, then {later}");
        let later = after(&mut controller, 20 * 900, [0.01, 0.0], &few);
        assert!(later <= 1.0, "{later}");
    }

    /// Clients of a short interval are back long before those of a long one; and so many of them
    /// make more announces.
    #[test]
    fn clients_of_each_protocol_come_back_after_its_interval() {
        let mut controller = Controller::default();
        let both = [clients(900.0, 4.0, 50.0), clients(120.0, 4.0, 50.0)];
        let of_second = |it: f64| 50.0 * it;
        after(&mut controller, 100, [0.3, 0.0], &both);
        let known = controller.returns.per_second();
        let expected = of_second(100.0 / 900.0) + of_second(100.0 / 120.0);
        assert!((known - expected).abs() < 1.0, "{known} is not {expected}");
        after(&mut controller, 400, [0.3, 0.0], &both);
        let known = controller.returns.per_second();
        let expected = of_second(500.0 / 900.0) + of_second(1.0);
        assert!((known - expected).abs() < 3.5, "{known} is not {expected}");
    }

    /// A reload makes the longest interval longer.
    #[test]
    fn other_keys_forget_no_client() {
        let mut controller = Controller::default();
        after(
            &mut controller,
            800,
            [0.3, 0.0],
            &[clients(900.0, 2.0, 100.0)],
        );
        let before = controller.returns.per_second();
        after(
            &mut controller,
            1,
            [0.3, 0.0],
            &[clients(900.0, 4.0, 100.0)],
        );
        let known = controller.returns.per_second();
        assert!((known - before).abs() < 1.0, "{before}, then {known}");
        after(
            &mut controller,
            850,
            [0.3, 0.0],
            &[clients(900.0, 4.0, 0.0)],
        );
        let later = controller.returns.per_second();
        assert!(later < before / 10.0, "{before}, then {later}");
    }
}
