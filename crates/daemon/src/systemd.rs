//! Telling systemd how the service is doing (sd_notify(3)).
//!
//! The protocol is one datagram per message to the socket named in `NOTIFY_SOCKET`. That socket
//! cannot be reached from inside a chroot, so it is connected once, before privileges are dropped,
//! and kept. Without the variable nothing is sent.
//!
//! A service manager that does not read delays nobody: what finds no room in its queue at once is
//! lost, or, if it waits to be told that, after a second.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;
use std::{env, process};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, send, sendmsg};

use crate::clock;

/// How long the service manager is waited for.
pub const SEND_MAX: Duration = Duration::from_secs(1);

/// For how long a start or stop that goes on asks for more time, counted from the moment when it
/// asks. It asks several times in this time.
const EXTENSION: Duration = Duration::from_secs(10);

/// A connection to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Systemd {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// Connects to the socket that the environment names. A daemon works without it, so a failure
    /// is only logged.
    #[must_use]
    pub fn from_environment() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET") else {
            return Self::default();
        };
        let socket = connect(&address)
            .inspect_err(|error| {
                log::warn!("cannot reach systemd at {}: {error}", address.display())
            })
            .ok();
        Self {
            socket,
            watchdog: watchdog(process::id(), |name| env::var_os(name)),
        }
    }

    /// One at this address.
    #[cfg(test)]
    pub(crate) fn at(address: &OsStr) -> Self {
        Self {
            socket: Some(connect(address).unwrap()),
            watchdog: None,
        }
    }

    /// How long systemd waits for a [sign of life](Self::alive), if it does (`WatchdogSec=`).
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The daemon lives, if systemd wants to know. Nothing is sent otherwise, or if its queue is
    /// full: there will be a next time.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1", MsgFlags::MSG_DONTWAIT);
        }
    }

    /// The daemon is serving. Waits for room in a full queue, [`SEND_MAX`] at most.
    pub fn ready(&self) {
        self.send("READY=1", MsgFlags::empty());
    }

    /// The daemon has begun to reload; [`Self::ready`] says that it has finished. This is what
    /// `Type=notify-reload` waits for. Waits for room as [`Self::ready`] does.
    pub fn reloading(&self) {
        let now_micros = clock::system_micros();
        let message = format!("RELOADING=1\nMONOTONIC_USEC={now_micros}");
        self.send(&message, MsgFlags::empty());
    }

    /// The daemon is about to exit. Does not wait.
    pub fn stopping(&self) {
        self.send("STOPPING=1", MsgFlags::MSG_DONTWAIT);
    }

    /// Has the service manager keep a descriptor while there is no process, under this name, if it
    /// does such things (`FileDescriptorStoreMax=`); it does not tell. Waits as [`Self::ready`]
    /// does. Returns whether there is a service manager, and it could be told.
    pub(crate) fn store(&self, name: &str, descriptor: &impl AsFd) -> bool {
        let Some(socket) = &self.socket else {
            return false;
        };
        // By default a descriptor with an error is dropped; a UDP socket may have one at any time.
        let message = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
        let bytes = [IoSlice::new(message.as_bytes())];
        let descriptors = [descriptor.as_fd().as_raw_fd()];
        let control = [ControlMessage::ScmRights(&descriptors)];
        let flags = MsgFlags::empty();
        let sent = sendmsg(
            socket.as_raw_fd(),
            &bytes,
            &control,
            flags,
            None::<&UnixAddr>,
        );
        sent.inspect_err(|error| log::warn!("systemd cannot be given sockets to keep: {error}"))
            .is_ok()
    }

    /// What the service manager keeps under this name is not needed any more. Waits as
    /// [`Self::ready`] does.
    pub(crate) fn forget(&self, name: &str) {
        let message = format!("FDSTOREREMOVE=1\nFDNAME={name}");
        self.send(&message, MsgFlags::empty());
    }

    /// The start, or the stop, goes on: it is not to be ended for being longer than usual
    /// (`TimeoutStartSec=`, `TimeoutStopSec=`) within the next [`EXTENSION`]. Does not wait.
    pub fn extend_timeout(&self) {
        let message = format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros());
        self.send(&message, MsgFlags::MSG_DONTWAIT);
    }

    fn send(&self, message: &str, flags: MsgFlags) {
        let Some(socket) = &self.socket else {
            return;
        };
        match send(socket.as_raw_fd(), message.as_bytes(), flags) {
            Ok(_) => {}
            // This comes again, or is the last that is said.
            Err(Errno::EAGAIN) if flags.contains(MsgFlags::MSG_DONTWAIT) => {}
            Err(error) => {
                let told = message.lines().next().unwrap_or_default();
                log::warn!("cannot tell systemd {told}: {error}");
            }
        }
    }
}

