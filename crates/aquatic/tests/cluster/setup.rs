//! Nodes of each kind, and clients.

use aquatic_test_support::browser::Browser;
use aquatic_test_support::nats::NatsServer;
use aquatic_test_support::{Daemon, Place, metrics, wait};
use aquatic_types::{InfoHash, IpFamily};

pub(super) use super::clients::{Answer, Client, Http, Udp};
use super::clients::{BINARY, metrics_settings, ws_settings};

/// What a node serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `aquatic udp`
    Udp,
    /// `aquatic http`
    Http,
    /// `aquatic serve`, with both.
    Both,
    /// `aquatic ws`
    WebTorrent,
    /// `aquatic serve`, with all three; WebTorrent at the second port of its place.
    All,
}

impl Kind {
    /// With peers that have addresses.
    pub(super) const ALL: [Self; 3] = [Self::Udp, Self::Http, Self::Both];

    fn command(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Http => "http",
            Self::WebTorrent => "ws",
            Self::Both | Self::All => "serve",
        }
    }

    fn protocols(self) -> &'static [&'static str] {
        match self {
            Self::Udp | Self::Http | Self::WebTorrent => &[""],
            Self::Both | Self::All => &["udp.", "http."],
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A pair of kinds of nodes, as it is shown when something fails.
#[derive(Clone, Copy)]
pub(super) struct Kinds(pub(super) Kind, pub(super) Kind);

impl Kinds {
    /// Each kind with each.
    pub(super) fn all_of<const N: usize>(kinds: [Kind; N]) -> Vec<Self> {
        let pairs = kinds.into_iter();
        pairs
            .flat_map(|one| kinds.map(|other| Self(one, other)))
            .collect()
    }
}

impl std::fmt::Display for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} and {}", self.0, self.1)
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
            _ => metrics,
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
        if kind == Kind::All {
            settings.push_str(&ws_settings(&place));
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

    /// Writes its configuration.
    pub(super) fn configure(&self) {
        self.place.write("config.toml", &self.settings);
    }

    /// Starts it; once more if it has run before.
    pub(super) fn start(&self) -> Daemon {
        self.configure();
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
        Kind::Udp | Kind::Both | Kind::All => Box::new(Udp::new(node, family)),
        Kind::Http => Box::new(Http::new(node, family)),
        Kind::WebTorrent => panic!("its clients are browsers"),
    }
}

/// A browser that is connected to a node of this kind.
pub(super) fn browser(kind: Kind, node: &Daemon, name: u8) -> Browser {
    let mut to = node.address(IpFamily::V4);
    if kind == Kind::All {
        to.set_port(node.place.second_port());
    }
    Browser::connect(to, name)
}

/// Waits until a torrent has so many seeders, completed downloads and leechers.
#[track_caller]
pub(super) fn wait_for_counts(client: &mut dyn Client, torrent: InfoHash, expected: [u32; 3]) {
    wait::until_ok(|| match client.scrape(torrent) {
        counts if counts == expected => Ok(()),
        counts => Err(format!("{counts:?}, not {expected:?}")),
    });
}
