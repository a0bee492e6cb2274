//! Writes what is read beside the programs: man pages, completions for shells, and the reference of
//! configuration keys.
//!
//! All of it comes from what the programs say of themselves: their flags, and the comments and
//! defaults of their configuration. It is a program of its own, so that the trackers do not carry
//! what makes pages.
//!
//! ```sh
//! cargo run -p aquatic_pages -- all target/pages
//! cargo run -p aquatic_pages -- reference documents/configuration.md
//! ```
//!
//! | module | contents |
//! |---|---|
//! | [`programs`] | all programs, and what they say of themselves |
//! | [`manual`] | `aquatic_udp.8`: how a program is called |
//! | [`settings`] | `aquatic_udp.toml.5`: its configuration file |
//! | [`mod@reference`] | `configuration.md`: the keys of the whole family on one page |

#![forbid(unsafe_code)]

mod manual;
mod programs;
mod reference;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use clap_complete::Shell;

use programs::Program;

/// Writes man pages, completions and the reference of configuration keys.
#[derive(Parser)]
enum Arguments {
    /// Write man pages, completions and the reference into a folder
    All {
        /// Made if it does not exist
        folder: PathBuf,
    },
    /// Write the reference
    Reference {
        /// Replaced if it exists
        file: PathBuf,
    },
}

/// The shells whose completions are written. A name with which each finds that of a program.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash"),
    (Shell::Zsh, "zsh"),
    (Shell::Fish, "fish"),
];

fn main() -> anyhow::Result<()> {
    match Arguments::parse() {
        Arguments::All { folder } => write_all(&folder),
        Arguments::Reference { file } => write(&file, reference::render(&programs::trackers())),
    }
}

fn write_all(folder: &Path) -> anyhow::Result<()> {
    let trackers = programs::trackers();
    for program in trackers.iter().chain(&programs::load_testers()) {
        write_pages(program, &folder.join("man"))?;
        write_completions(program, &folder.join("completions"))?;
    }
    write(
        &folder.join("configuration.md"),
        reference::render(&trackers),
    )
}

fn write_pages(program: &Program, folder: &Path) -> anyhow::Result<()> {
    for (name, page) in manual::pages(program) {
        write(&folder.join(name), page)?;
    }
    let name = format!("{}.toml.5", program.name());
    write(&folder.join(name), settings::page(program))
}

fn write_completions(program: &Program, folder: &Path) -> anyhow::Result<()> {
    for (shell, name) in SHELLS {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut command = program.command.clone();
        clap_complete::generate_to(shell, &mut command, program.name(), &folder)
            .with_context(|| format!("cannot write into {}", folder.display()))?;
    }
    Ok(())
}

fn write(path: &Path, text: String) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn documents() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../documents")
    }

    #[test]
    fn the_reference_in_the_documents_is_that_of_the_code() {
        let page = fs::read_to_string(documents().join("configuration.md")).unwrap();
        assert!(
            page == reference::render(&programs::trackers()),
            "`cargo run -p aquatic_pages -- reference documents/configuration.md` writes it anew"
        );
    }

    #[test]
    fn there_is_a_page_for_each_program_and_each_configuration() {
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path()).unwrap();
        for name in [
            "man/aquatic.8",
            "man/aquatic-serve.8",
            "man/aquatic.toml.5",
            "man/aquatic_udp.8",
            "man/aquatic_udp.toml.5",
            "man/aquatic_ws_load_test.1",
            "man/aquatic_ws_load_test.toml.5",
            "completions/bash/aquatic_http.bash",
            "completions/zsh/_aquatic",
            "completions/fish/aquatic_ws.fish",
            "configuration.md",
        ] {
            let text = fs::read_to_string(folder.path().join(name)).expect(name);
            assert!(text.len() > 500, "{name}: {text}");
            if let Some(title) = text.lines().find(|line| line.starts_with(".TH ")) {
                assert!(title.contains(" \"\" \"aquatic "), "{name}: {title}");
            }
        }
    }

    /// What makes pages of them has nothing to say against any.
    #[test]
    fn pages_are_as_groff_wants_them() {
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path()).unwrap();
        let mut pages = 0;
        for entry in fs::read_dir(folder.path().join("man")).unwrap() {
            let mut groff = Command::new("groff");
            groff.args(["-man", "-ww", "-z", "-Tutf8", "-Kutf8"]);
            let output = groff.arg(entry.unwrap().path()).output();
            let output = output.expect("groff (Debian package groff-base)");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{said}");
            pages += 1;
        }
        assert!(pages >= 15, "{pages}");
    }

    /// Where there are flags, a shell that reads the file offers them.
    #[test]
    fn bash_offers_flags() {
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path()).unwrap();
        let file = folder.path().join("completions/bash/aquatic_udp.bash");
        let script = format!(
            "source {}; COMP_WORDS=(aquatic_udp --check); COMP_CWORD=1; \
             _aquatic_udp aquatic_udp --check aquatic_udp; echo ${{COMPREPLY[@]}}",
            file.display()
        );
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim(), "--check-config", "{output:?}");
    }
}