/// How often it must be told of life, if it waits for that of process `pid`: see
/// sd_watchdog_enabled(3).
fn watchdog(pid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Option<Duration> {
    let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
    let is_for_us =
        variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(pid.into());
    let micros = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && is_for_us)?;
    Some(Duration::from_micros(micros))
}

/// `address` is a path or, on Linux, an abstract name after an `@`.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_MAX))?;
    #[cfg(target_os = "linux")]
    if let Some(name) = address.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;

        socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
        return Ok(socket);
    }
    socket.connect(address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(address: &OsStr, listener: &UnixDatagram, tell: impl FnOnce(&Systemd)) -> String {
        tell(&Systemd::at(address));
        let mut message = [0; 256];
        let size = listener.recv(&mut message).unwrap();
        String::from_utf8(message[..size].to_vec()).unwrap()
    }

    #[test]
    fn a_socket_in_the_file_system_is_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        assert_eq!(told(path.as_os_str(), &listener, Systemd::ready), "READY=1");
        assert_eq!(
            told(path.as_os_str(), &listener, Systemd::stopping),
            "STOPPING=1"
        );
        assert_eq!(
            told(path.as_os_str(), &listener, Systemd::extend_timeout),
            "EXTEND_TIMEOUT_USEC=10000000"
        );
        let reloading = told(path.as_os_str(), &listener, Systemd::reloading);
        let micros = reloading
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_socket_is_reached() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;

        let name = format!("aquatic-daemon-test-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        let address = format!("@{name}");
        assert_eq!(
            told(OsStr::new(&address), &listener, Systemd::ready),
            "READY=1"
        );
    }

    #[test]
    fn nobody_waits_for_one_that_does_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let systemd = Systemd {
            socket: Some(connect(path.as_os_str()).unwrap()),
            watchdog: Some(SEND_MAX),
        };
        let begin = clock::Clock::start();
        // More than any queue holds (net.unix.max_dgram_qlen).
        for _ in 0..10_000 {
            systemd.alive();
        }
        systemd.stopping();
        systemd.ready();
        assert!(begin.elapsed() >= SEND_MAX, "it was given the time to read");
    }

    /// A child of the process that systemd waits for has its environment, too.
    #[test]
    fn only_the_process_that_is_meant_is_waited_for() {
        let micros = Some(Duration::from_micros(30));
        for (usec, pid, expected) in [
            (None, None, None),
            (Some("30"), None, micros),
            (Some("30"), Some("7"), micros),
            (Some("30"), Some("8"), None),
            (Some("30"), Some("x"), None),
            (Some("0"), Some("7"), None),
            (Some("-1"), Some("7"), None),
        ] {
            let variable = |name: &str| match name {
                "WATCHDOG_USEC" => usec.map(OsString::from),
                _ => pid.map(OsString::from),
            };
            assert_eq!(watchdog(7, variable), expected, "{usec:?} {pid:?}");
        }
    }

    #[test]
    fn without_systemd_nothing_happens() {
        Systemd::default().ready();
        assert!(connect(OsStr::new("/nowhere/notify")).is_err());
    }
}
