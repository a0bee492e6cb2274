//! What signals do, and that nobody waits for a stop.

use std::fs::OpenOptions;
use std::io::{PipeReader, PipeWriter, Write, pipe};
use std::os::unix::fs::OpenOptionsExt as _;
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_types::IpFamily;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::DENY_LIST;
use super::process::settings_that_warn;
use crate::setup::on_every_setup;
use crate::wait::until;
use crate::{Daemon, Place, Program, Setup, torrent};

/// How long a stop may take, whatever else is going on.
const STOP_MAX: Duration = Duration::from_secs(1);

#[track_caller]
fn assert_stops(daemon: &mut Daemon) {
    let clock = Clock::start();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    let took = clock.elapsed();
    assert!(took < STOP_MAX, "{took:?}");
}

/// As Prometheus and opentracker do.
pub fn sighup_reloads_like_sigusr1(program: &'static Program) {
    let place = Place::new();
    place.write("list", "");
    let daemon = place.start(Setup::simple(program), DENY_LIST);
    for (number, signal) in (1..).zip([Signal::SIGHUP, Signal::SIGUSR1]) {
        let mut client = program.client_of(&daemon, IpFamily::V4);
        assert_eq!(client.join(torrent(number), 1), Ok(1));
        daemon.place.write("list", torrent(number).to_string());
        daemon.reload_by(signal);
        let refusal = Err("torrent not allowed here".to_owned());
        assert_eq!(client.join(torrent(number), 1), refusal);
    }
}

/// Those that would end a program that does not know them, and those of a terminal.
pub fn signals_without_a_meaning_do_not_end_it(program: &'static Program) {
    on_every_setup(program, |setup| {
        let mut daemon = setup.start("");
        for signal in [
            Signal::SIGUSR2,
            Signal::SIGALRM,
            Signal::SIGPIPE,
            Signal::SIGXFSZ,
            Signal::SIGWINCH,
            Signal::SIGTSTP,
            Signal::SIGCONT,
        ] {
            daemon.signal(signal);
        }
        for name in ["SIGUSR2", "SIGALRM"] {
            daemon.wait_for_log(&format!("{name} means nothing here"));
        }
        daemon.assert_running();
        let mut client = program.client_of(&daemon, IpFamily::V4);
        assert_eq!(client.join(torrent(1), 1), Ok(1));
    });
}

/// Here reload and start hang for ever: the list is a pipe to which nobody writes.
pub fn a_stop_waits_neither_for_a_reload_nor_for_the_start(program: &'static Program) {
    on_every_setup(program, |setup| {
        let place = Place::new();
        place.write("list", "");
        let mut daemon = place.start(setup, DENY_LIST);
        std::fs::remove_file(daemon.place.path("list")).unwrap();
        mkfifo(&daemon.place.path("list"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for_log("reloading");
        let mut client = program.client_of(&daemon, IpFamily::V4);
        assert_eq!(client.join(torrent(1), 1), Ok(1), "is served meanwhile");
        assert_stops(&mut daemon);

        let place = Place::new();
        mkfifo(&place.path("list"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let child = place.command(setup, DENY_LIST).spawn().unwrap();
        let mut daemon = place.attend(child);
        daemon.wait_for_log("reading the access list");
        assert_stops(&mut daemon);
    });
}

/// As after a night in which a script has sent too many.
pub fn a_stop_overtakes_many_reloads_of_a_large_list(program: &'static Program) {
    const HASHES: u32 = 300_000;
    let place = Place::new();
    let hashes: Vec<_> = (0..HASHES)
        .map(|number| torrent(number).to_string())
        .collect();
    place.write("list", hashes.join("\n"));
    let mut daemon = place.start(Setup::simple(program), DENY_LIST);
    let clock = Clock::start();
    daemon.reload();
    // As many as would take half a minute, whatever the machine. Those that come together are one.
    let reloads = 30_000 / clock.elapsed().as_millis().max(1);
    for _ in 0..reloads {
        daemon.signal(Signal::SIGUSR1);
        thread::sleep(Duration::from_millis(1));
    }
    until("it reloads again", || {
        let log = daemon.place.log();
        (log.matches("reloading").count() > 1).then_some(())
    });
    assert_stops(&mut daemon);
}

/// A list that does not come: the pipe is given up, and the next reload reads what is there then.
pub fn a_reload_that_hangs_does_not_keep_later_ones_from_their_list(program: &'static Program) {
    let place = Place::new();
    place.write("list", "");
    let daemon = place.start(Setup::simple(program), DENY_LIST);
    let list = daemon.place.path("list");
    std::fs::remove_file(&list).unwrap();
    mkfifo(&list, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    daemon.signal(Signal::SIGHUP);
    // It cannot be opened by who writes before somebody reads.
    let _writer = until("the pipe is read", || {
        let mut options = OpenOptions::new();
        let options = options.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
        options.open(&list).ok()
    });
    std::fs::remove_file(&list).unwrap();
    daemon.place.write("list", torrent(1).to_string());
    daemon.signal(Signal::SIGHUP);
    let reason = "keeping the previous access list: cannot use the access list list: line 1: \
                  cannot be read: nothing has come";
    daemon.wait_for_log(reason);
    let mut client = program.client_of(&daemon, IpFamily::V4);
    until("the next reload", || client.join(torrent(1), 1).err());
}

/// A pipe in which there is no room left.
#[must_use]
pub fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    for size in [4_096, 1] {
        while writer.write(&vec![b' '; size]).is_ok() {}
    }
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

/// Neither start nor service nor reload nor stop.
pub fn a_log_that_nobody_reads_delays_nothing(program: &'static Program) {
    on_every_setup(program, |setup| {
        let place = Place::new();
        place.write("list", "");
        let (_reader, writer) = full_pipe();
        let mut command = place.command(setup, DENY_LIST);
        let mut daemon = place.start_by(command.stderr(writer));
        daemon.place.write("list", torrent(1).to_string());
        daemon.reload();
        let mut client = program.client_of(&daemon, IpFamily::V4);
        assert!(client.join(torrent(1), 1).is_err(), "reloaded");
        assert_eq!(client.join(torrent(2), 1), Ok(1));
        assert_stops(&mut daemon);
    });
}

/// What is said whatever the log level goes the same way: if nobody reads it, or nobody can.
pub fn advice_that_nobody_reads_does_not_prevent_the_start(program: &'static Program) {
    for is_read_later in [true, false] {
        let place = Place::new();
        let settings = settings_that_warn(&place, "error", program);
        let (reader, writer) = full_pipe();
        let _reader = is_read_later.then_some(reader);
        let mut command = place.command(Setup::simple(program), &settings);
        let mut daemon = place.start_by(command.stderr(writer));
        let mut client = program.client_of(&daemon, IpFamily::V4);
        assert_eq!(client.join(torrent(1), 1), Ok(1));
        assert_stops(&mut daemon);
    }
}
