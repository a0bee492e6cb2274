//! A Unix socket for an endpoint: only who may open a file can ask there.

use std::ffi::{OsStr, OsString};
#[cfg(target_os = "linux")]
use std::fs::Permissions;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
#[cfg(target_os = "linux")]
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use mio::net::UnixListener;
#[cfg(target_os = "linux")]
use nix::fcntl::openat;
use nix::fcntl::{AtFlags, OFlag};
#[cfg(target_os = "linux")]
use nix::sys::stat::fchmod;
#[cfg(not(target_os = "linux"))]
use nix::sys::stat::{FchmodatFlags, fchmodat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::replace_file::{self, folder_of};

/// The user of the daemon, and its group.
#[cfg(target_os = "linux")]
const MODE: u32 = 0o660;

/// What fits into the address of a socket, before the zero at its end: unix(7).
const PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket that is bound.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a socket, wherever the root directory of the process is.
#[derive(Clone, Debug)]
pub struct SocketFile {
    /// `None` if nobody may have it: in another root directory it would be a way out.
    folder: Option<Arc<File>>,
    name: OsString,
    /// Of the file that was made: device and inode.
    identity: (u64, u64),
}

impl UnixSocket {
    /// Binds it, for this user and group if the process is about to give up its rights; its file is
    /// left at the end then. A file that an earlier process has left is replaced; a socket at which
    /// somebody serves is not.
    ///
    /// # Errors
    /// If it cannot be had; names the path.
    pub fn bind(path: &Path, owner: Option<(u32, u32)>) -> anyhow::Result<Self> {
        let name = path.display();
        Self::try_bind(path, owner).with_context(|| format!("cannot serve at the socket {name}"))
    }

    fn try_bind(path: &Path, owner: Option<(u32, u32)>) -> anyhow::Result<Self> {
        let name = path.file_name().context("it must name a file")?;
        let address = address_of(path)?;
        let folder = open_folder(folder_of(path))?;
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).context("cannot make it")?;
        restrict(&socket).context("cannot set its mode")?;
        socket.bind(&address).context("cannot bind it")?;
        // Nobody can connect yet.
        finish_file(&folder, name, owner)?;
        socket.listen(BACKLOG).context("cannot listen")?;
        socket
            .set_nonblocking(true)
            .context("cannot make it wait for nobody")?;
        let metadata = fs::symlink_metadata(path).context("cannot look at it")?;
        Ok(Self {
            listener: UnixListener::from_std(socket.into()),
            file: SocketFile {
                folder: owner.is_none().then(|| Arc::new(folder)),
                name: name.to_owned(),
                identity: (metadata.dev(), metadata.ino()),
            },
        })
    }

    /// Looks whether it can be bound, as far as that can be told without doing it. Returns whether
    /// somebody serves there now, such as a daemon that is to be replaced.
    ///
    /// # Errors
    /// The reason, if it cannot.
    pub fn check(path: &Path) -> anyhow::Result<bool> {
        address_of(path)?;
        let folder = folder_of(path);
        open_folder(folder)?;
        replace_file::check(path)?;
        found_at(path).map(|found| found == Some(Found::Served))
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    pub(super) fn listener_mut(&mut self) -> &mut UnixListener {
        &mut self.listener
    }

    /// Its file.
    #[must_use]
    pub fn file(&self) -> &SocketFile {
        &self.file
    }
}

impl SocketFile {
    /// The folder in which it is, if it is going to be removed.
    #[must_use]
    pub fn folder(&self) -> Option<&Arc<File>> {
        self.folder.as_ref()
    }

    /// Removes the file, if it is still the one that was made, and if this user may do it. It does
    /// no harm if not: the next process replaces it.
    pub fn remove(&self) {
        let Some(folder) = self.folder.as_deref() else {
            return;
        };
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        let Ok(found) = fstatat(folder, self.name.as_os_str(), flags) else {
            return;
        };
        #[allow(
            clippy::unnecessary_cast,
            clippy::cast_sign_loss,
            reason = "the types differ by system, and have the meaning of those of std"
        )]
        let identity = (found.st_dev as u64, found.st_ino as u64);
        if identity == self.identity {
            let flags = UnlinkatFlags::NoRemoveDir;
            if let Err(error) = unlinkat(folder, self.name.as_os_str(), flags) {
                log::debug!("cannot remove the socket of the endpoint: {error}");
            }
        }
    }
}

/// What is at a path where a socket is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// A socket that an earlier process has left.
    Left,
    /// A socket at which somebody serves.
    Served,
}

fn address_of(path: &Path) -> anyhow::Result<SockAddr> {
    let bytes = path.as_os_str().len();
    ensure!(
        bytes <= PATH_BYTES_MAX,
        "the path of a socket may have {PATH_BYTES_MAX} bytes, and this one has {bytes}: choose a \
         shorter one"
    );
    Ok(SockAddr::unix(path)?)
}

/// Has the file of a socket that is not bound yet be made with no more rights than it is to have:
/// whoever waits for it in its folder does not get there before they are taken away.
#[cfg(target_os = "linux")]
fn restrict(socket: &Socket) -> io::Result<()> {
    fchmod(socket, Mode::from_bits_truncate(MODE)).map_err(io::Error::from)
}

/// Where the system has no such way, the file has the rights that the umask leaves until
/// [`finish_file`]; nobody listens before.
#[cfg(not(target_os = "linux"))]
fn restrict(_: &Socket) -> io::Result<()> {
    Ok(())
}

