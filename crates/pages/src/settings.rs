//! The configuration file of a program, as a man page.

use aquatic_config::{KeyDescription, SectionDescription};
use roff::{Roff, bold, italic, roman};

use crate::manual::with_empty_date;
use crate::programs::Program;

/// The page.
pub(crate) fn page(program: &Program) -> String {
    let name = program.name();
    let file = format!("{name}.toml");
    let version = program.command.get_version().unwrap_or_default();
    let mut roff = Roff::new();
    let source = format!("aquatic {version}");
    roff.control("TH", [&*file, "5", "", &source, "BitTorrent trackers"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{file} - configuration of {name}"))]);
    roff.control("SH", ["DESCRIPTION"]);
    let docs = program.settings.first().map(|root| root.docs.as_slice());
    paragraphs(&mut roff, docs.unwrap_or_default());
    roff.control("PP", []);
    let prints = format!("{} -p", program.prints);
    roff.text([
        roman("The file is TOML. It need not have every key: what is missing has its default. "),
        bold(&*prints),
        roman(" prints a file with all keys. "),
        bold(format!("{} --check-config -c FILE", program.prints)),
        roman(" says what is wrong with a file."),
    ]);
    for section in &program.settings {
        add_section(&mut roff, section);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold(name), roman(format!("({})", program.manual_section))]);
    with_empty_date(roff.to_roff(), "5")
}

fn add_section(roff: &mut Roff, section: &SectionDescription) {
    if section.path.is_empty() {
        roff.control("SH", ["KEYS ABOVE ALL SECTIONS"]);
    } else {
        roff.control("SH", [&*format!("[{}]", section.path)]);
        paragraphs(roff, &section.docs);
    }
    for key in &section.keys {
        roff.control("TP", []);
        let value = value(key);
        roff.text([bold(&*key.name), roman(" = "), italic(value)]);
        paragraphs_of_key(roff, &key.docs);
    }
}

/// Its default.
fn value(key: &KeyDescription) -> String {
    match &key.value {
        Ok(value) => value.to_string(),
        Err(error) => error.clone(),
    }
}

fn paragraphs(roff: &mut Roff, docs: &[String]) {
    for (index, lines) in docs.split(|line| line.trim().is_empty()).enumerate() {
        if index > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(joined(lines))]);
    }
}

fn paragraphs_of_key(roff: &mut Roff, docs: &[String]) {
    for (index, lines) in docs.split(|line| line.trim().is_empty()).enumerate() {
        if index > 0 {
            roff.control("IP", []);
        }
        roff.text([roman(joined(lines))]);
    }
}

/// Lines of one paragraph. They begin with the space that follows the `///`.
pub(crate) fn joined(lines: &[String]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}
