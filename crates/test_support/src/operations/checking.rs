//! `--check-config`: what is wrong with a file and with what it names, and what is hardly meant.

use aquatic_config::family;
use aquatic_types::IpFamily;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::DENY_LIST;
use super::configuration::{EXPORT_KEYS, LIMIT_KEYS, METRICS_KEYS, SYSTEM_KEYS, WORKER_KEYS};
use crate::identity::{Identity, TLS};
use crate::{Ended, Place, Program, Setup, torrent};

/// Checks a file of these lines: how that ends, and the path of the file.
pub fn check(place: &Place, program: &Program, text: &str) -> (Ended, String) {
    let file = place.write("config.toml", text);
    let file = file.to_str().unwrap();
    let ended = place.run(program, &["-c", file, "--check-config"]);
    (ended, file.to_owned())
}

/// The file cannot be used for these reasons, and no others. There may be advice, too.
#[track_caller]
pub fn assert_problems(place: &Place, program: &Program, text: &str, problems: &[&str]) {
    let (ended, file) = check(place, program, text);
    let name = program.name;
    let mut expected = format!("{name} ends: cannot use the configuration file {file}:\n");
    for problem in problems {
        expected += &format!("  {problem}\n");
    }
    // The places are in these tests' own folders.
    if problems
        .iter()
        .any(|problem| problem.contains("No such file") && !problem.contains(" /"))
    {
        let folder = place.path("config.toml").with_file_name("");
        let folder = folder.to_str().unwrap().trim_end_matches('/');
        expected += &format!("  (paths that do not begin with / begin at {folder})\n");
    }
    let start = format!("{name} ends: ");
    let found = ended.log.find(&start).map(|start| &ended.log[start..]);
    // What was not looked at is said last, and is no problem.
    let note = format!("{file}: not looked at: ");
    let found = found.map(|found| found.split(&note).next().unwrap_or_default());
    assert_eq!((ended.code, found), (Some(1), Some(&*expected)), "{text}");
}

/// The file can be used, and these things are said about it, and no others.
#[track_caller]
pub fn assert_advice(place: &Place, program: &Program, text: &str, advice: &[&str]) {
    let (ended, file) = check(place, program, text);
    let line = |advice: &&str| format!("{file}: {advice}\n");
    let expected: String = advice.iter().map(line).collect();
    assert_eq!((ended.code, ended.log), (Some(0), expected), "{text}");
    assert_eq!(ended.stdout, format!("{file}: OK\n"));
}

/// There is nothing to say about them.
pub fn without_a_file_the_defaults_are_checked(program: &'static Program) {
    let ended = Place::new().run(program, &["--check-config"]);
    assert_eq!((ended.code, ended.log.as_str()), (Some(0), ""));
    assert_eq!(ended.stdout, "the default configuration: OK\n");
}

/// An access list, and user and group.
pub fn what_the_file_names_is_opened(program: &'static Program) {
    let place = Place::new();
    let text = DENY_LIST;
    assert_problems(
        &place,
        program,
        text,
        &[
            "line 2, column 13: `access_list.path`: cannot open the access list list: No such \
           file or directory (os error 2)",
        ],
    );
    place.write("list", format!("{}\n12345\n", torrent(1)));
    assert_problems(
        &place,
        program,
        text,
        &[
            "line 2, column 13: `access_list.path`: cannot use the access list list: line 2: an \
           info hash has 40 hexadecimal digits, this has 5 bytes",
        ],
    );
    place.write("list", format!("\u{feff}{}  - a name \r\n", torrent(1)));
    assert_advice(&place, program, text, &[]);

    assert_problems(
        &place,
        program,
        "[privileges]\ndrop_privileges = true\nuser = 'nobody-at-all'\ngroup = 'none-at-all'\n\
         chroot_path = '/nowhere'",
        &[
            "line 3, column 1: `privileges.user`: there is no user nobody-at-all (see \
             privileges.user)",
            "line 4, column 1: `privileges.group`: there is no group none-at-all (see \
             privileges.group)",
            "line 5, column 1: `privileges.chroot_path`: cannot look at the folder /nowhere: No \
             such file or directory (os error 2)",
        ],
    );
}

