//! Mistakes that people make in configuration files, and what they read then: where it is, and what
//! to write instead.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use aquatic_e2e::folder::Folder;
use aquatic_e2e::workspace;

/// A program and what comes before its flags.
type Program = (&'static str, &'static [&'static str]);

const UDP: Program = ("aquatic_udp", &[]);
const HTTP: Program = ("aquatic_http", &[]);
const WS: Program = ("aquatic_ws", &[]);
const SERVE: Program = ("aquatic", &["serve"]);

/// Other files that the configurations name.
const FILES: [(&str, &str); 4] = [
    (
        "list",
        "00112233445566778899aabbccddeeff00112233\nnot a hash\n",
    ),
    (
        "magnets",
        "magnet:?xt=urn:btih:00112233445566778899aabbccddeeff00112233\n",
    ),
    ("cert.pem", "hello\n"),
    ("key.pem", "hello\n"),
];

/// Whose configuration it is, its text, and words of the message.
const MISTAKES: &[(Program, &str, &[&str])] = &[
    (
        UDP,
        "[network]\nadress = \"0.0.0.0:3000\"\n",
        &["line 2", "did you mean `network.address`"],
    ),
    (
        UDP,
        "[network]\naddress = \"0.0.0.0\"\n",
        &["line 2", "0.0.0.0:3000"],
    ),
    (
        UDP,
        "[network]\naddress = \"0.0.0.0:70000\"\n",
        &["line 2", "ports go up to 65535"],
    ),
    (
        UDP,
        "[network]\naddress = \"localhost:3000\"\n",
        &[
            "line 2",
            "names are not looked up",
            "write \"127.0.0.1:3000\"",
        ],
    ),
    (
        UDP,
        "[network]\naddress = \"::1:3000\"\n",
        &["line 2", "brackets", "write \"[::1]:3000\""],
    ),
    (
        UDP,
        "[network]\naddress = 3000\n",
        &["line 2", "expected an address and port"],
    ),
    (
        UDP,
        "[network]\naddress = [\"0.0.0.0:3000\", \"0.0.0.0:3000\"]\n",
        &["line 2", "occurs twice"],
    ),
    (
        UDP,
        "socket_workers = \"2\"\n",
        &["line 1", "write 2, without quotes"],
    ),
    (
        UDP,
        "socket_workers = -1\n",
        &["line 1", "a whole number, 0 or more"],
    ),
    (
        UDP,
        "socket_workers = 100000\n",
        &["line 1", "too large, 1024 is used"],
    ),
    (
        UDP,
        "[network]\nsocket_workers = 2\n",
        &[
            "line 2",
            "did you mean `socket_workers`, above all sections",
        ],
    ),
    (
        UDP,
        "[netwrok]\naddress = \"0.0.0.0:3000\"\n",
        &["line 1", "did you mean `[network]`"],
    ),
    (
        UDP,
        "[network]\naddress = \"0.0.0.0:3000\n",
        &["line 2", "the closing \" is missing"],
    ),
    (
        UDP,
        "[network\naddress = \"0.0.0.0:3000\"\n",
        &["line 1", "write `[network]`"],
    ),
    (
        UDP,
        "network.address: \"0.0.0.0:3000\"\n",
        &["line 1", "write = between a key and its value"],
    ),
    (
        UDP,
        "[network]\nbackend = \"iouring\"\n",
        &["line 2", "write `io_uring`"],
    ),
    (
        UDP,
        "log_level = \"verbose\"\n",
        &["line 1", "write `debug`"],
    ),
    (
        UDP,
        "log_level = INFO\n",
        &["line 1", "log_level = \"INFO\""],
    ),
    (
        UDP,
        "[protocol]\nmax_response_peers = 500\n",
        &["line 2", "76 is used", "1400 bytes"],
    ),
    (
        UDP,
        "[protocol]\npeer_announce_interval = \"15m\"\n",
        &["line 2", "write 900"],
    ),
    (
        UDP,
        "[protocol]\npeer_announce_interval = 1800\n[cleaning]\nmax_peer_age = 1200\n",
        &[
            "line 2",
            "cleaning.max_peer_age",
            "forgotten between two announces",
        ],
    ),
    (
        UDP,
        "[limits]\nmax_swarm_memory = \"150%\"\n",
        &["line 2", "\"100%\""],
    ),
    (
        UDP,
        "[limits]\nmax_swarm_memory = \"2 gigs\"\n",
        &["line 2", "\"4 GiB\""],
    ),
    (
        UDP,
        "[access_list]\nmode = \"whitelist\"\npath = \"list\"\n",
        &["line 2", "write `allow`"],
    ),
    (
        UDP,
        "[access_list]\nmode = \"allow\"\npath = \"missing.txt\"\n",
        &["line 3", "missing.txt", "No such file"],
    ),
    (
        UDP,
        "[access_list]\nmode = \"allow\"\npath = \"list\"\n",
        &["list: line 2", "40 hexadecimal digits"],
    ),
    (
        UDP,
        "[access_list]\nmode = \"allow\"\npath = \"magnets\"\n",
        &["magnets: line 1", "after `btih:`"],
    ),
    (
        UDP,
        "[statistics]\nrun_prometheus_endpoint = true\nprometheus_endpoint_address = \"9000\"\n",
        &["line 3", "127.0.0.1:9000"],
    ),
    (
        UDP,
        "[privileges]\ndrop_privileges = true\nuser = \"nobdy\"\n",
        &["line 3", "there is no user nobdy"],
    ),
    (
        UDP,
        "[persistence]\nswarms = true\npath = \"list\"\n\
         [access_list]\nmode=\"allow\"\npath = \"list\"\n",
        &["line 3", "also `access_list.path`"],
    ),
    (
        HTTP,
        "[network]\nenable_tls = true\n",
        &[
            "tls_certificate_path",
            "tls_private_key_path",
            "must name a file",
        ],
    ),
    (
        HTTP,
        "[network]\nenable_tls = true\n\
         tls_certificate_path = \"cert.pem\"\ntls_private_key_path = \"key.pem\"\n",
        &[
            "line 3",
            "cert.pem",
            "neither PEM",
            "line 4",
            "-----BEGIN PRIVATE KEY-----",
        ],
    ),
    (
        HTTP,
        "[network]\nruns_behind_reverse_proxy = true\ntrusted_proxies = [\"10.0.0.1/8\"]\n",
        &["line 3", "write 10.0.0.0/8"],
    ),
    (
        HTTP,
        "[network]\nruns_behind_reverse_proxy = \"yes\"\n",
        &["line 2", "write true"],
    ),
    (
        HTTP,
        "[network]\nreverse_proxy_ip_header_name = \"X Forwarded For\"\n\
         runs_behind_reverse_proxy = true\n",
        &["line 2", "X-Forwarded-For"],
    ),
    (
        HTTP,
        "[protocol]\nmax_scrape_torrents = 0\n",
        &["line 2", "1 is used"],
    ),
    (
        HTTP,
        "[network]\nkeepalive = true\n",
        &["line 2", "did you mean `network.keep_alive`"],
    ),
    (
        HTTP,
        "[network]\naddress = \"0.0.0.0:3000\"\naddress = \"0.0.0.0:3001\"\n",
        &["line 3", "duplicate key"],
    ),
    (
        WS,
        "[protocol]\nmax_offers = 1000000\n",
        &["line 2", "100 is used"],
    ),
    (
        WS,
        "[network]\nallowed_origins = [\"example.org\"]\n",
        &["line 2", "https://example.com"],
    ),
    (
        WS,
        "[network]\nwebsocket_max_message_size = 10\n",
        &["line 2", "1024 is used"],
    ),
    (
        SERVE,
        "[udp]\nenabled = true\n[network]\naddress = \"0.0.0.0:3000\"\n",
        &["line 3", "did you mean `[udp.network]`"],
    ),
    (
        SERVE,
        "[http]\nenabled = true\n[http.tls]\ncertificate_path = \"cert.pem\"\n",
        &[
            "line 3",
            "did you mean `tls_certificate_path` in `[http.network]`",
        ],
    ),
    (
        SERVE,
        "[udp]\nenabled = true\n[metrics]\nendpoint_address = \"127.0.0.1:9000\"\n",
        &[
            "line 4",
            "did you mean `metrics.prometheus_endpoint_address`",
        ],
    ),
    (
        SERVE,
        "[access_list]\nmode = \"deny\"\n",
        &["`udp.enabled`"],
    ),
    (
        SERVE,
        "[http]\nenabled = true\n[ws]\nenabled = true\n",
        &["ws.network", "choose another port"],
    ),
    (
        SERVE,
        "[udp]\nenabled = true\n[udp.limits]\nmax_peers = 5\n",
        &["line 3", "did you mean `[limits]`"],
    ),
    (
        SERVE,
        "[udp]\nenabled = true\nsocket_workers = 2\nsocket_workers = 3\n",
        &["line 4", "duplicate key"],
    ),
];

/// What `--check-config` says.
fn told(folder: &Folder, (name, arguments): Program, text: &str) -> String {
    fs::write(folder.path().join("aquatic.toml"), text).unwrap();
    let mut command = Command::new(workspace::binary(name).unwrap());
    command.args(arguments);
    command.args(["--check-config", "-c", "aquatic.toml"]);
    let output = command.current_dir(folder.path()).output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_message_says_where_it_is_and_what_to_write() {
    let folder = Folder::new().unwrap();
    for (name, text) in FILES {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let mut unclear = BTreeMap::new();
    for (program, text, words) in MISTAKES {
        let told = told(&folder, *program, text);
        println!("{}: {text:?}\n{told}", program.0);
        if !words.iter().all(|word| told.contains(word)) {
            unclear.insert(text, (words, told));
        }
    }
    assert!(MISTAKES.len() >= 46);
    assert!(unclear.is_empty(), "{unclear:#?}");
}
