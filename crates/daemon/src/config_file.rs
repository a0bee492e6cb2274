//! The configuration file, as far as it can be read again.
//!
//! It is opened before anything else, with all rights that the program is started with. Later the
//! root directory may be another one, the user may be nobody, and the sandbox may hide most files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use aquatic_config::PrivilegeConfig;

use crate::sandbox::Needs;

/// Where the configuration came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFile {
    /// `None`: there is none, and all keys have their defaults.
    path: Option<PathBuf>,
    /// Why it is not read again, if so.
    out_of_reach: Option<String>,
}

/// What a look at the file has come to.
#[derive(Debug)]
pub enum ReadAgain {
    /// There is none.
    None,
    /// Its text.
    Text(String),
    /// It is known since the start that it cannot be read again, and why.
    OutOfReach(String),
    /// It could not be read.
    Failed(anyhow::Error),
}

impl ConfigFile {
    /// The file that the program was started with, if any.
    #[must_use]
    pub fn new(path: Option<&Path>) -> Self {
        let Some(path) = path else {
            return Self::default();
        };
        // Whatever becomes the working directory later.
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let is_regular = fs::metadata(path).is_ok_and(|file| file.is_file());
        // Standard input may be a file, but nobody means what is beside it there.
        let is_file = is_regular && !["/dev", "/proc"].iter().any(|it| absolute.starts_with(it));
        Self {
            out_of_reach: (!is_file).then(|| "it is a pipe or a device".to_owned()),
            path: Some(absolute),
        }
    }

    /// The same file as it is found when privileges have been dropped: in another root directory.
    #[must_use]
    pub fn within(self, privileges: &PrivilegeConfig) -> Self {
        let (Some(path), true, None) = (&self.path, privileges.drop_privileges, &self.out_of_reach)
        else {
            return self;
        };
        let root = &privileges.chroot_path;
        match below(root, path) {
            Some(below) => Self {
                path: Some(below),
                out_of_reach: None,
            },
            None => Self {
                out_of_reach: Some(format!(
                    "it is outside of the root directory of the program, {} \
                     (`privileges.chroot_path`)",
                    root.display()
                )),
                ..self
            },
        }
    }

    /// What the [sandbox](crate::sandbox) has to leave open, so that the file can be read again.
    ///
    /// That is its folder with all that is below, so that it may be replaced by another file. But
    /// for the root directory, and those with a home directory: of them, only the file. A new root
    /// directory is what the operator has put there.
    #[must_use]
    pub fn needs(&self, privileges: &PrivilegeConfig) -> Needs {
        let mut needs = Needs::default();
        if let Some(path) = self.path.as_ref().filter(|_| self.out_of_reach.is_none()) {
            let home = std::env::home_dir();
            let is_open = privileges.drop_privileges || !is_wide(path, home.as_deref());
            let list = match is_open {
                true => &mut needs.reads,
                false => &mut needs.reads_in_place,
            };
            list.push(path.clone());
        }
        needs
    }

    /// Reads it again.
    #[must_use]
    pub fn read_again(&self) -> ReadAgain {
        let Some(path) = &self.path else {
            return ReadAgain::None;
        };
        if let Some(reason) = &self.out_of_reach {
            return ReadAgain::OutOfReach(reason.clone());
        }
        let is_regular = fs::metadata(path).map(|file| file.is_file());
        match is_regular.map_err(anyhow::Error::from) {
            Ok(true) => read(path).map_or_else(ReadAgain::Failed, ReadAgain::Text),
            Ok(false) => ReadAgain::Failed(anyhow!("it has become a pipe, a device or a folder")),
            Err(error) => ReadAgain::Failed(error),
        }
    }

    /// Where it can be found now, if there is one.
    ///
    /// # Errors
    /// If it is known since the start that it cannot be read again: the reason.
    pub(crate) fn reachable(&self) -> Result<Option<&Path>, &str> {
        match &self.out_of_reach {
            Some(reason) => Err(reason),
            None => Ok(self.path.as_deref()),
        }
    }

    /// What it is called in the log.
    #[must_use]
    pub fn name(&self) -> String {
        let path = self.path.as_ref();
        path.map_or_else(
            || "the default configuration".to_owned(),
            |path| path.display().to_string(),
        )
    }
}

/// Reads the text of a configuration file.
///
/// # Errors
/// If it cannot be read, or is no text.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => anyhow!("it is not UTF-8 text: save it as UTF-8"),
            _ => error.into(),
        })
        .with_context(|| format!("cannot read the configuration file {}", path.display()))
}

