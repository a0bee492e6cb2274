//! From the text of a file to a configuration that has been checked.

use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::DeTable;

use crate::report::Report;
use crate::{
    ConfigError, LogLevel, Mistake, OldSpellings, Position, Problem, Reader, Section, syntax,
};

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

    /// Looks at what only this machine can tell: the files, users and folders that the
    /// configuration names, and what the system grants. Runs the very code that the start does, so
    /// it may read large files, and give up the rights of root; the process has to end afterwards.
    ///
    /// Nothing by default.
    fn inspect(&self, checks: &mut Checks) {
        let _ = checks;
    }

    /// Keys that a program which was started with this cannot change as they are in `new`, though
    /// it could change them otherwise ([`reloading`](crate::reloading)): because of what was made
    /// at the start. None by default.
    fn keys_bound_to_start(&self, new: &Self) -> Vec<String> {
        let _ = new;
        Vec::new()
    }

    /// The same for a program that runs with this now, because of what is going on in it. None by
    /// default.
    fn keys_bound_at_present(&self, new: &Self) -> Vec<String> {
        let _ = new;
        Vec::new()
    }

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
    /// What is allowed, but hardly meant, one sentence each.
    pub advice: Vec<String>,
}

/// What there is to say about a file, and about what it names on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// As in [`Loaded`].
    pub warnings: Vec<String>,
    /// As in [`Loaded`], and what this machine makes of it.
    pub advice: Vec<String>,
    /// What has not been looked at, and why, one sentence each.
    pub not_looked_at: Vec<String>,
    /// Everything that is wrong, in the order of the file.
    pub problems: Vec<Problem>,
}

/// Reads the text of a configuration file.
///
/// # Errors
/// Everything that is wrong with it; [`Config::check`] runs only if each key alone is right.
pub fn load<C: Config>(text: &str) -> Result<Loaded<C>, ConfigError> {
    let (config, found) = examine(text, |_: &C, _| ());
    ConfigError::check(found.problems)?;
    Ok(Loaded {
        config,
        warnings: found.warnings,
        advice: found.advice,
    })
}

/// Reads the text of a configuration file, and looks at what it names on this machine, if each key
/// alone is right ([`Config::inspect`]).
pub fn inspect<C: Config>(text: &str) -> Inspection {
    let (_, found) = examine(text, C::inspect);
    found
}

/// Reads the file, and checks the configuration if each key alone is right; then `inspect` may find
/// more.
fn examine<C: Config>(text: &str, inspect: impl FnOnce(&C, &mut Checks)) -> (C, Inspection) {
    let mut report = Report::new(text);
    let (mut config, mut warnings) = read::<C>(text, &mut report);
    let mut checks = Checks::default();
    if report.is_clean() {
        config.clamp(&mut checks);
        config.check(&mut checks);
        inspect(&config, &mut checks);
        report.add_failures(&mut checks);
    } else {
        checks.not_looked_at(
            "whether values fit each other, and whether what they name is there; that is looked \
             at when each value alone is right",
        );
    }
    warnings.extend(report.warnings(&checks));
    let found = Inspection {
        warnings,
        advice: report.advice(&checks),
        not_looked_at: checks.not_looked_at,
        problems: report.into_problems(),
    };
    (config, found)
}

/// The configuration, with defaults in the place of mistakes, and warnings about old spellings.
fn read<'text, C: Config>(text: &'text str, report: &mut Report<'text>) -> (C, Vec<String>) {
    let root = DeTable::parse(text).map_or_else(
        |error| {
            let offset = error.span().map_or(0, |span| span.start);
            let line = Position::line_of(text, offset).trim();
            let mut message = format!("{}, in `{}`", error.message(), shortened(line));
            if let Some(hint) = syntax::hint(error.message(), line) {
                message = format!("{message}; {hint}");
            }
            report.add(offset, Mistake::Syntax(message));
            DeTable::new()
        },
        Spanned::into_inner,
    );

    let mut old = OldSpellings::new(root, report);
    C::rewrite_old_spellings(&mut old);
    let (root, warnings) = old.finish();

    let config = Reader::read_root(root, report);
    report.explain_what_is_elsewhere();
    (config, warnings)
}

/// As much of a line as anybody wants to find in a log.
fn shortened(line: &str) -> String {
    const SHOWN_MAX: usize = 120;
    match line.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or(line)),
        None => line.to_owned(),
    }
}

/// Collects what [`Config::clamp`], [`Config::check`] and [`Config::inspect`] find.
///
/// Keys are written with their section (`network.address`); a reason completes "`key`: ..." and
/// says what the operator should change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    pub(crate) failures: Vec<(String, String)>,
    pub(crate) warnings: Vec<(String, String)>,
    pub(crate) advice: Vec<(String, String)>,
    not_looked_at: Vec<String>,
}

impl Checks {
    /// Runs the checks of a configuration that did not come from a file, and that is used as it is.
    ///
    /// # Errors
    /// What is wrong, without positions.
    pub fn run<C: Config>(config: &C) -> Result<(), ConfigError> {
        let mut report = Report::default();
        let mut checks = Self::default();
        config.check(&mut checks);
        report.add_failures(&mut checks);
        ConfigError::check(report.into_problems())
    }

    /// Runs checks of a part of the configuration that is the whole of another program's. `name`
    /// turns a key of that program into the one that stands in this file. What has been found
    /// already, by the checks of another part that shares the key, is not repeated.
    pub fn of_part(&mut self, name: impl Fn(&str) -> String, run: impl FnOnce(&mut Self)) {
        let mut found = Self::default();
        run(&mut found);
        let words = |sentence: &str| {
            let part = |(index, part): (usize, &str)| match index % 2 {
                1 if part.contains('.') => format!("`{}`", name(part)),
                1 => format!("`{part}`"),
                _ => part.to_owned(),
            };
            sentence
                .split('`')
                .enumerate()
                .map(part)
                .collect::<String>()
        };
        for (all, new) in [
            (&mut self.failures, found.failures),
            (&mut self.warnings, found.warnings),
            (&mut self.advice, found.advice),
        ] {
            for (key, sentence) in new {
                let said = (name(&key), words(&sentence));
                if !all.contains(&said) {
                    all.push(said);
                }
            }
        }
        self.not_looked_at.extend(found.not_looked_at);
    }

    /// Refuses the configuration unless `holds`.
    pub fn require(&mut self, holds: bool, key: impl Into<String>, reason: impl Into<String>) {
        if !holds {
            self.failures.push((key.into(), reason.into()));
        }
    }

    /// Refuses the configuration if something that it asks for has failed. The error, with its
    /// causes, is the reason.
    pub fn require_ok<T, E: Display>(
        &mut self,
        result: Result<T, E>,
        key: impl Into<String>,
    ) -> Option<T> {
        result
            .map_err(|error| self.require(false, key, format!("{error:#}")))
            .ok()
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

    /// Warns of a setting that is allowed, but hardly meant, unless `is_meant`.
    pub fn advise(&mut self, is_meant: bool, key: impl Into<String>, reason: impl Into<String>) {
        if !is_meant {
            self.advice.push((key.into(), reason.into()));
        }
    }

    /// Says what has not been looked at, and why.
    pub fn not_looked_at(&mut self, what: impl Into<String>) {
        self.not_looked_at.push(what.into());
    }
}
