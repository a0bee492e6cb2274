//! What is tested: the HTTP tracker, and the matrix of runtimes, topologies and transports.

use std::net::{SocketAddr, TcpStream};

pub(crate) use aquatic_test_support::cases::{Case, Tracker};
use aquatic_test_support::{self as common, Program, Setup, cases};
use aquatic_types::{InfoHash, IpFamily};

use super::client::{Announced, Client, LEECHER, announce};
use super::configuration::{KEYS, MISTAKES, OLD_FILE};
use super::connection::Transport;

pub(crate) static HTTP: Program = Program {
    name: "aquatic_http",
    about: "BitTorrent tracker over HTTP and HTTPS",
    version: env!("CARGO_PKG_VERSION"),
    binary: env!("CARGO_BIN_EXE_aquatic_http"),
    runtime_key: "network.runtime",
    runtimes,
    shares_swarms: false,
    has_tls: true,
    metrics_section: "metrics",
    metrics_settings: "metrics.interval = 1\n",
    more_threads: &["export"],
    more_threads_settings: "scrape_exports.enable_scrape_exports = true\n\
                            scrape_exports.path = 'export'\n",
    modest_settings: "",
    keys: &KEYS,
    mistakes: &MISTAKES,
    old_file: OLD_FILE,
    client: |ip, tracker| Box::new(Client::between(ip, tracker, Transport::Plain)),
    serves: |address: SocketAddr| TcpStream::connect(address).is_ok(),
};

/// For what does not depend on it.
pub(crate) const SIMPLE: Setup = Setup::simple(&HTTP);

impl common::Client for Client {
    fn join(&mut self, info_hash: InfoHash, port: u16) -> Result<u32, String> {
        let answer = self.get(&announce(info_hash, port, LEECHER)).value();
        match answer.bytes("failure reason") {
            Some(reason) => Err(String::from_utf8(reason.to_vec()).unwrap()),
            None => Ok(u32::try_from(Announced::read(&answer).leechers).unwrap()),
        }
    }

    fn leave(&mut self, info_hash: InfoHash, port: u16) {
        self.announce((info_hash, port, LEECHER), "&event=stopped");
    }

    fn leechers(&mut self, info_hashes: &[InfoHash]) -> Vec<u32> {
        let rows = self.scrape(info_hashes).into_iter();
        rows.map(|row| u32::try_from(row.leechers).unwrap())
            .collect()
    }
}

/// [`cases::on_every_case`], for this program.
pub(crate) fn on_every_case(scenario: impl Fn(Case) + Sync) {
    cases::on_every_case(&HTTP, scenario);
}

/// [`cases::on_every_runtime`], for this program.
pub(crate) fn on_every_runtime(scenario: impl Fn(Case) + Sync) {
    cases::on_every_runtime(&HTTP, scenario);
}

/// [`cases::on_every_case_and_family`], for this program.
pub(crate) fn on_every_case_and_family(
    settings: &str,
    scenario: impl Fn(&Tracker, IpFamily) + Sync,
) {
    cases::on_every_case_and_family(&HTTP, settings, scenario);
}

/// Values of `network.runtime` that this machine, and this build, can do.
pub(crate) fn runtimes() -> Vec<&'static str> {
    cases::runtimes(cfg!(feature = "glommio"))
}
