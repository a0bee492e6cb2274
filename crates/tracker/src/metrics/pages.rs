//! What the operator's endpoint shows of the figures: a live page, and JSON.
//!
//! | path | contents |
//! |---|---|
//! | `/` | the page: `page/page.html` with its style and script in it |
//! | `/?tables` | the figures as tables, for a browser without JavaScript |
//! | `/stats.json` | all figures of this moment |
//! | `/history.json` | the last hour; with `?after=SLOT` what has come after that slot |
//!
//! The page is one document that asks for nothing but the last two, and says something without a
//! script. It is told in headers what it may do, so that nothing else can be done with it.
//! It has the figures that it begins with in it, but not those that it does not show.

use aquatic_daemon::endpoint::{Request, Response};
use serde::Serialize;

use super::figures::collector::SharedCollector;
use super::figures::{ByLabel, FamilyFigures, Figures, Part, Process};
use super::tables::{Period, grouped, html, long_duration, tables};
use crate::entropy::{Entropy, OsEntropy};
use crate::launch::Launch;
use crate::metrics::approximate;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// A figure that is not known.
const UNKNOWN: &str = "–";

/// Rows that the page shows of clients, and threads that it chooses from.
const CLIENTS_SHOWN: usize = 20;
const THREADS_BEGUN_WITH: usize = 12;

/// What tables may take that only a browser without JavaScript shows. `/?tables` has all of them.
const TABLES_BYTES_MAX: usize = 4 << 10;

/// How often a browser without JavaScript reads the tables again.
const TABLES_SECONDS: u64 = 10;

/// Has the endpoint serve all of them.
pub(crate) fn serve(launch: &mut Launch<'_>, collector: &SharedCollector) {
    let of_page = collector.clone();
    launch.serve_page("/", move |request| match OsEntropy.key() {
        Ok(key) if is_asked_for(request, "tables") => plain_page(&of_page, key),
        Ok(key) => page(&of_page, key),
        Err(error) => Response::error(500, format!("{error:#}")),
    });
    let of_stats = collector.clone();
    launch.serve_page("/stats.json", move |_| json(&*of_stats.figures()));
    let of_history = collector.clone();
    launch.serve_page("/history.json", move |request| match after(request) {
        Ok(slot) => of_history.with_history(|history| {
            let excerpt = history.after(slot);
            match is_asked_for(request, "packed") {
                true => json(&excerpt.packed()),
                false => json(&excerpt),
            }
        }),
        Err(refusal) => refusal,
    });
}

fn is_asked_for(request: &Request<'_>, name: &str) -> bool {
    request
        .query()
        .split('&')
        .any(|parameter| parameter == name)
}

/// The slot that a client has seen last; 0 if it does not say.
fn after(request: &Request<'_>) -> Result<u64, Response> {
    request
        .parameter("after")
        .map_or(Ok(0), str::parse)
        .map_err(|_| {
            let reason = "`after` is not the number of a slot: write, for example, `?after=12`";
            Response::error(400, reason)
        })
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => guarded(Response::ok(JSON, body)),
        Err(error) => Response::error(500, format!("cannot write this as JSON: {error}")),
    }
}

/// Nothing that is served here is kept by a browser, or taken for something else.
fn guarded(response: Response) -> Response {
    response
        .with_header("Cache-Control", "no-store")
        .with_header("X-Content-Type-Options", "nosniff")
        .with_header("Referrer-Policy", "no-referrer")
}

/// The figures of this moment as tables. `key` is a secret that is used once.
fn plain_page(collector: &SharedCollector, key: [u64; 2]) -> Response {
    let (figures, earlier) = (collector.figures(), collector.earlier());
    let earlier = earlier.as_ref().unwrap_or(&figures);
    let period = Period::between(earlier, &figures);
    let tables = tables(earlier, &figures);
    let nonce = nonce(key);
    let style = format!("<style nonce=\"{nonce}\">");
    let page = html::render(&period, &tables, TABLES_SECONDS);
    guarded(Response::ok(HTML, page.replacen("<style>", &style, 1)))
        .with_header("Content-Security-Policy", policy(&nonce))
}

