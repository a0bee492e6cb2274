//! What waits in a queue when the tracker is told to stop is answered, and nothing more goes there.

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aquatic_e2e::ask::{announce_request, connect_request, scrape_request};
use aquatic_e2e::host::Host;
use aquatic_e2e::lab::Lab;
use aquatic_e2e::{Family, wait};
use aquatic_test_support::threads::Frozen;
use nix::libc;
use nix::sys::signal::Signal;

use crate::stage::{
    FULL_AT_BRIDGE, LIMIT, PORT, Plan, announce, connected, connection_id, guarded, run,
};

/// Longer than a stop takes that waits for a worker.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// What waits in a queue when the tracker is told to stop.
struct Waiting {
    /// Of the tracker.
    general: &'static str,
    /// Of the guest, whose sockets have room for so many answers each.
    sockets: u32,
    requests: u32,
    request: fn(id: u64, number: u32) -> Vec<u8>,
    /// The first bytes of the answers.
    action: u32,
}

#[test]
fn what_is_in_a_queue_at_the_end_is_answered_and_nothing_more_comes_there() {
    // More than two rounds of the worker take.
    stops_with(&Waiting {
        general: "",
        sockets: 1,
        requests: 150,
        request: |id, number| {
            let peer = announce(u8::try_from(number % 100).unwrap());
            announce_request(id, number, &peer)
        },
        action: 1,
    });
}

#[test]
fn more_than_goes_to_another_worker_at_once_is_answered_at_the_end() {
    stops_with(&Waiting {
        general: "swarm_workers = 1\n",
        sockets: 5,
        requests: 60,
        request: |id, number| {
            let torrents: [_; 70] = std::array::from_fn(|it| [u8::try_from(it).unwrap(); 20]);
            scrape_request(id, number, &torrents)
        },
        action: 2,
    });
}

/// A worker that stands still takes nothing of its queue, and learns that it has to stop before
/// anything else when it goes on; so all that has come meanwhile is there in its last rounds. The
/// main thread stands still as well then, so there is time to look at what these leave behind.
///
/// On a busy machine the stop may be over before the main thread could be made to stand still: then
/// it all begins again.
fn stops_with(waiting: &Waiting) {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    assert!((0..4).any(|_| is_seen_to_stop_with(waiting, &lab)));
}

/// Returns whether the stop was seen.
fn is_seen_to_stop_with(waiting: &Waiting, lab: &Lab) -> bool {
    let (hub, guest) = (lab.hub(), lab.guest(0));
    let plan = Plan {
        general: waiting.general.to_owned(),
        ..Plan::new(hub, Family::V4, FULL_AT_BRIDGE)
    };
    let tracker = plan.start().unwrap();
    tracker.wait_until_guarded(guest).unwrap();
    let id = connection_id(&tracker.client(guest).unwrap()).unwrap();
    let sockets = (0..waiting.sockets).map(|_| {
        let socket = connected(&tracker, guest).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket
    });
    let sockets: Vec<_> = sockets.collect();
    let ask = |socket: &UdpSocket, number| socket.send(&(waiting.request)(id, number)).map(drop);

    let process = tracker.process_id();
    let worker = freeze(process, "socket-0", |call| call >= 0);
    // Whatever has gone wrong is told when nothing stands still any more: what does cannot be
    // killed.
    let asked = sockets
        .iter()
        .try_for_each(|socket| (0..waiting.requests).try_for_each(|number| ask(socket, number)));
    let are_there = is_answered_by_the_program(&sockets[0]);
    let told = tracker.signal(Signal::SIGTERM);
    let sleeps = [libc::SYS_nanosleep, libc::SYS_clock_nanosleep];
    let main = freeze(process, "aquatic_udp", |call| sleeps.contains(&call));
    let stands_still = worker.unwrap().let_go_if_alive();
    asked.unwrap();
    are_there.unwrap();
    told.unwrap();
    let (Ok(main), Ok(())) = (main, stands_still) else {
        return false;
    };
    for socket in &sockets {
        let numbers = (0..waiting.requests).map(|_| number_of_answer(socket, waiting.action));
        let answered: Result<BTreeSet<_>> = numbers.collect();
        assert_eq!(answered.unwrap(), (0..waiting.requests).collect());
    }

    assert_eq!(bytes_in_sockets(hub).unwrap(), 0);
    ask(&sockets[0], waiting.requests).unwrap();
    wait::until("it is in the tracker's socket", LIMIT, || {
        Ok((bytes_in_sockets(hub)? > 0).then_some(()))
    })
    .unwrap();
    main.let_go();
    tracker.wait().unwrap();
    true
}