/// Gives the file of the socket its mode and its owner. Not by its path: whoever may write to the
/// folder could have put something else there meanwhile, which would be given away by root.
#[cfg(target_os = "linux")]
fn finish_file(folder: &File, name: &OsStr, owner: Option<(u32, u32)>) -> anyhow::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(folder, name, flags, Mode::empty()).context("cannot open its file")?;
    let file = File::from(file);
    let metadata = file.metadata().context("cannot look at its file")?;
    ensure!(
        metadata.file_type().is_socket() && metadata.uid() == Uid::effective().as_raw(),
        "another program has put something else in its place: choose a folder in which only the \
         tracker makes files"
    );
    // A umask has taken too much.
    if metadata.mode() & 0o777 != MODE {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(path, Permissions::from_mode(MODE)).context("cannot set its mode")?;
    }
    give(&file, OsStr::new(""), AtFlags::AT_EMPTY_PATH, owner)
}

#[cfg(not(target_os = "linux"))]
fn finish_file(folder: &File, name: &OsStr, owner: Option<(u32, u32)>) -> anyhow::Result<()> {
    let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IWGRP;
    let flags = FchmodatFlags::NoFollowSymlink;
    fchmodat(folder, name, mode, flags).context("cannot set its mode")?;
    give(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW, owner)
}

fn give(at: &File, name: &OsStr, flags: AtFlags, owner: Option<(u32, u32)>) -> anyhow::Result<()> {
    if let Some((user, group)) = owner {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        let given = fchownat(at, name, Some(user), Some(group), flags);
        given.context("cannot give it to the user")?;
    }
    Ok(())
}

fn open_folder(folder: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(OFlag::O_DIRECTORY.bits());
    let opened = options.open(folder);
    opened.with_context(|| format!("cannot open the folder {}", folder.display()))
}

fn remove_stale(path: &Path) -> anyhow::Result<()> {
    match found_at(path)? {
        None => Ok(()),
        Some(Found::Left) => {
            fs::remove_file(path).context("cannot remove what an earlier process has left")
        }
        Some(Found::Served) => {
            bail!("another process serves there: stop it, or choose another path")
        }
    }
}

fn found_at(path: &Path) -> anyhow::Result<Option<Found>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => ensure!(
            metadata.file_type().is_socket(),
            "there is something else than a socket: choose another path, or remove it"
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("cannot look at it"),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).context("cannot make a socket")?;
    // Whoever serves there may be slow to accept.
    socket
        .set_nonblocking(true)
        .context("cannot make a socket wait for nobody")?;
    match socket.connect(&address_of(path)?) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(Some(Found::Left)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Some(Found::Served)),
        Ok(()) => Ok(Some(Found::Served)),
        Err(error) => Err(error).context("cannot find out whether another process serves there"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn error(path: &Path) -> String {
        format!("{:#}", UnixSocket::bind(path, None).unwrap_err())
    }

    #[test]
    fn a_socket_is_for_user_and_group_and_removed_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = UnixSocket::bind(&path, None).unwrap();
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o660);
        UnixStream::connect(&path).unwrap();
        let first = socket.file().clone();
        first.remove();
        assert!(!path.exists());
        let _second = UnixSocket::bind(&path, None).unwrap();
        first.remove();
        assert!(path.exists(), "it is another's");
    }

    /// Before it is bound, so that there is no moment in which it has more.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_file_is_made_with_no_more_rights_than_it_is_to_have() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        restrict(&socket).unwrap();
        socket.bind(&address_of(&path).unwrap()).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777 & !MODE, 0, "{mode:o}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_somebody_puts_in_its_place_is_given_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        fs::write(&precious, "").unwrap();
        fs::set_permissions(&precious, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&precious, folder.path().join("link")).unwrap();
        let opened = open_folder(folder.path()).unwrap();
        for name in ["link", "precious"] {
            let own = (Uid::effective().as_raw(), 0);
            let error = finish_file(&opened, OsStr::new(name), Some(own)).unwrap_err();
            assert!(error.to_string().contains("another program"), "{error}");
        }
        assert_eq!(fs::metadata(&precious).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_could_not_be_bound_is_told_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(!UnixSocket::check(&path).unwrap());
        assert!(!path.exists(), "a check leaves nothing behind");
        let socket = UnixSocket::bind(&path, None).unwrap();
        assert!(UnixSocket::check(&path).unwrap(), "it is in use");
        drop(socket);
        assert!(!UnixSocket::check(&path).unwrap(), "it is replaced");
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for (path, reason) in [
            (folder.path().join("none/socket"), "cannot open the folder"),
            (file.join("socket"), "cannot open the folder"),
            (file, "something else than a socket"),
            (folder.path().join("x".repeat(108)), "may have 107 bytes"),
        ] {
            let error = format!("{:#}", UnixSocket::check(&path).unwrap_err());
            assert!(
                !cfg!(target_os = "linux") || error.contains(reason),
                "{error}"
            );
        }
    }

    #[test]
    fn what_a_process_has_left_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(UnixSocket::bind(&path, None).unwrap());
        assert!(path.exists());
        let _live = UnixSocket::bind(&path, None).unwrap();
        assert!(
            error(&path).contains("another process serves there"),
            "{}",
            error(&path)
        );
        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(
            error(&file).contains("something else than a socket"),
            "{}",
            error(&file)
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        let nowhere = folder.path().join("none/socket");
        assert!(
            error(&nowhere).contains("cannot open the folder"),
            "{}",
            error(&nowhere)
        );
        let long = folder.path().join("x".repeat(120));
        assert!(
            error(&long).contains("cannot serve at the socket"),
            "{}",
            error(&long)
        );
    }
}
