//! What an operator can set about connections, whatever is spoken over them.

use std::path::PathBuf;

use aquatic_config::{Addresses, Checks, LimitsConfig, MemoryLimit, section};
use serde::{Deserialize, Serialize};

use crate::trusted::TrustedProxies;

/// The most time that a worker may wait for a batch: more would be felt.
const BATCH_WAIT_US_MAX: u64 = 10_000;

section! {
    /// Connections.
    pub struct StreamConfig {
        /// Where to listen: one address and port or a list of them.
        ///
        /// Each gets a socket in each socket worker. IPv6 sockets accept IPv6 only, so that both
        /// kinds can use the same port. An IP version that the machine does not have is left out of
        /// the default addresses; it is an error if the file names the address.
        pub address: Addresses = Addresses::default(),
        /// Concerns `[::]` as the only address: whether it serves IPv6 alone. If false, a second
        /// socket serves IPv4.
        pub only_ipv6: bool = false,
        /// How the program waits for connections and bytes: auto, mio (epoll) or glommio (io_uring,
        /// Linux 5.8 or later).
        ///
        /// auto takes mio, which measured faster and works everywhere. glommio ends the program at
        /// start, with the reason, where the system does not allow it: many container runtimes
        /// forbid io_uring, it needs locked memory, and whoever built the program may have left it
        /// out (cargo feature glommio).
        pub runtime: Runtime = Runtime::Auto,
        /// Connections that may wait to be accepted, per socket. The system may allow fewer (Linux:
        /// sysctl net.core.somaxconn).
        pub tcp_backlog: u32 = 1_024,
        /// Connections held at once, over all workers. 0 = as many as the limit on open files has
        /// room for (ulimit -Hn; systemd: LimitNOFILE=), which are never exceeded.
        ///
        /// For another one, the connection is closed that has been idle for longest between two
        /// requests, of the IP address that has most (IPv6: of the /64 network; a /48 network
        /// counts for a sixteenth of what it has). Among addresses that have equally many, those
        /// connections go first over which no request has come within 3 seconds.
        pub max_connections: usize = 0,
        /// Memory that all connections may hold together: requests and messages that have not come
        /// whole, answers that wait for clients to read, and what the kernel keeps of either. A
        /// share of the memory at hand ("25%"; see `limits.max_swarm_memory`), an amount
        /// ("512 MiB", KiB, GiB), or "off".
        ///
        /// When three quarters are used, whoever holds much is not read from. If that keeps
        /// somebody waiting for a second, or if seven eighths are used, the connections are closed
        /// that hold most, of the IP address (IPv6: of the /64 network) that holds most. Clients
        /// that read what they are sent, and send small requests, notice nothing. What every
        /// connection takes anyway comes on top, and is bounded by `max_connections`.
        pub max_connection_memory: MemoryLimit = MemoryLimit::Share(25),
        /// Microseconds that a busy worker may wait to gather a batch of requests. 0 = never waits.
        ///
        /// Saves CPU time at moderate load, and adds at most this to the time of an answer. An idle
        /// worker does not wait: it is woken by the first request.
        pub batch_wait_us: u64 = 200,
        /// Seconds that a client has for the TLS handshake (and a proxy for the PROXY header).
        pub handshake_timeout: u32 = 10,
        /// Seconds that a client has to send a request, from its first byte to its last.
        pub request_timeout: u32 = 15,
        /// Encrypt connections (TLS 1.2 and 1.3).
        ///
        /// Clients that can do neither TLS 1.3 nor, in TLS 1.2, a cipher suite with ECDHE and AEAD
        /// (AES-GCM or ChaCha20-Poly1305) are refused: such as have only RSA key exchange or CBC.
        pub enable_tls: bool = false,
        /// File with the certificate and the chain to its issuer, in this order (PEM), or with the
        /// certificate alone (DER).
        ///
        /// This file and the next are read again when the program gets the signal SIGHUP or
        /// SIGUSR1; new connections then use them. Files that cannot be used end the program at
        /// start; later that is logged as an error and the previous ones are kept.
        ///
        /// With `drop_privileges`, they are opened after the change of root directory and user.
        pub tls_certificate_path: PathBuf = PathBuf::new(),
        /// File with the private key, PEM or DER, PKCS#8, PKCS#1 or SEC1, without a passphrase.
        pub tls_private_key_path: PathBuf = PathBuf::new(),
        /// Take clients' addresses from a header that a reverse proxy adds to each request.
        pub runs_behind_reverse_proxy: bool = false,
        /// Name of that header. Upper and lower case do not matter.
        ///
        /// X-Forwarded-For, X-Real-IP, CF-Connecting-IP (Cloudflare) and the like hold addresses;
        /// Forwarded is understood as RFC 7239 says (for=...).
        pub reverse_proxy_ip_header_name: String = "X-Forwarded-For".to_owned(),
        /// How the header is read. last_address: all headers of that name are one list; its last
        /// address, behind which there are none but those of `trusted_proxies`, is the client's.
        pub reverse_proxy_ip_header_format: HeaderFormat = HeaderFormat::LastAddress,
        /// Expect each connection to begin with a PROXY header, version 1 or 2 (haproxy:
        /// send-proxy or send-proxy-v2), and take clients' addresses from there.
        pub proxy_protocol: bool = false,
        /// Proxies whose word about a client's address is believed: addresses and networks, such as
        /// ["127.0.0.1", "10.0.0.0/8", "fd00::/8"]. Empty: whichever peer connects is believed, so
        /// only the proxy must be able to reach the tracker.
        ///
        /// Holds for the header of a reverse proxy and for the PROXY protocol. Others are refused.
        /// Behind several proxies in a row, list all of them: their addresses in the header are
        /// passed over.
        pub trusted_proxies: TrustedProxies = TrustedProxies::default(),
    }
}

