//! A temporary folder per test, which shows its logs when the test fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Lines of each log that a failed test prints: enough for the first announce to be among them.
const LOG_LINES_SHOWN: usize = 400;

/// A folder that is removed with the test. If the test is failing then, the last lines of every
/// `*.log` in it are printed first: a failure on somebody else's machine must explain itself.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    /// A new, empty folder.
    ///
    /// # Errors
    /// When the system's temporary folder cannot be written.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("aquatic-e2e-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        Ok(Self(dir))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Makes a folder in it.
    ///
    /// # Errors
    /// When it exists already, or cannot be made.
    pub fn make(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for entry in fs::read_dir(self.path()).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = fs::read(&path).unwrap_or_default();
                eprintln!("---- {}", path.display());
                eprintln!("{}", last_lines(&String::from_utf8_lossy(&log)));
            }
        }
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(LOG_LINES_SHOWN);
    lines.get(first..).unwrap_or_default().join("\n")
}
