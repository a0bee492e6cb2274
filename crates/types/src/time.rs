//! Time as the deciding code sees it.

use std::ops::Add;

/// Whole seconds since the daemon started.
///
/// Monotonic: comes from a clock that no one can set. It is passed in by the loop that read it,
/// once per batch; deciding code never asks for the time. 32 bits last for 136 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub u32);

impl Add<u32> for Seconds {
    type Output = Self;

    /// Later by `seconds`; stops at the end of time instead of wrapping.
    fn add(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}