section! {
    /// The limits that all trackers over TCP have. 0 means no limit.
    pub struct ConnectionLimitsConfig {
        #[flatten]
        pub tracker: LimitsConfig,
        /// Connections held at once from one IP address (IPv6: from one /64 network, and 16 times
        /// as many from one /48). More are closed at once.
        ///
        /// A provider may put some hundred customers behind one IPv4 address, each with a few
        /// connections; an ordinary client has one to ten. With `network.proxy_protocol`, the
        /// address that the proxy names counts; with `network.runs_behind_reverse_proxy`, the
        /// default is not used, since all connections are the proxy's, and another number is an
        /// error. Set it to 0 behind a proxy that does not tell clients' addresses.
        pub max_connections_per_ip: usize = 2_048,
    }
}

/// How a worker waits for connections and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// The fastest that works here.
    #[default]
    Auto,
    /// epoll, or what the system has instead.
    Mio,
    /// io_uring, or an error at start.
    Glommio,
}

/// How a reverse proxy writes a client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderFormat {
    /// The last address of the last header counts.
    #[default]
    LastAddress,
}

impl StreamConfig {
    /// Makes keys fit.
    pub fn clamp(&mut self, checks: &mut Checks) {
        checks.clamp(
            &mut self.tcp_backlog,
            1..=i32::MAX.unsigned_abs(),
            "network.tcp_backlog",
            "that is the least and the most that the system can be asked for",
        );
    }

    /// Checks the keys, which stand in the section `network`.
    pub fn check(&self, checks: &mut Checks) {
        for (path, key) in [
            (&self.tls_certificate_path, "network.tls_certificate_path"),
            (&self.tls_private_key_path, "network.tls_private_key_path"),
        ] {
            checks.require(
                !self.enable_tls || !path.as_os_str().is_empty(),
                key,
                "must name a file (PEM), because `network.enable_tls` is true; without TLS, set \
                 that to false",
            );
        }
        self.address.check_only_ipv6(self.only_ipv6, checks);
        checks.require(
            self.batch_wait_us <= BATCH_WAIT_US_MAX,
            "network.batch_wait_us",
            format!("must be at most {BATCH_WAIT_US_MAX}"),
        );
        for (seconds, key) in [
            (self.handshake_timeout, "network.handshake_timeout"),
            (self.request_timeout, "network.request_timeout"),
        ] {
            checks.require(seconds > 0, key, "must be at least 1");
        }
        checks.require(
            !(self.proxy_protocol && self.runs_behind_reverse_proxy),
            "network.proxy_protocol",
            "cannot be combined with `network.runs_behind_reverse_proxy`: both say who the client \
             is",
        );
        let name = &self.reverse_proxy_ip_header_name;
        checks.require(
            !name.is_empty() && name.bytes().all(is_header_name_byte),
            "network.reverse_proxy_ip_header_name",
            "must be the name of a header, such as \"X-Forwarded-For\": without spaces and colon",
        );
        self.advise(checks);
    }
}

