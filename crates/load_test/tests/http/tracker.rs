//! A tracker that misbehaves by plan and keeps book of it.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use aquatic_http_protocol::{
    AnnounceResponse, FailureResponse, Head, PeerForm, Request, Response, ScrapeFile,
    ScrapeResponse, Status,
};
use aquatic_test_support::load_test::FakeTracker;
use aquatic_test_support::load_test::fake_tracker::{listen, self_signed_tls};
use aquatic_types::PerFamily;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Every so many announces; 0: never.
#[derive(Clone, Copy, Default)]
pub(crate) struct Plan {
    pub(crate) delay: u64,
    pub(crate) refuse: u64,
    /// Answer with status 404.
    pub(crate) miss: u64,
    /// Close the connection instead of answering.
    pub(crate) close: u64,
    /// Never answer.
    pub(crate) hang: u64,
    /// Answer with the wrong kind.
    pub(crate) confuse: u64,
    /// Answer with bytes that are not HTTP.
    pub(crate) garble: u64,
    /// Close each connection after so many answers without saying so.
    pub(crate) answers_per_connection: u64,
    pub(crate) leave_open: bool,
    pub(crate) tls: bool,
}

/// Longer than `answers.late_after_ms`, and by far shorter than `answers.lost_after_ms`.
pub(crate) const DELAY: Duration = Duration::from_millis(700);

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) connections: u64,
    pub(crate) announces: u64,
    pub(crate) scrapes: u64,
    pub(crate) delayed: u64,
    pub(crate) refused: u64,
    pub(crate) missed: u64,
    pub(crate) closed: u64,
    pub(crate) hung: u64,
    pub(crate) confused: u64,
    pub(crate) garbled: u64,
    pub(crate) closed_idle: u64,
    pub(crate) clients: HashSet<IpAddr>,
}

/// A tracker with or without TLS.
pub(crate) fn start(address: &str, plan: Plan) -> FakeTracker<Book> {
    let listener = listen(address);
    let tls = plan.tls.then(self_signed_tls);
    let address = listener.local_addr().unwrap();
    FakeTracker::start(address, move |should_stop| {
        let book = Arc::new(Mutex::new(Book::default()));
        accept(&listener, plan, tls.as_ref(), should_stop, &book);
        std::mem::take(&mut *book.lock().unwrap())
    })
}

fn accept(
    listener: &TcpListener,
    plan: Plan,
    tls: Option<&Arc<ServerConfig>>,
    should_stop: &AtomicBool,
    book: &Arc<Mutex<Book>>,
) {
    let mut connections = Vec::new();
    while !should_stop.load(Ordering::Relaxed) {
        let Ok((stream, from)) = listener.accept() else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        let (book, tls) = (Arc::clone(book), tls.cloned());
        connections.push(thread::spawn(move || {
            // The tester may close at any time.
            let _ = match tls {
                None => serve(stream, from, plan, &book),
                Some(config) => {
                    let connection = ServerConnection::new(config).unwrap();
                    serve(StreamOwned::new(connection, stream), from, plan, &book)
                }
            };
        }));
    }
    for connection in connections {
        connection.join().unwrap();
    }
}

/// Where the connection ends.
trait Hold: Read + Write {
    /// Says goodbye.
    fn end(&mut self);
}

impl Hold for TcpStream {
    fn end(&mut self) {}
}

impl Hold for StreamOwned<ServerConnection, TcpStream> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
    }
}

