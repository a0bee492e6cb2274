//! The front end: its sockets and socket workers, from the binding to the threads. Which swarms it
//! serves, and what else runs in the process, is up to whoever starts it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aquatic_access_list::SharedAccessList;
use aquatic_channel::Waker;
use aquatic_daemon::clock::unix_micros;
use aquatic_daemon::kept_sockets::KeptSockets;
use aquatic_daemon::replace_file;
use aquatic_daemon::request_rate::RequestRate;
use aquatic_daemon::sandbox::Needs;
use aquatic_tracker::dispatch::shard_set::FrontEnd;
use aquatic_tracker::entropy::{Entropy, OsEntropy};
use aquatic_tracker::guest::MakeGuest;
use aquatic_tracker::launch::{Counted, Launch};
use aquatic_tracker::limits::ClientLimits;
use aquatic_tracker::shard::ShardOwner;
use aquatic_tracker::shard::addresses::{AddressShard, AddressShards};
use aquatic_tracker::shard::swarm_worker::WaitSettings;
use aquatic_udp_socket::UdpSocket;

use crate::backend::{self, Chosen, SocketWait};
use crate::config::Config;
use crate::connection_secret;
use crate::counters::Udp;
use crate::live::LiveFrontEnd;
use crate::shield::Shields;
use crate::socket_worker::SocketWorker;
use crate::socket_worker::frames::{FrameQueue, Queues};
use crate::socket_worker::host::Host;
use crate::socket_worker::last_rounds::LastRounds;
use crate::sockets;
use crate::workers::{FrontEndParts, connect_workers};
use crate::xdp::{self, Guard};

/// How long swarm workers wait.
#[must_use]
pub fn wait(config: &Config) -> WaitSettings {
    WaitSettings {
        timeout: Duration::from_millis(config.network.poll_timeout_ms),
        batch_wait: Duration::from_micros(config.network.batch_wait_us),
    }
}

/// What is bound before the rights of root are given up.
pub struct Bound {
    config: Arc<Config>,
    live: LiveFrontEnd,
    backend: Chosen,
    /// By socket worker.
    sockets: Vec<Vec<UdpSocket>>,
    /// By socket worker.
    shields: Vec<Shields>,
    xdp: Option<xdp::Attached>,
    /// By socket worker; none at all if there are none.
    queues: Vec<Vec<FrameQueue>>,
    /// By socket worker.
    waits: Vec<SocketWait>,
    connection_secret: Option<[u64; 2]>,
}

/// What a program in front of the network stack has to know besides ids and the time.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there is none"))]
pub(crate) struct GuardParts<'a> {
    /// Where the sockets are bound.
    pub(crate) sockets: Vec<SocketAddr>,
    pub(crate) access_list: &'a SharedAccessList,
    pub(crate) request_rate: &'a Arc<RequestRate>,
    /// The daemon's zero on the kernel's monotonic clock.
    pub(crate) clock_zero_nanos: u64,
}

/// Queues of which a worker can tell one from the other, and from its sockets: those have numbers
/// of a byte. What comes by the others is for the network stack.
fn numbered<Q>(mut queues: Vec<Vec<Q>>, sockets: usize) -> Vec<Vec<Q>> {
    let room = (usize::from(u8::MAX) + 1).saturating_sub(sockets);
    let is_too_much = queues.iter().any(|share| share.len() > room);
    if is_too_much {
        log::warn!(
            "a worker has room for {room} receive queues beside its sockets: see `socket_workers`"
        );
        queues.iter_mut().for_each(|share| share.truncate(room));
    }
    queues
}

/// The front end of UDP, connected with all shards.
pub struct Connected {
    bound: Bound,
    addresses: Vec<SocketAddr>,
    socket_workers: Vec<SocketWorker>,
    counted: Counted<Udp>,
}

impl Bound {
    /// Binds all sockets that an earlier process has not left among `kept_sockets`, and reads what
    /// only root may read.
    ///
    /// # Errors
    /// If the system does not give what the configuration asks for.
    pub fn bind(config: &Arc<Config>, kept_sockets: &KeptSockets) -> anyhow::Result<Self> {
        let sockets = sockets::bind(config, kept_sockets)?;
        let shields = Shields::prepare(config, &sockets);
        let backend = Chosen::new(config)?;
        let waits = backend::wait_handles(&backend, sockets.len())?;
        let secret_file = &config.network.connection_secret_file;
        let connection_secret = match secret_file.as_os_str().is_empty() {
            true => None,
            false => Some(connection_secret::load_or_make(
                secret_file,
                &mut OsEntropy,
            )?),
        };
        if connection_secret.is_none() && kept_sockets.outlive_the_process() {
            log::info!(
                "sockets outlive this process, and connection ids do not: clients have to connect \
                 again after a restart, unless `network.connection_secret_file` is set"
            );
        }
        Ok(Self {
            config: Arc::clone(config),
            live: LiveFrontEnd::new(config),
            backend,
            sockets,
            shields,
            xdp: None,
            queues: Vec::new(),
            waits,
            connection_secret,
        })
    }

    /// Attaches a program in front of the network stack, if there is to be one. To be called before
    /// the rights of root are given up, and after all that an operator can have got wrong: some
    /// network cards lose their link for seconds.
    ///
    /// # Errors
    /// If it is required, and not possible.
    pub fn attach(&mut self) -> anyhow::Result<()> {
        self.xdp = xdp::Attached::new(&self.config)?;
        let workers = self.sockets.len();
        let queues = self.xdp.as_mut().map(|it| it.take_queues(workers));
        let sockets = sockets::per_worker_max(&self.sockets);
        self.queues = numbered(queues.unwrap_or_default(), sockets);
        if self.queues.iter().any(|share| !share.is_empty()) {
            self.backend = Chosen::Frames;
            self.waits = backend::wait_handles(&self.backend, workers)?;
        }
        Ok(())
    }

