//! What Prometheus would see.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::TcpStream;

use aquatic_types::IpFamily;

use crate::Daemon;
use crate::wait::{DEADLINE, until_ok};

/// A line of the exposition: `name{label="value"} 1`.
#[derive(Debug)]
pub struct Sample {
    /// Of the metric.
    pub name: String,
    /// Names and values.
    pub labels: Vec<(String, String)>,
    /// What it says.
    pub value: f64,
}

impl Sample {
    /// Label values in the tests hold no comma, quote or brace.
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.trim_end_matches('}')),
            None => (series, ""),
        };
        let labels = labels.split(',').filter_map(|label| label.split_once('='));
        Self {
            name: name.to_owned(),
            labels: labels
                .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
                .collect(),
            value: value.parse().unwrap(),
        }
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.labels
            .iter()
            .any(|label| label.0 == name && label.1 == value)
    }
}

/// Scrapes the tracker's endpoint.
#[must_use]
pub fn scrape(daemon: &Daemon) -> Vec<Sample> {
    samples(&text(daemon))
}

/// All samples in what a tracker's endpoint says.
#[must_use]
pub fn samples(text: &str) -> Vec<Sample> {
    let lines = text.lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(Sample::parse).collect()
}

/// What the tracker's endpoint says, as it stands there.
#[must_use]
pub fn text(daemon: &Daemon) -> String {
    let answer = get(daemon).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// The names and types of all metrics in such a text. Each must be there once.
#[must_use]
pub fn types(text: &str) -> BTreeMap<String, String> {
    let mut types = BTreeMap::new();
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for (name, kind) in lines.filter_map(|line| line.split_once(' ')) {
        let twice = types.insert(name.to_owned(), kind.to_owned());
        assert_eq!(twice, None, "{name}");
    }
    types
}

fn get(daemon: &Daemon) -> io::Result<String> {
    let mut stream = TcpStream::connect(daemon.place.metrics_address())?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The sum of all samples with this name and these labels; `selector` is `name{label=value,...}`.
#[must_use]
pub fn sum(samples: &[Sample], selector: &str) -> f64 {
    let (name, labels) = selector.split_once('{').unwrap_or((selector, ""));
    let labels: Vec<_> = labels
        .trim_end_matches('}')
        .split(',')
        .filter_map(|label| label.split_once('='))
        .collect();
    samples
        .iter()
        .filter(|sample| sample.name == name)
        .filter(|sample| labels.iter().all(|(name, value)| sample.has(name, value)))
        .map(|sample| sample.value)
        .sum()
}

/// The values of a label among all samples of a metric.
#[must_use]
pub fn values(samples: &[Sample], metric: &str, label: &str) -> BTreeSet<String> {
    samples
        .iter()
        .filter(|sample| sample.name == metric)
        .flat_map(|sample| &sample.labels)
        .filter(|(name, _)| name == label)
        .map(|(_, value)| value.clone())
        .collect()
}

/// A set to compare [`values`] with.
pub fn set<T: ToString>(values: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

/// Waits until all these sums are right: statistics are a little late.
#[track_caller]
pub fn wait_for(daemon: &Daemon, expected: &[(&str, f64)]) {
    until_ok(|| {
        let samples = scrape(daemon);
        for (selector, value) in expected {
            let found = sum(&samples, selector);
            if found != *value {
                return Err(format!("{selector} is {found}, not {value}"));
            }
        }
        Ok(())
    });
}

/// Waits until there are so many seeders and leechers of a family, and so many downloads have been
/// finished.
#[track_caller]
pub fn wait_for_swarms(daemon: &Daemon, family: IpFamily, numbers: [f64; 3]) {
    let selectors = ["seeders", "leechers", "completed_downloads_total"]
        .map(|name| format!("aquatic_{name}{{ip_version={}}}", family.digit()));
    let selectors = selectors.iter().map(String::as_str);
    let expected: Vec<_> = selectors.zip(numbers).collect();
    wait_for(daemon, &expected);
}

/// What a label of a metric is expected to say, in all its samples together.
pub type Expected<'a> = (&'a str, &'a str, BTreeSet<String>);

/// Waits until all these labels have just these values: metrics appear one after the other.
#[track_caller]
pub fn wait_for_labels(daemon: &Daemon, expected: &[Expected<'_>]) {
    until_ok(|| {
        let samples = scrape(daemon);
        for (metric, label, wanted) in expected {
            let found = values(&samples, metric, label);
            if found != *wanted {
                return Err(format!("{label} of {metric} is {found:?}, not {wanted:?}"));
            }
        }
        Ok(())
    });
}
