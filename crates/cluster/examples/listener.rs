//! A process of a cluster in one screen: prints what it hears, and says that it is there.
//!
//! It is in the sandbox while it does so, and tries first what nobody can do there.

#![forbid(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use aquatic_cluster::bus::{Bus, Channel, Destination, Event};
use aquatic_cluster::config::{ClusterConfig, PeerLives};
use aquatic_cluster::nats::settings::Settings;
use aquatic_cluster::nats::{Nats, runtime};
use aquatic_config::{Checks, Config, LogLevel, PrivilegeConfig, section};
use aquatic_daemon::supervisor::Supervisor;
use aquatic_daemon::{cli, heartbeat, privileges, sandbox, signals};

section! {
    /// Configuration of a process that listens.
    pub struct ListenerConfig {
        /// How much is logged: off, error, warn, info, debug or trace.
        pub log_level: LogLevel = LogLevel::default(),
        /// A TCP port of this machine to which it must not connect.
        pub forbidden_port: u16 = 1,
        pub cluster: ClusterConfig,
        pub privileges: PrivilegeConfig,
    }
}

impl Config for ListenerConfig {
    fn check(&self, checks: &mut Checks) {
        let lives = PeerLives {
            announce_interval: 120,
            peer_age: 1_200,
            peer_age_max: 1_200,
        };
        self.cluster.check(lives, checks);
    }

    fn inspect(&self, checks: &mut Checks) {
        self.cluster.inspect(checks);
    }

    fn log_level(&self) -> LogLevel {
        self.log_level
    }
}

fn main() -> ExitCode {
    let app = cli::App {
        name: "listener",
        version: env!("CARGO_PKG_VERSION"),
        about: "Prints what nodes of a cluster publish",
        after_help: signals::HELP,
    };
    cli::run(app, |config: ListenerConfig, _| {
        Supervisor::run(Duration::from_secs(60), move |supervisor| {
            start(supervisor, &config)
        })
    })
}

/// Returns what is done at a reload: nothing.
fn start(supervisor: &Supervisor, config: &ListenerConfig) -> anyhow::Result<impl FnMut() + use<>> {
    let node = config.cluster.node_name("listener", 0);
    let age = Duration::from_secs(1_200);
    let settings = Settings::load(&config.cluster, node, &Channel::ALL, age)?;
    privileges::drop_privileges(&config.privileges)?;
    sandbox::enter(&config.privileges, &settings.needs(), supervisor);
    let port = config.forbidden_port;
    supervisor.spawn("cluster", move || {
        print_what_is_forbidden(port);
        runtime()?.block_on(listen(settings))
    })?;
    Ok(|| ())
}

fn print_what_is_forbidden(port: u16) {
    fn print<T>(what: &str, result: io::Result<T>) {
        let result = result.map_or_else(|error| error.kind().to_string(), |_| "done".to_owned());
        println!("{what}: {result}");
    }
    print("connect", TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
    print("listen", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    print(
        "local service",
        UnixStream::connect("/run/dbus/system_bus_socket"),
    );
    print("foreign file", std::fs::File::open("/usr/bin/env"));
}

/// For ever.
async fn listen(settings: Settings) -> anyhow::Result<()> {
    let mut nats = Nats::connect(settings).await?;
    loop {
        heartbeat::beat();
        while let Some(event) = nats.next_event() {
            print(&event);
            if matches!(event, Event::Connected) {
                nats.read_log(Duration::from_secs(1_200));
                let to = Destination::All(Channel::Nodes);
                if nats.publish(&to, b"here".to_vec(), 0).is_err() {
                    println!("there is no connection any more");
                }
            }
        }
        nats.ready(heartbeat::INTERVAL).await;
    }
}

fn print<P: AsRef<[u8]>>(event: &Event<P>) {
    match event {
        Event::Heard(message) => {
            let payload = message.payload.as_ref().escape_ascii();
            println!("heard of {}: {payload}", message.node);
        }
        Event::Logged(message) => {
            let payload = message.payload.as_ref().escape_ascii();
            println!("logged of {}: {payload}", message.node);
        }
        Event::Connected => println!("connected"),
        Event::Disconnected => println!("disconnected"),
        Event::LogRead { .. } => println!("log read"),
        Event::LogFailed(reason) => println!("log not read: {reason}"),
        Event::Missed(number) => println!("missed {number}"),
        Event::Confirmed(mark) => println!("arrived up to {mark}"),
        Event::Kept(mark) => println!("{mark} is in the log"),
    }
}
