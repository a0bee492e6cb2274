//! The command line that all programs of the family share.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use aquatic_config::{Config, ConfigError, Inspection, inspect, load, to_documented_toml};
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, ArgGroup, Command, CommandFactory, FromArgMatches, Parser};

use crate::{logging, sandbox};

/// What a program says about itself.
#[derive(Clone, Copy, Debug)]
pub struct App {
    /// The name of the binary.
    pub name: &'static str,
    /// Its version, normally `env!("CARGO_PKG_VERSION")`.
    pub version: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// What `--help` says after the flags: [`crate::signals::HELP`] for a daemon.
    pub after_help: &'static str,
}

/// The whole `main` of a program: parses the arguments, reads the configuration, starts the log
/// and calls `start`, unless the arguments ask only for something to be printed.
///
/// The exit code is 0 if all went well, 2 for wrong arguments, 1 for anything else; the reason is
/// logged or, before there is a log, written to standard error. Without `-c` the program runs with
/// its defaults.
pub fn run<C: Config>(app: App, start: impl FnOnce(C) -> anyhow::Result<()>) -> ExitCode {
    let matches = command(app).try_get_matches();
    let arguments = match matches.and_then(|found| Arguments::from_arg_matches(&found)) {
        Ok(arguments) => arguments,
        Err(request_or_error) => {
            let request_or_error = with_hint(app, request_or_error);
            // Nobody is left to be told if this cannot be printed.
            let _ = request_or_error.print();
            return u8::try_from(request_or_error.exit_code())
                .map_or(ExitCode::FAILURE, Into::into);
        }
    };
    match act(app, &arguments, start) {
        Ok(()) => {
            logging::flush();
            ExitCode::SUCCESS
        }
        Err(error) => {
            logging::report(&format!("{} ends: {error:#}", app.name));
            ExitCode::FAILURE
        }
    }
}

/// What a program can be asked for.
#[derive(Parser)]
#[command(disable_version_flag = true)]
#[command(group = ArgGroup::new("instead-of-running"))]
struct Arguments {
    /// Use this configuration file instead of the defaults
    #[arg(short, long, alias = "config-file", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the default configuration, with comments
    #[arg(short, long, group = "instead-of-running")]
    print_config: bool,
    /// Print the configuration as it was understood
    #[arg(short = 'P', long, group = "instead-of-running")]
    print_parsed_config: bool,
    /// Check the configuration and the files that it names, and exit
    #[arg(long, group = "instead-of-running")]
    check_config: bool,
    /// Print the version
    #[arg(short, short_alias = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

fn command(app: App) -> Command {
    Arguments::command()
        .name(app.name)
        .version(app.version)
        .about(app.about)
        .after_help(app.after_help)
}

fn act<C: Config>(
    app: App,
    arguments: &Arguments,
    start: impl FnOnce(C) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if arguments.print_config {
        return print(&to_documented_toml(&C::default()));
    }

    let path = arguments.config.as_deref();
    let file = path.map_or("the default configuration".into(), Path::to_string_lossy);
    let text = path.map_or_else(|| Ok(String::new()), read)?;
    if arguments.check_config {
        return check::<C>(&file, &text);
    }

    let loaded = load::<C>(&text).map_err(|error| unusable(&file, &error))?;
    if arguments.print_parsed_config {
        tell(&file, &loaded.warnings);
        return print(&to_documented_toml(&loaded.config));
    }

    // The log has a thread of its own.
    sandbox::renounce();
    logging::init(loaded.config.log_level());
    log::info!("{} {} starts with {file}", app.name, app.version);
    // Keys whose meaning has changed concern those most who log least: 0.9 logged errors only.
    for warning in &loaded.warnings {
        logging::advise(&format!("{file}: {warning}"));
    }
    for advice in &loaded.advice {
        log::warn!("{file}: {advice}");
    }
    start(loaded.config)
}

/// Says everything that there is to say about a file, which is an error if it cannot be used.
fn check<C: Config>(file: &str, text: &str) -> anyhow::Result<()> {
    let Inspection {
        warnings,
        advice,
        not_looked_at,
        problems,
    } = inspect::<C>(text);
    tell(file, &warnings);
    tell(file, &advice);
    for what in not_looked_at {
        logging::tell(&format!("{file}: not looked at: {what}"));
    }
    if problems.is_empty() {
        print(&format!("{file}: OK\n"))
    } else {
        Err(unusable(file, &ConfigError { problems }))
    }
}

/// On standard error, since there is no log.
fn tell(file: &str, warnings: &[String]) {
    for warning in warnings {
        logging::tell(&format!("{file}: {warning}"));
    }
}

fn unusable(file: &str, error: &ConfigError) -> anyhow::Error {
    let problems = error.to_string().replace('\n', "\n  ");
    anyhow!("cannot use the configuration file {file}:\n  {problems}")
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => anyhow!("it is not UTF-8 text: save it as UTF-8"),
            _ => error.into(),
        })
        .with_context(|| format!("cannot read the configuration file {}", path.display()))
}

/// A file without a flag is the configuration, as other programs take it.
fn with_hint(app: App, mut error: clap::Error) -> clap::Error {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) if error.kind() == ErrorKind::UnknownArgument => {
            argument
        }
        _ => return error,
    };
    if !argument.starts_with('-') {
        let hint = format!(
            "to run with this configuration file, write '{} -c {argument}'",
            app.name
        );
        let hint = ContextValue::StyledStrs(vec![StyledStr::from(hint)]);
        error.insert(ContextKind::Suggested, hint);
    }
    error
}

/// Unlike `print!`, does not panic if the reader has gone away.
fn print(text: &str) -> anyhow::Result<()> {
    io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_do_not_collide() {
        command(App {
            name: "test",
            version: "1",
            about: "",
            after_help: "",
        })
        .debug_assert();
    }
}
