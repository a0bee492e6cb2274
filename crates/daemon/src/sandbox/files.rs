//! Which files can be opened: Landlock rules (landlock(7)).
//!
//! Rules are about folders, with all that is below, since a file may be replaced by another one of
//! the same name. A path
//! through symbolic links gets two: the folder where its name is, for a link that is changed, and
//! the one where the file is. Certificates of certbot are in a third one after a renewal only if
//! somebody has moved the archive.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus,
};

use super::Needs;
use crate::replace_file::folder_of;
use crate::supervisor::Supervisor;

/// The newest version that is made use of; what the kernel does not know of it is left out.
const VERSION: ABI = ABI::V5;

/// What the daemon reads about itself, for metrics.
const OWN_PROCESS: &str = "/proc/self";

/// From now on only what is needed can be opened, by any thread.
///
/// # Errors
/// If the kernel cannot do it, with the reason.
pub(super) fn confine(needs: &Needs, supervisor: &Supervisor) -> anyhow::Result<()> {
    let ruleset = ruleset(needs)?;
    let failure = Arc::new(Mutex::new(None));
    let failure_in_thread = Arc::clone(&failure);
    supervisor.in_all_threads(move || {
        if let Err(reason) = restrict(&ruleset) {
            let mut failure = failure_in_thread
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *failure = Some(reason);
        }
    });
    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
    failure.take().map_or(Ok(()), Err)
}

fn ruleset(needs: &Needs) -> anyhow::Result<RulesetCreated> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(VERSION))?
        .handle_access(AccessNet::from_all(VERSION))?
        .create()?;
    let reads = AccessFs::ReadFile | AccessFs::ReadDir;
    let replaces = AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::RemoveFile
        | AccessFs::ReadDir;
    let mut rules: Vec<(PathBuf, BitFlags<AccessFs>)> = vec![(OWN_PROCESS.into(), reads)];
    for file in &needs.reads {
        rules.extend(folders_of(file).map(|folder| (folder, reads)));
    }
    for file in &needs.reads_in_place {
        rules.push((file.clone(), AccessFs::ReadFile.into()));
    }
    for file in &needs.replaces {
        let folder = folder_of(file);
        // It could not be done later: to make it is allowed in no folder. If this fails, that is
        // told when the file is to be written.
        let _ = fs::create_dir_all(folder);
        rules.push((folder.to_owned(), replaces));
    }
    for (folder, access) in rules {
        // What does not exist, as `/proc` in another root directory, cannot be opened anyway.
        if let Ok(opened) = PathFd::new(&folder) {
            ruleset = ruleset
                .add_rule(PathBeneath::new(opened, access))
                .with_context(|| format!("cannot allow {}", folder.display()))?;
        }
    }
    for folder in &needs.removes {
        ruleset = ruleset
            .add_rule(PathBeneath::new(&**folder, AccessFs::RemoveFile))
            .context("cannot allow what is removed at the end")?;
    }
    for port in &needs.connects {
        ruleset = ruleset
            .add_rule(NetPort::new(*port, AccessNet::ConnectTcp))
            .with_context(|| format!("cannot allow connections to port {port}"))?;
    }
    Ok(ruleset)
}

/// Whether there is a file directly in the root directory: all folders are below that.
pub(super) fn allow_everything(needs: &Needs) -> bool {
    let replaced = needs.replaces.iter().map(|file| folder_of(file).to_owned());
    let read = needs.reads.iter().flat_map(|file| folders_of(file));
    let is_root = |folder: PathBuf| fs::canonicalize(folder).is_ok_and(|it| it == Path::new("/"));
    read.chain(replaced).any(is_root)
}

/// The folder in which a file's name is, and the one in which the file is now.
fn folders_of(file: &Path) -> impl Iterator<Item = PathBuf> {
    let resolved = fs::canonicalize(file).ok();
    let own = folder_of(file).to_owned();
    [Some(own), resolved.map(|file| folder_of(&file).to_owned())]
        .into_iter()
        .flatten()
}

/// Restricts this thread, and those that it will start.
fn restrict(ruleset: &RulesetCreated) -> anyhow::Result<()> {
    let ruleset = ruleset.try_clone().context("cannot share the rules")?;
    match ruleset.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        RulesetStatus::PartiallyEnforced => {
            log::debug!("the kernel knows some of the Landlock rules only");
            Ok(())
        }
        RulesetStatus::NotEnforced => {
            bail!("this kernel cannot: Linux 5.13 or newer can, with `landlock` among its LSMs")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_root_directory_allows_everything() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("list");
        let reads = |file: &Path| Needs {
            reads: vec![file.to_owned()],
            ..Needs::default()
        };
        assert!(!allow_everything(&reads(&own)));
        assert!(allow_everything(&reads(Path::new("/list"))));
        assert!(allow_everything(&Needs {
            replaces: vec!["/export".into()],
            ..Needs::default()
        }));
        std::os::unix::fs::symlink("/", folder.path().join("link")).unwrap();
        assert!(allow_everything(&reads(&folder.path().join("link/list"))));
    }
}
