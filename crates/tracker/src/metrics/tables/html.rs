//! Statistics as a web page that needs nothing but itself. Pure.

use super::{Period, Table};

const STYLE: &str = "\
:root { color-scheme: light dark; --line: #d8d8d8; --quiet: #666 }
@media (prefers-color-scheme: dark) { :root { --line: #3c3c3c; --quiet: #999 } }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.4em; margin-bottom: 0 }
p { color: var(--quiet); margin-top: 0.2em }
main { display: flex; flex-wrap: wrap; gap: 1.5em 3em; align-items: flex-start }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: 0.2em 0 0.2em 1.5em; border-bottom: 1px solid var(--line); text-align: right }
th { font-weight: normal; color: var(--quiet); white-space: nowrap }
th:first-child { padding-left: 0; text-align: left }
tbody th { color: inherit }
thead th:first-child { color: inherit; font-weight: bold }
";

/// A whole page, which a browser reads again every `refresh_seconds`.
pub(crate) fn render(period: &Period, tables: &[Table], refresh_seconds: u64) -> String {
    let Period {
        program,
        end,
        uptime,
        seconds,
    } = period;
    let [program, end, uptime, seconds] = [program, end, uptime, seconds].map(|text| escape(text));
    let tables: String = tables.iter().map(table).collect();
    format!(
        "\
<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<meta http-equiv=\"refresh\" content=\"{refresh_seconds}\">
<title>{program} statistics</title>
<style>
{STYLE}</style>
</head>
<body>
<h1>{program}</h1>
<p>Updated {end}. Up {uptime}. Rates are averages over {seconds} seconds.</p>
<main>
{tables}</main>
</body>
</html>
"
    )
}

/// A table by itself.
pub(crate) fn table(table: &Table) -> String {
    let columns: String = table
        .columns
        .iter()
        .map(|column| cell("th scope=\"col\"", "th", column))
        .collect();
    let mut html = format!(
        "<table>\n<thead><tr>{}{columns}</tr></thead>\n<tbody>\n",
        cell("th scope=\"col\"", "th", &table.title),
    );
    for row in &table.rows {
        html.push_str("<tr>");
        html.push_str(&cell("th scope=\"row\"", "th", &row.name));
        for figure in &row.figures {
            html.push_str(&cell("td", "td", figure));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table>\n");
    html
}

fn cell(start_tag: &str, end_tag: &str, text: &str) -> String {
    format!("<{start_tag}>{}</{end_tag}>", escape(text))
}

/// Takes the meaning from characters that mean something in HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::Row;

    use super::*;

    fn page(name: &str) -> String {
        let period = Period {
            program: "aquatic_bees".to_owned(),
            end: "now".to_owned(),
            uptime: "1 d".to_owned(),
            seconds: "5.0".to_owned(),
        };
        let row = Row {
            name: name.to_owned(),
            figures: vec!["1,234".to_owned()],
        };
        let columns = vec!["a < b".to_owned()];
        render(
            &period,
            &[Table {
                title: "Clients".to_owned(),
                columns,
                rows: vec![row],
            }],
            7,
        )
    }

    #[test]
    fn markup_in_text_is_escaped() {
        assert_eq!(escape("<a href=\"x\">Tom & 'Jerry'"), {
            "&lt;a href=&quot;x&quot;&gt;Tom &amp; &#39;Jerry&#39;"
        });
        let page = page("<script>alert(1)</script>");
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("<th scope=\"row\">&lt;script&gt;alert(1)&lt;/script&gt;</th>"));
        assert!(page.contains("<th scope=\"col\">a &lt; b</th>"));
        assert!(page.contains("<td>1,234</td>"));
    }

    #[test]
    fn the_page_refreshes_itself_and_needs_nothing_else() {
        let page = page("µTorrent");
        assert!(page.contains("<meta http-equiv=\"refresh\" content=\"7\">"));
        assert!(page.contains("µTorrent") && page.contains("charset=\"utf-8\""));
        for outside in ["http:", "https:", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn every_element_is_closed() {
        let page = page("name");
        for element in [
            "html", "head", "body", "style", "main", "table", "thead", "tbody", "tr",
        ] {
            let starts = page.matches(&format!("<{element}>")).count()
                + page.matches(&format!("<{element} ")).count();
            assert_eq!(
                page.matches(&format!("</{element}>")).count(),
                starts,
                "{element}"
            );
        }
    }
}
