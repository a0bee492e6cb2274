//! Statistics as plain text, for standard output. Pure.

use std::iter;

use super::{Period, Table};

/// All tables, one below the other, and an empty line.
pub(super) fn render(period: &Period, tables: &[Table]) -> String {
    let Period {
        program: _,
        end,
        uptime,
        seconds,
    } = period;
    let mut text = format!("Statistics of {seconds} s until {end} (up {uptime})\n");
    for table in tables {
        push_table(&mut text, table);
    }
    text.push('\n');
    text
}

/// Names are aligned at the left, figures at the right.
fn push_table(text: &mut String, table: &Table) {
    let names: Vec<String> = table
        .rows
        .iter()
        .map(|row| format!("  {}", row.name))
        .collect();
    let name_width = width(iter::once(&*table.title).chain(names.iter().map(String::as_str)));
    let widths: Vec<usize> = table
        .columns
        .iter()
        .enumerate()
        .map(|(place, heading)| {
            let figures = table.rows.iter().filter_map(|row| row.figures.get(place));
            width(iter::once(heading).chain(figures).map(String::as_str))
        })
        .collect();
    let mut push_line = |name: &str, cells: &[String]| {
        text.push_str(&format!("{name:name_width$}"));
        for (cell, width) in cells.iter().zip(&widths) {
            text.push_str(&format!("  {cell:>width$}"));
        }
        text.push('\n');
    };
    push_line(&table.title, &table.columns);
    for (name, row) in names.iter().zip(&table.rows) {
        push_line(name, &row.figures);
    }
}

/// Characters of the longest.
fn width<'a>(cells: impl Iterator<Item = &'a str>) -> usize {
    cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::Row;

    use super::*;

    #[test]
    fn columns_are_aligned() {
        let period = Period {
            program: "aquatic_bees".to_owned(),
            end: "now".to_owned(),
            uptime: "1 d".to_owned(),
            seconds: "5.0".to_owned(),
        };
        let row = |name: &str, figures: [&str; 2]| Row {
            name: name.to_owned(),
            figures: figures.map(str::to_owned).to_vec(),
        };
        let tables = [
            Table {
                title: "Clients".to_owned(),
                columns: ["peers", "share"].map(str::to_owned).to_vec(),
                rows: vec![
                    row("µTorrent 3.5.5", ["1,234,567", "99.0 %"]),
                    row("Other", ["8", "1.0 %"]),
                ],
            },
            Table {
                title: "A longer title".to_owned(),
                columns: vec!["all".to_owned()],
                rows: Vec::new(),
            },
        ];
        let expected = "\
Statistics of 5.0 s until now (up 1 d)
Clients               peers   share
  µTorrent 3.5.5  1,234,567  99.0 %
  Other                   8   1.0 %
A longer title  all

";
        assert_eq!(render(&period, &tables), expected);
    }
}
