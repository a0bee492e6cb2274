//! The live page of trackers, in a real browser, under load: what it asks for and shows, in both
//! themes and sizes, for people with a keyboard or a screen reader, and when the tracker is away.

use std::fs;

use aquatic_e2e::clients::browser;
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;

#[test]
fn the_page_of_one_protocol_shows_it_live() {
    watch(("aquatic_udp", &[]), "statistics", "", "live-page-udp");
}

#[test]
fn the_page_of_all_protocols_shows_them_live() {
    let program = ("aquatic", &["serve"][..]);
    watch(program, "metrics", "udp.", "live-page-serve");
}

/// `section` has the keys about metrics, and `part` is in front of those of UDP.
fn watch((program, arguments): (&str, &[&str]), section: &str, part: &str, name: &str) {
    let (folder, host) = (Folder::new().unwrap(), Host::loopback());
    let [tracker, endpoint] = [(); 2].map(|()| host.free_port().unwrap());
    let enabled = match part {
        "" => String::new(),
        _ => format!(
            "udp.enabled = true\nhttp.enabled = true\n\
             http.network.address = \"127.0.0.1:{tracker}\"\n"
        ),
    };
    let config = format!(
        "{enabled}{part}network.address = \"127.0.0.1:{tracker}\"\n\
         {section}.run_prometheus_endpoint = true\n\
         {section}.prometheus_endpoint_address = \"127.0.0.1:{endpoint}\"\n\
         {section}.peer_clients = true\n{section}.interval = 1\n"
    );
    let file = folder.path().join("tracker.toml");
    fs::write(&file, config).unwrap();
    let url = format!("http://127.0.0.1:{endpoint}/");
    let tracker = browser::WatchedTracker {
        udp_port: tracker,
        program,
        arguments,
        config: &file,
    };
    browser::watch_page(&folder, &host, &url, name, &tracker).unwrap();
}
