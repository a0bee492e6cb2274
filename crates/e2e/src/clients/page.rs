//! Pages that stay, in browsers of different hosts: each seeds a torrent by WebTorrent or downloads
//! one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::browser::{Browser, artefact};
use super::npm;
use crate::folder::Folder;
use crate::host::Host;
use crate::process::Process;
use crate::wait;

/// Until a page is there and has made its torrent.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Pages have a limit of their own for what they do.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(200);

const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A browser on a host, in which pages can be opened.
#[derive(Debug)]
pub struct Pages<'a> {
    browser: Browser,
    folder: Folder,
    host: &'a Host,
}

/// One of its pages.
#[derive(Debug)]
pub struct Page {
    driver: Process,
    /// What is said about the torrent.
    torrent: PathBuf,
    arrived: PathBuf,
}

impl<'a> Pages<'a> {
    /// Starts the browser.
    ///
    /// # Errors
    /// When Chromium is not installed, or does not start.
    pub fn start(host: &'a Host) -> Result<Self> {
        let folder = Folder::new()?;
        Ok(Self {
            browser: Browser::start(&folder, host)?,
            folder,
            host,
        })
    }

    /// Opens a page that makes a torrent, announces it there and has all of it. The name is its
    /// own, of all pages and screenshots.
    ///
    /// # Errors
    /// When an npm package is not installed, or the page cannot do that.
    pub fn seed(&self, announce_url: &str, name: &str) -> Result<Page> {
        let torrent = self.folder.path().join(format!("{name}.json"));
        let mut page = self.open(announce_url, name, "seed", torrent)?;
        wait::until("a torrent of the page", START_LIMIT, || {
            page.driver.check_alive()?;
            Ok(page.torrent.exists().then_some(()))
        })?;
        Ok(page)
    }

    /// Opens a page that downloads what another one, in any browser, has.
    ///
    /// # Errors
    /// When an npm package is not installed.
    pub fn download(&self, announce_url: &str, name: &str, of: &Page) -> Result<Page> {
        self.open(announce_url, name, "download", of.torrent.clone())
    }

    fn open(&self, announce_url: &str, name: &str, role: &str, torrent: PathBuf) -> Result<Page> {
        let arrived = self.folder.path().join(format!("{name}.arrived"));
        let screenshot = artefact(name)? + ".png";
        let [from, to] = [&torrent, &arrived].map(|path| path.display().to_string());
        let devtools_url = &self.browser.devtools_url;
        let arguments = [devtools_url, announce_url, &screenshot, role, &from, &to];
        let command = npm::script("browser_peer", &self.folder, self.host, &arguments)?;
        Ok(Page {
            driver: Process::start(name, &self.folder, command)?,
            torrent,
            arrived,
        })
    }

    /// Closes the browser.
    ///
    /// # Errors
    /// When it does not end, or has sent something to others than these hosts.
    pub fn close(mut self, known: &[&Host]) -> Result<()> {
        let devtools_url = self.browser.devtools_url.as_str();
        npm::run("browser_close", &self.folder, self.host, &[devtools_url])?;
        self.browser.wait_until_closed(known)
    }
}

impl Page {
    /// Waits until all of the content is there, over WebRTC, as its seeder has it.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn wait_for_content(&mut self) -> Result<()> {
        wait::until("the content in the page", ARRIVAL_LIMIT, || {
            self.driver.check_alive()?;
            Ok(self.arrived.exists().then_some(()))
        })
    }

    /// A file that says which torrent it is, for [`npm::wait_for_counts`].
    #[must_use]
    pub fn torrent(&self) -> &Path {
        &self.torrent
    }

    /// Closes it.
    ///
    /// # Errors
    /// When it cannot be, or has asked somebody else than its tracker.
    pub fn stop(mut self) -> Result<()> {
        let status = self.driver.stop(Signal::SIGTERM, STOP_LIMIT)?;
        ensure!(status.success(), "{status}: {}", self.driver.log()?);
        Ok(())
    }
}
