//! All floods, with their rates.
//!
//! Rates are such that one core can answer them, and leave time for others: what is beyond that,
//! the kernel drops before a tracker sees it. Where a tracker can be told to limit clients, the
//! flood that needs it names the settings.

use std::fmt::{self, Display, Formatter};

use clap::ValueEnum;

use crate::connections::{ConnectionFlood, Opening, Then};
use crate::content;
use crate::datagrams::DatagramFlood;

/// What a tracker speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// BEP 15.
    Udp,
    /// BEP 3.
    Http,
    /// WebTorrent.
    Ws,
}

impl Display for Protocol {
    /// As on the command line.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Http => "http",
            Self::Ws => "ws",
        })
    }
}

/// One way of attacking.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// What the tracker speaks.
    pub protocol: Protocol,
    /// In one word, for the command line.
    pub name: &'static str,
    /// For the table.
    pub about: &'static str,
    /// Whether connections are encrypted.
    pub is_tls: bool,
    /// Lines of the tracker's configuration, beyond the defaults.
    pub settings: &'static [&'static str],
    /// The bound on memory that these lines set, in MiB; 0 = none.
    pub memory_mib: u64,
    /// The least time that shows something, in seconds: longer than the deadline that it is about.
    pub seconds_min: u32,
    /// What is done.
    pub attack: Attack,
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub enum Attack {
    /// Nothing: shows what honest clients get in peace.
    Nothing,
    /// Datagrams.
    Datagrams(DatagramFlood),
    /// Connections, and what goes over them.
    Connections(ConnectionFlood),
    /// SIGUSR1, this often in a second.
    Reloads(u64),
    /// SIGKILL in the middle. Somebody starts the tracker again.
    Kill,
}

/// Keeps 18,000 connections open, 20,000 files being allowed to either program.
const IDLE: ConnectionFlood = ConnectionFlood {
    held: 18_000,
    opened_per_second: 6_000,
    sources: 16,
    opening: Opening::Nothing,
    then: Then::Silence,
    reads: true,
};

const ONE_ADDRESS: ConnectionFlood = ConnectionFlood {
    held: 4_000,
    opened_per_second: 4_000,
    sources: 1,
    ..IDLE
};

/// Messages over a few connections.
const TALK: ConnectionFlood = ConnectionFlood {
    held: 100,
    opened_per_second: 1_000,
    sources: 100,
    ..IDLE
};

const CHURN: ConnectionFlood = ConnectionFlood {
    held: 200,
    opened_per_second: 2_000,
    sources: 200,
    then: Then::CloseWhenAnswered,
    ..IDLE
};

const SLOW: ConnectionFlood = ConnectionFlood {
    held: 4_000,
    opened_per_second: 4_000,
    sources: 100,
    ..IDLE
};

/// More connections than the tracker holds.
const FULL: ConnectionFlood = ConnectionFlood {
    held: 3_000,
    opened_per_second: 3_000,
    ..IDLE
};
const FULL_SETTINGS: &[&str] = &["network.max_connections = 2000"];

/// A limit that an ordinary client does not meet.
const LIMITED: &[&str] = &["limits.requests_per_second_per_ip = 50"];

/// `scripts/floods.sh` makes the list.
const RELOADED: &[&str] = &["access_list.mode = 'deny'", "access_list.path = 'list'"];

/// Little, so that a flood reaches the bound in some seconds.
const SWARM_MEMORY: &[&str] = &["limits.max_swarm_memory = '16 MiB'"];
const CONNECTION_MEMORY: &[&str] = &["network.max_connection_memory = '32 MiB'"];

/// More new torrents than there is memory for.
fn of_swarm_memory(flood: Flood) -> Flood {
    Flood {
        settings: SWARM_MEMORY,
        memory_mib: 16,
        seconds_min: 30,
        ..flood
    }
}

/// More unread answers than there is memory for.
fn of_connection_memory(flood: Flood) -> Flood {
    Flood {
        settings: CONNECTION_MEMORY,
        memory_mib: 32,
        ..flood
    }
}

/// Longer than the deadlines of handshakes and requests (10 and 15 s by default).
fn of_deadlines(flood: Flood) -> Flood {
    Flood {
        seconds_min: 30,
        ..flood
    }
}

fn restart(protocol: Protocol) -> Flood {
    plain(protocol, "restart", "kill -9 and restart", Attack::Kill)
}

fn reloads(protocol: Protocol) -> Flood {
    let about = "SIGUSR1 ten times a second, a list of 2,000,000";
    Flood {
        settings: RELOADED,
        ..plain(protocol, "reloads", about, Attack::Reloads(10))
    }
}

