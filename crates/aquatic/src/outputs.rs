//! Files that are written from time to time.

use std::path::Path;

use aquatic_daemon::replace_file;
use aquatic_daemon::sandbox::Needs;

/// What a file that is written needs of the sandbox. Warns if it cannot be
/// written.
pub(crate) fn needs(output: Option<(&'static str, &Path)>) -> Needs {
    let Some((key, path)) = output else {
        return Needs::default();
    };
    if let Err(error) = replace_file::check(path) {
        log::warn!("`{key}`: {error:#}");
    }
    Needs {
        replaces: vec![path.to_owned()],
        ..Needs::default()
    }
}
