//! What Prometheus reads: metrics as text.
//!
//! Most metrics are told to the `metrics` facade, whose exporter writes them. It knows counters of
//! whole numbers, gauges, and histograms that are told of each value. What is none of these is
//! written here, beside what the exporter writes: a histogram that a worker has counted in atomics,
//! a counter of seconds, a metric without a type.
//!
//! The format is version 0.0.4 of the Prometheus text format.

use std::fmt::{Display, Write};

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// See [`Family::histogram`].
    Histogram,
    /// Nothing is said about it.
    Untyped,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Untyped => "untyped",
        }
    }
}

/// Names and values of labels.
pub type Labels<'a> = [(&'a str, &'a str)];

/// The text, as it grows.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a metric, whose samples must follow one another: each name begins once only.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {}", kind.name()));
        Family { text: self, name }
    }

    /// All that has been written.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// A metric, with its samples.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut Exposition,
    name: &'a str,
}

impl Family<'_> {
    /// Adds a sample.
    pub fn sample(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.write("", labels, value);
    }

    /// Adds a histogram: for each upper bound, in ascending order, how many values are not above
    /// it; how many values there are, and what they add up to.
    pub fn histogram(
        &mut self,
        labels: &Labels<'_>,
        buckets: impl IntoIterator<Item = (f64, u64)>,
        count: u64,
        sum: f64,
    ) {
        let mut bucket = |bound: &str, count| {
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound)]).collect();
            self.write("_bucket", &labels, count);
        };
        for (bound, count) in buckets {
            bucket(&bound.to_string(), count);
        }
        bucket("+Inf", count);
        self.write("_sum", labels, sum);
        self.write("_count", labels, count);
    }

    fn write(&mut self, suffix: &str, labels: &Labels<'_>, value: impl Display) {
        let label = |(name, value): &(&str, &str)| format!("{name}=\"{}\"", escape(value));
        let labels: Vec<_> = labels.iter().map(label).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        self.text
            .line(format_args!("{}{suffix}{labels} {value}", self.name));
    }
}

fn escape(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut text = Exposition::default();
        let mut bytes = text.family("bytes", Kind::Untyped, "Of \\ all\nkinds");
        bytes.sample(&[("kind", "a\"b\\c\nd"), ("worker", "0")], 7);
        bytes.sample(&[], 0.5);
        text.family("seconds", Kind::Histogram, "Time").histogram(
            &[("worker", "1")],
            [(0.00005, 1), (1.0, 3)],
            4,
            2.25,
        );
        let expected = r#"# HELP bytes Of \\ all\nkinds
# TYPE bytes untyped
bytes{kind="a\"b\\c\nd",worker="0"} 7
bytes 0.5
# HELP seconds Time
# TYPE seconds histogram
seconds_bucket{worker="1",le="0.00005"} 1
seconds_bucket{worker="1",le="1"} 3
seconds_bucket{worker="1",le="+Inf"} 4
seconds_sum{worker="1"} 2.25
seconds_count{worker="1"} 4
"#;
        assert_eq!(text.into_text(), expected);
    }
}
