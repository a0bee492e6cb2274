//! What the path through the kernel costs, without a tracker behind it: a server on CPU 0 answers
//! requests of 98 bytes with 200 bytes, a client on CPU 1 asks as fast as it can over loopback, and
//! the server's CPU time is divided by its answers.
//!
//! ```sh
//! cargo run --release -p aquatic_uring --example echo -- \
//!     --bind 0.0.0.0:0 --seconds 2 --rounds 5 portable mmsg:32 mmsg:64 uring:128:128 mixed:64:128
//! ```
//!
//! - `portable`, `mmsg:BATCH`: the backends of `aquatic_udp_socket`
//! - `uring:ENTRIES:BUFFERS`: received and sent by a ring
//! - `mixed:BATCH:BUFFERS`: received by a ring, sent by `sendmmsg`
//!
//! No answers are merged, although the client has so few sockets that most could be: what is asked
//! here is the price of one packet. Other people's load on the machine matters, so the candidates
//! take turns, and the median of each is printed. `--window` is how many requests may be without an
//! answer; a small one makes the server sleep often. `--pause-micros` makes it pause when nothing
//! waits.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aquatic_udp_socket::segmentation::SegmentSender;
use aquatic_udp_socket::{
    Outbox, Receiver, ReturnPath, Sender, SocketOptions, UdpSocket, portable,
};
use aquatic_uring::{Event, Ring, RingOptions};

const REQUEST_BYTES: usize = 98;
const ANSWER: [u8; 200] = [0x5a; 200];
const DATAGRAM_BYTES_MAX: usize = 2048;
const SERVER_CPU: usize = 0;
const CLIENT_CPU: usize = 1;
const CLIENT_SOCKETS: usize = 8;
const REQUESTS_PER_BURST: usize = 32;
/// How often a loop looks up whether the time is over, and after which silence a request is lost.
const TICK: Duration = Duration::from_millis(20);

struct Settings {
    bind: SocketAddr,
    seconds: u64,
    rounds: usize,
    window: usize,
    pause: Duration,
    backends: Vec<String>,
}

fn main() -> io::Result<()> {
    let settings = settings()?;
    let mut results = vec![Vec::new(); settings.backends.len()];
    for _ in 0..settings.rounds {
        for (backend, results) in settings.backends.iter().zip(&mut results) {
            results.push(measure(backend, &settings)?);
        }
    }
    println!(
        "{} rounds, bound to {}; ns of CPU per answer",
        settings.rounds, settings.bind
    );
    println!("backend               least  median  (user, system)  answers/s  answers/turn");
    for (backend, mut results) in settings.backends.iter().zip(results) {
        results.sort_by_key(|result| result.user_nanos + result.system_nanos);
        if let (Some(least), Some(median)) = (results.first(), results.get(results.len() / 2)) {
            println!(
                "{backend:<20} {:>6}  {:>6}  ({:>4}, {:>6})  {:>9}  {:>12}",
                least.user_nanos + least.system_nanos,
                median.user_nanos + median.system_nanos,
                median.user_nanos,
                median.system_nanos,
                median.answers_per_second,
                median.answers_per_turn,
            );
        }
    }
    Ok(())
}

fn settings() -> io::Result<Settings> {
    let mut settings = Settings {
        bind: ([127, 0, 0, 1], 0).into(),
        seconds: 2,
        rounds: 3,
        window: 1024,
        pause: Duration::ZERO,
        backends: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--bind" => settings.bind = parse(&value())?,
            "--seconds" => settings.seconds = parse(&value())?,
            "--rounds" => settings.rounds = parse(&value())?,
            "--window" => settings.window = parse(&value())?,
            "--pause-micros" => settings.pause = Duration::from_micros(parse(&value())?),
            _ => settings.backends.push(argument),
        }
    }
    if settings.backends.is_empty() {
        settings.backends = ["portable", "mmsg:64", "uring:128:128", "mixed:64:128"]
            .map(str::to_owned)
            .into();
    }
    Ok(settings)
}

