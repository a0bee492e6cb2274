//! The proxy that stands between clients and tracker and tells, in a header, who the client is.

use std::net::{IpAddr, SocketAddr};

use aquatic_types::CanonicalAddr;

use crate::{StreamConfig, TrustedProxies};

/// Knows which proxy is believed, and what its header is called.
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
    /// The header is missing, or holds no address.
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

    /// The client of a request that came from `peer`. `last_header` finds the value of the last
    /// header line of a name.
    ///
    /// The last address of the last header is what the nearest proxy has written. Those before it
    /// came with the request, and anyone can write them.
    ///
    /// # Errors
    /// If that is nobody to be believed.
    pub fn client<'a>(
        &self,
        peer: CanonicalAddr,
        last_header: impl FnOnce(&str) -> Option<&'a [u8]>,
    ) -> Result<CanonicalAddr, ProxyRefusal> {
        if !self.trusted.trust(peer.ip()) {
            return Err(ProxyRefusal::Untrusted);
        }
        last_header(&self.header_name)
            .and_then(last_address)
            .map(CanonicalAddr::new)
            .ok_or(ProxyRefusal::Header)
    }
}

/// An address with or without a port, which some proxies add. Without one it is 0.
fn last_address(list: &[u8]) -> Option<SocketAddr> {
    let last = str::from_utf8(list).ok()?.rsplit(',').next()?.trim();
    let without_brackets = last.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
    match without_brackets.unwrap_or(last).parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, 0)),
        Err(_) => last.parse().ok(),
    }
}
