//! What waits in a queue when the tracker is told to stop is answered, and nothing more goes there.

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;

use anyhow::{Context, Result, ensure};
use aquatic_e2e::ask::{announce_request, connect_request};
use aquatic_e2e::host::Host;
use aquatic_e2e::lab::Lab;
use aquatic_e2e::{Family, wait};
use aquatic_test_support::threads::Frozen;
use nix::libc;
use nix::sys::signal::Signal;

use crate::stage::{FULL_AT_BRIDGE, LIMIT, PORT, Plan, announce, connect_once, connected, run};

/// More than two rounds of the worker take, and less than the guest has room for answers.
const REQUESTS: u32 = 150;

/// A worker that stands still takes nothing of its queue, and learns that it has to stop before
/// anything else when it goes on; so all that has come meanwhile is there in its last rounds. The
/// main thread stands still as well then, so there is time to look at what these leave behind.
#[test]
fn what_is_in_a_queue_at_the_end_is_answered_and_nothing_more_comes_there() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let (hub, guest) = (lab.hub(), lab.guest(0));
    let tracker = Plan::new(hub, Family::V4, FULL_AT_BRIDGE).start().unwrap();
    tracker.wait_until_guarded(guest).unwrap();
    let id = connect_once(&tracker.client(guest).unwrap())
        .unwrap()
        .unwrap();
    let socket = connected(&tracker, guest).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let ask = |number| {
        let peer = announce(u8::try_from(number % 100).unwrap());
        socket.send(&announce_request(id, number, &peer))
    };

    let process = tracker.process_id();
    let worker = freeze(process, "socket-0", |call| call >= 0);
    // Whatever has gone wrong is told when nothing stands still any more: what does cannot be
    // killed.
    let asked = (0..REQUESTS).try_for_each(|number| ask(number).map(drop));
    let are_there = is_answered_by_the_program(&socket);
    let told = tracker.signal(Signal::SIGTERM);
    let sleeps = [libc::SYS_nanosleep, libc::SYS_clock_nanosleep];
    let main = freeze(process, "aquatic_udp", |call| sleeps.contains(&call));
    worker.unwrap().let_go();
    let main = main.unwrap();
    asked.unwrap();
    are_there.unwrap();
    told.unwrap();
    let answered: Result<BTreeSet<_>> = (0..REQUESTS).map(|_| number_of_answer(&socket)).collect();
    assert_eq!(answered.unwrap(), (0..REQUESTS).collect());

    assert_eq!(bytes_in_sockets(hub).unwrap(), 0);
    ask(REQUESTS).unwrap();
    wait::until("it is in the tracker's socket", LIMIT, || {
        Ok((bytes_in_sockets(hub)? > 0).then_some(()))
    })
    .unwrap();
    main.let_go();
    tracker.wait().unwrap();
}

/// Stops a thread of the tracker while it is in one of some system calls; none is below 0.
fn freeze(process: u32, name: &str, is_meant: impl Fn(i64) -> bool) -> Result<Frozen> {
    let tasks = format!("/proc/{process}/task");
    let has_name = |task: &fs::DirEntry| {
        let comm = fs::read_to_string(task.path().join("comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    };
    let mut threads = fs::read_dir(tasks)?.flatten();
    let thread = threads.find(has_name).context("no such thread")?;
    let id = thread.file_name().to_string_lossy().parse()?;
    wait::until(&format!("{name} is in a system call"), LIMIT, || {
        let frozen = Frozen::new(id);
        let call = fs::read_to_string(thread.path().join("syscall"))?;
        let number = call.split(' ').next().and_then(|it| it.parse().ok());
        if is_meant(number.unwrap_or(-1)) {
            return Ok(Some(frozen));
        }
        frozen.let_go();
        Ok(None)
    })
}

/// The program has seen whatever was sent before: the worker stands still.
fn is_answered_by_the_program(socket: &UdpSocket) -> Result<()> {
    socket.send(&connect_request(7))?;
    let mut answer = [0; 100];
    let bytes = socket.recv(&mut answer)?;
    ensure!(bytes == 16 && answer[..8] == [0, 0, 0, 0, 0, 0, 0, 7]);
    Ok(())
}

fn number_of_answer(socket: &UdpSocket) -> Result<u32> {
    let mut answer = [0; 2_048];
    let bytes = socket.recv(&mut answer)?;
    ensure!(bytes >= 20 && answer[..4] == [0, 0, 0, 1], "no announce");
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
