//! The configuration file in older spellings.

use aquatic_daemon_tests::operations::configuration::keys;
use aquatic_daemon_tests::{Place, torrent};
use aquatic_types::IpFamily;

use super::client::{Client, row};
use super::setup::{KEYS, SIMPLE, UDP};

#[test]
fn old_spellings_load_with_a_warning_that_names_the_new_ones() {
    let place = Place::new();
    let port = place.port();
    let old = format!(
        "socket_workers = 1\nlog_level = 'warn'\n\
         [network]\naddress_ipv4 = '127.0.0.1:{port}'\nuse_ipv6 = false\nonly_ipv6 = true\n\
         use_io_uring = false\n\
         [metrics]\ninterval = 1\n"
    );
    let news = [
        format!("write `network.address = [\"127.0.0.1:{port}\"]`"),
        "write `network.backend = \"mio\"`".to_owned(),
        "`metrics` is now called `statistics`".to_owned(),
        "`network.only_ipv6` is ignored".to_owned(),
    ];
    let file = place.write("old.toml", &old);
    let file = file.to_str().unwrap();
    for flag in ["-P", "--check-config"] {
        let ended = place.run(&UDP, &["-c", file, flag]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        for new in &news {
            assert!(ended.log.contains(new), "no {new} in\n{}", ended.log);
        }
    }
    let parsed = place.run(&UDP, &["-c", file, "-P"]).stdout;
    assert_eq!(keys(&parsed), KEYS);
    for line in [
        "backend = \"mio\"",
        "interval = 1",
        &format!("address = [\"127.0.0.1:{port}\"]"),
    ] {
        assert!(
            parsed.lines().any(|found| found == line),
            "no {line} in\n{parsed}"
        );
    }

    // And it runs.
    let mut command = place.command(SIMPLE, "");
    place.write("config.toml", &old);
    let daemon = place.wait_for(command.spawn().unwrap());
    let log = daemon.place.log();
    for new in &news {
        let line = log.lines().find(|line| line.contains(new)).unwrap();
        assert!(
            line.contains("WARN") && line.contains("config.toml: line "),
            "{line}"
        );
    }
    let mut client = Client::new(&daemon, IpFamily::V4);
    client.join(torrent(1), 1, 1);
    assert_eq!(client.scrape(&[torrent(1)]), [row(0, 0, 1)]);
}
