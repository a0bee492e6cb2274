//! The program in front of the network stack (`network.xdp`).
//!
//! It does what [`Service::receive`](crate::service::Service::receive) would do about a datagram,
//! as far as that takes no swarm, for a tenth of the time: [`aquatic_xdp`] says what, and how. It
//! is attached at the start, when the process may still do that. From then on all that it has to
//! know is told to it in memory, once a second, by one of the socket workers: the time, where the
//! tracker listens and which networks are denied; and, at once, how much a client may ask. What it
//! counts is added to what that worker counts.

pub(crate) mod activity;
mod queues;

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU64;

use anyhow::{Context, anyhow, bail};
use aquatic_access_list::SharedDeniedNetworks;
use aquatic_config::Checks;
use aquatic_daemon::denied_networks;
use aquatic_daemon::request_rate::{LentCells, RequestRate};
pub(crate) use aquatic_xdp::XdpControl;
use aquatic_xdp::{
    AttachError, AttachMode, Counts, HostAddresses, Interface, Rate, TooMany, Xdp, XdpLimits,
    XdpTask,
};

use crate::config::{Config, NetworkConfig, XdpMode, XdpSetting};
use crate::connection_id::ConnectionIds;
use crate::front_end::GuardParts;
use crate::shield;
use crate::socket_worker::frames::FrameQueue;

const RIGHTS: &str = "it takes Linux 5.18, and root or CAP_BPF and CAP_NET_ADMIN at the start \
                      (in a unit of systemd: AmbientCapabilities=, CapabilityBoundingSet=)";

/// A network in a list has no fewer bytes.
const NETWORK_BYTES: u64 = 8;

/// A program that is attached and passes everything on.
pub(crate) struct Attached {
    xdp: Xdp,
    addresses: HostAddresses,
    interfaces: Vec<Interface>,
    queues: Vec<FrameQueue>,
}

impl Attached {
    /// Attaches the program as configured. Says what comes of it. `None`: there is none, since none
    /// is wanted, or it is not possible.
    ///
    /// # Errors
    /// If it is required, and not possible.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Option<Self>> {
        let network = &config.network;
        if network.xdp == XdpSetting::Off {
            return Ok(None);
        }
        activity::describe(&network.xdp_interfaces);
        match Self::attach_all(config) {
            Ok(attached) => Ok(Some(attached)),
            Err(error) if network.xdp_required => Err(error),
            Err(error) => {
                log::warn!("{error:#}: the tracker serves without");
                Ok(None)
            }
        }
    }

    fn attach_all(config: &Config) -> anyhow::Result<Self> {
        let network = &config.network;
        let networks = networks_at_most(config);
        let mut xdp =
            Xdp::new(networks, networks).with_context(|| format!("`network.xdp`: {RIGHTS}"))?;
        let addresses = HostAddresses::follow().with_context(|| {
            "`network.xdp`: no news of this host's addresses (in a unit of systemd: \
             RestrictAddressFamilies=AF_NETLINK)"
        })?;
        let mut failures = Vec::new();
        let mut fit = split_failures(
            network.xdp_interfaces.iter().map(|it| look_at(it)),
            &mut failures,
        );
        let has_queues = network.xdp == XdpSetting::Full && may_have_queues(network)?;
        // Some network cards lose their link for seconds: not for nothing.
        if network.xdp_required && !failures.is_empty() {
            fit.clear();
        }
        let attached = fit
            .into_iter()
            .map(|it| attach(&mut xdp, it, network.xdp_mode));
        let attached = split_failures(attached, &mut failures);
        if attached.is_empty() || network.xdp_required && !failures.is_empty() {
            return Err(all_of(failures));
        }
        for error in failures {
            log::warn!("{error:#}: what comes there is left to the kernel");
        }
        let mut queues = Vec::new();
        for at in &attached {
            let opened = match has_queues {
                true => queues::open(&xdp, at),
                false => Ok(Vec::new()),
            };
            let opened = match opened {
                Ok(opened) => opened,
                Err(error) if network.xdp_required => return Err(error),
                Err(error) => {
                    log::warn!("{error:#}: its requests go by the network stack");
                    Vec::new()
                }
            };
            let what = match network.xdp {
                XdpSetting::Full if opened.is_empty() => XdpSetting::Filter,
                setting => setting,
            };
            log::info!("xdp: {} at {}, {at}", label(what), at.interface.name());
            queues.extend(opened);
        }
        Ok(Self {
            xdp,
            addresses,
            interfaces: attached.into_iter().map(|at| at.interface).collect(),
            queues,
        })
    }

    /// The queues that were opened, for so many workers: each has its share.
    pub(crate) fn take_queues(&mut self, workers: usize) -> Vec<Vec<FrameQueue>> {
        queues::share_out(std::mem::take(&mut self.queues), workers)
    }
}

