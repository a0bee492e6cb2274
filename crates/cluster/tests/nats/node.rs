//! A process of the cluster: a thread that owns a bus.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aquatic_cluster::bus::{Bus, Channel, Destination, Event, Message};
use aquatic_cluster::config::ClusterConfig;
use aquatic_cluster::nats::settings::Settings;
use aquatic_cluster::nats::{self, Nats, Waker};
use aquatic_daemon::clock::Clock;
use aquatic_test_support::nats::NatsServer;
use aquatic_test_support::wait::DEADLINE;

use crate::lines::Lines;

/// How long peers live in these tests.
pub(crate) const AGE: Duration = Duration::from_secs(1_200);

/// What a message is in a comparison.
pub(crate) type Plain = (Channel, String, Vec<u8>);

fn plain(message: Message<impl AsRef<[u8]>>) -> Plain {
    let payload = message.payload.as_ref().to_vec();
    (message.channel, message.node, payload)
}

/// Something that has happened, without what borrows from the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Connected,
    Disconnected,
    Heard(Plain),
    Logged(Plain),
    LogRead(Duration),
    LogFailed(String),
    Missed(u64),
    Confirmed(u64),
    Kept(u64),
}

fn seen<P: AsRef<[u8]>>(event: Event<P>) -> Seen {
    match event {
        Event::Connected => Seen::Connected,
        Event::Disconnected => Seen::Disconnected,
        Event::Heard(message) => Seen::Heard(plain(message)),
        Event::Logged(message) => Seen::Logged(plain(message)),
        Event::LogRead { age } => Seen::LogRead(age),
        Event::LogFailed(reason) => Seen::LogFailed(reason),
        Event::Missed(number) => Seen::Missed(number),
        Event::Confirmed(mark) => Seen::Confirmed(mark),
        Event::Kept(mark) => Seen::Kept(mark),
    }
}

type Task = Box<dyn FnOnce(&mut Nats) + Send>;

pub(crate) struct Node {
    tasks: Option<Sender<Task>>,
    takes: Arc<AtomicBool>,
    waker: Waker,
    events: Receiver<Seen>,
    /// What the log is known to have, by mark.
    kept: Receiver<u64>,
    thread: Option<JoinHandle<()>>,
}

/// What a tracker of this name would have, for these servers.
pub(crate) fn config(servers: &[&NatsServer]) -> ClusterConfig {
    let url = |server: &&NatsServer| server.url();
    ClusterConfig {
        servers: servers.iter().map(url).collect(),
        ..ClusterConfig::default()
    }
}

/// A tracker that listens to some channels only.
pub(crate) fn settings_for(name: &str, config: &ClusterConfig, channels: &[Channel]) -> Settings {
    Lines::assert_begun();
    Settings::load(config, name.to_owned(), channels, AGE).unwrap()
}

pub(crate) fn settings(name: &str, config: &ClusterConfig) -> Settings {
    settings_for(name, config, &Channel::ALL)
}

/// Why these settings cannot be used.
pub(crate) fn load_error(config: &ClusterConfig) -> String {
    Lines::assert_begun();
    let loaded = Settings::load(config, "a".to_owned(), &Channel::ALL, AGE);
    format!("{:#}", loaded.unwrap_err())
}

/// One at which peers live for another time.
pub(crate) fn settings_of_age(config: &ClusterConfig, age: Duration) -> Settings {
    Lines::assert_begun();
    Settings::load(config, "other".to_owned(), &Channel::ALL, age).unwrap()
}

impl Node {
    pub(crate) fn start(name: &str, servers: &[&NatsServer]) -> Self {
        Self::start_with(name, &config(servers))
    }

    pub(crate) fn start_with(name: &str, config: &ClusterConfig) -> Self {
        Self::start_as(settings(name, config))
    }

    pub(crate) fn start_as(settings: Settings) -> Self {
        let (tasks, from_test) = mpsc::channel::<Task>();
        let (to_test, events) = mpsc::channel();
        let (to_note, kept) = mpsc::channel();
        let (to_start, waker) = mpsc::channel();
        let is_taking = Arc::new(AtomicBool::new(true));
        let takes = Arc::clone(&is_taking);
        let thread = thread::spawn(move || {
            let runtime = nats::runtime().unwrap();
            runtime.block_on(async move {
                let mut nats = Nats::connect(settings).await.unwrap();
                to_start.send(nats.waker()).unwrap();
                loop {
                    loop {
                        match from_test.try_recv() {
                            Ok(task) => task(&mut nats),
                            Err(mpsc::TryRecvError::Empty) => break,
                            Err(mpsc::TryRecvError::Disconnected) => {
                                nats.finish(Duration::from_secs(5)).await;
                                return;
                            }
                        }
                    }
                    if !takes.load(Relaxed) {
                        thread::sleep(Duration::from_millis(1));
                    } else {
                        while let Some(event) = nats.next_event() {
                            let _ = match seen(event) {
                                Seen::Kept(mark) => to_note.send(mark).is_ok(),
                                seen => to_test.send(seen).is_ok(),
                            };
                        }
                    }
                    nats.ready(Duration::from_secs(1)).await;
                }
            });
        });
        Self {
            tasks: Some(tasks),
            takes: is_taking,
            waker: waker.recv().unwrap(),
            events,
            kept,
            thread: Some(thread),
        }
    }

