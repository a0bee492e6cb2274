//! Binding an address: patience, and why it cannot be had, in words that an operator can act on.
//!
//! Binding itself is left to those who know what socket they need.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use aquatic_config::Addresses;
use nix::errno::Errno;

/// How often, and how long in all (2 seconds), an address that is in use is tried again.
const TRIES: u32 = 40;
const TRY_INTERVAL: Duration = Duration::from_millis(50);

/// Makes sure that the addresses can be bound, by doing so. Returns what `bind` has made of those
/// that the host can serve: default addresses of an IP version that it does not have are left out,
/// with a warning, as long as one is left.
///
/// `bind` must let no one share the address, so that a second instance is noticed.
///
/// # Errors
/// If an address cannot be bound for another reason, or if a file has named it.
pub fn claim<T>(
    addresses: &Addresses,
    mut bind: impl FnMut(SocketAddr) -> io::Result<T>,
) -> anyhow::Result<Vec<T>> {
    let mut bound = Vec::new();
    let mut served = Vec::new();
    let mut missing = Vec::new();
    for address in addresses.iter() {
        match retry_while_in_use(address, &mut bind) {
            Ok(socket) => {
                bound.push(socket);
                served.push(address);
            }
            Err(cause) if is_missing_family(address, &cause) => missing.push((address, cause)),
            Err(cause) => return Err(error(address, &cause)),
        }
    }
    if let Some((address, cause)) = missing.first()
        && (served.is_empty() || !addresses.are_default())
    {
        let advice = match served[..] {
            [] => format!(
                "write for example `network.address = \"{}\"`",
                other_family(*address)
            ),
            _ => format!("write `network.address = {:?}`", words(&served)),
        };
        return Err(anyhow::anyhow!("{}: {advice}", error(*address, cause)));
    }
    for (address, _) in missing {
        let version = version(address);
        log::warn!(
            "this machine has no {version}: the default address {address} is left out (to be rid \
             of this warning, write `network.address = {:?}`)",
            words(&served)
        );
    }
    Ok(bound)
}

/// Binds an address when no one else uses it, if that takes only a moment: the kernel lets go of
/// the sockets of an io_uring some time after their process has ended, so after a restart they may
/// still be there.
///
/// # Errors
/// If the address cannot be bound.
pub fn with_retry<T>(
    address: SocketAddr,
    bind: impl FnMut(SocketAddr) -> io::Result<T>,
) -> anyhow::Result<T> {
    retry_while_in_use(address, bind).map_err(|cause| error(address, &cause))
}

fn retry_while_in_use<T>(
    address: SocketAddr,
    mut bind: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut tries_left = TRIES;
    loop {
        match bind(address) {
            Err(in_use) if in_use.kind() == io::ErrorKind::AddrInUse && tries_left > 0 => {
                tries_left -= 1;
                thread::sleep(TRY_INTERVAL);
            }
            bound_or_not => return bound_or_not,
        }
    }
}

/// The error of binding or listening on `address`, with what to do about it.
#[must_use]
pub fn error(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        _ if is_missing_family(address, error) => {
            format!("this machine has no {}", version(address))
        }
        io::ErrorKind::AddrInUse => {
            "another program, perhaps a second instance of this one, uses this address".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "no network interface of this machine has this address".to_owned()
        }
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "ports below 1024 are for root and for programs with CAP_NET_BIND_SERVICE".to_owned()
        }
        _ => error.to_string(),
    };
    anyhow::anyhow!("cannot bind {address}: {advice}")
}

/// Whether the host lacks the IP version of `address`: its kernel was started with
/// `ipv6.disable=1`, say, or the service manager forbids it (systemd: `RestrictAddressFamilies=`).
/// One without any address cannot even bind the one that stands for all.
fn is_missing_family(address: SocketAddr, error: &io::Error) -> bool {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAFNOSUPPORT) => true,
        Some(Errno::EADDRNOTAVAIL) => address.ip().is_unspecified(),
        _ => false,
    }
}

fn version(address: SocketAddr) -> &'static str {
    if address.is_ipv6() { "IPv6" } else { "IPv4" }
}