/// Whether there can be queues. If not, what the program passes on goes by the network stack.
fn may_have_queues(network: &NetworkConfig) -> anyhow::Result<bool> {
    match queues::require() {
        Ok(()) => Ok(true),
        Err(error) if network.xdp_required => Err(error),
        Err(error) => {
            log::warn!("{error:#}: requests go by the network stack");
            Ok(false)
        }
    }
}

/// What has worked. The rest is put to the `failures`.
fn split_failures<T>(
    results: impl Iterator<Item = anyhow::Result<T>>,
    failures: &mut Vec<anyhow::Error>,
) -> Vec<T> {
    results
        .filter_map(|it| it.map_err(|error| failures.push(error)).ok())
        .collect()
}

/// One error that tells them all.
fn all_of(failures: Vec<anyhow::Error>) -> anyhow::Error {
    let texts: Vec<_> = failures.iter().map(|error| format!("{error:#}")).collect();
    anyhow!(texts.join("; "))
}

/// Looks for the interfaces, as the start does; attaches nothing.
pub(crate) fn inspect(network: &NetworkConfig, checks: &mut Checks) {
    if network.xdp == XdpSetting::Off {
        return;
    }
    for name in &network.xdp_interfaces {
        let Err(error) = Interface::named(name) else {
            continue;
        };
        let (key, reason) = ("network.xdp_interfaces", format!("{name:?}: {error}"));
        match network.xdp_required {
            true => checks.require(false, key, reason),
            // The start, too, goes on then.
            false => {
                let reason = format!("{reason}: what comes there is left to the kernel");
                checks.advise(false, key, reason);
            }
        }
    }
}

/// How many networks a list can have, by the size of its file.
fn networks_at_most(config: &Config) -> usize {
    let path = denied_networks::file(&config.access_list);
    let bytes = path
        .and_then(|path| path.metadata().ok())
        .map(|it| it.len());
    usize::try_from(bytes.unwrap_or_default() / NETWORK_BYTES).unwrap_or(usize::MAX)
}

fn label(setting: XdpSetting) -> &'static str {
    match setting {
        XdpSetting::Off => "off",
        XdpSetting::Connect => "connect",
        XdpSetting::Filter => "filter",
        XdpSetting::Full => "full",
    }
}

/// Where the program is, and in words how.
struct At {
    interface: Interface,
    mode: AttachMode,
    /// Why not in the other mode.
    refused: String,
}

impl Display for At {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", mode_label(self.mode), self.refused)
    }
}

/// An interface that a program may be attached to.
fn look_at(name: &str) -> anyhow::Result<Interface> {
    let interface = Interface::named(name).with_context(|| format!("`network.xdp` at {name}"))?;
    if !interface.has_ethernet() {
        bail!("`network.xdp` at {name}: its frames do not begin with a header of Ethernet");
    }
    if let Some(vlan) = interface.stripped_vlan() {
        bail!(
            "`network.xdp` at {name}: the card takes off the tags of the VLAN of {vlan}, and \
             answers would have none (it leaves them there after: ethtool -K {name} rxvlan off)"
        );
    }
    Ok(interface)
}