fn serve(
    mut stream: impl Hold,
    from: SocketAddr,
    plan: Plan,
    book: &Mutex<Book>,
) -> io::Result<()> {
    let mut input = Vec::new();
    let mut buffer = [0; 4096];
    let mut answers = 0;
    loop {
        while let Some(head) = Head::parse(&input).unwrap() {
            if answers == 0 {
                // Not at the start: the tester looks once whether anybody is there.
                book.lock().unwrap().connections += 1;
            }
            let mut out = Vec::new();
            let flow = {
                let mut book = book.lock().unwrap();
                book.clients.insert(from.ip());
                book.enter(plan, &head, &mut out)
            };
            let stays_open = head.framing.connection.stays_open();
            let head_size = head.size;
            input.drain(..head_size);
            match flow {
                ControlFlow::Break(End::Close) => return Ok(()),
                ControlFlow::Break(End::Hang) => return hold(stream),
                ControlFlow::Continue(delay) => thread::sleep(delay),
            }
            stream.write_all(&out)?;
            stream.flush()?;
            answers += 1;
            if !stays_open {
                if plan.leave_open {
                    return hold(stream);
                }
                stream.end();
                return Ok(());
            }
            if answers == plan.answers_per_connection {
                // Idle for the tester is what comes while nothing is asked.
                book.lock().unwrap().closed_idle += 1;
                stream.end();
                return Ok(());
            }
        }
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        input.extend_from_slice(&buffer[..read]);
    }
}

/// Waits until the tester goes away.
fn hold(mut stream: impl Hold) -> io::Result<()> {
    while stream.read(&mut [0; 4096])? > 0 {}
    Ok(())
}

enum End {
    Close,
    Hang,
}

impl Book {
    /// Writes the answer; gives back how much later to send it.
    fn enter(
        &mut self,
        plan: Plan,
        head: &Head<'_>,
        out: &mut Vec<u8>,
    ) -> ControlFlow<End, Duration> {
        let request = Request::parse(head.path, head.query).unwrap();
        let framing = head.framing;
        let announce = match request {
            Request::Announce(announce) => announce,
            Request::Scrape(scrape) => {
                self.scrapes += 1;
                let mut files = scrape.info_hashes.iter().map(file).collect();
                ScrapeResponse::new(&mut files).write(framing, out);
                return ControlFlow::Continue(Duration::ZERO);
            }
        };
        self.announces += 1;
        assert_ne!(announce.port, 0);
        let is_turn = |every| self.announces.checked_rem(every) == Some(0);
        if is_turn(plan.close) {
            self.closed += 1;
            return ControlFlow::Break(End::Close);
        }
        if is_turn(plan.hang) {
            self.hung += 1;
            return ControlFlow::Break(End::Hang);
        }
        let mut delay = Duration::ZERO;
        if is_turn(plan.garble) {
            self.garbled += 1;
            out.extend_from_slice(b"SSH-2.0-OpenSSH_9.2\r\n\r\n");
        } else if is_turn(plan.refuse) {
            self.refused += 1;
            let failure = FailureResponse {
                reason: b"not today",
                interval_seconds: None,
                min_interval_seconds: None,
                retry: None,
            };
            failure.write(framing, out);
        } else if is_turn(plan.miss) {
            self.missed += 1;
            Status::NotFound.write(framing, out);
        } else if is_turn(plan.confuse) {
            self.confused += 1;
            let mut files = vec![file(announce.info_hash)];
            ScrapeResponse::new(&mut files).write(framing, out);
        } else {
            three_peers().write(framing, out);
            if is_turn(plan.delay) {
                self.delayed += 1;
                delay = DELAY;
            }
        }
        ControlFlow::Continue(delay)
    }
}

fn file(info_hash: aquatic_types::InfoHash) -> ScrapeFile {
    ScrapeFile {
        info_hash,
        seeders: 1,
        completed: 2,
        leechers: 3,
        downloaders: 3,
    }
}

/// Two of IPv4, one of IPv6.
fn three_peers() -> Response<'static> {
    Response::Announce(AnnounceResponse {
        seeders: 1,
        completed: 0,
        leechers: 2,
        interval_seconds: 120,
        min_interval_seconds: None,
        external_ip: None,
        peers: PerFamily {
            v4: vec![1; 12].into(),
            v6: vec![1; 18].into(),
        },
        peer_form: PeerForm::Compact,
    })
}
