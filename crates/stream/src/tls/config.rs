//! Certificate and key, loaded from files, and loaded again while the daemon runs.

use std::fmt::{self, Debug, Display, Formatter};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aquatic_daemon::patient_file::PatientFile;
use arc_swap::{ArcSwap, Cache};
use rustls::crypto::aws_lc_rs::{self, Ticketer, sign};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets, UnbufferedServerConnection};
use rustls::{Error, ServerConfig};

use super::{TlsStream, expiry};

/// What connections are encrypted with. Clones share it.
///
/// TLS 1.2 and 1.3. Sessions are resumed with tickets, so that the server keeps nothing; their keys
/// change every six hours, are common to all workers, and outlive a [reload](Self::reload).
#[derive(Clone)]
pub struct TlsConfig(Arc<Shared>);

struct Shared {
    source: Source,
    current: Arc<ArcSwap<Version>>,
}

/// What each version is made of.
struct Source {
    certificate_path: PathBuf,
    key_path: PathBuf,
    alpn_protocols: Vec<Vec<u8>>,
    ticketer: Arc<dyn ProducesTickets>,
}

/// What a new connection uses.
struct Version {
    config: Arc<ServerConfig>,
    /// The last second in which the server's certificate is valid, in Unix time.
    not_after: Option<i64>,
    /// How often it has been loaded before.
    generation: u32,
}

impl TlsConfig {
    /// Loads certificate and key. The certificate's file is PEM with the whole chain, the server's
    /// own first, or DER; the key's PEM or DER, of the kind PKCS#8, PKCS#1 or SEC1. The content of
    /// the files decides. `alpn_protocols` are the application protocols to be offered, in order
    /// of preference; with none, the client may ask for any.
    ///
    /// # Errors
    /// If a file cannot be read or used, or the key belongs to another certificate.
    pub fn load(
        certificate_path: &Path,
        key_path: &Path,
        alpn_protocols: &[&[u8]],
    ) -> Result<Self, TlsError> {
        let source = Source {
            certificate_path: certificate_path.to_owned(),
            key_path: key_path.to_owned(),
            alpn_protocols: alpn_protocols.iter().map(|name| name.to_vec()).collect(),
            ticketer: Ticketer::new().map_err(TlsError::Setup)?,
        };
        let current = Arc::new(ArcSwap::from_pointee(source.load(0)?));
        Ok(Self(Arc::new(Shared { source, current })))
    }

    /// Everything for which these files cannot be [loaded](Self::load).
    #[must_use]
    pub fn check(certificate_path: &Path, key_path: &Path) -> Vec<TlsError> {
        let certificates = read_certificates(certificate_path);
        match (certificates, read_key(key_path)) {
            (Ok(certificates), Ok(key)) => {
                let paths = (certificate_path, key_path);
                let config = build(paths, certificates, key);
                config.err().into_iter().collect()
            }
            (certificates, key) => certificates.err().into_iter().chain(key.err()).collect(),
        }
    }

    /// Loads the same files again. Connections that are opened from now on use them; those that
    /// are open go on with what they have. To be called by one thread.
    ///
    /// # Errors
    /// As [`load`](Self::load); then everything stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let version = self.0.source.load(self.generation().wrapping_add(1))?;
        self.0.current.store(Arc::new(version));
        Ok(())
    }

    /// The last second in which the server's certificate is valid, in Unix time.
    #[must_use]
    pub fn not_after(&self) -> Option<i64> {
        self.0.current.load().not_after
    }

    /// How often it has been reloaded: what new connections use.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.0.current.load().generation
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor(Cache::new(Arc::clone(&self.0.current)))
    }
}

