//! The proxy that stands between clients and tracker and tells, in a header, who the client is.
//!
//! Each proxy on the way adds the address that it has seen to the end of a list, so that
//! `X-Forwarded-For: a, b, c` came by way of two further proxies: c has told us of b, and b of a.
//! Anybody can begin such a list, so the last address alone is certain, and those before it as far
//! as the proxies behind them are trusted. With no proxies listed as trusted, only the one that has
//! connected is.

use std::net::{IpAddr, SocketAddr};

use aquatic_types::CanonicalAddr;

use crate::config::StreamConfig;
use crate::forwarded::forwarded_for;
use crate::trusted::TrustedProxies;

/// Knows which proxies are believed, and what their header is called.
#[derive(Clone, Debug)]
pub struct ReverseProxy {
    header_name: String,
    trusted: TrustedProxies,
}

/// Why a request does not tell who its client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyRefusal {
    /// It does not come from a proxy that is believed.
    Untrusted,
    /// The header is missing, or what a trusted proxy has written there is no address.
    Header,
}

impl ReverseProxy {
    /// As configured, if there is one.
    #[must_use]
    pub fn from_config(config: &StreamConfig) -> Option<Self> {
        config.runs_behind_reverse_proxy.then(|| Self {
            header_name: config.reverse_proxy_ip_header_name.clone(),
            trusted: config.trusted_proxies.clone(),
        })
    }

    /// The client of a request that came from `peer`, with these header lines in their order.
    ///
    /// All lines of the header are one list. From its end, addresses of trusted proxies are passed
    /// over: the first one that is not listed is the client's, or the very first of all if they all
    /// are listed (nginx: `real_ip_recursive`).
    ///
    /// # Errors
    /// If that is nobody to be believed.
    pub fn client<'a>(
        &self,
        peer: CanonicalAddr,
        headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<CanonicalAddr, ProxyRefusal> {
        if !self.trusted.trust(peer.ip()) {
            return Err(ProxyRefusal::Untrusted);
        }
        let name = self.header_name.as_bytes();
        let lines = headers.filter(|(line_name, _)| line_name.eq_ignore_ascii_case(name));
        let mut client = None;
        for (_, line) in lines {
            if name.eq_ignore_ascii_case(b"Forwarded") {
                forwarded_for(line).for_each(|node| self.pass(&mut client, node));
            } else {
                let nodes = line.split(|byte| *byte == b',');
                nodes.for_each(|node| self.pass(&mut client, Some(node)));
            }
        }
        client.flatten().ok_or(ProxyRefusal::Header)
    }

    /// Goes on by one element of the list. `client` is who came before the trusted proxies that end
    /// what has been seen of it: `None` = nothing was seen, `Some(None)` = nobody can tell.
    fn pass(&self, client: &mut Option<Option<CanonicalAddr>>, node: Option<&[u8]>) {
        let address = node.and_then(address).map(CanonicalAddr::new);
        let is_proxy = address.is_some_and(|address| self.trusted.lists(address.ip()));
        if client.is_none() || !is_proxy {
            *client = Some(address);
        }
    }
}

