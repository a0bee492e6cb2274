//! TLS, as a client that trusts everybody: what is measured is the tracker, not its papers.

use std::sync::Arc;

use anyhow::Context;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

use crate::stream::config::ConnectConfig;

/// Starts the TLS sessions of one connection after the other, as one client: what is kept of a
/// session for the next one is not shared with other connections.
#[derive(Clone, Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl TlsClient {
    /// A client without sessions from before.
    ///
    /// # Errors
    /// If the configured name is no host name.
    pub fn new(config: &ConnectConfig) -> anyhow::Result<Self> {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = if config.tls_post_quantum {
            vec![aws_lc_rs::kx_group::X25519MLKEM768]
        } else {
            vec![
                aws_lc_rs::kx_group::X25519,
                aws_lc_rs::kx_group::SECP256R1,
                aws_lc_rs::kx_group::SECP384R1,
            ]
        };
        let provider = Arc::new(provider);
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .context("cannot set up TLS")?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting { provider }))
            .with_no_client_auth();
        client.resumption = if config.tls_resumption {
            Resumption::in_memory_sessions(1)
        } else {
            Resumption::disabled()
        };
        Ok(Self {
            config: Arc::new(client),
            server_name: ServerName::try_from(config.tls_server_name.clone())
                .context("network.tls_server_name")?,
        })
    }

    /// The same for another connection.
    #[must_use]
    pub fn another(&self, config: &ConnectConfig) -> Self {
        let mut client = ClientConfig::clone(&self.config);
        if config.tls_resumption {
            client.resumption = Resumption::in_memory_sessions(1);
        }
        Self {
            config: Arc::new(client),
            server_name: self.server_name.clone(),
        }
    }

    /// Begins a session.
    ///
    /// # Errors
    /// Those of rustls.
    pub fn start(&self) -> Result<ClientConnection, Error> {
        let config = Arc::clone(&self.config);
        let mut connection = ClientConnection::new(config, self.server_name.clone())?;
        // What is written is encrypted at once. A limit would be one on the size of a write.
        connection.set_buffer_limit(None);
        Ok(connection)
    }
}

/// Looks at no certificate and no signature.
#[derive(Debug)]
struct Trusting {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
