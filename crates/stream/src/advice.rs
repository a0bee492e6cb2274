//! Settings that are allowed, but hardly meant; and what this machine makes of them.

use aquatic_config::Checks;
use aquatic_daemon::health_check::Probe;

use crate::config::StreamConfig;

impl StreamConfig {
    /// Where and how another process on this machine finds out whether it is served. It has no
    /// certificate to compare with, and is no proxy.
    #[must_use]
    pub fn probe(&self) -> Option<Probe> {
        let kind = match self.enable_tls || self.proxy_protocol {
            true => Probe::Tcp,
            false => Probe::Http,
        };
        self.address.iter().next().map(kind)
    }

    /// Advises against what is hardly meant.
    pub(crate) fn advise(&self, checks: &mut Checks) {
        let default = Self::default();
        for (is_default, key) in [
            (
                self.tls_certificate_path == default.tls_certificate_path,
                "network.tls_certificate_path",
            ),
            (
                self.tls_private_key_path == default.tls_private_key_path,
                "network.tls_private_key_path",
            ),
        ] {
            checks.advise(
                is_default || self.enable_tls,
                key,
                "is not used, because `network.enable_tls` is false: connections are not encrypted",
            );
        }
        checks.advise(
            self.reverse_proxy_ip_header_name == default.reverse_proxy_ip_header_name
                || self.runs_behind_reverse_proxy,
            "network.reverse_proxy_ip_header_name",
            "is not used, because `network.runs_behind_reverse_proxy` is false",
        );
        self.advise_about_proxies(checks);
    }

    fn advise_about_proxies(&self, checks: &mut Checks) {
        let is_proxied = self.runs_behind_reverse_proxy || self.proxy_protocol;
        let trusts_all = self.trusted_proxies == Self::default().trusted_proxies;
        checks.advise(
            is_proxied || trusts_all,
            "network.trusted_proxies",
            "is not used, because neither `network.runs_behind_reverse_proxy` nor \
             `network.proxy_protocol` is true",
        );
        let open = self
            .address
            .iter()
            .find(|address| !address.ip().is_loopback());
        if let Some(address) = open.filter(|_| is_proxied && trusts_all) {
            checks.advise(
                false,
                "network.trusted_proxies",
                format!(
                    "is empty, so whoever reaches {address} can pretend to be any client: name \
                     your proxy, such as [\"127.0.0.1\"]"
                ),
            );
        }
    }

    /// Looks at what this machine grants to so many workers, and so many `other_files` besides,
    /// if so many `front_ends` share that.
    /// Raises limits of this process as the start does.
    pub fn inspect(
        &self,
        workers: usize,
        other_files: usize,
        front_ends: usize,
        checks: &mut Checks,
    ) {
        checks.require_ok(self.runtime.choose(workers), "network.runtime");
        if let Some(shortage) = self.shortage_of_files(workers, other_files, front_ends) {
            checks.advise(false, "network.max_connections", shortage);
        }
    }
}