/// The page with the figures of this moment. `key` is a secret that is used once.
fn page(collector: &SharedCollector, key: [u64; 2]) -> Response {
    let history = collector.with_history(|history| {
        let excerpt = history.after(0).packed();
        serde_json::to_string(&excerpt)
    });
    let (figures, earlier) = (collector.figures(), collector.earlier());
    page_of(&figures, earlier.as_ref().unwrap_or(&figures), history, key)
}

fn page_of(
    figures: &Figures,
    earlier: &Figures,
    history: serde_json::Result<String>,
    key: [u64; 2],
) -> Response {
    let begun_with = serde_json::to_string(&shown(figures));
    let texts = begun_with.and_then(|figures| Ok((figures, history?)));
    let (json, history) = match texts {
        Ok(texts) => texts,
        Err(error) => return Response::error(500, format!("cannot write figures: {error}")),
    };
    let nonce = nonce(key);
    let mut values = words(figures);
    values.extend([
        ("nonce", nonce.clone()),
        ("style", slim(STYLE)),
        ("script", slim(SCRIPT)),
        ("tables", small_tables(earlier, figures)),
        ("figures", in_script(&json)),
        ("history", in_script(&history)),
    ]);
    let response = Response::ok(HTML, fill(&slim(PAGE), &values));
    guarded(response).with_header("Content-Security-Policy", policy(&nonce))
}

/// Tables, but not those that find no room: those of reasons and clients can be long.
fn small_tables(earlier: &Figures, figures: &Figures) -> String {
    let mut all = String::new();
    for table in tables(earlier, figures).iter().map(html::table) {
        if all.len() + table.len() <= TABLES_BYTES_MAX {
            all.push_str(&table);
        }
    }
    all
}

fn nonce([high, low]: [u64; 2]) -> String {
    format!("{high:016x}{low:016x}")
}

/// What a page may do.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

/// Those of the figures that the page shows. It gets the others when it asks again.
fn shown(figures: &Figures) -> Figures {
    let mut shown = figures.clone();
    for family in [&mut shown.ipv4, &mut shown.ipv6] {
        (family.requests, family.responses) = <(ByLabel, ByLabel)>::default();
        family.peers_per_torrent = None;
    }
    for Part {
        ipv4,
        ipv6,
        connections,
        ..
    } in &mut shown.protocols
    {
        for family in [ipv4, ipv6] {
            (family.requests, family.responses) = <(ByLabel, ByLabel)>::default();
            // Reasons are shown of all protocols together.
            (family.dropped, family.refused) = <(ByLabel, ByLabel)>::default();
            family.peers_per_torrent = None;
        }
        *connections = None;
    }
    shown.clients.truncate(CLIENTS_SHOWN);
    let threads = &mut shown.environment.threads;
    threads.sort_by(|one, other| {
        other
            .load
            .unwrap_or(0.0)
            .total_cmp(&one.load.unwrap_or(0.0))
    });
    threads.truncate(THREADS_BEGUN_WITH);
    shown
}

