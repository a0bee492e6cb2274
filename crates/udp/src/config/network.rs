//! Sockets, and what is in front of them.

use std::path::PathBuf;

use aquatic_config::{Addresses, Checks, section};
use serde::{Deserialize, Serialize};

/// What fits into the C int that systems are asked with.
const BUFFER_BYTES_MAX: usize = (1 << 31) - 1;

section! {
    /// Sockets.
    pub struct NetworkConfig {
        /// Where to listen: one address and port or a list of them.
        ///
        /// Each gets a socket in each socket worker. IPv6 sockets accept IPv6 only, so that both
        /// kinds can use the same port. An IP version that the machine does not have is left out of
        /// the default addresses; it is an error if the file names the address.
        pub address: Addresses = Addresses::default(),
        /// Concerns `[::]` as the only address: whether it serves IPv6 alone. If false, a second
        /// socket serves IPv4.
        pub only_ipv6: bool = false,
        /// How datagrams are received and sent: auto, mio (batched system calls) or io_uring (Linux
        /// 6.0 or later).
        ///
        /// auto takes io_uring, which measured faster, or mio where the system does not allow
        /// io_uring (many container runtimes forbid it), and logs which and why. io_uring ends the
        /// program at start, with the reason, where it does not work.
        pub backend: Backend = Backend::Auto,
        /// Bytes of receive buffer per socket. 0 = the system's default.
        ///
        /// What arrives while it is full is lost, so make it large on a busy tracker. The system's
        /// limit may have to be raised (Linux: sysctl net.core.rmem_max).
        pub socket_recv_buffer_size: usize = 8_000_000,
        /// Bytes of send buffer per socket. 0 = the system's default.
        ///
        /// Answers are dropped while it is full. Those to hosts of the tracker's own network that
        /// do not exist stay in it for some seconds, so with a small one, strangers who forge such
        /// addresses can silence the tracker. The system's limit may have to be raised (Linux:
        /// sysctl net.core.wmem_max).
        pub socket_send_buffer_size: usize = 8_000_000,
        /// Milliseconds after which an idle worker looks after its timers (cleaning, statistics).
        pub poll_timeout_ms: u64 = 50,
        /// Microseconds that a busy worker may wait to gather a batch of requests. 0 = never waits.
        /// The less comes, the longer it waits; from some 100,000 requests per second on, 200.
        ///
        /// Saves CPU time at moderate load, and adds at most this to the time of an answer. An idle
        /// worker does not wait: it is woken by the first request. Nor does one whose clients wait
        /// for its answers before they ask again; it finds out by trying.
        pub batch_wait_us: u64 = 500,
        /// Answers per socket that are kept when the send buffer is full, to be sent again. 0 =
        /// none: they are dropped (and counted).
        ///
        /// Useful on systems without a send buffer for UDP, such as FreeBSD.
        pub resend_buffer_max_len: usize = 0,
        /// Requests that the kernel can hold for one worker (io_uring only). Rounded up to a power
        /// of two.
        pub ring_size: u16 = 128,
        /// Whether the kernel drops datagrams with a wrong connection id, and those that are no
        /// request, before they are put into the queue of a socket: auto or off (Linux only).
        ///
        /// auto does so in a flood: 2,000 of them in a second at a worker. They take a fraction of
        /// the time then, so that others are still answered, and are counted. Some wrong ids are
        /// let through, so that these clients are told to connect again. It takes less time, and
        /// counts better, with Linux 5.11 and root or CAP_BPF at the start; the log says which.
        pub socket_filter: SocketFilterMode = SocketFilterMode::Auto,
        /// What a program does with datagrams before the kernel's network stack sees them: off,
        /// connect (answers connect requests), filter (answers connect requests, and drops what is
        /// no request or has a wrong connection id) or full (hands all other requests to the
        /// tracker, too, by AF_XDP). Linux 5.18 or later, and root or CAP_BPF and CAP_NET_ADMIN,
        /// and CAP_NET_RAW for full, at the start.
        ///
        /// Of a flood of a million a second nearly nothing is left for the tracker to do then. But
        /// what is answered or dropped there passes neither firewall nor packet capture, so read
        /// documents/operating-udp.md first. Where it does not work, the log says why, and the
        /// tracker serves without it.
        pub xdp: XdpSetting = XdpSetting::Off,
        /// Interfaces that have the program: those that clients come by.
        pub xdp_interfaces: Vec<String> = Vec::new(),
        /// Who runs it: native (the driver of the card), generic (the kernel, a little later, on
        /// any interface) or auto (native for cards that can, generic for all else).
        pub xdp_mode: XdpMode = XdpMode::Auto,
        /// Ends the program at the start if one of the interfaces cannot have it.
        pub xdp_required: bool = false,
        /// Connect requests that it answers in a second at most, by each CPU; what is more is
        /// dropped. So that nobody can have others flooded with answers to forged addresses.
        pub xdp_answers_per_second: u32 = 1_000_000,
        /// Wrong connection ids that it answers with an error in a second at most, by each CPU;
        /// what is more is dropped. So clients with an id of an earlier process learn of it.
        pub xdp_errors_per_second: u32 = 10_000,
        /// File with the secret of connection ids. Empty = a new secret at each start.
        ///
        /// With a file, clients that have an id can go on using it after a restart, and trackers
        /// behind one address (anycast, several hosts) accept each other's ids if they have the
        /// same file and clocks that differ by less than 5 seconds. It is made if it does not
        /// exist, is read before privileges are dropped, and must be closed to other users.
        pub connection_secret_file: PathBuf = PathBuf::new(),
    }
}

