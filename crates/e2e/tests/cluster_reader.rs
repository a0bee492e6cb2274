//! What trackers of a cluster tell each other, read by somebody who knows no more than the document
//! of clusters says: its example in Python, with the user that it has there.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use aquatic_e2e::ask::{Announce, UdpClient};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::process::Process;
use aquatic_e2e::{wait, workspace};
use aquatic_test_support::cluster_document::Document;
use aquatic_test_support::nats::{self, JETSTREAM, NatsClient, NatsServer};
use aquatic_test_support::{Daemon, Place, metrics};

const PYTHON: &str = "/usr/bin/python3";

/// Machines are busy.
const LIMIT: Duration = Duration::from_secs(30);

const TORRENT: [u8; 20] = *b"a torrent of someone";

/// A torrent that no tracker tells of.
const OTHER: [u8; 20] = *b"a torrent of nobody.";

fn hex(torrent: [u8; 20]) -> String {
    torrent.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tracker(document: &Document, server: &NatsServer) -> Daemon {
    let place = Place::new();
    let port = place.port();
    let settings = format!(
        "network.address = ['127.0.0.1:{port}', '[::1]:{port}']\n\
         statistics.interval = 1\nstatistics.run_prometheus_endpoint = true\n\
         statistics.prometheus_endpoint_address = '{}'\n\
         cluster.servers = ['{}']\ncluster.node = 'tracker-1'\n\
         cluster.credentials_file = 'credentials'\n",
        place.metrics_address(),
        server.url()
    );
    place.write("config.toml", settings);
    let credentials = place.write("credentials", document.credentials(1));
    fs::set_permissions(credentials, Permissions::from_mode(0o600)).unwrap();
    let binary = workspace::binary("aquatic_udp").unwrap();
    let mut command = place.command_with(binary.to_str().unwrap(), &["-c", "config.toml"]);
    place.start_by(&mut command)
}

/// What a reader was told, and says of it.
struct Reader {
    process: Process,
    // Its log is in it.
    _folder: Folder,
}

impl Reader {
    fn start(document: &Document, server: &NatsServer) -> Result<Self> {
        let folder = Folder::new()?;
        let script = folder.path().join("reader.py");
        fs::write(&script, document.reader(server.port()))?;
        let mut command = Host::loopback().command(PYTHON);
        command.arg(script);
        Ok(Self {
            process: Process::start("reader", &folder, command)?,
            _folder: folder,
        })
    }

    /// Does something until it says this last of a torrent.
    #[track_caller]
    fn wait_for(&mut self, torrent: [u8; 20], counts: [u32; 2], mut act: impl FnMut()) {
        let torrent = hex(torrent);
        let [seeders, leechers] = counts;
        let expected = format!("{torrent} {seeders} seeders {leechers} leechers");
        wait::until(&expected, LIMIT, || {
            act();
            self.process.check_alive()?;
            let log = self.process.log()?;
            let last = log.lines().rfind(|line| line.starts_with(&torrent));
            Ok((last == Some(&expected)).then_some(()))
        })
        .unwrap();
    }
}

#[test]
fn a_reader_that_knows_the_document_counts_what_a_tracker_tells_of() {
    if !nats::is_there() {
        return;
    }
    let document = Document::read();
    let users = document.authorization_of_reader();
    let server = NatsServer::start_with(&format!("{JETSTREAM}\n{users}"));
    let mut reader = Reader::start(&document, &server).unwrap();
    let tracker = tracker(&document, &server);
    metrics::wait_for(&tracker, &[("aquatic_cluster_connected", 1.0)]);
    let port = tracker.place.port();
    let host = Host::loopback();
    let [v4, v6] = [format!("127.0.0.1:{port}"), format!("[::1]:{port}")]
        .map(|address| UdpClient::new(&host, address.parse().unwrap()).unwrap());
    let announce = |client: &UdpClient, port, left, event| {
        let announce = Announce {
            info_hash: TORRENT,
            peer_id: [1; 20],
            left,
            event,
            numwant: 0,
            port,
        };
        client.announce(&announce).unwrap();
    };
    // Until it has subscribed: whoever announces goes on announcing.
    reader.wait_for(TORRENT, [1, 0], || announce(&v4, 1, 0, 2));
    announce(&v4, 2, 5, 2);
    reader.wait_for(TORRENT, [1, 1], || ());
    announce(&v6, 2, 5, 2);
    reader.wait_for(TORRENT, [1, 2], || ());
    announce(&v6, 2, 0, 1);
    reader.wait_for(TORRENT, [2, 1], || ());
    announce(&v4, 1, 0, 3);
    reader.wait_for(TORRENT, [1, 1], || ());
    let log = server.log();
    assert!(!log.contains("Violation"), "{log}");
}

/// As the document has it.
#[expect(
    clippy::disallowed_methods,
    reason = "a node that was never heard before is believed what its clock says"
)]
fn batch(version: u8, kind: u8, number: u64, flags: u8, port: u16) -> Vec<u8> {
    let mut record = OTHER.to_vec();
    record.extend([192, 0, 2, 1]);
    record.extend(port.to_be_bytes());
    record.push(flags);
    record.extend(600_u16.to_be_bytes());
    let mut batch = vec![b'A', b'Q', version, kind];
    batch.extend(u32::try_from(record.len()).unwrap().to_be_bytes());
    batch.extend(7_u64.to_be_bytes());
    batch.extend(number.to_be_bytes());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    batch.extend(u64::try_from(now.as_millis()).unwrap().to_be_bytes());
    batch.extend(record);
    let checksum = crc_32(&batch);
    batch.extend(checksum.to_be_bytes());
    batch
}

