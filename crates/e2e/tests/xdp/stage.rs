//! A lab, and trackers in it that have a program in front of the network stack.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aquatic_e2e::ask::{Announce, UdpClient, connect_request};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::lab::Lab;
use aquatic_e2e::process::Process;
use aquatic_e2e::{Family, wait, workspace};
use aquatic_test_support::metrics;
use nix::sys::signal::Signal;

pub(crate) const PORT: u16 = 3000;

/// Of `bridge0` or whatever has it: the least that a configuration says.
pub(crate) const FILTER_AT_BRIDGE: &str = "xdp = 'filter'\nxdp_interfaces = ['bridge0']\n";

/// The same with queues.
pub(crate) const FULL_AT_BRIDGE: &str =
    "xdp = 'full'\nxdp_interfaces = ['bridge0']\nxdp_required = true\n";

/// For whatever a daemon does soon.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The last line of a start.
const READY: &str = "aquatic_daemon::supervisor: ready";

/// How a tracker is started.
pub(crate) struct Plan<'a> {
    pub(crate) host: &'a Host,
    pub(crate) family: Family,
    pub(crate) port: u16,
    /// Lines before all sections.
    pub(crate) general: String,
    /// Lines of `[network]`.
    pub(crate) network: String,
    /// More lines of `[protocol]`.
    pub(crate) protocol: String,
    /// Sections.
    pub(crate) rest: String,
    /// What it may do: nobody, with these capabilities. `None`: all.
    pub(crate) capabilities: Option<&'a [&'a str]>,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(host: &'a Host, family: Family, network: &str) -> Self {
        Self {
            host,
            family,
            port: PORT,
            general: String::new(),
            network: network.to_owned(),
            protocol: String::new(),
            rest: String::new(),
            capabilities: None,
        }
    }

    /// Starts it, and waits until it answers to its own host, past the program.
    pub(crate) fn start(self) -> Result<Tracker> {
        let folder = Folder::new()?;
        let mut process = self.run(&folder)?;
        let address = SocketAddr::new(self.host.ip(self.family), self.port);
        let client = UdpClient::new(self.host, address)?;
        wait::until("an answer of the tracker", LIMIT, || {
            process.check_alive()?;
            Ok(client.scrape(&[[0; 20]]).ok())
        })?;
        // Lines come in order, by a thread of their own: those of the start are there.
        wait::until("the tracker says that it is ready", LIMIT, || {
            process.check_alive()?;
            Ok(process.log()?.contains(READY).then_some(()))
        })?;
        let tracker = Tracker {
            process,
            _folder: folder,
            place: Place {
                host: self.host.clone(),
                family: self.family,
                address,
            },
        };
        // What it has asked itself is counted from now on.
        until("its own scrape is counted", || {
            Ok(tracker.count("aquatic_responses_total{type=scrape}")? >= 1.0)
        })?;
        Ok(tracker)
    }

    /// Starts it, and waits until it has ended by itself. Returns how, and its log.
    pub(crate) fn end(self) -> Result<(ExitStatus, String)> {
        let folder = Folder::new()?;
        let mut process = self.run(&folder)?;
        let status = process.wait(LIMIT)?;
        Ok((status, process.log()?))
    }

    fn run(&self, folder: &Folder) -> Result<Process> {
        let address = SocketAddr::new(any(self.family), self.port);
        let (general, network) = (&self.general, &self.network);
        let (protocol, rest) = (&self.protocol, &self.rest);
        let config = format!(
            "{general}[network]\naddress = '{address}'\n{network}\n\
             [protocol]\nmax_scrape_torrents = 116\n{protocol}\n\
             [statistics]\ninterval = 1\nrun_prometheus_endpoint = true\n\
             prometheus_endpoint_address = '{}'\n{rest}",
            endpoint(self.port)
        );
        let path = folder.path().join("tracker.toml");
        fs::write(&path, config).context("write a configuration")?;
        let program = workspace::binary("aquatic_udp")?;
        let mut command = match self.capabilities {
            None => self.host.command(program),
            Some(capabilities) => {
                let mut command = self.host.command("setpriv");
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
                let only = |option: &str| {
                    let added = capabilities.iter().map(|name| format!(",+{name}"));
                    format!("--{option}=-all{}", added.collect::<String>())
                };
                command.args(["inh-caps", "ambient-caps", "bounding-set"].map(only));
                command.arg(readable(folder, &program)?);
                command
            }
        };
        command.arg("-c").arg(&path);
        Process::start("tracker", folder, command)
    }
}

