//! Turns a program that clang has made into a Rust array. Run by `scripts/bpf.sh`.
//!
//! ```sh
//! cargo run -p aquatic_xdp --example generate -- NAME OBJECT SECTION "COMPILER"
//! ```

use std::fmt::Write as _;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};

const INSTRUCTION_BYTES: usize = 8;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [name, path, section, compiler] = arguments.as_slice() else {
        bail!("NAME OBJECT SECTION COMPILER are wanted");
    };
    let bytes = fs::read(path).with_context(|| path.clone())?;
    print!("{}", generate(name, &bytes, section, compiler)?);
    Ok(())
}

fn generate(name: &str, bytes: &[u8], section: &str, compiler: &str) -> Result<String> {
    let object = object::File::parse(bytes)?;
    ensure!(object.is_little_endian(), "not for little-endian machines");
    let text = object.section_by_name(".text");
    let is_whole = text.is_none_or(|text| text.size() == 0);
    ensure!(is_whole, "all functions have to be inlined");
    let section = object.section_by_name(section).context("no such section")?;
    let (instructions, rest) = section.data()?.as_chunks::<INSTRUCTION_BYTES>();
    ensure!(rest.is_empty(), "not made of instructions");
    let mut maps = Vec::new();
    for (offset, relocation) in section.relocations() {
        let RelocationTarget::Symbol(index) = relocation.target() else {
            bail!("a reference to something that is no map, at {offset}");
        };
        let symbol = object.symbol_by_index(index)?;
        let place = symbol.section_index().context("a symbol from elsewhere")?;
        let of = object.section_by_index(place)?;
        ensure!(of.name()? == "maps", "{} is no map", symbol.name()?);
        maps.push((usize::try_from(offset)? / INSTRUCTION_BYTES, symbol.name()?));
    }
    let mut out = format!(
        "//! Made by `scripts/bpf.sh`, with {compiler}.\n\n\
         use super::Code;\n\n\
         /// `bpf/{name}.bpf.c`.\n\
         #[rustfmt::skip]\n\
         pub(crate) const CODE: Code = Code {{\n    \
         name: \"{name}\",\n    maps: &["
    );
    for (place, map) in &maps {
        write!(out, "\n        ({place}, \"{map}\"),")?;
    }
    out += "\n    ],\n    instructions: &[\n";
    for line in instructions.chunks(4) {
        let words = line.iter().map(|word| {
            let word = u64::from_le_bytes(*word);
            let [high, low] = [word >> 32, word & 0xffff_ffff];
            format!(
                "0x{:04x}_{:04x}_{:04x}_{:04x}",
                high >> 16,
                high & 0xffff,
                low >> 16,
                low & 0xffff
            )
        });
        writeln!(out, "        {},", words.collect::<Vec<_>>().join(", "))?;
    }
    out += "    ],\n};\n";
    Ok(out)
}
