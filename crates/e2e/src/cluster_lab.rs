//! Three machines with a NATS server and a tracker each, as the document of clusters has them, and
//! clients besides, in network namespaces.
//!
//! What trackers share goes over the addresses of the document (192.0.2.0/24), and clients have
//! those of the [lab](crate::lab): so the former can be cut off while the latter go on.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aquatic_test_support::cluster_document::{Document, MACHINES};
use aquatic_test_support::nats;
use nix::sys::signal::Signal;

use crate::ask::{Announce, Counts, UdpClient};
use crate::folder::Folder;
use crate::host::Host;
use crate::lab::Lab;
use crate::process::Process;
use crate::slow_way::SlowWay;
use crate::{wait, workspace};

/// Where trackers serve both protocols, by default.
const PORT: u16 = 3000;

/// Where servers take trackers.
const SERVER_PORT: u16 = 4222;

/// What servers log when they do.
const TAKES_CONNECTIONS: &str = "Listening for client connections on ";

/// Until servers have found each other and chosen a leader, and a tracker knows everything.
pub const COMPLETE_LIMIT: Duration = Duration::from_secs(60);

/// Within this, what is announced at one node is known at all. It takes a tenth of a second, or
/// many seconds on a machine that is busy; that peers announce again, minutes.
pub const SHARED_LIMIT: Duration = Duration::from_secs(30);

/// Within this, what was missed is there once a cut is healed. TCP tries again after some seconds.
/// That peers announce again, which would be of the same use, takes minutes.
pub const HEALED_LIMIT: Duration = Duration::from_secs(60);

const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The machines, and who uses them.
#[derive(Debug)]
pub struct Cluster {
    /// Before the lab: programs end before their namespaces do.
    pub machines: Vec<Machine>,
    lab: Lab,
    _folder: Folder,
}

/// One of three.
#[derive(Debug)]
pub struct Machine {
    number: u8,
    host: Host,
    folder: Folder,
    starts: u32,
    server: Option<Process>,
    tracker: Option<Process>,
}

/// How packets between a machine and the others are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All of them.
    Both,
    /// Those to the machine.
    Incoming,
    /// Those from the machine.
    Outgoing,
    /// Each hundredth, by chance, in both directions.
    Percent,
}

impl Cluster {
    /// Machines on which nothing runs yet, or nothing where namespaces cannot be made or there is
    /// no such server.
    ///
    /// # Errors
    /// See [`Lab::new`]; or when a program is missing.
    pub fn new(clients: u8) -> Result<Option<Self>> {
        let Some(lab) = Lab::new(MACHINES + clients)?.filter(|_| nats::is_there()) else {
            return Ok(None);
        };
        let (folder, document) = (Folder::new()?, Document::read());
        let mut openssl = Command::new("sh");
        openssl.args(["-e", "-c", document.certificates()]);
        run(openssl.current_dir(folder.path()))?;
        let mut machines = Vec::new();
        for number in 1..=MACHINES {
            let host = lab.guest(usize::from(number) - 1).clone();
            ip(
                &host,
                &format!("address add {}/24 dev eth0", address(number)),
            )?;
            let machine = Machine {
                number,
                host,
                folder: Folder::new()?,
                starts: 0,
                server: None,
                tracker: None,
            };
            machine.write(&document, folder.path())?;
            let (setting, value) = document.kernel();
            let set = format!("echo {value} > /proc/sys/{}", setting.replace('.', "/"));
            run(machine.host.command("sh").args(["-e", "-c", &set]))?;
            machines.push(machine);
        }
        for client in 0..clients {
            let host = lab.guest(usize::from(MACHINES + client));
            ip(host, "route add 192.0.2.0/24 dev eth0")?;
        }
        Ok(Some(Self {
            machines,
            lab,
            _folder: folder,
        }))
    }