impl Debug for TlsConfig {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("certificate_path", &self.0.source.certificate_path)
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

/// One worker's way to the present configuration.
pub(crate) struct TlsAcceptor(Cache<Arc<ArcSwap<Version>>, Arc<Version>>);

impl TlsAcceptor {
    /// The server's side of a new connection.
    pub(crate) fn accept(&mut self) -> Result<TlsStream, Error> {
        let version = self.0.load();
        let session = UnbufferedServerConnection::new(Arc::clone(&version.config))?;
        Ok(TlsStream::new(session, version.generation))
    }
}

/// Why certificate and key cannot be used.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read.
    Read(PathBuf, io::Error),
    /// The certificate's file holds no certificate, for this reason.
    Certificate(PathBuf, String),
    /// The key's file holds no private key, for this reason.
    Key(PathBuf, String),
    /// The key's file is encrypted.
    EncryptedKey(PathBuf),
    /// The key has fewer bits than are safe.
    ShortKey(PathBuf),
    /// The key in the second file is not that of the first certificate in the first file, which has
    /// others too if this is true.
    Mismatch(PathBuf, PathBuf, bool),
    /// No random numbers, or no common algorithms.
    Setup(Error),
}

impl Display for TlsError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::Certificate(path, reason) => {
                write!(f, "no usable certificate in {}: {reason}", path.display())
            }
            Self::Key(path, reason) => {
                write!(f, "no usable private key in {}: {reason}", path.display())
            }
            Self::EncryptedKey(path) => write!(
                f,
                "the private key in {path} is encrypted; store it without a passphrase (openssl \
                 pkey -in {path} -out FILE), readable for this program only",
                path = path.display()
            ),
            Self::ShortKey(path) => write!(
                f,
                "the private key in {} is too short: an RSA key must have 2048 bits or more; make \
                 a new key and have a certificate issued for it",
                path.display()
            ),
            Self::Mismatch(certificate, key, is_chain) => {
                let first = if *is_chain { "first " } else { "" };
                let (certificate, key) = (certificate.display(), key.display());
                write!(
                    f,
                    "the private key in {key} does not belong to the {first}certificate in \
                     {certificate}"
                )?;
                match is_chain {
                    true => f.write_str(": the server's own must come before those of its issuers"),
                    false => Ok(()),
                }
            }
            Self::Setup(error) => write!(f, "cannot set up TLS: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}

impl TlsError {
    /// The file that is to be changed.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read(path, _)
            | Self::Certificate(path, _)
            | Self::Key(path, _)
            | Self::EncryptedKey(path)
            | Self::ShortKey(path)
            | Self::Mismatch(_, path, _) => Some(path),
            Self::Setup(_) => None,
        }
    }
}

impl Source {
    /// Reads the files.
    fn load(&self, generation: u32) -> Result<Version, TlsError> {
        let certificates = read_certificates(&self.certificate_path)?;
        let not_after = certificates.first().and_then(|own| expiry::not_after(own));
        let key = read_key(&self.key_path)?;
        let paths = (&*self.certificate_path, &*self.key_path);
        let mut config = build(paths, certificates, key)?;
        config.alpn_protocols.clone_from(&self.alpn_protocols);
        config.ticketer = Arc::clone(&self.ticketer);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Version {
            config: Arc::new(config),
            not_after,
            generation,
        })
    }
}

