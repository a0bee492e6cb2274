//! A worker with a small protocol of its own.
//!
//! The first byte of a connection says what it is about: see [`Session`].

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use aquatic_channel::{Requester, Responder, SleepGate, Waker, exchange, waker_pair};
use aquatic_config::Addresses;
use aquatic_daemon::clock::{Clock, Now};
use aquatic_stream::{
    Admission, Bounds, Client, Closed, ConnectionKey, Connections, Handler, Hub, HubOptions, Io,
    Runtime, SessionState, StreamCounters, TrustedProxies, WaitingFor, bind_listeners, run,
};

pub(crate) const BOUNDS: Bounds = Bounds {
    handshake_seconds: 10,
    request_seconds: 10,
    idle_seconds: 60,
    input_bytes_max: 32 * 1024,
    output_bytes_max: 256 * 1024,
};

/// What a test wants to be different from an ordinary server.
pub(crate) struct Settings {
    pub(crate) bounds: Bounds,
    pub(crate) memory_max: usize,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_client_max: usize,
    pub(crate) proxies: Option<TrustedProxies>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bounds: BOUNDS,
            memory_max: usize::MAX,
            connections_max: 0,
            connections_per_client_max: 0,
            proxies: None,
        }
    }
}

/// A worker in a thread of its own, which ends with the process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// What it accepts from.
    pub(crate) listener: TcpListener,
    pub(crate) counters: Arc<StreamCounters>,
    /// How connections ended, in order.
    pub(crate) endings: Arc<Mutex<Vec<Closed>>>,
    /// The name of its thread, which no other one in this process has.
    pub(crate) thread: String,
}

impl Server {
    pub(crate) fn start(runtime: Runtime) -> Self {
        Self::start_with(runtime, Settings::default())
    }

    pub(crate) fn start_with(runtime: Runtime, settings: Settings) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let addresses = Addresses::new(vec!["127.0.0.1:0".parse().unwrap()]).unwrap();
        let listeners = bind_listeners(&addresses, 1, 1_024).unwrap().remove(0);
        let address = listeners[0].local_addr().unwrap();
        let listener = listeners[0].try_clone().unwrap();
        let counters = Arc::new(StreamCounters::default());
        let endings = Arc::new(Mutex::new(Vec::new()));
        let handle = runtime.choose(1).unwrap().wait_handle().unwrap();
        let handler = Echo {
            unsent: Vec::new(),
            steps: Vec::new(),
            post_office: post_office(handle.waker.clone()),
            endings: Arc::clone(&endings),
        };
        let hub_options = HubOptions {
            bounds: settings.bounds,
            memory_max: settings.memory_max,
            admission: Arc::new(Admission::new(
                settings.connections_max,
                settings.connections_per_client_max,
            )),
            proxies: settings.proxies,
            tls: None,
            drain: Duration::ZERO,
            counters: Arc::clone(&counters),
        };
        // So that its CPU time can be found, also where tests share a process.
        let name = format!("worker-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let thread = thread::Builder::new().name(name.clone());
        thread
            .spawn(move || {
                let hub = Hub::new(handler, hub_options);
                let batch_wait = Duration::from_micros(200);
                run(hub, listeners, handle, Clock::start(), batch_wait, None).unwrap();
            })
            .unwrap();
        Self {
            address,
            listener,
            counters,
            endings,
            thread: name,
        }
    }

    pub(crate) fn active(&self) -> u64 {
        let active = &self.counters.active;
        active.v4.get() + active.v6.get()
    }
}

/// Bytes for connections.
type Letters = Vec<(ConnectionKey, u8)>;

/// Another thread, which sends back what it is sent.
fn post_office(worker: Waker) -> Requester<Letters> {
    let (handover, mine) = mpsc::channel();
    let clerk = thread::spawn(move || {
        let (gate, mut responder): (SleepGate, Responder<Letters>) = mine.recv().unwrap();
        loop {
            while let Some(letters) = responder.receive() {
                responder.answer(letters).unwrap();
            }
            responder.wake();
            let _guard = gate.prepare_to_sleep();
            if !responder.has_requests() {
                thread::park();
            }
        }
    });
    let clerk = clerk.thread().clone();
    let (gate, clerk) = waker_pair(move || clerk.unpark());
    let (requester, responder) = exchange(4, clerk, worker);
    handover.send((gate, responder)).unwrap();
    requester
}

/// Bytes of one connection that the other thread may have.
const MAIL_BYTES_MAX: usize = 4_096;

