//! Where a NATS server is: `nats://host:port` or `tls://host:port`.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};

/// The port of NATS servers, if none is written.
const PORT: u16 = 4_222;

/// Where a NATS server is, and whether connections to it are encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// Whether TLS is a must.
    pub is_encrypted: bool,
    /// A name or an IP address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl ServerUrl {
    /// The host as an address, unless it is a name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether the server is on this machine, so that nobody can listen in.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let is_local_name = self.host.eq_ignore_ascii_case("localhost");
        self.address()
            .map_or(is_local_name, |ip| ip.to_canonical().is_loopback())
    }
}

impl FromStr for ServerUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (scheme, place) = text
            .split_once("://")
            .context("write for example \"tls://nats1.example.org:4222\"")?;
        let is_encrypted = match scheme {
            "tls" => true,
            "nats" => false,
            _ => bail!("begins with {scheme}://, where tls:// or nats:// is known"),
        };
        ensure!(
            !place.contains('@'),
            "has a user or a token in it: put that into `cluster.credentials_file`, which others \
             cannot read"
        );
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').context("has a [ without a ]")?;
                let is_address = host.parse::<Ipv6Addr>().is_ok();
                ensure!(is_address, "has no IPv6 address between [ and ]");
                (host, port)
            }
            None => place.split_at(place.find(':').unwrap_or(place.len())),
        };
        ensure!(!host.is_empty(), "has no host");
        let is_sign = |sign: char| sign.is_ascii_alphanumeric() || "-._:".contains(sign);
        ensure!(
            host.chars().all(is_sign),
            "has a host that is neither a name nor an address: {host:?}"
        );
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port > 0),
            None => port.is_empty().then_some(PORT),
        };
        Ok(Self {
            is_encrypted,
            host: host.to_owned(),
            port: port.context("has no port between 1 and 65535 at its end")?,
        })
    }
}

impl Display for ServerUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_encrypted { "tls" } else { "nats" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_be_missing_and_addresses_may_have_six_colons() {
        for (text, normal) in [
            ("tls://nats1.example.org", "tls://nats1.example.org:4222"),
            ("nats://127.0.0.1:1/", "nats://127.0.0.1:1"),
            ("nats://[::1]:65535", "nats://[::1]:65535"),
            ("tls://[2001:db8::1]", "tls://[2001:db8::1]:4222"),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), normal);
        }
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused_with_the_reason() {
        for (text, reason) in [
            ("nats1.example.org", "write for example"),
            ("ws://host", "begins with ws://"),
            ("tls://", "has no host"),
            ("tls://:4222", "has no host"),
            ("tls://host:", "has no port between"),
            ("tls://host:0", "has no port between"),
            ("tls://host:65536", "has no port between"),
            ("tls://[::1", "has a [ without a ]"),
            ("tls://[host]", "no IPv6 address"),
            ("tls://[::1]4222", "has no port between"),
            ("tls://::1", "has no host"),
            ("tls://ho st", "neither a name nor an address"),
            ("tls://host/path", "neither a name nor an address"),
            ("nats://user:secret@host", "`cluster.credentials_file`"),
            ("nats://secret@host", "`cluster.credentials_file`"),
        ] {
            let error = text.parse::<ServerUrl>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("secret@"), "{error}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_addresses_and_its_name() {
        let is_loopback = |host: &str| {
            let url: ServerUrl = format!("nats://{host}").parse().unwrap();
            url.is_loopback()
        };
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "localhost",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["128.0.0.1", "[::2]", "10.0.0.1", "localhost.example.org"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
