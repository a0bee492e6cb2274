//! The configurations of `documents/one-port.md`: one proxy in front of the trackers over HTTP and
//! WebSocket and a page, with real clients.
//!
//! What is in the document is run, with ports and paths of the test in the places of those there.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use aquatic_e2e::clients::npm;
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::process::Process;
use aquatic_e2e::{Family, identity, wait, workspace};
use nix::sys::signal::Signal;

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(20);

const PAGE: &str = "<p>a page of ours";

/// The code block of this language.
fn block(language: &str) -> String {
    let path = workspace::root().unwrap().join("documents/one-port.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("\n```").unwrap().0.to_owned() + "\n"
}

/// The text with each of these replaced, all of which it must have.
fn replaced(text: String, replacements: &[(&str, &str)]) -> String {
    replacements.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}: {text}");
        text.replace(from, to)
    })
}

/// A tracker as the document has it.
fn start(folder: &Folder, program: &'static str, address: SocketAddr) -> Process {
    let config = replaced(block("toml"), &[("127.0.0.1:3000", &address.to_string())]);
    let path = folder.path().join(format!("{program}.toml"));
    fs::write(&path, config).unwrap();
    let mut command = Command::new(workspace::binary(program).unwrap());
    command.arg("-c").arg(path);
    let mut process = Process::start(program, folder, command).unwrap();
    wait_for(&mut process, address);
    process
}

/// Waits until the program listens.
fn wait_for(process: &mut Process, address: SocketAddr) {
    let what = format!("somebody listens at {address}");
    let connected = wait::until(&what, START_LIMIT, || {
        process.check_alive()?;
        Ok(TcpStream::connect(address).ok())
    });
    connected.unwrap();
}

/// Where everything is in the test.
struct Stage {
    folder: Folder,
    host: Host,
    proxy: String,
    http: String,
    ws: String,
    root: String,
    trackers: Vec<Process>,
}

impl Stage {
    fn set() -> Self {
        let folder = Folder::new().unwrap();
        let host = Host::loopback();
        let port = || host.free_port().unwrap();
        let address = |port| SocketAddr::new(host.ip(Family::V4), port);
        let (http, ws) = (address(port()), address(port()));
        identity::write(&folder).unwrap();
        let root = folder.make("www").unwrap();
        fs::write(root.join("index.html"), PAGE).unwrap();
        let start = |program, address: SocketAddr| start(&folder, program, address);
        let trackers = vec![start("aquatic_http", http), start("aquatic_ws", ws)];
        Self {
            proxy: address(port()).to_string(),
            http: http.to_string(),
            ws: ws.to_string(),
            root: root.display().to_string(),
            folder,
            host,
            trackers,
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.folder.path().join(name), text).unwrap();
        self.path(name)
    }

    /// Starts the proxy, and has real clients come by it.
    fn play(self, name: &str, command: Command) {
        let mut process = Process::start(name, &self.folder, command).unwrap();
        wait_for(&mut process, self.proxy.parse().unwrap());
        let (_, port) = self.proxy.split_once(':').unwrap();
        assert_eq!(self.get(port, "/"), PAGE);
        // The keys of a private tracker are a part of the path.
        for path in [
            "/announce",
            "/scrape",
            "/0123456789abcdef/announce",
            "/announce/0123456789abcdef",
            "/0123456789abcdef/scrape",
            "/scrape/0123456789abcdef",
        ] {
            let answer = self.get(port, path);
            assert!(
                answer.starts_with("d14:failure reason") || answer.starts_with("d5:files"),
                "{path}: {answer}"
            );
        }
        let of = |scheme: &str, path: &str| format!("{scheme}://localhost:{port}{path}");
        npm::live_through_a_download(&self.folder, &self.host, &of("https", "/announce")).unwrap();
        npm::exchange_offers_and_answers(&self.folder, &self.host, &of("wss", "")).unwrap();
        for mut tracker in self.trackers {
            let status = tracker.stop(Signal::SIGTERM, STOP_LIMIT).unwrap();
            assert!(status.success(), "{status}");
        }
    }

    fn get(&self, port: &str, path: &str) -> String {
        let mut command = Command::new("curl");
        command.args(["--disable", "--silent", "--show-error", "--fail"]);
        command.args(["--cacert", &self.path("certificate.pem")]);
        let output = command
            .arg(format!("https://localhost:{port}{path}"))
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn nginx() {
    let stage = Stage::set();
    let (_, port) = stage.proxy.split_once(':').unwrap();
    let server = replaced(
        block("nginx"),
        &[
            ("listen 443 ssl", &format!("listen {} ssl", stage.proxy)),
            ("listen [::]:443 ssl", &format!("listen [::1]:{port} ssl")),
            ("tracker.example.org", "localhost"),
            (
                "/etc/ssl/tracker/certificate.pem",
                &stage.path("certificate.pem"),
            ),
            ("/etc/ssl/tracker/key.pem", &stage.path("key.pem")),
            ("127.0.0.1:3000", &stage.http),
            ("127.0.0.1:3001", &stage.ws),
            ("/var/www/tracker", &stage.root),
        ],
    );
    let config = format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr info;\n\
         events {{ }}\nhttp {{\naccess_log off;\n\
         client_body_temp_path nginx-1; proxy_temp_path nginx-2; fastcgi_temp_path nginx-3;\n\
         uwsgi_temp_path nginx-4; scgi_temp_path nginx-5;\n{server}}}\n"
    );
    let config = stage.write("nginx.conf", &config);
    // Only root may have /usr/sbin in its PATH.
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(stage.folder.path());
    command.args(["-c", &config]);
    stage.play("nginx", command);
}

#[test]
fn caddy() {
    let stage = Stage::set();
    let certificate = stage.path("certificate.pem");
    let tls = format!(
        "tls {certificate} {}\n\n\t@websocket",
        stage.path("key.pem")
    );
    let (_, port) = stage.proxy.split_once(':').unwrap();
    let site = replaced(
        block("caddy"),
        &[
            ("tracker.example.org {", &format!("localhost:{port} {{")),
            ("@websocket header", &format!("{tls} header")),
            ("127.0.0.1:3000", &stage.http),
            ("127.0.0.1:3001", &stage.ws),
            ("/var/www/tracker", &stage.root),
        ],
    );
    let options = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n";
    let config = stage.write("Caddyfile", &format!("{options}{site}"));
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config", &config]);
    // Where it keeps what it has.
    command.env("HOME", stage.folder.path());
    command.env_remove("XDG_CONFIG_HOME");
    command.env_remove("XDG_DATA_HOME");
    stage.play("caddy", command);
}

#[test]
fn haproxy() {
    let stage = Stage::set();
    let read = |name| fs::read_to_string(stage.path(name)).unwrap();
    let both = read("certificate.pem") + &read("key.pem");
    let both = stage.write("both.pem", &both);
    let (_, port) = stage.proxy.split_once(':').unwrap();
    let config = replaced(
        block("haproxy"),
        &[
            ("bind :::443", &format!("bind :::{port}")),
            ("/etc/ssl/tracker/both.pem", &both),
            ("127.0.0.1:3000", &stage.http),
            ("127.0.0.1:3001", &stage.ws),
            ("127.0.0.1:8080", &serve_page()),
        ],
    );
    let config = stage.write("haproxy.cfg", &config);
    let mut command = Command::new(find_haproxy());
    command.args(["-db", "-f", &config]);
    stage.play("haproxy", command);
}

/// Only root may have /usr/sbin in its PATH.
fn find_haproxy() -> &'static Path {
    let of_root = Path::new("/usr/sbin/haproxy");
    if of_root.exists() {
        of_root
    } else {
        Path::new("haproxy")
    }
}

/// The web server behind a proxy that serves no files. Where it listens.
fn serve_page() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The head is small, and comes at once.
            let _ = stream.read(&mut [0; 4_096]).unwrap();
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", PAGE.len());
            stream.write_all((head + PAGE).as_bytes()).unwrap();
        }
    });
    address.to_string()
}
