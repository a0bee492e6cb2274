//! From the text of a file to a configuration that has been checked.

use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::DeTable;

use crate::report::Report;
use crate::{ConfigError, LogLevel, Mistake, OldSpellings, Position, Reader, Section};

/// The whole configuration of a program: its root section and what concerns the file as a whole.
pub trait Config: Section {
    /// Turns keys of former versions into those of today. None by default.
    fn rewrite_old_spellings(old: &mut OldSpellings<'_, '_>) {
        let _ = old;
    }

    /// Makes values usable that are too large or too small, each with a warning: what former
    /// versions have run with must not keep a service from coming back after an upgrade. Runs
    /// before [`Config::check`]. Nothing by default.
    fn clamp(&mut self, checks: &mut Checks) {
        let _ = checks;
    }

    /// Checks values alone and against each other. Each failure is reported, not only the first.
    fn check(&self, checks: &mut Checks);

    /// How much the program logs.
    fn log_level(&self) -> LogLevel;
}

/// A configuration that has been read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded<C> {
    /// The configuration.
    pub config: C,
    /// What the operator should know or change although it works, one sentence each.
    pub warnings: Vec<String>,
}

/// Reads the text of a configuration file.
///
/// # Errors
/// Everything that is wrong with it; [`Config::check`] runs only if each key alone is right.
pub fn load<C: Config>(text: &str) -> Result<Loaded<C>, ConfigError> {
    let mut report = Report::new(text);
    let root = DeTable::parse(text).map_or_else(
        |error| {
            let offset = error.span().map_or(0, |span| span.start);
            let line = Position::line_of(text, offset).trim();
            let message = format!("{}, in `{line}`", error.message());
            report.add(offset, Mistake::Syntax(message));
            DeTable::new()
        },
        Spanned::into_inner,
    );

    let mut old = OldSpellings::new(root, &mut report);
    C::rewrite_old_spellings(&mut old);
    let (root, mut warnings) = old.finish();

    let mut config: C = Reader::read_root(root, &mut report);
    report.explain_unknown_names();
    warnings.extend(report.clamp_and_check(&mut config));
    report.finish().map(|()| Loaded { config, warnings })
}

/// Collects what [`Config::clamp`] and [`Config::check`] find: keys, and what is to be said of
/// them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    pub(crate) failures: Vec<(String, String)>,
    pub(crate) warnings: Vec<(String, String)>,
}

impl Checks {
    /// Runs the checks of a configuration that did not come from a file, and that is used as it is.
    ///
    /// # Errors
    /// What is wrong, without positions.
    pub fn run<C: Config>(config: &C) -> Result<(), ConfigError> {
        let mut report = Report::default();
        report.check(config);
        report.finish()
    }

    /// Refuses the configuration unless `holds`. `key` is written with its section
    /// (`network.address`); `reason` says what the operator should change.
    pub fn require(&mut self, holds: bool, key: impl Into<String>, reason: impl Into<String>) {
        if !holds {
            self.failures.push((key.into(), reason.into()));
        }
    }

    /// Takes the configuration as it is, but tells the operator `sentence` about this key.
    pub fn warn(&mut self, key: impl Into<String>, sentence: impl Into<String>) {
        self.warnings.push((key.into(), sentence.into()));
    }

    /// Takes the nearest number of `range` instead of one that is outside, and says so: which key,
    /// what it was, what is used, and why: `reason` says what bounds it.
    pub fn clamp<T: Copy + Display + PartialOrd>(
        &mut self,
        value: &mut T,
        range: RangeInclusive<T>,
        key: &str,
        reason: &str,
    ) {
        let (min, max) = range.into_inner();
        let (used, comparison) = if *value < min {
            (min, "too small")
        } else if *value > max {
            (max, "too large")
        } else {
            return;
        };
        let sentence = format!("`{key}` = {value} is {comparison}, {used} is used: {reason}");
        self.warn(key, sentence);
        *value = used;
    }
}