impl Flood {
    /// How often the tracker ends.
    #[must_use]
    pub fn kills(&self) -> u32 {
        u32::from(matches!(self.attack, Attack::Kill))
    }
}

/// All floods.
#[must_use]
pub fn all() -> Vec<Flood> {
    [
        udp(),
        http(),
        http_connections(),
        tls(Protocol::Http),
        ws(),
        ws_connections(),
        tls(Protocol::Ws),
    ]
    .concat()
}

/// The one of this name.
#[must_use]
pub fn find(protocol: Protocol, name: &str) -> Option<Flood> {
    let mut all = all().into_iter();
    all.find(|flood| flood.protocol == protocol && flood.name == name)
}

fn udp() -> Vec<Flood> {
    let flood = |name, about, sources, rate, make| {
        let datagrams = DatagramFlood {
            sources,
            rate,
            make,
        };
        let attack = Attack::Datagrams(datagrams);
        plain(Protocol::Udp, name, about, attack)
    };
    vec![
        plain(Protocol::Udp, "none", "no flood", Attack::Nothing),
        of_swarm_memory(flood(
            "new-torrents",
            "random info hashes, 1 source",
            1,
            50_000,
            content::udp_new_torrent,
        )),
        of_swarm_memory(flood(
            "new-torrents-10000",
            "random info hashes, 10,000 sources",
            10_000,
            50_000,
            content::udp_new_torrent,
        )),
        flood(
            "one-swarm",
            "one address, all ports of a torrent",
            1,
            50_000,
            content::udp_one_swarm,
        ),
        flood("connects", "connects", 100, 50_000, content::udp_connect),
        flood(
            "stale-ids",
            "invented connection ids",
            100,
            50_000,
            content::udp_stale_id,
        ),
        flood(
            "scrapes",
            "largest scrapes (74)",
            100,
            30_000,
            content::udp_scrape,
        ),
        flood(
            "random-bytes",
            "random bytes",
            100,
            50_000,
            content::udp_random_bytes,
        ),
        reloads(Protocol::Udp),
        Flood {
            settings: &["network.connection_secret_file = 'secret'"],
            ..restart(Protocol::Udp)
        },
    ]
}

fn http() -> Vec<Flood> {
    let flood = |name, about, flood| plain(Protocol::Http, name, about, Attack::Connections(flood));
    vec![
        plain(Protocol::Http, "none", "no flood", Attack::Nothing),
        of_swarm_memory(flood(
            "new-torrents",
            "random info hashes",
            talk(content::http_new_torrent, 20_000),
        )),
        flood(
            "scrapes",
            "largest scrapes (100)",
            talk(content::http_scrape, 2_000),
        ),
        flood(
            "large-heads",
            "heads of 16 KiB",
            talk(content::http_large_head, 4_000),
        ),
        random_bytes(Protocol::Http),
        slow_heads(Protocol::Http),
    ]
}

fn random_bytes(protocol: Protocol) -> Flood {
    let flood = ConnectionFlood {
        opening: Opening::Made(content::stream_random_bytes),
        ..CHURN
    };
    let attack = Attack::Connections(flood);
    plain(protocol, "random-bytes", "random bytes", attack)
}

fn slow_heads(protocol: Protocol) -> Flood {
    let flood = ConnectionFlood {
        then: Then::Dribble(content::http_slow_head, 8_000),
        ..SLOW
    };
    let attack = Attack::Connections(flood);
    let about = "4,000 heads, a byte at a time";
    of_deadlines(plain(protocol, "slow-heads", about, attack))
}

fn http_connections() -> Vec<Flood> {
    connections(
        Protocol::Http,
        Opening::Made(content::http_new_torrent),
        talk(content::http_scrape, 4_000),
        ConnectionFlood {
            opening: Opening::Made(content::http_one_swarm),
            then: Then::Messages(content::http_one_swarm, 20_000),
            ..ONE_ADDRESS
        },
    )
}

fn ws_connections() -> Vec<Flood> {
    let opening = Opening::Made(content::ws_upgrade);
    connections(
        Protocol::Ws,
        Opening::Made(content::ws_upgrade_and_announce),
        ConnectionFlood {
            opening,
            ..talk(content::ws_scrape, 2_000)
        },
        ConnectionFlood {
            opening,
            then: Then::Messages(content::ws_one_swarm, 5_000),
            ..ONE_ADDRESS
        },
    )
}

