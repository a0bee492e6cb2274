//! The event loop that waits with io_uring, by way of glommio.
//!
//! glommio runs tasks. Here, one task per connection waits for bytes and hands them to the
//! [`Hub`]; another one, the *main* task, does all the rest: it runs after the tasks that a batch
//! of events has woken, since tasks run in the order of their waking.
//!
//! ```text
//!   listener ─┐                          ┌─ finish, background
//!   bell ─────┤  wake, once per batch    │
//!   clock ────┼────────────────────────▶ main task ── write, settle, close
//!   connection┘                          │
//!        ▲                               └─ doze or sleep
//!        └── wake: read on, write on, or end ──┘
//! ```
//!
//! glommio reads and writes by plain system calls, without waiting, and uses io_uring for the
//! waiting alone. So all connections read into one buffer, as in the other loop, and an idle one
//! keeps none.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use aquatic_channel::{Bell, Pacer, Sleeper, Wait, bell};
use aquatic_daemon::clock::{Clock, Now};
use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement, spawn_local};
use socket2_04::{SockRef, Socket};

use crate::listener::is_shortage;
use crate::{ConnectionId, Handler, Hub, READ_BYTES_MAX, Refused, Settled};

/// What is handed to the kernel at once.
const RING_DEPTH: usize = 256;

/// Connections that are accepted from one listener before others have their turn.
const ACCEPTS_PER_TURN: usize = 64;

/// So many events are a batch: there is no need to wait for more.
const BATCH_ARRIVALS: usize = 32;

/// glommio runs tasks as long as any is awake, before it looks for events; but not for longer than
/// this. A connection that always has more to read is always awake.
const BUSY_MAX: Duration = Duration::from_micros(500);

/// How long nothing is accepted after the system had no more files or memory for us.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long an idle worker sleeps before it looks after deadlines.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// Where a worker waits; made before its thread, so that others know how to wake it.
pub struct GlommioPost {
    sleeper: Sleeper,
    bell: Bell,
    /// Whoever pulls the rope sounds the gong.
    rope: UnixStream,
    gong: UnixStream,
}

impl GlommioPost {
    /// # Errors
    /// If the system has no more files.
    pub fn new() -> anyhow::Result<Self> {
        let (rope, gong) = UnixStream::pair().context("cannot make a waker")?;
        rope.set_nonblocking(true)?;
        let others = rope.try_clone().context("cannot make a waker")?;
        let (sleeper, bell) = bell(move || pull(&others));
        Ok(Self {
            sleeper,
            bell,
            rope,
            gong,
        })
    }

    /// What wakes this worker.
    #[must_use]
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }
}

fn pull(mut rope: &UnixStream) {
    match rope.write(&[0]) {
        // There is enough in it to wake anybody.
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => log::error!("cannot wake a worker: {error}"),
        Ok(_) => {}
    }
}

/// Runs a worker for ever. `batch_wait` is how long it may wait for a batch while it is busy.
///
/// [`preflight::check`](crate::preflight::check) must have found nothing.
///
/// # Errors
/// If it cannot begin. No client has this effect.
pub fn run<H: Handler + 'static>(
    hub: Hub<H>,
    listeners: Vec<TcpListener>,
    post: GlommioPost,
    clock: Clock,
    batch_wait: Duration,
) -> anyhow::Result<()> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(0) // Registered buffers are for files.
        .ring_depth(RING_DEPTH)
        .preempt_timer(BUSY_MAX)
        .make()
        .map_err(|error| anyhow!("cannot start glommio: {error}"))?;
    let mut pairs = Vec::new();
    for listener in listeners {
        let address = listener.local_addr().context("a listener has no address")?;
        pairs.push((listener, address));
    }
    executor.run(async {
        let worker = Rc::new(RefCell::new(Worker::new(hub, clock)));
        for (listener, address) in pairs {
            spawn_local(accept(Rc::clone(&worker), listener, address)).detach();
        }
        spawn_local(hear(Rc::clone(&worker), post.gong)).detach();
        spawn_local(tick(Rc::clone(&worker))).detach();
        work(&worker, &post.sleeper, &post.rope, batch_wait).await
    })
}

