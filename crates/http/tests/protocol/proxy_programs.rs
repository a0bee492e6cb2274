//! Behind the proxies that people use: nginx and haproxy.

use std::env;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aquatic_test_support::program::loopback;
use aquatic_test_support::skipping::skip;
use aquatic_test_support::wait::until;
use aquatic_test_support::{Place, torrent, torrents};
use aquatic_types::IpFamily;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::client::{Client, LEECHER, SEEDER, announce, get, row, scrape};
use super::connection::{Connection, Transport};
use super::setup::{Case, Tracker, on_every_case};

/// A proxy that runs, and ends with its test.
struct Proxy {
    child: Child,
    address: SocketAddr,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // By a kind word, so that it ends its own children too.
        let _ = signal::kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        );
        let _ = self.child.wait();
    }
}

/// The file of a program. Outside of continuous integration it may be missing, and the test is
/// skipped then.
fn find(program: &str) -> Option<String> {
    let folders = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let mut paths = folders
        .split(':')
        .map(|folder| format!("{folder}/{program}"));
    let found = paths.find(|path| Path::new(path).is_file());
    if found.is_none() {
        skip(&format!(
            "there is no {program} (scripts/test.sh installs it)"
        ));
    }
    found
}

/// Starts a proxy and waits until somebody listens.
fn start(place: &Place, mut command: Command) -> Proxy {
    let log = File::create(place.path("proxy.log")).unwrap();
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let address = SocketAddr::new(place.address(IpFamily::V4).ip(), place.second_port());
    let mut proxy = Proxy { child, address };
    until("the proxy listens", || {
        let ended = proxy.child.try_wait().unwrap();
        assert!(ended.is_none(), "{}", place.read("proxy.log"));
        std::net::TcpStream::connect(address).ok()
    });
    proxy
}

/// nginx as a reverse proxy, with connections that it keeps.
fn nginx(program: &str, tracker: &Tracker) -> Proxy {
    let place = &tracker.place;
    let scheme = if tracker.transport.is_tls() {
        "https"
    } else {
        "http"
    };
    let (address, port) = (tracker.address(IpFamily::V4), place.second_port());
    let config = format!(
        "worker_processes 1;\nuser root;\npid nginx.pid;\nerror_log stderr warn;\n\
         events {{ }}\n\
         http {{\n\
         access_log off;\n\
         client_body_temp_path nginx-1; proxy_temp_path nginx-2; fastcgi_temp_path nginx-3;\n\
         uwsgi_temp_path nginx-4; scgi_temp_path nginx-5;\n\
         upstream tracker {{ server {address}; keepalive 4; }}\n\
         server {{\n\
         listen 127.0.0.1:{port};\n\
         location / {{\n\
         proxy_pass {scheme}://tracker;\n\
         proxy_http_version 1.1;\n\
         proxy_set_header Connection '';\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         }} }} }}\n"
    );
    let config = place.write("nginx.conf", config);
    let mut command = Command::new(program);
    let folder = config.parent().unwrap();
    command.arg("-p").arg(folder).arg("-c").arg(&config);
    command.args(["-g", "daemon off;"]);
    start(place, command)
}

/// haproxy as a proxy of TCP, which says so.
fn haproxy(program: &str, tracker: &Tracker, send: &str) -> Proxy {
    let place = &tracker.place;
    let (address, port) = (tracker.address(IpFamily::V6), place.second_port());
    let config = format!(
        "defaults\n mode tcp\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n\
         listen tracker\n bind 127.0.0.1:{port}\n server tracker {address} {send}\n"
    );
    let config = place.write("haproxy.cfg", config);
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(config);
    start(place, command)
}

/// Clients at different addresses, which all come by way of the proxy.
fn clients(proxy: &Proxy, transport: Transport) -> [(IpAddr, Client); 3] {
    [1, 2, 3].map(|last| {
        let ip = loopback(last);
        let client = Client::between(ip, proxy.address, transport);
        (ip, client)
    })
}

/// The clients are told apart, and find each other.
fn swarm(mut clients: [(IpAddr, Client); 3]) {
    for round in 0..5 {
        for (index, (ip, client)) in clients.iter_mut().enumerate() {
            for info_hash in torrents() {
                let announced = Client::join(client, info_hash, 6_881, LEECHER);
                assert_eq!(announced.external_ip, Some(*ip));
                let others = if round == 0 { index } else { 2 };
                assert_eq!(announced.peers.len(), others);
            }
        }
    }
    let all: Vec<_> = torrents().collect();
    for (_, client) in &mut clients {
        assert_eq!(client.scrape(&all), vec![row(0, 0, 3); all.len()]);
    }
    for (_, client) in &mut clients {
        client.announce((all[0], 6_881, SEEDER), "&event=completed");
    }
    assert_eq!(clients[0].1.scrape(&all[..1]), [row(3, 3, 0)]);
}

#[test]
fn nginx_may_be_in_front() {
    let Some(program) = find("nginx") else {
        return;
    };
    on_every_case(|case| {
        let tracker = case.start(
            "network.runs_behind_reverse_proxy = true\nnetwork.trusted_proxies = ['127.0.0.1']",
        );
        let proxy = nginx(&program, &tracker);
        swarm(clients(&proxy, Transport::Plain));
        let mut connection = Connection::open(loopback(7), proxy.address, Transport::Plain);
        let forged = get(&announce(torrent(1), 1, LEECHER)).replace(
            "User-Agent: test",
            "User-Agent: test\r\nX-Forwarded-For: 192.0.2.1",
        );
        connection.send(forged);
        let external_ip = connection.answer().value();
        assert_eq!(external_ip.bytes("external ip"), Some(&[127, 0, 0, 7][..]));
        // What is refused is passed on as it is, too.
        connection.send(get("/announce"));
        assert!(connection.answer().failure().starts_with("info_hash"));
        connection.send(get("/nowhere"));
        assert_eq!(connection.answer().status, 404);
        connection.send(get(&scrape(&(0..100).map(torrent).collect::<Vec<_>>())));
        assert_eq!(connection.answer().value().keys(), ["files"]);
    });
}

#[test]
fn haproxy_may_be_in_front() {
    let Some(program) = find("haproxy") else {
        return;
    };
    on_every_case(|case: Case| {
        for send in ["send-proxy", "send-proxy-v2"] {
            let settings = "network.proxy_protocol = true\nnetwork.trusted_proxies = ['::1']";
            let tracker = case.start(settings);
            let proxy = haproxy(&program, &tracker, send);
            swarm(clients(&proxy, tracker.transport));
        }
    });
}
