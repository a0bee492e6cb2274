//! Binding an address: patience, and why it cannot be had, in words that an operator can act on.
//!
//! Binding itself is left to those who know what socket they need.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

/// How often, and how long in all (2 seconds), an address that is in use is tried again.
const TRIES: u32 = 40;
const TRY_INTERVAL: Duration = Duration::from_millis(50);

/// Binds an address when no one else uses it, if that takes only a moment: the kernel lets go of
/// the sockets of an io_uring some time after their process has ended, so after a restart they may
/// still be there.
///
/// # Errors
/// If the address cannot be bound.
pub fn when_free<T>(
    address: SocketAddr,
    mut bind: impl FnMut(SocketAddr) -> io::Result<T>,
) -> anyhow::Result<T> {
    let mut tries_left = TRIES;
    loop {
        match bind(address) {
            Ok(socket) => return Ok(socket),
            Err(in_use) if in_use.kind() == io::ErrorKind::AddrInUse && tries_left > 0 => {
                tries_left -= 1;
                thread::sleep(TRY_INTERVAL);
            }
            Err(cause) => return Err(error(address, &cause)),
        }
    }
}

/// The error of binding or listening on `address`, with what to do about it.
#[must_use]
pub fn error(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program, perhaps a second instance of this one, uses this address".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "no network interface of this machine has this address".to_owned()
        }
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "ports below 1024 are for root and for programs with CAP_NET_BIND_SERVICE".to_owned()
        }
        io::ErrorKind::Unsupported if address.is_ipv6() => {
            "this machine has no IPv6; leave this address out".to_owned()
        }
        _ => error.to_string(),
    };
    anyhow::anyhow!("cannot bind {address}: {advice}")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

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
        let bound = when_free(address, |address| {
            let bound = TcpListener::bind(address);
            others.clear();
            bound
        });
        assert_eq!(bound.unwrap().local_addr().unwrap(), address);
        let refusal = when_free(address, |_| -> io::Result<()> {
            Err(io::ErrorKind::PermissionDenied.into())
        });
        assert!(refusal.unwrap_err().to_string().contains("permission"));
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
