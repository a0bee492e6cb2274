//! An image of the tables of soak tests (SVG): a line of panels for each tracker.

use std::fmt::Write;

use super::samples::Sample;

/// The table of one tracker.
#[derive(Clone, Debug)]
pub struct Table {
    /// The tracker's name.
    pub name: String,
    /// What was seen, in the order of time.
    pub samples: Vec<Sample>,
}

/// What a panel shows.
struct Panel {
    name: &'static str,
    /// Bright enough for a dark page, and dark enough for a white one.
    color: &'static str,
    value: fn(&Sample) -> f64,
}

const PANELS: [Panel; 3] = [
    Panel {
        name: "memory (MiB)",
        color: "#2f81f7",
        value: |sample| to_f64(sample.process.resident_bytes) / f64::from(1 << 20),
    },
    Panel {
        name: "open files",
        color: "#2da44e",
        value: |sample| to_f64(sample.process.files),
    },
    Panel {
        name: "p99 (ms)",
        color: "#d4772c",
        value: |sample| to_f64(sample.interval.p99_micros) / 1e3,
    },
];

/// All sizes in pixels.
const PANEL_WIDTH: f64 = 250.0;
const PANEL_HEIGHT: f64 = 110.0;
const LEFT: f64 = 48.0;
const TOP: f64 = 34.0;
const RIGHT: f64 = 20.0;
const BOTTOM: f64 = 26.0;

impl Table {
    /// Reads a table with the line of its columns' names.
    ///
    /// # Errors
    /// If a line has other columns.
    pub fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        let samples: anyhow::Result<_> = text.lines().skip(1).map(Sample::parse).collect();
        Ok(Self {
            name: name.to_owned(),
            samples: samples?,
        })
    }
}

/// Counts are small.
#[expect(
    clippy::cast_precision_loss,
    reason = "a pixel is much more than what is lost"
)]
fn to_f64(number: u64) -> f64 {
    number as f64
}

/// The image.
#[must_use]
pub fn draw(tables: &[Table]) -> String {
    let [line_width, line_height] = [LEFT + PANEL_WIDTH + RIGHT, TOP + PANEL_HEIGHT + BOTTOM];
    let [width, height] = [
        line_width * to_f64(PANELS.len() as u64),
        line_height * to_f64(tables.len() as u64),
    ];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"11\" fill=\"#848d97\">\n"
    );
    for (line, table) in tables.iter().enumerate() {
        for (column, panel) in PANELS.iter().enumerate() {
            let x = LEFT + line_width * to_f64(column as u64);
            let y = TOP + line_height * to_f64(line as u64);
            svg += &format!("<g transform=\"translate({x} {y})\">\n");
            draw_panel(&mut svg, panel, table);
            svg += "</g>\n";
        }
    }
    svg += "</svg>\n";
    svg
}

fn draw_panel(svg: &mut String, panel: &Panel, table: &Table) {
    let points = table
        .samples
        .iter()
        .filter(|sample| sample.interval.is_load);
    let points: Vec<(f64, f64)> = points
        .map(|sample| {
            (
                to_f64(sample.interval.seconds) / 60.0,
                (panel.value)(sample),
            )
        })
        .collect();
    let largest = points
        .iter()
        .fold(0.0, |max: f64, (_, value)| max.max(*value));
    let step = step(largest / 2.0);
    let top = (largest / step).ceil().max(1.0) * step;
    let end = points.last().map_or(1.0, |(minutes, _)| *minutes).max(0.01);
    let place = |(minutes, value): (f64, f64)| {
        let x = minutes / end * PANEL_WIDTH;
        let y = PANEL_HEIGHT - value / top * PANEL_HEIGHT;
        format!("{x:.1},{y:.1}")
    };
    let mut value = 0.0;
    while value <= top * 1.001 {
        let y = PANEL_HEIGHT - value / top * PANEL_HEIGHT;
        let _ = writeln!(
            svg,
            "<path d=\"M0 {y:.1}H{PANEL_WIDTH}\" stroke=\"#848d97\" stroke-opacity=\".3\"/>\
             <text x=\"-6\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            y + 4.0,
            (value * 1e3).round() / 1e3
        );
        value += step;
    }
    let line: Vec<String> = points.into_iter().map(place).collect();
    let _ = writeln!(
        svg,
        "<text y=\"-12\" font-weight=\"600\">{}: {}</text>\
         <text y=\"{y}\">0</text>\
         <text x=\"{PANEL_WIDTH}\" y=\"{y}\" text-anchor=\"end\">{end:.0} min</text>\n\
         <polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" \
         stroke-linejoin=\"round\"/>",
        escape(&table.name),
        panel.name,
        line.join(" "),
        panel.color,
        y = PANEL_HEIGHT + 16.0
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// The next of 1, 2, 5, 10 and so on.
fn step(least: f64) -> f64 {
    if least <= 0.0 {
        return 1.0;
    }
    let unit = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * unit);
    let next = steps.into_iter().find(|step| *step >= least * 0.999);
    next.unwrap_or(unit * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_numbers() {
        for (least, expected) in [
            (0.0, 1.0),
            (0.7, 1.0),
            (1.2, 2.0),
            (31.0, 50.0),
            (550.0, 1e3),
        ] {
            assert!(
                (step(least) - expected).abs() < 1e-9,
                "{least}: {}",
                step(least)
            );
        }
    }

    #[test]
    fn each_tracker_has_its_lines() {
        let mut text = Sample::HEAD.to_owned();
        for minute in 1..=60 {
            let mut sample = Sample::default();
            sample.interval.seconds = minute * 60;
            sample.interval.is_load = minute <= 50;
            sample.process.resident_bytes = 30 << 20;
            let _ = write!(text, "\n{sample}");
        }
        let table = Table::parse("a<b", &text).unwrap();
        let svg = draw(&[table.clone(), table]);
        assert_eq!(svg.matches("<polyline").count(), 6);
        assert_eq!(svg.matches("50 min").count(), 6, "the end is not load");
        assert!(svg.contains("a&lt;b: memory") && !svg.contains("NaN"));
        // Of 40 MiB in 110 pixels, and after a fiftieth of the width.
        assert!(svg.contains("points=\"5.0,27.5 "), "{svg}");
        assert!(svg.len() < 20_000);
        Table::parse("x", "head\n1,2").unwrap_err();
        assert!(
            draw(&[Table {
                name: String::new(),
                samples: Vec::new()
            }])
            .contains("</svg>")
        );
    }
}
