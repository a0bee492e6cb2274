//! Flags, printed configurations and exit codes.

use std::io::pipe;
use std::process::{Command, Stdio};

use crate::process::{Setup, binary, run};

#[test]
fn help_names_every_flag() {
    for flag in ["-h", "--help"] {
        let (code, out, _) = run(&[flag]);
        assert_eq!(code, Some(0));
        for text in [
            "Tells over UDP",
            "-c, --config <FILE>",
            "-p, --print-config",
            "-P, --print-parsed-config",
            "--check-config",
            "-v, --version",
            "HUP, USR1",
        ] {
            assert!(out.contains(text), "no {text} in\n{out}");
        }
    }
}

#[test]
fn version_has_three_spellings() {
    for flag in ["-v", "-V", "--version"] {
        let expected = format!("minimal {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(run(&[flag]), (Some(0), expected, String::new()));
    }
}

#[test]
fn wrong_arguments_are_named() {
    for (arguments, name) in [
        (&["--frobnicate"][..], "--frobnicate"),
        (
            &["file.toml"],
            "tip: to run with this configuration file, write 'minimal -c file.toml'",
        ),
        (&["-c"], "--config"),
        (&["-p", "-P"], "--print-parsed-config"),
    ] {
        let (code, out, error) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}");
        assert_eq!(out, "");
        assert!(error.contains(name), "no {name} in\n{error}");
    }
}

#[test]
fn the_printed_default_is_a_valid_file() {
    let (code, printed, _) = run(&["-p"]);
    assert_eq!(code, Some(0));
    assert!(
        printed.contains("# Where to listen.\naddress = \"127.0.0.1:3000\"\n"),
        "{printed}"
    );

    let setup = Setup::new();
    let file = setup.write("config.toml", &printed);
    let file = file.to_str().unwrap();
    assert_eq!(
        run(&["-c", file, "--check-config"]),
        (Some(0), format!("{file}: OK\n"), String::new())
    );
    assert_eq!(
        run(&["-c", file, "-P"]),
        (Some(0), printed.clone(), String::new())
    );
    assert_eq!(run(&["--config-file", file, "-P"]).1, printed);
    assert_eq!(run(&["-P"]).1, printed);
}

#[test]
fn a_parsed_file_is_printed_with_todays_keys() {
    let setup = Setup::new();
    let file = setup.write("old.toml", "[metrics]\nrun_prometheus_endpoint = true\n");
    let file = file.to_str().unwrap();
    let warning = format!("{file}: line 1: `metrics` is now called `statistics`\n");
    let (code, out, error) = run(&["-c", file, "-P"]);
    assert_eq!((code, &error), (Some(0), &warning));
    assert!(out.contains("[statistics]"), "{out}");
    assert!(out.contains("run_prometheus_endpoint = true"), "{out}");
    assert_eq!(
        run(&["-c", file, "--check-config"]),
        (Some(0), format!("{file}: OK\n"), warning)
    );
}

#[test]
fn an_unusable_file_is_refused_with_all_its_mistakes() {
    let setup = Setup::new();
    let file = setup.write("wrong.toml", "adress = '127.0.0.1:1'\nlog_level = 3\n");
    let file = file.to_str().unwrap();
    for flags in [
        &["-c", file][..],
        &["-c", file, "--check-config"],
        &["-c", file, "-P"],
    ] {
        let (code, out, error) = run(flags);
        assert_eq!((code, out.as_str()), (Some(1), ""));
        for text in [
            file,
            "line 1, column 1: unknown key `adress`",
            "line 2, column 13: ",
        ] {
            assert!(error.contains(text), "no {text} in\n{error}");
        }
    }
}

#[test]
fn without_a_file_the_defaults_are_checked() {
    let ok = "the default configuration: OK\n".to_owned();
    assert_eq!(run(&["--check-config"]), (Some(0), ok, String::new()));
}

#[test]
fn a_check_opens_what_the_file_names_and_reports_everything() {
    let setup = Setup::new();
    let list = setup.path("list");
    let text = format!(
        "address = '127.0.0.1:0'\n[access_list]\nmode = 'deny'\npath = '{}'\n\
         [privileges]\nuser = 'somebody'\n",
        list.display()
    );
    let file = setup.write("config.toml", &text);
    let file = file.to_str().unwrap();
    let (code, out, error) = run(&["-c", file, "--check-config"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let list = list.display();
    let expected = format!(
        "{file}: line 6: `privileges.user`: is not used, because `privileges.drop_privileges` is \
         false\n\
         minimal ends: cannot use the configuration file {file}:\n  \
         line 1, column 1: `address`: needs a port\n  \
         line 4, column 1: `access_list.path`: cannot open the access list {list}: No such file or \
         directory (os error 2)\n"
    );
    assert_eq!(error, expected);

    setup.write("list", &format!("{}\nrubbish\n", "ab".repeat(20)));
    let (code, _, error) = run(&["-c", file, "--check-config"]);
    assert_eq!(code, Some(1));
    let reason = format!("cannot use the access list {list}: line 2: an info hash has 40");
    assert!(error.contains(&reason), "{error}");
}

#[test]
fn a_file_in_another_encoding_is_named() {
    let setup = Setup::new();
    let file = setup.path("config.toml");
    std::fs::write(&file, b"\xff\xfea\0").unwrap();
    let (code, _, error) = run(&["-c", file.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    let expected = format!(
        "minimal ends: cannot read the configuration file {}: it is not UTF-8 text: save it as \
         UTF-8\n",
        file.display()
    );
    assert_eq!(error, expected);
}

#[test]
fn a_missing_file_is_named() {
    let (code, _, error) = run(&["-c", "/nowhere/config.toml"]);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("/nowhere/config.toml: No such file"),
        "{error}"
    );
}

#[test]
fn a_failed_check_is_refused_at_its_line() {
    let setup = Setup::new();
    let file = setup.write("wrong.toml", "\naddress = '127.0.0.1:0'\n");
    let (code, _, error) = run(&["-c", file.to_str().unwrap(), "--check-config"]);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("line 2, column 1: `address`: needs a port"),
        "{error}"
    );
}

#[test]
fn a_reader_that_has_gone_away_is_no_panic() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let output = Command::new(binary())
        .arg("-p")
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        error,
        "minimal ends: cannot write to standard output: Broken pipe (os error 32)\n"
    );
}

/// They have an exit code each, which says as much.
#[test]
fn complaints_that_nobody_can_read_change_nothing() {
    let setup = Setup::new();
    for (text, code) in [("[privileges]\nuser = 'somebody'", 0), ("adress = 1", 1)] {
        let file = setup.write("config.toml", text);
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let mut check = Command::new(binary());
        check.arg("--check-config").arg("-c").arg(file);
        let status = check.stderr(writer).stdout(Stdio::null()).status();
        assert_eq!(status.unwrap().code(), Some(code), "{text}");
    }
}