/// The same without what only those need who read the source: indentation, and lines of comments.
fn slim(source: &str) -> String {
    let lines = source.lines().map(str::trim_start);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// What the page says before its script has run, and without one.
fn words(figures: &Figures) -> Vec<(&'static str, String)> {
    let (rates, swarms) = (&figures.rates, &figures.swarms);
    let Process {
        cpus_busy,
        resident_memory_bytes,
        ..
    } = &figures.environment.process;
    let not_served = rates.dropped + rates.refused;
    let busy = cpus_busy.map(|busy| format!("{:.1} %", 100.0 * busy));
    let memory = resident_memory_bytes.map(|bytes| {
        let mebibytes = approximate(bytes) / f64::from(1 << 20);
        format!("{mebibytes:.0} MiB")
    });
    let unknown = || UNKNOWN.to_owned();
    vec![
        ("program", html::escape(&figures.program)),
        ("requests", rate(rates.requests)),
        (
            "requests-note",
            format!(
                "{} responses, {} not served",
                rate(rates.responses),
                rate(not_served)
            ),
        ),
        ("peers", grouped(swarms.peers)),
        (
            "peers-note",
            format!(
                "{} seeders, {} leechers",
                grouped(swarms.seeders),
                grouped(swarms.leechers)
            ),
        ),
        ("torrents", grouped(swarms.torrents)),
        (
            "torrents-note",
            format!(
                "{} downloads completed{}",
                grouped(swarms.completed),
                match counts_torrents_twice(figures) {
                    true => "; torrents of both IPv4 and IPv6 count twice",
                    false => "",
                }
            ),
        ),
        ("fourth", "CPU".to_owned()),
        ("fourth-value", busy.unwrap_or_else(unknown)),
        (
            "fourth-note",
            format!("of one CPU, {} of memory", memory.unwrap_or_else(unknown)),
        ),
        (
            "facts",
            format!(
                "Version {}, up {}",
                figures.version,
                long_duration(figures.uptime())
            ),
        ),
    ]
}

/// See [`Swarms::torrents`](super::figures::Swarms::torrents).
fn counts_torrents_twice(figures: &Figures) -> bool {
    let torrents = |family: &FamilyFigures| family.swarms.map_or(0, |swarms| swarms.torrents);
    torrents(&figures.ipv4) > 0 && torrents(&figures.ipv6) > 0
}

fn rate(rate: f64) -> String {
    match rate < 10.0 {
        true => grouped((rate * 10.0).round() / 10.0),
        false => grouped(format!("{rate:.0}")),
    }
}

/// JSON that stays within its element, whatever is in it.
fn in_script(json: &str) -> String {
    json.replace('<', r"\u003c")
}

/// Puts values into a template, each at `{{name}}`. What comes with a value is no template.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut filled = String::with_capacity(template.len() + STYLE.len() + SCRIPT.len());
    let mut pieces = template.split("{{");
    filled.extend(pieces.next());
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        let value = values.iter().find(|(other, _)| *other == name);
        debug_assert!(value.is_some(), "no value for {name}");
        filled.extend(value.map(|(_, value)| value.as_str()));
        filled.push_str(rest);
    }
    filled
}

#[cfg(test)]
mod tests {
    use aquatic_daemon::clock::Clock;

    use super::*;
    use crate::metrics::figures::Process as ProcessFigures;
    use crate::metrics::figures::collector::Sources;
    use crate::metrics::figures::collector::tests::busy_figures;
    use crate::metrics::figures::largest;

    /// In all, with figures and history.
    const PAGE_BYTES_MAX: usize = 60 << 10;

    fn page_of_an_idle_tracker() -> (Response, String) {
        let process = aquatic_daemon::process::Process::open();
        let collector = SharedCollector::new(Sources::default(), process, Clock::start());
        let response = page(&collector, [1, 2]);
        let text = String::from_utf8(response.body.clone()).unwrap();
        (response, text)
    }

    #[test]
    fn the_page_is_whole_and_small() {
        let (response, text) = page_of_an_idle_tracker();
        assert_eq!(response.status, 200);
        assert!(!text.contains("{{"), "all values are filled in");
        assert!(text.starts_with("<!DOCTYPE html>") && text.trim_end().ends_with("</html>"));
        assert!(text.len() < PAGE_BYTES_MAX, "{}", text.len());
    }

