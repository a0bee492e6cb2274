//! The configuration file: printed, checked, and refused with a reason.

use aquatic_config::reloading::{self, Reloading};
use aquatic_types::IpFamily;

use crate::{Place, Program, Setup, torrent};

/// A file that is wrong, and words that the complaint must contain.
pub type Mistake = (&'static str, &'static [&'static str]);

/// A file in older spellings.
#[derive(Debug)]
pub struct OldFile {
    /// Its end. It begins with the section `network`.
    pub lines: &'static str,
    /// What the warnings must contain.
    pub warnings: &'static [&'static str],
    /// Lines of the file as it is written today.
    pub lines_today: &'static [&'static str],
}

/// Mistakes that can be made in every daemon's file.
const MISTAKES: [Mistake; 5] = [
    ("socket_wrokers = 1", &["line 1", "socket_wrokers"]),
    ("\n[network]\nadress = '127.0.0.1:1'", &["line 3", "adress"]),
    ("[netwrok]\naddress = '127.0.0.1:1'", &["line 1", "netwrok"]),
    ("socket_workers = 'many'", &["line 1", "socket_workers"]),
    ("this is not TOML", &["line 1"]),
];

/// What every daemon's file begins with.
pub const WORKER_KEYS: [&str; 4] = [
    "socket_workers",
    "swarm_workers",
    "log_level",
    "hang_timeout",
];

/// What the section `network` of daemons over TCP begins with.
pub const STREAM_KEYS: [&str; 17] = [
    "network.address",
    "network.only_ipv6",
    "network.runtime",
    "network.tcp_backlog",
    "network.max_connections",
    "network.max_connection_memory",
    "network.batch_wait_us",
    "network.handshake_timeout",
    "network.request_timeout",
    "network.enable_tls",
    "network.tls_certificate_path",
    "network.tls_private_key_path",
    "network.runs_behind_reverse_proxy",
    "network.reverse_proxy_ip_header_name",
    "network.reverse_proxy_ip_header_format",
    "network.proxy_protocol",
    "network.trusted_proxies",
];

/// What the section `limits` of every daemon begins with.
pub const LIMIT_KEYS: [&str; 5] = [
    "limits.max_torrents",
    "limits.max_peers",
    "limits.max_swarm_memory",
    "limits.max_peers_per_ip",
    "limits.requests_per_second_per_ip",
];

/// The section `metrics` of daemons over TCP.
pub const METRICS_KEYS: [&str; 12] = [
    "metrics.interval",
    "metrics.torrent_peer_histograms",
    "metrics.peer_clients",
    "metrics.run_prometheus_endpoint",
    "metrics.prometheus_endpoint_address",
    "metrics.endpoint_unix_socket",
    "metrics.endpoint_token_file",
    "metrics.endpoint_allowed_hosts",
    "metrics.prometheus_peer_id_prefixes",
    "metrics.print_to_stdout",
    "metrics.write_html_to_file",
    "metrics.html_file_path",
];

/// About the list of all torrents.
pub const EXPORT_KEYS: [&str; 3] = [
    "scrape_exports.enable_scrape_exports",
    "scrape_exports.frequency",
    "scrape_exports.path",
];

/// What every daemon's file ends with.
pub const SYSTEM_KEYS: [&str; 32] = [
    "persistence.completed_counts",
    "persistence.path",
    "persistence.interval",
    "cluster.servers",
    "cluster.name",
    "cluster.node",
    "cluster.credentials_file",
    "cluster.tls_ca_file",
    "cluster.tls_certificate_file",
    "cluster.tls_private_key_file",
    "cluster.require_tls",
    "cluster.flush_interval",
    "cluster.refresh_interval",
    "cluster.publish_buffer",
    "cluster.history",
    "cluster.start_complete_within",
    "cluster.access_list_bucket",
    "cluster.keys_bucket",
    "cluster.announces",
    "cluster.announces_buffer",
    "privileges.drop_privileges",
    "privileges.chroot_path",
    "privileges.group",
    "privileges.user",
    "privileges.sandbox",
    "access_list.mode",
    "access_list.path",
    "access_list.networks_deny_path",
    "access_list.peer_id_prefixes_deny",
    "access_list.peer_id_prefixes_allow",
    "keys.mode",
    "keys.path",
];