/// RFC 9110, section 5.6.2: a token.
fn is_header_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use aquatic_config::{Config, LogLevel, load, to_documented_toml};

    use super::*;

    section! {
        /// As in a daemon.
        struct Outer {
            pub network: StreamConfig,
        }
    }

    impl Config for Outer {
        fn clamp(&mut self, checks: &mut Checks) {
            self.network.clamp(checks);
        }

        fn check(&self, checks: &mut Checks) {
            self.network.check(checks);
        }

        fn log_level(&self) -> LogLevel {
            LogLevel::Off
        }
    }

    fn refusal(text: &str) -> String {
        let loaded = load::<Outer>(&format!("[network]\n{text}"));
        loaded.map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn defaults_are_right() {
        assert_eq!(refusal(""), "");
    }

    /// What `-p` says of `enable_tls`.
    #[test]
    fn tls_1_2_means_ecdhe_and_aead() {
        let printed = to_documented_toml(&Outer::default());
        let said = "in TLS 1.2, a cipher suite with ECDHE and AEAD\n\
                    # (AES-GCM or ChaCha20-Poly1305) are refused";
        assert!(printed.contains(said), "{printed}");
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        for suite in provider.cipher_suites {
            let name = format!("{:?}", suite.suite());
            let is_aead = name.contains("_GCM_") || name.contains("_CHACHA20_POLY1305_");
            let has_ecdhe = name.starts_with("TLS_ECDHE_") || name.starts_with("TLS13_");
            assert!(is_aead && has_ecdhe, "{name}");
        }
    }

    #[test]
    fn what_is_hardly_meant_is_warned_of() {
        let advice = |text: &str| {
            let loaded = load::<Outer>(&format!("[network]\naddress = '127.0.0.1:1'\n{text}"));
            loaded.unwrap().advice
        };
        for (text, expected) in [
            ("", None),
            (
                "tls_certificate_path = 'x'",
                Some(
                    "line 3: `network.tls_certificate_path`: is not used, because \
                     `network.enable_tls` is false: connections are not encrypted",
                ),
            ),
            (
                "trusted_proxies = '127.0.0.1'",
                Some(
                    "line 3: `network.trusted_proxies`: is not used, because neither \
                     `network.runs_behind_reverse_proxy` nor `network.proxy_protocol` is true",
                ),
            ),
            (
                "reverse_proxy_ip_header_name = 'X-Real-IP'",
                Some(
                    "line 3: `network.reverse_proxy_ip_header_name`: is not used, because \
                     `network.runs_behind_reverse_proxy` is false",
                ),
            ),
            // Only who is on this machine can be the proxy.
            ("runs_behind_reverse_proxy = true", None),
            ("proxy_protocol = true\ntrusted_proxies = '10.0.0.1'", None),
        ] {
            assert_eq!(advice(text), expected.as_slice(), "{text}");
        }
        for key in ["runs_behind_reverse_proxy", "proxy_protocol"] {
            for address in ["0.0.0.0:3", "[::]:3", "192.0.2.1:3", "10.0.0.1:3"] {
                let text = format!("network.address = '{address}'\nnetwork.{key} = true");
                let expected = format!(
                    "`trusted_proxies` in [network] (not in the file, so []): is empty, so whoever \
                     reaches {address} can pretend to be any client: name your proxy, such as \
                     [\"127.0.0.1\"]"
                );
                assert_eq!(load::<Outer>(&text).unwrap().advice, [expected]);
            }
        }
    }

    #[test]
    fn a_backlog_of_none_is_one() {
        let loaded = load::<Outer>("[network]\ntcp_backlog = 0").unwrap();
        assert_eq!(loaded.config.network.tcp_backlog, 1);
        let [warning] = &loaded.warnings[..] else {
            panic!("one warning, not {:?}", loaded.warnings)
        };
        assert!(warning.starts_with("line 2: `network.tcp_backlog` = 0 is too small, 1 is used"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (text, reason) in [
            ("enable_tls = true", "tls_private_key_path"),
            ("handshake_timeout = 0", "at least 1"),
            ("request_timeout = 0", "at least 1"),
            ("batch_wait_us = 1000000", "at most"),
            (
                "proxy_protocol = true\nruns_behind_reverse_proxy = true",
                "combined",
            ),
            (
                "reverse_proxy_ip_header_name = \"X Real\"",
                "name of a header",
            ),
            ("reverse_proxy_ip_header_format = \"first\"", "last_address"),
            ("trusted_proxies = [\"nowhere\"]", "nowhere"),
            ("runtime = \"tokio\"", "glommio"),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains(reason), "{text}: {refusal}");
        }
    }
}