/// How datagrams are received and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The fastest that works here.
    #[default]
    Auto,
    /// io_uring, or an error at start.
    IoUring,
    /// epoll (or what the system has instead) and batched system calls.
    Mio,
}

/// Whether the kernel filters what comes to a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketFilterMode {
    /// If the system allows it.
    #[default]
    Auto,
    /// No.
    Off,
}

/// What a program does before the network stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpSetting {
    /// There is none.
    #[default]
    Off,
    /// It answers connect requests.
    Connect,
    /// It drops, too, what is no request or has a wrong connection id.
    Filter,
    /// It hands all other requests to the tracker, past the network stack.
    Full,
}

/// Who runs that program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpMode {
    /// The driver of a card, if it can, and the kernel on other interfaces.
    #[default]
    Auto,
    /// The driver.
    Native,
    /// The kernel.
    Generic,
}

impl NetworkConfig {
    pub(super) fn check(&self, checks: &mut Checks) {
        let network = self;
        network.address.check_only_ipv6(network.only_ipv6, checks);
        checks.require(
            network.batch_wait_us < 1_000,
            "network.batch_wait_us",
            "must be less than 1000: it is added to the time of an answer",
        );
        checks.require(
            network.address.iter().len() <= usize::from(u8::MAX),
            "network.address",
            "must be at most 255 addresses",
        );
        checks.require(
            network.xdp == XdpSetting::Off || cfg!(target_os = "linux"),
            "network.xdp",
            "must be off outside Linux, which alone has such programs",
        );
        checks.require(
            network.xdp == XdpSetting::Off || !network.xdp_interfaces.is_empty(),
            "network.xdp_interfaces",
            "must name at least one interface, since `network.xdp` is not off",
        );
        if network.xdp != XdpSetting::Off {
            network.check_interfaces(checks);
        }
    }

    fn check_interfaces(&self, checks: &mut Checks) {
        let names = &self.xdp_interfaces;
        for (number, name) in names.iter().enumerate() {
            let problem = if name.is_empty() {
                "is empty: name an interface, or leave it out"
            } else if name.contains(char::is_whitespace) {
                "has a blank, which no name of an interface has"
            } else if names.iter().take(number).any(|earlier| earlier == name) {
                "is named twice"
            } else {
                continue;
            };
            // In quotes, blanks can be seen.
            let reason = format!("{name:?} {problem}");
            checks.require(false, "network.xdp_interfaces", reason);
        }
    }

    /// Warns of what is allowed, but hardly meant.
    pub(super) fn advise(&self, checks: &mut Checks) {
        if self.xdp != XdpSetting::Off {
            checks.advise(
                !self.xdp_interfaces.iter().any(|name| name == "lo"),
                "network.xdp_interfaces",
                "\"lo\": requests to 127.0.0.0/8 and ::1 are left to the network stack; name the \
                 interface that clients come by",
            );
            return;
        }
        checks.advise(
            self.xdp_interfaces.is_empty(),
            "network.xdp_interfaces",
            "names interfaces, but `network.xdp` is off: they are left alone",
        );
        for (is_default, key) in [
            (self.xdp_mode == XdpMode::Auto, "network.xdp_mode"),
            (!self.xdp_required, "network.xdp_required"),
        ] {
            let reason = "is not used, because `network.xdp` is off";
            checks.advise(is_default, key, reason);
        }
    }

    pub(super) fn clamp(&mut self, checks: &mut Checks) {
        checks.clamp(
            &mut self.poll_timeout_ms,
            1..=1_000,
            "network.poll_timeout_ms",
            "an idle worker must rest, and look after its timers each second",
        );
        for (bytes, key) in [
            (
                &mut self.socket_recv_buffer_size,
                "network.socket_recv_buffer_size",
            ),
            (
                &mut self.socket_send_buffer_size,
                "network.socket_send_buffer_size",
            ),
        ] {
            let reason = "systems can be asked for no more";
            checks.clamp(bytes, 0..=BUFFER_BYTES_MAX, key, reason);
        }
        checks.clamp(
            &mut self.ring_size,
            16..=16_384,
            "network.ring_size",
            "a ring of io_uring is neither smaller nor larger",
        );
        checks.clamp(
            &mut self.xdp_answers_per_second,
            1..=u32::MAX,
            "network.xdp_answers_per_second",
            "without answers nobody is served",
        );
    }
}
