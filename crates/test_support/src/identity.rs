//! Certificates, and who trusts them.

use std::sync::{Arc, LazyLock};

use rcgen::{CertificateParams, CertifiedKey, KeyPair, date_time_ymd, generate_simple_self_signed};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::Place;

/// The name in every certificate of these tests.
pub const NAME: &str = "localhost";

/// Settings for a tracker that serves TLS with the files that [`Identity::write`] writes.
pub const TLS: &str = "network.enable_tls = true\n\
                              network.tls_certificate_path = 'certificate'\n\
                              network.tls_private_key_path = 'key'\n";

/// What the trackers of most tests have.
pub static USUAL: LazyLock<Identity> = LazyLock::new(Identity::new);

/// A self-signed certificate and its key.
pub struct Identity {
    certified: CertifiedKey<KeyPair>,
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}

impl Identity {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        let names = [NAME, "127.0.0.1", "::1"].map(str::to_owned);
        let certified = generate_simple_self_signed(names).unwrap();
        Self { certified }
    }

    /// One that is valid up to the beginning of a year.
    #[must_use]
    pub fn until(year: i32) -> Self {
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        Self::signed(&params, KeyPair::generate().unwrap())
    }

    /// One that signs itself.
    pub(crate) fn signed(params: &CertificateParams, signing_key: KeyPair) -> Self {
        let cert = params.self_signed(&signing_key).unwrap();
        Self {
            certified: CertifiedKey { cert, signing_key },
        }
    }

    /// The text of the certificate and that of its key.
    pub(crate) fn pem(&self) -> [String; 2] {
        let CertifiedKey { cert, signing_key } = &self.certified;
        [cert.pem(), signing_key.serialize_pem()]
    }

    /// Writes the files that the settings [`TLS`] name.
    pub fn write(&self, place: &Place) {
        let [certificate, key] = self.pem();
        place.write("certificate", certificate);
        place.write("key", key);
    }

    /// As [`Self::write`], not as text.
    pub fn write_der(&self, place: &Place) {
        place.write("certificate", self.certified.cert.der());
        place.write("key", self.certified.signing_key.serialized_der());
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.certified.cert.der()
    }

    /// For a client that trusts this certificate only, and speaks this version only. Every
    /// connection makes a full handshake.
    #[must_use]
    pub fn trusted(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate().clone()).unwrap();
        let mut config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config
    }
}

/// Clients that trust [`USUAL`], for TLS 1.2 and TLS 1.3.
pub static TRUSTING: LazyLock<[Arc<ClientConfig>; 2]> = LazyLock::new(|| {
    [&rustls::version::TLS12, &rustls::version::TLS13]
        .map(|version| Arc::new(USUAL.trusted(version)))
});
