//! Files of an operator's that the daemon rewrites: those of an editor's, too.
//!
//! Such a file is somebody's: it keeps its owner, its group and its mode, and what somebody else
//! has put into it since the daemon read it is not lost. The daemon that wants to change the file
//! gives the [`Version`] that it has read, and gets the file's contents and a place for the new
//! ones; whether the file is still that version is looked at once more right before it is replaced.
//! Only a program that writes to the open file in the instant of the rename, or puts a file of its
//! own in that place then, is not noticed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use nix::fcntl::OFlag;

use crate::replace_file::{Replacement, folder_of};

/// Which of the files that had the name over the time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

/// A file that is being rewritten. It is as it was unless this is [finished](Self::finish).
#[derive(Debug)]
pub struct Rewrite {
    path: PathBuf,
    old: fs::Metadata,
    new: Replacement,
}

/// A file that has been rewritten.
#[derive(Debug)]
pub struct Rewritten {
    /// Which file it is now.
    pub version: Version,
    /// What an operator should know: the file is there, but not all about it is as it was.
    pub warning: Option<String>,
}

/// Why a file is as it was.
#[derive(Debug)]
pub enum RewriteError {
    /// It is not the version that the daemon has read: somebody would lose what they have changed.
    HasChanged,
    /// It cannot be read or written; says why, and names the file.
    Failed(anyhow::Error),
}

