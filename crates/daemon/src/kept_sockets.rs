//! Sockets that the service manager holds open while there is no process: what comes meanwhile
//! waits in the kernel, and the next process answers it.
//!
//! ```text
//!   systemd ── LISTEN_FDS, LISTEN_FDNAMES ──▶ receive ──▶ take ──▶ a front end, which binds what
//!      ▲                                                            is missing
//!      └── FDSTORE=1, FDNAME=… ◀── keep ◀───────────────────────────────┘
//!      └── FDSTOREREMOVE=1 ◀── what fits no address of the configuration
//! ```
//!
//! Sockets come from two places: from the file descriptor store, where an earlier process has put
//! them ([`KeptSockets::keep`]), and from a `.socket` unit. To which address of the configuration a
//! socket belongs is asked of the socket itself; only its place among the sockets of the same
//! address, which the kernel numbers in the order of their binding, is in its name.
//!
//! A service manager that keeps nothing ignores all this (`FileDescriptorStoreMax=` is 0 by
//! default), so sockets are offered to each.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{env, fmt, process};

use listenfd::ListenFd;
use socket2::{Protocol, SockRef, Type};

use crate::systemd::Systemd;

/// More descriptors than this are passed by mistake.
const PASSED_MAX: usize = 65_536;

/// What was passed to this process, until somebody looks at it.
static RECEIVED: Mutex<Vec<Received>> = Mutex::new(Vec::new());

/// A descriptor with its name. `None`: it was no IP socket, and has been closed.
struct Received {
    name: String,
    socket: Option<OwnedFd>,
}

/// Takes what the service manager has passed to this process, if it has, and removes the variables
/// that say so. To be called once, before there are other threads, which could read them.
pub fn receive() {
    let received = read_environment();
    *RECEIVED.lock().unwrap_or_else(PoisonError::into_inner) = received;
}

fn read_environment() -> Vec<Received> {
    // A child of the process that is meant has its environment, too.
    let is_for_us = env::var("LISTEN_PID").is_ok_and(|pid| pid == process::id().to_string());
    let count = env::var("LISTEN_FDS").map(|count| count.parse::<usize>());
    if !is_for_us || !matches!(count, Ok(Ok(1..=PASSED_MAX))) {
        return Vec::new();
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut descriptors = ListenFd::from_env();
    let all = 0..descriptors.len();
    let receive = |index| {
        let tcp = descriptors.take_tcp_listener(index).ok().flatten();
        let udp = descriptors.take_udp_socket(index).ok().flatten();
        let socket = tcp.map(OwnedFd::from).or(udp.map(OwnedFd::from));
        if socket.is_none()
            && let Ok(Some(other)) = descriptors.take_raw_fd(index)
        {
            // Fails if there was none.
            let _ = nix::unistd::close(other);
        }
        Received {
            name: names.next().unwrap_or_default().to_owned(),
            socket,
        }
    };
    all.map(receive).collect()
}

/// What is sent through a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UDP.
    Datagram,
    /// TCP: connections are accepted.
    Stream,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Datagram => "UDP",
            Self::Stream => "TCP",
        })
    }
}

/// All sockets of a process that outlive it, and those that an earlier process has left to it.
#[derive(Debug, Default)]
pub struct KeptSockets {
    systemd: Arc<Systemd>,
    /// How many the service manager keeps at most, if it has told that (systemd 254).
    capacity: Option<usize>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    passed: Vec<Passed>,
    /// How many the service manager was given to keep, by this process or an earlier one.
    kept: usize,
    /// It has really kept some.
    has_kept: bool,
    /// What it is to keep, with their names there.
    bound: Vec<(String, OwnedFd)>,
}

/// A socket that was passed, and that nobody has taken yet.
#[derive(Debug)]
struct Passed {
    socket: OwnedFd,
    name: String,
    kind: Kind,
    address: SocketAddr,
}