pub(crate) enum Session {
    /// Nothing has come yet.
    New(Client),
    /// `E`: every byte comes back.
    Echo,
    /// `M`: every byte comes back by way of another thread.
    Mail {
        /// Bytes that are there.
        on_the_way: usize,
        /// The client sends nothing more.
        is_last: bool,
    },
    /// `S`: every byte comes back, one per batch, as answers of a tracker do.
    Steps {
        /// One is on its way.
        is_busy: bool,
        /// The client sends nothing more.
        is_last: bool,
    },
}

impl SessionState for Session {
    fn held_bytes(&self) -> usize {
        0
    }
}

impl Session {
    /// Returns whether it was the last one that the client had to wait for.
    fn deliver(&mut self, byte: u8, io: &mut Io<'_>) -> bool {
        let Self::Mail { on_the_way, .. } = self else {
            return false;
        };
        *on_the_way -= 1;
        io.out.push(byte);
        *on_the_way == 0
    }
}

struct Echo {
    unsent: Letters,
    /// Bytes that come back when the batch is over.
    steps: Letters,
    post_office: Requester<Letters>,
    endings: Arc<Mutex<Vec<Closed>>>,
}

impl Handler for Echo {
    type Session = Session;

    fn open(&mut self, _: Now, _: ConnectionKey, client: Client) -> Session {
        Session::New(client)
    }

    fn receive(
        &mut self,
        _: Now,
        id: ConnectionKey,
        session: &mut Session,
        bytes: &[u8],
        io: &mut Io<'_>,
    ) -> usize {
        let mut rest = bytes;
        if let (Session::New(client), [kind, after @ ..]) = (&*session, bytes) {
            rest = after;
            *session = match kind {
                b'E' => Session::Echo,
                b'M' => Session::Mail {
                    on_the_way: 0,
                    is_last: false,
                },
                b'S' => Session::Steps {
                    is_busy: false,
                    is_last: false,
                },
                // `A`: the addresses of the client.
                _ => {
                    let Client { peer, local, .. } = client;
                    io.out
                        .extend_from_slice(format!("{peer} {local}").as_bytes());
                    io.close();
                    return bytes.len();
                }
            };
            io.wait_for(WaitingFor::Idle);
        }
        if let Session::Mail {
            on_the_way,
            is_last,
        } = session
        {
            if rest.is_empty() && *on_the_way == 0 && *is_last {
                io.close();
            }
            let room = MAIL_BYTES_MAX - *on_the_way;
            let (taken, left) = rest.split_at(room.min(rest.len()));
            *on_the_way += taken.len();
            self.unsent.extend(taken.iter().map(|byte| (id, *byte)));
            return bytes.len() - left.len();
        }
        if let Session::Steps { is_busy, is_last } = session {
            return match rest {
                _ if *is_busy => bytes.len() - rest.len(),
                [byte, left @ ..] => {
                    *is_busy = true;
                    self.steps.push((id, *byte));
                    bytes.len() - left.len()
                }
                [] => {
                    if *is_last {
                        io.close();
                    }
                    bytes.len()
                }
            };
        }
        io.out.extend_from_slice(rest);
        bytes.len()
    }

    fn input_ended(&mut self, _: Now, _: ConnectionKey, session: &mut Session, io: &mut Io<'_>) {
        match session {
            Session::Mail {
                on_the_way: 1..,
                is_last,
            }
            | Session::Steps {
                is_busy: true,
                is_last,
            } => *is_last = true,
            _ => io.close(),
        }
    }

    fn finish(&mut self, _: Now, connections: &mut Connections<Session>) -> usize {
        for (id, byte) in self.steps.drain(..) {
            connections.with(id, |session, io| {
                if let Session::Steps { is_busy, .. } = session {
                    *is_busy = false;
                }
                io.out.push(byte);
            });
            connections.resume(id);
        }
        let mut batches = 0;
        while let Some(mut letters) = self.post_office.receive() {
            batches += 1;
            for (id, byte) in letters.drain(..) {
                if connections.with(id, |session, io| session.deliver(byte, io)) == Some(true) {
                    connections.resume(id);
                }
            }
            self.post_office.recycle(letters);
        }
        if !self.unsent.is_empty()
            && let Some(mut letters) = self.post_office.take_free(Vec::new)
        {
            letters.append(&mut self.unsent);
            self.post_office.send(letters).unwrap();
            self.post_office.wake();
        }
        batches
    }

    fn closed(&mut self, _: Now, _: ConnectionKey, _: Session, why: Closed) {
        self.endings.lock().unwrap().push(why);
    }

    fn maintain(&mut self, _: Now) -> bool {
        false
    }

    fn has_pending(&self) -> bool {
        self.post_office.has_answers()
    }
}