/// `paths` are those of the certificate and of the key.
fn build(
    paths: (&Path, &Path),
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let (certificate_path, key_path) = (paths.0.to_owned(), paths.1.to_owned());
    let is_chain = certificates.len() > 1;
    let provider = Arc::new(aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|error| match error {
            Error::InconsistentKeys(_) => TlsError::Mismatch(certificate_path, key_path, is_chain),
            Error::InvalidCertificate(_) => {
                TlsError::Certificate(certificate_path, error.to_string())
            }
            other => TlsError::Key(key_path, other.to_string()),
        })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failure = |reason: &str| TlsError::Certificate(path.to_owned(), reason.to_owned());
    let bytes = read(path, failure)?;
    if !is_pem(&bytes) {
        return match is_pkcs12(&bytes) {
            true => Err(failure(PKCS12)),
            // DER is one sequence (X.690).
            false if bytes.first() != Some(&0x30) => Err(failure(
                "it is neither PEM, which has -----BEGIN CERTIFICATE-----, nor DER",
            )),
            false => Ok(vec![bytes.into()]),
        };
    }
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| failure(&pem_fault(&error)))?;
    if !certificates.is_empty() {
        return Ok(certificates);
    }
    Err(failure(if contains(&bytes, b"CERTIFICATE REQUEST") {
        "it is a request for a certificate, which an authority has to answer with one"
    } else if contains(&bytes, b"PRIVATE KEY") {
        "it has a private key instead: are the two files exchanged?"
    } else {
        "it is PEM without a CERTIFICATE"
    }))
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let failure = |reason: &str| TlsError::Key(path.to_owned(), reason.to_owned());
    let bytes = read(path, failure)?;
    let key = if is_pem(&bytes) {
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
            if contains(&bytes, b"ENCRYPTED") {
                TlsError::EncryptedKey(path.to_owned())
            } else if contains(&bytes, b"OPENSSH PRIVATE KEY") {
                failure("it is a key of OpenSSH, which is of no use for TLS")
            } else if contains(&bytes, b"CERTIFICATE") {
                failure("it has a certificate instead: are the two files exchanged?")
            } else {
                failure(&pem_fault(&error))
            }
        })
    } else if is_pkcs12(&bytes) {
        Err(failure(PKCS12))
    } else {
        PrivateKeyDer::try_from(bytes).map_err(|_| {
            failure("it is neither PEM, which has -----BEGIN PRIVATE KEY-----, nor DER")
        })
    }?;
    match sign::any_supported_type(&key) {
        Ok(_) => Ok(key),
        Err(_) if is_short(&key) => Err(TlsError::ShortKey(path.to_owned())),
        Err(error) => Err(failure(&error.to_string())),
    }
}

/// What is wrong with a PEM file. The library writes the label of a section as numbers.
fn pem_fault(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => format!(
            "it is cut off: there is no line -----END {}-----",
            String::from_utf8_lossy(end_marker)
        ),
        pem::Error::IllegalSectionStart { line } => format!(
            "the line {:?} does not begin a section of PEM",
            String::from_utf8_lossy(line).trim_end()
        ),
        other => other.to_string(),
    }
}

/// Whether this is an RSA key that is refused for its length, which the error of the library for
/// keys of any kind does not tell.
fn is_short(key: &PrivateKeyDer<'_>) -> bool {
    sign::RsaSigningKey::new(key).is_err_and(|error| error.to_string().contains("TooSmall"))
}

/// What a file contains, without the mark that some editors begin a text with. A file without
/// contents, or in an encoding that no one can mean, is a failure.
fn read(path: &Path, failure: impl Fn(&str) -> TlsError) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    PatientFile::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|error| TlsError::Read(path.to_owned(), error))?;
    if bytes.starts_with("\u{feff}".as_bytes()) {
        bytes.drain(.."\u{feff}".len());
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(failure("it is UTF-16 text: save it as UTF-8"));
    }
    match bytes.trim_ascii().is_empty() {
        true => Err(failure("the file is empty")),
        false => Ok(bytes),
    }
}

const PKCS12: &str =
    "it is a PKCS#12 archive: unpack it (openssl pkcs12 -in FILE -nodes -out FILE.pem)";

/// A sequence (RFC 7292, section 4) that begins with the number 3, its version.
fn is_pkcs12(bytes: &[u8]) -> bool {
    let content = match bytes {
        [0x30, 0x82, _, _, content @ ..] => content,
        [0x30, 0x83, _, _, _, content @ ..] => content,
        _ => return false,
    };
    content.starts_with(&[2, 1, 3])
}

fn is_pem(bytes: &[u8]) -> bool {
    contains(bytes, b"-----BEGIN ")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
