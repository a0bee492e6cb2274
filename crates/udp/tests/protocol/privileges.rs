//! Giving up the rights of root: what is written goes to the new root.

use std::fs;

use aquatic_test_support::operations::privileges::{CONFINED, is_root, make_root};
use aquatic_test_support::wait::until;
use aquatic_test_support::{Place, torrents};
use aquatic_types::IpFamily;

use super::client::Client;
use super::setup::on_every_setup;

#[test]
#[cfg(target_os = "linux")]
fn files_are_written_inside_another_root() {
    if !is_root() {
        return;
    }
    on_every_setup(|setup| {
        let place = Place::new();
        let root = make_root(&place);
        let daemon = place.start(
            setup,
            &format!(
                "{CONFINED}statistics.interval = 1\nstatistics.write_html_to_file = true\n\
                 statistics.html_file_path = 'tmp/page.html'\n\
                 scrape_exports.enable_scrape_exports = true\nscrape_exports.frequency = 1\n\
                 scrape_exports.path = '/export.txt'"
            ),
        );
        for family in IpFamily::ALL {
            let mut client = Client::new(&daemon, family);
            torrents().for_each(|info_hash| drop(client.join(info_hash, 1, 1)));
        }
        let page = root.join("tmp/page.html");
        until("a page has been written", || page.exists().then_some(()));
        let export = root.join("export.txt");
        until("all torrents have been exported", || {
            let lines = fs::read_to_string(&export).ok()?.lines().count();
            (lines == 2 * torrents().count()).then_some(())
        });
    });
}
