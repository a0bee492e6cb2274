//! What the tasks of a worker share, and what each does with it when it is awake.

use std::io::{self, Read};
use std::mem;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aquatic_daemon::clock::{Clock, Now};
use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use socket2_04::SockRef;

use crate::bounds::READ_CHUNK_BYTES;
use crate::counters::Refused;
use crate::event_loop::Sockets;
use crate::handler::{ConnectionKey, Handler};
use crate::hub::{Hub, IoAction};
use crate::kernel::kernel_bytes;
use crate::memory::KernelBytes;

/// What the tasks of a worker share. None of them borrows it for longer than one call.
pub(super) struct Worker<H: Handler> {
    pub(super) hub: Hub<H>,
    clock: Clock,
    /// When the present batch of events began.
    now: Now,
    /// Whether there is such a batch, and thus work for the main task.
    is_due: bool,
    /// Events in it.
    arrivals: usize,
    is_stopping: bool,
    main: Option<Waker>,
    streams: Sockets<Stream>,
    /// Connections to which more can be written.
    writable: Vec<ConnectionKey>,
    /// Connections from which there is more to read. They wait for the gong: a task that wakes
    /// itself again and again keeps glommio from looking for events.
    unread: Vec<ConnectionKey>,
    buffer: Box<[u8]>,
}

struct Stream {
    socket: TcpStream,
    /// What wakes its task, once that has begun.
    task: Option<Waker>,
    /// It is to be read from.
    reads: bool,
    /// There may be more to read.
    has_unread: bool,
    /// Its task is to tell when more can be written.
    is_blocked: bool,
}

/// What came of a turn of the main task.
pub(super) struct Turn {
    pub(super) now: Now,
    /// Events and batches that were dealt with.
    pub(super) arrivals: usize,
    /// There is more to do at once.
    pub(super) has_more: bool,
}

impl<H: Handler> Worker<H> {
    pub(super) fn new(hub: Hub<H>, clock: Clock) -> Self {
        Self {
            hub,
            clock,
            now: Now::read(clock),
            is_due: false,
            arrivals: 0,
            is_stopping: false,
            main: None,
            streams: Sockets::new(),
            writable: Vec::new(),
            unread: Vec::new(),
            buffer: vec![0; READ_CHUNK_BYTES].into(),
        }
    }

    /// Something has happened: the main task is to have a turn after the tasks that are awake now.
    /// Returns the time.
    pub(super) fn note(&mut self) -> Now {
        if !mem::replace(&mut self.is_due, true) {
            self.now = Now::read(self.clock);
            if let Some(main) = &self.main {
                main.wake_by_ref();
            }
        }
        self.now
    }