/// A copy of the program that everybody may run.
fn readable(folder: &Folder, program: &Path) -> Result<PathBuf> {
    let copy = folder.path().join("program");
    fs::copy(program, &copy).context("copy a program")?;
    for path in [folder.path(), &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).context("open a folder")?;
    }
    Ok(copy)
}

/// Namespaces are the test's own, so the port is free.
fn endpoint(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port + 1_000))
}

/// One that runs. Dropping it kills it.
pub(crate) struct Tracker {
    process: Process,
    _folder: Folder,
    place: Place,
}

/// Where a tracker answers, and what it counts.
#[derive(Clone)]
pub(crate) struct Place {
    host: Host,
    family: Family,
    address: SocketAddr,
}

impl Deref for Tracker {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Tracker {
    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    pub(crate) fn log(&self) -> Result<String> {
        self.process.log()
    }

    /// Waits until it has ended, as it should.
    pub(crate) fn wait(mut self) -> Result<()> {
        let status = self.process.wait(LIMIT)?;
        ensure!(status.success(), "the tracker has ended with {status}");
        Ok(())
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        let status = self.process.stop(Signal::SIGTERM, LIMIT)?;
        ensure!(status.success(), "SIGTERM ended the tracker with {status}");
        Ok(())
    }
}

impl Place {
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same by another address of its host.
    pub(crate) fn at(&self, ip: IpAddr) -> Self {
        Self {
            address: SocketAddr::new(ip, self.address.port()),
            ..self.clone()
        }
    }

    /// A client of it.
    pub(crate) fn client(&self, host: &Host) -> Result<UdpClient> {
        UdpClient::new(host, self.address)
    }

    /// The sum of all samples, as `aquatic_test_support` selects them; over this family.
    pub(crate) fn count(&self, selector: &str) -> Result<f64> {
        Ok(metrics::sum(&self.samples()?, &self.of_family(selector)))
    }

    fn of_family(&self, selector: &str) -> String {
        let digit = match self.family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        let (name, labels) = selector.split_once('{').unwrap_or((selector, "}"));
        format!("{name}{{ip_version={digit},{labels}")
    }

    fn samples(&self) -> Result<Vec<metrics::Sample>> {
        let endpoint = endpoint(self.address.port());
        Ok(metrics::samples(&self.host.fetch(endpoint, "/metrics")?))
    }

    /// The interfaces of which the tracker says whether the program works there, and what it says.
    pub(crate) fn activity(&self) -> Result<BTreeMap<String, bool>> {
        let samples = self.samples()?;
        let mut activity = BTreeMap::new();
        for sample in samples.iter().filter(|it| it.name == "aquatic_xdp_active") {
            let [(label, interface)] = &sample.labels[..] else {
                bail!("{sample:?}")
            };
            ensure!(label == "interface", "{sample:?}");
            activity.insert(interface.clone(), sample.value == 1.0);
        }
        Ok(activity)
    }

    /// Whether its queues are served.
    pub(crate) fn queue_activity(&self) -> Result<Vec<bool>> {
        let samples = self.samples()?;
        let queues = samples
            .iter()
            .filter(|it| it.name == "aquatic_xdp_queue_active");
        Ok(queues.map(|it| it.value == 1.0).collect())
    }

    /// Waits until all these counts are so much more than they were. They are a little late.
    pub(crate) fn wait_for_growth(&self, before: &Counts) -> Result<()> {
        wait::until(&format!("{before:?}"), LIMIT, || {
            let samples = self.samples()?;
            let is_right = |(selector, was, more): &(&str, f64, f64)| {
                metrics::sum(&samples, &self.of_family(selector)) == was + more
            };
            Ok(before.0.iter().all(is_right).then_some(()))
        })
        .with_context(|| {
            let now = self.counts(before.0.iter().map(|(selector, ..)| (*selector, 0.0)));
            format!("now: {now:?}")
        })
    }

    /// What is counted now, and how much more it has to become.
    pub(crate) fn counts<'a>(
        &self,
        wanted: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<Counts<'a>> {
        let samples = self.samples()?;
        let with_count = |(selector, more)| {
            (
                selector,
                metrics::sum(&samples, &self.of_family(selector)),
                more,
            )
        };
        Ok(Counts(wanted.into_iter().map(with_count).collect()))
    }

