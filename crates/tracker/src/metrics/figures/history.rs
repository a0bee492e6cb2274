//! The last hour, in slots of some seconds. Pure.
//!
//! A slot has no time of its own but its place: it ends so many slots before the newest one. So a
//! clock on the wall that is set changes nothing, and after a pause of the process (a machine that
//! was suspended) there are slots of which nothing is known.

use std::collections::VecDeque;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{Figures, Part};
use crate::metrics::approximate;

/// The time of a slot.
pub const SLOT: Duration = Duration::from_secs(10);

/// An hour.
pub const SLOTS_MAX: usize = 360;

/// Series for each protocol, and all others. With [`SLOTS_MAX`] they take 4 bytes each: 30 KiB.
const SERIES_MAX: usize = 3 * 2 + 14;

/// Values from here on are shown as whole numbers.
const WHOLE_MIN: f32 = 100.0;

/// The digits of numbers in a packed series: those of base64.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const TORRENTS: &str = "torrents";
const CONNECTIONS: &str = "connections";

/// Series of which the page has no chart.
const NOT_DRAWN: [&str; 3] = ["responses", "resident_memory_bytes", "response_time_p99_ms"];

/// Figures of the last hour.
#[derive(Debug, Default)]
pub struct History {
    /// What the values of each slot are.
    names: Vec<String>,
    /// The newest comes last; `None` is one of which nothing is known.
    slots: VecDeque<Option<Vec<f32>>>,
    /// The number of the newest, counted from the start.
    newest: u64,
}

impl History {
    /// The slot that ends last until `at`, the time since the start.
    #[must_use]
    pub fn slot_at(at: Duration) -> u64 {
        at.as_secs() / SLOT.as_secs()
    }

    /// The number of the newest slot; 0 at the start.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Adds the slot that ends now, unless it is there already. The rates of the figures are those
    /// of the slot.
    pub fn add(&mut self, slot: u64, figures: &Figures) {
        if slot <= self.newest {
            return;
        }
        let missed = usize::try_from(slot - self.newest - 1).unwrap_or(usize::MAX);
        let missed = missed.min(SLOTS_MAX);
        self.slots.extend((0..missed).map(|_| None));
        let (names, values) = series(figures).into_iter().unzip();
        // Protocols do not change while the process runs.
        self.names = names;
        self.slots.push_back(Some(values));
        self.newest = slot;
        let surplus = self.slots.len().saturating_sub(SLOTS_MAX);
        self.slots.drain(..surplus);
    }

    /// All slots after this number: the newest numbers that a client has not seen.
    #[must_use]
    pub fn after(&self, slot: u64) -> Excerpt<'_> {
        let new = usize::try_from(self.newest.saturating_sub(slot)).unwrap_or(usize::MAX);
        Excerpt {
            history: self,
            is_packed: false,
            // A number from the future is one of another process: that client knows nothing.
            skip: match slot > self.newest {
                true => 0,
                false => self.slots.len().saturating_sub(new),
            },
        }
    }
}

/// A part of the history, to be written as JSON.
#[derive(Debug)]
pub struct Excerpt<'a> {
    history: &'a History,
    skip: usize,
    is_packed: bool,
}

impl Excerpt<'_> {
    /// The series that the live page draws, each as a text: three characters for each value.
    /// Written out, the values of a busy tracker take up to eight.
    #[must_use]
    pub fn packed(self) -> Self {
        Self {
            is_packed: true,
            ..self
        }
    }
}

impl Serialize for Excerpt<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let history = self.history;
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("slot_seconds", &SLOT.as_secs())?;
        map.serialize_entry("slots_max", &SLOTS_MAX)?;
        map.serialize_entry("newest", &history.newest)?;
        map.serialize_entry("series", &AllSeries(self))?;
        map.end()
    }
}

struct AllSeries<'a>(&'a Excerpt<'a>);

