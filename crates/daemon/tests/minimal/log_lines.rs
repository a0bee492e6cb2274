//! The form of log lines.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use crate::process::Setup;

#[test]
fn lines_tell_time_level_thread_and_module() {
    let setup = Setup::new();
    let _daemon = setup.start("");
    let log = setup.log();
    let line = log
        .lines()
        .find(|line| line.ends_with("ready"))
        .expect(&log);
    let words: Vec<_> = line.split_whitespace().collect();
    let [
        time,
        "INFO",
        "[loader]",
        "aquatic_daemon::supervisor:",
        "ready",
    ] = words[..]
    else {
        panic!("{line}")
    };
    assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
}

#[test]
fn a_level_hides_what_is_below_it() {
    let setup = Setup::new();
    let _daemon = setup.start("log_level = 'warn'");
    assert_eq!(setup.log(), "");
}

#[test]
fn the_journal_gets_priorities_instead_of_times() {
    let setup = Setup::new();
    let mut command = setup.command("");
    let log = File::options()
        .append(true)
        .open(setup.path("log"))
        .unwrap();
    let metadata = log.metadata().unwrap();
    let journal = format!("{}:{}", metadata.dev(), metadata.ino());
    let mut daemon = setup.start_command(command.env("JOURNAL_STREAM", journal).stderr(log));
    daemon.send(b"panic");
    assert!(!daemon.wait().success());
    let log = setup.log();
    // The message of a panic has two lines.
    assert!(
        log.contains("<3>[socket-1] aquatic_daemon::logging: as requested\n"),
        "{log}"
    );
    assert!(
        log.contains("<6>[loader] aquatic_daemon::supervisor: ready\n"),
        "{log}"
    );
}

#[test]
fn the_journal_of_another_process_is_not_taken_for_ours() {
    let setup = Setup::new();
    let _daemon = setup.start_command(setup.command("").env("JOURNAL_STREAM", "8:1"));
    assert!(!setup.log().contains("<6>"), "{}", setup.log());
}
