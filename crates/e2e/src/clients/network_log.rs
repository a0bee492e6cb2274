//! Chromium's own log of its network: every connection that it tried and every datagram it sent.
//!
//! It shows what pages did over WebRTC as well as what the browser did for itself, so it shows that
//! nothing has left this machine.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::folder::Folder;
use crate::host::Host;

/// The file, which is complete when the browser has ended by itself.
#[derive(Debug)]
pub(super) struct NetworkLog(PathBuf);

impl NetworkLog {
    pub(super) fn in_folder(folder: &Folder) -> Self {
        Self(folder.path().join("network-log.json"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Fails if anybody but these hosts was sent anything.
    pub(super) fn check_that_nothing_left(&self, known: &[&Host]) -> Result<()> {
        let text = fs::read_to_string(&self.0)
            .with_context(|| format!("cannot read {}", self.0.display()))?;
        let log = serde_json::from_str(&text)
            .with_context(|| format!("{} is not complete", self.0.display()))?;
        let destinations = destinations(&log)?;
        ensure!(
            destinations.iter().any(|to| to.ip().is_loopback()),
            "the browser's log does not even show how pages came: {destinations:?}"
        );
        let is_known = |ip| known.iter().any(|host| has_address(host, ip));
        let outside: Vec<_> = destinations
            .iter()
            .filter(|to| !is_known(to.ip()))
            .collect();
        ensure!(outside.is_empty(), "the browser has asked {outside:?}");
        Ok(())
    }
}

/// Where a TCP connection was tried to, or a datagram was sent to.
fn destinations(log: &Value) -> Result<BTreeSet<SocketAddr>> {
    let number = |name: &str| {
        let number = log["constants"]["logEventTypes"][name].as_u64();
        number.with_context(|| format!("this Chromium knows no event {name}"))
    };
    let tcp_attempt = number("TCP_CONNECT_ATTEMPT")?;
    let udp_connect = number("UDP_CONNECT")?;
    let udp_sent = number("UDP_BYTES_SENT")?;

    let mut found = BTreeSet::new();
    // Connecting a UDP socket sends nothing yet; sending over it names no address any more.
    let mut connected = HashMap::new();
    let events = log["events"].as_array().context("a log without events")?;
    for event in events {
        let address = event["params"]["address"].as_str();
        let address = address.map(str::parse).transpose().context("an address")?;
        let socket = event["source"]["id"].as_u64();
        match event["type"].as_u64() {
            Some(kind) if kind == tcp_attempt => found.extend(address),
            Some(kind) if kind == udp_connect => {
                if let Some(address) = address {
                    connected.insert(socket, address);
                }
            }
            Some(kind) if kind == udp_sent => {
                let to = address.or_else(|| connected.get(&socket).copied());
                found.insert(to.context("a datagram to nobody")?);
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Packets to an address of a host stay on it. WebRTC uses all of them, like those of loopback.
fn has_address(host: &Host, ip: IpAddr) -> bool {
    !ip.is_multicast() && host.bind_udp(SocketAddr::new(ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn log(events: &Value) -> Value {
        let types = json!({"TCP_CONNECT_ATTEMPT": 1, "UDP_CONNECT": 2, "UDP_BYTES_SENT": 3});
        json!({"constants": {"logEventTypes": types}, "events": events})
    }

    fn found(events: &Value) -> Vec<String> {
        let found = destinations(&log(events)).unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn connections_and_datagrams_are_found() {
        let events = json!([
            {"type": 1, "source": {"id": 1}, "params": {"address": "192.0.2.1:80"}},
            {"type": 3, "source": {"id": 2}, "params": {"address": "[2001:db8::1]:3478"}},
        ]);
        assert_eq!(found(&events), ["192.0.2.1:80", "[2001:db8::1]:3478"]);
    }

    #[test]
    fn a_connected_socket_counts_once_it_sends() {
        let connect =
            json!({"type": 2, "source": {"id": 1}, "params": {"address": "192.0.2.1:53"}});
        let send = json!({"type": 3, "source": {"id": 1}, "params": {"byte_count": 9}});
        assert!(found(&json!([connect])).is_empty());
        assert_eq!(found(&json!([connect, send])), ["192.0.2.1:53"]);
    }

    #[test]
    fn a_log_of_another_making_is_refused() {
        assert!(destinations(&json!({"constants": {}, "events": []})).is_err());
        assert!(destinations(&log(&Value::Null)).is_err());
    }

    #[test]
    fn own_addresses_are_known() {
        let is_own = |ip: &str| has_address(&Host::loopback(), ip.parse().unwrap());
        assert!(is_own("127.0.0.1"));
        // Reserved for documentation, and for one network segment.
        assert!(!is_own("198.51.100.7"));
        assert!(!is_own("224.0.0.251"));
    }
}
