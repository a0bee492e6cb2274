//! How a program is called, as a man page.

use clap::Command;
use clap_mangen::Man;
use roff::{Roff, bold, roman};

use crate::programs::Program;

const EXIT_CODES: [(&str, &str); 3] = [
    (
        "0",
        "It was stopped by SIGTERM or SIGINT, or only had to print or check something, and that \
         succeeded.",
    ),
    (
        "1",
        "Anything else: a file that cannot be used, an address that cannot be bound, a worker that \
         ended. The log has the reason.",
    ),
    ("2", "The arguments are wrong."),
];

/// The pages of a program and of what it can be told to be, with the names of their files.
pub(crate) fn pages(program: &Program) -> Vec<(String, String)> {
    // Without the command `help`, which would have a page of its own.
    let mut command = program.command.clone().disable_help_subcommand(true);
    command.build();
    let section = program.manual_section;
    let mut pages = vec![page(program, command.clone())];
    let inner = command.get_subcommands();
    pages.extend(inner.map(|inner| page(program, inner.clone())));
    pages
        .into_iter()
        .map(|(name, page)| (format!("{name}.{section}"), page))
        .collect()
}

fn page(program: &Program, command: Command) -> (String, String) {
    // `aquatic-serve` for a command of `aquatic`.
    let name = command.get_display_name().unwrap_or(command.get_name());
    let name = name.to_owned();
    let version = format!("aquatic {}", command.get_version().unwrap_or_default());
    let signals = command.get_after_help().map(ToString::to_string);
    let has_commands = command.has_subcommands();
    let man = Man::new(command.after_help(""))
        .section(program.manual_section)
        .source(version)
        .manual("BitTorrent trackers");
    let mut bytes = Vec::new();
    // To write into memory does not fail.
    let _ = man.render_title(&mut bytes);
    let _ = man.render_name_section(&mut bytes);
    let _ = man.render_synopsis_section(&mut bytes);
    let _ = man.render_options_section(&mut bytes);
    if has_commands {
        let _ = man.render_subcommands_section(&mut bytes);
    }
    let page = String::from_utf8_lossy(&bytes).into_owned();
    let mut page = with_empty_date(page, program.manual_section);
    if let Some(signals) = signals.and_then(|help| signals_of(&help)) {
        page += &signals.to_roff();
    }
    page += &rest(program).to_roff();
    (name, page)
}

/// A page has no date, since the same code makes the same page; but its place in the title must not
/// be taken by what follows.
pub(crate) fn with_empty_date(page: String, section: &str) -> String {
    page.replacen(
        &format!(" {section}  \""),
        &format!(" {section} \"\" \""),
        1,
    )
}

/// The list of signals, which `--help` shows as indented lines.
fn signals_of(help: &str) -> Option<Roff> {
    let mut roff = Roff::new();
    let lines = help.strip_prefix("Signals:\n")?;
    roff.control("SH", ["SIGNALS"]);
    roff.control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    Some(roff)
}

fn rest(program: &Program) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_CODES {
        roff.control("TP", []);
        roff.text([bold(code)]);
        roff.text([roman(meaning)]);
    }
    roff.control("SH", ["FILES"]);
    roff.control("TP", []);
    let name = program.name();
    roff.text([bold(format!("/etc/aquatic/{name}.toml"))]);
    let packaged = "The configuration file of Debian's package. The program itself reads the file \
                    that is named by --config, and otherwise none.";
    roff.text([roman(packaged)]);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold(format!("{name}.toml")), roman("(5)")]);
    roff
}
