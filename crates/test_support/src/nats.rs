//! Servers that trackers share their swarms by: the real `nats-server`, of the Debian package of
//! this name.

use std::fmt::Display;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::iter;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aquatic_types::IpFamily;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{Place, skipping, wait};

/// A line that makes a server keep a log, on disk.
pub const JETSTREAM: &str = "jetstream { store_dir: \"FOLDER/store\" }";

/// Debian has it among the programs of administrators, which are not on everybody's path.
#[must_use]
pub fn program() -> &'static Path {
    let of_debian = Path::new("/usr/sbin/nats-server");
    match of_debian.is_file() {
        true => of_debian,
        false => Path::new("nats-server"),
    }
}

/// Whether there is such a program. Without it, whoever asks tests nothing.
#[must_use]
pub fn is_there() -> bool {
    let version = Command::new(program()).arg("--version").output();
    let is_there = version.is_ok_and(|output| output.status.success());
    if !is_there {
        skipping::skip("`nats-server` is not installed: it is in Debian's package of this name");
    }
    is_there
}

/// A configuration file. `lines` are what is in it besides; the folder is `FOLDER` there.
#[must_use]
pub fn configuration(listen: SocketAddr, folder: &Path, lines: &str) -> String {
    let lines = lines.replace("FOLDER", &folder.display().to_string());
    format!("listen: \"{listen}\"\n{lines}\n")
}

/// A server in a folder of its own. It is killed when this is dropped.
pub struct NatsServer {
    child: Option<Child>,
    place: Place,
}

impl NatsServer {
    /// One that lets everybody in, and keeps a log.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(JETSTREAM)
    }

    /// One with these lines of configuration.
    #[must_use]
    pub fn start_with(lines: &str) -> Self {
        let mut server = Self::stopped(lines);
        server.go_on();
        server
    }

    /// One that does not run yet.
    #[must_use]
    pub fn stopped(lines: &str) -> Self {
        let server = Self {
            child: None,
            place: Place::new(),
        };
        server.configure(lines);
        server
    }

    /// What it will have in its configuration at the next start.
    pub fn configure(&self, lines: &str) {
        let text = configuration(self.address(), &self.path(""), lines);
        self.place.write("nats.conf", text);
    }

    /// Has it take over a changed configuration while it runs, and waits until it has.
    #[track_caller]
    pub fn reload(&self, lines: &str) {
        let reloads = || self.log().matches("Reloaded server configuration").count();
        let before = reloads();
        self.configure(lines);
        self.signal(Signal::SIGHUP);
        wait::until_ok(|| match reloads() > before {
            true => Ok(()),
            false => Err(format!("the server says {}", self.log())),
        });
    }

    /// Of a file in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.place.address(IpFamily::V4)
    }

    /// The port of that.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.place.port()
    }

    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Starts it (again), with what it has stored.
    pub fn go_on(&mut self) {
        let log = fs::File::create(self.path("log")).unwrap();
        let child = Command::new(program())
            .arg("-c")
            .arg(self.path("nats.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("`nats-server` can be started: it is in Debian's package of this name");
        let child = self.child.insert(child);
        let place = &self.place;
        wait::until_ok(|| {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "the server has ended: {}", place.log());
            let connected = TcpStream::connect(place.address(IpFamily::V4));
            connected.map_err(|error| format!("{error}: {}", place.log()))
        });
    }

    /// Ends it, without a word to anybody.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().cast_signed()), signal).unwrap();
    }

    /// It says nothing any more, and takes what it is sent, until it is killed or thawed.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        #[cfg(target_os = "linux")]
        wait::until("all of its threads stand still", || {
            let threads = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
            let mut states = threads.map(|thread| {
                let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
                // After the name, which is in brackets.
                stat.rsplit_once(") ").unwrap().1.starts_with('T')
            });
            states.all(|stands_still| stands_still).then_some(())
        });
    }

    /// It goes on after that.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// What it has logged since it was started last.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Somebody who is no tracker, and speaks to a server: a back end, say.
pub struct NatsClient {
    from_server: BufReader<TcpStream>,
    to_server: TcpStream,
}

/// Where this client gets answers.
const INBOX: &str = "answers.of.a.test";

/// Messages that are on their way at a time.
const ON_THEIR_WAY_MAX: usize = 1_000;