    pub(super) fn poll_due(&mut self, context: &Context<'_>) -> Poll<()> {
        remember(&mut self.main, context);
        match mem::take(&mut self.is_due) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    pub(super) fn accept_failed(&mut self, error: &io::Error) {
        let now = self.note();
        self.hub.accept_failed(now, error);
    }

    pub(super) fn admit(
        &mut self,
        socket: TcpStream,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Result<ConnectionKey, Refused> {
        let now = self.note();
        self.arrivals += 1;
        let key = self.hub.accept(now, peer, local)?;
        let stream = Stream {
            socket,
            task: None,
            reads: true,
            has_unread: false,
            is_blocked: false,
        };
        self.streams.insert(key, stream);
        if let Some(evicted) = self.hub.evicted() {
            self.flush(now, evicted);
        }
        Ok(key)
    }

    /// What a connection's task does when it is woken. It ends when the connection has gone.
    pub(super) fn poll_connection(
        &mut self,
        context: &mut Context<'_>,
        key: ConnectionKey,
    ) -> Poll<()> {
        let Some(stream) = self.streams.get(key) else {
            return Poll::Ready(());
        };
        remember(&mut stream.task, context);
        if mem::take(&mut stream.is_blocked) {
            self.writable.push(key);
            self.note();
        }
        self.read(context, key);
        Poll::Pending
    }

    fn read(&mut self, context: &mut Context<'_>, key: ConnectionKey) {
        while let Some(stream) = self.streams.get(key) {
            if stream.reads && !self.hub.wants_input(key) {
                self.hub.leave_unread(self.now, key);
                stream.reads = false;
            }
            if !stream.reads {
                return;
            }
            stream.has_unread = false;
            let socket = Pin::new(&mut stream.socket);
            let Poll::Ready(result) = socket.poll_read(context, &mut self.buffer) else {
                return;
            };
            let size = *result.as_ref().unwrap_or(&0);
            stream.has_unread = size == self.buffer.len();
            stream.reads = size > 0;
            let has_unread = stream.has_unread;
            let now = self.note();
            self.arrivals += 1;
            match result {
                Ok(0) => self.hub.read_ended(now, key),
                Ok(size) => {
                    let bytes = self.buffer.get_mut(..size).unwrap_or_default();
                    self.hub.receive(now, key, bytes);
                }
                Err(_) => self.hub.failed(now, key),
            }
            if has_unread {
                // After the main task has seen whether to go on, and others had their turn.
                self.unread.push(key);
                return;
            }
            // Once more: after a short read, that is only to wait for the next.
        }
    }

    /// The gong has been heard: whoever had more to read goes on.
    pub(super) fn read_on(&mut self) {
        for key in self.unread.drain(..) {
            let stream = self.streams.get(key);
            if let Some(task) = stream.and_then(|stream| stream.task.as_ref()) {
                task.wake_by_ref();
            }
        }
    }

    /// Goes on with the end of all connections. Returns whether there are none left.
    pub(super) fn stop(&mut self) -> bool {
        self.is_stopping = true;
        self.hub.stop(Now::read(self.clock))
    }

    /// Whether connections end, and no more are to be accepted.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// The main task's part of a batch.
    pub(super) fn turn(&mut self) -> Turn {
        let now = Now::read(self.clock);
        let arrivals = mem::take(&mut self.arrivals) + self.hub.finish(now);
        let ask = |stream: &Stream| kernel_holds(&stream.socket);
        self.streams.ask_kernel(now, &mut self.hub, ask);
        let has_more = self.hub.maintain(now);
        while let Some(key) = self.writable.pop().or_else(|| self.hub.next_queued()) {
            self.flush(now, key);
        }
        Turn {
            now,
            arrivals,
            has_more: has_more || !self.unread.is_empty(),
        }
    }

    /// Writes what there is to write, as far as possible, and does what is to be done then.
    fn flush(&mut self, now: Now, key: ConnectionKey) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        // Without a task there is nobody to wake: it will look when it begins.
        let waker = stream.task.as_ref().unwrap_or(Waker::noop());
        let mut context = Context::from_waker(waker);
        loop {
            let output = self.hub.output(key);
            if output.is_empty() {
                break;
            }
            match Pin::new(&mut stream.socket).poll_write(&mut context, output) {
                Poll::Ready(Ok(size)) => self.hub.sent(now, key, size),
                Poll::Ready(Err(_)) => {
                    self.hub.failed(now, key);
                    break;
                }
                Poll::Pending => {
                    self.hub.sent(now, key, 0);
                    stream.is_blocked = true;
                    break;
                }
            }
        }
        let Self { hub, buffer, .. } = self;
        hub.take_rest(now, key, buffer, |buffer| {
            receive_now(&stream.socket, buffer)
        });
        let action = hub.next_action(now, key, stream.has_unread);
        match action {
            IoAction::Read => stream.go_on_reading(),
            IoAction::DoNotRead => stream.reads = false,
            IoAction::CloseSendingHalf => {
                // An error means that there is nobody any more, which reading will tell.
                let _ = SockRef::from(&stream.socket).shutdown(Shutdown::Write);
                stream.go_on_reading();
            }
            IoAction::Reset => {
                // See `forget_unsent`, which is for another version of socket2.
                let _ = SockRef::from(&stream.socket).set_linger(Some(Duration::ZERO));
                self.remove(key);
            }
            IoAction::Close => self.remove(key),
        }
    }

    fn remove(&mut self, key: ConnectionKey) {
        if let Some(task) = self.streams.remove(key).and_then(|stream| stream.task) {
            task.wake();
        }
    }
}

impl Stream {
    fn go_on_reading(&mut self) {
        if !mem::replace(&mut self.reads, true)
            && let Some(task) = &self.task
        {
            task.wake_by_ref();
        }
    }
}

/// Reads what has come from a socket that is about to be closed. glommio would wait for an event
/// instead, if it has begun to wait for one.
fn receive_now(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let socket = SockRef::from(socket);
    socket.set_nonblocking(true)?;
    (&*socket).read(buffer)
}

/// What the kernel keeps for a socket. glommio's lend their descriptors in an older form than
/// [`kernel_bytes`] wants, so a copy is asked.
fn kernel_holds(socket: &TcpStream) -> Option<KernelBytes> {
    let copy = SockRef::from(socket).try_clone().ok()?;
    kernel_bytes(&std::net::TcpStream::from(copy))
}

/// Keeps what wakes the task that asks.
fn remember(task: &mut Option<Waker>, context: &Context<'_>) {
    if !task
        .as_ref()
        .is_some_and(|task| task.will_wake(context.waker()))
    {
        *task = Some(context.waker().clone());
    }
}
