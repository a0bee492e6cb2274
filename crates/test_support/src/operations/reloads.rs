//! A configuration file that is read again while the tracker serves.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aquatic_types::IpFamily;
use nix::sys::signal::Signal;

use super::privileges::{CONFINED, is_root, make_root};
use super::torrent_of;
use crate::setup::on_every_setup;
use crate::wait::{until, until_ok};
use crate::{Client, Daemon, Place, Program, Setup, torrent};

const FAMILY: IpFamily = IpFamily::V4;

/// Replaces the file as editors and configuration management do, by another one of its name, and
/// has it read.
pub(super) fn change(daemon: &Daemon, setup: Setup, settings: &str, signal: Signal) {
    let place = &daemon.place;
    let text = place.config_text(setup, settings);
    fs::rename(
        place.write("config.toml.new", text),
        place.path("config.toml"),
    )
    .unwrap();
    daemon.reload_by(signal);
}

/// Joins new torrents, from `first` on, until one is refused: how many were not.
fn admitted(client: &mut dyn Client, first: u32, max: u32) -> u32 {
    let joins = |number: &u32| client.join(torrent_of(FAMILY, *number), 1).is_ok();
    let admitted = (first..first + max).take_while(joins).count();
    u32::try_from(admitted).unwrap()
}

/// Waits until settings are in force: workers look at them several times a second. Each attempt is
/// with other torrents, since one that was admitted stays for a while without peers.
#[track_caller]
fn wait_until_admitted(client: &mut dyn Client, mut first: u32, expected: u32) {
    until_ok(|| {
        let max = expected + 5;
        let admitted = admitted(client, first, max);
        (first..first + max).for_each(|it| client.leave(torrent_of(FAMILY, it), 1));
        first += max;
        match admitted == expected {
            true => Ok(()),
            false => Err(format!("{admitted} were admitted, not {expected}")),
        }
    });
}

/// `limits.max_peers_per_ip`, up and down, by both signals, with the sandbox that is there by
/// default.
pub fn limits_change_while_it_serves(program: &'static Program) {
    on_every_setup(program, |setup| {
        let per_ip = |max: u32| format!("limits.max_peers_per_ip = {max}");
        let daemon = setup.start(&per_ip(2));
        let mut client = program.client_of(&daemon, FAMILY);
        let client = &mut *client;
        assert_eq!(admitted(client, 0, 5), 2);
        change(&daemon, setup, &per_ip(6), Signal::SIGHUP);
        daemon.wait_for_log("`limits.max_peers_per_ip`: 2 -> 6, applied");
        wait_until_admitted(client, 10_000, 4);
        change(&daemon, setup, &per_ip(3), Signal::SIGUSR1);
        daemon.wait_for_log("`limits.max_peers_per_ip`: 6 -> 3, applied");
        wait_until_admitted(client, 100_000, 1);
        // Whoever was there is there.
        let torrents = [torrent_of(FAMILY, 0), torrent_of(FAMILY, 1)];
        assert_eq!(client.leechers(&torrents), [1, 1]);
        change(&daemon, setup, &per_ip(3), Signal::SIGHUP);
        daemon.wait_for_log("nothing has changed in ");
    });
}

/// `limits.max_torrents` and `limits.max_peers`, which shards keep.
pub fn limits_of_shards_begin_and_end(program: &'static Program) {
    const KNOWN: u32 = 30;
    on_every_setup(program, |setup| {
        for key in ["max_torrents", "max_peers"] {
            let daemon = setup.start("");
            let mut client = program.client_of(&daemon, FAMILY);
            let client = &mut *client;
            assert_eq!(admitted(client, 0, KNOWN), KNOWN);
            change(&daemon, setup, &format!("limits.{key} = 1"), Signal::SIGHUP);
            daemon.wait_for_log(&format!("`limits.{key}`: 0 -> 1, applied"));
            wait_until_admitted(client, KNOWN, 0);
            let known: Vec<_> = (0..KNOWN).map(|it| torrent_of(FAMILY, it)).collect();
            assert!(client.leechers(&known).iter().all(|count| *count == 1));
            assert_eq!(client.join(known[0], 1), Ok(1), "who is in may stay");
            change(&daemon, setup, "", Signal::SIGHUP);
            until("there is no limit", || {
                (admitted(client, 100_000, 10) == 10).then_some(())
            });
        }
    });
}