    /// Waits until all is counted that `guest` has sent so far: the last of it is what nobody else
    /// sends.
    pub(crate) fn settle(&self, guest: &Host) -> Result<()> {
        const TOO_SHORT: &str = "aquatic_dropped_total{reason=too_short}";
        let before = self.count(TOO_SHORT)?;
        connected(self, guest)?.send(b"short")?;
        until("the last request is counted", || {
            Ok(self.count(TOO_SHORT)? > before)
        })
    }

    /// Waits until the program answers to `guest`, and until all of that is counted.
    pub(crate) fn wait_until_guarded(&self, guest: &Host) -> Result<()> {
        self.settle(guest)?;
        let handled = || self.count("aquatic_handled_in_kernel_total");
        let connects = || self.count("aquatic_responses_total{type=connect}");
        let (handled_before, connects_before) = (handled()?, connects()?);
        let client = self.client(guest)?;
        let mut asked = 0.0;
        wait::until("the program works", LIMIT, || {
            asked += 1.0;
            connection_id(&client)?;
            Ok((handled()? > handled_before).then_some(()))
        })?;
        until("all connects are counted", || {
            Ok(connects()? == connects_before + asked)
        })
    }
}

/// A tracker at the hub whose program works.
pub(crate) fn guarded(lab: &Lab, family: Family, network: &str) -> Tracker {
    let tracker = Plan::new(lab.hub(), family, network).start().unwrap();
    tracker.wait_until_guarded(lab.guest(0)).unwrap();
    tracker
}

/// Selectors, counts, and how much more they have to become.
#[derive(Debug)]
pub(crate) struct Counts<'a>(Vec<(&'a str, f64, f64)>);

/// A seeder's.
pub(crate) fn announce(number: u8) -> Announce {
    let mut peer_id = *b"-e2e000-000000000001";
    peer_id[19] = number;
    Announce {
        info_hash: *b"a guarded torrent...",
        peer_id,
        left: 0,
        event: 2,
        numwant: -1,
        port: 6881 + u16::from(number),
    }
}

/// A connect request that is sent once, and may not be answered: the id.
pub(crate) fn connect_once(client: &UdpClient) -> Result<Option<u64>> {
    let answer = client.ask_once(&connect_request(fastrand::u32(..)))?;
    answer.map(|answer| id_in(&answer)).transpose()
}

/// The id that is the answer to one connect request.
pub(crate) fn connection_id(client: &UdpClient) -> Result<u64> {
    id_in(&client.answer_to(&connect_request(fastrand::u32(..)))?)
}

fn id_in(answer: &[u8]) -> Result<u64> {
    ensure!(answer.len() == 16 && answer[..4] == [0; 4], "{answer:?}");
    Ok(u64::from_be_bytes(answer[8..].try_into()?))
}

fn any(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// A socket on `guest` that sends there alone, and hears when nobody listens.
pub(crate) fn connected(place: &Place, guest: &Host) -> Result<UdpSocket> {
    let socket = guest.bind_udp(SocketAddr::new(any(place.family), 0))?;
    socket.connect(place.address).context("connect a socket")?;
    Ok(socket)
}

/// What a program prints that is run on `host`.
pub(crate) fn run(host: &Host, program: &str, arguments: &str) -> Result<String> {
    let mut command = host.command(program);
    let output = command
        .args(arguments.split(' '))
        .output()
        .context("start a program")?;
    let reason = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments}: {reason}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a host has counted of datagrams of UDP.
pub(crate) fn udp_count(host: &Host, family: Family, name: &str) -> Result<u64> {
    let file = match family {
        Family::V4 => "/proc/net/snmp",
        Family::V6 => "/proc/net/snmp6",
    };
    let text = run(host, "cat", file)?;
    let lines_of = |label| text.lines().filter_map(move |it| it.strip_prefix(label));
    let value = match family {
        Family::V4 => {
            let mut lines = lines_of("Udp:").map(str::split_whitespace);
            let (names, values) = (lines.next(), lines.next());
            let mut pairs = names
                .into_iter()
                .flatten()
                .zip(values.into_iter().flatten());
            pairs.find_map(|(label, value)| (label == name).then_some(value))
        }
        Family::V6 => {
            let mut lines = lines_of("Udp6").map(str::split_whitespace);
            lines.find_map(|mut line| (line.next() == Some(name)).then(|| line.next())?)
        }
    };
    Ok(value.context("no such counter")?.parse()?)
}

/// Waits for a condition.
pub(crate) fn until(what: &str, check: impl Fn() -> Result<bool>) -> Result<()> {
    wait::until(what, LIMIT, || Ok(check()?.then_some(())))
}