/// A pipe would be waited for, perhaps for ever.
pub fn a_pipe_is_not_opened(program: &'static Program) {
    let place = Place::new();
    let mut text = "access_list.mode = 'deny'\naccess_list.path = 'pipe'\n".to_owned();
    let mut keys = vec!["access_list.path"];
    if program.has_tls {
        text += "network.enable_tls = true\nnetwork.tls_certificate_path = 'pipe'\n\
                 network.tls_private_key_path = 'pipe'\n";
        keys.extend([
            "network.tls_certificate_path",
            "network.tls_private_key_path",
        ]);
    }
    mkfifo(&place.path("pipe"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let (ended, file) = check(&place, program, &text);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let mut told: Vec<_> = ended.log.lines().collect();
    let mut expected: Vec<_> = keys
        .iter()
        .map(|key| format!("{file}: not looked at: `{key}`: pipe is a pipe or a device"))
        .collect();
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected);
}

/// Certificate and key, of a daemon over TCP.
pub fn certificate_and_key_are_opened(program: &'static Program) {
    let place = Place::new();
    let missing = "No such file or directory (os error 2)";
    let (certificate_missing, key_missing) = (
        format!(
            "line 2, column 9: `network.tls_certificate_path`: cannot read certificate: {missing}"
        ),
        format!("line 3, column 9: `network.tls_private_key_path`: cannot read key: {missing}"),
    );
    assert_problems(&place, program, TLS, &[&certificate_missing, &key_missing]);

    Identity::new().write(&place);
    assert_advice(&place, program, TLS, &[]);
    let key = place.read("key");
    Identity::new().write(&place);
    place.write("key", &key);
    assert_problems(
        &place,
        program,
        TLS,
        &[
            "line 3, column 9: `network.tls_private_key_path`: the private key in key does not \
             belong to the certificate in certificate",
        ],
    );
    place.write("certificate", "");
    assert_problems(
        &place,
        program,
        TLS,
        &[
            "line 2, column 9: `network.tls_certificate_path`: no usable certificate in \
             certificate: the file is empty",
        ],
    );

    Identity::until(2002).write(&place);
    assert_advice(
        &place,
        program,
        TLS,
        &["line 2: `network.tls_certificate_path`: has expired: clients refuse it"],
    );
    let daemon = place.start(Setup::simple(program), TLS);
    let log = daemon.place.log();
    let warning = "the TLS certificate has expired: clients refuse it";
    let is_warning = |line: &str| line.contains("WARN") && line.ends_with(warning);
    assert!(log.lines().any(is_warning), "{log}");
}

/// More connections than files, at a daemon over TCP.
pub fn a_machine_that_grants_less_is_told_of(program: &'static Program) {
    let (ended, file) = check(
        &Place::new(),
        program,
        "network.max_connections = 4294967295",
    );
    assert_eq!(ended.code, Some(0));
    let told = format!(
        "{file}: line 1: `network.max_connections`: is 4294967295, but the limit on open files \
         leaves room for "
    );
    assert!(ended.log.starts_with(&told), "{}", ended.log);
}

/// Values that do not fit, and files that do not exist.
pub fn all_problems_are_reported(program: &'static Program) {
    let bound = match program.name {
        "aquatic_udp" => "less than 1000: it is added to the time of an answer",
        _ => "at most 10000",
    };
    assert_problems(
        &Place::new(),
        program,
        "access_list.mode = 'allow'\naccess_list.path = 'list'\nnetwork.batch_wait_us = 100_000",
        &[
            "line 2, column 13: `access_list.path`: cannot open the access list list: No such \
             file or directory (os error 2)",
            &format!("line 3, column 9: `network.batch_wait_us`: must be {bound}"),
        ],
    );
}

/// What is written would be the end of what is there for something else.
pub fn files_with_two_purposes_are_refused(program: &'static Program) {
    let section = program.metrics_section;
    let endpoint = format!("{section}.run_prometheus_endpoint = true\n");
    let swarms = match program.name {
        // Its peers are gone with their connections.
        "aquatic_ws" => "persistence.completed_counts = true\npersistence.path = './a'\n",
        _ => "persistence.swarms = true\npersistence.path = './a'\n",
    };
    let page = format!("{section}.write_html_to_file = true\n{section}.html_file_path = './a'\n");
    let exports =
        "scrape_exports.enable_scrape_exports = true\nscrape_exports.path = './a'\n".to_owned();
    let page_key = format!("{section}.html_file_path");
    let writers = [
        ("persistence.path", swarms.to_owned()),
        (&*page_key, page.clone()),
        ("scrape_exports.path", exports.clone()),
    ];
    let token = format!("{section}.endpoint_token_file");
    let socket = format!("{section}.endpoint_unix_socket");
    let others = [
        ("access_list.path", "access_list.mode = 'deny'\n"),
        ("access_list.networks_deny_path", ""),
        ("keys.path", "keys.mode = 'require'\n"),
        (&*token, &*endpoint),
        (&*socket, ""),
    ];
    let place = Place::new();
    let assert_told = |settings: &str, written: &str, other: &str| {
        let (ended, _) = check(&place, program, settings);
        assert_eq!(ended.code, Some(1), "{settings}: {}", ended.log);
        let told = format!("`{written}`: is also `{other}`: choose another file");
        assert_eq!(
            ended.log.matches(&told).count(),
            1,
            "{settings}: {}",
            ended.log
        );
    };
    for (written, settings) in &writers {
        for (other, more) in others {
            let settings = format!("{settings}{more}{other} = 'a'\n");
            assert_told(&settings, written, other);
        }
    }
    assert_told(
        &format!("{page}{exports}"),
        "scrape_exports.path",
        &page_key,
    );
}

/// Exit code 0, and a warning in the log.
pub fn what_is_hardly_meant_is_told_at_a_check_and_at_the_start(program: &'static Program) {
    let place = Place::new();
    let section = program.metrics_section;
    let settings = format!(
        "access_list.path = 'list'\nprivileges.user = 'me'\n\
         {section}.run_prometheus_endpoint = true\n\
         {section}.prometheus_endpoint_address = '0.0.0.0:{}'\n\
         protocol.peer_announce_interval = 1000\ncleaning.max_peer_age = 1010\n\
         cleaning.torrent_cleaning_interval = 1011\n",
        place.metrics_address().port()
    );
    let endpoint = format!(
        "line 4: `{section}.prometheus_endpoint_address`: can be reached by strangers, unless a \
         firewall keeps them away"
    );
    let mut advice = vec![
        "line 1: `access_list.path`: is not used, because `access_list.mode` is off: all torrents \
         are served",
        "line 2: `privileges.user`: is not used, because `privileges.drop_privileges` is false",
        &endpoint,
        "line 6: `cleaning.max_peer_age`: is only 10 s more than \
         `protocol.peer_announce_interval`: clients that are a little late are forgotten meanwhile",
        "line 7: `cleaning.torrent_cleaning_interval`: is more than `cleaning.max_peer_age`: peers \
         that are gone stay in memory for long",
    ];
    if program.name == "aquatic_ws" {
        // Its peers live as long as their connections.
        advice.truncate(3);
    }
    assert_advice(&place, program, &settings, &advice);

    let daemon = place.start(Setup::simple(program), &settings);
    let log = daemon.place.log();
    for told in advice {
        let is_warning = |line: &str| line.contains("WARN") && line.ends_with(told);
        assert!(log.lines().any(is_warning), "no {told} in\n{log}");
    }
    let mut client = program.client_of(&daemon, IpFamily::V4);
    assert_eq!(client.join(torrent(1), 1), Ok(1));
}

/// Empty files, which are valid, but hardly meant.
pub fn lists_that_let_nobody_in_are_told_of(program: &'static Program) {
    let place = Place::new();
    place.write("list", "# nothing yet\n");
    let settings = "access_list.mode = 'allow'\naccess_list.path = 'list'\n\
                    keys.mode = 'require'\nkeys.path = 'list'\n";
    assert_advice(
        &place,
        program,
        settings,
        &[
            "line 2: `access_list.path`: names no torrent, so that none is served \
             (`access_list.mode` is allow)",
            "line 4: `keys.path`: has no key, so that nobody is served (`keys.mode` is require)",
        ],
    );
    let daemon = place.start(Setup::simple(program), settings);
    let log = daemon.place.log();
    for told in [
        "the access list list names no torrent, so that none is served",
        "the file of keys list has no key, so that nobody is served",
    ] {
        let is_warning = |line: &str| line.contains("WARN") && line.ends_with(told);
        assert!(log.lines().any(is_warning), "no {told} in\n{log}");
    }
}

/// Word for word.
pub fn mistakes_are_answered_with_what_to_write(program: &'static Program) {
    let place = Place::new();
    let section = program.metrics_section;
    let address = format!(
        "line 2, column 31: `{section}.prometheus_endpoint_address`: \"9000\" is not an IP address \
         with a port: write for example \"127.0.0.1:9000\""
    );
    let address_file = format!("[{section}]\nprometheus_endpoint_address = \"9000\"");
    for (text, problem) in [
        (
            "[network]\naddress = 0.0.0.0:3000",
            "line 2, column 14: this is not TOML: invalid float, expected nothing, in `address = \
             0.0.0.0:3000`; put it in quotes: `address = \"0.0.0.0:3000\"`",
        ),
        (&address_file, &address),
        (
            "[cleaning]\nmax_peer_age = \"20m\"",
            "line 2, column 16: `cleaning.max_peer_age`: invalid type: string \"20m\", expected a \
             whole number from 0 to 4294967295; write 1200: it is a number of seconds",
        ),
        (
            "log_level: info",
            "line 1, column 12: this is not TOML: key with no value, expected `=`, in `log_level: \
             info`; write = between a key and its value: `log_level = \"info\"`",
        ),
    ] {
        assert_problems(&place, program, text, &[problem]);
    }
    for level in ["INFO", "Warn"] {
        assert_advice(&place, program, &format!("log_level = \"{level}\""), &[]);
    }
}

/// So that a complaint about a key of one program in the file of another says whose it is.
pub fn keys_of_other_programs_are_listed(program: &'static Program) {
    const COMMON: [&str; 10] = [
        "network.address",
        "network.only_ipv6",
        "network.batch_wait_us",
        "protocol.max_scrape_torrents",
        "protocol.peer_announce_interval",
        "protocol.announce_interval_spread",
        "protocol.announce_interval_max",
        "limits.max_peers_per_ip_and_torrent",
        "cleaning.torrent_cleaning_interval",
        "cleaning.max_peer_age",
    ];
    let in_metrics = |key: &str| match key.strip_prefix("statistics.") {
        Some(key) => format!("metrics.{key}"),
        None => key.to_owned(),
    };
    let keys: Vec<_> = program.keys.concat().into_iter().map(in_metrics).collect();
    let groups = [
        &WORKER_KEYS[..],
        &LIMIT_KEYS,
        &METRICS_KEYS,
        &EXPORT_KEYS,
        &SYSTEM_KEYS,
        &COMMON,
    ];
    for key in &keys {
        let is_common = groups.iter().any(|group| group.contains(&key.as_str()));
        let entry = family::KEYS.iter().find(|(listed, _)| listed == key);
        let is_listed = entry.is_some_and(|(_, programs)| programs.contains(&program.name));
        assert!(
            is_common != is_listed,
            "`{key}` must be in aquatic_config::family::KEYS, with {}, unless all have it",
            program.name
        );
    }
    for (key, programs) in family::KEYS {
        let is_key = keys.iter().any(|own| own == key);
        assert_eq!(is_key, programs.contains(&program.name), "{key}");
    }
}
