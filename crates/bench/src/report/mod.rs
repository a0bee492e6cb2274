//! Results to Markdown and SVG. Everything here is a pure function of the results, but for
//! [`write()`](fn@write).

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::figures::Figures;
use crate::results::Results;

pub mod figure;
pub mod markdown;
pub mod svg;

/// Reads results, and writes the page and its plots beside them: `PLAN.md`, `PLAN-SET.svg`.
///
/// # Errors
/// If results cannot be read, or files cannot be written.
pub fn write(path: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let results = Results::read(&text).with_context(|| path.display().to_string())?;
    let folder = path.parent().unwrap_or(path);
    let save = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    let plan = &results.head.plan;
    for set in &results.sets {
        if let Some(image) = svg::draw(set) {
            save(&svg::file_name(plan, set), &image)?;
        }
    }
    let page = format!("{plan}.md");
    save(&page, &markdown::page(&results))?;
    eprintln!("written: {}", folder.join(page).display());
    Ok(())
}

/// The figures of a run, for whoever waits.
#[must_use]
pub fn in_one_line(figures: &Figures) -> String {
    let shown = figure::ALL.iter().filter_map(|figure| {
        let value = (figure.value)(figures)?;
        let (number, unit) = (figure.show(value), figure.unit);
        Some(format!("{} {number}{unit}", figure.name))
    });
    shown.collect::<Vec<_>>().join(", ")
}