/// Mistakes that can be made in the file of a daemon over TCP.
pub const STREAM_MISTAKES: [Mistake; 10] = [
    ("network.runtime = 'tokio'", &["line 1", "runtime"]),
    (
        "network.address = '0.0.0.0:9000'\nmetrics.run_prometheus_endpoint = true",
        &[
            "`prometheus_endpoint_address` in [metrics] (not in the file, so \"127.0.0.1:9000\"): \
             is taken by `network.address`, 0.0.0.0:9000: choose another port",
        ],
    ),
    (
        "network.enable_tls = true",
        &["tls_certificate_path", "tls_private_key_path"],
    ),
    (
        "network.trusted_proxies = ['10.0.0.0/33']",
        &["line 1", "trusted_proxies", "10.0.0.0/33"],
    ),
    (
        "network.trusted_proxies = ['nowhere']",
        &["line 1", "trusted_proxies", "nowhere"],
    ),
    (
        "network.proxy_protocol = true\nnetwork.runs_behind_reverse_proxy = true",
        &["proxy_protocol", "runs_behind_reverse_proxy"],
    ),
    (
        "network.reverse_proxy_ip_header_name = 'two words'",
        &["reverse_proxy_ip_header_name"],
    ),
    (
        "network.reverse_proxy_ip_header_format = 'first_address'",
        &["reverse_proxy_ip_header_format", "last_address"],
    ),
    (
        "network.max_connection_memory = '512'",
        &["line 1", "max_connection_memory", "512 MiB"],
    ),
    (
        "limits.max_connections_per_ip = 1\nnetwork.runs_behind_reverse_proxy = true",
        &["max_connections_per_ip", "runs_behind_reverse_proxy"],
    ),
];

/// A line of a file that sets a key: the key with its section, and its value.
pub(super) struct Setting<'a> {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) value: &'a str,
}

pub(super) fn settings(file: &str) -> Vec<Setting<'_>> {
    let mut section = "";
    let mut settings = Vec::new();
    for (line, text) in file.lines().enumerate() {
        if let Some(name) = text.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((key, value)) = text.split_once(" = ").filter(|_| !text.starts_with('#'))
        {
            let key = match section {
                "" => key.to_owned(),
                _ => format!("{section}.{key}"),
            };
            settings.push(Setting { line, key, value });
        }
    }
    settings
}

/// The keys of a printed file, in order, each with its section.
fn keys(file: &str) -> Vec<String> {
    settings(file).into_iter().map(|it| it.key).collect()
}

/// What `-p` prints is [`Program::keys`], and a file that means the default.
pub fn the_printed_default_has_every_key_with_a_comment_and_loads(program: &'static Program) {
    let place = Place::new();
    let printed = place.run(program, &["-p"]);
    assert_eq!((printed.code, printed.log.as_str()), (Some(0), ""));
    assert_eq!(keys(&printed.stdout), program.keys.concat());
    let lines: Vec<_> = printed.stdout.lines().collect();
    for pair in lines.windows(2) {
        let is_key = !pair[1].starts_with('#') && pair[1].contains(" = ");
        assert!(
            !is_key || pair[0].starts_with('#'),
            "no comment above {}",
            pair[1]
        );
    }

    let file = place.write("default.toml", &printed.stdout);
    let file = file.to_str().unwrap();
    let parsed = place.run(program, &["-c", file, "-P"]);
    assert_eq!((parsed.code, parsed.log.as_str()), (Some(0), ""));
    assert_eq!(parsed.stdout, printed.stdout);
    let checked = place.run(program, &["-c", file, "--check-config"]);
    assert_eq!((checked.code, checked.log.as_str()), (Some(0), ""));
}