    /// Does something in the thread.
    pub(crate) fn with<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Nats) -> R + Send + 'static,
    ) -> R {
        self.begin(task).recv_timeout(DEADLINE).unwrap()
    }

    /// The same, without waiting for it.
    pub(crate) fn begin<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Nats) -> R + Send + 'static,
    ) -> Receiver<R> {
        let (sender, receiver) = mpsc::channel();
        let task = move |nats: &mut Nats| sender.send(task(nats)).unwrap();
        self.tasks.as_ref().unwrap().send(Box::new(task)).unwrap();
        self.waker.wake();
        receiver
    }

    /// Whether it takes events, or only lets the bus work.
    pub(crate) fn set_taking(&self, takes: bool) {
        self.takes.store(takes, Relaxed);
    }

    pub(crate) fn try_publish(&self, to: &Destination, payload: &[u8]) -> Result<(), Vec<u8>> {
        self.try_publish_marked(to, payload, 0)
    }

    fn try_publish_marked(
        &self,
        to: &Destination,
        payload: &[u8],
        mark: u64,
    ) -> Result<(), Vec<u8>> {
        let (to, payload) = (to.clone(), payload.to_vec());
        self.with(move |nats| nats.publish(&to, payload, mark))
    }

    /// Publishes, and wants to know when it is in the log.
    #[track_caller]
    pub(crate) fn publish_marked(&self, to: &Destination, payload: &[u8], mark: u64) {
        self.try_publish_marked(to, payload, mark).unwrap();
    }

    /// The next mark of what is in the log, other than 0.
    pub(crate) fn next_kept(&self, time: Duration) -> Option<u64> {
        loop {
            match self.kept.recv_timeout(time) {
                Ok(0) => {}
                mark => return mark.ok(),
            }
        }
    }

    /// Publishes, as soon as there is room.
    #[track_caller]
    pub(crate) fn publish(&self, to: &Destination, payload: &[u8]) {
        let clock = Clock::start();
        while self.try_publish(to, payload).is_err() {
            assert!(clock.elapsed() < DEADLINE, "no room for a message");
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn read_log(&self, since: Duration) {
        self.with(move |nats| nats.read_log(since));
    }

    #[track_caller]
    pub(crate) fn next(&self) -> Seen {
        self.next_within(DEADLINE)
    }

    #[track_caller]
    pub(crate) fn next_within(&self, time: Duration) -> Seen {
        let event = self.events.recv_timeout(time);
        event.expect("something should happen")
    }

    /// What comes next has to be this.
    #[track_caller]
    pub(crate) fn expect(&self, expected: &Seen) {
        assert_eq!(&self.next(), expected);
    }

    #[track_caller]
    pub(crate) fn expect_connected(&self) {
        self.expect(&Seen::Connected);
    }

    #[track_caller]
    pub(crate) fn expect_heard(&self, channel: Channel, node: &str, payload: &[u8]) {
        self.expect(&Seen::Heard((channel, node.to_owned(), payload.to_vec())));
    }

    /// Reads the log to its end; what was in it.
    #[track_caller]
    pub(crate) fn read_all(&self, since: Duration) -> Vec<Plain> {
        self.read_with_age(since).0
    }

    /// The same, and for how long there has been a log.
    #[track_caller]
    pub(crate) fn read_with_age(&self, since: Duration) -> (Vec<Plain>, Duration) {
        self.read_log(since);
        let mut messages = Vec::new();
        loop {
            match self.next() {
                Seen::Logged(message) => messages.push(message),
                Seen::LogRead(age) => return (messages, age),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Why the log cannot be read.
    #[track_caller]
    pub(crate) fn read_in_vain(&self) -> String {
        self.read_log(AGE);
        match self.next() {
            Seen::LogFailed(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// That nothing more happens for this time.
    #[track_caller]
    pub(crate) fn expect_silence(&self, time: Duration) {
        let event = self.events.recv_timeout(time);
        assert_eq!(event, Err(mpsc::RecvTimeoutError::Timeout));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks = None;
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking());
        }
    }
}
