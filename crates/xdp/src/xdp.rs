//! A program that looks at frames, before the kernel has made anything of them but their bytes.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::af_xdp::{Queue, QueueMap};
use crate::denied::{NodeV4, NodeV6, Trees};
use crate::host::{processors, require_clock, require_one_at_a_time};
use crate::kernel;
use crate::listeners::Listeners;
use crate::map::{Array, Shared};
use crate::memory::State;
use crate::program::{self, Kind};
use crate::programs::xdp::CODE;
use crate::told::{
    AttachError, AttachMode, Counts, FAMILIES, Rate, Row, Times, TooMany, XdpLimits, XdpTask, sums,
};

/// Cells of the rate of clients, as `aquatic_daemon` has them.
pub const RATE_CELLS: usize = 1 << 20;

/// So many receive queues of an interface, the first ones, can have a socket of AF_XDP.
pub const XDP_QUEUES_MAX: u32 = 256;

impl AttachMode {
    fn flags(self) -> u32 {
        match self {
            Self::Generic => 1 << 1,
            Self::Native => 1 << 2,
        }
    }
}

/// `struct settings`.
#[derive(Debug, Default)]
#[repr(C)]
struct Settings {
    task: AtomicU64,
    has_queues: AtomicU64,
    is_generic: AtomicU64,
    answers_per_second: AtomicU64,
    errors_per_second: AtomicU64,
    rate_key: [AtomicU64; 2],
    nanos_per_request: AtomicU64,
    zero_nanos: AtomicU64,
    denied_v4: AtomicU64,
    denied_v6: AtomicU64,
}

// SAFETY: atomic numbers, and nothing else.
unsafe impl Shared for Settings {}

/// `struct processor`.
#[derive(Debug, Default)]
#[repr(C)]
struct Processor([AtomicU64; 30]);

// SAFETY: atomic numbers, and nothing else.
unsafe impl Shared for Processor {}

/// See [`XdpControl::cell`].
#[derive(Debug, Default)]
#[repr(transparent)]
struct Cell(AtomicU64);

// SAFETY: an atomic number.
unsafe impl Shared for Cell {}

/// What other threads have to do with a program.
#[derive(Clone, Debug)]
pub struct XdpControl {
    cells: Arc<Array<Cell>>,
    settings: Vec<Arc<Array<Settings>>>,
}

impl XdpControl {
    /// What clients have sent, counted by the program and by this process: the cell at a place;
    /// none behind the last one.
    #[inline]
    #[must_use]
    pub fn cell(&self, place: usize) -> Option<&AtomicU64> {
        self.cells.elements().get(place).map(|Cell(cell)| cell)
    }

    /// Changes what one request takes of a client's time; 0: there is no limit.
    pub fn set_nanos_per_request(&self, nanos: u64) {
        for settings in self.settings() {
            settings.nanos_per_request.store(nanos, Ordering::Release);
        }
    }

    /// From now on everything goes on untouched: see [`Xdp::activate`]. What the program is busy
    /// with at another processor may still come to a queue.
    pub fn deactivate(&self) {
        for settings in self.settings() {
            settings.task.store(0, Ordering::Release);
        }
    }

    fn settings(&self) -> impl Iterator<Item = &Settings> {
        self.settings.iter().flat_map(|it| it.elements())
    }
}

/// A program that answers connect requests, and drops what user space would drop or refuse anyway.
/// Until it is [activated](Self::activate) everything goes on untouched.
#[derive(Debug)]
pub struct Xdp {
    state: Array<State>,
    listeners: Listeners,
    denied_v4: Trees<NodeV4>,
    denied_v6: Trees<NodeV6>,
    cells: Arc<Array<Cell>>,
    processors: Array<Processor>,
    /// Of each processor two: over IPv4, and over IPv6.
    rows: Array<Row>,
    attached: Vec<Attached>,
}

/// The program at one interface, for as long as this is kept.
#[derive(Debug)]
struct Attached {
    interface_index: u32,
    settings: Arc<Array<Settings>>,
    queues: QueueMap,
    program: OwnedFd,
    /// Holds the program there; none if it was never attached.
    link: Option<OwnedFd>,
}