/// Attaches it to an interface.
fn attach(xdp: &mut Xdp, interface: Interface, mode: XdpMode) -> anyhow::Result<At> {
    let name = interface.name();
    let modes = match mode {
        XdpMode::Auto => interface.modes(),
        XdpMode::Native => &[AttachMode::Native],
        XdpMode::Generic => &[AttachMode::Generic],
    };
    let mut refused = String::new();
    for mode in modes {
        match xdp.attach(interface.index(), *mode) {
            Ok(()) => {
                if *mode == AttachMode::Native && interface.is_veth() {
                    log::warn!(
                        "`network.xdp_mode` = native at {name}: veth loses all answers if its \
                         other end has no program, too"
                    );
                }
                return Ok(At {
                    interface,
                    mode: *mode,
                    refused,
                });
            }
            Err(AttachError::Unfit(error)) => {
                refused += &format!("; not {}, since {error}", mode_label(*mode));
            }
            Err(AttachError::Taken(error)) => bail!(
                "`network.xdp` at {name}: there is another program already, here or at an \
                 interface above it (a bridge, a bond), of another tracker or of something else \
                 ({error})"
            ),
            Err(AttachError::Failed(error)) => {
                return Err(error).with_context(|| format!("`network.xdp` at {name}: {RIGHTS}"));
            }
        }
    }
    bail!("`network.xdp` at {name}: no program{refused}");
}

fn mode_label(mode: AttachMode) -> &'static str {
    match mode {
        AttachMode::Native => "native",
        AttachMode::Generic => "generic",
    }
}

/// A program that works for as long as one of the workers does.
#[derive(Debug)]
pub(crate) struct Guard {
    xdp: Xdp,
    task: XdpTask,
    limits: XdpLimits,
    addresses: HostAddresses,
    /// Of this host.
    host: Vec<IpAddr>,
    /// Where the program is.
    interfaces: Vec<Interface>,
    sockets: Vec<SocketAddr>,
    denied: Option<SharedDeniedNetworks>,
    /// Which denied networks it knows.
    denied_version: Option<u64>,
    clock_zero_nanos: u64,
    state: State,
    /// What was told of it already.
    known: [Counts; 2],
    /// Datagrams that it has dropped which are no request.
    malformed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It passes everything on.
    Passive,
    Active,
    /// It will not work again.
    Over,
}

impl Guard {
    pub(crate) fn new(attached: Attached, network: &NetworkConfig, parts: GuardParts<'_>) -> Self {
        let Attached {
            xdp,
            addresses,
            interfaces,
            ..
        } = attached;
        xdp.set_rate(Rate {
            key: parts.request_rate.secret(),
            // It is told of it now, and of all changes.
            nanos_per_request: 0,
            zero_nanos: parts.clock_zero_nanos,
        });
        let cells = ProgramCells(xdp.control());
        parts.request_rate.count_in(Box::new(cells));
        Self {
            xdp,
            task: match network.xdp {
                XdpSetting::Off | XdpSetting::Connect => XdpTask::AnswerConnects,
                XdpSetting::Filter | XdpSetting::Full => XdpTask::Filter,
            },
            limits: XdpLimits {
                answers_per_second: network.xdp_answers_per_second.into(),
                errors_per_second: network.xdp_errors_per_second.into(),
            },
            addresses,
            host: Vec::new(),
            interfaces,
            sockets: parts.sockets,
            denied: parts.access_list.denied_networks().cloned(),
            denied_version: None,
            clock_zero_nanos: parts.clock_zero_nanos,
            state: State::Passive,
            known: Default::default(),
            malformed: 0,
        }
    }

    /// Tells it what has changed. To be called once a second. The first time it begins to work, and
    /// gives and takes these ids.
    pub(crate) fn look_each_second(&mut self, ids: &ConnectionIds) {
        if self.state == State::Over {
            return;
        }
        let times = shield::times(ids, self.clock_zero_nanos);
        self.xdp.set_times(times);
        self.follow_addresses();
        self.follow_interfaces();
        let is_complete = self.follow_denied();
        match (self.state, is_complete) {
            (State::Passive, true) => {
                self.xdp
                    .activate(self.task, ids.secret(), times, self.limits);
                self.enter(State::Active);
                log::info!("xdp: in use");
            }
            (State::Active, false) => {
                self.control().deactivate();
                self.enter(State::Passive);
            }
            _ => {}
        }
    }

    fn follow_addresses(&mut self) {
        match self.addresses.changed() {
            Ok(Some(host)) if host != self.host => self.host = host,
            Ok(_) => return,
            Err(error) => {
                log::warn!("xdp: the addresses of this host are not known any more: {error}");
                self.end();
                return;
            }
        }
        let homeless = self
            .xdp
            .set_listeners(&listeners(&self.sockets, &self.host));
        if homeless > 0 {
            log::warn!(
                "xdp: {homeless} addresses of this host are too many: what comes there is left to \
                 the kernel"
            );
        }
    }

