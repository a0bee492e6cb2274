//! Figures, on the terminal and as lines of JSON.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use jiff::Zoned;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::machine::{self, Machine};
use crate::statistics::{Spread, quantile};

/// The first line of each run.
#[derive(Clone, Debug, Serialize)]
struct Head {
    date: String,
    commit: String,
    command: String,
    machine: Machine,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Figure {
    measurement: &'static str,
    name: String,
    unit: &'static str,
    value: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Head(&'a Head),
    Figure(&'a Figure),
    Failure(&'a Failure),
}

/// A measurement that could not be made.
#[derive(Clone, Debug, Serialize)]
struct Failure {
    measurement: &'static str,
    error: String,
}

/// A figure of a run: its name, its unit, and where it is.
pub(crate) type Column<Run> = (&'static str, &'static str, fn(&Run) -> f64);

/// The figures of one measurement.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    measurement: &'static str,
    figures: Vec<Figure>,
}

/// Where figures go.
#[derive(Debug)]
pub(crate) struct Output(File);

impl Table {
    pub(crate) fn new(measurement: &'static str) -> Self {
        Self {
            measurement,
            figures: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, name: impl Into<String>, unit: &'static str, value: f64) {
        self.figures.push(Figure {
            measurement: self.measurement,
            name: name.into(),
            unit,
            value,
        });
    }

    /// Median, 99th percentile and maximum, if there are any values.
    pub(crate) fn add_quantiles(&mut self, name: &str, unit: &'static str, mut values: Vec<f64>) {
        values.sort_by(f64::total_cmp);
        for (label, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            if let Some(value) = quantile(&values, share) {
                self.add(format!("{name}, {label}"), unit, value);
            }
        }
        let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
        self.add(format!("{name}, how many"), "values", f64::from(count));
    }

    /// The median of runs, and the smallest and the largest if there are several.
    pub(crate) fn add_spread(
        &mut self,
        name: &str,
        unit: &'static str,
        values: impl IntoIterator<Item = f64>,
    ) {
        if let Some(spread) = Spread::of(values) {
            self.add(format!("{name}, median"), unit, spread.median);
            if spread.count > 1 {
                self.add(format!("{name}, smallest"), unit, spread.min);
                self.add(format!("{name}, largest"), unit, spread.max);
            }
        }
    }

    fn markdown(&self) -> String {
        let mut text = format!("\n| {} | | |\n|---|--:|---|\n", self.measurement);
        for Figure {
            name, unit, value, ..
        } in &self.figures
        {
            let digits = if value.fract() == 0.0 { 0 } else { 3 };
            text += &format!("| {name} | {value:.digits$} | {unit} |\n");
        }
        text
    }
}

impl Output {
    /// Begins a file in this folder, or goes on with the one that is there: measurements are
    /// long, and one at a time must not cost the others.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn create(folder: &Path, command: String) -> anyhow::Result<Self> {
        let create = || {
            fs::create_dir_all(folder)?;
            let mut options = File::options();
            options.append(true).create(true);
            options.open(folder.join("cluster.jsonl"))
        };
        let file = create().with_context(|| format!("cannot write to {}", folder.display()))?;
        let now = Zoned::now().with_time_zone(TimeZone::UTC);
        let head = Head {
            date: now.strftime("%Y-%m-%d %H:%M UTC").to_string(),
            commit: machine::commit(Path::new(".")),
            command,
            machine: Machine::here(),
        };
        println!("{}: load average {}", head.date, head.machine.load_average);
        let mut output = Self(file);
        output.write(&Line::Head(&head))?;
        Ok(output)
    }

    fn write(&mut self, line: &Line<'_>) -> anyhow::Result<()> {
        let text = serde_json::to_string(line)?;
        writeln!(self.0, "{text}").context("cannot write the figures")
    }

    /// Prints and writes figures.
    ///
    /// # Errors
    /// If they cannot be written.
    pub(crate) fn add(&mut self, table: &Table) -> anyhow::Result<()> {
        print!("{}", table.markdown());
        std::io::stdout().flush()?;
        let mut figures = table.figures.iter();
        figures.try_for_each(|figure| self.write(&Line::Figure(figure)))
    }

    /// Prints and writes why there are no figures.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn add_failure(
        &mut self,
        measurement: &'static str,
        error: &anyhow::Error,
    ) -> anyhow::Result<()> {
        let error = format!("{error:#}");
        eprintln!("{measurement} has failed: {error}");
        self.write(&Line::Failure(&Failure { measurement, error }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_a_table_and_lines() {
        let mut table = Table::new("x");
        table.add_quantiles("time", "ms", vec![3.0, 1.0, 2.5]);
        let text = table.markdown();
        assert!(text.contains("| time, p50 | 2.500 | ms |\n"), "{text}");
        assert!(text.contains("| time, max | 3 | ms |\n"), "{text}");
        let folder = tempfile::tempdir().unwrap();
        let mut output = Output::create(folder.path(), "command".to_owned()).unwrap();
        output.add(&table).unwrap();
        let written = fs::read_to_string(folder.path().join("cluster.jsonl")).unwrap();
        let lines: Vec<_> = written.lines().collect();
        assert!(lines[0].starts_with("{\"head\":{\"date\":\""), "{written}");
        let figure = r#"{"figure":{"measurement":"x","name":"time, p50","unit":"ms","value":2.5}}"#;
        assert_eq!(lines[1], figure);
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn runs_go_on_with_the_file_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        for command in ["one", "two"] {
            let mut output = Output::create(folder.path(), command.to_owned()).unwrap();
            output.add_failure("x", &anyhow::anyhow!("no")).unwrap();
        }
        let written = fs::read_to_string(folder.path().join("cluster.jsonl")).unwrap();
        let lines: Vec<_> = written.lines().collect();
        assert_eq!(lines[1], r#"{"failure":{"measurement":"x","error":"no"}}"#);
        assert!(lines[2].contains(r#""command":"two""#), "{written}");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn a_spread_has_both_ends() {
        let mut table = Table::new("x");
        table.add_spread("time", "ms", [3.0, 1.0, 2.5]);
        table.add_spread("nothing", "ms", []);
        table.add_spread("once", "ms", [7.0]);
        let values: Vec<f64> = table.figures.iter().map(|figure| figure.value).collect();
        assert_eq!(values, [2.5, 1.0, 3.0, 7.0]);
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let error = Output::create(Path::new("/dev/null/x"), String::new()).unwrap_err();
        assert!(error.to_string().contains("/dev/null/x"), "{error}");
    }
}
