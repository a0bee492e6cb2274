//! The state of the connection, as all tasks see it, and what the log is told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ClientError, Event, ReconnectToServer, Server, ServerAddr, ServerError};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::choice::Choice;
use super::history::Log;
use super::subjects::ANNOUNCE_STREAM;
use crate::counters::ListKind;

/// The state of the connection is looked at so often, besides when the library tells of it: it
/// does not if too much happens at once.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// So often it is greeted if nothing at all comes from it: longer than it takes until a connection
/// is found to be dead.
const GREETINGS_MAX: u32 = 7;

/// While a subscription is refused, it is tried again so often. Servers whose configuration is read
/// anew do not tell that something is allowed now.
const RESUBSCRIBE_INTERVAL: Duration = Duration::from_secs(60);

/// How long an answer to a greeting is waited for.
const GREETING_WAIT: Duration = Duration::from_secs(2);

/// Refused subjects that are told of one by one.
const REFUSALS_MAX: usize = 32;

/// What the log has been told last about this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    Connecting,
    Server,
    History,
    /// The log, as somebody has made it.
    Stream,
    /// What the log does not take.
    Keeping,
    Size,
    Announces,
    /// The bucket that this key of the configuration is about.
    Bucket(&'static str),
}

/// What of JetStream is asked for. A refusal concerns one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    Log,
    Bucket(ListKind),
    Announces,
}

/// What was refused, of one area.
#[derive(Debug, Default)]
struct Refusals {
    last: Mutex<Option<String>>,
    /// Wakes who waits for JetStream: there will be no answer.
    noted: Notify,
}

#[derive(Debug, Default)]
struct Told {
    last: BTreeMap<About, String>,
    refusals: BTreeSet<String>,
    /// Why there are no answers to requests, on this connection.
    mute: Option<String>,
    /// A subscription was refused on this connection.
    is_deaf: bool,
    is_name_unknown: bool,
}

/// What tasks, and the taker of events, share.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Wakes the taker of events.
    pub(super) taker: Notify,
    keeper: Notify,
    /// Wakes who waits for a connection.
    connected: Notify,
    of_log: Refusals,
    of_access_list: Refusals,
    of_keys: Refusals,
    of_announces: Refusals,
    /// How often there was a connection through which everything is heard.
    connections: AtomicU64,
    is_up: AtomicBool,
    missed: AtomicU64,
    /// A message was given back to the taker, for lack of room.
    pub(super) wants_room: AtomicBool,
    pub(super) errors: AtomicU64,
    told: Mutex<Told>,
    choice: Mutex<Choice>,
}

/// What a server says, without the name of an entry of a bucket: it may be a user's key.
fn without_entry(text: &str) -> String {
    const ENTRY: &str = "\"$KV.";
    let Some((before, subject)) = text.split_once(ENTRY) else {
        return text.to_owned();
    };
    let (bucket, entry) = subject.split_once('.').unwrap_or((subject, ""));
    let (_, after) = entry.split_once('"').unwrap_or((entry, ""));
    format!("{before}{ENTRY}{bucket}.…\"{after}")
}

/// The same without the number of a reader, which each has another one of.
fn without_number(text: &str) -> String {
    const DIGITS: usize = 16;
    let mut words = text.split('_');
    let mut shown = words.next().unwrap_or_default().to_owned();
    for word in words {
        let digits = word.bytes().take_while(u8::is_ascii_hexdigit).count();
        shown.push('_');
        match word.get(DIGITS..) {
            Some(rest) if digits == DIGITS => shown.push_str(&format!("…{rest}")),
            _ => shown.push_str(word),
        }
    }
    shown
}

/// Whether a subject names the bucket of this list.
fn names_bucket(text: &str, kind: ListKind) -> bool {
    let bucket = kind.bucket("");
    let word = bucket.trim_start_matches("aquatic_");
    [".", "\""]
        .iter()
        .any(|end| text.contains(&format!("{word}{end}")))
}

impl Link {
    /// The number of the connection, if there is one.
    pub(super) fn connection(&self) -> Option<u64> {
        let number = self.connections.load(Relaxed);
        self.is_up.load(Relaxed).then_some(number)
    }

    /// How many messages have been lost since this was asked.
    pub(super) fn take_missed(&self) -> u64 {
        match self.missed.load(Relaxed) {
            0 => 0,
            _ => self.missed.swap(0, Relaxed),
        }
    }