    /// The same, with all servers and trackers, which know each other.
    ///
    /// # Errors
    /// As [`Self::new`]; or when they do not find each other.
    pub fn started(clients: u8) -> Result<Option<Self>> {
        let Some(mut cluster) = Self::new(clients)? else {
            return Ok(None);
        };
        cluster.start()?;
        Ok(Some(cluster))
    }

    /// Starts all servers and trackers, and waits until they know each other.
    ///
    /// # Errors
    /// When they do not find each other.
    pub fn start(&mut self) -> Result<()> {
        self.start_servers()?;
        for machine in &mut self.machines {
            machine.start_tracker()?;
        }
        for machine in &mut self.machines {
            machine.wait_until_complete()?;
            machine.wait_for_metric("aquatic_cluster_nodes", MACHINES.into(), COMPLETE_LIMIT)?;
        }
        Ok(())
    }

    /// Starts all servers.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start_servers(&mut self) -> Result<()> {
        self.machines.iter_mut().try_for_each(Machine::start_server)
    }

    /// Somebody who uses trackers, counted from 0.
    #[must_use]
    pub fn client(&self, number: u8) -> &Host {
        self.lab.guest(usize::from(MACHINES + number))
    }

    /// Waits until all running trackers count so many seeders and leechers.
    ///
    /// # Errors
    /// When one of them does not in time.
    pub fn wait_for_all(
        &mut self,
        torrent: [u8; 20],
        counts: (u32, u32),
        limit: Duration,
    ) -> Result<()> {
        let running = self.machines.iter_mut().filter(|it| it.tracker.is_some());
        for machine in running {
            machine.wait_for(torrent, counts, limit)?;
        }
        Ok(())
    }

    /// Whether all trackers that run count so many seeders and leechers at this moment.
    #[must_use]
    pub fn all_count(&self, torrent: [u8; 20], wanted: (u32, u32)) -> bool {
        let mut running = self.machines.iter().filter(|it| it.tracker.is_some());
        running.all(|it| {
            let counts = it.counts(torrent);
            counts.is_ok_and(|it| (it.seeders, it.leechers) == wanted)
        })
    }

    /// Takes the plug of a machine, or puts it in.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn set_link(&self, machine: usize, is_up: bool) -> Result<()> {
        let state = if is_up { "up" } else { "down" };
        ip(self.lab.hub(), &format!("link set guest{machine} {state}"))
    }
}

impl Machine {
    /// All files that the document wants to be there. Machines have one file system here, so
    /// that each has its own folder in the place of the root.
    fn write(&self, document: &Document, certificates: &Path) -> Result<()> {
        let number = self.number;
        for folder in ["etc/nats", "etc/aquatic", "var/lib"] {
            fs::create_dir_all(self.path(folder))?;
        }
        for (from, to) in [
            ("ca.pem".to_owned(), "etc/nats/ca.pem"),
            ("ca.pem".to_owned(), "etc/aquatic/ca.pem"),
            (format!("nats-{number}.pem"), "etc/nats/nats.pem"),
            (format!("nats-{number}-key.pem"), "etc/nats/nats-key.pem"),
        ] {
            fs::copy(certificates.join(&from), self.path(to)).context(from)?;
        }
        self.write_file("etc/nats-server.conf", &document.server(number))?;
        self.write_file("etc/aquatic/aquatic.toml", &document.tracker(number))?;
        self.write_file(
            "etc/aquatic/nats-credentials",
            &document.credentials(number),
        )
    }