fn other_family(address: SocketAddr) -> SocketAddr {
    let all: IpAddr = match address {
        SocketAddr::V4(_) => Ipv6Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv4Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(all, address.port())
}

fn words(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(SocketAddr::to_string).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use aquatic_config::{Checks, Config, LogLevel, load, section};

    use super::*;

    fn failure(address: &str) -> String {
        let address = address.parse().unwrap();
        error(address, &TcpListener::bind(address).unwrap_err()).to_string()
    }

    #[test]
    fn an_address_in_use_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let message = failure(&address);
        assert!(
            message.starts_with(&format!("cannot bind {address}: another program")),
            "{message}"
        );
    }

    #[test]
    fn a_foreign_address_is_named() {
        // TEST-NET-1 (RFC 5737) belongs to no machine.
        assert_eq!(
            failure("192.0.2.1:0"),
            "cannot bind 192.0.2.1:0: no network interface of this machine has this address"
        );
    }

    #[test]
    fn an_address_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut others = vec![listener];
        let bound = with_retry(address, |address| {
            let bound = TcpListener::bind(address);
            others.clear();
            bound
        });
        assert_eq!(bound.unwrap().local_addr().unwrap(), address);
        let refusal = with_retry(address, |_| -> io::Result<()> {
            Err(io::ErrorKind::PermissionDenied.into())
        });
        assert!(refusal.unwrap_err().to_string().contains("permission"));
    }

    /// Binds on a host without one IP version.
    fn claim_without(
        version: fn(&SocketAddr) -> bool,
        errno: Errno,
        addresses: &Addresses,
    ) -> Result<Vec<String>, String> {
        let claimed = claim(addresses, |address| match version(&address) {
            true => Err(io::Error::from(errno)),
            false => Ok(address.to_string()),
        });
        claimed.map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_of_a_missing_version_are_left_out() {
        let default = Addresses::default();
        for errno in [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL] {
            let without = |version| claim_without(version, errno, &default).unwrap();
            assert_eq!(without(SocketAddr::is_ipv6), ["0.0.0.0:3000"]);
            assert_eq!(without(SocketAddr::is_ipv4), ["[::]:3000"]);
            assert_eq!(without(|_| false), ["0.0.0.0:3000", "[::]:3000"]);
            let reason = claim_without(|_| true, errno, &default).unwrap_err();
            assert!(reason.contains("no IPv4"), "{reason}");
        }
        let reason = claim_without(SocketAddr::is_ipv6, Errno::EACCES, &default).unwrap_err();
        assert!(reason.contains("Permission denied"), "{reason}");
    }

    #[test]
    fn named_addresses_of_a_missing_version_are_errors_that_say_what_to_write() {
        for (text, advice) in [
            (
                "address = ['0.0.0.0:3000', '[::]:3000']",
                "cannot bind [::]:3000: this machine has no IPv6: write \
                 `network.address = [\"0.0.0.0:3000\"]`",
            ),
            (
                "address = '[::1]:3000'",
                "cannot bind [::1]:3000: this machine has no IPv6: write for example \
                 `network.address = \"0.0.0.0:3000\"`",
            ),
        ] {
            let addresses = load::<Listening>(text).unwrap().config.address;
            let refusal = claim_without(SocketAddr::is_ipv6, Errno::EAFNOSUPPORT, &addresses);
            assert_eq!(refusal.unwrap_err(), advice);
        }
    }

    section! {
        /// A daemon's addresses.
        struct Listening {
            /// Where to listen.
            pub address: Addresses = Addresses::default(),
        }
    }

    impl Config for Listening {
        fn check(&self, _: &mut Checks) {}

        fn log_level(&self) -> LogLevel {
            LogLevel::Off
        }
    }

    #[test]
    fn other_errors_are_passed_on() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let message = |address: &str| error(address.parse().unwrap(), &denied).to_string();
        assert!(message("0.0.0.0:80").contains("CAP_NET_BIND_SERVICE"));
        assert_eq!(
            message("0.0.0.0:3000"),
            "cannot bind 0.0.0.0:3000: permission denied"
        );
    }
}