/// The main task.
async fn work<H: Handler>(
    worker: &RefCell<Worker<H>>,
    sleeper: &Sleeper,
    rope: &UnixStream,
    batch_wait: Duration,
) -> ! {
    let mut pacer = Pacer::new(batch_wait);
    let mut arrivals = 0;
    loop {
        let turn = worker.borrow_mut().turn();
        arrivals += turn.arrivals;
        if !turn.has_more
            && turn.arrivals < BATCH_ARRIVALS
            && let Wait::Doze(time) = pacer.wait(turn.now.micros, mem::take(&mut arrivals))
        {
            thread::sleep(time);
        }
        let _drowse = sleeper.drowse();
        if turn.has_more || worker.borrow().hub.has_mail() {
            // The way through the kernel: meanwhile connections have their turn.
            pull(rope);
        }
        poll_fn(|context| worker.borrow_mut().poll_due(context)).await;
    }
}

/// Gives the main task a turn when the bell has been rung.
async fn hear<H: Handler>(worker: Rc<RefCell<Worker<H>>>, gong: UnixStream) {
    let mut gong = TcpStream::from(Socket::from(gong));
    let mut strokes = [0; 64];
    while poll_fn(|context| Pin::new(&mut gong).poll_read(context, &mut strokes))
        .await
        .is_ok()
    {
        worker.borrow_mut().note();
    }
}

/// Gives the main task a turn now and then.
async fn tick<H: Handler>(worker: Rc<RefCell<Worker<H>>>) {
    loop {
        Timer::new(SLEEP_MAX).await;
        worker.borrow_mut().note();
    }
}

/// Accepts connections, and begins a task for each.
async fn accept<H: Handler + 'static>(
    worker: Rc<RefCell<Worker<H>>>,
    listener: TcpListener,
    address: SocketAddr,
) {
    loop {
        let accepted = match until_readable(&listener).await {
            Ok(()) => accept_some(&worker, &listener, address),
            Err(error) => Err(error),
        };
        if let Err(error) = accepted {
            worker.borrow_mut().accept_failed(&error);
            Timer::new(ACCEPT_PAUSE).await;
        }
    }
}

/// glommio accepts from listeners only that it has bound by itself. But it lets any socket wait
/// until it is readable, once, before it tries to read from it (in vain, here).
async fn until_readable(listener: &TcpListener) -> io::Result<()> {
    let mut watched = TcpStream::from(Socket::from(listener.try_clone()?));
    let _ = poll_fn(|context| Pin::new(&mut watched).poll_read(context, &mut [0])).await;
    Ok(())
}

fn accept_some<H: Handler + 'static>(
    worker: &Rc<RefCell<Worker<H>>>,
    listener: &TcpListener,
    address: SocketAddr,
) -> io::Result<()> {
    for _ in 0..ACCEPTS_PER_TURN {
        let (socket, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if is_shortage(&error) => return Err(error),
            // What has happened to a connection before it was accepted.
            Err(_) => continue,
        };
        let socket = TcpStream::from(Socket::from(socket));
        let admitted = worker.borrow_mut().admit(socket, peer, address);
        if let Ok(id) = admitted {
            let worker = Rc::clone(worker);
            // It begins at once: nothing may be borrowed here.
            spawn_local(async move {
                poll_fn(|context| worker.borrow_mut().poll_connection(context, id)).await;
            })
            .detach();
        }
    }
    Ok(())
}

/// What the tasks of a worker share. None of them borrows it for longer than one call.
struct Worker<H: Handler> {
    hub: Hub<H>,
    clock: Clock,
    /// When the present batch of events began.
    now: Now,
    /// Whether there is such a batch, and thus work for the main task.
    is_due: bool,
    /// Events in it.
    arrivals: usize,
    main: Option<Waker>,
    /// By the slot of the connection's name.
    streams: Vec<Option<Stream>>,
    /// Connections to which more can be written.
    writable: Vec<ConnectionId>,
    buffer: Box<[u8]>,
}

struct Stream {
    socket: TcpStream,
    id: ConnectionId,
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
struct Turn {
    now: Now,
    /// Events and batches that were dealt with.
    arrivals: usize,
    /// There is more to do at once.
    has_more: bool,
}

impl<H: Handler> Worker<H> {
    fn new(hub: Hub<H>, clock: Clock) -> Self {
        Self {
            hub,
            clock,
            now: Now::read(clock),
            is_due: false,
            arrivals: 0,
            main: None,
            streams: Vec::new(),
            writable: Vec::new(),
            buffer: vec![0; READ_BYTES_MAX].into(),
        }
    }

    /// Something has happened: the main task is to have a turn after the tasks that are awake now.
    /// Returns the time.
    fn note(&mut self) -> Now {
        if !mem::replace(&mut self.is_due, true) {
            self.now = Now::read(self.clock);
            if let Some(main) = &self.main {
                main.wake_by_ref();
            }
        }
        self.now
    }

