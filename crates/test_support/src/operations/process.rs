//! Start and stop, as an operator meets them.

use aquatic_types::IpFamily;
use nix::sys::signal::Signal;

use crate::setup::on_every_setup;
use crate::wait::until_ok;
use crate::{Daemon, Place, Program, Setup, torrent};

/// SIGTERM and SIGINT are wishes, not failures.
pub fn a_signal_to_stop_ends_it_with_success(program: &'static Program) {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        on_every_setup(program, |setup| {
            let mut daemon = setup.start("");
            let mut client = program.client_of(&daemon, IpFamily::V4);
            client.join(torrent(1), 1).unwrap();
            daemon.signal(signal);
            assert_eq!(daemon.wait_exit().code(), Some(0));
            let log = daemon.place.log();
            assert!(log.contains("INFO"), "{log}");
            assert!(log.contains("stopping, as asked by a signal"), "{log}");
            assert!(!log.contains("ERROR"), "{log}");
        });
    }
}

/// Exit code 2, and the argument in the message.
pub fn wrong_arguments_are_named(program: &'static Program) {
    let place = Place::new();
    for (arguments, name) in [
        (&["--frobnicate"][..], "--frobnicate"),
        (&["-c"], "--config"),
    ] {
        let ended = place.run(program, arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}");
        assert!(ended.log.contains(name), "{}", ended.log);
    }
}

/// As other programs take it.
pub fn a_file_without_a_flag_is_answered_with_the_flag(program: &'static Program) {
    let ended = Place::new().run(program, &["foo.toml"]);
    assert_eq!(ended.code, Some(2));
    let tip = format!(
        "tip: to run with this configuration file, write '{} -c foo.toml'\n",
        program.name
    );
    assert!(ended.log.contains(&tip), "{}", ended.log);
}

/// In short and long.
pub fn help_and_version_are_printed(program: &'static Program) {
    let place = Place::new();
    for flag in ["-h", "--help"] {
        let ended = place.run(program, &[flag]);
        assert_eq!(ended.code, Some(0));
        for text in [program.about, "-c", "-p", "-P", "--check-config", "-v"] {
            assert!(
                ended.stdout.contains(text),
                "no {text} in\n{}",
                ended.stdout
            );
        }
    }
    for flag in ["-v", "--version"] {
        let ended = place.run(program, &[flag]);
        assert_eq!(ended.code, Some(0));
        assert_eq!(
            ended.stdout,
            format!("{} {}\n", program.name, program.version)
        );
    }
}

/// From nothing to where it serves; but the reason of a bad end is always told.
pub fn the_log_says_as_much_as_configured(program: &'static Program) {
    for (level, says) in [
        ("off", false),
        ("error", false),
        ("warn", false),
        ("info", true),
    ] {
        let settings = format!("log_level = '{level}'\n{}", program.modest_settings);
        let daemon = Setup::simple(program).start(&settings);
        let log = daemon.place.log();
        assert_eq!(log.contains("ready"), says, "{level}:\n{log}");
        assert_eq!(!log.is_empty(), says, "{level}:\n{log}");
        let address = daemon.address(IpFamily::V4).to_string();
        let is_told = |line: &str| line.contains("serving at") && line.contains(&address);
        assert_eq!(log.lines().any(is_told), says, "{level}:\n{log}");
    }
    let ended = Place::new().fail(
        Setup::simple(program),
        "log_level = 'off'\nnetwork.address = '192.0.2.1:1'",
    );
    let reason = format!("{} ends: cannot bind 192.0.2.1:1", program.name);
    assert!(ended.log.contains(&reason), "{}", ended.log);
}

/// Settings with an old spelling, about which there is a warning at every log level.
pub(super) fn settings_that_warn(place: &Place, level: &str, program: &Program) -> String {
    format!(
        "log_level = '{level}'\nnetwork.address_ipv4 = '127.0.0.1:{}'\n\
         network.use_ipv6 = false\n# instead of network.address\n{}",
        place.port(),
        program.modest_settings
    )
}

/// What a file means otherwise than it did must be seen by those who log nothing.
pub fn advice_about_the_file_is_shown_at_every_log_level(program: &'static Program) {
    for level in ["off", "error", "warn", "info"] {
        let place = Place::new();
        let settings = settings_that_warn(&place, level, program);
        let daemon = place.start(Setup::simple(program), &settings);
        let log = daemon.place.log();
        let advice = "config.toml: line 2: instead of `network.address_ipv4`, write";
        assert!(log.contains(advice), "{level}:\n{log}");
    }
}

/// The address of the metrics, when this machine does not have it.
pub fn an_endpoint_that_cannot_be_had_is_named(program: &'static Program) {
    let address = "192.0.2.1:9000";
    let section = program.metrics_section;
    let ended = Place::new().fail(
        Setup::simple(program),
        &format!(
            "{section}.run_prometheus_endpoint = true\n\
             {section}.prometheus_endpoint_address = '{address}'"
        ),
    );
    assert_eq!(ended.code, Some(1));
    let reason = format!("cannot run the Prometheus endpoint at {address}");
    assert!(ended.log.contains(&reason), "{}", ended.log);
}

/// Threads take their names when they have begun, which may be a moment after the start.
#[track_caller]
fn wait_for_threads(daemon: &Daemon, prefix: &str, count: usize) {
    until_ok(|| match daemon.count_threads(prefix) {
        found if found == count => Ok(()),
        found => Err(format!("{found} threads are called {prefix}, not {count}")),
    });
}

/// Seen by the names of threads.
pub fn workers_are_as_many_as_configured(program: &'static Program) {
    on_every_setup(program, |setup| {
        let daemon = setup.start("");
        wait_for_threads(&daemon, "socket-", setup.socket_workers);
        wait_for_threads(&daemon, "swarm-", setup.swarm_workers);
    });
}

/// 0 is not none.
pub fn no_socket_workers_means_one_per_cpu(program: &'static Program) {
    let cpus = std::thread::available_parallelism().unwrap().get();
    for swarm_workers in [0, 1] {
        let setup = Setup {
            socket_workers: 0,
            swarm_workers,
            ..Setup::simple(program)
        };
        let daemon = setup.start("");
        wait_for_threads(&daemon, "socket-", cpus);
        for family in IpFamily::ALL {
            let mut client = program.client_of(&daemon, family);
            client.join(torrent(1), 1).unwrap();
        }
    }
}