impl Version {
    /// Of an open file; none of what is no regular file, whose versions cannot be told apart.
    #[must_use]
    pub fn of(metadata: &fs::Metadata) -> Option<Self> {
        metadata.is_file().then(|| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

impl From<anyhow::Error> for RewriteError {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl Rewrite {
    /// Opens the file at its beginning, and a place for its new contents. Waits for nobody,
    /// whatever is at the path.
    ///
    /// # Errors
    /// If it is not what was `read`, no regular file, or cannot be opened; or if nothing can be
    /// created beside it.
    pub fn begin(path: &Path, read: Option<Version>) -> Result<(File, Self), RewriteError> {
        let name = path.display();
        let (file, old) = open(path)?;
        if Version::of(&old) != read {
            return Err(RewriteError::HasChanged);
        }
        // Nobody else reads what is not yet known to be theirs.
        let new = Replacement::create_private(path)
            .with_context(|| format!("cannot write {name} anew"))?;
        let path = path.to_owned();
        Ok((file, Self { path, old, new }))
    }

    /// Writes more of the new contents.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, contents: &[u8]) -> Result<(), RewriteError> {
        Ok(self.new.append(contents)?)
    }

    /// Puts the new contents in the place of the old ones, with the rights of the old ones.
    ///
    /// # Errors
    /// If the old file is not what it was when this began, the new contents are not all on the
    /// disk, or the file cannot be replaced.
    pub fn finish(self) -> Result<Rewritten, RewriteError> {
        let Self { path, old, new } = self;
        let name = path.display();
        let lost = give(new.file(), &old)
            .with_context(|| format!("cannot give the new {name} the mode that the file has"))?;
        let mut has_changed = false;
        let mut version = None;
        let finished = new.finish_if(|new| {
            // What somebody writes as soon as it has the name is not in this.
            version = new.metadata().ok().and_then(|it| Version::of(&it));
            has_changed = !is_unchanged(&path, &old);
            !has_changed && version.is_some()
        });
        if has_changed {
            return Err(RewriteError::HasChanged);
        }
        finished?;
        let version = version.with_context(|| format!("cannot look at the new {name}"))?;
        // Not before this does the new name survive a power failure. Some file systems cannot.
        let folder = folder_of(&path);
        let folder_is_safe = File::open(folder).and_then(|folder| folder.sync_all());
        let unsafe_folder = folder_is_safe.err().map(|error| {
            let folder = folder.display();
            format!("a power failure may bring the old file back: cannot sync {folder}: {error}")
        });
        let warnings: Vec<_> = lost.into_iter().chain(unsafe_folder).collect();
        let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
        Ok(Rewritten { version, warning })
    }
}

/// A pipe is opened without waiting for its writer, and refused.
fn open(path: &Path) -> anyhow::Result<(File, fs::Metadata)> {
    let name = path.display();
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY;
    let mut options = OpenOptions::new();
    let opened = options.read(true).custom_flags(flags.bits()).open(path);
    // A link would be replaced by a file.
    let special = || anyhow!("cannot replace {name}: it is a link or no regular file");
    let file = match opened {
        Err(_) if fs::symlink_metadata(path).is_ok_and(|it| !it.is_file()) => return Err(special()),
        opened => opened.with_context(|| format!("cannot open {name}"))?,
    };
    let metadata = file.metadata();
    let metadata = metadata.with_context(|| format!("cannot look at {name}"))?;
    if metadata.is_file() {
        Ok((file, metadata))
    } else {
        Err(special())
    }
}

/// Whether the file at the path is still the one that was opened, and nobody has touched it: of a
/// program that sets the time of the last change back, the time of that remains. (Before Linux 6.13
/// times are those of the last tick, some milliseconds ago, in which nothing is told apart.)
fn is_unchanged(path: &Path, old: &fs::Metadata) -> bool {
    let touched = |it: &fs::Metadata| (it.ctime(), it.ctime_nsec());
    let found = fs::symlink_metadata(path);
    found.is_ok_and(|it| Version::of(&it) == Version::of(old) && touched(&it) == touched(old))
}

/// Gives the new file the owner, the group and the mode of the old one. Returns what of it the
/// daemon may not give.
fn give(new: &File, old: &fs::Metadata) -> io::Result<Option<String>> {
    let own = new.metadata()?;
    let keeps_owner = own.uid() == old.uid() || fchown(new, Some(old.uid()), None).is_ok();
    let keeps_group = own.gid() == old.gid() || fchown(new, None, Some(old.gid())).is_ok();
    let mode = mode_of_new(old.mode(), keeps_owner, keeps_group);
    new.set_permissions(Permissions::from_mode(mode))?;
    let lost = match (keeps_owner, keeps_group) {
        (true, true) => return Ok(None),
        (false, true) => format!("owner {}", old.uid()),
        (true, false) => format!("group {}", old.gid()),
        (false, false) => format!("owner {} and its group {}", old.uid(), old.gid()),
    };
    let own = format!("{}:{}", own.uid(), own.gid());
    Ok(Some(format!(
        "the file has lost its {lost}: the tracker runs as {own} and may not give files away; its \
         mode is {mode:o}"
    )))
}

/// The mode of the new file: what it grants to a group is granted to no other one, beyond what all
/// users have, and the daemon itself reads the file again.
fn mode_of_new(old: u32, keeps_owner: bool, keeps_group: bool) -> u32 {
    let mut mode = old & 0o777;
    if !keeps_owner {
        mode |= 0o400;
    }
    if !keeps_group {
        mode &= 0o707 | (mode & 0o007) << 3;
    }
    mode
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::thread;
    use std::time::Duration;

    use nix::sys::stat::Mode;
    use nix::unistd::{Uid, mkfifo};

    use super::*;

    fn version(path: &Path) -> Option<Version> {
        Version::of(&fs::metadata(path).unwrap())
    }

    fn failure(path: &Path, read: Option<Version>) -> String {
        match Rewrite::begin(path, read).unwrap_err() {
            RewriteError::Failed(error) => format!("{error:#}"),
            RewriteError::HasChanged => "has changed".to_owned(),
        }
    }

    #[test]
    fn a_file_is_rewritten_with_its_rights() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        fs::write(&path, "old").unwrap();
        let owner = if Uid::effective().is_root() {
            fchown(File::open(&path).unwrap(), Some(4_321), Some(4_322)).unwrap();
            (4_321, 4_322)
        } else {
            let own = fs::metadata(&path).unwrap();
            (own.uid(), own.gid())
        };
        // No usual umask would leave that.
        fs::set_permissions(&path, Permissions::from_mode(0o662)).unwrap();
        let (mut old, mut rewrite) = Rewrite::begin(&path, version(&path)).unwrap();
        let mut text = String::new();
        old.read_to_string(&mut text).unwrap();
        rewrite.append(text.as_bytes()).unwrap();
        rewrite.append(b" and new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        let rewritten = rewrite.finish().unwrap();
        assert_eq!(rewritten.warning, None);
        assert_eq!(Some(rewritten.version), version(&path));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old and new");
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid()), owner);
        assert_eq!(found.mode() & 0o7777, 0o662);
    }

    #[test]
    fn what_somebody_changes_meanwhile_is_not_lost() {
        type Edit = (&'static str, fn(&Path));
        let edits: [Edit; 5] = [
            ("appended", |path| {
                fs::write(path, "old and theirs").unwrap()
            }),
            ("the same size, an old time", |path| {
                let before = fs::metadata(path).unwrap().modified().unwrap();
                fs::write(path, "odd").unwrap();
                let file = OpenOptions::new().write(true).open(path).unwrap();
                file.set_modified(before).unwrap();
            }),
            ("another file", |path| {
                let aside = path.with_extension("new");
                fs::write(&aside, "new").unwrap();
                fs::rename(&aside, path).unwrap();
            }),
            ("gone", |path| fs::remove_file(path).unwrap()),
            ("a link", |path| {
                fs::rename(path, path.with_extension("target")).unwrap();
                symlink("list.target", path).unwrap();
            }),
        ];
        for (what, edit) in edits {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("list");
            fs::write(&path, "old").unwrap();
            let (_, mut rewrite) = Rewrite::begin(&path, version(&path)).unwrap();
            rewrite.append(b"ours").unwrap();
            // More than a tick of any kernel's clock.
            thread::sleep(Duration::from_millis(20));
            edit(&path);
            let found = fs::read_to_string(&path).ok();
            let error = rewrite.finish().unwrap_err();
            assert!(
                matches!(error, RewriteError::HasChanged),
                "{what}: {error:?}"
            );
            assert_eq!(fs::read_to_string(&path).ok(), found, "{what}");
            assert!(!folder.path().join("list.partial").exists(), "{what}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        assert!(failure(&path, None).contains("No such file"));
        fs::write(&path, "old").unwrap();
        let read = version(&path);
        assert_eq!(failure(&path, None), "has changed");
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        let reason = format!(
            "cannot replace {}: it is a link or no regular file",
            path.display()
        );
        symlink("elsewhere", &path).unwrap();
        assert_eq!(failure(&path, read), reason);
        fs::remove_file(&path).unwrap();
        // To which nobody will ever write.
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        assert_eq!(failure(&path, read), reason);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(failure(&path, read), reason);
    }

    #[test]
    fn another_group_gets_no_rights_of_the_old_one() {
        for (old, keeps_owner, keeps_group, expected) in [
            (0o100_640, true, true, 0o640),
            (0o100_640, false, true, 0o640),
            (0o100_640, true, false, 0o600),
            (0o100_664, false, false, 0o644),
            (0o100_040, false, true, 0o440),
            (0o104_777, true, false, 0o777),
            (0o100_604, true, false, 0o604),
        ] {
            let mode = mode_of_new(old, keeps_owner, keeps_group);
            assert_eq!(mode, expected, "{old:o} {keeps_owner} {keeps_group}");
        }
    }
}
