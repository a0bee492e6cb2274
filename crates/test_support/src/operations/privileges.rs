//! Giving up the rights of root. Needs them; without, the first test passes without testing.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use aquatic_types::IpFamily;
use nix::unistd::{Group, User, geteuid};

use crate::setup::on_every_setup;
use crate::{Daemon, Place, Program, Setup, metrics, torrent, torrents};

/// Settings for a tracker that moves to the folder `root` of its place and becomes nobody.
pub const CONFINED: &str = "privileges.drop_privileges = true\nprivileges.chroot_path = './root'\n";

/// Whether this test can be made. Says so if not.
#[must_use]
pub fn is_root() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: needs root");
    }
    is_root
}

/// Makes the folder for [`CONFINED`].
#[must_use]
pub fn make_root(place: &Place) -> PathBuf {
    let root = place.path("root");
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, Permissions::from_mode(0o777)).unwrap();
    root.canonicalize().unwrap()
}

/// Every thread is nobody's, and they all see the new root.
fn assert_confined(daemon: &Daemon) {
    let root = daemon.place.path("root").canonicalize().unwrap();
    assert_eq!(fs::read_link(daemon.proc("root")).unwrap(), root);
    assert_eq!(fs::read_link(daemon.proc("cwd")).unwrap(), root);
    let user = User::from_name("nobody").unwrap().unwrap().uid;
    let group = Group::from_name("nogroup").unwrap().unwrap().gid;
    for thread in daemon.threads() {
        let status = fs::read_to_string(thread.join("status")).unwrap();
        for (name, id) in [("Uid:", user.to_string()), ("Gid:", group.to_string())] {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            assert!(
                line.split_whitespace().all(|found| found == id),
                "{name} {line}"
            );
        }
    }
}

/// `drop_privileges`, with a list that is read inside, at start and again.
pub fn it_serves_as_nobody_inside_another_root(program: &'static Program) {
    if !is_root() {
        return;
    }
    on_every_setup(program, |setup| {
        let place = Place::new();
        let root = make_root(&place);
        // Must not be taken: it is outside.
        place.write("list", torrent(0).to_string());
        place.write("root/list", torrent(1).to_string());
        let served = place.metrics_settings(program);
        let daemon = place.start(
            setup,
            &format!("{served}{CONFINED}access_list.mode = 'deny'\naccess_list.path = '/list'"),
        );
        assert_confined(&daemon);
        for family in IpFamily::ALL {
            let mut client = program.client_of(&daemon, family);
            for info_hash in torrents() {
                let is_denied = info_hash == torrent(1);
                assert_eq!(client.join(info_hash, 1).is_err(), is_denied);
            }
        }
        // What is opened later is inside, too.
        fs::write(root.join("list"), "").unwrap();
        daemon.reload();
        let mut client = program.client_of(&daemon, IpFamily::V4);
        assert_eq!(client.join(torrent(1), 1), Ok(1));
        let samples = metrics::scrape(&daemon);
        assert!(metrics::sum(&samples, "process_resident_memory_bytes") > 0.0);
        let folders = daemon.files().into_iter().filter(|file| file.is_dir());
        assert_eq!(folders.count(), 0, "a folder outside would be a way out");
    });
}

/// Better no tracker than one with more rights than its operator believes.
pub fn without_root_it_is_refused(program: &'static Program) {
    let place = Place::new();
    let settings = "privileges.drop_privileges = true";
    let mut command = place.command_for_anyone(Setup::simple(program), settings);
    if geteuid().is_root() {
        let nobody = User::from_name("nobody").unwrap().unwrap();
        command.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
    }
    let ended = place.end(command.spawn().unwrap());
    assert_eq!(ended.code, Some(1));
    let reason = "cannot drop privileges: not started as root";
    assert!(ended.log.contains(reason), "{}", ended.log);
}
