//! What the document of clusters says that others can attach, as it stands there: a back end in
//! Python, with the permissions that it has there, and a real library.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::lab::Lab;
use aquatic_e2e::process::Process;
use aquatic_e2e::{wait, workspace};
use aquatic_test_support::cluster_document::Document;
use aquatic_test_support::nats::{self, JETSTREAM};
use nix::sys::signal::Signal;

/// Where `scripts/test.sh` installs the library, below cargo's target folder.
const INSTALLED_IN: &str = "e2e-pip";

const PYTHON: &str = "/usr/bin/python3";

/// Machines are busy.
const LIMIT: Duration = Duration::from_secs(30);

const TRACKER: &str = r#"
log_level = "info"

[http]
enabled = true

[cluster]
servers = ["nats://127.0.0.1:4222"]
node = "tracker-1"
credentials_file = "FOLDER/credentials"
announces = true
access_list_bucket = true

[access_list]
mode = "deny"
path = "FOLDER/access-list.txt"
"#;

const TORRENT: &str = "00112233445566778899aabbccddeeff00112233";
const ALICE: &str = "0123456789abcdef";
const BOB: &str = "fedcba9876543210";

/// What the accounts are, in order of keys.
const ACCOUNTS: &str = "
import sqlite3
rows = sqlite3.connect('accounts.db').execute('SELECT key, uploaded FROM users ORDER BY key')
print(';'.join(f'{key} {uploaded}' for key, uploaded in rows))
";

/// Forbids a torrent, by the user of the back end.
const FORBID: &str = "
import asyncio, nats, sys
async def main():
    servers = await nats.connect('nats://127.0.0.1:4222', user='back-end', password='its secret')
    bucket = await servers.jetstream().key_value('aquatic_main_access')
    await bucket.put(sys.argv[1], b'')
    await servers.close()
asyncio.run(main())
";

/// The back end of the document reaches one of three machines over TLS.
const THERE_AND_HERE: [(&str, &str); 2] = [
    (
        "ssl.create_default_context(cafile=\"/etc/nats/ca.pem\")",
        "None",
    ),
    ("\"tls://192.0.2.1:4222\"", "\"nats://127.0.0.1:4222\""),
];

/// A server and a tracker on one machine, and where a back end is at home.
struct Stage {
    processes: Vec<Process>,
    folder: Folder,
    host: Host,
    library: PathBuf,
    _lab: Lab,
}

impl Stage {
    /// `None` where namespaces cannot be made, since the example has a port of its own; or where
    /// there is no such server.
    fn new(document: &Document) -> Result<Option<Self>> {
        let Some(lab) = Lab::new(1)?.filter(|_| nats::is_there()) else {
            return Ok(None);
        };
        let library = workspace::target()?.join(INSTALLED_IN);
        let where_from = library.display();
        ensure!(
            library.join("nats").is_dir(),
            "no nats-py in {where_from} (scripts/test.sh installs it)"
        );
        let mut stage = Self {
            processes: Vec::new(),
            folder: Folder::new()?,
            host: lab.guest(0).clone(),
            library,
            _lab: lab,
        };
        stage.write(
            "nats.conf",
            &nats::configuration(
                ([127, 0, 0, 1], 4222).into(),
                stage.folder.path(),
                &format!("{JETSTREAM}\n{}", document.authorization_of_hooks()),
            ),
        )?;
        stage.write("credentials", &document.credentials(1))?;
        stage.write("access-list.txt", "")?;
        let folder = stage.folder.path().display().to_string();
        stage.write("aquatic.toml", &TRACKER.replace("FOLDER", &folder))?;
        let mut back_end = document.back_end().to_owned();
        for (documented, here) in THERE_AND_HERE {
            ensure!(back_end.contains(documented), "no {documented}");
            back_end = back_end.replace(documented, here);
        }
        stage.write("back_end.py", &back_end)?;
        let mut server = stage.host.command(nats::program());
        server.arg("-c").arg(stage.folder.path().join("nats.conf"));
        stage.run("server", server)?;
        let mut tracker = stage.host.command(workspace::binary("aquatic")?);
        tracker
            .args(["serve", "-c"])
            .arg(stage.folder.path().join("aquatic.toml"));
        stage.run("tracker", tracker)?;
        stage.wait_for_log("the swarms of all nodes of the cluster are known")?;
        Ok(Some(stage))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.path().join(name);
        fs::write(&path, text)?;
        // Secrets are for their owner alone.
        Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
    }

