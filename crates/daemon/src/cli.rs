//! The command line that all programs of the family share.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use aquatic_config::{Config, ConfigError, Inspection, inspect, load, to_documented_toml};
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, ArgGroup, Command, CommandFactory, FromArgMatches, Parser};

use crate::config_file::{self, ConfigFile};
use crate::health_check::HealthCheck;
use crate::reload::unusable;
use crate::{kept_sockets, logging, sandbox};

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
pub fn run<C: Config>(
    app: App,
    start: impl FnOnce(C, ConfigFile) -> anyhow::Result<()>,
) -> ExitCode {
    let matches = command(app).try_get_matches();
    match matches.and_then(|found| Arguments::from_arg_matches(&found)) {
        Ok(arguments) => end(app, act(app, &arguments, start).map(|()| ExitCode::SUCCESS)),
        Err(request_or_error) => refuse(app, request_or_error),
    }
}

/// The same for a daemon, which can also be asked whether it serves (`--health`).
pub fn run_daemon<C: HealthCheck>(
    app: App,
    start: impl FnOnce(C, ConfigFile) -> anyhow::Result<()>,
) -> ExitCode {
    let matches = daemon_command(app).try_get_matches();
    match matches.and_then(|found| DaemonArguments::from_arg_matches(&found)) {
        Ok(arguments) => end(app, act_as_daemon(app, &arguments, start)),
        Err(request_or_error) => refuse(app, request_or_error),
    }
}

type Act = Box<dyn FnOnce(&DaemonArguments) -> anyhow::Result<ExitCode>>;

/// One of several daemons that are in one binary.
pub struct Subcommand {
    name: &'static str,
    app: App,
    act: Act,
}

impl Subcommand {
    /// What [`run_daemon`] would do, if the first argument is `name`. `app` has the name with which
    /// the program is called, `aquatic udp` for instance.
    pub fn new<C: HealthCheck>(
        name: &'static str,
        app: App,
        start: impl FnOnce(C, ConfigFile) -> anyhow::Result<()> + 'static,
    ) -> Self {
        Self {
            name,
            app,
            act: Box::new(move |arguments| act_as_daemon(app, arguments, start)),
        }
    }

    fn command(&self) -> Command {
        daemon_command(self.app)
            .name(self.name)
            .bin_name(self.app.name)
    }
}

/// The whole `main` of a binary that holds several programs.
pub fn run_one_of(app: App, subcommands: Vec<Subcommand>) -> ExitCode {
    let matches = match command_of(app, &subcommands).try_get_matches() {
        Ok(matches) => matches,
        Err(request_or_error) => {
            return refuse(app, naming_a_program(&subcommands, request_or_error));
        }
    };
    let chosen = matches.subcommand().and_then(|(name, arguments)| {
        let chosen = subcommands.into_iter().find(|it| it.name == name)?;
        Some((chosen, DaemonArguments::from_arg_matches(arguments)))
    });
    match chosen {
        Some((chosen, Ok(arguments))) => end(chosen.app, (chosen.act)(&arguments)),
        Some((chosen, Err(error))) => refuse(chosen.app, error),
        // One is required.
        None => ExitCode::FAILURE,
    }
}

/// The command line of a binary that holds several programs.
#[must_use]
pub fn command_of(app: App, subcommands: &[Subcommand]) -> Command {
    Command::new(app.name)
        .version(app.version)
        .about(app.about)
        .after_help(app.after_help)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(subcommands.iter().map(Subcommand::command))
}

/// Prints what was asked for instead of running, or why that cannot be.
fn refuse(app: App, request_or_error: clap::Error) -> ExitCode {
    let request_or_error = with_hint(app, request_or_error);
    // Nobody is left to be told if this cannot be printed.
    let _ = request_or_error.print();
    u8::try_from(request_or_error.exit_code()).map_or(ExitCode::FAILURE, Into::into)
}

