//! Which figures are shown, in which unit, and with how many digits.

use crate::figures::Figures;
use crate::results::SetResults;

/// A column of a table; perhaps a panel of a plot.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// The heading.
    pub name: &'static str,
    /// What follows the number, with its space.
    pub unit: &'static str,
    /// The number in that unit.
    pub value: fn(&Figures) -> Option<f64>,
    /// What the plot says besides; `None` if there is no panel for it.
    pub panel: Option<&'static str>,
    /// Whether the first tracker's is divided by the others'.
    pub is_compared: bool,
}

const LESS: Option<&str> = Some("less is better");
const MORE: Option<&str> = Some("more is better");

/// All figures, in the order in which they are shown.
pub const ALL: [Figure; 12] = [
    Figure {
        name: "CPU per answer",
        unit: " µs",
        value: |it| it.cpu_micros,
        panel: LESS,
        is_compared: true,
    },
    Figure {
        name: "answers/s",
        unit: "",
        value: |it| it.answers_per_second,
        panel: MORE,
        is_compared: true,
    },
    Figure {
        name: "cores",
        unit: "",
        value: |it| it.cores,
        panel: None,
        is_compared: false,
    },
    Figure {
        name: "p50",
        unit: " ms",
        value: |it| it.p50_micros.map(|micros| micros / 1e3),
        panel: None,
        is_compared: false,
    },
    Figure {
        name: "p99",
        unit: " ms",
        value: |it| it.p99_micros.map(|micros| micros / 1e3),
        panel: LESS,
        is_compared: false,
    },
    Figure {
        name: "p99.9",
        unit: " ms",
        value: |it| it.p999_micros.map(|micros| micros / 1e3),
        panel: None,
        is_compared: false,
    },
    Figure {
        name: "memory per torrent",
        unit: " bytes",
        value: |it| it.bytes_per_torrent,
        panel: LESS,
        is_compared: true,
    },
    Figure {
        name: "memory per peer",
        unit: " bytes",
        value: |it| it.bytes_per_peer,
        panel: LESS,
        is_compared: true,
    },
    Figure {
        name: "memory per connection",
        unit: " KiB",
        value: |it| it.bytes_per_connection.map(|bytes| bytes / 1024.0),
        panel: LESS,
        is_compared: true,
    },
    Figure {
        name: "lost",
        unit: "",
        value: |it| it.lost,
        panel: None,
        is_compared: false,
    },
    Figure {
        name: "errors",
        unit: "",
        value: |it| it.errors,
        panel: None,
        is_compared: false,
    },
    Figure {
        name: "peak memory",
        unit: " MiB",
        value: |it| it.peak_bytes.map(|bytes| bytes / f64::from(1 << 20)),
        panel: None,
        is_compared: false,
    },
];

impl Figure {
    /// The number alone, with three digits that say something.
    #[must_use]
    pub fn show(&self, value: f64) -> String {
        three_digits(value)
    }

    /// Whether a set has it.
    #[must_use]
    pub fn is_in(&self, set: &SetResults) -> bool {
        set.runs
            .iter()
            .any(|(_, _, figures)| (self.value)(figures).is_some())
    }
}

/// A number with three significant digits, or all of its whole ones, in groups of three.
#[must_use]
pub fn three_digits(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ if size < 0.005 => format!("{value:.4}"),
        _ => format!("{value:.2}"),
    };
    grouped(&text)
}

/// Commas between groups of three digits; whoever has a fraction here has no such group.
fn grouped(text: &str) -> String {
    if text.contains('.') || text.len() <= 3 {
        return text.to_owned();
    }
    let mut grouped = String::new();
    for (place, digit) in text.char_indices() {
        let rest = text.len() - place;
        if place > 0 && rest.is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_say_something() {
        for (value, text) in [
            (0.0, "0"),
            (0.0012, "0.0012"),
            (0.42, "0.42"),
            (6.314, "6.31"),
            (71.96, "72.0"),
            (322.4, "322"),
            (1_234.5, "1,234"),
            (196_000.0, "196,000"),
            (14_404_178.0, "14,404,178"),
        ] {
            assert_eq!(three_digits(value), text);
        }
    }
}
