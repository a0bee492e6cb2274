//! Filters of the kernel in front of the sockets (`network.socket_filter`).
//!
//! In a [flood] they drop what this program would drop or refuse, before it is put into a socket's
//! queue: [`aquatic_xdp`] says what, and how. At other times there are none, since to look at each
//! datagram costs honest clients some time, too.
//!
//! A filter of eBPF is loaded at the start, when the process may still do that; to attach it takes
//! no rights. All that it knows it is told in memory, and it counts what it drops. Who may not load
//! one attaches a classic one.
//!
//! [flood]: crate::flood

use std::io;

use aquatic_types::IpFamily;
use aquatic_udp_socket::UdpSocket;
use aquatic_xdp::{Counts, SocketFilter, Times};

use crate::Now;
use crate::config::{Config, SocketFilterMode};
use crate::connection_id::ConnectionIds;
use crate::flood::FloodWatch;

/// So many datagrams with a wrong connection id are let through to each socket in a second, so that
/// their senders are told to connect again: those that have an id of an earlier process, say. It
/// takes less than a hundredth of a CPU to refuse them.
const WRONG_PER_SECOND: u64 = 1_000;

/// A classic filter lets one of so many through.
const CLASSIC_ONE_OF: u32 = 512;

/// It has no clock, so it is attached anew before its time is over.
const CLASSIC_SECONDS: u32 = 600;

/// Of floods that come and go one is told of in so long.
const TELL_MICROS: u64 = 600_000_000;

/// What is in front of the sockets of a worker.
#[derive(Debug, Default)]
pub(crate) struct Shields {
    kind: Kind,
    watch: FloodWatch,
    /// Requests with a wrong id that filters have dropped, as far as they count.
    forged: u64,
    /// When the log was told of a flood last, and whether it was of the last one.
    told_micros: Option<u64>,
    is_told: bool,
    /// The daemon's zero on the kernel's monotonic clock.
    clock_zero_nanos: u64,
}

#[derive(Debug, Default)]
enum Kind {
    /// Nothing, ever.
    #[default]
    None,
    /// Filters, in the order of the sockets. Workers that share one have one together.
    Ebpf(Vec<Option<Shield>>),
    /// Those that are attached when they are needed.
    Classic,
}

#[derive(Debug)]
struct Shield {
    filter: SocketFilter,
    /// What was told of it already.
    known: [Counts; 2],
}

impl Shields {
    /// Loads filters for the sockets of all workers, as configured, and takes away those of an
    /// earlier process. Says what comes of it.
    pub(crate) fn prepare(config: &Config, sockets: &[Vec<UdpSocket>]) -> Vec<Self> {
        sockets.iter().for_each(|sockets| detach(sockets));
        let is_wanted = config.network.socket_filter == SocketFilterMode::Auto;
        let kinds = is_wanted.then(|| {
            let load = |sockets: &Vec<UdpSocket>| Kind::ebpf(sockets);
            sockets.iter().map(load).collect::<io::Result<Vec<_>>>()
        });
        let kinds = match kinds {
            Some(Ok(kinds)) => {
                log::info!("socket filter: eBPF");
                kinds
            }
            Some(Err(error)) if cfg!(target_os = "linux") => {
                log::info!(
                    "socket filter: classic, since eBPF takes Linux 5.11, and root or CAP_BPF at \
                     the start: {error}"
                );
                sockets.iter().map(|_| Kind::Classic).collect()
            }
            _ => sockets.iter().map(|_| Kind::None).collect(),
        };
        let shields = kinds.into_iter().zip(sockets).map(|(kind, sockets)| Self {
            // Workers that share the sockets of others have nothing to do with it.
            kind: own(sockets).next().map_or(Kind::None, |_| kind),
            ..Self::default()
        });
        shields.collect()
    }

    /// The same, by a daemon whose zero is there on the kernel's monotonic clock.
    pub(crate) fn at(mut self, clock_zero_nanos: u64) -> Self {
        self.clock_zero_nanos = clock_zero_nanos;
        self
    }