/// Whether each key is applied at a reload has been decided, and is in the manual.
pub fn every_key_says_what_a_reload_does(program: &'static Program) {
    let manual = include_str!("../../../../documents/operating.md");
    let (_, section) = manual.split_once("\n### What a reload applies\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    for key in program.keys.concat() {
        let decided = reloading::of(key).unwrap_or_else(|| panic!("{key}: not decided"));
        let name = key.replace("statistics.", "metrics.");
        let rows = section.lines().filter(|line| line.starts_with('|'));
        let is_told = rows
            .filter(|row| row.contains(&format!("`{name}`")))
            .count();
        let expected = usize::from(decided != Reloading::NeedsRestart);
        assert_eq!(is_told, expected, "{name} in the table");
    }
}

/// Common ones, and [`Program::mistakes`]: by file, line and key, whatever was asked for.
pub fn mistakes_are_named(program: &'static Program) {
    let place = Place::new();
    for (text, complaints) in MISTAKES
        .iter()
        .chain(program.mistakes.iter().copied().flatten())
    {
        let file = place.write("wrong.toml", text);
        let file = file.to_str().unwrap();
        for arguments in [
            &["-c", file, "--check-config"][..],
            &["-c", file],
            &["-c", file, "-P"],
        ] {
            let ended = place.run(program, arguments);
            assert_eq!(ended.code, Some(1), "{text}: {ended:?}");
            for complaint in complaints.iter().chain(&[file]) {
                assert!(ended.log.contains(complaint), "{text}: {}", ended.log);
            }
        }
    }
}

/// With its path and what the system said.
pub fn a_missing_file_is_named(program: &'static Program) {
    let ended = Place::new().run(program, &["-c", "/nowhere/aquatic.toml"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.log.contains("/nowhere/aquatic.toml: No such file"),
        "{}",
        ended.log
    );
}

/// Every old spelling is told with its line and with what to write instead; and the file works.
pub fn old_spellings_load_with_a_warning_that_names_the_new_ones(program: &'static Program) {
    let place = Place::new();
    let port = place.port();
    let old = format!(
        "socket_workers = 1\nlog_level = 'warn'\n\
         [network]\naddress_ipv4 = '127.0.0.1:{port}'\nuse_ipv6 = false\n{}",
        program.old_file.lines
    );
    let address = format!("address = [\"127.0.0.1:{port}\"]");
    let warnings = program.old_file.warnings.iter().map(ToString::to_string);
    let warnings: Vec<_> = warnings
        .chain([format!("write `network.{address}`")])
        .collect();
    let file = place.write("old.toml", &old);
    let file = file.to_str().unwrap();
    for flag in ["-P", "--check-config"] {
        let ended = place.run(program, &["-c", file, flag]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        for warning in &warnings {
            assert!(
                ended.log.contains(warning),
                "no {warning} in\n{}",
                ended.log
            );
        }
    }
    let parsed = place.run(program, &["-c", file, "-P"]).stdout;
    assert_eq!(keys(&parsed), program.keys.concat());
    for line in program.old_file.lines_today.iter().chain([&&*address]) {
        let mut lines = parsed.lines();
        assert!(lines.any(|found| found == *line), "no {line} in\n{parsed}");
    }

    // And it runs.
    let mut command = place.command(Setup::simple(program), "");
    place.write("config.toml", &old);
    let daemon = place.wait_for(command.spawn().unwrap());
    let log = daemon.place.log();
    for warning in &warnings {
        let line = log.lines().find(|line| line.contains(warning)).unwrap();
        assert!(
            line.contains("WARN") && line.contains("config.toml: line "),
            "{line}"
        );
    }
    let mut client = program.client_of(&daemon, IpFamily::V4);
    assert_eq!(client.join(torrent(1), 1), Ok(1));
    assert_eq!(client.leechers(&[torrent(1)]), [1]);
}
