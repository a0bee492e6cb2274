//! The ring: set-up, the turn of the loop, tear-down.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use aquatic_udp_socket::{Outbox, SendReport, UdpSocket};
use io_uring::types::{CancelBuilder, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::event::{Events, Pending, Queue};
use crate::pool::{self, BufferPool};
use crate::sends::Sends;
use crate::tag::Tag;
use crate::waker::Waker;

/// Files that are watched besides sockets and waker.
const WATCHED_MAX: usize = 1;

/// Sizes of a ring.
#[derive(Clone, Debug)]
pub struct RingOptions {
    /// How many packets one system call sends at most. More are sent by more calls.
    pub entries: u16,
    /// How many datagrams may have been received but not looked at; rounded up to a power of two.
    /// More wait in the sockets' own buffers, so this need not be large: 64 to 128 cost a few
    /// percent less CPU time than 512 and more, which do not stay in the processor's cache. With
    /// `datagram_bytes_max`, this is nearly all the memory of a ring.
    pub buffers: u16,
    /// How much of a datagram is received; what is beyond is cut off, and the datagram marked.
    pub datagram_bytes_max: usize,
}

impl Default for RingOptions {
    fn default() -> Self {
        Self {
            entries: 128,
            buffers: 128,
            datagram_bytes_max: 2048,
        }
    }
}

/// An io_uring with datagram sockets on it.
///
/// It belongs to the thread that makes it: that is what lets the kernel leave all its work to the
/// moment when this thread asks for it (`IORING_SETUP_DEFER_TASKRUN`).
pub struct Ring {
    /// First, so that it is closed before the memory that it refers to is freed.
    io: IoUring,
    pool: BufferPool,
    sends: Sends,
    queue: Queue,
    /// Which sockets have a receive in the kernel.
    receiving: Box<[bool]>,
    /// What comes stays in the sockets.
    has_stopped_receiving: bool,
    /// The waker's place in the table of files, and whether it is being watched.
    waker: Option<(u32, bool)>,
    /// A file that is no socket, and whether it is being watched.
    watched: Option<(RawFd, bool)>,
    /// An error that no datagram can bring about.
    broken: Option<io::Error>,
    /// What the completion queue has room for.
    completions_max: usize,
    _not_send: PhantomData<*mut ()>,
}

impl Ring {
    /// A ring with `sockets` on it, which are named by their index from now on, and which `waker`
    /// can wake. To be called by the thread that will use it.
    ///
    /// The ring keeps the sockets open even if they are dropped.
    ///
    /// # Errors
    /// If the kernel is too old, or forbids io_uring, or lacks memory: [`probe`](crate::probe())
    /// says which, in words.
    pub fn new(
        options: &RingOptions,
        sockets: &[&UdpSocket],
        waker: Option<&Waker>,
    ) -> io::Result<Self> {
        let entries = u32::from(options.entries.max(8)).next_power_of_two();
        let mut pool = BufferPool::new(options.buffers, options.datagram_bytes_max)?;
        let mut files: Vec<_> = sockets.iter().map(|socket| socket.as_raw_fd()).collect();
        let waker_place = u32::try_from(files.len()).map_err(io::Error::other)?;
        files.extend(waker.map(Waker::as_raw_fd));

        // Room for everything that can complete between two looks, so that nothing overflows: each
        // datagram holds a buffer, each send was one entry, each file ends at most once.
        let file_count = u32::try_from(files.len() + WATCHED_MAX).map_err(io::Error::other)?;
        let completions = u32::from(pool.count()) + entries + 2 * file_count;
        let (io, deferred) = build(entries, completions)?;
        io.submitter().register_files(&files)?;
        // SAFETY: `pool` is dropped after `io` (field order, and here by the order of declaration
        // in reverse), and by then no request is left (`Drop`) or none was ever made (here).
        unsafe { pool.register(&io.submitter())? };
        Ok(Self {
            io,
            pool,
            // Linux 6.1 brought both.
            sends: Sends::new(
                entries.try_into().map_err(io::Error::other)?,
                sockets.iter().map(|socket| socket.is_connected()),
                deferred,
            ),
            queue: Queue::new(),
            receiving: vec![false; sockets.len()].into(),
            has_stopped_receiving: false,
            waker: waker.map(|_| (waker_place, false)),
            watched: None,
            broken: None,
            completions_max: usize::try_from(completions).map_err(io::Error::other)?,
            _not_send: PhantomData,
        })
    }

    /// Reports [`Event::Ready`](crate::Event::Ready) from now on, whenever something happens at
    /// `file`, which can be anything that `poll(2)` knows: an epoll of somebody who shares this
    /// thread, say. What is there already is reported once. It has to stay open as long as the ring
    /// lives.
    pub fn watch(&mut self, file: RawFd) {
        self.watched = Some((file, false));
    }

    /// One turn: sends what [`send`](Self::send) was given, then waits until there is an event, or
    /// `timeout` is over (`None`: never), and gives back the events. There may be none: the time is
    /// over, or a signal came.
    ///
    /// What was to be taken with [`take_unsent`](Self::take_unsent) and was not is given up.
    ///
    /// # Errors
    /// If the ring or a socket is unusable, which no datagram and no ICMP message can bring about.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Events<'_>> {
        self.queue.take_back(&mut self.pool);
        self.start_receiving()?;
        if self.queue.pending.is_empty() && timeout != Some(Duration::ZERO) {
            // The sends complete at once; what is waited for is one completion more. Never two: a
            // second datagram may not come for a long time.
            self.enter(self.sends.outstanding() + 1, timeout)?;
        } else {
            self.enter(0, None)?;
        }
        self.send_refused()?;
        self.sends.reuse();
        self.sends.offer_unsent();
        match self.broken.take() {
            Some(error) => Err(error),
            None => Ok(Events {
                queue: &mut self.queue,
                pool: &mut self.pool,
            }),
        }
    }

    /// Lets datagrams gather for this long: nobody wakes the caller meanwhile. They are reported by
    /// the next [`wait`](Self::wait). What waits already should have been looked at before.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub fn gather(&mut self, time: Duration) -> io::Result<()> {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        if !self.io.params().is_feature_min_timeout() || micros == 0 {
            std::thread::sleep(time);
            return Ok(());
        }
        // More than can come, so that only the time ends it.
        let want = self.completions_max;
        let timespec = Timespec::from(time);
        let arguments = SubmitArgs::new().timespec(&timespec).min_wait_usec(micros);
        let result = self.io.submitter().submit_with_args(want, &arguments);
        self.after_entering(result)
    }

    /// Receives nothing more: what comes from now on stays in the sockets, for whoever has them,
    /// too. What has been received is still reported by [`wait`](Self::wait).
    ///
    /// # Errors
    /// If the ring is unusable.
    pub fn stop_receiving(&mut self) -> io::Result<()> {
        self.has_stopped_receiving = true;
        // What was not handed in yet could not be cancelled.
        self.enter(0, None)?;
        for socket in 0..self.receiving.len() {
            if self.receiving.get(socket) != Some(&true) {
                continue;
            }
            let file = u32::try_from(socket).map_err(io::Error::other)?;
            loop {
                let receive = CancelBuilder::user_data(Tag::Receive(file).encode());
                match self.io.submitter().register_sync_cancel(None, receive) {
                    Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                    // It has ended by itself.
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
                    Ok(()) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        self.enter(0, None)
    }

    /// Takes all packets from `outbox` and sends them through a socket, in order: the first many at
    /// once, the rest with the next [`wait`](Self::wait). After that,
    /// [`take_report`](Self::take_report) tells what became of them.
    ///
    /// # Errors
    /// If there is no such socket (the outbox is left alone) or the ring is unusable.
    pub fn send(&mut self, socket: usize, outbox: &mut Outbox) -> io::Result<()> {
        if socket >= self.receiving.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if outbox.is_empty() {
            return Ok(());
        }
        let socket = u32::try_from(socket).map_err(io::Error::other)?;
        let (packets, mut id) = self.sends.take_over(socket, outbox);
        while id.place < packets {
            self.make_room()?;
            while !self.sends.has_room() {
                self.enter(1, None)?;
            }
            let Some((request, together)) = self.sends.request(id) else {
                break;
            };
            self.push(&request.user_data(Tag::Send(id).encode()))?;
            id.place += together.max(1);
        }
        Ok(())
    }

    /// What became of the packets that were sent through a socket up to the last
    /// [`wait`](Self::wait), since this was last called.
    pub fn take_report(&mut self, socket: usize) -> SendReport {
        self.sends.take_report(socket)
    }

    /// Moves the packets that found no room (`would_block` in the report) to the end of `outbox`,
    /// to be sent again later. Others, sent after them, may have gone out in the meantime.
    pub fn take_unsent(&mut self, socket: usize, outbox: &mut Outbox) {
        self.sends.take_unsent(socket, outbox);
    }

    /// Sends packets one by one that could not travel together.
    fn send_refused(&mut self) -> io::Result<()> {
        for socket in 0..self.receiving.len() {
            if let Some(mut refused) = self.sends.take_refused(socket) {
                self.send(socket, &mut refused)?;
                self.enter(0, None)?;
            }
        }
        Ok(())
    }

    /// Makes requests for everything that is not being waited for, or no longer: a multishot
    /// request ends when there is no buffer, and on errors.
    fn start_receiving(&mut self) -> io::Result<()> {
        for socket in 0..self.receiving.len() {
            let is_due = !self.has_stopped_receiving && self.pool.has_free();
            if is_due && self.receiving.get(socket) == Some(&false) {
                let file = u32::try_from(socket).map_err(io::Error::other)?;
                let request =
                    opcode::RecvMsgMulti::new(Fixed(file), self.pool.layout(), pool::GROUP)
                        .build()
                        .user_data(Tag::Receive(file).encode());
                self.make_room()?;
                self.push(&request)?;
                if let Some(receiving) = self.receiving.get_mut(socket) {
                    *receiving = true;
                }
            }
        }
        if let Some((file, false)) = self.waker {
            let request = opcode::PollAdd::new(Fixed(file), libc::POLLIN as _)
                .multi(true)
                .build()
                .user_data(Tag::Wake.encode());
            self.make_room()?;
            self.push(&request)?;
            self.waker = Some((file, true));
        }
        if let Some((file, false)) = self.watched {
            let request = opcode::PollAdd::new(Fd(file), libc::POLLIN as _)
                .multi(true)
                .build()
                .user_data(Tag::Watch.encode());
            self.make_room()?;
            self.push(&request)?;
            self.watched = Some((file, true));
        }
        Ok(())
    }

    fn push(&mut self, request: &squeue::Entry) -> io::Result<()> {
        // Why unsafe: the kernel will follow the pointers in the request.
        // SAFETY: requests are made in two places. A send points to what `Sends` keeps unchanged
        // until it has reported. A receive points to the layout in `pool`, and its buffers are
        // those of the pool; both live until `Drop` has ended all requests. A poll points nowhere.
        unsafe { self.io.submission().push(request) }.map_err(io::Error::other)
    }

    /// Empties the submission queue if it is full.
    fn make_room(&mut self) -> io::Result<()> {
        while self.io.submission().is_full() {
            self.enter(0, None)?;
        }
        Ok(())
    }

    /// Lets the kernel take the submission queue and do its deferred work, waits for `want`
    /// completions or the timeout, and reads all completions.
    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        let submitter = self.io.submitter();
        let result = match timeout {
            Some(timeout) => submitter
                .submit_with_args(want, &SubmitArgs::new().timespec(&Timespec::from(timeout))),
            None => submitter.submit_and_wait(want),
        };
        self.after_entering(result)
    }

    fn after_entering(&mut self, result: io::Result<usize>) -> io::Result<()> {
        if let Err(error) = result {
            match error.raw_os_error() {
                // The time is over; a signal came; completions must be read before more can be
                // submitted; the kernel is short of memory for requests at the moment.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => return Err(error),
            }
        }
        self.read_completions();
        Ok(())
    }

    fn read_completions(&mut self) {
        for completion in self.io.completion() {
            let (result, flags) = (completion.result(), completion.flags());
            let ended = !cqueue::more(flags);
            match Tag::decode(completion.user_data()) {
                Some(Tag::Receive(file)) => {
                    let socket = usize::try_from(file).unwrap_or(usize::MAX);
                    if ended && let Some(receiving) = self.receiving.get_mut(socket) {
                        *receiving = false;
                    }
                    let buffer = cqueue::buffer_select(flags);
                    if let Some(buffer) = buffer {
                        // SAFETY: a completion of ours names it, and is read once.
                        unsafe { self.pool.take_over(buffer) };
                    }
                    match (u32::try_from(result), buffer) {
                        (Ok(len), Some(buffer)) => {
                            self.queue.pending.push_back(Pending::Received {
                                socket,
                                buffer,
                                len,
                            })
                        }
                        (Err(_), Some(buffer)) => self.pool.give_back(buffer),
                        (Err(_), None) if is_fatal(result) => {
                            self.broken = Some(io::Error::from_raw_os_error(-result));
                        }
                        (_, None) => {}
                    }
                }
                Some(Tag::Wake) => {
                    if ended && let Some((_, watched)) = &mut self.waker {
                        *watched = false;
                    }
                    self.queue.pending.push_back(Pending::Woken);
                }
                Some(Tag::Watch) => {
                    if ended && let Some((_, is_watched)) = &mut self.watched {
                        *is_watched = false;
                    }
                    self.queue.pending.push_back(Pending::Ready);
                }
                Some(Tag::Send(id)) => self.sends.completed(id, result),
                None => {}
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Closing a ring ends its requests some time later; only this waits for it.
        let cancelled = self
            .io
            .submitter()
            .register_sync_cancel(None, CancelBuilder::any());
        match cancelled {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            // A receive may still write to the buffers, so they can never be freed.
            Err(_) => self.pool.leak(),
        }
    }
}

/// Whether an error of a receive will come again: the kernel does not know the request, or the
/// socket is none. Anything else (no free buffer, ICMP, a shortage of memory) passes.
fn is_fatal(result: i32) -> bool {
    matches!(
        -result,
        libc::EBADF | libc::EINVAL | libc::EFAULT | libc::ENOTSOCK | libc::ENOSYS
    )
}

/// Sets up a ring in the best way that the kernel knows; the second result tells whether that is
/// deferred task work.
fn build(entries: u32, completions: u32) -> io::Result<(IoUring, bool)> {
    let build = |deferred: bool| {
        let mut builder = IoUring::builder();
        builder
            .dontfork()
            .setup_cqsize(completions.next_power_of_two())
            .setup_submit_all()
            // Lets a call that does not wait do the deferred work if there is any.
            .setup_taskrun_flag()
            .setup_single_issuer();
        if deferred {
            builder.setup_defer_taskrun();
        } else {
            builder.setup_coop_taskrun();
        }
        builder.build(entries)
    };
    let (ring, deferred) = match build(true) {
        // Linux 6.0 has all but deferred task work.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (build(false)?, false),
        result => (result?, true),
    };
    let known = ring.params();
    if !(known.is_feature_nodrop() && known.is_feature_ext_arg()) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok((ring, deferred))
}