    /// Begins to filter if a flood has begun. `wrong`: all datagrams so far that should not have
    /// come. To be called often.
    pub(crate) fn look(
        &mut self,
        now: Now,
        wrong: u64,
        ids: &ConnectionIds,
        sockets: &[UdpSocket],
    ) {
        if self.watch.is_flooded() || matches!(self.kind, Kind::None) {
            return;
        }
        if !self.watch.has_begun(now, wrong) {
            return;
        }
        match &self.kind {
            Kind::None => {}
            Kind::Ebpf(_) => self.attach_ebpf(ids, sockets),
            Kind::Classic => self.attach_classic(now, ids, sockets),
        }
        if !self.watch.is_flooded() {
            return;
        }
        let ago = |told| now.micros.saturating_sub(told);
        self.is_told = self.told_micros.is_none_or(|told| ago(told) >= TELL_MICROS);
        if self.is_told {
            self.told_micros = Some(now.micros);
            log::info!("a flood of wrong connection ids: the kernel drops them");
        }
    }

    /// Does what is due once a second: goes by the clock of these ids, and ends to filter if the
    /// flood is over.
    pub(crate) fn look_each_second(
        &mut self,
        now: Now,
        wrong: u64,
        ids: &ConnectionIds,
        sockets: &[UdpSocket],
    ) {
        let one_of = match self.kind {
            Kind::None => return,
            Kind::Ebpf(_) => 1,
            Kind::Classic => CLASSIC_ONE_OF,
        };
        let is_over = self.watch.is_over(wrong, one_of);
        if is_over && self.is_told {
            log::info!("the flood of wrong connection ids is over");
        }
        match &self.kind {
            Kind::None => {}
            Kind::Ebpf(_) | Kind::Classic if is_over => detach(sockets),
            Kind::Ebpf(_) => {
                let times = times(ids, self.clock_zero_nanos);
                self.filters().for_each(|filter| filter.set_times(times));
            }
            // While the time of ids is told twice there is none, since it would know only one.
            Kind::Classic if ids.clock().seconds_before_step(now).is_some() => {
                if self.watch.is_flooded() {
                    log::info!("the clock was set: no filter knows the time of ids for a while");
                    detach(sockets);
                    self.watch.end();
                }
            }
            Kind::Classic => {
                if self.watch.has_lasted(now, CLASSIC_SECONDS) {
                    self.attach_classic(now, ids, sockets);
                }
            }
        }
    }

    fn attach_ebpf(&mut self, ids: &ConnectionIds, sockets: &[UdpSocket]) {
        let Kind::Ebpf(shields) = &self.kind else {
            return;
        };
        let times = times(ids, self.clock_zero_nanos);
        let attached = sockets
            .iter()
            .zip(shields)
            .try_for_each(|(socket, shield)| {
                let Some(Shield { filter, .. }) = shield else {
                    return Ok(());
                };
                filter.activate(ids.secret(), times, WRONG_PER_SECOND);
                filter.attach(socket)
            });
        self.give_up_without(attached, sockets);
    }

    /// Goes on without filters if they could not be attached.
    fn give_up_without(&mut self, attached: io::Result<()>, sockets: &[UdpSocket]) {
        if let Err(error) = attached {
            log::warn!("a flood of wrong connection ids, and no filter can be attached: {error}");
            detach(sockets);
            *self = Self::default();
        }
    }

    fn attach_classic(&mut self, now: Now, ids: &ConnectionIds, sockets: &[UdpSocket]) {
        if ids.clock().seconds_before_step(now).is_some() {
            self.watch.end();
            return;
        }
        // Some kernels have no room for the next one beside the one before (net.core.optmem_max).
        detach(sockets);
        let (key, now) = (ids.secret(), ids.clock().seconds(now).0);
        let attached = own(sockets).try_for_each(|socket| {
            let is_ipv6 = socket.family() == IpFamily::V6;
            aquatic_xdp::attach_classic(socket, is_ipv6, key, now, CLASSIC_ONE_OF)
        });
        self.give_up_without(attached, sockets);
    }

