//! The secret of connection ids in a file, so that it outlives the process and can be shared.
//!
//! ```text
//! # a comment
//! 000102030405060708090a0b0c0d0e0f
//! ```
//!
//! One line of 32 hexadecimal digits: 128 bits, the key of SipHash in the order of its reference.
//! Empty lines and lines that begin with `#` are skipped.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use aquatic_daemon::replace_file;
use aquatic_tracker::entropy::Entropy;

const SECRET_BYTES: usize = 16;

/// Only the owner may read the file and write to it.
const MODE: u32 = 0o600;

/// What users outside of the file's group may do with it.
const OTHERS: u32 = 0o007;

/// A larger file is no secret.
const FILE_BYTES_MAX: u64 = 4_096;

const COMMENT: &str = "\
# The secret of aquatic_udp for connection ids (network.connection_secret_file).
# Whoever knows it can forge them. Trackers behind one address need the same.
";

/// How long an empty file may be another tracker's that has just made it, and how often to look.
const PATIENCE: Duration = Duration::from_millis(20);
const LOOKS_MAX: usize = 50;

/// Reads the secret. A file that does not exist is made.
///
/// # Errors
/// If the file can neither be read nor made, or other users may read it, or its content is no
/// secret.
pub fn load_or_make(path: &Path, entropy: &mut impl Entropy) -> anyhow::Result<[u64; 2]> {
    if let Some(secret) = make(path, entropy)? {
        log::info!("connection secret made: {}", path.display());
        return Ok(secret);
    }
    for _ in 0..LOOKS_MAX {
        if let Some(secret) = load(path)? {
            return Ok(secret);
        }
        thread::sleep(PATIENCE);
    }
    bail!(is_empty(path));
}

/// Reads the secret as [`load_or_make`] does, but makes nothing, and waits for nobody.
///
/// # Errors
/// As for [`load_or_make`].
pub fn check(path: &Path) -> anyhow::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_folder(path),
        _ => load(path)?.map(drop).with_context(|| is_empty(path)),
    }
}

fn is_empty(path: &Path) -> String {
    format!(
        "{} is empty: remove it, and it will be made anew",
        describe(path)
    )
}

/// Reads the secret of a file that exists. `None`: it is empty so far.
///
/// # Errors
/// As for [`load_or_make`].
fn load(path: &Path) -> anyhow::Result<Option<[u64; 2]>> {
    let what = describe(path);
    let mut text = String::new();
    // Before it is opened: to open a pipe is to wait for somebody who writes to it.
    let metadata = path
        .metadata()
        .with_context(|| format!("cannot open {what}"))?;
    ensure!(metadata.is_file(), "{what} is not a file");
    let file = File::open(path).with_context(|| format!("cannot open {what}"))?;
    let metadata = file
        .metadata()
        .with_context(|| format!("cannot read {what}"))?;
    let mode = metadata.permissions().mode();
    ensure!(
        mode & OTHERS == 0,
        "{what} must be closed to other users, who could forge connection ids with it: \
         chmod 600 {}",
        path.display()
    );
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {what}"))?;
    if text.is_empty() {
        return Ok(None);
    }
    let secret = parse(&text).with_context(|| {
        format!(
            "{what} must have one line of {} hexadecimal digits: correct it, or remove it, and it \
             will be made anew",
            2 * SECRET_BYTES
        )
    })?;
    Ok(Some(secret))
}

/// Whether the file could be made. Its folder must be there: unlike a report, a secret is not put
/// wherever a misspelt path leads.
///
/// # Errors
/// The reason, if it could not.
fn check_folder(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    ensure!(
        folder.is_dir(),
        "cannot make {}: there is no folder {}",
        describe(path),
        folder.display()
    );
    replace_file::check(path)
}

/// Makes the file, unless there is one.
fn make(path: &Path, entropy: &mut impl Entropy) -> anyhow::Result<Option<[u64; 2]>> {
    let what = describe(path);
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path);
    let mut file = match made {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot make {what}")),
    };
    let secret: [u8; SECRET_BYTES] = entropy.bytes()?;
    let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    // In one piece: another tracker that starts now sees nothing or all of it.
    let written = file
        .write_all(format!("{COMMENT}{digits}\n").as_bytes())
        .and_then(|()| file.sync_all());
    if let Err(error) = written {
        let _ = std::fs::remove_file(path);
        return Err(error).with_context(|| format!("cannot write {what}"));
    }
    Ok(Some(keys(secret)))
}