    /// A message is lost.
    pub(super) fn miss(&self) {
        self.missed.fetch_add(1, Relaxed);
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the log, unless this was the last that it was told.
    pub(super) fn tell(&self, about: About, text: &str) {
        self.tell_reason(about, text, text);
    }

    /// The same, unless this was the last `reason`.
    pub(super) fn tell_reason(&self, about: About, reason: &str, text: &str) {
        let mut told = self.told();
        if told.last.get(&about).is_none_or(|last| last != reason) {
            log::warn!("{text}");
            told.last.insert(about, reason.to_owned());
            self.errors.fetch_add(1, Relaxed);
        }
    }

    /// What was wrong is right.
    pub(super) fn forget(&self, about: About) {
        self.told().last.remove(&about);
    }

    fn refusals(&self, area: Area) -> &Refusals {
        match area {
            Area::Log => &self.of_log,
            Area::Bucket(ListKind::AccessList) => &self.of_access_list,
            Area::Bucket(ListKind::Keys) => &self.of_keys,
            Area::Announces => &self.of_announces,
        }
    }

    /// What of JetStream, or an answer of it, the server has refused last since this was asked.
    pub(super) fn take_refusal(&self, area: Area) -> Option<String> {
        let last = self.refusals(area).last.lock();
        last.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The same if it was this.
    pub(super) fn take_refusal_of(&self, area: Area, what: &str) -> Option<String> {
        let last = self.refusals(area).last.lock();
        let mut last = last.unwrap_or_else(PoisonError::into_inner);
        last.take_if(|text| text.contains(what))
    }

    /// Tells when something is refused.
    pub(super) fn refused(&self, area: Area) -> &Notify {
        &self.refusals(area).noted
    }

    fn note_refusal(&self, area: Area, text: &str) {
        let refusals = self.refusals(area);
        let last = refusals.last.lock();
        *last.unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
        refusals.noted.notify_waiters();
    }

    /// Waits for a connection; its number.
    pub(super) async fn connected(&self) -> u64 {
        loop {
            let mut connected = pin!(self.connected.notified());
            connected.as_mut().enable();
            if let Some(number) = self.connection() {
                return number;
            }
            connected.await;
        }
    }

    /// Something that the library tells.
    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::Connected => {
                // What was refused on another connection. What is on this one comes after this.
                self.forget_refusals();
                self.keeper.notify_one();
            }
            Event::Disconnected => self.keeper.notify_one(),
            Event::SlowConsumer(_) => {
                self.miss();
                self.taker.notify_one();
            }
            Event::ServerError(ServerError::Other(text)) => self.note_server_error(text),
            Event::LameDuckMode => log::info!("the NATS server is about to stop"),
            // That is no reason by itself: `note_round` knows more.
            Event::ClientError(ClientError::Other(text)) => {
                self.told().is_name_unknown = text.contains("DNS");
            }
            _ => {}
        }
    }

    /// Whether this is what a server says to what a user may not do.
    pub(super) fn is_refusal(text: &str) -> bool {
        text.starts_with("Permissions Violation")
    }

    fn note_server_error(&self, text: &str) {
        let text = &without_number(&without_entry(text));
        if !Self::is_refusal(text) {
            let text = format!("the NATS server reports: {text}");
            self.tell(About::Server, &text);
            return;
        }
        let is_answer = text.contains("\"_INBOX");
        let is_of_some_bucket = text.contains("\"$KV.") || text.contains(".KV_");
        let is_of_bucket = |kind| is_of_some_bucket && names_bucket(text, kind);
        let is_of_announces = text.contains(".announces.") || text.contains(ANNOUNCE_STREAM);
        let is_of_log = text.contains("\"$JS.") && !is_of_some_bucket && !is_of_announces;
        if text.contains("Subscription") {
            let mut told = self.told();
            told.is_deaf = true;
            if is_answer {
                told.mute = Some(text.to_owned());
            }
        }
        for (area, is_meant) in [
            (Area::Log, is_of_log),
            (
                Area::Bucket(ListKind::AccessList),
                is_of_bucket(ListKind::AccessList),
            ),
            (Area::Bucket(ListKind::Keys), is_of_bucket(ListKind::Keys)),
            (Area::Announces, is_of_announces),
        ] {
            if is_answer || is_meant {
                self.note_refusal(area, text);
            }
        }
        let mut told = self.told();
        // Each inbox has another name.
        let subject = text.split("_INBOX").next().unwrap_or(text);
        if told.refusals.len() < REFUSALS_MAX && told.refusals.insert(subject.to_owned()) {
            self.errors.fetch_add(1, Relaxed);
            log::warn!(
                "the NATS server refuses what this tracker's user may not do, without which \
                 swarms are not shared as they should: {text}"
            );
        }
    }

