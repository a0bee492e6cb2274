//! Reading the configuration file again while the daemon runs.
//!
//! All or nothing: a file that cannot be used changes nothing. Of one that can be, each key that
//! differs is told in the log, and whether it is [applied](aquatic_config::reloading) or needs a
//! restart.

use std::env;
use std::fmt::Write as _;

use anyhow::{Context, anyhow};
use aquatic_config::{
    Change, Config, ConfigError, Loaded, LogLevel, PrivilegeConfig, TakeOver, load, take_over,
};

use crate::config_file::{ConfigFile, ReadAgain};
use crate::load_metrics::LoadMetrics;
use crate::logging;
use crate::reload_report;

const METRICS: LoadMetrics = LoadMetrics {
    what: "the configuration file",
    successful: "aquatic_configuration_last_reload_successful",
    timestamp_seconds: "aquatic_configuration_last_reload_timestamp_seconds",
};

/// Knows what a daemon runs with, and where to look for something else.
#[derive(Debug)]
pub struct Reloader<C> {
    file: ConfigFile,
    start: C,
    running: C,
    /// Why the file may be hidden from the daemon.
    hints: Vec<String>,
}

impl<C: Config + Clone> Reloader<C> {
    /// Of a daemon that is about to start with `running`, from `file`, and to drop `privileges`.
    #[must_use]
    pub fn new(file: ConfigFile, running: C, privileges: &PrivilegeConfig) -> Self {
        let mut hints = Vec::new();
        if privileges.drop_privileges {
            hints.push(format!("the program runs as {}", privileges.user));
        }
        let file = file.within(privileges);
        if privileges.sandbox && !file.needs(privileges).reads_in_place.is_empty() {
            let hint = "in this folder, `privileges.sandbox` hides a file that takes the place of \
                        the one of the start: put it into a folder of its own";
            hints.push(hint.to_owned());
        }
        Self {
            file,
            start: running.clone(),
            running,
            hints,
        }
    }

    /// The file, as it can be found later.
    #[must_use]
    pub fn file(&self) -> &ConfigFile {
        &self.file
    }

    /// The daemon has started with what was read. To be called when there are metrics.
    pub fn started(&self) {
        METRICS.succeeded();
    }

    /// What is done at a reload: `apply` is as in [`Self::reload`], and `others` reads the other
    /// files. The daemon has [started](Self::started).
    #[must_use]
    pub fn into_reload(
        mut self,
        mut apply: impl FnMut(&C) + 'static,
        mut others: impl FnMut() + 'static,
    ) -> Box<dyn FnMut()>
    where
        C: 'static,
    {
        self.started();
        Box::new(move || {
            self.reload(&mut apply);
            others();
        })
    }

    /// Reads the file again, and takes over what it can. `apply` is called with the whole of what
    /// the daemon is to run with from now on, if that is something else than before.
    pub fn reload(&mut self, apply: impl FnOnce(&C)) {
        let text = match self.file.read_again() {
            ReadAgain::None => return,
            ReadAgain::Text(text) => text,
            ReadAgain::OutOfReach(reason) => {
                let name = self.file.name();
                let reason = format!("the configuration file {name} is not read again: {reason}");
                log::warn!("{reason}");
                reload_report::note(|report| report.skipped.push(reason));
                return;
            }
            ReadAgain::Failed(reason) => {
                self.fail(&self.explain(reason));
                return;
            }
        };
        match self.take_over(&text) {
            Ok((new, taken_over)) => {
                METRICS.succeeded();
                self.change(&new, taken_over, apply);
            }
            Err(reason) => self.fail(&reason),
        }
    }

    fn take_over(&self, text: &str) -> anyhow::Result<(Loaded<C>, TakeOver<C>)> {
        let name = self.file.name();
        let new = load::<C>(text).map_err(|error| unusable(&name, &error))?;
        let taken_over = take_over(&self.start, &self.running, &new.config)
            .map_err(|error| unusable(&name, &error))
            .context("what has changed fits only together with what needs a restart")?;
        Ok((new, taken_over))
    }

    /// Runs with something else from now on.
    fn change(&mut self, new: &Loaded<C>, taken_over: TakeOver<C>, apply: impl FnOnce(&C)) {
        let TakeOver { config, changes } = taken_over;
        if changes.is_empty() {
            log::info!("nothing has changed in {}", self.file.name());
        }
        let (before, after) = (self.running.log_level(), config.log_level());
        // The changes are shown by whichever level shows more.
        logging::set_level(before.max(after));
        if changes.iter().any(|change| change.is_applied) {
            apply(&config);
        }
        self.running = config;
        self.tell(new, &changes);
        logging::set_level(after);
        tell_level(after);
    }

    fn tell(&self, new: &Loaded<C>, changes: &[Change]) {
        if !changes.is_empty() {
            let name = self.file.name();
            for sentence in new.warnings.iter().chain(&new.advice) {
                log::warn!("{name}: {sentence}");
            }
        }
        for change in changes {
            let Change { key, from, to, .. } = change;
            if change.is_applied {
                log::info!("`{key}`: {from} -> {to}, applied");
            } else {
                log::warn!("`{key}` has changed: it needs a restart");
            }
            reload_report::note(|report| match change.is_applied {
                true => report
                    .applied
                    .push([key.clone(), from.to_string(), to.to_string()]),
                false => report.needs_restart.push(key.clone()),
            });
        }
    }

    fn explain(&self, reason: anyhow::Error) -> anyhow::Error {
        match self.hints.is_empty() {
            true => reason,
            false => anyhow!("{reason:#} ({})", self.hints.join("; ")),
        }
    }

    fn fail(&self, reason: &anyhow::Error) {
        METRICS.failed_because(reason);
        log::error!(
            "reload failed, keeping the configuration of before: {}: {reason:#}",
            self.file.name()
        );
    }
}

/// For whoever looks whether the level is in force.
fn tell_level(level: LogLevel) {
    log::debug!("the log has level {level:?}");
}

/// What Linux calls a missing file (`ENOENT`).
const NOT_FOUND: &str = "No such file or directory";

/// The reason for which a configuration file is refused: all of them.
pub(crate) fn unusable(file: &str, error: &ConfigError) -> anyhow::Error {
    let mut problems = error.to_string().replace('\n', "\n  ");
    let is_relative = |line: &str| line.contains(NOT_FOUND) && !line.contains(" /");
    if problems.lines().any(is_relative)
        && let Ok(folder) = env::current_dir()
    {
        let _ = write!(
            problems,
            "\n  (paths that do not begin with / begin at {})",
            folder.display()
        );
    }
    anyhow!("cannot use the configuration file {file}:\n  {problems}")
}