/// An address with or without a port, which some proxies add. Without one it is 0; so is one that
/// is kept secret (RFC 7239, 6: `192.0.2.1:_port`).
fn address(node: &[u8]) -> Option<SocketAddr> {
    let node = str::from_utf8(node).ok()?.trim();
    let node = node.split_once(":_").map_or(node, |(ip, _)| ip);
    let without_brackets = node.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
    match without_brackets.unwrap_or(node).parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, 0)),
        Err(_) => node.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: &str = "127.0.0.1:4711";

    fn proxy(name: &str, trusted: &[&str]) -> ReverseProxy {
        let trusted = trusted.iter().map(|text| text.parse().unwrap()).collect();
        ReverseProxy {
            header_name: name.to_owned(),
            trusted: TrustedProxies::new(trusted),
        }
    }

    fn client(proxy: &ReverseProxy, lines: &[(&str, &str)]) -> Result<IpAddr, ProxyRefusal> {
        let peer = CanonicalAddr::new(OWN.parse().unwrap());
        let lines = lines.iter();
        let headers = lines.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        proxy.client(peer, headers).map(|client| client.ip())
    }

    #[track_caller]
    fn check(proxy: &ReverseProxy, lines: &[&str], expected: Option<&str>) {
        let named: Vec<_> = lines
            .iter()
            .map(|line| ("x-forwarded-FOR", *line))
            .collect();
        let expected = expected.map(|ip| ip.parse().unwrap());
        assert_eq!(
            client(proxy, &named),
            expected.ok_or(ProxyRefusal::Header),
            "{lines:?}"
        );
    }

    #[test]
    fn trusted_proxies_are_passed_over_from_the_end() {
        let proxy = proxy(
            "X-Forwarded-For",
            &["127.0.0.1", "198.51.100.0/24", "2001:db8:1::/48"],
        );
        for (lines, expected) in [
            (&["203.0.113.9"][..], Some("203.0.113.9")),
            (&["203.0.113.9, 198.51.100.1"], Some("203.0.113.9")),
            (&["203.0.113.9,198.51.100.1,127.0.0.1"], Some("203.0.113.9")),
            (
                &["203.0.113.9, 2001:db8:1::5 , [2001:db8:1::6]:80"],
                Some("203.0.113.9"),
            ),
            (&["203.0.113.9, ::ffff:198.51.100.1"], Some("203.0.113.9")),
            // What the client has written itself is not looked at.
            (
                &["192.0.2.1, 203.0.113.9, 198.51.100.1"],
                Some("203.0.113.9"),
            ),
            (
                &["198.51.100.7, 203.0.113.9, 198.51.100.1"],
                Some("203.0.113.9"),
            ),
            (&["rubbish, 203.0.113.9, 198.51.100.1"], Some("203.0.113.9")),
            // Several lines are one list.
            (&["203.0.113.9", "198.51.100.1"], Some("203.0.113.9")),
            (
                &["192.0.2.1", "203.0.113.9, 198.51.100.1", "127.0.0.1"],
                Some("203.0.113.9"),
            ),
            // A client within a trusted network.
            (&["198.51.100.7"], Some("198.51.100.7")),
            (
                &["198.51.100.7, 198.51.100.1", "127.0.0.1"],
                Some("198.51.100.7"),
            ),
            // A trusted proxy that does not tell.
            (&["unknown, 198.51.100.1"], None),
            (&["203.0.113.9, unknown"], None),
            (&["203.0.113.9, unknown, 198.51.100.1"], None),
            (&["203.0.113.9, "], None),
            (&[""], None),
            (&[], None),
        ] {
            check(&proxy, lines, expected);
        }
        let other = [("X-Real-IP", "203.0.113.9")];
        assert_eq!(client(&proxy, &other), Err(ProxyRefusal::Header));
    }

    #[test]
    fn whoever_connects_is_the_only_one_believed_if_none_are_listed() {
        let proxy = proxy("X-Forwarded-For", &[]);
        for (lines, expected) in [
            (&["192.0.2.1, 203.0.113.9"][..], Some("203.0.113.9")),
            (&["192.0.2.1", "203.0.113.9"], Some("203.0.113.9")),
            (&["203.0.113.9, 127.0.0.1"], Some("127.0.0.1")),
            (&["203.0.113.9, unknown"], None),
        ] {
            check(&proxy, lines, expected);
        }
    }

    #[test]
    fn strangers_are_not_believed() {
        let proxy = proxy("X-Forwarded-For", &["198.51.100.0/24"]);
        let lines = [("X-Forwarded-For", "203.0.113.9")];
        assert_eq!(client(&proxy, &lines), Err(ProxyRefusal::Untrusted));
    }

    #[test]
    fn forwarded_of_rfc_7239_is_understood() {
        let proxy = proxy("forwarded", &["127.0.0.1", "198.51.100.0/24"]);
        for (lines, expected) in [
            (&["for=203.0.113.9"][..], Some("203.0.113.9")),
            (&["For=\"203.0.113.9:4711\""], Some("203.0.113.9")),
            (
                &["for=203.0.113.9;proto=http;by=198.51.100.1"],
                Some("203.0.113.9"),
            ),
            (
                &["proto=https ; host=\"a,b;c\\\"\" ; for=203.0.113.9"],
                Some("203.0.113.9"),
            ),
            (&["for=\"[2001:db8::17]\""], Some("2001:db8::17")),
            (&["for=\"[2001:db8::17]:4711\""], Some("2001:db8::17")),
            (&["for=\"[2001:db8::17]:_hidden\""], Some("2001:db8::17")),
            (&["for=203.0.113.9, for=198.51.100.17"], Some("203.0.113.9")),
            (
                &[
                    "for=192.0.2.1,for=203.0.113.9",
                    "for=127.0.0.1,for=198.51.100.1",
                ],
                Some("203.0.113.9"),
            ),
            (&["for=_secret, for=203.0.113.9"], Some("203.0.113.9")),
            (&["for=unknown"], None),
            (&["for=_SEVKISEK"], None),
            (&["for=unknown, for=198.51.100.1"], None),
            (&["for=203.0.113.9, proto=http"], None),
            (&["203.0.113.9"], None),
            (&["for=203.0.113.9,"], None),
            (&["for=203.0.113.9;for=203.0.113.8"], None),
            // Whoever begins a string and leaves its end to the proxy gains nothing.
            (&["for=192.0.2.1;x=\", for=203.0.113.9"], None),
            (
                &["for=192.0.2.1;x=\", for=203.0.113.9;host=\"a\\\"b\""],
                None,
            ),
            (&["for=192.0.2.1;x=\", for=\"[2001:db8::17]\""], None),
        ] {
            let named: Vec<_> = lines.iter().map(|line| ("Forwarded", *line)).collect();
            let expected = expected
                .map(|ip| ip.parse().unwrap())
                .ok_or(ProxyRefusal::Header);
            assert_eq!(client(&proxy, &named), expected, "{lines:?}");
        }
    }

    fn node() -> impl Strategy<Value = String> {
        prop_oneof![
            (0..4_u8).prop_map(|host| format!("198.51.100.{host}")),
            (0..4_u8).prop_map(|host| format!("203.0.113.{host}")),
            Just("unknown".to_owned()),
        ]
    }

    proptest! {
        /// The same, from the end, as one would tell it.
        #[test]
        fn the_nearest_that_is_not_trusted_counts(
            nodes in prop::collection::vec(node(), 0..6),
            starts_line in prop::collection::vec(any::<bool>(), 6),
        ) {
            let is_trusted = |node: &&String| node.starts_with("198.51.100.");
            let nearest = nodes.iter().rev().find(|node| !is_trusted(node));
            let expected = nearest.or(nodes.first()).and_then(|node| node.parse().ok());
            let mut lines: Vec<Vec<String>> = Vec::new();
            for (node, starts) in nodes.iter().zip(starts_line) {
                match lines.last_mut() {
                    Some(line) if !starts => line.push(node.clone()),
                    _ => lines.push(vec![node.clone()]),
                }
            }
            for name in ["X-Forwarded-For", "Forwarded"] {
                let prefix = if name == "Forwarded" { "for=" } else { "" };
                let texts: Vec<_> = lines
                    .iter()
                    .map(|line| {
                        let nodes: Vec<_> = line.iter().map(|it| format!("{prefix}{it}")).collect();
                        nodes.join(", ")
                    })
                    .collect();
                let named: Vec<_> = texts.iter().map(|text| (name, text.as_str())).collect();
                let found = client(&proxy(name, &["127.0.0.1", "198.51.100.0/24"]), &named);
                prop_assert_eq!(found.ok(), expected, "{:?}", named);
            }
        }

        /// Whatever a client writes, it is not taken for somebody else when its proxy adds its
        /// address behind that.
        #[test]
        fn a_client_cannot_pretend(
            text in "(for=|by=|host=|[a-z\"\\\\,;=:. \\[\\]]|192\\.0\\.2\\.1){0,12}",
            added in prop::sample::select(vec![
                "for=203.0.113.9",
                "for=\"203.0.113.9:80\"",
                "for=203.0.113.9;proto=https;host=tracker",
                "by=\"[::1]\";for=203.0.113.9",
            ]),
        ) {
            let line = format!("{text}, {added}");
            let found = client(&proxy("Forwarded", &["127.0.0.1"]), &[("Forwarded", &line)]);
            let own = "203.0.113.9".parse().unwrap();
            prop_assert!(found.is_err() || found == Ok(own), "{} {:?}", line, found);
        }
    }
}
