//! What happens at limits; and that nothing is done where nothing is to be done.

use std::env;
use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::instant_now;
use aquatic_stream::{Closed, Refused, Runtime};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, SockRef, Socket, Type};

use crate::RUNTIMES;
use crate::clients::{connect, connect_with, exchange, read_until_closed, until};
use crate::server::{Server, Settings};

/// Allows this process so many open files, or as many as it may have if that is less. Returns how
/// many.
fn allow_files(wanted: u64) -> u64 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let granted = wanted.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, granted, hard).unwrap();
    granted
}

fn assert_alive(server: &Server, runtime: Runtime) {
    let mut stream = connect_with(server.address, b"E");
    let answer = exchange(&mut stream, b"still here");
    assert_eq!(answer, b"still here", "{runtime:?}");
}

/// Runs a test of this module in a process of its own, whose limit on files does not disturb other
/// tests.
fn in_own_process(name: &str, test: fn(Runtime)) {
    const CHILD: &str = "AQUATIC_TEST_IN_OWN_PROCESS";
    if env::var_os(CHILD).is_some() {
        RUNTIMES.into_iter().for_each(test);
        return;
    }
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("shortages::{name}"), "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let [output, errors] = [&child.stdout, &child.stderr].map(|it| String::from_utf8_lossy(it));
    assert!(child.status.success(), "{output}{errors}");
    assert!(output.contains("\ntest result: ok. 1 passed;"), "{output}");
}

#[test]
fn thousands_of_connections_come_and_go() {
    in_own_process("thousands_of_connections_come_and_go", come_and_go);
}

fn come_and_go(runtime: Runtime) {
    const CONNECTIONS: usize = 5_000;
    // Both ends are in this process.
    let at_once = usize::try_from(allow_files(12_000) / 2 - 200).unwrap();
    let server = Server::start(runtime);
    let mut begun = 0;
    while begun < CONNECTIONS {
        let count = at_once.min(CONNECTIONS - begun);
        begun += count;
        let mut streams: Vec<TcpStream> = (0..count).map(|_| connect(server.address)).collect();
        for (number, stream) in streams.iter_mut().enumerate() {
            match number % 3 {
                // Says nothing.
                0 => {}
                // Is answered.
                1 => {
                    stream.write_all(b"E").unwrap();
                    assert_eq!(exchange(stream, b"hello"), b"hello");
                }
                // Is dropped before it has read the answer.
                _ => stream.write_all(b"Ehello").unwrap(),
            }
        }
    }
    until("all have gone", || server.active() == 0);
    let accepted = server.counters.accepted.v4.get();
    assert_eq!(accepted, u64::try_from(CONNECTIONS).unwrap(), "{runtime:?}");
    assert_alive(&server, runtime);
}

#[test]
fn more_connections_than_a_client_may_have_are_closed_at_once() {
    for runtime in RUNTIMES {
        let settings = Settings {
            connections_per_client_max: 3,
            ..Settings::default()
        };
        let server = Server::start_with(runtime, settings);
        let mut streams = three_that_were_served(&server);
        assert_eq!(read_until_closed(&mut connect(server.address)), b"");
        let refused = server.counters.refused.of(Refused::TooManyOfClient);
        assert_eq!(refused.get(), 1, "{runtime:?}");
        drop(streams.pop());
        until("one has gone", || server.active() == 2);
        assert_alive(&server, runtime);
    }
}

#[test]
fn an_idle_connection_gives_way_to_one_more_than_allowed() {
    for runtime in RUNTIMES {
        let settings = Settings {
            connections_max: 3,
            ..Settings::default()
        };
        let server = Server::start_with(runtime, settings);
        let streams = three_that_were_served(&server);
        let mut newcomer = connect_with(server.address, b"E");
        assert_eq!(exchange(&mut newcomer, b"hello"), b"hello");
        let evicted = server.counters.closed.of(Closed::Evicted);
        assert_eq!(evicted.get(), 1, "{runtime:?}");
        assert_eq!(server.counters.refused.of(Refused::TooMany).get(), 0);
        assert_eq!(server.active(), 3);
        drop(streams);
    }
}

fn three_that_were_served(server: &Server) -> Vec<TcpStream> {
    let mut streams: Vec<_> = (0..3).map(|_| connect_with(server.address, b"E")).collect();
    for stream in &mut streams {
        assert_eq!(exchange(stream, b"hello"), b"hello");
    }
    streams
}

