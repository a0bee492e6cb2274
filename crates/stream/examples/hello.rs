//! Answers every request head with the same 300 bytes: what connections cost, without a tracker.
//!
//! `hello RUNTIME ADDRESS [CERTIFICATE KEY]`, e.g. `hello mio 127.0.0.1:3000`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use aquatic_config::Addresses;
use aquatic_daemon::clock::{Clock, Now};
use aquatic_stream::{
    Admission, Bounds, Client, Closed, ConnectionKey, Connections, Handler, Hub, HubOptions, Io,
    Runtime, StreamCounters, TlsConfig, WaitingFor, bind_listeners, run,
};

/// Bytes of the body.
const BODY_BYTES: usize = 300;

struct Hello {
    answer: Vec<u8>,
}

impl Handler for Hello {
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
        let mut taken = 0;
        while let Some(size) = head_size(&bytes[taken..]) {
            taken += size;
            io.out.extend_from_slice(&self.answer);
        }
        io.wait_for(if taken == bytes.len() {
            WaitingFor::Idle
        } else {
            WaitingFor::Request
        });
        taken
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

/// Bytes up to and including the first empty line.
fn head_size(bytes: &[u8]) -> Option<usize> {
    let end = b"\r\n\r\n";
    let start = bytes.windows(end.len()).position(|window| window == end)?;
    Some(start + end.len())
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (runtime, address, files) = match arguments.as_slice() {
        [runtime, address, files @ ..] => (runtime, address, files),
        _ => bail!("RUNTIME ADDRESS [CERTIFICATE KEY]"),
    };
    let runtime = match runtime.as_str() {
        "glommio" => Runtime::Glommio,
        _ => Runtime::Mio,
    };
    let tls = match files {
        [certificate, key] => Some(TlsConfig::load(
            Path::new(certificate),
            Path::new(key),
            &[b"http/1.1"],
        )?),
        _ => None,
    };
    let batch_wait = std::env::var("BATCH_WAIT_US").map_or(Ok(0), |it| it.parse())?;
    let handle = runtime.choose(1)?.wait_handle()?;
    let listeners = bind_listeners(&Addresses::new(vec![address.parse()?])?, 1, 1_024)?;
    let options = HubOptions {
        memory_max: usize::MAX,
        bounds: Bounds {
            handshake_seconds: 10,
            request_seconds: 10,
            idle_seconds: 180,
            input_bytes_max: 16 * 1024,
            output_bytes_max: 256 * 1024,
        },
        admission: Arc::new(Admission::new(0, 0)),
        proxies: None,
        tls,
        drain: Duration::ZERO,
        counters: Arc::new(StreamCounters::default()),
    };
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n{}",
        "x".repeat(BODY_BYTES)
    );
    let hello = Hello {
        answer: answer.into_bytes(),
    };
    run(
        Hub::new(hello, options),
        listeners.into_iter().flatten().collect(),
        handle,
        Clock::start(),
        Duration::from_micros(batch_wait),
        None,
    )
}