/// Bit by bit.
fn crc_32(bytes: &[u8]) -> u32 {
    let next = |crc: u32| crc >> 1 ^ (0xedb8_8320 * (crc & 1));
    let add = |crc, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| next(crc));
    !bytes.iter().fold(!0, add)
}

/// So it goes on to work when trackers say more than it knows; and a tracker takes the same for
/// sound.
#[test]
fn a_reader_and_a_tracker_skip_what_they_do_not_know() {
    if !nats::is_there() {
        return;
    }
    let document = Document::read();
    let server = NatsServer::start();
    let mut reader = Reader::start(&document, &server).unwrap();
    let tracker = tracker(&document, &server);
    metrics::wait_for(&tracker, &[("aquatic_cluster_connected", 1.0)]);
    let mut other = NatsClient::connect(server.address());
    let mut publish = |batch: &[u8]| other.publish("aquatic.v1.main.peers.other", batch);
    let mut number = 0;
    reader.wait_for(OTHER, [1, 0], || {
        number += 1;
        publish(&batch(1, 1, number, 1, 1));
    });
    // Each of these would be a peer more.
    let mut of_other_sum = batch(1, 1, number + 1, 0, 2);
    *of_other_sum.last_mut().unwrap() ^= 1;
    for unknown in [
        batch(2, 1, number + 1, 0, 2),
        batch(1, 99, number + 1, 0, 2),
        batch(1, 1, number + 1, 0, 2)[1..].to_vec(),
        b"nothing of the kind".to_vec(),
        of_other_sum,
        batch(1, 1, number + 1, 0, 0),
    ] {
        publish(&unknown);
    }
    // With flags that nobody knows.
    publish(&batch(1, 1, number + 2, 0xf0, 3));
    reader.wait_for(OTHER, [1, 1], || ());
    let host = Host::loopback();
    let at_tracker = ([127, 0, 0, 1], tracker.place.port()).into();
    let client = UdpClient::new(&host, at_tracker).unwrap();
    wait::until("the tracker has the same", LIMIT, || {
        let counts = client.scrape(&[OTHER])?[0];
        Ok(((counts.seeders, counts.leechers) == (1, 1)).then_some(()))
    })
    .unwrap();
    metrics::wait_for(
        &tracker,
        &[
            (
                "aquatic_cluster_records_received_total{outcome=invalid}",
                1.0,
            ),
            ("aquatic_cluster_messages_invalid_total", 5.0),
        ],
    );
    // What was written before the last that it knows has no say any more.
    publish(&batch(1, 1, number, 2, 1));
    publish(&batch(1, 1, number + 3, 1, 4));
    reader.wait_for(OTHER, [2, 1], || ());
}