fn end(app: App, outcome: anyhow::Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => {
            logging::flush();
            code
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

/// What a daemon can be asked for.
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct DaemonArguments {
    #[command(flatten)]
    common: Arguments,
    /// Ask the program that runs with this configuration whether it serves, and exit
    #[arg(long, group = "instead-of-running")]
    health: bool,
}

/// The command line of a program.
#[must_use]
pub fn command(app: App) -> Command {
    described(Arguments::command(), app)
}

/// The command line of a daemon.
#[must_use]
pub fn daemon_command(app: App) -> Command {
    described(DaemonArguments::command(), app)
}

fn described(command: Command, app: App) -> Command {
    command
        .name(app.name)
        .version(app.version)
        .about(app.about)
        .after_help(app.after_help)
}

fn act_as_daemon<C: HealthCheck>(
    app: App,
    arguments: &DaemonArguments,
    start: impl FnOnce(C, ConfigFile) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    if arguments.health {
        return ask_for_health::<C>(arguments.common.config.as_deref());
    }
    act(app, &arguments.common, start).map(|()| ExitCode::SUCCESS)
}

fn act<C: Config>(
    app: App,
    arguments: &Arguments,
    start: impl FnOnce(C, ConfigFile) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if arguments.print_config {
        return print(&to_documented_toml(&C::default()));
    }

    let path = arguments.config.as_deref();
    let (file, text) = read(path)?;
    if arguments.check_config {
        return check::<C>(&file, &text);
    }

    let loaded = load::<C>(&text).map_err(|error| unusable(&file, &error))?;
    if arguments.print_parsed_config {
        tell(&file, &loaded.warnings);
        return print(&to_documented_toml(&loaded.config));
    }

    // The log has a thread of its own.
    kept_sockets::receive();
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
    start(loaded.config, ConfigFile::new(path))
}

/// Asks the daemon that runs with this file. Nothing else is said about the file.
fn ask_for_health<C: HealthCheck>(path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (file, text) = read(path)?;
    let loaded = load::<C>(&text).map_err(|error| unusable(&file, &error))?;
    let probe = loaded.config.probe();
    let probe = probe.with_context(|| format!("{file}: there is nothing to ask"))?;
    match probe.ask() {
        Ok(()) => {
            print(&format!("healthy: {probe}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            logging::tell(&format!("not healthy: {probe}: {why}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The name of the configuration for messages, and its text.
fn read(path: Option<&Path>) -> anyhow::Result<(Cow<'_, str>, String)> {
    let file = path.map_or("the default configuration".into(), Path::to_string_lossy);
    let text = path.map_or_else(|| Ok(String::new()), config_file::read)?;
    Ok((file, text))
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
    let notes = not_looked_at
        .iter()
        .map(|what| format!("{file}: not looked at: {what}"));
    if problems.is_empty() {
        notes.for_each(|note| logging::tell(&note));
        print(&format!("{file}: OK\n"))
    } else {
        // What is wrong comes first: the rest is of interest when that has been mended.
        let mut text = unusable(file, &ConfigError { problems }).to_string();
        notes.for_each(|note| text = format!("{text}\n{note}"));
        Err(anyhow!(text))
    }
}

/// On standard error, since there is no log.
fn tell(file: &str, warnings: &[String]) {
    for warning in warnings {
        logging::tell(&format!("{file}: {warning}"));
    }
}

/// A file without a flag is the configuration, as other programs take it.
fn with_hint(app: App, error: clap::Error) -> clap::Error {
    match unknown_argument(&error) {
        Some(argument) if !argument.starts_with('-') => {
            let hint = format!(
                "to run with this configuration file, write '{} -c {argument}'",
                app.name
            );
            with_suggestion(error, hint)
        }
        _ => error,
    }
}

/// A flag before the name of the program is meant for one of them.
fn naming_a_program(subcommands: &[Subcommand], error: clap::Error) -> clap::Error {
    let (Some(argument), Some(first)) = (unknown_argument(&error), subcommands.first()) else {
        return error;
    };
    let hint = format!(
        "say which program is meant, for example '{} {argument}'",
        first.app.name
    );
    with_suggestion(error, hint)
}

fn unknown_argument(error: &clap::Error) -> Option<&str> {
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(it) if error.kind() == ErrorKind::UnknownArgument => Some(it),
        _ => None,
    }
}

fn with_suggestion(mut error: clap::Error, hint: String) -> clap::Error {
    let hint = ContextValue::StyledStrs(vec![StyledStr::from(hint)]);
    error.insert(ContextKind::Suggested, hint);
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
        let app = App {
            name: "test",
            version: "1",
            about: "",
            after_help: "",
        };
        command(app).debug_assert();
        daemon_command(app).debug_assert();
    }
}
