//! Files of swarms where an accident has happened: something else is at the path, or nobody may
//! read it. The tracker serves all the same, and destroys nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::checking::check;
use super::privileges::{CONFINED, is_root, make_root};
use super::restarts::{fill, leechers, settings, stop, unusable};
use crate::wait::until;
use crate::{Daemon, Place, Program, Setup};

const NOT_RESTORED: &str = "swarms are not restored from";
const NOT_WRITTEN: &str = "the swarms could not be written: ";

/// A tracker serves, and says at the end why it could not write.
fn assert_not_written(program: &Program, daemon: &mut Daemon, reason: &str) {
    fill(program, daemon);
    stop(daemon);
    let log = daemon.place.log();
    let line = log.lines().find(|line| line.contains(NOT_WRITTEN));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains(reason), "{line}");
}

/// An operator has named the folder instead of the file, or a pipe, or a device: none of these is
/// renamed, removed or written to, and the check of the configuration tells it before.
pub fn what_is_no_regular_file_stays_as_it_is(program: &'static Program) {
    let setup = Setup::simple(program);
    for name in ["folder", "pipe", "device"] {
        let place = Place::new();
        let file = place.path("swarms");
        match name {
            "folder" => {
                fs::create_dir(&file).unwrap();
                fs::write(file.join("precious"), "keep me").unwrap();
            }
            "pipe" => mkfifo(&file, Mode::S_IRUSR).unwrap(),
            _ => symlink("/dev/null", &file).unwrap(),
        }
        let kind = fs::symlink_metadata(&file).unwrap().file_type();
        let settings = settings(&file, "");
        let (ended, _) = check(&place, program, &settings);
        assert_eq!(ended.code, Some(1), "{name}");
        let reason = match name {
            "folder" => "is a folder",
            _ => "it is not a regular file",
        };
        let problems = ended.log.matches("`persistence.path`").count();
        assert_eq!(problems, 1, "{}", ended.log);
        assert!(ended.log.contains(reason), "{}", ended.log);

        let mut daemon = place.start(setup, &settings);
        let line = daemon.wait_for_log(NOT_RESTORED);
        assert!(line.contains("it is not a regular file"), "{line}");
        assert_not_written(program, &mut daemon, "is not a regular file");
        assert_eq!(fs::symlink_metadata(&file).unwrap().file_type(), kind);
        if name == "folder" {
            let kept = fs::read_to_string(file.join("precious")).unwrap();
            assert_eq!(kept, "keep me");
        }
    }
}

/// Whoever was root at the last start has written it, perhaps. It may hold all swarms: the tracker
/// reads them when it may.
pub fn a_file_that_cannot_be_opened_stays_as_it_is(program: &'static Program) {
    if !is_root() {
        return;
    }
    let setup = Setup::simple(program);
    let before = {
        let place = Place::new();
        let file = place.path("swarms");
        let mut daemon = place.start(setup, &settings(&file, ""));
        fill(program, &daemon);
        let expected = leechers(program, &daemon);
        stop(&mut daemon);
        (fs::read(&file).unwrap(), expected)
    };
    let place = Place::new();
    let root = make_root(&place);
    let file = root.join("swarms");
    fs::write(&file, &before.0).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let settings = settings(Path::new("/swarms"), CONFINED);
    let (ended, _) = check(&place, program, &settings);
    assert_eq!(ended.code, Some(1));
    let reason = "cannot use /swarms: cannot open it: Permission denied";
    assert!(ended.log.contains(reason), "{}", ended.log);

    let mut daemon = place.start(setup, &settings);
    let line = daemon.wait_for_log(NOT_RESTORED);
    assert!(line.contains("Permission denied"), "{line}");
    assert_not_written(program, &mut daemon, "could not be read at the start");
    assert_eq!(fs::read(&file).unwrap(), before.0);
    assert!(!root.join("swarms.unusable").exists());

    let place = Place::new();
    let root = make_root(&place);
    let file = root.join("swarms");
    fs::write(&file, &before.0).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let daemon = place.start(setup, &settings);
    assert_eq!(leechers(program, &daemon), before.1);
}

/// A broken file that cannot be set aside is not replaced either.
pub fn a_file_that_cannot_be_set_aside_stays_as_it_is(program: &'static Program) {
    let place = Place::new();
    let file = place.write("swarms.aqs", "no swarms");
    fs::create_dir_all(unusable(&file).join("in the way")).unwrap();
    let mut daemon = place.start(Setup::simple(program), &settings(&file, ""));
    daemon.wait_for_log("the file could not be renamed to");
    assert_not_written(program, &mut daemon, "could not be read at the start");
    assert_eq!(fs::read_to_string(&file).unwrap(), "no swarms");
}

/// As long as it is in the way, nothing is written. When an operator has moved it away, the next
/// snapshot is.
pub fn what_is_moved_away_is_in_nobodys_way(program: &'static Program) {
    let place = Place::new();
    let file = place.path("swarms");
    fs::create_dir(&file).unwrap();
    let settings = settings(&file, "persistence.interval = 1");
    let daemon = place.start(Setup::simple(program), &settings);
    daemon.wait_for_log(NOT_WRITTEN);
    fs::rename(&file, daemon.place.path("elsewhere")).unwrap();
    daemon.wait_for_log("wrote 0 peers");
}

/// Where nothing can be created, the tracker serves all the same.
#[cfg(target_os = "linux")]
pub fn a_folder_that_cannot_be_written_to_costs_the_snapshots_only(program: &'static Program) {
    let path = Path::new("/proc/self/swarms");
    let mut daemon = Setup::simple(program).start(&settings(path, ""));
    assert_not_written(
        program,
        &mut daemon,
        "cannot create /proc/self/swarms.partial",
    );
}

/// Each of two trackers of one file replaces what the other has written. They say so.
pub fn two_trackers_of_one_file_are_told(program: &'static Program) {
    let setup = Setup::simple(program);
    let place = Place::new();
    let file = place.path("swarms");
    let settings = settings(&file, "persistence.interval = 1");
    let one = place.start(setup, &settings);
    one.wait_for_log("wrote 0 peers");
    let other = setup.start(&settings);
    let reason = "another program ";
    until("a warning", || {
        let logs = [&one, &other].map(|daemon| daemon.place.log());
        logs.iter().any(|log| log.contains(reason)).then_some(())
    });
}