impl NatsClient {
    /// One that is let in without a name.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_as(address, "", "")
    }

    /// One that is let in by these.
    #[must_use]
    pub fn connect_as(address: SocketAddr, user: &str, password: &str) -> Self {
        let to_server = TcpStream::connect(address).unwrap();
        to_server.set_read_timeout(Some(wait::DEADLINE)).unwrap();
        let from_server = BufReader::new(to_server.try_clone().unwrap());
        let mut client = Self {
            from_server,
            to_server,
        };
        assert!(client.line().starts_with("INFO "));
        let options = format!(
            "{{\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\
             \"user\":{user:?},\"pass\":{password:?}}}"
        );
        client.send(format!("CONNECT {options}\r\nPING\r\n").as_bytes());
        while client.line() != "PONG" {}
        client.send(format!("SUB {INBOX} 1\r\n").as_bytes());
        client
    }

    /// Publishes something, and waits until the server has it.
    pub fn publish(&mut self, subject: &str, body: &[u8]) {
        self.send(format!("PUB {subject} {}\r\n", body.len()).as_bytes());
        self.send(body);
        self.send(b"\r\nPING\r\n");
        while self.line() != "PONG" {}
    }

    fn send(&mut self, bytes: &[u8]) {
        self.to_server.write_all(bytes).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let size = self.from_server.read_line(&mut line).unwrap();
        assert!(size > 0, "the server is gone");
        assert!(!line.starts_with("-ERR"), "{line}");
        line.trim_end().to_owned()
    }

    /// The next message that is for this client.
    fn answer(&mut self) -> String {
        loop {
            let line = self.line();
            if line == "PING" {
                self.send(b"PONG\r\n");
            }
            if line.starts_with("MSG ") || line.starts_with("HMSG ") {
                let size = line.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
                let mut body = vec![0; size + 2];
                self.from_server.read_exact(&mut body).unwrap();
                return String::from_utf8(body).unwrap();
            }
        }
    }

    /// Asks, and waits for the answer.
    pub fn ask(&mut self, subject: &str, body: &str) -> String {
        let size = body.len();
        self.send(format!("PUB {subject} {INBOX} {size}\r\n{body}\r\n").as_bytes());
        self.answer()
    }

    /// Puts entries into a bucket, and waits until it has them.
    pub fn put_all<'a>(&mut self, bucket: &str, entries: impl Iterator<Item = (String, &'a str)>) {
        let entries: Vec<_> = entries.collect();
        for some in entries.chunks(ON_THEIR_WAY_MAX) {
            let messages = some.iter().map(|(name, value)| {
                let size = value.len();
                format!("PUB $KV.{bucket}.{name} {INBOX} {size}\r\n{value}\r\n")
            });
            self.send(messages.collect::<String>().as_bytes());
            for _ in some {
                let answer = self.answer();
                assert!(answer.contains("\"seq\""), "{answer}");
            }
        }
    }

    /// Puts an entry into a bucket.
    pub fn put(&mut self, bucket: &str, name: impl Display, value: &str) {
        self.put_all(bucket, iter::once((name.to_string(), value)));
    }

    /// Deletes an entry.
    pub fn delete(&mut self, bucket: &str, name: impl Display) {
        let headers = "NATS/1.0\r\nKV-Operation: DEL\r\n\r\n";
        let size = headers.len();
        let subject = format!("$KV.{bucket}.{name}");
        self.send(format!("HPUB {subject} {INBOX} {size} {size}\r\n{headers}\r\n").as_bytes());
        let answer = self.answer();
        assert!(answer.contains("\"seq\""), "{answer}");
    }

    /// What a bucket says of an entry, as the server puts it; with what is deleted.
    pub fn entry(&mut self, bucket: &str, name: impl Display) -> String {
        let body = format!("{{\"last_by_subj\":\"$KV.{bucket}.{name}\"}}");
        self.ask(&format!("$JS.API.STREAM.MSG.GET.KV_{bucket}"), &body)
    }
}

impl NatsClient {
    /// All messages of a stream that is there, oldest first: headers, and what is in them.
    pub fn read_stream(&mut self, stream: &str) -> Vec<(String, String)> {
        let subject = format!("$JS.API.STREAM.MSG.GET.{stream}");
        let next = |number| message(&self.ask(&subject, &format!("{{\"seq\":{number}}}")));
        (1..).map_while(next).collect()
    }
}

/// What the answer has of a message: headers, and what is in it. Nothing if there is no message.
/// Whatever else the server says is no end of a stream.
#[track_caller]
fn message(answer: &str) -> Option<(String, String)> {
    let answer: Value = serde_json::from_str(answer).unwrap();
    if answer["error"]["err_code"] == NO_MESSAGE {
        return None;
    }
    let message = &answer["message"];
    assert!(message["seq"].is_u64(), "{answer}");
    // What is empty is left out.
    let part = |name| {
        let text = message[name].as_str().unwrap_or_default();
        String::from_utf8(from_base64(text)).unwrap()
    };
    Some((part("hdrs"), part("data")))
}

/// What a server calls that there is no message of this number.
const NO_MESSAGE: u32 = 10_037;

fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter(|byte| *byte != b'=');
    let value = |byte| DIGITS.iter().position(|digit| *digit == byte).unwrap();
    let digits: Vec<_> = digits.map(value).collect();
    let bytes = digits.chunks(4).flat_map(|some| {
        let bits = (0..4).fold(0, |bits, at| bits << 6 | some.get(at).copied().unwrap_or(0));
        let bytes = [bits >> 16, bits >> 8, bits].map(|byte| u8::try_from(byte & 0xff).unwrap());
        bytes.into_iter().take(some.len() * 6 / 8)
    });
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(answer: &str) -> Option<(String, String)> {
        message(&answer.replace('\'', "\""))
    }

    #[test]
    fn a_message_has_headers_and_a_body_or_neither() {
        let both = "{'message':{'subject':'a','seq':1,'hdrs':'eA==','data':'eXo=','time':''}}";
        assert_eq!(taken(both), Some(("x".to_owned(), "yz".to_owned())));
        let empty = "{'message':{'subject':'a','seq':2,'time':''}}";
        assert_eq!(taken(empty), Some((String::new(), String::new())));
        let none = "{'error':{'code':404,'err_code':10037,'description':'no message found'}}";
        assert_eq!(taken(none), None);
    }

    #[test]
    #[should_panic(expected = "stream not found")]
    fn a_stream_that_is_not_there_is_not_one_that_is_empty() {
        taken("{'error':{'code':404,'err_code':10059,'description':'stream not found'}}");
    }

    /// As where nobody is there who answers.
    #[test]
    #[should_panic(expected = "EOF")]
    fn no_answer_is_no_end() {
        taken("");
    }
}