    fn choice(&self) -> MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server to be tried now.
    pub(super) fn choose(&self, servers: &[Server]) -> Option<ReconnectToServer> {
        let chosen = self.choice().choose(servers);
        let (addr, have_all_failed) = chosen?;
        if have_all_failed {
            self.note_failures(servers);
        }
        Some(ReconnectToServer { addr, delay: None })
    }

    /// All servers have been tried in vain.
    fn note_failures(&self, servers: &[Server]) {
        let is_name_unknown = self.told().is_name_unknown;
        let reasons = servers.iter().filter_map(|server| {
            let is_silent = self.choice().is_silent(&server.addr);
            let reason = match &server.last_error {
                _ if is_silent => "it takes connections, and says nothing".to_owned(),
                Some(error) => in_words(error),
                None if is_name_unknown => "its name cannot be looked up".to_owned(),
                None => return None,
            };
            Some(format!("{}: {reason}", place(&server.addr)))
        });
        let mut reasons: Vec<_> = reasons.collect();
        reasons.sort();
        if !reasons.is_empty() {
            let reasons = reasons.join("; ");
            let text = format!("no connection to NATS, which is tried again and again: {reasons}");
            // Some tell for how long it is so.
            let reason: String = text.chars().filter(|it| !it.is_ascii_digit()).collect();
            self.tell_reason(About::Connecting, &reason, &text);
        }
    }

    /// For how long there is a connection through which not everything is heard.
    fn is_deaf_for(&self) -> Option<Duration> {
        let is_deaf = self.told().is_deaf;
        self.choice().up_for(Instant::now()).filter(|_| is_deaf)
    }

    /// Why there will be no answers to requests.
    pub(super) fn is_mute(&self) -> Option<String> {
        self.told().mute.clone()
    }

    fn forget_refusals(&self) {
        let mut told = self.told();
        (told.mute, told.is_deaf) = (None, false);
    }

    fn go_down(&self) {
        self.choice().go_down(Instant::now());
        if self.is_up.swap(false, Relaxed) {
            self.forget_refusals();
            log::warn!("the connection to NATS is lost");
            self.taker.notify_one();
        }
    }

    fn go_up(&self, client: &Client) {
        let server = client.server_info();
        // It tells where it listens, which need not be where it was reached.
        log::info!(
            "connected to the NATS server {}, version {}",
            server.server_name,
            server.version
        );
        self.forget(About::Connecting);
        self.forget(About::Server);
        self.forget(About::Keeping);
        self.choice().go_up(Instant::now());
        self.connections.fetch_add(1, Relaxed);
        self.is_up.store(true, Relaxed);
        self.taker.notify_one();
        self.connected.notify_waiters();
    }
}

/// Watches the connection for ever.
pub(super) async fn keep(link: &Link, client: Client, greeting: String, log: Option<Log>) {
    let statistics = client.statistics();
    let mut greeted = 0;
    let mut preparation: Option<AbortHandle> = None;
    loop {
        let connects = || statistics.connects.load(Relaxed);
        let is_connected = || client.connection_state() == State::Connected;
        let number = connects();
        if !is_connected() || number != greeted {
            link.go_down();
        }
        if is_connected() && number != greeted {
            greet_until_heard(link, &client, &greeting, number).await;
            if is_connected() && number == connects() {
                greeted = number;
                if let Some(log) = &log {
                    if let Some(preparation) = preparation.take() {
                        preparation.abort();
                    }
                    preparation = Some(log.prepare().await);
                    log.wait_until_decided().await;
                }
                if is_connected() && number == connects() {
                    link.go_up(&client);
                }
            } else {
                link.choice().note_silence();
            }
            continue;
        }
        if link.is_deaf_for() >= Some(RESUBSCRIBE_INTERVAL) {
            let _ = client.force_reconnect().await;
        }
        let _ = timeout(LOOK_INTERVAL, link.keeper.notified()).await;
    }
}

/// A server that hangs takes connections, and says nothing.
async fn greet_until_heard(link: &Link, client: &Client, subject: &str, number: u64) {
    let statistics = client.statistics();
    let messages = || statistics.in_messages.load(Relaxed);
    let before = messages();
    for _ in 0..GREETINGS_MAX {
        greet(client, subject).await;
        let is_over = statistics.connects.load(Relaxed) != number
            || client.connection_state() != State::Connected;
        if messages() != before || is_over || link.is_mute().is_some() {
            return;
        }
    }
}

