//! The factor by which load lengthens intervals.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aquatic_daemon::exposition::{Exposition, Kind};

use super::IntervalConfig;

/// A factor of 1.
const ONE: u32 = 1_000;

/// By how much announce intervals are longer for the load of the process, whatever the protocol.
/// Clones share it.
#[derive(Clone, Debug)]
pub struct Stretch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// In thousandths. Read by each worker once per batch, and hardly ever written.
    factor: AtomicU32,
    /// What the operator has set, by protocol.
    protocols: Mutex<BTreeMap<&'static str, Bounds>>,
}

/// Between which intervals a protocol's is, in seconds without the spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) base_seconds: u32,
    pub(crate) max_seconds: u32,
    /// By how many percent an interval is longer at random, at most.
    pub(crate) spread_percent: u32,
}

/// Which intervals clients of a protocol are told for now, without the spread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Present {
    pub(crate) average_seconds: u32,
    /// By how much one is shorter or longer at random, at most. An interval that changes drives
    /// clients together that were told it before and after; by this they are not together for long.
    pub(crate) margin_seconds: u32,
}

impl Default for Stretch {
    /// Nothing is longer.
    fn default() -> Self {
        Self(Arc::new(Shared {
            factor: AtomicU32::new(ONE),
            protocols: Mutex::default(),
        }))
    }
}

impl Stretch {
    /// What a protocol's intervals have become.
    pub(crate) fn apply(&self, bounds: Bounds) -> Present {
        let Bounds {
            base_seconds: base,
            max_seconds: max,
            ..
        } = bounds;
        let factor = self.0.factor.load(Ordering::Relaxed);
        let seconds = (u64::from(base) * u64::from(factor) + u64::from(ONE / 2)) / u64::from(ONE);
        let average = u32::try_from(seconds)
            .unwrap_or(u32::MAX)
            .min(max)
            .max(base);
        Present {
            average_seconds: average,
            margin_seconds: (average - base).min(max.saturating_sub(average)),
        }
    }

    /// Has intervals be longer by this factor.
    pub(crate) fn set(&self, factor: f64) {
        let thousandths = (factor * f64::from(ONE)).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "such a cast saturates, and factors are small"
        )]
        let thousandths = (thousandths as u32).max(ONE);
        self.0.factor.store(thousandths, Ordering::Relaxed);
    }

    /// Notes what the operator has set for a protocol.
    pub(crate) fn follow(
        &self,
        protocol: &'static str,
        base_seconds: u32,
        config: &IntervalConfig,
    ) -> Bounds {
        let bounds = Bounds {
            base_seconds,
            max_seconds: base_seconds.max(config.announce_interval_max),
            spread_percent: config.announce_interval_spread,
        };
        self.protocols().insert(protocol, bounds);
        bounds
    }

    /// Writes what clients of each protocol are told, for Prometheus.
    pub(crate) fn write(&self, is_one_of_several: bool, text: &mut Exposition) {
        let name = "aquatic_announce_interval_seconds";
        let help =
            "Average interval that clients are told until their next announce, without its spread";
        let mut metric = text.family(name, Kind::Gauge, help);
        for (protocol, bounds) in self.bounds() {
            let labels = [("protocol", protocol)];
            let labels = if is_one_of_several { &labels[..] } else { &[] };
            metric.sample(labels, self.apply(bounds).average_seconds);
        }
    }

    /// What has been set for each protocol.
    pub(crate) fn bounds(&self) -> Vec<(&'static str, Bounds)> {
        let protocols = self.protocols();
        protocols.iter().map(|(name, it)| (*name, *it)).collect()
    }

    fn protocols(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Bounds>> {
        let protocols = self.0.protocols.lock();
        protocols.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bounds {
    /// By how much the interval may be longer.
    pub(crate) fn factor_max(self) -> f64 {
        f64::from(self.max_seconds) / f64::from(self.base_seconds.max(1))
    }

    /// After how many seconds clients come back, on average, if nothing makes it longer.
    pub(crate) fn base_seconds_average(self) -> f64 {
        f64::from(self.base_seconds) * (1.0 + f64::from(self.spread_percent) / 200.0)
    }
}
