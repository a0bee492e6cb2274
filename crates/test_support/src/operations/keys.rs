//! The keys of a private tracker at the operator's endpoint. Whom they let in is for the tests of
//! each protocol.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::operator_endpoint::{ask, assert_answer, settings};
use crate::connection::{Connection, Transport};
use crate::program::localhost;
use crate::{Daemon, Place, Program, Setup, metrics};

const SETTINGS: &str = "keys.mode = 'require'\nkeys.path = 'lists/keys'\n";

const KEYS: &str = "# ours\nsecret-1 peers=2 # Alice \"A\"\nsecret-2 until=2001-01-31\n";

/// With the sandbox, which is there by default.
fn start(program: &'static Program) -> Daemon {
    let place = Place::new();
    fs::create_dir(place.path("lists")).unwrap();
    let path = place.write("lists/keys", KEYS);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let settings = settings(&place, program);
    place.start(Setup::simple(program), &format!("{settings}{SETTINGS}"))
}

/// All at once, in the file if that is asked for, and without a key in the log.
pub fn keys_change_at_the_endpoint(program: &'static Program) {
    let daemon = start(program);
    let change = |body: &str| ask(&daemon, "POST", "/keys", body);
    let body = "{\"add\": [\"secret-1 peers=3 # Alice\", \"secret-3\"], \"remove\": \"secret-9\"}";
    let told = "{\"added\":1,\"changed\":1,\"removed\":0,\"already_there\":0,\"not_there\":1,\
                \"total\":3,\"written\":false}";
    assert_answer(change(body), 200, told);
    metrics::wait_for(&daemon, &[("aquatic_keys_entries", 3.0)]);
    let shown = ask(&daemon, "GET", "/keys", "");
    assert_answer(shown, 200, "\"name\":\"Alice\",\"peers_max\":3");
    assert_eq!(daemon.place.read("lists/keys"), KEYS, "not asked for");
    let body = "{\"remove\": [\"secret-2\"], \"add\": \"secret-4\", \"write\": true}";
    assert_answer(change(body), 200, "\"total\":3,\"written\":true");
    let file = "# ours\nsecret-1 peers=3 # Alice\nsecret-3\nsecret-4\n";
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(sorted(&daemon.place.read("lists/keys")), sorted(file));
    let mode = fs::metadata(daemon.place.path("lists/keys")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    // All or nothing.
    let body = "{\"add\": [\"secret-5\", \"secret-6 peers=none\"], \"remove\": [\"secret-4\"]}";
    assert_answer(change(body), 400, "`add[1]`: peers= wants a number");
    let body = "{\"add\": \"secret-5\\nsecret-6\"}";
    assert_answer(
        change(body),
        400,
        "`add`: a line of the file cannot have this",
    );
    metrics::wait_for(&daemon, &[("aquatic_keys_entries", 3.0)]);
    daemon.place.write("lists/keys", "secret-7\n");
    let body = "{\"remove\": \"secret-3\", \"write\": true}";
    assert_answer(change(body), 409, "POST /reload");
    assert_answer(ask(&daemon, "POST", "/reload", ""), 200, "\"ok\":true");
    metrics::wait_for(&daemon, &[("aquatic_keys_entries", 1.0)]);
    let told = "\"added\":2,\"changed\":0,\"removed\":1,";
    assert_answer(
        change("{\"replace\": [\"secret-8\", \"secret-9\"]}"),
        200,
        told,
    );
    let log = daemon.place.log();
    assert!(log.contains("keys changed at the endpoint"), "{log}");
    assert!(!log.contains("secret-") && !log.contains("ERROR"), "{log}");

    let place = Place::new();
    let settings = settings(&place, program);
    let daemon = place.start(Setup::simple(program), &settings);
    let off = ask(&daemon, "POST", "/keys", "{\"add\": []}");
    assert_answer(off, 409, "`keys.mode` is off");
    let off = ask(&daemon, "GET", "/keys", "");
    assert_answer(off, 200, "{\"mode\":\"off\",\"entries\":0,\"keys\":[]}");
}

/// What they are, and a part of them.
pub fn keys_are_shown_to_the_operator_alone(program: &'static Program) {
    let daemon = start(program);
    let alice = "{\"key\":\"secret-1\",\"name\":\"Alice \\\"A\\\"\",\"peers_max\":2,\
                 \"until\":null,\"has_ended\":false,\"active_peers\":0}";
    let ended = "{\"key\":\"secret-2\",\"name\":null,\"peers_max\":null,\
                 \"until\":\"2001-01-31\",\"has_ended\":true,\"active_peers\":null}";
    for (query, keys) in [
        ("", format!("{alice},{ended}")),
        ("?limit=1", alice.to_owned()),
        ("?offset=1&limit=1", ended.to_owned()),
        ("?offset=2", String::new()),
    ] {
        let body = format!("{{\"mode\":\"require\",\"entries\":2,\"keys\":[{keys}]}}\n");
        let shown = ask(&daemon, "GET", &format!("/keys{query}"), "");
        assert_eq!(shown, (200, body));
    }
    for (query, reason) in [
        ("?limit=10001", "`limit` must be 10000 or less"),
        ("?offset=x", "`offset` must be a number"),
    ] {
        assert_answer(
            ask(&daemon, "GET", &format!("/keys{query}"), ""),
            400,
            reason,
        );
    }
    for method in ["GET", "POST"] {
        let address = daemon.place.metrics_address();
        let mut stranger = Connection::open(localhost(V4), address, Transport::Plain);
        let length = "Content-Length: 0";
        stranger.send(format!(
            "{method} /keys HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n"
        ));
        let answer = stranger.answer();
        let told = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, 401, "{told}");
        assert!(
            !told.contains("secret") && !told.contains("Alice"),
            "{told}"
        );
    }
}

const V4: aquatic_types::IpFamily = aquatic_types::IpFamily::V4;