fn describe(path: &Path) -> String {
    format!("the connection secret {}", path.display())
}

/// The secret that a file with this text holds. `None`: it holds none.
#[must_use]
pub fn parse(text: &str) -> Option<[u64; 2]> {
    let lines = text.lines().map(str::trim);
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let digits = lines.next()?;
    let number = u128::from_str_radix(digits, 16).ok()?;
    let is_plain = digits.len() == 2 * SECRET_BYTES && !digits.starts_with('+');
    (is_plain && lines.next().is_none()).then(|| keys(number.to_be_bytes()))
}

fn keys(secret: [u8; SECRET_BYTES]) -> [u64; 2] {
    let key = u128::from_le_bytes(secret);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    [key as u64, (key >> u64::BITS) as u64]
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::symlink;

    use aquatic_tracker::entropy::OsEntropy;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use tempfile::TempDir;

    use super::*;

    fn error(path: &Path) -> String {
        format!("{:#}", load_or_make(path, &mut OsEntropy).unwrap_err())
    }

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn is_made_once_for_its_owner_only() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("secret");
        let secret = load_or_make(&path, &mut OsEntropy).unwrap();
        assert_eq!(load_or_make(&path, &mut OsEntropy).unwrap(), secret);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = folder.path().join("other");
        assert_ne!(load_or_make(&other, &mut OsEntropy).unwrap(), secret);
    }

    #[test]
    fn two_that_start_at_once_get_one_secret() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("secret");
        let secrets: Vec<_> = thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| load_or_make(&path, &mut OsEntropy).unwrap()))
                .collect();
            starts.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    }

    #[test]
    fn is_read_in_the_order_of_siphash() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("secret");
        let digits = "000102030405060708090a0b0c0d0e0f";
        for text in [
            format!("{digits}\n"),
            format!(
                "# from the other tracker\r\n\r\n  {}\r\n",
                digits.to_uppercase()
            ),
        ] {
            for mode in [0o400, 0o600, 0o640] {
                write(&path, &text, mode);
                let secret = load_or_make(&path, &mut OsEntropy).unwrap();
                assert_eq!(secret, [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
            }
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_with_the_remedy() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("secret");
        let digits = "000102030405060708090a0b0c0d0e0f";
        for text in [
            "\n",
            "# only a comment\n",
            "hunter2\n",
            &digits[1..],
            &format!("{digits}00"),
            &format!("+{}", &digits[1..]),
            &format!("{digits}\n{digits}\n"),
            &"x".repeat(10_000),
        ] {
            write(&path, text, 0o600);
            let error = error(&path);
            for part in [path.to_str().unwrap(), "32 hexadecimal digits", "remove it"] {
                assert!(error.contains(part), "{text:?}: {error}");
            }
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_remedy() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("secret");
        load_or_make(&path, &mut OsEntropy).unwrap();
        for mode in [0o604, 0o644, 0o602] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = error(&path);
            assert!(
                error.contains(&format!("chmod 600 {}", path.display())),
                "{error}"
            );
        }
    }

    #[test]
    fn other_faults_name_the_file() {
        let folder = TempDir::new().unwrap();
        assert!(error(folder.path()).contains("is not a file"));
        let path = folder.path().join("no/such/folder");
        assert!(error(&path).contains(path.to_str().unwrap()));
        let path = folder.path().join("empty");
        write(&path, "", 0o600);
        assert!(error(&path).contains("is empty: remove it"));
    }

    /// Else the tracker would wait for ever at its start, before it has said why.
    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("pipe");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        assert!(error(&path).contains("is not a file"));
    }

    #[test]
    fn a_check_refuses_what_the_start_would_refuse() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("secret");
        check(&path).unwrap();
        assert!(!path.exists(), "a check makes nothing");
        symlink("nowhere", &path).unwrap();
        fs::write(folder.path().join("empty"), "").unwrap();
        for path in [&path, &folder.path().join("empty"), folder.path()] {
            let problem = format!("{:#}", check(path).unwrap_err());
            assert_eq!(problem, error(path));
        }
    }
}
