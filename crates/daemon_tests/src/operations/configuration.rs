//! The configuration file: printed, checked, and refused with a reason.

use crate::{Place, Program};

/// Mistakes that can be made in every daemon's file, and what the complaint must contain.
const MISTAKES: [(&str, &[&str]); 5] = [
    ("socket_wrokers = 1", &["line 1", "socket_wrokers"]),
    ("\n[network]\nadress = '127.0.0.1:1'", &["line 3", "adress"]),
    ("[netwrok]\naddress = '127.0.0.1:1'", &["line 1", "netwrok"]),
    ("socket_workers = 'many'", &["line 1", "socket_workers"]),
    ("this is not TOML", &["line 1"]),
];

/// The keys of a printed file, in order, each with its section.
#[must_use]
pub fn keys(file: &str) -> Vec<String> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in file.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_end_matches(']'));
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            keys.push(format!("{section}{key}"));
        }
    }
    keys
}

/// What `-p` prints is [`Program::keys`], and a file that means the default.
pub fn the_printed_default_has_every_key_with_a_comment_and_loads(program: &'static Program) {
    let place = Place::new();
    let printed = place.run(program, &["-p"]);
    assert_eq!((printed.code, printed.log.as_str()), (Some(0), ""));
    assert_eq!(keys(&printed.stdout), program.keys);
    let lines: Vec<_> = printed.stdout.lines().collect();
    for pair in lines.windows(2) {
        let is_key = !pair[1].starts_with('#') && pair[1].contains(" = ");
        assert!(
            !is_key || pair[0].starts_with('#'),
            "no comment above {}",
            pair[1]
        );
    }

    let file = place.write("default.toml", &printed.stdout);
    let file = file.to_str().unwrap();
    let parsed = place.run(program, &["-c", file, "-P"]);
    assert_eq!((parsed.code, parsed.log.as_str()), (Some(0), ""));
    assert_eq!(parsed.stdout, printed.stdout);
    let checked = place.run(program, &["-c", file, "--check-config"]);
    assert_eq!((checked.code, checked.log.as_str()), (Some(0), ""));
}

/// Common ones, and [`Program::mistakes`]: by file, line and key, whatever was asked for.
pub fn mistakes_are_named(program: &'static Program) {
    let place = Place::new();
    for (text, complaints) in MISTAKES.iter().chain(program.mistakes) {
        let file = place.write("wrong.toml", text);
        let file = file.to_str().unwrap();
        for arguments in [
            &["-c", file, "--check-config"][..],
            &["-c", file],
            &["-c", file, "-P"],
        ] {
            let ended = place.run(program, arguments);
            assert_eq!(ended.code, Some(1), "{text}: {ended:?}");
            for complaint in complaints.iter().chain(&[file]) {
                assert!(ended.log.contains(complaint), "{text}: {}", ended.log);
            }
        }
    }
}

/// With its path and what the system said.
pub fn a_missing_file_is_named(program: &'static Program) {
    let ended = Place::new().run(program, &["-c", "/nowhere/aquatic.toml"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.log.contains("/nowhere/aquatic.toml: No such file"),
        "{}",
        ended.log
    );
}
