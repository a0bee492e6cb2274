//! Certificates of a simulated tracker, one after the other, and the clients that trust them.
//!
//! The length of everything that is sent is the same in each run, so that a run can be made again
//! although keys and random numbers of TLS are others each time: keys are Ed25519, whose signatures
//! have one length, and serial numbers are given.
//!
//! They are in files, because that is what a tracker reloads.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SerialNumber};
use rustls::client::Resumption;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tempfile::TempDir;

use crate::identity::Identity;
use crate::tally::Tally;
use crate::wire::{Handshake, NAME, Wire};

/// What a tracker can have, in turn. Making them takes time.
static IDENTITIES: LazyLock<[Identity; 4]> = LazyLock::new(|| [1, 2, 3, 4].map(identity));

fn identity(serial_number: u64) -> Identity {
    let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(serial_number));
    Identity::signed(&params, KeyPair::generate_for(&PKCS_ED25519).unwrap())
}

fn write(identity: &Identity, [certificate, key]: [&Path; 2]) {
    for (path, text) in [certificate, key].into_iter().zip(identity.pem()) {
        fs::write(path, text).unwrap();
    }
}

/// The certificates that have been in force, one after the other. `T` is the tracker's side of
/// them.
pub struct Certificates<T> {
    /// What reads the files.
    pub tls: T,
    folder: TempDir,
    /// Places among the [`IDENTITIES`].
    in_force: Vec<usize>,
    /// Of both versions, each with and without a memory for sessions.
    clients: Vec<Arc<ClientConfig>>,
}

/// What must have happened after many runs.
pub const EXPECTED: [&str; 5] = [
    CHANGES,
    FAILED_CHANGES,
    "handshakes that resumed a session",
    THROUGH,
    "handshakes that kept the certificate of before a change",
];

const CHANGES: &str = "changes of the certificate";
const FAILED_CHANGES: &str = "changes of the certificate to one that cannot be used";
const THROUGH: &str = "handshakes that were under way at a change";

impl<T> Certificates<T> {
    /// The first one, with clients that trust all. `load` reads the files of the certificate and of
    /// its key.
    ///
    /// # Panics
    /// If that fails.
    pub fn new<E: Debug>(load: impl FnOnce(&Path, &Path) -> Result<T, E>) -> Self {
        let mut roots = RootCertStore::empty();
        for identity in &*IDENTITIES {
            roots.add(identity.certificate().clone()).unwrap();
        }
        let roots = Arc::new(roots);
        let client = |version, remembers: bool| {
            let mut config = ClientConfig::builder_with_protocol_versions(&[version])
                .with_root_certificates(Arc::clone(&roots))
                .with_no_client_auth();
            if !remembers {
                config.resumption = Resumption::disabled();
            }
            Arc::new(config)
        };
        let clients = [&TLS12, &TLS13].map(|it| [client(it, false), client(it, true)]);
        let folder = TempDir::new().unwrap();
        let (certificate, key) = paths(&folder);
        write(&IDENTITIES[0], [&certificate, &key]);
        Self {
            tls: load(&certificate, &key).expect("certificate and key can be used"),
            folder,
            in_force: vec![0],
            clients: clients.into_iter().flatten().collect(),
        }
    }

    /// Which one is in force: how many were before.
    #[must_use]
    pub fn version(&self) -> usize {
        self.in_force.len() - 1
    }

    /// A client of any kind.
    #[must_use]
    pub fn client(&self, rng: &mut fastrand::Rng) -> Wire {
        let config = rng.choice(&self.clients).expect("there are some");
        Wire::encrypted(config)
    }

    /// Changes the files and has the tracker `reload` them: mostly to another certificate, which
    /// must be taken, and sometimes to something that cannot be used, which must not.
    ///
    /// # Panics
    /// If it is otherwise.
    pub fn change<E: Debug>(
        &mut self,
        rng: &mut fastrand::Rng,
        tally: &mut Tally,
        reload: impl FnOnce(&T) -> Result<(), E>,
    ) {
        let present = self.in_force[self.version()];
        let next = (present + rng.usize(1..IDENTITIES.len())) % IDENTITIES.len();
        let (certificate, key) = paths(&self.folder);
        write(&IDENTITIES[next], [&certificate, &key]);
        if rng.u8(..3) > 0 {
            reload(&self.tls).expect("certificate and key can be used");
            self.in_force.push(next);
            tally.note(CHANGES);
            return;
        }
        let [other_certificate, other_key] = IDENTITIES[present].pem();
        match rng.u8(..4) {
            0 => fs::remove_file(key).unwrap(),
            // The key of another one.
            1 => fs::write(key, other_key).unwrap(),
            // A file that is being written.
            2 => fs::write(certificate, &other_certificate[..100]).unwrap(),
            _ => fs::write(certificate, "").unwrap(),
        }
        reload(&self.tls).expect_err("the files cannot be used");
        tally.note(FAILED_CHANGES);
    }

    /// Checks the end of a handshake: it was shown a certificate that was in force when it began,
    /// or later.
    ///
    /// # Panics
    /// If not.
    pub fn check(&self, handshake: &Handshake, tally: &mut Tally) {
        tally.note("handshakes");
        if handshake.kind == HandshakeKind::Resumed {
            // What it was shown is what it remembers.
            tally.note("handshakes that resumed a session");
            return;
        }
        let mut since_then = self.in_force[handshake.began..].iter();
        let shown = since_then.position(|it| *IDENTITIES[*it].certificate() == handshake.shown);
        let shown = shown.expect("a certificate that was in force since the handshake began");
        if handshake.began < self.version() {
            tally.note(THROUGH);
            let what = "handshakes that kept the certificate of before a change";
            tally.note_if(what, shown == 0);
        }
    }
}

/// The files of the certificate and of its key.
fn paths(folder: &TempDir) -> (PathBuf, PathBuf) {
    let path = |name| folder.path().join(name);
    (path("certificate"), path("key"))
}
