//! All programs of the family, and what they say of themselves.

use aquatic_config::{Section, SectionDescription, describe};
use aquatic_daemon::cli::{self, App};
use clap::Command;

/// What a program says of itself.
pub(crate) struct Program {
    /// The command line.
    pub(crate) command: Command,
    /// The section of the manual: 8 for daemons, 1 for what anybody may call.
    pub(crate) manual_section: &'static str,
    /// How the command line begins that prints the default configuration.
    pub(crate) prints: &'static str,
    /// All sections of its configuration.
    pub(crate) settings: Vec<SectionDescription>,
}

impl Program {
    fn new<C: Section>(app: App, command: Command, manual_section: &'static str) -> Self {
        Self {
            command,
            manual_section,
            prints: app.name,
            settings: describe(&C::default()),
        }
    }

    fn daemon<C: Section>(app: App) -> Self {
        Self::new::<C>(app, cli::daemon_command(app), "8")
    }

    fn tool<C: Section>(app: App) -> Self {
        Self::new::<C>(app, cli::command(app), "1")
    }

    /// Of the binary.
    pub(crate) fn name(&self) -> &str {
        self.command.get_name()
    }
}

/// The trackers.
pub(crate) fn trackers() -> Vec<Program> {
    vec![
        Program::daemon::<aquatic_udp::config::Config>(aquatic_udp::APP),
        Program::daemon::<aquatic_http::config::Config>(aquatic_http::APP),
        Program::daemon::<aquatic_ws::config::Config>(aquatic_ws::APP),
        Program {
            command: cli::command_of(aquatic::APP, &aquatic::commands()),
            manual_section: "8",
            prints: "aquatic serve",
            settings: describe(&aquatic::config::Config::default()),
        },
    ]
}

/// What puts load on trackers.
pub(crate) fn load_testers() -> Vec<Program> {
    use aquatic_load_test::{http, udp, ws};
    vec![
        Program::tool::<udp::config::LoadTestConfig>(udp::APP),
        Program::tool::<http::config::LoadTestConfig>(http::APP),
        Program::tool::<ws::config::LoadTestConfig>(ws::APP),
    ]
}
