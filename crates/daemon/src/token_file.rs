//! The file with the operator's token, while the daemon runs.

use std::io;
use std::path::Path;

use aquatic_config::PrivilegeConfig;

use crate::config_file::ConfigFile;
use crate::endpoint::Token;
use crate::live::LiveSettings;
use crate::reload_report;
use crate::sandbox::Needs;

/// A file that is read again at a reload.
#[derive(Debug)]
pub struct TokenFile {
    file: ConfigFile,
    token: LiveSettings<Token>,
}

impl TokenFile {
    /// Reads it. To be called before privileges are dropped.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn load(path: &Path, privileges: &PrivilegeConfig) -> anyhow::Result<Self> {
        Ok(Self {
            token: LiveSettings::new(Token::load(path)?),
            file: ConfigFile::new(Some(path)).within(privileges),
        })
    }

    /// What is in it.
    #[must_use]
    pub fn token(&self) -> &LiveSettings<Token> {
        &self.token
    }

    /// What the sandbox has to leave open.
    #[must_use]
    pub fn needs(&self, privileges: &PrivilegeConfig) -> Needs {
        self.file.needs(privileges)
    }

    /// Reads it again. The token of before stays if that fails.
    pub fn reload(&self) {
        let path = match self.file.reachable() {
            Ok(Some(path)) => path,
            Ok(None) => return,
            Err(reason) => {
                let reason = format!("the token file is not read again: {reason}");
                log::info!("{reason}");
                reload_report::note(|report| report.skipped.push(reason));
                return;
            }
        };
        match Token::load(path) {
            Ok(token) => {
                self.token.set(token);
                reload_report::note(|report| report.loaded.push("the token file"));
            }
            Err(error) => {
                let why = if is_hidden(&error) { HIDDEN } else { "" };
                log::error!("reload failed, keeping the token of before: {error:#}{why}");
                reload_report::note_error(format!("{error:#}{why}"));
            }
        }
    }
}

/// What an operator cannot know who has replaced the file by another one, which may be read.
const HIDDEN: &str = "; if its rights are right, it is another file than at the start, and the \
                      sandbox (`privileges.sandbox`) lets the tracker open only that one in a \
                      folder of everybody: restart, and keep the token in a folder of its own, or \
                      write into the file instead of replacing it";

fn is_hidden(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|it| it.kind() == io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_that_cannot_be_used_leaves_the_one_of_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "the first of all tokens").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let file = TokenFile::load(&path, &PrivilegeConfig::default()).unwrap();
        let first = file.token().get();
        fs::write(&path, "short").unwrap();
        let report = reload_report::of(|| file.reload());
        assert!(report.errors[0].contains("needs 16"), "{report:?}");
        assert_eq!(file.token().get(), first);
        fs::write(&path, "the second of all tokens").unwrap();
        let report = reload_report::of(|| file.reload());
        assert_eq!(report.loaded, ["the token file"]);
        assert_ne!(file.token().get(), first);
    }
}