    /// Below its root, for the owner alone; paths in it are below its root, too.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_file(&self, below: &str, text: &str) -> Result<()> {
        let root = self.folder.path().display();
        let text = ["/etc/nats/", "/etc/aquatic/", "/var/lib/nats"]
            .iter()
            .fold(text.to_owned(), |text, path| {
                text.replace(path, &format!("{root}{path}"))
            });
        let path = self.path(below);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
    }

    /// Puts lines at the end of a section that the tracker's configuration has not yet.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let text = fs::read_to_string(self.path("etc/aquatic/aquatic.toml"))?;
        let path = self.path("etc/aquatic/aquatic.toml");
        Ok(fs::write(path, format!("{text}{lines}"))?)
    }

    /// From the next start on, its tracker knows only the server of this machine, and is so far
    /// away from it.
    ///
    /// # Errors
    /// When the configuration cannot be written, or as [`SlowWay::start`].
    pub fn move_away(&self, delay: Duration) -> Result<SlowWay> {
        let own = address(self.number);
        let (from, to) = ((own, 0).into(), (own, SERVER_PORT).into());
        let way = SlowWay::start(&self.host, from, to, delay)?;
        let path = self.path("etc/aquatic/aquatic.toml");
        let text = fs::read_to_string(&path)?;
        let servers = text.lines().find(|line| line.starts_with("servers = "));
        let servers = servers.context("no servers")?;
        // The certificate is for the address, whatever the port.
        let only = format!("servers = [\"tls://{}\"]", way.address());
        fs::write(path, text.replace(servers, &only))?;
        Ok(way)
    }

    /// Below its root.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Where it is in the network of the machines.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its tracker.
    #[must_use]
    pub fn tracker_address(&self) -> SocketAddr {
        SocketAddr::new(address(self.number).into(), PORT)
    }

    /// The URL of its tracker.
    #[must_use]
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/announce", self.tracker_address())
    }

    /// Starts its server, with what it has stored, and waits until it takes connections: trackers
    /// that find it closed would be at the server of another machine from the beginning.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_server(&mut self) -> Result<()> {
        let mut command = self.host.command(nats::program());
        command.arg("-c").arg(self.path("etc/nats-server.conf"));
        self.server = Some(self.start("server", command)?);
        wait::until("a server that takes connections", COMPLETE_LIMIT, || {
            self.check_alive()?;
            Ok(self.server_log()?.contains(TAKES_CONNECTIONS).then_some(()))
        })
    }

    /// Starts its tracker, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_tracker(&mut self) -> Result<()> {
        let mut command = self.host.command(workspace::binary("aquatic")?);
        let config = self.path("etc/aquatic/aquatic.toml");
        command.args(["serve", "-c"]).arg(config);
        self.tracker = Some(self.start("tracker", command)?);
        wait::until("an answer of the tracker", COMPLETE_LIMIT, || {
            self.check_alive()?;
            Ok(self.counts([0; 20]).ok())
        })?;
        Ok(())
    }

    /// Each start has a log of its own.
    fn start(&mut self, name: &str, command: Command) -> Result<Process> {
        self.starts += 1;
        let name = format!("machine-{}-{}-{name}", self.number, self.starts);
        Process::start(&name, &self.folder, command)
    }

    /// What its tracker has logged since it was started last.
    ///
    /// # Errors
    /// When it does not run.
    pub fn tracker_log(&self) -> Result<String> {
        self.tracker.as_ref().context("no tracker")?.log()
    }

    /// What its server has logged since it was started last.
    ///
    /// # Errors
    /// When it does not run.
    pub fn server_log(&self) -> Result<String> {
        self.server.as_ref().context("no server")?.log()
    }

    fn check_alive(&mut self) -> Result<()> {
        let programs = [&mut self.server, &mut self.tracker];
        programs
            .into_iter()
            .flatten()
            .try_for_each(Process::check_alive)
    }

    /// Ends its server, without a word to anybody.
    ///
    /// # Errors
    /// When it has ended before.
    pub fn kill_server(&mut self) -> Result<()> {
        kill(self.server.take())
    }

    /// Ends its tracker, without a word to anybody.
    ///
    /// # Errors
    /// When it has ended before.
    pub fn kill_tracker(&mut self) -> Result<()> {
        kill(self.tracker.take())
    }

    /// What its tracker counts: it is asked on the machine itself, whatever is cut.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn counts(&self, torrent: [u8; 20]) -> Result<Counts> {
        let client = UdpClient::new(&self.host, self.tracker_address())?;
        client.scrape(&[torrent])?.pop().context("no row")
    }

    /// A peer that announces to its tracker, on the machine itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn announce(&self, torrent: [u8; 20], port: u16, left: u64) -> Result<()> {
        let client = UdpClient::new(&self.host, self.tracker_address())?;
        let announce = Announce {
            info_hash: torrent,
            peer_id: *b"-e2e000-000000000001",
            left,
            event: 2,
            numwant: -1,
            port,
        };
        client.announce(&announce).map(drop)
    }

    /// Waits until its tracker counts so many seeders and leechers.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_for(
        &mut self,
        torrent: [u8; 20],
        wanted: (u32, u32),
        limit: Duration,
    ) -> Result<()> {
        let mut last = None;
        let what = format!(
            "machine {} counts (seeders, leechers) = {wanted:?}",
            self.number
        );
        let found = wait::until(&what, limit, || {
            self.check_alive()?;
            let counts = self.counts(torrent)?;
            last = Some((counts.seeders, counts.leechers));
            Ok((last == Some(wanted)).then_some(()))
        });
        found.with_context(|| format!("{last:?}"))
    }

    /// A metric of its tracker.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let mut curl = self.host.command("curl");
        let page = run(curl.args([
            "--silent",
            "--max-time",
            "10",
            "http://127.0.0.1:9000/metrics",
        ]))?;
        let mut lines = page.lines().filter_map(|line| line.rsplit_once(' '));
        let line = lines.find(|(key, _)| key.split('{').next() == Some(name));
        let (_, value) = line.with_context(|| format!("no {name}"))?;
        value.parse().context(name.to_owned())
    }

    /// Waits until a metric of its tracker has this value.
    ///
    /// # Errors
    /// When it has not in time.
    pub fn wait_for_metric(&mut self, name: &str, value: f64, limit: Duration) -> Result<()> {
        let what = format!("machine {} has {name} {value}", self.number);
        wait::until(&what, limit, || {
            self.check_alive()?;
            let is_there = self
                .metric(name)
                .is_ok_and(|found| (found - value).abs() < 0.1);
            Ok(is_there.then_some(()))
        })
    }

    /// Waits until its tracker knows all peers.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_until_complete(&mut self) -> Result<()> {
        self.wait_for_metric("aquatic_cluster_complete", 1.0, COMPLETE_LIMIT)
    }

    /// Loses packets between this machine and the others.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn cut(&self, cut: Cut) -> Result<()> {
        self.heal()?;
        let own = address(self.number);
        let others = |side: &str| format!("ip {side} 192.0.2.0/24 ip {side} != {own}");
        let chance = match cut {
            Cut::Percent => "numgen random mod 100 == 0",
            Cut::Both | Cut::Incoming | Cut::Outgoing => "",
        };
        let mut rules = "add table inet cut\n".to_owned();
        for (hook, side, spared) in [
            ("input", "saddr", Cut::Outgoing),
            ("output", "daddr", Cut::Incoming),
        ] {
            if cut != spared {
                let others = others(side);
                rules += &format!(
                    "add chain inet cut {hook} {{ type filter hook {hook} priority 0; }}\n\
                     add rule inet cut {hook} {others} {chance} drop\n"
                );
            }
        }
        run(self.host.command("/usr/sbin/nft").arg(rules)).map(drop)
    }

    /// Loses nothing any more.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn heal(&self) -> Result<()> {
        let rules = "add table inet cut\ndelete table inet cut\n";
        run(self.host.command("/usr/sbin/nft").arg(rules)).map(drop)
    }
}

fn kill(process: Option<Process>) -> Result<()> {
    let mut process = process.context("it does not run")?;
    process.stop(Signal::SIGKILL, STOP_LIMIT).map(drop)
}

fn address(machine: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, machine)
}

/// Runs `ip` on a host.
///
/// # Errors
/// When it fails.
pub fn ip(host: &Host, arguments: &str) -> Result<()> {
    run(host.command("ip").args(arguments.split(' '))).map(drop)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?} (scripts/test.sh installs it)"))?;
    let reason = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {reason}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