    fn poll_due(&mut self, context: &Context<'_>) -> Poll<()> {
        remember(&mut self.main, context);
        match mem::take(&mut self.is_due) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn accept_failed(&mut self, error: &io::Error) {
        let now = self.note();
        self.hub.accept_failed(now, error);
    }

    fn admit(
        &mut self,
        socket: TcpStream,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Result<ConnectionId, Refused> {
        let now = self.note();
        self.arrivals += 1;
        let id = self.hub.accept(now, peer, local)?;
        let slot = slot(id);
        if self.streams.len() <= slot {
            self.streams.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.streams.get_mut(slot) {
            *place = Some(Stream {
                socket,
                id,
                task: None,
                reads: true,
                has_unread: false,
                is_blocked: false,
            });
        }
        Ok(id)
    }

    /// What a connection's task does when it is woken. It ends when the connection has gone.
    fn poll_connection(&mut self, context: &mut Context<'_>, id: ConnectionId) -> Poll<()> {
        let Some(stream) = find(&mut self.streams, id) else {
            return Poll::Ready(());
        };
        remember(&mut stream.task, context);
        if mem::take(&mut stream.is_blocked) {
            self.writable.push(id);
            self.note();
        }
        self.read(context, id);
        Poll::Pending
    }

    fn read(&mut self, context: &mut Context<'_>, id: ConnectionId) {
        while let Some(stream) = find(&mut self.streams, id) {
            stream.reads &= self.hub.wants_input(id);
            if !stream.reads {
                return;
            }
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
                Ok(0) => self.hub.read_ended(now, id),
                Ok(size) => {
                    let bytes = self.buffer.get_mut(..size).unwrap_or_default();
                    self.hub.receive(now, id, bytes);
                }
                Err(_) => self.hub.failed(now, id),
            }
            if has_unread {
                // After the main task has seen whether to go on.
                context.waker().wake_by_ref();
                return;
            }
            // Once more: after a short read, that is only to wait for the next.
        }
    }

    /// The main task's part of a batch.
    fn turn(&mut self) -> Turn {
        let now = Now::read(self.clock);
        let arrivals = mem::take(&mut self.arrivals) + self.hub.finish(now);
        let has_more = self.hub.background(now);
        while let Some(id) = self.writable.pop().or_else(|| self.hub.next_dirty()) {
            self.look_after(now, id);
        }
        Turn {
            now,
            arrivals,
            has_more,
        }
    }

    /// Writes what there is to write, as far as possible, and does what is to be done then.
    fn look_after(&mut self, now: Now, id: ConnectionId) {
        let Some(stream) = find(&mut self.streams, id) else {
            return;
        };
        // Without a task there is nobody to wake: it will look when it begins.
        let waker = stream.task.as_ref().unwrap_or(Waker::noop());
        let mut context = Context::from_waker(waker);
        loop {
            let output = self.hub.output(id);
            if output.is_empty() {
                break;
            }
            match Pin::new(&mut stream.socket).poll_write(&mut context, output) {
                Poll::Ready(Ok(size)) => self.hub.sent(now, id, size),
                Poll::Ready(Err(_)) => {
                    self.hub.failed(now, id);
                    break;
                }
                Poll::Pending => {
                    self.hub.sent(now, id, 0);
                    stream.is_blocked = true;
                    break;
                }
            }
        }
        match self.hub.settle(now, id, stream.has_unread) {
            Settled::Read => stream.go_on_reading(),
            Settled::DoNotRead => stream.reads = false,
            Settled::CloseSendingHalf => {
                // An error means that there is nobody any more, which reading will tell.
                let _ = SockRef::from(&stream.socket).shutdown(Shutdown::Write);
                stream.go_on_reading();
            }
            Settled::Close => self.remove(id),
        }
    }

    fn remove(&mut self, id: ConnectionId) {
        let stream = self.streams.get_mut(slot(id)).and_then(Option::take);
        if let Some(task) = stream.and_then(|stream| stream.task) {
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

fn slot(id: ConnectionId) -> usize {
    usize::try_from(id.slot).unwrap_or(usize::MAX)
}

fn find(streams: &mut [Option<Stream>], id: ConnectionId) -> Option<&mut Stream> {
    let stream = streams.get_mut(slot(id))?.as_mut();
    stream.filter(|stream| stream.id == id)
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