impl Serialize for AllSeries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(excerpt) = self;
        let names = &excerpt.history.names;
        let has_connections = names.iter().any(|name| name == CONNECTIONS);
        // The page has one chart for the two.
        let is_drawn = |name: &str| match has_connections {
            true => name != TORRENTS && !NOT_DRAWN.contains(&name),
            false => !NOT_DRAWN.contains(&name),
        };
        let names = names.iter().enumerate();
        let names = names.filter(|(_, name)| !excerpt.is_packed || is_drawn(name));
        serializer.collect_map(names.map(|(index, name)| {
            let slots = excerpt.history.slots.iter().skip(excerpt.skip);
            let values = slots.map(|slot| {
                let value = slot.as_ref()?.get(index).copied()?;
                Some(Value(value)).filter(|_| value.is_finite())
            });
            let values = match excerpt.is_packed {
                true => Values::Packed(values.flat_map(Value::pack).collect()),
                false => Values::Plain(values.collect()),
            };
            (name, values)
        }))
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Values {
    Plain(Vec<Option<Value>>),
    Packed(String),
}

/// A value with some three digits: more cannot be seen in a chart.
#[derive(Debug)]
struct Value(f32);

impl Value {
    /// A number in three digits to the base of 64, the highest first: up to four decimal digits of
    /// the value, and 10,000 for each power of ten that they are to be multiplied with, from
    /// hundredths on. The largest number stands for a value that is not known.
    fn pack(value: Option<Self>) -> [char; 3] {
        let number = value.map_or((1 << 18) - 1, |Self(value)| {
            let hundredths = (f64::from(value).max(0.0) * 100.0).round();
            if value < WHOLE_MIN && hundredths < 10_000.0 {
                return format!("{hundredths:.0}").parse().unwrap_or(0);
            }
            let digits = format!("{value:.0}");
            // As above: what follows four digits is not seen.
            let (seen, beyond) = digits.split_at(digits.len().min(4));
            let seen: usize = seen.parse().unwrap_or(0);
            (seen + 10_000 * (beyond.len() + 2)).min((1 << 18) - 2)
        });
        [number >> 12, number >> 6, number].map(|it| char::from(DIGITS[it % 64]))
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(value) = *self;
        let hundredths = (f64::from(value) * 100.0).round() / 100.0;
        if value >= WHOLE_MIN || hundredths.fract() == 0.0 {
            let digits = format!("{value:.0}");
            let whole = digits.parse().unwrap_or(u64::MAX);
            // The fourth digit and what follows it are not seen.
            let beyond = u32::try_from(digits.len().saturating_sub(4)).unwrap_or(0);
            let step = 10_u64.checked_pow(beyond).unwrap_or(1);
            return serializer.serialize_u64(whole / step * step);
        }
        serializer.serialize_f64(hundredths)
    }
}

/// What is kept of figures.
fn series(figures: &Figures) -> Vec<(String, f32)> {
    let mut series = Vec::with_capacity(SERIES_MAX);
    let mut add = |name: &str, value: f64| series.push((name.to_owned(), single(value)));
    for Part {
        name, ipv4, ipv6, ..
    } in &figures.protocols
    {
        add(&format!("requests_{name}_ipv4"), ipv4.rates.requests);
        add(&format!("requests_{name}_ipv6"), ipv6.rates.requests);
    }
    let rates = &figures.rates;
    add("responses", rates.responses);
    add("dropped", rates.dropped);
    add("refused", rates.refused);
    add("received_bytes", rates.received_bytes);
    add("sent_bytes", rates.sent_bytes);
    let swarms = &figures.swarms;
    add(TORRENTS, approximate(swarms.torrents));
    add("seeders", approximate(swarms.seeders));
    add("leechers", approximate(swarms.leechers));
    let open = [&figures.ipv4, &figures.ipv6].map(|family| family.connections);
    if open.iter().any(Option::is_some) {
        let open = open.into_iter().flatten().sum();
        add(CONNECTIONS, approximate(open));
    }
    let process = &figures.environment.process;
    let unknown = f64::NAN;
    add("cpus_busy", process.cpus_busy.unwrap_or(unknown));
    let memory = process.resident_memory_bytes.map(approximate);
    add("resident_memory_bytes", memory.unwrap_or(unknown));
    let mut parts = figures.protocols.iter();
    if let Some(times) = parts.find_map(|part| part.response_time.as_ref()) {
        let milliseconds = |seconds: f64| seconds * 1e3;
        let p99 = times.p99_seconds.map(milliseconds);
        add("response_time_p99_ms", p99.unwrap_or(unknown));
    }
    series
}

