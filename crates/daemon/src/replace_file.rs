//! Files that are replaced as a whole.
//!
//! Whoever opens the path gets the old contents or the new ones, never a part of them, even after a
//! power failure: the new contents are written beside the file, under its name with `.partial`
//! behind it, and renamed when they are complete.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use nix::unistd::AccessFlags;
#[cfg(not(target_vendor = "apple"))]
use nix::unistd::eaccess as may_access;

/// New contents for a file. They disappear again unless they are [finished](Self::finish).
#[derive(Debug)]
pub struct Replacement {
    path: PathBuf,
    partial_path: PathBuf,
    file: BufWriter<File>,
    is_finished: bool,
}

impl Replacement {
    /// Begins with nothing. The folder is created if it is missing.
    ///
    /// What an earlier process has left unfinished is removed; a link of that name is not followed.
    ///
    /// # Errors
    /// If the folder or the file cannot be created.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        Self::create_with(path, 0o666)
    }

    /// The same, for what only the user of the daemon may read.
    ///
    /// # Errors
    /// If the folder or the file cannot be created.
    pub fn create_private(path: &Path) -> anyhow::Result<Self> {
        Self::create_with(path, 0o600)
    }

    fn create_with(path: &Path, mode: u32) -> anyhow::Result<Self> {
        let folder = folder_of(path);
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        let mut partial_path = OsString::from(path);
        partial_path.push(".partial");
        let partial_path = PathBuf::from(partial_path);
        let file = create_anew(&partial_path, mode)
            .with_context(|| format!("cannot create {}", partial_path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            partial_path,
            file: BufWriter::new(file),
            is_finished: false,
        })
    }

    /// Writes more.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, contents: &[u8]) -> anyhow::Result<()> {
        self.file
            .write_all(contents)
            .with_context(|| format!("cannot write to {}", self.partial_path.display()))
    }

    /// Puts the contents in the place of the old ones.
    ///
    /// # Errors
    /// If they are not all on the disk, or the file cannot be replaced.
    pub fn finish(self) -> anyhow::Result<()> {
        self.finish_if(|_| true).map(drop)
    }

    /// Where the new contents are.
    pub(crate) fn file(&self) -> &File {
        self.file.get_ref()
    }

    /// The same, but if at the very end, when only the name is missing, the old contents must not
    /// be replaced by the new file, everything is as it was.
    pub(crate) fn finish_if(
        mut self,
        may_replace: impl FnOnce(&File) -> bool,
    ) -> anyhow::Result<()> {
        let partial_path = self.partial_path.display();
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .with_context(|| format!("cannot write to {partial_path}"))?;
        ensure!(
            is_at(self.file.get_ref(), &self.partial_path),
            "{partial_path} is no longer what was written: another program writes it, too"
        );
        ensure!(
            may_replace(self.file.get_ref()),
            "{} must not be replaced",
            self.path.display()
        );
        fs::rename(&self.partial_path, &self.path)
            .with_context(|| format!("cannot rename {partial_path} to {}", self.path.display()))?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_finished && is_at(self.file.get_ref(), &self.partial_path) {
            // It is removed at the next try, if not now.
            let _ = fs::remove_file(&self.partial_path);
        }
    }
}

/// Replaces a file by `contents`. The folder is created if it is missing.
///
/// # Errors
/// If any of it fails; the file is as it was then.
pub fn replace(path: &Path, contents: &[u8]) -> anyhow::Result<()> {
    let mut replacement = Replacement::create(path)?;
    replacement.append(contents)?;
    replacement.finish()
}

/// Whether a file could be replaced, as far as that can be told without doing it: its folder can be
/// written to, or created.
///
/// # Errors
/// The reason, if it could not.
pub fn check(path: &Path) -> anyhow::Result<()> {
    ensure!(!path.as_os_str().is_empty(), "must name a file");
    ensure!(!path.is_dir(), "{} is a folder", path.display());
    let folder = folder_of(path);
    for existing in folder.ancestors() {
        let existing = if existing.as_os_str().is_empty() {
            Path::new(".")
        } else {
            existing
        };
        match fs::metadata(existing) {
            Ok(metadata) if metadata.is_dir() => return check_writable(existing),
            Ok(_) => bail!("{} is not a folder", existing.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let folder = existing.display();
                return Err(error).with_context(|| format!("cannot look at the folder {folder}"));
            }
        }
    }
    bail!("there is no folder {}", folder.display())
}

