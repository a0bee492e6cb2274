//! Where a fake tracker runs, and what it needs to be reached over TCP.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

/// A tracker in a thread of its own that keeps a book of the kind `B`.
#[derive(Debug)]
pub struct FakeTracker<B> {
    /// Where it is.
    pub address: SocketAddr,
    should_stop: Arc<AtomicBool>,
    thread: JoinHandle<B>,
}

impl<B: Send + 'static> FakeTracker<B> {
    /// Lets it serve at this address until it is told to stop.
    #[must_use]
    pub fn start(
        address: SocketAddr,
        serve: impl FnOnce(&AtomicBool) -> B + Send + 'static,
    ) -> Self {
        let should_stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let should_stop = Arc::clone(&should_stop);
            move || serve(&should_stop)
        });
        Self {
            address,
            should_stop,
            thread,
        }
    }

    /// What it has seen and done. Call it when the tester has ended.
    #[must_use]
    pub fn stop(self) -> B {
        self.should_stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A listener that does not block, so that its thread sees when it has to stop.
#[must_use]
pub fn listen(address: &str) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// The tracker's side of TLS, with a certificate that it has signed itself.
#[must_use]
pub fn self_signed_tls() -> Arc<ServerConfig> {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key);
    Arc::new(config.unwrap())
}