/// Folders of everybody.
const WIDE_FOLDERS: [&str; 6] = ["/", "/etc", "/home", "/root", "/usr", "/var"];

/// Whether the folder of a file has much below that is nobody else's business.
fn is_wide(file: &Path, home: Option<&Path>) -> bool {
    let of_name = file
        .parent()
        .and_then(|folder| fs::canonicalize(folder).ok());
    // The file may be a link.
    let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let of_target = target.parent().map(Path::to_owned);
    let home = home.and_then(|home| fs::canonicalize(home).ok());
    let is_wide_folder = |folder: &Path| {
        WIDE_FOLDERS.iter().any(|wide| folder == Path::new(wide))
            || home.as_ref().is_some_and(|home| home.starts_with(folder))
    };
    let folders = [of_name, of_target];
    let is_wide = |folder: &Option<PathBuf>| folder.as_deref().is_none_or(is_wide_folder);
    folders.iter().any(is_wide)
}

/// What a file is called in a root directory; `None` if it is outside. The file itself may be a
/// link that is changed.
fn below(root: &Path, file: &Path) -> Option<PathBuf> {
    let folder = fs::canonicalize(file.parent()?).ok()?;
    let inside = folder.join(file.file_name()?);
    let below = inside.strip_prefix(fs::canonicalize(root).ok()?).ok()?;
    Some(Path::new("/").join(below))
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn confined(root: &Path) -> PrivilegeConfig {
        PrivilegeConfig {
            drop_privileges: true,
            chroot_path: root.to_owned(),
            ..PrivilegeConfig::default()
        }
    }

    #[test]
    fn it_is_read_as_it_is_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "before").unwrap();
        let file = ConfigFile::new(Some(&path)).within(&PrivilegeConfig::default());
        assert_eq!(
            file.needs(&PrivilegeConfig::default()).reads,
            [path.as_path()]
        );
        fs::write(folder.path().join("new"), "after").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(matches!(file.read_again(), ReadAgain::Text(text) if text == "after"));
        fs::remove_file(&path).unwrap();
        assert!(matches!(file.read_again(), ReadAgain::Failed(_)));
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        assert!(matches!(file.read_again(), ReadAgain::Failed(_)));
    }

    /// To read a pipe again is to read nothing: all keys would have their defaults.
    #[test]
    fn a_pipe_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let file = ConfigFile::new(Some(&path));
        assert!(matches!(file.read_again(), ReadAgain::OutOfReach(_)));
        assert!(file.needs(&PrivilegeConfig::default()).are_none());
        assert!(matches!(
            ConfigFile::new(None).read_again(),
            ReadAgain::None
        ));
    }

    #[test]
    fn another_root_directory_hides_it_unless_it_is_inside() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        let (outside, inside) = (folder.path().join("a"), root.join("etc/b"));
        for path in [&outside, &inside] {
            fs::write(path, "").unwrap();
        }
        let privileges = confined(&root);
        let file = ConfigFile::new(Some(&inside)).within(&privileges);
        assert_eq!(file.needs(&privileges).reads, [Path::new("/etc/b")]);
        let file = ConfigFile::new(Some(&outside)).within(&privileges);
        assert!(file.needs(&privileges).are_none());
        let ReadAgain::OutOfReach(reason) = file.read_again() else {
            panic!("it was read")
        };
        assert!(reason.contains("`privileges.chroot_path`"), "{reason}");
    }

    #[test]
    fn for_its_sake_not_all_files_are_left_open() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home/me");
        fs::create_dir_all(home.join("aquatic")).unwrap();
        let is_wide = |file: &Path| is_wide(file, Some(&home));
        assert!(is_wide(Path::new("/aquatic.toml")));
        assert!(is_wide(&home.join("aquatic.toml")));
        assert!(is_wide(&folder.path().join("home/aquatic.toml")));
        assert!(!is_wide(&home.join("aquatic/aquatic.toml")));
        let file = ConfigFile {
            path: Some("/aquatic.toml".into()),
            out_of_reach: None,
        };
        let needs = file.needs(&PrivilegeConfig::default());
        assert_eq!(needs.reads_in_place, [Path::new("/aquatic.toml")]);
        assert!(needs.reads.is_empty());
        assert_eq!(file.needs(&confined(Path::new("/srv"))).reads.len(), 1);
    }
}
