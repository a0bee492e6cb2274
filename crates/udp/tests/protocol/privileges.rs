//! Giving up the rights of root. Needs them; without, this passes without a test.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use aquatic_types::IpFamily;
use nix::unistd::{Group, User, geteuid};

use super::client::{Client, announce_bytes, row, torrent, torrents};
use super::daemon::{Place, until};
use super::setup::{Setup, on_every_setup};

fn is_root() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        eprintln!("skipped: needs root");
    }
    is_root
}

#[test]
#[cfg(target_os = "linux")]
fn it_serves_as_nobody_inside_another_root() {
    if !is_root() {
        return;
    }
    let user = User::from_name("nobody").unwrap().unwrap().uid.to_string();
    let group = Group::from_name("nogroup")
        .unwrap()
        .unwrap()
        .gid
        .to_string();
    on_every_setup(|setup| {
        let place = Place::new();
        let root = place.path("root");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, Permissions::from_mode(0o777)).unwrap();
        // Must not be taken: it is outside.
        place.write("list", &torrent(0).to_string());
        place.write("root/list", &torrent(1).to_string());
        let daemon = place.start(
            setup,
            "privileges.drop_privileges = true\nprivileges.chroot_path = './root'\n\
             access_list.mode = 'deny'\naccess_list.path = '/list'\n\
             statistics.interval = 1\nstatistics.write_html_to_file = true\n\
             statistics.html_file_path = 'tmp/page.html'\n\
             scrape_exports.enable_scrape_exports = true\nscrape_exports.frequency = 1\n\
             scrape_exports.path = '/export.txt'",
        );
        let root = root.canonicalize().unwrap();
        assert_eq!(fs::read_link(daemon.proc("root")).unwrap(), root);
        assert_eq!(fs::read_link(daemon.proc("cwd")).unwrap(), root);
        for thread in daemon.threads() {
            let status = fs::read_to_string(thread.join("status")).unwrap();
            for (name, id) in [("Uid:", &user), ("Gid:", &group)] {
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

        for family in IpFamily::ALL {
            let mut client = Client::new(&daemon, family);
            for info_hash in torrents().filter(|info_hash| *info_hash != torrent(1)) {
                client.join(info_hash, 1, 1);
            }
            client.refusal(&announce_bytes(&client.peer(torrent(1), 1, 1)));
        }
        // What is opened later is inside.
        fs::write(root.join("list"), "").unwrap();
        daemon.reload();
        let mut client = Client::new(&daemon, IpFamily::V4);
        client.join(torrent(1), 1, 1);
        assert_eq!(client.scrape(&[torrent(1)]), [row(0, 0, 1)]);
        let page = root.join("tmp/page.html");
        until("a page has been written", || page.exists().then_some(()));
        let export = root.join("export.txt");
        until("all torrents have been exported", || {
            let lines = fs::read_to_string(&export).ok()?.lines().count();
            (lines == 2 * torrents().count() - 1).then_some(())
        });
    });
}

#[test]
fn without_root_it_is_refused() {
    let place = Place::new();
    let settings = "privileges.drop_privileges = true";
    let mut command = place.command(Setup::SIMPLE, settings);
    if geteuid().is_root() {
        use std::os::unix::process::CommandExt;
        let nobody = User::from_name("nobody").unwrap().unwrap();
        command.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
    }
    let ended = place.end(command.spawn().unwrap());
    assert_eq!(ended.code, Some(1));
    let reason = "cannot drop privileges: not started as root";
    assert!(ended.log.contains(reason), "{}", ended.log);
}
