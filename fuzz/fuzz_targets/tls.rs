//! Any bytes, in pieces, as the beginning of an encrypted connection.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use aquatic_daemon::clock::Now;
use aquatic_fuzz::network::{Network, Step, Wire};
use aquatic_stream::{Bounds, Client, Closed, ConnectionKey, Connections, Handler, Io, TlsConfig};
use libfuzzer_sys::fuzz_target;

const BOUNDS: Bounds = Bounds {
    handshake_seconds: 10,
    request_seconds: 20,
    idle_seconds: 60,
    input_bytes_max: 1_000,
    output_bytes_max: 40_000,
};

static TLS: LazyLock<TlsConfig> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["tracker.example".to_owned()]);
    let made = made.expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = (folder.path().join("certificate"), folder.path().join("key"));
    fs::write(&certificate, made.cert.der()).expect("room for it");
    fs::write(&key, made.signing_key.serialized_der()).expect("room for it");
    TlsConfig::load(&certificate, &key, &[b"http/1.1"]).expect("they fit")
});

fuzz_target!(|input: (u16, &[u8])| {
    let (piece, bytes) = input;
    let steps = vec![
        Step::Connect {
            is_v6: false,
            host: 1,
        },
        Step::Say(0, bytes, piece),
        Step::Finish(0),
    ];
    let mut network = Network::new(vec![Echo], BOUNDS, None, Some(TLS.clone()));
    network.live(steps, |_, bytes| bytes.to_vec(), check);
});

/// What comes back are records: of a handshake, alerts, changes of keys, data.
fn check(wire: &Wire) {
    let mut rest = wire.received.as_slice();
    while let [kind, 3, _, high, low, after @ ..] = rest {
        assert!((20..=23).contains(kind));
        let size = usize::from(u16::from_be_bytes([*high, *low]));
        rest = after.get(size..).expect("a whole record");
    }
    assert!(rest.is_empty());
}

/// Whatever comes, comes back.
struct Echo;

impl Handler for Echo {
    type Session = ();

    fn open(&mut self, _: Now, _: ConnectionKey, _: Client) {}

    fn receive(
        &mut self,
        _: Now,
        _: ConnectionKey,
        (): &mut (),
        bytes: &[u8],
        io: &mut Io<'_>,
    ) -> usize {
        io.out.extend_from_slice(bytes);
        bytes.len()
    }

    fn input_ended(&mut self, _: Now, _: ConnectionKey, (): &mut (), io: &mut Io<'_>) {
        io.close();
    }

    fn finish(&mut self, _: Now, _: &mut Connections<()>) -> usize {
        0
    }

    fn closed(&mut self, _: Now, _: ConnectionKey, (): (), _: Closed) {}

    fn maintain(&mut self, _: Now) -> bool {
        false
    }

    fn has_pending(&self) -> bool {
        false
    }
}