/// Makes sure that the server has read everything before: it does not answer otherwise, that nobody
/// listens to the subject. An answer that does not come says nothing, as when the server does not
/// know whether somebody listens elsewhere; but by then it has read it for sure.
pub(super) async fn greet(client: &Client, subject: &str) {
    let request = client.request(subject.to_owned(), Vec::new().into());
    if let Ok(Err(error)) = timeout(GREETING_WAIT, request).await {
        log::debug!("answer to the greeting: {error}");
    }
}

fn place(address: &ServerAddr) -> String {
    let (host, port) = (address.host(), address.port());
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// What an operator can do about it.
fn in_words(error: &str) -> String {
    let lower = error.to_lowercase();
    let refusals = [
        "authorization violation",
        "authentication expired",
        "authentication revoked",
    ];
    if refusals.iter().any(|it| lower.contains(it)) {
        "it refuses the credentials (`cluster.credentials_file`)".to_owned()
    } else if lower.contains("invalid peer certificate") {
        format!("its certificate is not trusted (`cluster.tls_ca_file`): {error}")
    } else if lower.contains("fatal alert") && lower.contains("cert") {
        // Servers of several versions say it in several ways.
        format!("it does not trust this tracker (`cluster.tls_certificate_file`): {error}")
    } else if lower.contains("corrupt message") {
        "it does not speak TLS: write nats:// (`cluster.servers`)".to_owned()
    } else if lower.contains("platform cert") {
        "it wants TLS: write tls:// (`cluster.servers`)".to_owned()
    } else {
        let error = error.trim_start_matches("IO error: ");
        error.escape_debug().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_about_one_list_only() {
        let said_of = |kind: ListKind| {
            let link = Link::default();
            for name in ["aquatic_main_keys", "aquatic_keys_access"] {
                link.note_server_error(&format!(
                    "Permissions Violation for Publish to \"$JS.API.STREAM.INFO.KV_{name}\""
                ));
                if link.take_refusal(Area::Bucket(kind)).is_some() {
                    return name;
                }
            }
            "nothing"
        };
        assert_eq!(said_of(ListKind::Keys), "aquatic_main_keys");
        assert_eq!(said_of(ListKind::AccessList), "aquatic_keys_access");
        let link = Link::default();
        for subject in [
            "$KV.aquatic_main_keys.a_key",
            "$KV.aquatic_main_keys.x_access",
        ] {
            link.note_server_error(&format!(
                "Permissions Violation for Publish to \"{subject}\""
            ));
            assert_eq!(link.take_refusal(Area::Bucket(ListKind::AccessList)), None);
            assert!(link.take_refusal(Area::Bucket(ListKind::Keys)).is_some());
            assert_eq!(link.take_refusal(Area::Log), None);
        }
    }

    #[test]
    fn readers_are_refused_as_one() {
        for (said, told) in [
            (
                "Publish to \"$JS.API.CONSUMER.MSG.NEXT.KV_b.host-udp_0123456789abcdef\"",
                "Publish to \"$JS.API.CONSUMER.MSG.NEXT.KV_b.host-udp_…\"",
            ),
            (
                "\"CONSUMER.CREATE.A_main.a_b_00000000deadbeef.filter_x\"",
                "\"CONSUMER.CREATE.A_main.a_b_….filter_x\"",
            ),
            ("no_number_deadbeef", "no_number_deadbeef"),
            ("é_ééééééééé_", "é_ééééééééé_"),
            ("", ""),
        ] {
            assert_eq!(without_number(said), told);
        }
    }

    #[test]
    fn no_key_of_a_user_is_in_what_is_told() {
        for (said, told) in [
            (
                "Permissions Violation for Publish to \"$KV.aquatic_main_keys.a-key\"",
                "Permissions Violation for Publish to \"$KV.aquatic_main_keys.…\"",
            ),
            (
                "Permissions Violation for Publish to \"$KV.b.a.b\", and more",
                "Permissions Violation for Publish to \"$KV.b.…\", and more",
            ),
            ("\"$KV.cut", "\"$KV.cut.…\""),
            ("Authorization Violation", "Authorization Violation"),
        ] {
            assert_eq!(without_entry(said), told);
        }
    }
}