/// A socket that was passed.
#[derive(Debug)]
pub struct Taken {
    /// The socket. Its options are those that somebody else has set.
    pub socket: OwnedFd,
    /// Its place among the sockets of its address, if it is in the store. Otherwise a unit has
    /// bound it.
    place: Option<usize>,
}

impl KeptSockets {
    /// Of a process whose service manager is `systemd`, with what was [received](receive). What is
    /// of no use to any tracker is given up, with a warning.
    #[must_use]
    pub(crate) fn new(systemd: Arc<Systemd>) -> Self {
        let mut received = RECEIVED.lock().unwrap_or_else(PoisonError::into_inner);
        let capacity = env::var("FDSTORE").ok().and_then(|max| max.parse().ok());
        let kept = Self {
            systemd,
            capacity,
            state: Mutex::default(),
        };
        kept.state().passed = received
            .drain(..)
            .filter_map(|it| kept.usable(it))
            .collect();
        kept
    }

    fn usable(&self, Received { name, socket }: Received) -> Option<Passed> {
        let looked_at = match socket {
            Some(socket) => look_at(&socket).map(|it| (socket, it)),
            None => Err("it is not an IP socket".to_owned()),
        };
        match looked_at {
            Ok((socket, (kind, address))) => Some(Passed {
                socket,
                name,
                kind,
                address,
            }),
            Err(reason) => {
                log::warn!("{name:?}, which the service manager has passed, is closed: {reason}");
                self.systemd.forget(&name);
                None
            }
        }
    }

    /// Whether sockets of this process outlive it, as far as the service manager has told.
    #[must_use]
    pub fn outlive_the_process(&self) -> bool {
        self.capacity.is_some_and(|max| max > 0) || self.state().has_kept
    }

    /// Takes the sockets of an address that were passed, at most `max` of them, in the order in
    /// which the kernel numbers them. Sockets that are in the way of this address, and would be in
    /// the way of a new one, are given up.
    #[must_use]
    pub fn take(&self, kind: Kind, address: SocketAddr, max: usize) -> Vec<Taken> {
        let mut state = self.state();
        let mut fitting = Vec::new();
        for passed in std::mem::take(&mut state.passed) {
            if passed.kind == kind && passed.address == address {
                fitting.push(passed);
            } else if passed.kind == kind && is_in_the_way(passed.address, address) {
                self.give_up(passed);
            } else {
                state.passed.push(passed);
            }
        }
        // Those of a unit come first: they were there before the first process.
        fitting.sort_by_key(Passed::place);
        while fitting.len() > max
            && let Some(last) = fitting.pop()
        {
            self.give_up(last);
        }
        let take = |passed: Passed| Taken {
            place: passed.place(),
            socket: passed.socket,
        };
        let taken: Vec<Taken> = fitting.into_iter().map(take).collect();
        let from_store = taken.iter().filter(|it| it.place.is_some()).count();
        state.kept += from_store;
        state.has_kept |= from_store > 0;
        taken
    }

    /// Has the service manager keep a socket that this process has bound, when all that is not
    /// needed any more has been [given up](Self::settle). `place` is that among the sockets of its
    /// address.
    pub fn keep(&self, kind: Kind, address: SocketAddr, place: usize, socket: &impl AsFd) {
        let name = name(kind, address, place);
        match socket.as_fd().try_clone_to_owned() {
            Ok(copy) => self.state().bound.push((name, copy)),
            Err(error) => log::warn!("{kind} socket of {address} does not outlive us: {error}"),
        }
    }

    /// All sockets have been taken and bound that belong to an address: closes what is left, and
    /// has the new ones kept. In this order, so that there is room for them.
    pub fn settle(&self) {
        let mut state = self.state();
        for passed in std::mem::take(&mut state.passed) {
            self.give_up(passed);
        }
        for (name, socket) in std::mem::take(&mut state.bound) {
            // One that does not read would be waited for with each socket anew.
            if !self.systemd.store(&name, &socket) {
                break;
            }
            state.kept += 1;
        }
        if let Some(max) = self.capacity
            && max < state.kept
        {
            log::warn!(
                "the service manager keeps {max} sockets, and there are {}: what waits in the \
                 others is lost at a restart (set FileDescriptorStoreMax= to {} or more)",
                state.kept,
                state.kept
            );
        }
    }