    fn follow_interfaces(&mut self) {
        let known = self.interfaces.iter().map(Interface::index);
        for index in self.addresses.take_gone(known) {
            let place = self.interfaces.iter().position(|it| it.index() == index);
            if let Some(gone) = place.map(|at| self.interfaces.swap_remove(at)) {
                activity::set(gone.name(), false);
                log::warn!(
                    "xdp: the interface {} is gone, and the program with it: if there is one of \
                     this name again, what comes there is left to the kernel, until a restart",
                    gone.name()
                );
            }
        }
    }

    /// Returns whether it knows all networks that are denied.
    fn follow_denied(&mut self) -> bool {
        let Some(denied) = &self.denied else {
            return true;
        };
        // Before the list is read, so that a newer one is never taken for known.
        let version = denied.version();
        if self.denied_version.replace(version) == Some(version) {
            return self.state == State::Active;
        }
        let networks = denied.present();
        let (v4, v6): (Vec<_>, Vec<_>) = (
            networks.ranges_v4().collect(),
            networks.ranges_v6().collect(),
        );
        let denied = self.xdp.deny(&v4, &v6);
        if let Err(TooMany { at_all }) = denied {
            let advice = match at_all {
                true => "there is no more room",
                false => "a restart makes room",
            };
            log::warn!(
                "xdp: {} denied networks are more than it has room for: everything is left to the \
                 kernel ({advice})",
                networks.entries()
            );
        }
        denied.is_ok()
    }

    /// From now on everything is left to the kernel, and to whoever serves next.
    pub(crate) fn end(&mut self) {
        self.control().deactivate();
        self.enter(State::Over);
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        for interface in &self.interfaces {
            activity::set(interface.name(), state == State::Active);
        }
    }

    /// For the workers that do not have it: they end it, too, since what comes to their queues
    /// after their end would be lost.
    pub(crate) fn control(&self) -> XdpControl {
        self.xdp.control()
    }

    /// What it has dealt with since this was asked last: over IPv4, and over IPv6.
    pub(crate) fn take_counts(&mut self) -> [Counts; 2] {
        let now = self.xdp.counts();
        let [known_v4, known_v6] = std::mem::replace(&mut self.known, now);
        let [v4, v6] = now;
        let new = [v4.since(&known_v4), v6.since(&known_v6)];
        let malformed =
            |it: &Counts| it.too_short + it.too_long + it.unknown_action + it.not_connect;
        self.malformed += new.iter().map(malformed).sum::<u64>();
        new
    }

    /// Datagrams that it has dropped so far which are no request.
    pub(crate) fn malformed(&self) -> u64 {
        self.malformed
    }
}

/// The addresses that are served, of a host with these.
fn listeners(sockets: &[SocketAddr], host: &[IpAddr]) -> Vec<SocketAddr> {
    let mut listeners = Vec::new();
    for socket in sockets {
        let is_meant = |ip: &IpAddr| match socket.ip().is_unspecified() {
            true => ip.is_ipv4() == socket.is_ipv4(),
            false => *ip == socket.ip(),
        };
        // Nobody else can ask there, and the kernel refuses who tries.
        let others = host.iter().copied().filter(|ip| !ip.is_loopback());
        let own = others.filter(is_meant);
        listeners.extend(own.map(|ip| SocketAddr::new(ip, socket.port())));
    }
    listeners.sort_unstable();
    listeners.dedup();
    listeners
}

// Both find the same cell for a client.
const _: () = assert!(aquatic_xdp::RATE_CELLS == RequestRate::CELLS);

/// The program's cells, for the rate.
#[derive(Debug)]
struct ProgramCells(XdpControl);

impl LentCells for ProgramCells {
    #[inline]
    fn get(&self, place: usize) -> Option<&AtomicU64> {
        self.0.cell(place)
    }

    fn set_nanos_per_request(&self, nanos: u64) {
        self.0.set_nanos_per_request(nanos);
    }
}

#[cfg(test)]
mod tests;
