//! A process that cannot do more than connect to servers, and does that.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use aquatic_cluster::bus::{Channel, Destination};
use aquatic_test_support::nats::{self, NatsServer};
use aquatic_test_support::wait::{DEADLINE, until};

use crate::lines::Lines;
use crate::node::{AGE, Node};
use crate::tls::{TLS, authority, encrypted, write_authority, write_identity};

const PEERS: Destination = Destination::All(Channel::Peers);

/// The example, which cargo builds next to the tests.
fn binary() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples/listener");
    assert!(path.exists(), "{path:?} is missing: test the whole package");
    path
}

struct Listener {
    process: Child,
    lines: Receiver<String>,
    _foreign: TcpListener,
}

impl Listener {
    fn start(server: &NatsServer, settings: &str) -> Self {
        let foreign = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = foreign.local_addr().unwrap().port();
        let file = server.path("listener.toml");
        let text = format!("forbidden_port = {port}\ncluster.node = 'listener'\n{settings}");
        fs::write(&file, text).unwrap();
        let mut process = Command::new(binary())
            .arg("-c")
            .arg(file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                println!("{line}");
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            process,
            lines,
            _foreign: foreign,
        }
    }

    #[track_caller]
    fn expect(&self, expected: &str) {
        let line = self.lines.recv_timeout(DEADLINE);
        assert_eq!(line.as_deref(), Ok(expected));
    }

    fn expect_forbidden(&self) {
        for what in ["connect", "listen", "local service", "foreign file"] {
            self.expect(&format!("{what}: permission denied"));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn it_connects_to_its_servers_and_nowhere_else() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let mut server = NatsServer::start();
    let node = Node::start("a", &[&server]);
    node.expect_connected();
    node.read_all(AGE);
    let settings = format!("cluster.servers = ['{}']", server.url());
    let listener = Listener::start(&server, &settings);
    listener.expect_forbidden();
    listener.expect("connected");
    node.expect_heard(Channel::Nodes, "listener", b"here");
    listener.expect("log read");
    node.publish(&PEERS, b"x");
    listener.expect("heard of a: x");
    // Who is heard is not always stored yet.
    let logged = (Channel::Peers, "a".to_owned(), b"x".to_vec());
    until("it is logged", || {
        node.read_all(AGE).contains(&logged).then_some(())
    });
    // A connection is made again.
    server.kill();
    listener.expect("disconnected");
    server.go_on();
    listener.expect("connected");
    listener.expect("logged of a: x");
    listener.expect("log read");
}

/// The library reads certificates of the system for each connection, and needs a thread to look up
/// a name.
#[test]
fn names_are_looked_up_and_servers_are_trusted() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let own = authority();
    let mut server = NatsServer::stopped(TLS);
    write_identity(&server, "server", &own);
    let authority = write_authority(&server, "authority", &own);
    server.go_on();
    let config = encrypted(&server, authority);
    let settings = format!(
        "cluster.servers = {:?}\ncluster.tls_ca_file = {:?}",
        config.servers, config.tls_ca_file
    );
    let listener = Listener::start(&server, &settings);
    listener.expect_forbidden();
    listener.expect("connected");
    listener.expect("log not read: the servers have no JetStream, or not for this user");
    let node = Node::start_with("a", &config);
    node.expect_connected();
    node.publish(&PEERS, b"x");
    listener.expect("heard of a: x");
    server.kill();
    listener.expect("disconnected");
    server.go_on();
    listener.expect("connected");
}