    fn give_up(&self, passed: Passed) {
        let Passed { kind, address, .. } = passed;
        if passed.place().is_some() {
            log::info!("{kind} socket of {address} closed: the configuration does not name it");
            self.systemd.forget(&passed.name);
        } else {
            log::warn!(
                "{kind} socket of {address} closed, which the service manager has passed as \
                 {:?}: `network.address` does not name it",
                passed.name
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// The place that the first new socket of an address has, behind those that were passed.
    #[must_use]
    pub fn next_place(taken: &[Self]) -> usize {
        let behind_last = taken.iter().filter_map(|it| it.place).max();
        behind_last.map_or(0, |last| last + 1).max(taken.len())
    }
}

impl Passed {
    /// Its place, if an aquatic tracker has put it into the store. Other names are those of units,
    /// which keep their sockets by themselves.
    fn place(&self) -> Option<usize> {
        let (_, number) = self.name.rsplit_once('-')?;
        let place = number.parse().ok()?;
        (name(self.kind, self.address, place) == self.name).then_some(place)
    }
}

/// What the store calls a socket. Colons separate names in `LISTEN_FDNAMES`.
fn name(kind: Kind, address: SocketAddr, place: usize) -> String {
    format!("aquatic-{kind}-{address}-{place}").replace(':', "_")
}

/// What a tracker could use a socket for; or why it could not.
fn look_at(socket: &OwnedFd) -> Result<(Kind, SocketAddr), String> {
    let socket = SockRef::from(socket);
    let look = || -> io::Result<_> {
        let address = socket.local_addr()?.as_socket();
        let takes_ipv4 = address.is_some_and(|it| it.is_ipv6()) && !socket.only_v6()?;
        Ok((address, socket.r#type()?, socket.protocol()?, takes_ipv4))
    };
    let (address, of_type, protocol, takes_ipv4) = look().map_err(|error| error.to_string())?;
    let address = address.ok_or("it is not an IP socket")?;
    let kind = match (of_type, protocol) {
        (Type::DGRAM, Some(Protocol::UDP)) => Kind::Datagram,
        (Type::STREAM, _) => Kind::Stream,
        _ => {
            return Err(format!(
                "at {address}: it is neither a UDP nor a TCP socket"
            ));
        }
    };
    if socket.peer_addr().is_ok() {
        return Err(format!(
            "at {address}: it is connected to one client (in a .socket unit, write Accept=no)"
        ));
    }
    if address.port() == 0 {
        return Err("it is not bound".to_owned());
    }
    if takes_ipv4 {
        return Err(format!(
            "at {address}: IPv4 has sockets of its own, and this one takes IPv4, too (in a \
             .socket unit, write BindIPv6Only=ipv6-only)"
        ));
    }
    Ok((kind, address))
}

/// Whether a socket at one of these addresses keeps the other one from being bound.
fn is_in_the_way(one: SocketAddr, other: SocketAddr) -> bool {
    let scope = |address| match address {
        SocketAddr::V6(address) => address.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    // A link-local address may be there on each interface.
    let (scope_of_one, scope_of_other) = (scope(one), scope(other));
    let is_elsewhere = scope_of_one != 0 && scope_of_other != 0 && scope_of_one != scope_of_other;
    one.is_ipv6() == other.is_ipv6()
        && one.port() == other.port()
        && !is_elsewhere
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket};

    use super::*;

    fn bind(address: SocketAddr) -> (OwnedFd, SocketAddr) {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::DGRAM, None).unwrap();
        if address.is_ipv6() {
            socket.set_only_v6(true).unwrap();
        }
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket.into(), address)
    }

    fn received(kept: &KeptSockets, name: &str, socket: OwnedFd) {
        let received = Received {
            name: name.to_owned(),
            socket: Some(socket),
        };
        kept.state().passed.extend(kept.usable(received));
    }

    fn places(taken: &[Taken]) -> Vec<Option<usize>> {
        taken.iter().map(|it| it.place).collect()
    }

    #[test]
    fn sockets_of_an_address_come_in_the_order_of_their_binding() {
        let kept = KeptSockets::default();
        let (socket, address) = bind("[::1]:0".parse().unwrap());
        let again = || bind(address).0;
        received(&kept, &name(Kind::Datagram, address, 10), socket);
        received(&kept, &name(Kind::Datagram, address, 2), again());
        received(&kept, "tracker.socket", again());
        received(&kept, &name(Kind::Datagram, address, 9), again());
        // Of another address, or of another kind.
        let (other, other_address) = bind("127.0.0.1:0".parse().unwrap());
        received(&kept, &name(Kind::Datagram, other_address, 0), other);
        assert_eq!(kept.take(Kind::Stream, address, 9).len(), 0);
        let taken = kept.take(Kind::Datagram, address, 9);
        assert_eq!(places(&taken), [None, Some(2), Some(9), Some(10)]);
        assert_eq!(Taken::next_place(&taken), 11);
        assert_eq!(kept.take(Kind::Datagram, address, 9).len(), 0);
        assert_eq!(kept.take(Kind::Datagram, other_address, 9).len(), 1);
        assert!(kept.outlive_the_process());
    }

    #[test]
    fn what_is_too_many_or_in_the_way_is_closed() {
        let kept = KeptSockets::default();
        let (socket, address) = bind("127.0.0.1:0".parse().unwrap());
        received(&kept, &name(Kind::Datagram, address, 1), bind(address).0);
        received(&kept, &name(Kind::Datagram, address, 0), socket);
        assert_eq!(places(&kept.take(Kind::Datagram, address, 1)), [Some(0)]);

        let (socket, address) = bind("127.0.0.1:0".parse().unwrap());
        received(&kept, &name(Kind::Datagram, address, 0), socket);
        let all = SocketAddr::new([0, 0, 0, 0].into(), address.port());
        assert_eq!(kept.take(Kind::Datagram, all, 1).len(), 0);
        std::net::UdpSocket::bind(all).unwrap();

        let (socket, address) = bind("[::1]:0".parse().unwrap());
        received(&kept, "aquatic-tracker-0", socket);
        kept.settle();
        std::net::UdpSocket::bind(address).unwrap();
        assert_eq!(Taken::next_place(&[]), 0);
    }

    #[test]
    fn addresses_are_in_the_way_of_those_that_they_include() {
        let is_in_the_way = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|it| it.parse().unwrap());
            assert_eq!(is_in_the_way(one, other), is_in_the_way(other, one));
            is_in_the_way(one, other)
        };
        assert!(is_in_the_way("0.0.0.0:1", "127.0.0.1:1"));
        assert!(is_in_the_way("[::]:1", "[::1]:1"));
        assert!(!is_in_the_way("0.0.0.0:1", "127.0.0.1:2"));
        assert!(!is_in_the_way("127.0.0.2:1", "127.0.0.1:1"));
        assert!(!is_in_the_way("0.0.0.0:1", "[::1]:1"));
        assert!(is_in_the_way("[fe80::1%2]:1", "[fe80::1%2]:1"));
        assert!(!is_in_the_way("[fe80::1%2]:1", "[fe80::1%3]:1"));
    }

    /// sd_notify(3), and the separator of `LISTEN_FDNAMES`.
    #[test]
    fn names_are_what_the_store_takes() {
        let longest = "[1111:2222:3333:4444:5555:6666:7777:8888%4294967295]:65535";
        let name = name(Kind::Stream, longest.parse().unwrap(), usize::MAX);
        assert!(name.len() <= 255 && !name.contains(':'), "{name}");
        assert!(
            name.bytes().all(|byte| (b' '..0x7f).contains(&byte)),
            "{name}"
        );
    }
}
