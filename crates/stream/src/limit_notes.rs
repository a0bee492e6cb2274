//! What an operator is told when connections are turned away.

use std::sync::Arc;

use aquatic_daemon::limit_watch::{LimitNote, LimitWatch};

use crate::counters::{Closed, Refused, StreamCounters};
use crate::open_files::{ADVICE, ConnectionRoom};

/// Lets the limits on connections be looked after. `output_advice` says what can be done if clients
/// do not read what is sent to them.
pub(crate) fn watch(
    watch: &mut LimitWatch,
    room: &ConnectionRoom,
    output_advice: Option<&str>,
    workers: &[Arc<StreamCounters>],
) {
    let workers: Arc<[_]> = workers.into();
    let mut add = |what: &str, advice: &str, count: fn(&StreamCounters) -> u64| {
        let workers = Arc::clone(&workers);
        watch.add(LimitNote::new(what, advice), move || {
            workers.iter().map(|it| count(it)).sum()
        });
    };
    add(
        "times that no connection could be accepted for want of files",
        ADVICE,
        |it| it.accepts_without_files.get(),
    );
    add(
        &format!(
            "connections refused, or closed to make room for others, beyond {}",
            room.connections
        ),
        room.advice(),
        |it| it.refused.of(Refused::TooMany).get() + it.closed.of(Closed::Evicted).get(),
    );
    add(
        "connections closed, whose client sends too many requests",
        "see `limits.requests_per_second_per_ip`",
        |it| it.refused.of(Refused::RequestRate).get(),
    );
    add(
        "connections closed, whose client has too many",
        "see `limits.max_connections_per_ip`",
        |it| it.refused.of(Refused::TooManyOfClient).get(),
    );
    add(
        "connections closed at once, from others than proxies",
        "see `network.trusted_proxies`",
        |it| it.refused.of(Refused::UntrustedProxy).get(),
    );
    add(
        "connections closed that do not begin with a PROXY header",
        "with `network.proxy_protocol`, a proxy has to send one (haproxy: send-proxy-v2), and \
         nobody else is served",
        |it| it.closed.of(Closed::ProxyHeader).get(),
    );
    add(
        "connections closed that held most, because all together held too much memory",
        "see `network.max_connection_memory`",
        |it| it.closed.of(Closed::Memory).get(),
    );
    if let Some(advice) = output_advice {
        add(
            "connections closed whose client did not read what was sent",
            advice,
            |it| it.closed.of(Closed::OutputFull).get(),
        );
    }
}
