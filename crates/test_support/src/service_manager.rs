//! What systemd is for a service: it hears how the service is doing, keeps its sockets while there
//! is no process (`FileDescriptorStoreMax=`), and passes them to the next one, beside those of a
//! `.socket` unit.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use command_fds::{CommandFdExt, FdMapping};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use socket2::SockRef;

use crate::wait::DEADLINE;

/// Where the first descriptor is that is passed (sd_listen_fds(3)).
const FIRST_DESCRIPTOR: i32 = 3;

/// A descriptor with its name.
pub type Named = (String, OwnedFd);

/// The service manager of one place.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    socket: UnixDatagram,
    /// As after `FileDescriptorStoreMax=`.
    keeps: AtomicBool,
    store: Mutex<Vec<Named>>,
}

impl ServiceManager {
    /// Listens at `path`, and keeps nothing.
    pub(crate) fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self {
            socket,
            keeps: AtomicBool::new(false),
            store: Mutex::default(),
        }
    }

    /// From now on it keeps what it is given.
    pub(crate) fn keep(&self) {
        self.keeps.store(true, Ordering::Relaxed);
    }

    /// What it has been told since the last call, about the service itself.
    pub(crate) fn notifications(&self) -> Vec<String> {
        let mut told = Vec::new();
        while let Some((message, descriptor)) = self.receive() {
            let line = |key: &str| {
                let mut lines = message.lines();
                lines.find_map(|line| Some(line.strip_prefix(key)?.to_owned()))
            };
            let name = line("FDNAME=").unwrap_or_default();
            if line("FDSTORE=1").is_some() {
                self.put(name, descriptor.expect("there is something to keep"));
            } else if line("FDSTOREREMOVE=1").is_some() {
                self.store().retain(|(known, _)| *known != name);
            } else {
                told.push(message);
            }
        }
        told
    }

    /// Starts a command with what is kept, behind `units`. The shell that it runs sets
    /// `LISTEN_PID`.
    pub(crate) fn pass(&self, command: &mut Command, mut units: Vec<Named>) {
        self.notifications();
        for (name, socket) in self.store().iter() {
            units.push((name.clone(), socket.try_clone().unwrap()));
        }
        let (names, sockets): (Vec<String>, Vec<OwnedFd>) = units.into_iter().unzip();
        if self.keeps.load(Ordering::Relaxed) {
            command.env("FDSTORE", "1000");
        }
        command
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"));
        let places = (FIRST_DESCRIPTOR..).zip(sockets);
        let mappings = places.map(|(child_fd, parent_fd)| FdMapping {
            parent_fd,
            child_fd,
        });
        command.fd_mappings(mappings.collect()).unwrap();
    }

    /// What it keeps, by name.
    pub(crate) fn kept(&self) -> Vec<String> {
        self.notifications();
        self.store().iter().map(|(name, _)| name.clone()).collect()
    }

    /// Whether something waits in a kept socket of either family.
    pub(crate) fn has_waiting(&self, is_ipv6: bool) -> bool {
        self.notifications();
        self.store().iter().any(|(_, socket)| {
            let address = SockRef::from(socket).local_addr().unwrap();
            address.is_ipv6() == is_ipv6 && is_readable(socket)
        })
    }

    fn put(&self, name: String, socket: OwnedFd) {
        assert!(!name.is_empty() && !name.contains(':') && name.is_ascii());
        if !self.keeps.load(Ordering::Relaxed) {
            return;
        }
        let mut store = self.store();
        assert!(store.iter().all(|(known, _)| *known != name), "{name}");
        store.push((name, socket));
    }

    fn receive(&self) -> Option<(String, Option<OwnedFd>)> {
        let mut bytes = [0; 512];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        loop {
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::DONTWAIT;
            #[cfg(target_os = "linux")]
            let flags = flags | RecvFlags::CMSG_CLOEXEC;
            let size = match recvmsg(&self.socket, &mut into, &mut control, flags) {
                Ok(message) => message.bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => panic!("{error}"),
            };
            let descriptor = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
                _ => None,
            });
            let message = String::from_utf8(bytes[..size].to_vec()).unwrap();
            return Some((message, descriptor));
        }
    }

    fn store(&self) -> MutexGuard<'_, Vec<Named>> {
        self.store.lock().unwrap()
    }
}

fn is_readable(socket: &OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;

    let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).unwrap() > 0
}