/// All or nothing: what is right in a file that is wrong is not applied either.
pub fn a_wrong_file_changes_nothing(program: &'static Program) {
    let setup = Setup::simple(program);
    let daemon = setup.start("limits.max_peers_per_ip = 2");
    let mut client = program.client_of(&daemon, FAMILY);
    let wrong = "limits.max_peers_per_ip = 5\nlog_level = 'debug'\nlimits.max_peers = 'many'\n\
                 limits.max_piers = 5";
    change(&daemon, setup, wrong, Signal::SIGHUP);
    daemon.wait_for_log("reload failed, keeping the configuration of before: ");
    daemon.wait_for_log("line 3, column 20: `limits.max_peers`: ");
    daemon.wait_for_log("unknown key `limits.max_piers`");
    assert_eq!(admitted(&mut *client, 0, 5), 2);
    // What is right alone, and does not fit.
    let wrong = "limits.max_peers_per_ip = 5\nlimits.max_peers_per_ip_and_torrent = 1001";
    change(&daemon, setup, wrong, Signal::SIGHUP);
    daemon.wait_for_log("`limits.max_peers_per_ip_and_torrent`: must be at most 1000");
    assert_eq!(admitted(&mut *client, 0, 5), 2);
    fs::remove_file(daemon.place.path("config.toml")).unwrap();
    daemon.reload();
    daemon.wait_for_log("No such file");
    assert_eq!(admitted(&mut *client, 0, 5), 2);
    assert!(!daemon.place.log().contains("DEBUG"));
    change(
        &daemon,
        setup,
        "limits.max_peers_per_ip = 3",
        Signal::SIGHUP,
    );
    wait_until_admitted(&mut *client, 100, 1);
}

/// Each time, as long as the file says something else than what runs.
pub fn what_needs_a_restart_is_named(program: &'static Program) {
    let setup = Setup::simple(program);
    let daemon = setup.start("limits.max_peers_per_ip = 2");
    let mut client = program.client_of(&daemon, FAMILY);
    let settings = "limits.max_peers_per_ip = 4\nsocket_workers = 2\n\
                    limits.max_peers_per_ip_and_torrent = 0\nhang_timeout = 100";
    for times in 1..=2 {
        change(&daemon, setup, settings, Signal::SIGHUP);
        for key in [
            "socket_workers",
            "limits.max_peers_per_ip_and_torrent",
            "hang_timeout",
        ] {
            let warning = format!("`{key}` has changed: it needs a restart");
            daemon.wait_for_warning(&warning, "restart");
            assert_eq!(daemon.place.log().matches(&warning).count(), times);
        }
        wait_until_admitted(&mut *client, 0, 4);
    }
    let applied = "`limits.max_peers_per_ip`: 2 -> 4, applied";
    assert_eq!(daemon.place.log().matches(applied).count(), 1);
    change(
        &daemon,
        setup,
        "limits.max_peers_per_ip = 2",
        Signal::SIGHUP,
    );
    daemon.wait_for_log("`limits.max_peers_per_ip`: 4 -> 2, applied");
    let warning = "`socket_workers` has changed";
    assert_eq!(daemon.place.log().matches(warning).count(), 2);
}

/// `log_level`, up and down.
pub fn the_log_level_changes(program: &'static Program) {
    let setup = Setup::simple(program);
    let daemon = setup.start("log_level = 'error'");
    daemon.reload();
    assert_eq!(daemon.place.log(), "");
    change(&daemon, setup, "log_level = 'debug'", Signal::SIGHUP);
    daemon.wait_for_log("`log_level`: \"error\" -> \"debug\", applied");
    let debug = || daemon.place.log().matches("DEBUG").count();
    assert!(debug() > 0, "{}", daemon.place.log());
    change(&daemon, setup, "log_level = 'warn'", Signal::SIGHUP);
    daemon.wait_for_log("`log_level`: \"debug\" -> \"warn\", applied");
    let lines = daemon.place.log();
    daemon.reload();
    assert_eq!(daemon.place.log(), lines);
}

