//! Two hosts and a cable, out of nothing: network namespaces, and a pair of virtual interfaces.
//!
//! ```text
//!   namespace "tracker"                     namespace "client"
//!   interface "in"  ------------------------  interface "out"
//!   10.78.0.1, 2001:db8:78::1                 10.78.0.2, 2001:db8:78::2
//! ```

use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, thread};

use nix::sched::{CloneFlags, setns};
use nix::time::{ClockId, clock_gettime};

/// Namespaces of one process need different names.
static LABS_MADE: AtomicU32 = AtomicU32::new(0);

/// An answer that takes longer is lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

pub(crate) const TRACKER: [&str; 2] = ["10.78.0.1", "2001:db8:78::1"];
pub(crate) const CLIENT: [&str; 2] = ["10.78.0.2", "2001:db8:78::2"];

#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Tracker,
    Client,
}

impl Side {
    pub(crate) fn interface(self) -> &'static str {
        match self {
            Self::Tracker => "in",
            Self::Client => "out",
        }
    }
}

/// Removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    prefix: String,
}

impl Lab {
    /// `None`: this process may not make namespaces. Under `CI=true` that is a failure.
    pub(crate) fn new(queues: u32) -> Option<Self> {
        let number = LABS_MADE.fetch_add(1, Ordering::Relaxed);
        let lab = Self {
            prefix: format!("aquatic-xdp-{}-{number}", process::id()),
        };
        let name = lab.namespace(Side::Tracker);
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        if !made.as_ref().is_ok_and(|output| output.status.success()) {
            let is_ci = env::var_os("CI").is_some_and(|value| value == "true");
            assert!(!is_ci, "may not make namespaces: {made:?}");
            eprintln!("nothing tested, as there are no namespaces: {made:?}");
            return None;
        }
        let peer = lab.namespace(Side::Client);
        run("ip", &["netns", "add", &peer]);
        let many = format!("numrxqueues {queues} numtxqueues {queues}");
        let cable = format!("link add in {many} type veth peer name out {many} netns {peer}");
        lab.ip(Side::Tracker, &cable);
        for (side, addresses) in [(Side::Tracker, TRACKER), (Side::Client, CLIENT)] {
            let interface = side.interface();
            lab.ip(side, "link set lo up");
            lab.ip(
                side,
                &format!("address add {}/24 dev {interface}", addresses[0]),
            );
            // Without it, an address of IPv6 is not used for seconds.
            let address = format!("address add {}/64 dev {interface} nodad", addresses[1]);
            lab.ip(side, &address);
            lab.ip(side, &format!("link set {interface} up"));
        }
        // Some time passes until a link is up.
        for ip in TRACKER {
            wait_until(|| lab.reaches(ip.parse().unwrap()));
        }
        Some(lab)
    }

    fn namespace(&self, side: Side) -> String {
        match side {
            Side::Tracker => format!("{}-tracker", self.prefix),
            Side::Client => format!("{}-client", self.prefix),
        }
    }

    /// Whether the client gets an answer of the tracker's kernel: that nobody listens there.
    pub(crate) fn reaches(&self, ip: IpAddr) -> bool {
        self.enter(Side::Client, || {
            let discard = SocketAddr::new(ip, 9);
            let limit = Duration::from_secs(1);
            TcpStream::connect_timeout(&discard, limit)
                .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        })
    }

    /// Does something in one of the namespaces.
    pub(crate) fn enter<T: Send>(&self, side: Side, action: impl FnOnce() -> T + Send) -> T {
        let path = format!("/var/run/netns/{}", self.namespace(side));
        let namespace = File::open(path).unwrap();
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
                action()
            });
            thread.join().unwrap()
        })
    }

    /// Runs `ip` there, and gives back what it prints.
    pub(crate) fn ip(&self, side: Side, arguments: &str) -> String {
        let name = self.namespace(side);
        let arguments = ["-n", &name].into_iter().chain(arguments.split(' '));
        run("ip", &arguments.collect::<Vec<_>>())
    }

    /// The address of an interface.
    pub(crate) fn mac(&self, side: Side) -> [u8; 6] {
        let text = self.ip(side, &format!("link show dev {}", side.interface()));
        let mut words = text.split_whitespace();
        words.find(|word| *word == "link/ether").unwrap();
        let bytes = words.next().unwrap().split(':');
        let bytes = bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap());
        bytes.collect::<Vec<_>>().try_into().unwrap()
    }

    /// A socket of a client's that sends to the tracker.
    pub(crate) fn client(&self, ips: (&str, &str), port: u16) -> UdpSocket {
        let address = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
        self.enter(Side::Client, || {
            let socket = UdpSocket::bind(address(ips.0, 0)).unwrap();
            socket.connect(address(ips.1, port)).unwrap();
            socket.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
            socket
        })
    }

    /// A socket of the tracker's kernel.
    pub(crate) fn tracker(&self, ip: &str, port: u16) -> UdpSocket {
        let address = SocketAddr::new(ip.parse().unwrap(), port);
        self.enter(Side::Tracker, || {
            let socket = UdpSocket::bind(address).unwrap();
            socket.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
            socket
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for side in [Side::Tracker, Side::Client] {
            // Fails only if it was not made.
            let name = self.namespace(side);
            let _ = Command::new("ip").args(["netns", "delete", &name]).output();
        }
    }
}

/// Fails if it takes longer than anything here should.
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    let now = || Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
    let limit = now() + Duration::from_secs(30);
    while !condition() {
        assert!(now() < limit, "it does not happen");
        thread::yield_now();
    }
}

/// Rights to use raw sockets (`linux/capability.h`).
pub(crate) const CAP_NET_RAW: u32 = 13;

/// Takes all rights from this thread but those of a set.
pub(crate) fn keep_capabilities(set: u32) {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    // Of two halves each: those in force, those that can be, and those for other programs.
    let data = [set, set, 0, 0, 0, 0];
    // SAFETY: they are a `cap_user_header_t`, and two `cap_user_data_t`, which the kernel reads.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(result, 0);
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}
