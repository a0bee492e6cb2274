//! What is told to programs, and by them.

/// Unix time, for a program that knows the monotonic clock (`CLOCK_MONOTONIC`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Nanoseconds of Unix time at the zero of the monotonic clock.
    pub unix_nanos: u64,
    /// What that was before the system's clock was set, and until when, in nanoseconds of the
    /// monotonic clock, ids of that time are good.
    pub replaced: Option<(u64, u64)>,
}

/// Datagrams that a program has dropped, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Shorter than what they claim to be.
    pub too_short: u64,
    /// Neither connect nor announce nor scrape.
    pub unknown_action: u64,
    /// Action 0 without the protocol's magic number.
    pub not_connect: u64,
    /// Announces with a wrong connection id.
    pub announces: u64,
    /// Scrapes with a wrong connection id.
    pub scrapes: u64,
    /// UDP payload of all of them, in bytes.
    pub bytes: u64,
}

impl Dropped {
    /// How many these are.
    #[must_use]
    pub fn datagrams(&self) -> u64 {
        self.too_short + self.unknown_action + self.not_connect + self.announces + self.scrapes
    }

    /// What has been dropped since there was `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            too_short: self.too_short.wrapping_sub(before.too_short),
            unknown_action: self.unknown_action.wrapping_sub(before.unknown_action),
            not_connect: self.not_connect.wrapping_sub(before.not_connect),
            announces: self.announces.wrapping_sub(before.announces),
            scrapes: self.scrapes.wrapping_sub(before.scrapes),
            bytes: self.bytes.wrapping_sub(before.bytes),
        }
    }
}