/// In another root directory, as nobody: a file that is inside is read, if nobody may.
pub fn a_file_inside_another_root_is_read(program: &'static Program) {
    if !is_root() {
        return;
    }
    let setup = Setup::simple(program);
    let place = Place::new();
    let config = make_root(&place).join("config.toml");
    let settings = |max: u32| format!("{CONFINED}limits.max_peers_per_ip = {max}");
    fs::write(&config, place.config_text(setup, &settings(2))).unwrap();
    let mut command = place.command(setup, "");
    let program_path = command.get_program().to_owned();
    command = std::process::Command::new(program_path);
    place.set_up(&mut command);
    let daemon = place.start_by(command.arg("-c").arg("root/config.toml"));
    let mut client = program.client_of(&daemon, FAMILY);
    assert_eq!(admitted(&mut *client, 0, 5), 2);
    let text = daemon.place.config_text(setup, &settings(4));
    fs::write(&config, &text).unwrap();
    daemon.reload();
    daemon.wait_for_log("`limits.max_peers_per_ip`: 2 -> 4, applied");
    wait_until_admitted(&mut *client, 100, 2);
    fs::set_permissions(&config, Permissions::from_mode(0o600)).unwrap();
    daemon.reload();
    let line = daemon.wait_for_log("reload failed, keeping the configuration of before: ");
    assert!(line.contains("Permission denied"), "{line}");
    assert!(line.contains("the program runs as nobody"), "{line}");
}

/// A file outside of the root directory is not read again; the lists are.
pub fn a_file_outside_of_the_root_is_told(program: &'static Program) {
    if !is_root() {
        return;
    }
    let setup = Setup::simple(program);
    let place = Place::new();
    let root = make_root(&place);
    place.write("root/list", "");
    let settings = |max: u32| {
        format!(
            "{CONFINED}access_list.mode = 'deny'\naccess_list.path = '/list'\n\
             limits.max_peers_per_ip = {max}"
        )
    };
    let daemon = place.start(setup, &settings(2));
    let mut client = program.client_of(&daemon, FAMILY);
    assert_eq!(client.join(torrent(1), 1), Ok(1));
    fs::write(root.join("list"), torrent(1).to_string()).unwrap();
    change(&daemon, setup, &settings(5), Signal::SIGHUP);
    daemon.wait_for_warning(
        "is not read again: it is outside",
        "`privileges.chroot_path`",
    );
    let refusal = Err("torrent not allowed here".to_owned());
    assert_eq!(client.join(torrent(1), 1), refusal);
}

/// Whoever asks while settings change is answered.
pub fn no_answer_is_lost_at_a_reload(program: &'static Program) {
    on_every_setup(program, |setup| {
        let daemon = setup.start("");
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let (daemon, is_over) = (&daemon, &is_over);
            let asking = scope.spawn(move || {
                let mut client = program.client_of(daemon, FAMILY);
                let mut asked = 0;
                while !is_over.load(Ordering::Relaxed) {
                    // Panics if there is no answer.
                    client.join(torrent_of(FAMILY, asked % 50), 1).unwrap();
                    asked += 1;
                }
                asked
            });
            for round in 1..=10 {
                let settings = format!(
                    "protocol.peer_announce_interval = {}\nlimits.max_peers = {}\n\
                     cleaning.torrent_cleaning_interval = {}",
                    100 + round,
                    1_000 * round,
                    10 + round
                );
                change(daemon, setup, &settings, Signal::SIGHUP);
            }
            is_over.store(true, Ordering::Relaxed);
            assert!(asking.join().unwrap() > 0);
        });
        let log = daemon.place.log();
        assert_eq!(log.matches("`limits.max_peers`: ").count(), 10, "{log}");
    });
}
