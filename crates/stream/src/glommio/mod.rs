//! The event loop that waits with io_uring, by way of glommio.
//!
//! glommio runs tasks. Here, one task per connection waits for bytes and hands them to the
//! [`Hub`]; another one, the *main* task, does all the rest: it runs after the tasks that a batch
//! of events has woken, since tasks run in the order of their waking.
//!
//! ```text
//!   listener ─┐                          ┌─ finish, background
//!   waker ─────┤  wake, once per batch    │
//!   clock ────┼────────────────────────▶ main task ── write, settle, close
//!   connection┘                          │
//!        ▲                               └─ pause or sleep
//!        └── wake: read on, write on, or end ──┘
//! ```
//!
//! glommio reads and writes by plain system calls, without waiting, and uses io_uring for the
//! waiting alone. So all connections read into one buffer, as in the other loop, and an idle one
//! keeps none.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use aquatic_channel::{IdleStrategy, SleepGate, WaitHandle};
use aquatic_daemon::clock::Clock;
use aquatic_daemon::heartbeat;
use aquatic_daemon::supervisor::Finisher;
use futures_io::AsyncRead;
use glommio::net::TcpStream;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement, spawn_local};
use socket2_04::Socket;

use crate::event_loop::{
    ACCEPT_PAUSE_MICROS, ACCEPTS_PER_TURN, BATCH_EVENTS, SLEEP_MAX, STOP_ROUND,
};
use crate::handler::Handler;
use crate::hub::Hub;
use crate::listener::concerns_one_connection;
pub use crate::preflight::check;

mod worker;

use worker::Worker;

/// What is handed to the kernel at once.
const RING_DEPTH: usize = 256;

/// glommio runs tasks as long as any is awake before it looks for events, but not for longer than
/// this. Here there is always a moment soon when none is, so this may be long. And it has to be: if
/// it has passed before the first task could begin, because others had the CPU meanwhile, glommio
/// forgets that tasks are awake, and sleeps until something else wakes it.
const BUSY_MAX: Duration = Duration::from_millis(200);

/// What a worker waits at: whatever is written to one end can be read from the other.
pub struct Signal {
    write_end: UnixStream,
    read_end: UnixStream,
}

/// A place for a worker to wait.
///
/// # Errors
/// If a file descriptor cannot be allocated.
pub fn wait_handle() -> anyhow::Result<WaitHandle<Signal>> {
    let (write_end, read_end) = UnixStream::pair().context("cannot make a waker")?;
    write_end.set_nonblocking(true)?;
    let others = write_end.try_clone().context("cannot make a waker")?;
    let signal = Signal {
        write_end,
        read_end,
    };
    Ok(WaitHandle::new(signal, move || wake(&others)))
}

fn wake(mut write_end: &UnixStream) {
    match write_end.write(&[0]) {
        // There is enough in it to wake anybody.
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => log::error!("cannot wake a worker: {error}"),
        Ok(_) => {}
    }
}

/// Runs the event loop of a worker; returns only on a fatal error. `batch_wait` is how long it may
/// wait for a batch while it is busy; `finisher` says when it is to end its connections, and waits
/// for that.
///
/// [`check`] must have found nothing.
///
/// # Errors
/// If it cannot begin. No client has this effect.
pub fn run<H: Handler + 'static>(
    hub: Hub<H>,
    listeners: Vec<TcpListener>,
    (source, gate): (Signal, SleepGate),
    clock: Clock,
    batch_wait: Duration,
    finisher: Option<Finisher>,
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
        spawn_local(wait_for_wake(Rc::clone(&worker), source.read_end)).detach();
        spawn_local(tick(Rc::clone(&worker), SLEEP_MAX)).detach();
        work(&worker, &gate, &source.write_end, finisher, batch_wait).await
    })
}

/// The main task.
async fn work<H: Handler + 'static>(
    worker: &Rc<RefCell<Worker<H>>>,
    gate: &SleepGate,
    write_end: &UnixStream,
    mut finisher: Option<Finisher>,
    batch_wait: Duration,
) -> ! {
    let mut idle = IdleStrategy::new(batch_wait);
    let mut is_stopping = false;
    loop {
        heartbeat::beat();
        if let Some(finisher) = finisher.as_mut().filter(|it| it.is_stopping()) {
            if !std::mem::replace(&mut is_stopping, true) {
                spawn_local(tick(Rc::clone(worker), STOP_ROUND)).detach();
            }
            if worker.borrow_mut().stop() {
                finisher.finish();
            }
        }
        let turn = worker.borrow_mut().turn();
        idle.note(turn.arrivals);
        if !turn.has_more && turn.arrivals < BATCH_EVENTS {
            let wait = idle.decide(turn.now.micros);
            // The sleep is glommio's, which has a time-out of its own.
            let _ = wait.coalesce(SLEEP_MAX, || worker.borrow().hub.has_pending());
        }
        let _guard = gate.prepare_to_sleep();
        // Whoever has sent mail, or told us to stop, before that has not rung.
        let stops = finisher.as_ref().is_some_and(Finisher::is_stopping);
        if stops != is_stopping || turn.has_more || worker.borrow().hub.has_pending() {
            // The way through the kernel: meanwhile connections have their turn.
            wake(write_end);
        }
        poll_fn(|context| worker.borrow_mut().poll_due(context)).await;
    }
}

/// Gives the main task a turn when the worker is woken.
async fn wait_for_wake<H: Handler>(worker: Rc<RefCell<Worker<H>>>, read_end: UnixStream) {
    let mut read_end = TcpStream::from(Socket::from(read_end));
    let mut buffer = [0; 64];
    while poll_fn(|context| Pin::new(&mut read_end).poll_read(context, &mut buffer))
        .await
        .is_ok()
    {
        let mut worker = worker.borrow_mut();
        worker.note();
        worker.read_on();
    }
}

/// Gives the main task a turn now and then.
async fn tick<H: Handler>(worker: Rc<RefCell<Worker<H>>>, interval: Duration) {
    loop {
        Timer::new(interval).await;
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
            // The listener stays open: whoever connects now waits for the next process, which may
            // have got the socket, too.
            Ok(()) if worker.borrow().is_stopping() => std::future::pending().await,
            Ok(()) => accept_some(&worker, &listener, address),
            Err(error) => Err(error),
        };
        if let Err(error) = accepted {
            worker.borrow_mut().accept_failed(&error);
            Timer::new(Duration::from_micros(ACCEPT_PAUSE_MICROS)).await;
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
            Err(error) if concerns_one_connection(&error) => continue,
            Err(error) => return Err(error),
        };
        let socket = TcpStream::from(Socket::from(socket));
        let admitted = worker.borrow_mut().admit(socket, peer, address);
        if let Ok(key) = admitted {
            let worker = Rc::clone(worker);
            // It begins at once: nothing may be borrowed here.
            spawn_local(async move {
                poll_fn(|context| worker.borrow_mut().poll_connection(context, key)).await;
            })
            .detach();
        }
    }
    Ok(())
}