/// An answer that waits is tried again and again, but not where that is in vain.
#[test]
fn what_waits_for_an_interface_that_is_down_keeps_nobody_awake() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let (hub, guest) = (lab.hub(), lab.guest(0));
    let network = FULL_AT_BRIDGE.replace("bridge0", "guest0");
    let tracker = guarded(&lab, Family::V4, &network);
    let id = connection_id(&tracker.client(guest).unwrap()).unwrap();
    let socket = connected(&tracker, guest).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();

    let process = tracker.process_id();
    let worker = freeze(process, "socket-0", |call| call >= 0);
    let asked = socket.send(&announce_request(id, 1, &announce(1)));
    let is_there = is_answered_by_the_program(&socket);
    let down = run(hub, "ip", "link set guest0 down");
    worker.unwrap().let_go();
    asked.unwrap();
    is_there.unwrap();
    down.unwrap();
    let naps = || {
        let status = fs::read_to_string(thread_of(process, "socket-0")?.join("status"))?;
        let mut lines = status.lines();
        let naps = lines.find_map(|it| it.strip_prefix("voluntary_ctxt_switches:"));
        Ok::<u32, anyhow::Error>(naps.context("no such line")?.trim().parse()?)
    };
    // It looks each second. Before, the worker was awake each millisecond.
    wait::until("it sleeps", LIMIT, || {
        let before = naps()?;
        thread::sleep(Duration::from_millis(500));
        Ok((naps()? - before < 100).then_some(()))
    })
    .unwrap();
    run(hub, "ip", "link set guest0 up").unwrap();
    assert_eq!(number_of_answer(&socket, 1).unwrap(), 1);
    tracker.stop().unwrap();
}

/// Stops a thread of the tracker while it is in one of some system calls; none is below 0.
fn freeze(process: u32, name: &str, is_meant: impl Fn(i64) -> bool) -> Result<Frozen> {
    let task = thread_of(process, name)?;
    let id = task.file_name().context("no name")?.to_string_lossy();
    let id = id.parse()?;
    // A stop takes half a second: it is looked for more often than elsewhere.
    for _ in 0..STOP_LIMIT.as_millis() {
        let frozen = Frozen::if_alive(id).context("it has ended")?;
        let call = fs::read_to_string(task.join("syscall"))?;
        let number = call.split(' ').next().and_then(|it| it.parse().ok());
        if is_meant(number.unwrap_or(-1)) {
            return Ok(frozen);
        }
        frozen.let_go_if_alive()?;
        thread::sleep(Duration::from_millis(1));
    }
    bail!("{name} was in no such system call")
}

/// Where the kernel tells of a thread.
fn thread_of(process: u32, name: &str) -> Result<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"))?;
    let mut tasks = tasks.flatten().map(|it| it.path());
    let has_name = |task: &PathBuf| {
        let comm = fs::read_to_string(task.join("comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    };
    tasks.find(has_name).context("no such thread")
}

/// The program has seen whatever was sent before: the worker stands still.
fn is_answered_by_the_program(socket: &UdpSocket) -> Result<()> {
    socket.send(&connect_request(7))?;
    let mut answer = [0; 100];
    let bytes = socket.recv(&mut answer)?;
    ensure!(bytes == 16 && answer[..8] == [0, 0, 0, 0, 0, 0, 0, 7]);
    Ok(())
}

fn number_of_answer(socket: &UdpSocket, action: u32) -> Result<u32> {
    let mut answer = [0; 2_048];
    let bytes = socket.recv(&mut answer)?;
    ensure!(bytes >= 20 && answer[..4] == action.to_be_bytes());
    Ok(u32::from_be_bytes(answer[4..8].try_into()?))
}

/// What waits for the tracker on the ordinary way.
fn bytes_in_sockets(host: &Host) -> Result<u64> {
    let text = run(host, "cat", "/proc/net/udp")?;
    let port = format!(":{PORT:04X}");
    let of_line = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let is_meant = columns.next()?.ends_with(&port);
        // The other's address, the state, and what waits to be sent and to be received.
        let (_, received) = columns.nth(2)?.split_once(':')?;
        is_meant.then(|| u64::from_str_radix(received, 16).ok())?
    };
    let mut sizes = text.lines().filter_map(of_line).peekable();
    sizes.peek().context("no socket")?;
    Ok(sizes.sum())
}
