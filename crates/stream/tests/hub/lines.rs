//! A protocol for tests: each line is a request, and its answer the same line in capitals.

use std::net::IpAddr;

use aquatic_daemon::clock::Now;
use aquatic_stream::{
    Client, Closed, ConnectionKey, Connections, Handler, Io, SessionState, WaitingFor,
};

/// Answers lines when the batch is over, one at a time per connection, as a tracker does.
///
/// The line `quit` closes the connection; `flood N` gets N bytes, `hush` nothing; after `hold N`,
/// the session holds N bytes; `client IP` is what a reverse proxy says. When the process stops, the
/// last word is `BYE`.
#[derive(Default)]
pub(crate) struct Lines {
    requests: Vec<(ConnectionKey, String)>,
    /// Who has been opened, in order.
    pub(crate) opened: Vec<(ConnectionKey, Client)>,
    /// Who has gone and why, in order.
    pub(crate) closed: Vec<(ConnectionKey, Closed)>,
    /// What those who have gone had sent in vain.
    pub(crate) abandoned: Vec<(ConnectionKey, String)>,
    /// To be sent to these when the batch is over.
    pub(crate) pushes: Vec<(ConnectionKey, Vec<u8>)>,
    /// How many of these were delivered.
    pub(crate) pushed: usize,
    /// The certificates before this one are not good any more.
    pub(crate) close_tls_before: Option<u32>,
    /// What clients are told that do not finish a line in time.
    pub(crate) words: &'static str,
    /// Closes in silence then, rather than leave that to the hub.
    pub(crate) closes_late: bool,
    /// Requests are left unanswered.
    pub(crate) is_stuck: bool,
    /// Connections whose requests are on their way go on being idle, as WebSockets do.
    pub(crate) stays_idle: bool,
}

#[derive(Default)]
pub(crate) struct Session {
    is_busy: bool,
    has_ended: bool,
    /// What it says that it holds.
    held_bytes: usize,
    client: Option<IpAddr>,
    /// A reverse proxy has named the client.
    is_named: bool,
}

impl SessionState for Session {
    fn client(&self) -> Option<IpAddr> {
        self.client
    }

    fn is_client_named(&self) -> bool {
        self.is_named
    }

    fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn awaits_response(&self) -> bool {
        self.is_busy
    }
}

impl Handler for Lines {
    type Session = Session;

    fn open(&mut self, _: Now, id: ConnectionKey, client: Client) -> Session {
        self.opened.push((id, client));
        Session {
            client: Some(client.peer.ip()),
            ..Session::default()
        }
    }

    fn receive(
        &mut self,
        _: Now,
        id: ConnectionKey,
        session: &mut Session,
        bytes: &[u8],
        io: &mut Io<'_>,
    ) -> usize {
        if session.is_busy {
            return 0;
        }
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            match session.has_ended {
                true => io.close(),
                false if bytes.is_empty() => io.wait_for(WaitingFor::Idle),
                false => io.wait_for(WaitingFor::Request),
            }
            return 0;
        };
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        session.is_busy = true;
        io.wait_for(match self.stays_idle {
            true => WaitingFor::Idle,
            false => WaitingFor::Tracker,
        });
        self.requests.push((id, line));
        end + 1
    }

    fn input_ended(&mut self, _: Now, _: ConnectionKey, session: &mut Session, io: &mut Io<'_>) {
        session.has_ended = true;
        if !session.is_busy {
            io.close();
        }
    }

    fn finish(&mut self, _: Now, connections: &mut Connections<Session>) -> usize {
        if self.is_stuck {
            return 0;
        }
        for (id, line) in std::mem::take(&mut self.requests) {
            connections.with(id, |session, io| {
                session.is_busy = false;
                io.wait_for(WaitingFor::Idle);
                if let Some(bytes) = line.strip_prefix("hold ") {
                    session.held_bytes = bytes.parse().unwrap();
                }
                if let Some(ip) = line.strip_prefix("client ") {
                    session.client = Some(ip.parse().unwrap());
                    session.is_named = true;
                }
                answer(&line, io);
            });
            connections.resume(id);
        }
        for (id, bytes) in std::mem::take(&mut self.pushes) {
            let delivered = connections.with(id, |_, io| io.out.extend_from_slice(&bytes));
            self.pushed += usize::from(delivered.is_some());
        }
        if let Some(generation) = self.close_tls_before.take() {
            connections.close_tls_before(generation);
        }
        0
    }

    fn timed_out(&mut self, _: Now, _: ConnectionKey, _: &mut Session, _: Closed, io: &mut Io<'_>) {
        io.out.extend_from_slice(self.words.as_bytes());
        if self.closes_late {
            io.close();
        }
    }

    fn abandoned(&mut self, _: Now, id: ConnectionKey, _: &mut Session, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        self.abandoned.push((id, text.into_owned()));
    }

    fn closed(&mut self, _: Now, id: ConnectionKey, _: Session, why: Closed) {
        self.closed.push((id, why));
    }

    fn stop(&mut self, _: Now, _: ConnectionKey, session: &mut Session, io: &mut Io<'_>) {
        if !session.is_busy {
            io.out.extend_from_slice(b"BYE\n");
            io.close();
        }
    }

    fn maintain(&mut self, _: Now) -> bool {
        false
    }

    fn has_pending(&self) -> bool {
        false
    }
}

fn answer(line: &str, io: &mut Io<'_>) {
    if line == "hush" {
        return;
    }
    if let Some(size) = line.strip_prefix("flood ") {
        io.out
            .resize(io.out.len() + size.parse::<usize>().unwrap(), b'x');
    }
    io.out.extend_from_slice(line.to_uppercase().as_bytes());
    io.out.push(b'\n');
    if line == "quit" {
        io.close();
    }
}