fn parse<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse()
        .map_err(|_| io::Error::other(format!("'{text}' is no value for this argument")))
}

#[derive(Clone, Copy)]
struct Measured {
    user_nanos: u64,
    system_nanos: u64,
    answers_per_second: u64,
    answers_per_turn: u64,
}

#[derive(Default)]
struct Served {
    answers: u64,
    /// How often the loop found something to do.
    turns: u64,
}

/// Runs one backend for the given time.
fn measure(backend: &str, settings: &Settings) -> io::Result<Measured> {
    let options = SocketOptions {
        recv_buffer_bytes: 4 << 20,
        ..SocketOptions::default()
    };
    let socket = UdpSocket::bind(settings.bind, &options)?;
    let mut target = socket.local_addr();
    if target.ip().is_unspecified() {
        target.set_ip(match target {
            SocketAddr::V4(_) => [127, 0, 0, 1].into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let stop = AtomicBool::new(false);
    let (socket, stop) = (&socket, &stop);
    thread::scope(|scope| {
        // Named, so that a profile can tell them apart.
        let named = |name: &str| thread::Builder::new().name(name.into());
        let client =
            named("client").spawn_scoped(scope, move || ask(target, settings.window, stop))?;
        let server = named("server").spawn_scoped(scope, move || {
            pin_to(SERVER_CPU)?;
            let before = cpu_nanos();
            let Served { answers, turns } = serve(backend, socket, settings.pause, stop)?;
            let after = cpu_nanos();
            Ok(Measured {
                user_nanos: (after.0 - before.0) / answers.max(1),
                system_nanos: (after.1 - before.1) / answers.max(1),
                answers_per_second: answers / settings.seconds.max(1),
                answers_per_turn: answers / turns.max(1),
            })
        })?;
        thread::sleep(Duration::from_secs(settings.seconds));
        stop.store(true, Ordering::Relaxed);
        client.join().map_err(|_| io::Error::other("client"))??;
        server.join().map_err(|_| io::Error::other("server"))?
    })
}

fn serve(
    backend: &str,
    socket: &UdpSocket,
    pause: Duration,
    stop: &AtomicBool,
) -> io::Result<Served> {
    let mut parts = backend.split(':');
    let name = parts.next().unwrap_or_default();
    let first = parts.next().map(parse::<u16>).transpose()?;
    let second = parts.next().map(parse::<u16>).transpose()?;
    let batch = usize::from(first.unwrap_or(64));
    let ring = RingOptions {
        entries: first.unwrap_or(128),
        buffers: second.unwrap_or(128),
        datagram_bytes_max: DATAGRAM_BYTES_MAX,
    };
    match name {
        "portable" => {
            let mut receiver = portable::Receiver::new(batch, DATAGRAM_BYTES_MAX);
            let mut sender = portable::Sender::new(batch);
            serve_polled(socket, pause, stop, |outbox| {
                receiver.receive(socket)?;
                let datagrams = receiver.datagrams();
                datagrams.for_each(|datagram| outbox.push(datagram.path, &ANSWER));
                Ok(sender.send(socket, outbox).sent)
            })
        }
        "mmsg" => {
            let mut receiver = Receiver::new(batch, DATAGRAM_BYTES_MAX);
            let mut sender = Sender::new(batch).without_merging();
            serve_polled(socket, pause, stop, |outbox| {
                receiver.receive(socket)?;
                let datagrams = receiver.datagrams();
                datagrams.for_each(|datagram| outbox.push(datagram.path, &ANSWER));
                Ok(sender.send(socket, outbox).sent)
            })
        }
        "uring" => serve_ring(socket, &ring, None, pause, stop),
        "mixed" => serve_ring(
            socket,
            &ring,
            Some(Sender::new(batch).without_merging()),
            pause,
            stop,
        ),
        _ => Err(io::Error::other(format!("no backend is called '{name}'"))),
    }
}

/// Calls `turn` again and again, and waits when it had nothing to do.
fn serve_polled(
    socket: &UdpSocket,
    pause: Duration,
    stop: &AtomicBool,
    mut turn: impl FnMut(&mut Outbox) -> io::Result<usize>,
) -> io::Result<Served> {
    let mut outbox = Outbox::new();
    let mut served = Served::default();
    while !stop.load(Ordering::Relaxed) {
        match turn(&mut outbox)? {
            0 => drop(socket.wait_readable(Some(TICK))?),
            sent => {
                served.answers += sent as u64;
                served.turns += 1;
                if !pause.is_zero() {
                    thread::sleep(pause);
                }
            }
        }
        outbox.clear();
    }
    Ok(served)
}

fn serve_ring(
    socket: &UdpSocket,
    options: &RingOptions,
    mut sender: Option<Sender>,
    pause: Duration,
    stop: &AtomicBool,
) -> io::Result<Served> {
    let mut ring = Ring::new(options, &[socket], None)?;
    let mut outbox = Outbox::new();
    let mut served = Served::default();
    while !stop.load(Ordering::Relaxed) {
        let mut events = ring.wait(Some(TICK))?;
        while let Some(event) = events.next_event() {
            if let Event::Datagram { datagram, .. } = event {
                outbox.push(datagram.path, &ANSWER);
            }
        }
        drop(events);
        served.turns += u64::from(!outbox.is_empty());
        match &mut sender {
            None => {
                ring.send(0, &mut outbox)?;
                served.answers += ring.take_report(0).sent as u64;
            }
            Some(sender) => served.answers += sender.send(socket, &mut outbox).sent as u64,
        }
        if !pause.is_zero() {
            // The answers would wait for the next turn.
            drop(ring.wait(Some(Duration::ZERO))?);
            thread::sleep(pause);
        }
        outbox.clear();
    }
    Ok(served)
}

/// Keeps up to `window` requests on their way.
fn ask(target: SocketAddr, window: usize, stop: &AtomicBool) -> io::Result<()> {
    pin_to(CLIENT_CPU)?;
    let options = SocketOptions {
        recv_buffer_bytes: 4 << 20,
        ..SocketOptions::default()
    };
    let unspecified = match target {
        SocketAddr::V4(_) => ([0u8; 4], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let mut sockets = Vec::new();
    for _ in 0..CLIENT_SOCKETS {
        let mut socket = UdpSocket::bind(unspecified, &options)?;
        socket.connect(target)?;
        sockets.push(socket);
    }
    let mut receiver = Receiver::new(64, DATAGRAM_BYTES_MAX);
    let mut sender = SegmentSender::new();
    let mut outbox = Outbox::new();
    let mut waiting = 0usize;
    let mut last_answer = now();
    while !stop.load(Ordering::Relaxed) {
        for socket in &sockets {
            if waiting < window {
                let burst = REQUESTS_PER_BURST.min(window - waiting);
                for _ in 0..burst {
                    outbox.push(ReturnPath::to(target), &[0; REQUEST_BYTES]);
                }
                waiting += sender.send(socket, &mut outbox).sent;
                outbox.clear();
            }
            let answers = receiver.receive(socket)?;
            waiting = waiting.saturating_sub(answers);
            if answers > 0 {
                last_answer = now();
            } else if last_answer.elapsed() > TICK {
                waiting = 0;
            }
        }
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a tool that measures reads the clock"
)]
fn now() -> Instant {
    Instant::now()
}

fn pin_to(cpu: usize) -> io::Result<()> {
    // SAFETY: all zero is a valid set of CPUs, the empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set has room for the numbers that are used here.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the size is that of the set; 0 is the calling thread.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// User and system time of the calling thread.
fn cpu_nanos() -> (u64, u64) {
    // SAFETY: all zero is a valid value of this structure of numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is valid for writes.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    let nanos = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let micros = u64::try_from(time.tv_usec).unwrap_or(0);
        (seconds * 1_000_000 + micros) * 1000
    };
    (nanos(usage.ru_utime), nanos(usage.ru_stime))
}