/// Half of the memory of a `f64`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "seven digits are more than a chart shows"
)]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::figures::collector::tests::figures;
    use crate::metrics::figures::largest;

    fn filled(slots: impl IntoIterator<Item = u64>) -> History {
        let mut history = History::default();
        for slot in slots {
            let mut figures = figures();
            figures.swarms.torrents = slot;
            history.add(slot, &figures);
        }
        history
    }

    fn torrents(excerpt: &Excerpt<'_>) -> Vec<Option<u64>> {
        let json = serde_json::to_value(excerpt).unwrap();
        let series = json["series"]["torrents"].as_array().into_iter().flatten();
        series.map(serde_json::Value::as_u64).collect()
    }

    #[test]
    fn an_hour_is_kept() {
        let history = filled(1..=SLOTS_MAX as u64 + 5);
        let all = torrents(&history.after(0));
        assert_eq!(all.len(), SLOTS_MAX);
        assert_eq!((all[0], all[SLOTS_MAX - 1]), (Some(6), Some(365)));
        assert!(history.names.len() <= SERIES_MAX, "{:?}", history.names);
    }

    #[test]
    fn only_what_is_new_is_told() {
        let history = filled(1..=5);
        assert_eq!(torrents(&history.after(3)), [Some(4), Some(5)]);
        assert!(torrents(&history.after(5)).is_empty());
        let of_another_process = torrents(&history.after(9));
        assert_eq!(of_another_process.len(), 5);
    }

    #[test]
    fn a_pause_leaves_a_gap() {
        let history = filled([1, 2, 5, 5, 4]);
        let expected = [Some(1), Some(2), None, None, Some(5)];
        assert_eq!(torrents(&history.after(0)), expected);
        let history = filled([1, 1_000_000_000]);
        let all = torrents(&history.after(0));
        assert_eq!(all.len(), SLOTS_MAX);
        assert_eq!(all[SLOTS_MAX - 1], Some(1_000_000_000));
        assert_eq!(all[..SLOTS_MAX - 1], [None; SLOTS_MAX - 1]);
        assert_eq!(torrents(&History::default().after(0)), []);
    }

    #[test]
    fn values_are_as_short_as_a_chart_allows() {
        for (value, expected) in [
            (0.0, "0"),
            (0.123, "0.12"),
            (2.0, "2"),
            (99.96, "99.96"),
            (123.4, "123"),
            (1_234_567.0, "1234000"),
            (1e30, "18446744073709551615"),
        ] {
            let json = serde_json::to_string(&Value(value)).unwrap();
            assert_eq!(json, expected);
        }
    }

    /// As the page does it.
    fn unpack(text: &str) -> Vec<Option<f64>> {
        let digit = |digit: &u8| DIGITS.iter().position(|other| other == digit).unwrap();
        let values = text.as_bytes().chunks(3).map(|digits| {
            let number = digits.iter().fold(0, |sum, it| 64 * sum + digit(it));
            let power = i32::try_from(number / 10_000).unwrap() - 2;
            let seen = f64::from(u32::try_from(number % 10_000).unwrap());
            (number != (1 << 18) - 1).then(|| seen * 10_f64.powi(power))
        });
        values.collect()
    }

    #[test]
    fn packed_values_are_the_same() {
        for value in [
            0.0,
            0.123,
            2.0,
            99.96,
            99.996,
            100.0,
            123.4,
            9_999.0,
            1e4,
            1_234_567.0,
        ] {
            let plain: f64 = serde_json::to_string(&Value(value))
                .unwrap()
                .parse()
                .unwrap();
            let packed = String::from_iter(Value::pack(Some(Value(value))));
            let unpacked = unpack(&packed)[0].unwrap();
            assert!(
                (unpacked - plain).abs() < 1e-9,
                "{value}: {packed} {unpacked}"
            );
        }
        assert_eq!(unpack(&String::from_iter(Value::pack(None))), [None]);
        let beyond_all = String::from_iter(Value::pack(Some(Value(f32::MAX))));
        assert!(unpack(&beyond_all)[0].unwrap() > 1e20);
        let json = serde_json::to_value(filled([1, 3]).after(0).packed()).unwrap();
        let torrents = json["series"]["torrents"].as_str().unwrap();
        assert_eq!(unpack(torrents), [Some(1.0), None, Some(3.0)]);
    }

    #[test]
    fn a_full_hour_of_all_protocols_is_small() {
        let history = largest::history();
        let names = history.names.len();
        assert!(names <= SERIES_MAX, "{:?}", history.names);
        let json = serde_json::to_string(&history.after(0).packed()).unwrap();
        assert!(json.len() < 30 << 10, "{}", json.len());
    }
}
