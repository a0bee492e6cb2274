//! The plot of a set: a panel for each figure that is worth one, a bar for each tracker.
//!
//! Bars begin at zero and have their value beside them, so there is no axis. A thin line goes from
//! the smallest round to the largest. Colours are legible on a white page and on a dark one, where
//! the page's style reaches an image; text is neither black nor white.

use std::fmt::Write;

use crate::report::figure::{self, Figure};
use crate::results::SetResults;
use crate::statistics::Spread;

/// All sizes in pixels.
const WIDTH: f64 = 720.0;
const LABEL_WIDTH: f64 = 190.0;
const BAR_WIDTH: f64 = 390.0;
const ROW_HEIGHT: f64 = 26.0;
const BAR_HEIGHT: f64 = 14.0;
const HEADING_HEIGHT: f64 = 30.0;
const PANEL_GAP: f64 = 14.0;
const MARGIN: f64 = 8.0;

/// The longest label that has room, in characters.
const LABEL_MAX: usize = 28;

const STYLE: &str = "\
text{fill:#57606a}.head{font-weight:600}.first{fill:#1f6feb}.other{fill:#8c959f}\
.spread{stroke:#24292f;stroke-width:1.5}\
@media(prefers-color-scheme:dark){text{fill:#9da7b3}.first{fill:#388bfd}.other{fill:#6e7681}\
.spread{stroke:#e6edf3}}";

/// The name of the plot of a set.
#[must_use]
pub fn file_name(plan: &str, results: &SetResults) -> String {
    format!("{plan}-{}.svg", results.set.name)
}

/// The plot; `None` if there is nothing to show.
#[must_use]
pub fn draw(results: &SetResults) -> Option<String> {
    let panels: Vec<(&Figure, &str)> = figure::ALL
        .iter()
        .filter(|figure| figure.is_in(results))
        .filter_map(|figure| Some((figure, figure.panel?)))
        .collect();
    if panels.is_empty() {
        return None;
    }
    let rows = results.set.contenders.len();
    let panel_height = HEADING_HEIGHT + ROW_HEIGHT * to_f64(rows) + PANEL_GAP;
    let height = 2.0 * MARGIN + panel_height * to_f64(panels.len()) - PANEL_GAP;
    let title = escape(&results.set.title);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n"
    );
    for (number, (figure, better)) in panels.into_iter().enumerate() {
        let y = MARGIN + panel_height * to_f64(number);
        draw_panel(&mut svg, results, figure, better, y);
    }
    svg += "</svg>\n";
    Some(svg)
}

fn draw_panel(svg: &mut String, results: &SetResults, figure: &Figure, better: &str, top: f64) {
    let unit = match figure.unit.trim() {
        "" => String::new(),
        unit => format!(", {unit}"),
    };
    let _ = writeln!(
        svg,
        "<text x=\"{MARGIN}\" y=\"{:.1}\"><tspan class=\"head\">{}{unit}</tspan> ({better})</text>",
        top + 16.0,
        figure.name
    );
    let entries = results.set.contenders.iter().enumerate();
    let spreads: Vec<_> = entries
        .map(|(contender, entry)| (entry, Spread::of(results.values(contender, figure.value))))
        .collect();
    let largest = spreads
        .iter()
        .filter_map(|(_, spread)| Some(spread.as_ref()?.max));
    let largest = largest.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    for (row, (entry, spread)) in spreads.into_iter().enumerate() {
        let y = top + HEADING_HEIGHT + ROW_HEIGHT * to_f64(row);
        let label: String = entry.label.chars().take(LABEL_MAX).collect();
        let _ = writeln!(
            svg,
            "<text x=\"{LABEL_WIDTH}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            y + 12.0,
            escape(&label)
        );
        let class = if row == 0 { "first" } else { "other" };
        draw_bar(svg, spread, figure, (class, largest), y);
    }
}

fn draw_bar(
    svg: &mut String,
    spread: Option<Spread>,
    figure: &Figure,
    (class, largest): (&str, f64),
    y: f64,
) {
    let left = LABEL_WIDTH + MARGIN;
    let Some(spread) = spread else {
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{:.1}\">no figures</text>",
            y + 12.0
        );
        return;
    };
    let length = |value: f64| (value / largest * BAR_WIDTH).max(1.0);
    let [median, min, max] = [spread.median, spread.min, spread.max].map(length);
    let middle = y + BAR_HEIGHT / 2.0;
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{left}\" y=\"{y:.1}\" width=\"{median:.1}\" \
         height=\"{BAR_HEIGHT}\" rx=\"2\"/>"
    );
    if max - min >= 1.0 {
        let _ = writeln!(
            svg,
            "<path class=\"spread\" d=\"M{:.1} {middle:.1}H{:.1}\"/>",
            left + min,
            left + max
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        left + max.max(median) + 6.0,
        y + 12.0,
        figure.show(spread.median)
    );
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('"', "&quot;")
}

/// Counts of lines and panels.
#[expect(clippy::cast_precision_loss, reason = "there are few")]
fn to_f64(count: usize) -> f64 {
    count as f64
}
