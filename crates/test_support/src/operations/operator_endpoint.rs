//! The operator's endpoint: who may do what there, and what that does to the tracker.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::Clock;
use aquatic_types::{InfoHash, IpFamily};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::privileges::{CONFINED, is_root, make_root};
use crate::connection::{Answer, Connection, Transport};
use crate::program::localhost;
use crate::wait::{DEADLINE, until};
use crate::{Daemon, Place, Program, Setup, torrent};

/// What is in the file that [`settings`] name.
pub const TOKEN: &str = "a token of the tests of aquatic";

/// Where the Unix socket is, if there is one.
const SOCKET: &str = "socket";

/// Settings with an endpoint that has a token. Writes the token.
#[must_use]
pub fn settings(place: &Place, program: &Program) -> String {
    let section = program.metrics_section;
    write_token(place, TOKEN);
    format!(
        "{}{section}.endpoint_token_file = 'token'\n",
        place.metrics_settings(program)
    )
}

/// Writes the file that names the operator's token.
pub fn write_token(place: &Place, token: &str) {
    let path = place.write("token", format!("{token}\n"));
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// A request, with these lines in its head.
fn send(daemon: &Daemon, method: &str, path: &str, head: &str, body: &[u8]) -> Answer {
    let address = daemon.place.metrics_address();
    let mut endpoint = Connection::open(localhost(IpFamily::V4), address, Transport::Plain);
    let host = if head.contains("Host: ") {
        ""
    } else {
        "Host: localhost\r\n"
    };
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\n{host}{head}Content-Length: {length}\r\n\r\n");
    endpoint.send([head.as_bytes(), body].concat());
    endpoint.answer()
}

/// A request of the operator.
#[must_use]
pub fn ask(daemon: &Daemon, method: &str, path: &str, body: &str) -> (u16, String) {
    let head = format!("Authorization: Bearer {TOKEN}\r\n");
    let answer = send(daemon, method, path, &head, body.as_bytes());
    (answer.status, String::from_utf8(answer.body).unwrap())
}

/// Checks an answer, and what a part of it is.
///
/// # Panics
/// If it is another one.
#[track_caller]
pub fn assert_answer(answer: (u16, String), status: u16, part: &str) {
    assert!(answer.0 == status && answer.1.contains(part), "{answer:?}");
}

/// Nobody else changes anything: not who can reach the address, and no page that is shown to who
/// can.
pub fn the_token_is_asked_for(program: &'static Program) {
    let place = Place::new();
    let without = place.metrics_settings(program);
    let daemon = place.start(Setup::simple(program), &without);
    assert_answer(
        ask(&daemon, "POST", "/reload", ""),
        403,
        "`endpoint_token_file`",
    );
    assert_answer(
        ask(&daemon, "GET", "/access-list", ""),
        403,
        "`endpoint_token_file`",
    );
    let place = Place::new();
    let settings = settings(&place, program);
    let daemon = place.start(Setup::simple(program), &settings);
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    for (method, path, head, status) in [
        ("POST", "/reload", String::new(), 401),
        ("POST", "/reload", right.replace("tests", "Tests"), 401),
        ("POST", "/reload", right.clone(), 200),
        (
            "POST",
            "/reload",
            format!("{right}Origin: http://localhost\r\n"),
            200,
        ),
        (
            "POST",
            "/reload",
            format!("{right}Origin: http://evil.example\r\n"),
            403,
        ),
        (
            "POST",
            "/reload",
            format!("{right}Host: evil.example\r\n"),
            403,
        ),
        (
            "GET",
            "/metrics",
            "Host: evil.example:9000\r\n".to_owned(),
            403,
        ),
        ("GET", "/metrics", String::new(), 200),
        ("GET", "/access-list", String::new(), 401),
        ("GET", "/reload", right.clone(), 405),
        ("POST", "/health", right.clone(), 405),
        ("DELETE", "/access-list", right.clone(), 405),
        ("POST", "/nowhere", right.clone(), 404),
    ] {
        let answer = send(&daemon, method, path, &head, b"");
        assert_eq!(answer.status, status, "{method} {path} {head}: {answer:?}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
        if status == 405 {
            let allowed = match path {
                "/reload" => "POST",
                "/health" => "GET, HEAD",
                _ => "GET, HEAD, POST",
            };
            assert_eq!(answer.header("allow"), Some(allowed));
        }
    }
}

/// While it runs, at a reload.
pub fn the_token_can_be_replaced(program: &'static Program) {
    let place = Place::new();
    let settings = settings(&place, program);
    let daemon = place.start(Setup::simple(program), &settings);
    write_token(&daemon.place, "another token of the tests");
    assert_answer(
        ask(&daemon, "POST", "/reload", ""),
        200,
        "\"the token file\"",
    );
    assert_answer(
        ask(&daemon, "POST", "/reload", ""),
        401,
        "endpoint_token_file",
    );
}

/// Found by `--check-config`, and at the start.
pub fn a_token_that_others_can_read_is_refused(program: &'static Program) {
    let place = Place::new();
    let settings = settings(&place, program);
    fs::set_permissions(place.path("token"), Permissions::from_mode(0o644)).unwrap();
    let setup = Setup::simple(program);
    let ended = place.fail(setup, &settings);
    assert!(ended.log.contains("run `chmod 600 token`"), "{}", ended.log);
    place.write("checked.toml", place.config_text(setup, &settings));
    let checked = place.run(program, &["-c", "checked.toml", "--check-config"]);
    let key = format!("`{}.endpoint_token_file`", program.metrics_section);
    assert!(checked.log.contains(&key), "{}", checked.log);
    assert!(
        checked.log.contains("run `chmod 600 token`"),
        "{}",
        checked.log
    );
}

fn join(program: &Program, daemon: &Daemon, info_hash: InfoHash) -> bool {
    program
        .client_of(daemon, IpFamily::V4)
        .join(info_hash, 1)
        .is_ok()
}

/// For requests at once, and in the file if that is asked for. With the sandbox, which is there by
/// default.
pub fn the_list_changes(program: &'static Program) {
    let place = Place::new();
    let [a, b, c] = [1, 2, 3].map(torrent);
    fs::create_dir(place.path("lists")).unwrap();
    let path = place.write("lists/list", format!("# ours\n{a} - a name\n"));
    // No usual umask would leave that to a new file.
    fs::set_permissions(&path, Permissions::from_mode(0o662)).unwrap();
    let settings = settings(&place, program);
    let list = "access_list.mode = 'allow'\naccess_list.path = 'lists/list'\n";
    let daemon = place.start(Setup::simple(program), &format!("{settings}{list}"));
    let daemon = &daemon;
    assert!(join(program, daemon, a) && !join(program, daemon, b));
    let change = |body: String| ask(daemon, "POST", "/access-list", &body);
    let changed = change(format!("{{\"add\": \"{b}\"}}"));
    let told = "{\"added\":1,\"removed\":0,\"already_there\":0,\"not_there\":0,\"total\":2,\
                \"written\":false}";
    assert_answer(changed, 200, told);
    assert!(join(program, daemon, b));
    assert_eq!(
        daemon.place.read("lists/list"),
        format!("# ours\n{a} - a name\n")
    );
    let shown = ask(daemon, "GET", &format!("/access-list?hash={b}"), "");
    let told = format!("{{\"mode\":\"allow\",\"entries\":2,\"hash\":\"{b}\",\"listed\":true}}");
    assert_answer(shown, 200, &told);
    let body = format!("{{\"add\": [\"{c}\"], \"remove\": [\"{b}\", \"{b}\"], \"write\": true}}");
    let told = "{\"added\":1,\"removed\":1,\"already_there\":0,\"not_there\":1,\"total\":2,\
                \"written\":true}";
    assert_answer(change(body), 200, told);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o662);
    assert!(join(program, daemon, c) && !join(program, daemon, b));
    assert_eq!(
        daemon.place.read("lists/list"),
        format!("# ours\n{a} - a name\n{c}\n")
    );
    // All or nothing.
    let body = format!("{{\"add\": [\"{b}\", \"{b}0\"], \"remove\": [\"{a}\"]}}");
    assert_answer(
        change(body),
        400,
        "`add[1]`: an info hash has 40 hexadecimal digits",
    );
    assert!(join(program, daemon, a) && !join(program, daemon, b));
    daemon.place.write("lists/list", format!("{b}\n"));
    let body = format!("{{\"remove\": [\"{a}\"], \"write\": true}}");
    assert_answer(change(body), 409, "POST /reload");
    assert_answer(ask(daemon, "POST", "/reload", ""), 200, "\"ok\":true");
    assert!(
        join(program, daemon, b) && !join(program, daemon, a),
        "the file wins"
    );
    assert_answer(
        change(format!("{{\"replace\": [\"{a}\"]}}")),
        200,
        "\"added\":1,\"removed\":1",
    );
    assert!(join(program, daemon, a) && !join(program, daemon, b));
    assert!(
        !daemon.place.log().contains("ERROR"),
        "{}",
        daemon.place.log()
    );

    let place = Place::new();
    let settings = self::settings(&place, program);
    let daemon = place.start(Setup::simple(program), &settings);
    let off = ask(&daemon, "POST", "/access-list", "{\"add\": []}");
    assert_answer(off, 409, "`access_list.mode` is off");
}

/// A tracker that is not root owns what it rewrites, and says so; another group gets nothing.
pub fn a_list_that_loses_its_owner_is_told_about(program: &'static Program) {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let root = make_root(&place);
    fs::create_dir(root.join("lists")).unwrap();
    fs::set_permissions(root.join("lists"), Permissions::from_mode(0o777)).unwrap();
    let path = place.write("root/lists/list", "");
    fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
    let settings = format!(
        "{}{CONFINED}access_list.mode = 'deny'\naccess_list.path = '/lists/list'\n",
        settings(&place, program)
    );
    let daemon = place.start(Setup::simple(program), &settings);
    let body = format!("{{\"add\": \"{}\", \"write\": true}}", torrent(1));
    let told = "\"written\":true,\"warning\":\"the file has lost its owner 0 and its group 0: ";
    assert_answer(ask(&daemon, "POST", "/access-list", &body), 200, told);
    daemon.wait_for_warning("the file has lost its owner 0", "its mode is 644");
    let found = fs::metadata(&path).unwrap();
    assert_ne!(found.uid(), 0);
    assert_eq!(found.mode() & 0o777, 0o644);
    // The tracker knows it again.
    let body = format!("{{\"remove\": \"{}\", \"write\": true}}", torrent(1));
    let again = ask(&daemon, "POST", "/access-list", &body);
    assert_answer(again, 200, "\"total\":0,\"written\":true}");
}

/// What a signal only tells the log.
pub fn a_reload_says_what_came_of_it(program: &'static Program) {
    let place = Place::new();
    let setup = Setup::simple(program);
    let settings = format!(
        "{}access_list.mode = 'deny'\naccess_list.path = 'list'\n",
        settings(&place, program)
    );
    place.write("list", "");
    let daemon = place.start(setup, &settings);
    let write = |more: &str| {
        let text = daemon
            .place
            .config_text(setup, &format!("{settings}{more}"));
        daemon.place.write("config.toml", text);
    };
    let reload = || ask(&daemon, "POST", "/reload", "");
    assert_answer(
        reload(),
        200,
        "\"ok\":true,\"applied\":[],\"needs_restart\":[],\"loaded\":[\"the configuration file\",\
         \"the token file\",\"the access list\"",
    );
    write("limits.max_torrents = 7\nhang_timeout = 77\n");
    let applied = "{\"key\":\"limits.max_torrents\",\"from\":\"0\",\"to\":\"7\"}";
    let answer = reload();
    assert_answer(answer.clone(), 200, applied);
    assert_answer(answer, 200, "\"needs_restart\":[\"hang_timeout\"]");
    write("limits.max_torrents = 'many'\n");
    assert_answer(reload(), 422, "\"ok\":false,\"applied\":[]");
    assert_answer(reload(), 422, "`limits.max_torrents`");
    write("limits.max_torrents = 7\nhang_timeout = 77\n");
    daemon.place.write("list", "rubbish");
    assert_answer(
        reload(),
        422,
        "the access list: cannot use the access list list: line 1: ",
    );
    assert!(join(program, &daemon, torrent(1)));
}

/// For load balancers. The start waits for a list that does not come.
pub fn health_is_told_from_the_start_on(program: &'static Program) {
    let place = Place::new();
    mkfifo(&place.path("list"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let settings = format!(
        "{}access_list.mode = 'deny'\naccess_list.path = 'list'\n",
        place.metrics_settings(program)
    );
    let mut command = place.command(Setup::simple(program), &settings);
    let mut daemon = place.attend(command.spawn().unwrap());
    daemon.wait_for_log("reading the access list");
    let health = |head: &str| {
        let answer = send(&daemon, "GET", "/health", head, b"");
        (answer.status, String::from_utf8(answer.body).unwrap())
    };
    assert_eq!(health(""), (503, "starting\n".to_owned()));
    let early = send(&daemon, "GET", "/metrics", "", b"");
    assert_eq!(early.status, 503);
    fs::write(daemon.place.path("list"), "").unwrap();
    until("it is ready", || (health("").0 == 200).then_some(()));
    assert_eq!(health(""), (200, "ready\n".to_owned()));
    let json = health("Accept: application/json\r\n");
    assert_eq!(json, (200, "{\"status\":\"ready\"}\n".to_owned()));
    let address = daemon.place.metrics_address();
    let mut endpoint = Connection::open(localhost(IpFamily::V4), address, Transport::Plain);
    daemon.signal(Signal::SIGTERM);
    let mut statuses = Vec::new();
    while endpoint
        .try_send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .is_ok()
    {
        if endpoint.has_ended() {
            break;
        }
        statuses.push(endpoint.answer().status);
    }
    statuses.dedup();
    assert!(
        [&[][..], &[200], &[503], &[200, 503]].contains(&&statuses[..]),
        "{statuses:?}"
    );
    assert_eq!(daemon.wait_exit().code(), Some(0));
}

/// Somebody whose request is under way does not keep it.
pub fn a_stop_does_not_wait_for_the_operator(program: &'static Program) {
    let place = Place::new();
    let settings = settings(&place, program);
    let mut daemon = place.start(Setup::simple(program), &settings);
    let address = daemon.place.metrics_address();
    let mut endpoint = Connection::open(localhost(IpFamily::V4), address, Transport::Plain);
    endpoint.send(format!(
        "POST /access-list HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\
         Expect: 100-continue\r\nContent-Length: 40000000\r\n\r\n"
    ));
    endpoint.take(|bytes| {
        bytes
            .starts_with(b"HTTP/1.1 100 Continue\r\n\r\n")
            .then_some(((), 25))
    });
    endpoint.send([b'x'; 10_000]);
    let clock = Clock::start();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    let took = clock.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

fn ask_at_socket(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Without an address, beside one, and with as few rights as a tracker can have.
pub fn it_serves_at_a_unix_socket(program: &'static Program) {
    let place = Place::new();
    let section = program.metrics_section;
    let only = format!("{section}.endpoint_unix_socket = '{SOCKET}'\n");
    let mut daemon = place.clone().start(Setup::simple(program), &only);
    let path = place.path(SOCKET);
    assert!(ask_at_socket(&path).starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
    let other = Place::new();
    let same = format!("{section}.endpoint_unix_socket = '{}'\n", path.display());
    let ended = other.fail(Setup::simple(program), &same);
    assert!(
        ended.log.contains("another process serves there"),
        "{}",
        ended.log
    );
    daemon.signal(Signal::SIGTERM);
    daemon.wait_exit();
    assert!(!path.exists(), "it is removed at the end");
    let both = format!("{}{only}", place.metrics_settings(program));
    for _ in 0..2 {
        let mut daemon = place.clone().start(Setup::simple(program), &both);
        assert!(ask_at_socket(&path).contains("\r\n\r\nready\n"));
        assert_eq!(send(&daemon, "GET", "/health", "", b"").status, 200);
        daemon.signal(Signal::SIGKILL);
        daemon.wait_exit();
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    }
    if !is_root() {
        return;
    }
    let place = Place::new();
    let _root = make_root(&place);
    let settings = format!("{}{only}{CONFINED}", settings(&place, program));
    let daemon = place.start(Setup::simple(program), &settings);
    let path = daemon.place.path(SOCKET);
    assert!(ask_at_socket(&path).contains("\r\n\r\nready\n"));
    assert_ne!(fs::metadata(&path).unwrap().uid(), 0, "it is the tracker's");
    assert_answer(
        ask(&daemon, "POST", "/reload", ""),
        200,
        "the token file is not read again",
    );
    let folders = daemon.files().into_iter().filter(|file| file.is_dir());
    assert_eq!(folders.count(), 0, "a folder outside would be a way out");
}

/// The longest that a client may wait for an answer, in a build for tests on a machine that has
/// other tests to run. `documents/decisions` has the figure of a build for use.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// A million entries, replaced as a whole and changed one by one. The machine may have stood still
/// for a while: its quietest run counts.
pub fn a_long_list_delays_no_answer(program: &'static Program) {
    let mut runs = Vec::new();
    while runs.len() < 5 && runs.last().is_none_or(|longest| *longest >= ANSWER_MAX) {
        runs.push(longest_wait_beside_a_long_list(program));
    }
    assert!(runs.last() < Some(&ANSWER_MAX), "{runs:?}");
}

fn longest_wait_beside_a_long_list(program: &'static Program) -> Duration {
    const ENTRIES: u32 = 1_000_000;
    let place = Place::new();
    let settings = format!(
        "{}access_list.mode = 'deny'\naccess_list.path = 'list'\n",
        settings(&place, program)
    );
    place.write("list", "");
    let daemon = place.start(Setup::simple(program), &settings);
    let hash = |number: u32| {
        let mut hash = [0xff; 20];
        // The first bytes of info hashes are any.
        hash[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
        InfoHash(hash)
    };
    let is_over = AtomicBool::new(false);
    let longest = thread::scope(|scope| {
        let operator = scope.spawn(|| {
            let mut body = "{\"replace\": [".to_owned();
            for number in 0..ENTRIES {
                body += &format!("\"{}\",", hash(number));
            }
            body.pop();
            body += "]}";
            let replaced = ask(&daemon, "POST", "/access-list", &body);
            let mut answers = vec![replaced];
            for number in 0..10 {
                let body = format!("{{\"remove\": \"{}\"}}", hash(number));
                answers.push(ask(&daemon, "POST", "/access-list", &body));
                answers.push(ask(&daemon, "GET", "/health", ""));
            }
            is_over.store(true, Ordering::Relaxed);
            answers
        });
        let mut client = program.client_of(&daemon, IpFamily::V4);
        let (mut answers, mut longest) = (0_u32, Duration::ZERO);
        while !is_over.load(Ordering::Relaxed) {
            let clock = Clock::start();
            client.join(torrent(answers % 8), 1).unwrap();
            longest = longest.max(clock.elapsed());
            answers += 1;
        }
        eprintln!("{answers} answers meanwhile, the last after {longest:?} at most");
        let told = operator.join().unwrap();
        assert_answer(told[0].clone(), 200, "\"added\":1000000,\"removed\":0");
        assert_answer(
            told[19].clone(),
            200,
            "\"removed\":1,\"already_there\":0,\"not_there\":0",
        );
        longest
    });
    let denied = program
        .client_of(&daemon, IpFamily::V4)
        .join(hash(ENTRIES - 1), 1);
    assert!(denied.is_err());
    longest
}