/// Many connections, whatever goes over them: `announced` is what makes a peer of each, `scrapes`
/// asks for much, and `one_address` for more than one client should.
fn connections(
    protocol: Protocol,
    announced: Opening,
    scrapes: ConnectionFlood,
    one_address: ConnectionFlood,
) -> Vec<Flood> {
    let flood = |name, about, flood| plain(protocol, name, about, Attack::Connections(flood));
    let of_peers = |flood| ConnectionFlood {
        opening: announced,
        ..flood
    };
    vec![
        of_deadlines(flood("idle", "18,000 idle sockets", IDLE)),
        flood(
            "idle-announced",
            "18,000 sockets, idle after an announce",
            of_peers(IDLE),
        ),
        Flood {
            settings: FULL_SETTINGS,
            ..flood("full", "3,000 sockets for 2,000 places", of_peers(FULL))
        },
        of_connection_memory(flood(
            "non-readers",
            "500 peers that ask and do not read",
            ConnectionFlood {
                held: 500,
                reads: false,
                ..scrapes
            },
        )),
        flood("churn", "a connection for each announce", of_peers(CHURN)),
        Flood {
            settings: LIMITED,
            ..flood("one-address", "one address against all limits", one_address)
        },
        reloads(protocol),
        restart(protocol),
    ]
}

/// What comes before anything is asked.
fn tls(protocol: Protocol) -> Vec<Flood> {
    let tls = |name, about, attack| Flood {
        is_tls: true,
        ..plain(protocol, name, about, attack)
    };
    vec![
        tls("tls-none", "no flood, TLS", Attack::Nothing),
        of_deadlines(tls(
            "tls-half-open",
            "4,000 half-open handshakes",
            HALF_OPEN,
        )),
        of_deadlines(tls(
            "tls-dribbled",
            "4,000 handshakes, a byte at a time",
            DRIBBLED,
        )),
        tls("tls-churn", "handshakes that are given up", HANDSHAKES),
    ]
}

const HALF_OPEN: Attack = Attack::Connections(ConnectionFlood {
    opening: Opening::ClientHello,
    opened_per_second: 1_000,
    ..SLOW
});

const DRIBBLED: Attack = Attack::Connections(ConnectionFlood {
    then: Then::DribbleClientHello(8_000),
    ..SLOW
});

const HANDSHAKES: Attack = Attack::Connections(ConnectionFlood {
    opening: Opening::ClientHello,
    opened_per_second: 1_000,
    ..CHURN
});

fn ws() -> Vec<Flood> {
    let flood = |name, about, flood| plain(Protocol::Ws, name, about, Attack::Connections(flood));
    let upgrade = Opening::Made(content::ws_upgrade);
    let talk = |make, rate| ConnectionFlood {
        opening: upgrade,
        ..talk(make, rate)
    };
    vec![
        plain(Protocol::Ws, "none", "no flood", Attack::Nothing),
        of_swarm_memory(flood(
            "new-torrents",
            "random info hashes",
            talk(content::ws_new_torrent, 20_000),
        )),
        flood(
            "scrapes",
            "largest scrapes (255)",
            talk(content::ws_scrape, 1_000),
        ),
        flood(
            "largest-messages",
            "messages of 128 KiB",
            talk(content::ws_largest_message, 100),
        ),
        flood(
            "json-bombs",
            "JSON bombs of 127 KiB",
            talk(content::ws_json_bomb, 300),
        ),
        random_bytes(Protocol::Ws),
        slow_heads(Protocol::Ws),
        of_deadlines(flood(
            "slow-frames",
            "4,000 frames, a byte at a time",
            ConnectionFlood {
                opening: upgrade,
                then: Then::Dribble(content::ws_slow_frame, 8_000),
                ..SLOW
            },
        )),
    ]
}

fn talk(make: content::Make, per_second: u64) -> ConnectionFlood {
    ConnectionFlood {
        then: Then::Messages(make, per_second),
        ..TALK
    }
}

fn plain(protocol: Protocol, name: &'static str, about: &'static str, attack: Attack) -> Flood {
    Flood {
        protocol,
        name,
        about,
        is_tls: false,
        settings: &[],
        memory_mib: 0,
        seconds_min: 0,
        attack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flood_has_a_name_of_its_own_and_is_found_by_it() {
        for flood in all() {
            let named =
                |other: &Flood| other.protocol == flood.protocol && other.name == flood.name;
            assert_eq!(
                all().iter().filter(|it| named(it)).count(),
                1,
                "{}",
                flood.name
            );
            let found = find(flood.protocol, flood.name).unwrap();
            assert_eq!(found.about, flood.about);
        }
        assert!(find(Protocol::Udp, "nonsense").is_none());
    }

    #[test]
    fn every_protocol_is_also_measured_in_peace() {
        for protocol in [Protocol::Udp, Protocol::Http, Protocol::Ws] {
            let none = find(protocol, "none").unwrap();
            assert!(matches!(none.attack, Attack::Nothing));
        }
    }
}