    #[test]
    fn the_page_is_small_with_all_that_can_be_in_it() {
        let figures = largest::figures();
        assert!(figures.clients.len() > CLIENTS_SHOWN);
        assert!(figures.environment.threads.len() > THREADS_BEGUN_WITH);
        let history = largest::history();
        let history = serde_json::to_string(&history.after(0).packed());
        let page = page_of(&figures, &figures, history, [1, 2]).body;
        assert!(page.len() < PAGE_BYTES_MAX, "{}", page.len());
        let page = String::from_utf8(page).unwrap();
        for shown in [
            "announce requests/s",
            "receive_buffer_full",
            "offer_unknown",
            "full_scrape",
            "rTorrent",
        ] {
            assert!(page.contains(shown), "{shown}");
        }
    }

    #[test]
    fn nothing_is_lost_by_leaving_indentation_out() {
        let of_several_lines = |line: &&str| line.matches('`').count() % 2 == 1;
        let found = SCRIPT.lines().find(of_several_lines);
        assert_eq!(found, None, "a text that goes on in the next line");
        assert_eq!(
            slim("a {\n  // why\n\n    b: \"//\";\n}"),
            "a {\nb: \"//\";\n}\n"
        );
    }

    #[test]
    fn torrents_of_both_families_are_said_to_count_twice() {
        let mut figures = busy_figures(5);
        let note = |figures: &Figures| {
            let mut words = words(figures).into_iter();
            words.find(|(name, _)| *name == "torrents-note").unwrap().1
        };
        assert_eq!(note(&figures), "2 downloads completed");
        figures.ipv4.swarms = figures.ipv6.swarms;
        assert!(note(&figures).ends_with("; torrents of both IPv4 and IPv6 count twice"));
    }

    #[test]
    fn tables_are_there_without_a_script() {
        let process = aquatic_daemon::process::Process::open();
        let collector = SharedCollector::new(Sources::default(), process, Clock::start());
        let response = plain_page(&collector, [1, 2]);
        let text = String::from_utf8(response.body.clone()).unwrap();
        assert!(text.contains("batches in queues"), "{text}");
        assert!(text.contains("<style nonce=\"00000000000000010000000000000002\">"));
        assert!(response.header("Content-Security-Policy").is_some());
    }

    #[test]
    fn nothing_runs_but_what_the_policy_names() {
        let (response, text) = page_of_an_idle_tracker();
        let nonce = "00000000000000010000000000000002";
        let header = |name| response.header(name).unwrap_or_default();
        let policy = header("Content-Security-Policy");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(policy.contains(&format!("script-src 'nonce-{nonce}'")));
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("Cache-Control"), "no-store");
        assert_eq!(text.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
        for outside in ["http://", "https://", " src=", "url(", "@import", " style="] {
            let found = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(outside), "{outside}");
        }
    }

    #[test]
    fn the_page_says_something_without_a_script() {
        let mut figures = busy_figures(5);
        figures.environment.process = ProcessFigures {
            cpus_busy: Some(0.125),
            resident_memory_bytes: Some(64 << 20),
            ..figures.environment.process
        };
        let words = words(&figures);
        let word = |name| {
            let mut words = words.iter();
            words.find(|(other, _)| *other == name).unwrap().1.as_str()
        };
        assert_eq!(word("program"), "aquatic_bees");
        assert_eq!(word("requests"), "100");
        assert_eq!(word("requests-note"), "80 responses, 20 not served");
        assert_eq!(word("peers-note"), "5 seeders, 3 leechers");
        assert_eq!(word("fourth-value"), "12.5 %");
        assert_eq!(word("fourth-note"), "of one CPU, 64 MiB of memory");
        assert_eq!((rate(0.0), rate(1_234.4)), ("0".into(), "1,234".into()));
    }

    #[test]
    fn values_are_no_templates_and_json_stays_in_its_element() {
        let values = [("a", "{{b}}".to_owned()), ("b", "x".to_owned())];
        assert_eq!(fill("1 {{a}} 2 {{b}} 3", &values), "1 {{b}} 2 x 3");
        assert_eq!(in_script(r#""</script>""#), r#""\u003c/script>""#);
    }
}