impl Xdp {
    /// Prepares one, with room for so many ranges of networks that are not served, of IPv4 and of
    /// IPv6, and for some more.
    ///
    /// # Errors
    /// If the process may not (it takes `CAP_BPF`), or the kernel is older than Linux 5.18.
    pub fn new(denied_v4: usize, denied_v6: usize) -> io::Result<Self> {
        require_clock()?;
        require_one_at_a_time()?;
        let processors = processors()?;
        Ok(Self {
            state: Array::new(1)?,
            listeners: Listeners::new()?,
            denied_v4: Trees::new(denied_v4)?,
            denied_v6: Trees::new(denied_v6)?,
            cells: Arc::new(Array::new(RATE_CELLS)?),
            processors: Array::new(processors)?,
            rows: Array::new(FAMILIES * processors)?,
            attached: Vec::new(),
        })
    }

    /// Attaches the program to an interface. It is there until this is dropped, or the process
    /// ends, however it does.
    ///
    /// # Errors
    /// If the interface has another program, does not take one in this mode, or the process may not
    /// (it takes `CAP_BPF` and `CAP_NET_ADMIN`).
    pub fn attach(&mut self, interface_index: u32, mode: AttachMode) -> Result<(), AttachError> {
        let mut attached = self.load(mode).map_err(AttachError::Failed)?;
        attached.interface_index = interface_index;
        let link = kernel::attach_xdp(&attached.program, interface_index, mode.flags());
        attached.link = Some(link.map_err(AttachError::of)?);
        self.attached.push(attached);
        Ok(())
    }

    /// From now on datagrams that the program passes on, and that come by this queue of an
    /// interface at which it is, go there and not to the network stack.
    ///
    /// # Errors
    /// If the program is not at that interface, or there are too many queues.
    pub fn redirect(&self, interface_index: u32, number: u32, queue: &Queue) -> io::Result<()> {
        let is_meant = |it: &&Attached| it.interface_index == interface_index;
        let attached = self.attached.iter().find(is_meant);
        let attached = attached.ok_or(io::ErrorKind::NotFound)?;
        attached.queues.insert(number, queue)?;
        for settings in attached.settings.elements() {
            settings.has_queues.store(1, Ordering::Release);
        }
        Ok(())
    }

    /// Loads the program as if it was attached, to [try](Self::try_frame) it.
    ///
    /// # Errors
    /// If the process may not.
    pub fn load_for_trial(&mut self, mode: AttachMode) -> io::Result<()> {
        let loaded = self.load(mode)?;
        self.attached.push(loaded);
        Ok(())
    }

    /// What the program makes of a frame: its verdict (`enum xdp_action`), and the frame
    /// afterwards. Nothing is sent. Returns also how long it took, in nanoseconds, on average over
    /// `times`.
    ///
    /// # Errors
    /// If it was not loaded, or the kernel does not take the frame: it has to have 14 bytes.
    pub fn try_frame(&self, frame: &[u8], times: u32) -> io::Result<(u32, Vec<u8>, u32)> {
        let loaded = self.attached.first();
        let loaded = loaded.ok_or_else(|| io::Error::other("no program was loaded"))?;
        kernel::test_run(&loaded.program, frame, times)
    }