    /// How many queues one worker has at most: each is one socket more to it.
    fn queues_max(&self) -> usize {
        self.queues.iter().map(Vec::len).max().unwrap_or_default()
    }

    /// Where they listen.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        sockets::addresses(&self.sockets)
    }

    /// What wakes the socket workers.
    pub fn wakers(&self) -> impl Iterator<Item = Waker> {
        self.waits.iter().map(|wait| wait.waker.clone())
    }

    /// Makes the socket workers, which will run where `front_end` says, and lets the kernel steer
    /// requests to the owners of their torrents.
    ///
    /// # Errors
    /// If the operating system's source of randomness fails.
    pub fn connect(
        mut self,
        launch: &Launch<'_>,
        shards: &mut AddressShards,
        front_end: FrontEnd<'_>,
        limits: &ClientLimits,
        entropy: &mut impl Entropy,
    ) -> anyhow::Result<Connected> {
        let config = &self.config;
        for (key, path) in config.outputs() {
            if let Err(error) = replace_file::check(path) {
                log::warn!("`{key}`: {error:#}");
            }
        }
        let addresses = sockets::addresses(&self.sockets);
        let parts = FrontEndParts {
            front_end,
            access_list: launch.access_list(),
            limits,
            settings: &self.live.settings,
            sockets: sockets::per_worker_max(&self.sockets) + self.queues_max(),
            connection_secret: self.connection_secret,
            unix_micros: unix_micros().wrapping_sub(launch.clock().micros()),
        };
        let (mut socket_workers, counted) = connect_workers(config, shards, parts, entropy)?;
        let shields = std::mem::take(&mut self.shields);
        let clock_zero_nanos = launch.clock().zero_nanos();
        if let ([worker, others @ ..], Some(attached)) = (&mut socket_workers[..], self.xdp.take())
        {
            let parts = GuardParts {
                sockets: addresses.clone(),
                access_list: launch.access_list(),
                request_rate: &limits.request_rate,
                clock_zero_nanos,
            };
            let guard = Guard::new(attached, &config.network, parts);
            for other in others {
                other.guarded_with(guard.control());
            }
            worker.guarded_by(guard);
        }
        for (worker, shields) in socket_workers.iter_mut().zip(shields) {
            worker.hide_behind(shields.at(clock_zero_nanos));
            worker.require_keys(launch.keys());
            worker.tell_announces(launch.announces());
        }
        sockets::steer(config.topology(), &self.sockets, &shards.key());
        Ok(Connected {
            bound: self,
            addresses,
            socket_workers,
            counted,
        })
    }
}

impl Connected {
    /// Gives each worker the shard that belongs to its thread, if one does.
    pub fn own(&mut self, owners: Vec<Option<Box<ShardOwner<AddressShard>>>>) {
        for (worker, owner) in self.socket_workers.iter_mut().zip(owners) {
            worker.own(owner);
        }
    }

    /// Changes what they go by.
    #[must_use]
    pub fn live(&self) -> &LiveFrontEnd {
        &self.bound.live
    }

    /// What they count.
    pub fn counted_mut(&mut self) -> &mut Counted<Udp> {
        &mut self.counted
    }

    /// What they need of the sandbox.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let config = &self.bound.config;
        Needs {
            replaces: config.outputs().map(|(_, path)| path.to_owned()).collect(),
            io_uring: self.bound.backend.may_use_io_uring(),
            ..Needs::default()
        }
    }

    /// Starts the socket workers, whose threads are called `socket-0` and so on, after the
    /// `prefix`. The first ones have these guests. Returns what they count.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(
        self,
        launch: &mut Launch<'_>,
        prefix: &str,
        guests: Vec<MakeGuest<AddressShard>>,
    ) -> anyhow::Result<Counted<Udp>> {
        let Self {
            bound,
            addresses,
            socket_workers,
            counted,
        } = self;
        let (supervisor, clock) = (launch.supervisor(), launch.clock());
        let mut guests = guests.into_iter();
        let first_queue = sockets::per_worker_max(&bound.sockets);
        let mut queues = bound.queues.into_iter();
        let workers = socket_workers.into_iter().zip(bound.waits);
        for (index, ((worker, handle), sockets)) in workers.zip(bound.sockets).enumerate() {
            let config = Arc::clone(&bound.config);
            let waker = handle.waker.clone();
            let last_rounds = LastRounds::new(supervisor.finisher(move || waker.wake()));
            let guest = guests.next();
            let queues = queues.next().unwrap_or_default();
            supervisor.spawn(format!("{prefix}socket-{index}"), move || {
                let host = Host::of(guest.map(|make| make()).transpose()?);
                let config = &config.network;
                let traffic = (&sockets[..], Queues::new(queues, first_queue));
                backend::run(handle, (worker, host), traffic, clock, config, last_rounds)
            })?;
        }
        launch.show(&counted);
        // Before it is logged: what a log level hides is not even computed, and the workers wait
        // for it.
        let backend = bound.backend.settle();
        log::info!("backend: {backend}");
        for address in addresses {
            log::info!("serving at {address}");
        }
        Ok(counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_queues_of_a_worker_are_told_apart_by_a_byte() {
        let queues = || vec![vec![1, 2, 3], vec![4]];
        assert_eq!(numbered(queues(), 253), queues());
        assert_eq!(numbered(queues(), 254), [vec![1, 2], vec![4]]);
        assert_eq!(numbered(queues(), 300), [vec![], Vec::<i32>::new()]);
    }
}