    /// Whether something is dropped and not counted now.
    pub(crate) fn do_not_count(&self) -> bool {
        matches!(self.kind, Kind::Classic) && self.watch.is_flooded()
    }

    fn filters(&self) -> impl Iterator<Item = &SocketFilter> {
        let shields = match &self.kind {
            Kind::Ebpf(shields) => shields.as_slice(),
            Kind::None | Kind::Classic => &[],
        };
        shields.iter().flatten().map(|shield| &shield.filter)
    }

    /// What was dropped before a socket since this was asked last: over IPv4, and over IPv6.
    pub(crate) fn take_dropped(&mut self, socket: usize) -> [Counts; 2] {
        let Kind::Ebpf(shields) = &mut self.kind else {
            return Default::default();
        };
        let Some(Some(shield)) = shields.get_mut(socket) else {
            return Default::default();
        };
        let now = shield.filter.counts();
        let [known_v4, known_v6] = std::mem::replace(&mut shield.known, now);
        let [v4, v6] = now;
        let dropped = [v4.since(&known_v4), v6.since(&known_v6)];
        self.forged += dropped.iter().map(Counts::forged).sum::<u64>();
        dropped
    }

    /// How many requests with a wrong id filters have dropped that count.
    pub(crate) fn forged(&self) -> u64 {
        self.forged
    }
}

impl Kind {
    fn ebpf(sockets: &[UdpSocket]) -> io::Result<Self> {
        let filters = sockets.iter().map(|socket| {
            let filter = socket.is_counted().then(SocketFilter::load);
            Ok(filter.transpose()?.map(|filter| Shield {
                filter,
                known: Default::default(),
            }))
        });
        filters.collect::<io::Result<_>>().map(Self::Ebpf)
    }
}

/// Takes filters away. Sockets may outlive the process, and serve another one that has another
/// secret, and knows nothing of filters.
pub(crate) fn detach(sockets: &[UdpSocket]) {
    own(sockets).for_each(aquatic_xdp::detach);
}

/// The sockets that are not another worker's as well.
fn own(sockets: &[UdpSocket]) -> impl Iterator<Item = &UdpSocket> {
    sockets.iter().filter(|socket| socket.is_counted())
}

/// The clock of these ids on the time line of the kernel, at which the daemon's begins at `zero`.
pub(crate) fn times(ids: &ConnectionIds, zero: u64) -> Times {
    let clock = ids.clock();
    let nanos = |micros: u64| micros.wrapping_mul(1_000);
    let on_kernels = |unix_micros| nanos(unix_micros).wrapping_sub(zero);
    Times {
        unix_nanos: on_kernels(clock.unix_micros_at_zero()),
        replaced: clock.replaced().map(|(unix_micros, until_micros)| {
            let until = until_micros.saturating_mul(1_000).saturating_add(zero);
            (on_kernels(unix_micros), until)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_clock_is_told_as_the_daemons_is() {
        // The daemon has begun 1,000 s after the machine, at 5,000 s of Unix time.
        let zero = 1_000_000_000_000;
        let mut ids = ConnectionIds::new([1, 2], 120, 5_000_000_000);
        let told = times(&ids, zero);
        assert_eq!((told.unix_nanos, told.replaced), (4_000_000_000_000, None));
        // After 10 s the clock is set back by 2,000 s. Ids are good for 130 s.
        ids.synchronise(Now::from_micros(10_000_000), 3_010_000_000);
        let told = times(&ids, zero);
        assert_eq!(told.unix_nanos, 2_000_000_000_000);
        let until = zero + 140_000_000_000;
        assert_eq!(told.replaced, Some((4_000_000_000_000, until)));
    }
}
