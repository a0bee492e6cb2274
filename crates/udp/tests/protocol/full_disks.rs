//! Files that are replaced as a whole, where there is no room for them, or something in their way.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;

use aquatic_test_support::operations::privileges::is_root;
use aquatic_test_support::wait::until;
use aquatic_test_support::{Place, torrent};
use aquatic_types::IpFamily;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::client::Client;
use super::setup::SIMPLE;

const NOTHING: Option<&str> = None;

/// Written each second, to a small disk.
const SETTINGS: &str = "statistics.interval = 1
statistics.write_html_to_file = true
statistics.html_file_path = 'small/page.html'
scrape_exports.enable_scrape_exports = true
scrape_exports.frequency = 1
scrape_exports.path = 'small/export'
persistence.swarms = true
persistence.interval = 1
persistence.path = 'small/swarms'
";

/// What is written there.
const FILES: [&str; 3] = ["export", "page.html", "swarms"];

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

/// In a thread that sees a disk of four pages there.
fn with_small_disk(place: Place, test: impl FnOnce(Place) + Send) {
    let with_disk = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(NOTHING, "/", NOTHING, private, NOTHING).unwrap();
        let small = place.path("small");
        fs::create_dir(&small).unwrap();
        mount(
            Some("none"),
            &small,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=16k"),
        )
        .unwrap();
        test(place);
        umount2(&small, MntFlags::MNT_DETACH).unwrap();
    };
    thread::scope(|scope| scope.spawn(with_disk).join()).unwrap();
}

#[test]
fn no_parts_stay_behind_on_a_full_disk() {
    if !is_root() {
        return;
    }
    with_small_disk(Place::new(), |place| {
        let small = place.path("small");
        let filling = small.join("filling");
        fs::write(&filling, [b'x'; 16 << 10]).unwrap();
        let daemon = place.start(SIMPLE, SETTINGS);
        Client::new(&daemon, IpFamily::V4).join(torrent(1), 1, 1);
        for file in FILES {
            let reason = format!("cannot write to small/{file}.partial: No space left on device");
            daemon.wait_for_log(&reason);
        }
        until("nothing is left", || {
            (names(&small) == ["filling"]).then_some(())
        });
        fs::remove_file(&filling).unwrap();
        until("the export", || {
            let export = fs::read_to_string(small.join("export")).ok()?;
            export.contains(&torrent(1).to_string()).then_some(())
        });
        daemon.wait_for_log("wrote 1 peers");
    });
}

/// Somebody who may write to the folder lays a trap for the tracker, which may write elsewhere.
#[test]
fn links_in_the_place_of_parts_are_not_followed() {
    let place = Place::new();
    fs::create_dir(place.path("small")).unwrap();
    let precious = place.write("precious", "keep me");
    for file in FILES {
        symlink(&precious, place.path(&format!("small/{file}.partial"))).unwrap();
    }
    let daemon = place.start(SIMPLE, SETTINGS);
    until("all files", || {
        (names(&daemon.place.path("small")) == FILES).then_some(())
    });
    assert_eq!(daemon.place.read("precious"), "keep me");
}
