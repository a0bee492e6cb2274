//! What a tracker writes about itself: to standard output, into a page, and a list of torrents.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use aquatic_test_support::operations::checking::{assert_advice, assert_problems};
use aquatic_test_support::operations::signals::full_pipe;
use aquatic_test_support::wait::{until, until_ok};
use aquatic_test_support::{Daemon, Place, metrics, torrents};
use aquatic_types::IpFamily;

use super::client::Client;
use super::setup::{SIMPLE, UDP, on_every_setup};

/// 12 torrents in each family, with one seeder and as many leechers as their number.
fn fill(daemon: &Daemon) {
    for family in IpFamily::ALL {
        let mut client = Client::new(daemon, family);
        for (leechers, info_hash) in (0..).zip(torrents()) {
            client.join(info_hash, 1_000, 0);
            (1..=leechers).for_each(|port| drop(client.join(info_hash, port, 1)));
        }
    }
}

/// What [`fill`] has announced, as lines of a scrape export.
fn listed() -> BTreeSet<String> {
    let lines = |family: IpFamily| {
        let numbered = (0..).zip(torrents());
        numbered.map(move |(leechers, hash)| format!("{} {hash} 1 {leechers}", family.digit()))
    };
    IpFamily::ALL.into_iter().flat_map(lines).collect()
}

/// The figures in the row of a table.
fn figures(text: &str, row: &str) -> Vec<String> {
    let line = text
        .lines()
        .rev()
        .find_map(|line| line.trim_start().strip_prefix(row));
    line.unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

#[test]
fn statistics_are_printed() {
    on_every_setup(|setup| {
        let daemon = setup.start("statistics.interval = 1\nstatistics.print_to_stdout = true");
        fill(&daemon);
        until_ok(|| {
            let printed = daemon.place.read("stdout");
            let found = [figures(&printed, "torrents "), figures(&printed, "peers ")];
            let right = found == [["12", "12"], ["78", "78"]];
            if right { Ok(()) } else { Err(printed) }
        });
        let printed = daemon.place.read("stdout");
        for text in ["IPv4", "IPv6", "announce requests/s", "received Mbit/s"] {
            assert!(printed.contains(text), "no {text} in\n{printed}");
        }
    });
}

#[test]
fn statistics_that_nobody_reads_do_not_hold_up_the_metrics() {
    let place = Place::new();
    let settings = format!(
        "statistics.print_to_stdout = true\n{}",
        place.metrics_settings(&UDP)
    );
    let (_reader, writer) = full_pipe();
    let mut command = place.command(SIMPLE, &settings);
    let child = command.stdout(writer).spawn().unwrap();
    let daemon = place.wait_for(child);
    daemon.wait_for_log("cannot print statistics: standard output is not read");
    fill(&daemon);
    metrics::wait_for(&daemon, &[("aquatic_torrents", 24.0)]);
}

#[test]
fn nothing_is_printed_unless_wanted() {
    let place = Place::new();
    let settings = place.metrics_settings(&UDP);
    let daemon = place.start(SIMPLE, &settings);
    fill(&daemon);
    metrics::wait_for(&daemon, &[("aquatic_torrents", 24.0)]);
    assert_eq!(daemon.place.read("stdout"), "");
    assert!(!daemon.place.path("tmp").exists());
    assert!(!daemon.place.path("scrape-export.txt").exists());
}

#[test]
fn a_page_is_written() {
    on_every_setup(|setup| {
        let daemon = setup.start(
            "statistics.interval = 1\nstatistics.write_html_to_file = true\n\
             statistics.html_file_path = 'new/folder/page.html'",
        );
        fill(&daemon);
        let page = daemon.place.path("new/folder/page.html");
        until("the page shows the torrents and peers", || {
            let html = fs::read_to_string(&page).ok()?;
            assert!(html.starts_with("<!DOCTYPE html>"), "{html}");
            assert!(html.trim_end().ends_with("</html>"), "a whole page: {html}");
            (html.contains(">12<") && html.contains(">78<")).then_some(())
        });
    });
}

#[test]
fn all_torrents_are_listed_and_the_list_is_replaced_as_a_whole() {
    on_every_setup(|setup| {
        let daemon = setup.start(
            "scrape_exports.enable_scrape_exports = true\nscrape_exports.frequency = 1\n\
             scrape_exports.path = 'new/folder/list.txt'",
        );
        fill(&daemon);
        let path = daemon.place.path("new/folder/list.txt");
        let mut complete = BTreeSet::new();
        until("two complete lists have been written", || {
            let text = fs::read_to_string(&path).ok()?;
            let lines: BTreeSet<_> = text.lines().map(str::to_owned).collect();
            assert_eq!(text.lines().count(), lines.len(), "no torrent twice");
            assert!(text.is_empty() || text.ends_with('\n'), "whole lines");
            if lines == listed() {
                complete.insert(fs::metadata(&path).unwrap().ino());
            } else {
                assert!(complete.is_empty(), "once complete, never less:\n{text}");
            }
            (complete.len() >= 2).then_some(())
        });
        let log = daemon.place.log();
        assert!(
            log.contains("wrote a scrape export of 24 torrents to new/folder/list.txt"),
            "{log}"
        );
    });
}

#[test]
fn a_list_that_cannot_be_written_is_logged_and_the_tracker_goes_on() {
    let place = Place::new();
    place.write("file", "");
    let settings = "scrape_exports.enable_scrape_exports = true\nscrape_exports.frequency = 1\n\
                    scrape_exports.path = 'file/list.txt'\n\
                    statistics.write_html_to_file = true\n\
                    statistics.html_file_path = 'file/page.html'";
    assert_problems(
        &place,
        &UDP,
        settings,
        &[
            "line 3, column 16: `scrape_exports.path`: file is not a folder",
            "line 5, column 12: `statistics.html_file_path`: file is not a folder",
        ],
    );
    let daemon = place.start(SIMPLE, settings);
    let log = daemon.place.log();
    for key in ["scrape_exports.path", "statistics.html_file_path"] {
        let told = format!("`{key}`: file is not a folder");
        let is_warning = |line: &str| line.contains("WARN") && line.ends_with(&told);
        assert!(log.lines().any(is_warning), "{log}");
    }
    until("the failure is logged", || {
        let log = daemon.place.log();
        let line = log.lines().find(|line| line.contains("scrape export: "))?;
        let reason = "cannot create the folder file: File exists";
        assert!(line.contains("ERROR") && line.contains(reason), "{line}");
        Some(())
    });
    fill(&daemon);
}

#[test]
fn a_check_writes_nothing() {
    let place = Place::new();
    let settings = "scrape_exports.enable_scrape_exports = true\n\
                    scrape_exports.path = 'new/list.txt'\n\
                    statistics.write_html_to_file = true";
    assert_advice(&place, &UDP, settings, &[]);
    assert!(!place.path("new").exists() && !place.path("tmp").exists());
}
