//! The source tree that is being tested: its folder, its crates, its programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, str};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The root of the workspace.
///
/// # Errors
/// When the folder is no longer where it was at compile time.
pub fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.join("../..");
    root.canonicalize()
        .with_context(|| format!("cannot find {}", root.display()))
}

/// One of the workspace's programs, up to date. The environment variable of that name in capitals
/// with `_BIN` behind it (`AQUATIC_UDP_BIN`) names another file to test, say a release build.
///
/// # Errors
/// When it cannot be built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let variable = format!("{}_BIN", name.to_uppercase());
    if let Some(path) = env::var_os(&variable) {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "{variable} names {}, which is no file",
            path.display()
        );
        return Ok(path);
    }
    // Cargo itself knows best whether the file is up to date, and where it is.
    let arguments = ["build", "--quiet", "--message-format=json", "--bin", name];
    let messages = cargo(&arguments)?;
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo built no program named {name}"))
}

/// What `cargo metadata` says about the workspace's own crates.
///
/// # Errors
/// When cargo fails.
pub fn metadata() -> Result<Value> {
    let text = cargo(&["metadata", "--no-deps", "--offline", "--format-version=1"])?;
    serde_json::from_str(&text).context("cannot read the answer of cargo metadata")
}

/// Cargo's target folder.
///
/// # Errors
/// When cargo fails.
pub fn target() -> Result<PathBuf> {
    let metadata = metadata()?;
    let target = metadata["target_directory"].as_str();
    let target = target.context("cargo metadata names no target folder")?;
    Ok(PathBuf::from(target))
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(root()?)
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("cargo {} failed: {reason}", arguments.join(" "));
    }
    String::from_utf8(output.stdout).context("cargo printed something that is no text")
}
