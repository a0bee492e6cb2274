//! Nodes of each kind, and clients.

use aquatic_test_support::nats::NatsServer;
use aquatic_test_support::{Daemon, Place, metrics, wait};
use aquatic_types::{InfoHash, IpFamily};

pub(super) use super::clients::{Answer, Client, Http, Udp};
use super::clients::{BINARY, metrics_settings};

/// What a node serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `aquatic udp`
    Udp,
    /// `aquatic http`
    Http,
    /// `aquatic serve`, with both.
    Both,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Udp, Self::Http, Self::Both];

    fn command(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Http => "http",
            Self::Both => "serve",
        }
    }

    fn protocols(self) -> &'static [&'static str] {
        match self {
            Self::Udp | Self::Http => &[""],
            Self::Both => &["udp.", "http."],
        }
    }
}

/// A node that is about to start.
pub(super) struct Node {
    kind: Kind,
    place: Place,
    settings: String,
}

impl Node {
    /// One of this name, which reaches the others by a server.
    pub(super) fn new(kind: Kind, name: &str, server: &NatsServer) -> Self {
        Self::at(kind, name, &[server.url()])
    }

    pub(super) fn at(kind: Kind, name: &str, servers: &[String]) -> Self {
        let place = Place::new();
        let addresses = IpFamily::ALL.map(|family| place.address(family).to_string());
        let metrics = metrics_settings(&place);
        let metrics = match kind {
            Kind::Udp => metrics.replace("metrics.", "statistics."),
            Kind::Http | Kind::Both => metrics,
        };
        let mut settings = format!(
            "{metrics}cluster.servers = {servers:?}\ncluster.node = '{name}'\n\
             privileges.sandbox = true\n"
        );
        for protocol in kind.protocols() {
            if !protocol.is_empty() {
                settings.push_str(&format!("{protocol}enabled = true\n"));
            }
            settings.push_str(&format!("{protocol}network.address = {addresses:?}\n"));
        }
        Self {
            kind,
            place,
            settings,
        }
    }

    /// The same with one more line in its configuration.
    pub(super) fn with(mut self, line: &str) -> Self {
        self.settings.push_str(line);
        self.settings.push('\n');
        self
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Starts it; once more if it has run before.
    pub(super) fn start(&self) -> Daemon {
        self.place.write("config.toml", &self.settings);
        let arguments = [self.kind.command(), "-c", "config.toml"];
        let mut command = self.place.command_with(BINARY, &arguments);
        self.place.clone().start_by(&mut command)
    }
}

/// Two nodes that are connected, and what connects them.
pub(super) fn pair(kinds: [Kind; 2]) -> (NatsServer, [Daemon; 2]) {
    let server = NatsServer::start();
    let nodes = ["a", "b"].map(|name| {
        let [of_a, of_b] = kinds;
        let kind = if name == "a" { of_a } else { of_b };
        Node::new(kind, name, &server).start()
    });
    nodes.iter().for_each(wait_until_connected);
    (server, nodes)
}

pub(super) fn wait_until_connected(node: &Daemon) {
    metrics::wait_for(
        node,
        &[
            ("aquatic_cluster_connected", 1.0),
            ("aquatic_cluster_complete", 1.0),
            ("aquatic_cluster_reading_log", 0.0),
        ],
    );
}

/// Somebody who asks a node of this kind; over UDP if it serves both.
pub(super) fn client(kind: Kind, node: &Daemon, family: IpFamily) -> Box<dyn Client> {
    match kind {
        Kind::Udp | Kind::Both => Box::new(Udp::new(node, family)),
        Kind::Http => Box::new(Http::new(node, family)),
    }
}

/// Waits until a torrent has so many seeders, completed downloads and leechers.
#[track_caller]
pub(super) fn wait_for_counts(client: &mut dyn Client, torrent: InfoHash, expected: [u32; 3]) {
    wait::until_ok(|| match client.scrape(torrent) {
        counts if counts == expected => Ok(()),
        counts => Err(format!("{counts:?}, not {expected:?}")),
    });
}