    fn run(&mut self, name: &str, command: Command) -> Result<()> {
        let process = Process::start(name, &self.folder, command)?;
        self.processes.push(process);
        Ok(())
    }

    /// Of the tracker.
    fn wait_for_log(&mut self, text: &str) -> Result<()> {
        wait::until(text, LIMIT, || {
            self.processes
                .iter_mut()
                .try_for_each(Process::check_alive)?;
            let log = self.processes.last().context("a tracker")?.log()?;
            Ok(log.contains(text).then_some(()))
        })
    }

    fn python(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command(PYTHON);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("PYTHONPATH", &self.library);
        command
    }

    /// The example, started once more.
    fn back_end(&self, name: &str) -> Result<Process> {
        Process::start(name, &self.folder, self.python(&["-u", "back_end.py"]))
    }

    /// What the tracker answers to a peer, which is told apart by its number.
    fn announce(&self, key: &str, peer: u8, uploaded: u64, event: &str) -> Result<String> {
        let torrent = TORRENT.as_bytes().chunks(2);
        let torrent: String = torrent
            .map(|digits| format!("%{}", String::from_utf8_lossy(digits)))
            .collect();
        let url = format!(
            "http://127.0.0.1:3000/{key}announce?info_hash={torrent}&peer_id=-e2e000-0000000000{peer:02}\
             &port={}&uploaded={uploaded}&downloaded=0&left=0&event={event}",
            1_000 + u16::from(peer)
        );
        output(
            self.host
                .command("curl")
                .args(["--silent", "--max-time", "10", &url]),
        )
    }

    /// Waits until accounts are these.
    fn wait_for_accounts(&self, back_end: &mut Process, expected: &str) -> Result<()> {
        let mut last = String::new();
        let reached = wait::until("the accounts are right", LIMIT, || {
            back_end.check_alive()?;
            last = output(&mut self.python(&["-c", ACCOUNTS])).unwrap_or_default();
            Ok((last.trim() == expected).then_some(()))
        });
        reached.with_context(|| format!("{last}, not {expected}"))
    }
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let reason = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {reason}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_back_end_of_the_document_keeps_accounts() {
    let document = Document::read();
    let Some(mut stage) = Stage::new(&document).unwrap() else {
        return;
    };
    let [alice, bob] = [ALICE, BOB].map(|key| format!("{key}/"));
    stage.announce(&alice, 1, 0, "started").unwrap();
    let stream = "made the stream AQUATIC-ANNOUNCES_main";
    stage.wait_for_log(stream).unwrap();
    let announce = |key: &str, peer, uploaded, event: &str| {
        let answer = stage.announce(key, peer, uploaded, event).unwrap();
        assert!(answer.contains("8:interval"), "{answer}");
    };
    announce(&alice, 1, 1_000, "");
    let mut back_end = stage.back_end("back-end-1").unwrap();
    let accounts = |of_alice: u64, of_bob: u64| format!("{ALICE} {of_alice};{BOB} {of_bob}");
    announce(&alice, 2, 500, "started");
    announce(&bob, 3, 7, "");
    // Of nobody, and nonsense.
    announce("", 4, 9, "");
    announce(&bob, 5, 1 << 50, "");
    stage
        .wait_for_accounts(&mut back_end, &accounts(1_500, 7))
        .unwrap();

    assert_permitted(&back_end);

    // It goes on where it was, and misses nothing.
    back_end.stop(Signal::SIGTERM, LIMIT).unwrap();
    announce(&alice, 1, 3_000, "stopped");
    announce(&alice, 1, 0, "started");
    announce(&alice, 1, 10, "");
    let mut back_end = stage.back_end("back-end-2").unwrap();
    stage
        .wait_for_accounts(&mut back_end, &accounts(3_510, 7))
        .unwrap();

    // It may forbid torrents.
    output(&mut stage.python(&["-c", FORBID, TORRENT])).unwrap();
    wait::until("the torrent is forbidden", LIMIT, || {
        let answer = stage.announce("", 6, 0, "")?;
        Ok(answer.contains("failure reason").then_some(()))
    })
    .unwrap();
    back_end.check_alive().unwrap();
    assert_permitted(&back_end);
    let tracker = stage.processes.last().expect("a tracker");
    assert_permitted(tracker);
}

/// Libraries tell of it, and go on.
fn assert_permitted(client: &Process) {
    let log = client.log().unwrap();
    assert!(
        !log.to_lowercase().contains("permissions violation"),
        "{log}"
    );
}