    /// How many instructions the kernel has looked at to verify the program, each on all ways that
    /// lead to it.
    ///
    /// # Errors
    /// If it was not loaded, or the kernel does not tell (before Linux 5.17).
    pub fn verified_instructions(&self) -> io::Result<u64> {
        let loaded = self.attached.first();
        let loaded = loaded.ok_or_else(|| io::Error::other("no program was loaded"))?;
        let path = format!("/proc/self/fdinfo/{}", loaded.program.as_raw_fd());
        let text = fs::read_to_string(path)?;
        let mut lines = text.lines();
        let told = lines.find_map(|line| line.strip_prefix("verified_insns:"));
        let told = told.and_then(|number| number.trim().parse().ok());
        told.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    fn load(&self, mode: AttachMode) -> io::Result<Attached> {
        let settings = Arc::new(Array::<Settings>::new(1)?);
        for it in settings.elements() {
            let is_generic = mode == AttachMode::Generic;
            it.is_generic.store(is_generic.into(), Ordering::Relaxed);
        }
        let queues = QueueMap::new(XDP_QUEUES_MAX)?;
        let maps = [
            ("state_map", self.state.as_fd()),
            ("settings_map", settings.as_fd()),
            ("listeners", self.listeners.array().as_fd()),
            ("denied_v4", self.denied_v4.array().as_fd()),
            ("denied_v6", self.denied_v6.array().as_fd()),
            ("rates", self.cells.as_fd()),
            ("processors", self.processors.as_fd()),
            ("rows", self.rows.as_fd()),
            ("queues", queues.as_fd()),
        ];
        let program = program::load(Kind::Xdp, &CODE, &maps)?;
        Ok(Attached {
            interface_index: 0,
            settings,
            queues,
            program,
            link: None,
        })
    }

    /// At how many interfaces it is.
    #[must_use]
    pub fn interfaces(&self) -> usize {
        let links = self.attached.iter().filter(|it| it.link.is_some());
        links.count()
    }

    fn settings(&self) -> impl Iterator<Item = &Settings> {
        self.attached.iter().flat_map(|it| it.settings.elements())
    }

    /// From now on it works, with ids that are made with this key, the two words of SipHash's.
    pub fn activate(&self, task: XdpTask, key: [u64; 2], times: Times, limits: XdpLimits) {
        for state in self.state.elements() {
            state.activate(key, times, 0);
        }
        for settings in self.settings() {
            let answers = limits.answers_per_second;
            settings
                .answers_per_second
                .store(answers, Ordering::Relaxed);
            let errors = limits.errors_per_second;
            settings.errors_per_second.store(errors, Ordering::Relaxed);
            settings.task.store(task as u64, Ordering::Release);
        }
    }

    /// Tells it what time it is. To be called about once a second, since clocks are corrected.
    pub fn set_times(&self, times: Times) {
        for state in self.state.elements() {
            state.set_times(times);
        }
    }

    /// Where the tracker listens, by the addresses of this host. Returns how many of them there is
    /// no room for: what comes there goes on untouched.
    pub fn set_listeners(&self, listeners: &[SocketAddr]) -> usize {
        self.listeners.set(listeners)
    }

    /// What is sent from these networks is dropped: sorted ranges that do not overlap, each from
    /// its first to its last address.
    ///
    /// # Errors
    /// If there are more than there is room for; nothing has changed then.
    pub fn deny(&mut self, v4: &[(u32, u32)], v6: &[(u128, u128)]) -> Result<(), TooMany> {
        self.denied_v4.require_room_for(v4)?;
        self.denied_v6.require_room_for(v6)?;
        let (v4, v6) = (self.denied_v4.write(v4), self.denied_v6.write(v6));
        for settings in self.settings() {
            settings.denied_v4.store(v4, Ordering::Release);
            settings.denied_v6.store(v6, Ordering::Release);
        }
        Ok(())
    }

    /// Limits what clients send. What the program passes on is for this process to count.
    pub fn set_rate(&self, rate: Rate) {
        for settings in self.settings() {
            for (place, word) in settings.rate_key.iter().zip(rate.key) {
                place.store(word, Ordering::Relaxed);
            }
            settings
                .zero_nanos
                .store(rate.zero_nanos, Ordering::Relaxed);
        }
        self.control().set_nanos_per_request(rate.nanos_per_request);
    }

    /// Of the interfaces that it is attached to by now.
    #[must_use]
    pub fn control(&self) -> XdpControl {
        let settings = self.attached.iter().map(|it| Arc::clone(&it.settings));
        XdpControl {
            cells: Arc::clone(&self.cells),
            settings: settings.collect(),
        }
    }

    /// What it has dealt with so far: over IPv4, and over IPv6.
    #[must_use]
    pub fn counts(&self) -> [Counts; 2] {
        sums(&self.rows)
    }
}

impl AttachError {
    fn of(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => Self::Taken(error),
            // There is no such mode; not with this MTU, these offloads, or so many queues.
            Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE | libc::ENOMEM | libc::E2BIG) => {
                Self::Unfit(error)
            }
            _ => Self::Failed(error),
        }
    }
}