/// Apple's systems have no eaccess(3).
#[cfg(target_vendor = "apple")]
fn may_access(path: &Path, flags: AccessFlags) -> nix::Result<()> {
    use nix::fcntl::{AT_FDCWD, AtFlags};
    nix::unistd::faccessat(AT_FDCWD, path, flags, AtFlags::AT_EACCESS)
}

fn check_writable(folder: &Path) -> anyhow::Result<()> {
    may_access(folder, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(io::Error::from)
        .with_context(|| format!("cannot write to the folder {}", folder.display()))
}

/// Of a file without one, it is the working directory.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => Path::new("/"),
    }
}

/// A file that did not exist before.
fn create_anew(path: &Path, mode: u32) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
}

/// Whether the path leads to this very file.
fn is_at(file: &File, path: &Path) -> bool {
    let found = fs::symlink_metadata(path).ok();
    let own = file.metadata().ok();
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    found.is_some() && found.map(identity) == own.map(identity)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_its_folder_created() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/deep/page.html");
        check(&path).unwrap();
        assert_eq!(
            names(folder.path()),
            [""; 0],
            "a check leaves nothing behind"
        );
        replace(&path, b"first").unwrap();
        let mut replacement = Replacement::create(&path).unwrap();
        replacement.append(b"2n").unwrap();
        replacement.append(b"d").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        replacement.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2nd");
        assert_eq!(names(path.parent().unwrap()), ["page.html"]);
    }

    #[test]
    fn what_is_not_finished_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        let mut replacement = Replacement::create(&path).unwrap();
        replacement.append(b"a part").unwrap();
        assert_eq!(names(folder.path()), ["page.partial"]);
        drop(replacement);
        assert_eq!(names(folder.path()), [""; 0]);

        // A process that was killed could not do so.
        fs::write(folder.path().join("page.partial"), "rest").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(names(folder.path()), ["page"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn what_cannot_be_replaced_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), "").unwrap();
        let error = format!("{:#}", replace(&path, b"new").unwrap_err());
        assert!(error.contains("cannot rename"), "{error}");
        assert_eq!(names(folder.path()), ["page"]);
    }

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let [precious, path, partial] =
            ["precious", "page", "page.partial"].map(|name| folder.path().join(name));
        fs::write(&precious, "keep me").unwrap();
        symlink(&precious, &partial).unwrap();
        symlink(&precious, &path).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "keep me");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn two_writers_of_one_file_notice_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        let mut first = Replacement::create(&path).unwrap();
        first.append(b"whole").unwrap();
        let second = Replacement::create(&path).unwrap();
        let error = first.finish().unwrap_err().to_string();
        assert!(error.contains("another program writes it"), "{error}");
        assert!(!path.exists());
        second.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }

    #[test]
    fn what_could_not_be_written_is_told_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let (file, folder) = (file.display(), folder.path().display());
        for (path, reason) in [
            (String::new(), "must name a file".to_owned()),
            (format!("{folder}"), format!("{folder} is a folder")),
            (format!("{file}/page"), format!("{file} is not a folder")),
            (
                format!("{file}/a/page"),
                format!("cannot look at the folder {file}/a: Not a directory (os error 20)"),
            ),
        ] {
            let error = check(Path::new(&path)).unwrap_err();
            assert_eq!(format!("{error:#}"), reason);
        }
        check(Path::new("page.html")).unwrap();
        check(Path::new("new/page.html")).unwrap();
        let error = replace(Path::new(&format!("{file}/page")), b"").unwrap_err();
        let reason = format!("cannot create the folder {file}: File exists (os error 17)");
        assert_eq!(format!("{error:#}"), reason);
    }
}
