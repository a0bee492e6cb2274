//! Files that nobody but their owner can read.

use std::env;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, ensure};
use nix::fcntl::OFlag;

/// Reads such a file, and no more of it than `limit` bytes.
///
/// # Errors
/// If it is not such a file; says what to do about that.
pub fn read(path: &Path, limit: u64) -> anyhow::Result<Vec<u8>> {
    // A pipe would keep its reader waiting.
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = options.open(path).context("cannot open it")?;
    let metadata = file.metadata().context("cannot look at it")?;
    ensure!(metadata.is_file(), "it is not a regular file");
    let mode = metadata.mode() & 0o777;
    ensure!(
        mode & 0o077 == 0 || is_credential(path, env::var_os("CREDENTIALS_DIRECTORY")),
        "others than its owner may use it (its mode is {mode:04o}): run `chmod 600 {}`",
        path.display()
    );
    let mut bytes = Vec::new();
    file.take(limit)
        .read_to_end(&mut bytes)
        .context("cannot read it")?;
    Ok(bytes)
}

/// Whether systemd has put the file into the folder of the service's credentials
/// (`LoadCredential=`). Nobody else can enter that; the mode of the file says that its group can
/// read it, but means an access control list.
fn is_credential(path: &Path, folder: Option<OsString>) -> bool {
    let has_detour = path.components().any(|part| part.as_os_str() == "..");
    folder.is_some_and(|folder| !folder.is_empty() && path.starts_with(folder) && !has_detour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_of_the_service_is_only_in_its_folder() {
        let folder = Some(OsString::from("/run/credentials/aquatic_udp.service"));
        let in_folder = |path: &str| is_credential(Path::new(path), folder.clone());
        assert!(in_folder("/run/credentials/aquatic_udp.service/token"));
        assert!(!in_folder("/run/credentials/other.service/token"));
        assert!(!in_folder("/run/credentials/aquatic_udp.service/../token"));
        assert!(!is_credential(Path::new("/etc/token"), None));
        assert!(!is_credential(Path::new("token"), Some(OsString::new())));
    }
}
