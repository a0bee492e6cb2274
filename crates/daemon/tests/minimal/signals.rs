//! What each signal does, and that no one has to wait for a stop.

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::process::{Daemon, HASH_A, HASH_B, Setup, hex};

/// How long a stop may take, whatever else is going on.
const STOP_MAX: Duration = Duration::from_secs(1);

#[track_caller]
fn assert_stops(daemon: &mut Daemon<'_>) {
    let clock = Clock::start();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
    let took = clock.elapsed();
    assert!(took < STOP_MAX, "{took:?}");
}

/// A list whose reading hangs as long as nobody writes to it.
fn hanging_list(setup: &Setup) -> PathBuf {
    let path = setup.path("list");
    // At the start there may have been a file.
    let _ = fs::remove_file(&path);
    mkfifo(&path, Mode::from_bits_truncate(0o644)).unwrap();
    path
}

/// Lets one reading of such a list go on: it has this info hash.
fn write(list: &Path, hash: [u8; 20]) {
    let mut list = File::options().write(true).open(list).unwrap();
    list.write_all(hex(hash).as_bytes()).unwrap();
}

const LIST: &str = "[access_list]\nmode = 'allow'\npath = 'list'";

fn assert_reloading(setup: &Setup) {
    let message = setup.notification();
    assert!(message.starts_with("RELOADING=1\n"), "{message}");
}

/// A pipe in which there is no room left.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    for size in [4_096, 1] {
        while writer.write(&vec![b' '; size]).is_ok() {}
    }
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

#[test]
fn sighup_and_sigusr1_reload() {
    for signal in [Signal::SIGHUP, Signal::SIGUSR1] {
        let setup = Setup::new();
        setup.write("list", &hex(HASH_A));
        let daemon = setup.start(LIST);
        assert!(!daemon.serves(HASH_B));
        setup.write("list", &hex(HASH_B));
        daemon.signal(signal);
        assert_reloading(&setup);
        assert_eq!(setup.notification(), "READY=1");
        assert!(daemon.serves(HASH_B), "{signal}");
    }
}

#[test]
fn signals_without_a_meaning_do_not_end_it() {
    let setup = Setup::new();
    let daemon = setup.start("");
    for signal in [
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGPIPE,
        Signal::SIGXFSZ,
        Signal::SIGWINCH,
        Signal::SIGCHLD,
        Signal::SIGURG,
        Signal::SIGCONT,
    ] {
        daemon.signal(signal);
    }
    daemon.wait_for_log("SIGUSR2 means nothing here: ignored");
    daemon.wait_for_log("SIGALRM means nothing here: ignored");
    assert!(daemon.serves(HASH_A));
    // A job that is stopped at a terminal and goes on.
    daemon.signal(Signal::SIGTSTP);
    daemon.signal(Signal::SIGCONT);
    assert!(daemon.serves(HASH_A));
}

/// To find out what a daemon hangs in: it ends at once, with a core if the system is set up so.
#[test]
fn sigquit_ends_it_as_the_system_does() {
    let setup = Setup::new();
    let mut daemon = setup.start("");
    daemon.signal(Signal::SIGQUIT);
    let status = daemon.wait();
    assert_eq!(status.signal(), Some(libc_number(Signal::SIGQUIT)));
}

fn libc_number(signal: Signal) -> i32 {
    signal as i32
}

#[test]
fn a_stop_does_not_wait_for_a_reload() {
    let setup = Setup::new();
    setup.write("list", &hex(HASH_A));
    let mut daemon = setup.start(LIST);
    hanging_list(&setup);
    daemon.signal(Signal::SIGHUP);
    assert_reloading(&setup);
    assert!(daemon.serves(HASH_A));
    assert_stops(&mut daemon);
    assert_eq!(setup.notification(), "STOPPING=1");
}

#[test]
fn a_stop_does_not_wait_for_the_start() {
    let setup = Setup::new();
    hanging_list(&setup);
    let child = setup.command(LIST).spawn().unwrap();
    let mut daemon = setup.attend(child);
    // The socket is bound before the list is read.
    daemon.wait_for_log("reading the access list");
    assert_stops(&mut daemon);
    assert!(!setup.log().contains("ready"), "{}", setup.log());
}

