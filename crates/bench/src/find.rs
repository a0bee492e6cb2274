//! Where programs are, and which version they have.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::trackers::{Protocol, Tracker};

/// The longest version that is shown, in characters.
const VERSION_MAX: usize = 60;

/// Folders in which programs are looked for.
#[derive(Clone, Debug)]
pub struct Folders {
    /// That of our own trackers and load testers.
    pub own: PathBuf,
    /// That of other trackers: `cargo install --root` and `npm install --prefix` make such.
    pub others: Option<PathBuf>,
}

impl Folders {
    /// The program of a tracker.
    ///
    /// # Errors
    /// Where it was looked for in vain.
    pub fn tracker(&self, tracker: &Tracker) -> Result<PathBuf, String> {
        let program = Path::new(&tracker.program);
        if program.components().count() > 1 {
            let missing = || format!("there is no file {}", program.display());
            return is_program(program)
                .then(|| program.to_owned())
                .ok_or_else(missing);
        }
        let mut folders = Vec::new();
        if !tracker.is_other {
            folders.push(self.own.clone());
        }
        if let Some(others) = &self.others {
            folders.push(others.clone());
            folders.push(others.join("bin"));
            folders.push(others.join("node_modules/.bin"));
        }
        // A program of that name on the path may be of any version, ours too.
        if !tracker.is_other {
            let path = env::var_os("PATH").unwrap_or_default();
            folders.extend(env::split_paths(&path));
        }
        let mut places = folders.iter().map(|folder| folder.join(program));
        places.find(|place| is_program(place)).ok_or_else(|| {
            let program = &tracker.program;
            match (tracker.is_other, &self.others) {
                (true, None) => format!("{program} 0.9 needs --trackers-dir"),
                (true, Some(others)) => format!("no {program} in {}", others.display()),
                (false, _) => format!(
                    "no {program} in {}, in --trackers-dir or on the path",
                    self.own.display()
                ),
            }
        })
    }

    /// The load tester of a protocol.
    ///
    /// # Errors
    /// If it is not beside our trackers.
    pub fn tester(&self, protocol: Protocol) -> anyhow::Result<PathBuf> {
        let place = self.own.join(protocol.tester());
        anyhow::ensure!(
            is_program(&place),
            "no {} in {}: cargo build --release -p aquatic_load_test, or name its folder with \
             --own-dir",
            protocol.tester(),
            self.own.display()
        );
        Ok(place)
    }
}

/// What a program says about its version: the first line that it prints.
#[must_use]
pub fn version(program: &Path, arguments: &[String]) -> String {
    if arguments.is_empty() {
        return "unknown version".to_owned();
    }
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).output();
    let Ok(output) = output else {
        return "unknown version".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty());
    let line: String = line.unwrap_or_default().chars().take(VERSION_MAX).collect();
    if line.is_empty() {
        "unknown version".to_owned()
    } else {
        line
    }
}

fn is_program(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tracker(program: &str, is_other: bool) -> Tracker {
        Tracker {
            program: program.to_owned(),
            is_other,
            ..Tracker::default()
        }
    }

    #[test]
    fn others_are_not_confused_with_ours() {
        let folder = tempfile::tempdir().unwrap();
        let (own, others) = (folder.path().join("own"), folder.path().join("others"));
        fs::create_dir_all(&own).unwrap();
        fs::create_dir_all(others.join("bin")).unwrap();
        fs::write(own.join("aquatic_x"), "").unwrap();
        let mut folders = Folders {
            own: own.clone(),
            others: None,
        };
        let ours = folders.tracker(&tracker("aquatic_x", false));
        assert_eq!(ours, Ok(own.join("aquatic_x")));
        let error = folders.tracker(&tracker("aquatic_x", true)).unwrap_err();
        assert!(error.contains("--trackers-dir"), "{error}");
        folders.others = Some(others.clone());
        let error = folders.tracker(&tracker("aquatic_x", true)).unwrap_err();
        assert!(error.contains("others"), "{error}");
        fs::write(others.join("bin/aquatic_x"), "").unwrap();
        let other = folders.tracker(&tracker("aquatic_x", true));
        assert_eq!(other, Ok(others.join("bin/aquatic_x")));
        assert!(
            folders.tracker(&tracker("sh", false)).is_ok(),
            "on the path"
        );
        let error = folders.tracker(&tracker("/no/where", false)).unwrap_err();
        assert!(error.contains("/no/where"), "{error}");
    }

    #[test]
    fn a_version_is_one_short_line() {
        let shell = Path::new("/bin/sh");
        let version_of = |script: &str| version(shell, &["-c".to_owned(), script.to_owned()]);
        assert_eq!(version_of("echo; echo nginx 1 >&2; echo more"), "more");
        assert_eq!(version_of("exit 1"), "unknown version");
        assert_eq!(version_of("printf %0100d 0").len(), VERSION_MAX);
        assert_eq!(
            version(Path::new("/no/where"), &["-v".to_owned()]),
            "unknown version"
        );
    }
}