#[test]
fn a_worker_survives_that_there_are_no_files_left() {
    let name = "a_worker_survives_that_there_are_no_files_left";
    in_own_process(name, run_out_of_files);
}

fn run_out_of_files(runtime: Runtime) {
    let server = Server::start(runtime);
    assert_alive(&server, runtime);
    let mut streams: Vec<TcpStream> = (0..200).map(|_| connect(server.address)).collect();
    until("all are accepted", || server.active() == 200);
    // These have files already, so that only the worker's ends find none, however quick it is.
    let client = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let clients: Vec<_> = (0..20).map(|_| client()).collect();
    let open = fs::read_dir("/proc/self/fd").unwrap().count();
    allow_files(u64::try_from(open + 10).unwrap());
    for client in clients {
        client.connect(&server.address.into()).unwrap();
        streams.push(client.into());
    }
    until("the shortage is noticed", || {
        server.counters.accept_failures.get() > 0
    });
    assert_fails_seldom(&server, runtime);

    streams.clear();
    until("all have gone", || server.active() == 0);
    assert_alive(&server, runtime);
    allow_files(20_000);
}

/// A worker that cannot accept tries again from time to time, and not all the time.
fn assert_fails_seldom(server: &Server, runtime: Runtime) {
    let failures = || server.counters.accept_failures.get();
    let start = instant_now();
    let before = failures();
    thread::sleep(Duration::from_millis(500));
    let more = failures() - before;
    let millis = u64::try_from(start.elapsed().as_millis()).unwrap();
    let most = 5 + 20 * millis / 1_000;
    assert!(more <= most, "{runtime:?}: {more} failures in {millis} ms");
}

/// Somebody may take it away (`ss --kill`). That must neither keep a worker busy for ever nor pass
/// unnoticed, and those who are connected need not suffer.
#[test]
fn a_listener_that_has_gone_is_noticed() {
    for runtime in RUNTIMES {
        let server = Server::start(runtime);
        let mut stream = connect_with(server.address, b"E");
        assert_eq!(exchange(&mut stream, b"before"), b"before");
        SockRef::from(&server.listener)
            .shutdown(Shutdown::Both)
            .unwrap();
        until("it is noticed", || {
            server.counters.accept_failures.get() > 0
        });
        assert_fails_seldom(&server, runtime);
        assert_eq!(exchange(&mut stream, b"after"), b"after", "{runtime:?}");
    }
}

/// A worker with nothing to do but for its own clock.
#[test]
fn idle_workers_cost_next_to_nothing() {
    for runtime in RUNTIMES {
        let server = Server::start(runtime);
        let mut streams: Vec<_> = (0..100)
            .map(|_| connect_with(server.address, b"E"))
            .collect();
        for stream in &mut streams {
            assert_eq!(exchange(stream, b"hello"), b"hello");
        }
        let worker = thread_called(&server.thread);
        // How often it wakes is the same on all machines; how long that takes is not. Others use
        // this one, too: its quietest second counts.
        let mut seconds = Vec::new();
        let is_quiet = |used: &Used| used.turns <= 15 && used.time < Duration::from_millis(20);
        while seconds.len() < 10 && !seconds.last().is_some_and(is_quiet) {
            let before = Used::by(&worker);
            thread::sleep(Duration::from_secs(1));
            seconds.push(Used::by(&worker).since(&before));
        }
        assert!(
            seconds.last().is_some_and(is_quiet),
            "{runtime:?}: {seconds:?}"
        );
    }
}

/// The number of this process's thread of that name. Threads that it starts may be called the same:
/// it is the first.
fn thread_called(name: &str) -> String {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let numbers = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
    let is_it = |number: &String| {
        fs::read_to_string(format!("/proc/self/task/{number}/comm"))
            .is_ok_and(|found| found.trim() == name)
    };
    let number = numbers
        .filter(is_it)
        .map(|it| it.parse::<u32>().unwrap())
        .min();
    number.unwrap().to_string()
}

/// What a thread has had of a CPU.
#[derive(Debug)]
struct Used {
    time: Duration,
    turns: u64,
}

impl Used {
    fn by(thread: &str) -> Self {
        let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap();
        let numbers = text.split_whitespace().map(|it| it.parse().unwrap());
        let numbers: Vec<u64> = numbers.collect();
        Self {
            time: Duration::from_nanos(numbers[0]),
            turns: numbers[2],
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            time: self.time - before.time,
            turns: self.turns - before.turns,
        }
    }
}