#[test]
fn a_reload_that_is_asked_for_during_the_start_follows_it() {
    let setup = Setup::new();
    let list = hanging_list(&setup);
    let child = setup.command(LIST).spawn().unwrap();
    let daemon = setup.attend(child);
    daemon.wait_for_log("reading the access list");
    daemon.signal(Signal::SIGHUP);
    write(&list, HASH_A);
    assert_eq!(setup.notification(), "READY=1");
    assert_reloading(&setup);
    write(&list, HASH_B);
    assert_eq!(setup.notification(), "READY=1");
    assert!(daemon.serves(HASH_B));
}

#[test]
fn a_log_that_nobody_reads_delays_neither_reload_nor_stop() {
    let setup = Setup::new();
    setup.write("list", &hex(HASH_A));
    let (_reader, writer) = full_pipe();
    let mut command = setup.command(LIST);
    let mut daemon = setup.start_command(command.stderr(writer));
    setup.write("list", &hex(HASH_B));
    daemon.reload();
    assert!(daemon.serves(HASH_B));
    assert_stops(&mut daemon);
}

/// What is shown whatever the log level is takes the same way.
#[test]
fn a_warning_that_nobody_reads_does_not_delay_the_start() {
    let setup = Setup::new();
    let (_reader, writer) = full_pipe();
    let mut command =
        setup.command("log_level = 'error'\n[metrics]\nrun_prometheus_endpoint = false");
    let mut daemon = setup.start_command(command.stderr(writer));
    assert!(daemon.serves(HASH_A));
    assert_stops(&mut daemon);
}

#[test]
fn what_is_logged_last_reaches_a_reader_that_is_late() {
    let setup = Setup::new();
    let (mut reader, writer) = full_pipe();
    let mut command = setup.command("");
    let mut daemon = setup.start_command(command.stderr(writer));
    drop(command);
    daemon.signal(Signal::SIGTERM);
    let mut log = String::new();
    reader.read_to_string(&mut log).unwrap();
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(log.contains("ready"), "{log}");
    assert!(log.contains("stopping, as asked by a signal"), "{log}");
}

#[test]
fn the_reason_of_a_bad_end_is_told_through_a_pipe_of_which_little_is_read() {
    for level in ["info", "off"] {
        let setup = Setup::new();
        let (mut reader, writer) = full_pipe();
        let mut command = setup.command(&format!("log_level = '{level}'"));
        let mut daemon = setup.start_command(command.stderr(writer));
        drop(command);
        daemon.send(b"nonsense");
        let mut log = String::new();
        reader.read_to_string(&mut log).unwrap();
        assert_eq!(daemon.wait().code(), Some(1));
        assert!(log.contains("minimal ends: worker socket-1 has"), "{log}");
    }
}

#[test]
fn a_bad_end_does_not_wait_for_the_log() {
    for level in ["info", "off"] {
        let setup = Setup::new();
        let (_reader, writer) = full_pipe();
        let mut command = setup.command(&format!("log_level = '{level}'"));
        let mut daemon = setup.start_command(command.stderr(writer));
        let clock = Clock::start();
        daemon.send(b"nonsense");
        assert_eq!(daemon.wait().code(), Some(1));
        let took = clock.elapsed();
        assert!(took < STOP_MAX, "{took:?}");
    }
}

/// Reloads that are asked for while one is going on.
#[test]
fn many_reloads_become_one_more() {
    let setup = Setup::new();
    setup.write("list", &hex(HASH_A));
    let mut daemon = setup.start(LIST);
    let list = hanging_list(&setup);
    daemon.signal(Signal::SIGHUP);
    assert_reloading(&setup);
    for _ in 0..40 {
        daemon.signal(Signal::SIGHUP);
        daemon.signal(Signal::SIGUSR1);
        thread::sleep(Duration::from_millis(1));
    }
    // Signals are dealt with in order: when this has been, there is no reload that comes later.
    daemon.signal(Signal::SIGUSR2);
    daemon.wait_for_log("SIGUSR2 means nothing here: ignored");
    write(&list, HASH_A);
    assert_eq!(setup.notification(), "READY=1");
    assert_reloading(&setup);
    write(&list, HASH_B);
    assert_eq!(setup.notification(), "READY=1");
    assert!(daemon.serves(HASH_B));
    assert_stops(&mut daemon);
    assert_eq!(setup.notification(), "STOPPING=1");
}
