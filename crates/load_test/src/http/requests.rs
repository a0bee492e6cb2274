//! Requests as bytes.

use std::ops::Range;
use std::sync::Arc;

use aquatic_http_protocol::{
    AnnounceRequest, InfoHashes, PeerForm, Request, ScrapeRequest, Target,
};
use aquatic_types::{AnnounceEvent, InfoHash};
use fastrand::Rng;

use crate::core::kind::RequestKind;
use crate::core::population::{Population, peer_id};
use crate::http::config::LoadTestConfig;

/// Writes requests of the peers of a population.
#[derive(Clone, Debug)]
pub struct RequestWriter {
    population: Arc<Population>,
    host: String,
    announce_path: String,
    /// Further lines of the head, each with its end.
    headers: Vec<u8>,
    keep_alive: bool,
    num_want: u16,
    scrape_torrents: u8,
    torrents: Vec<InfoHash>,
}

impl RequestWriter {
    /// What is asked, and how, follows from the configuration.
    #[must_use]
    pub fn new(config: &LoadTestConfig, population: Arc<Population>) -> Self {
        let requests = &config.requests;
        let lines = requests.headers.iter().map(|line| format!("{line}\r\n"));
        Self {
            population,
            host: config.run.server_address.to_string(),
            announce_path: requests.path.clone(),
            headers: lines.collect::<String>().into_bytes(),
            keep_alive: config.network.keep_alive,
            num_want: requests.population.num_want,
            scrape_torrents: requests.population.scrape_torrents,
            torrents: Vec::new(),
        }
    }

    /// Appends an announce or scrape of one of these peers. Gives back how many entries its answer
    /// should have, or for announces may have.
    pub fn write(
        &mut self,
        kind: RequestKind,
        peers: Range<u32>,
        rng: &mut Rng,
        out: &mut Vec<u8>,
    ) -> u32 {
        debug_assert!(matches!(kind, RequestKind::Announce | RequestKind::Scrape));
        if kind == RequestKind::Scrape {
            self.scrape(rng, out)
        } else {
            self.announce(rng.u32(peers), out)
        }
    }

    fn announce(&self, number: u32, out: &mut Vec<u8>) -> u32 {
        let peer = self.population.peer(number);
        let announce = AnnounceRequest {
            info_hash: self.population.info_hash(peer.torrent),
            peer_id: peer_id(number),
            port: peer.port,
            bytes_uploaded: 0,
            bytes_downloaded: 0,
            bytes_left: Some(if peer.is_seeder { 0 } else { 1 << 20 }),
            event: AnnounceEvent::None,
            num_want: Some(self.num_want.into()),
            peer_form: PeerForm::Compact,
        };
        self.finish(&Request::Announce(announce), out);
        self.num_want.into()
    }

    fn scrape(&mut self, rng: &mut Rng, out: &mut Vec<u8>) -> u32 {
        let (population, torrents) = (&self.population, &mut self.torrents);
        let entries = population.draw_different_torrents(self.scrape_torrents, rng, torrents);
        let info_hashes = InfoHashes::from(self.torrents.as_slice());
        self.finish(&Request::Scrape(ScrapeRequest { info_hashes }), out);
        entries
    }

    fn finish(&self, request: &Request<'_>, out: &mut Vec<u8>) {
        let target = Target {
            host: &self.host,
            announce_path: &self.announce_path,
            keep_alive: self.keep_alive,
        };
        request.write(target, out);
        if !self.headers.is_empty() {
            // Before the empty line that ends the head.
            out.truncate(out.len() - b"\r\n".len());
            out.extend_from_slice(&self.headers);
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use aquatic_http_protocol::Head;

    use crate::core::config::PopulationConfig;

    use super::*;

    fn writer(config: &LoadTestConfig) -> RequestWriter {
        let population = Population::new(&config.requests.population, 1);
        RequestWriter::new(config, Arc::new(population))
    }

    fn config() -> LoadTestConfig {
        let mut config = LoadTestConfig::default();
        config.requests.population = PopulationConfig {
            number_of_torrents: 5,
            number_of_peers: 1000,
            ..PopulationConfig::default()
        };
        config.requests.headers = vec!["User-Agent: somebody".to_owned(), "A: b".to_owned()];
        config
    }

    #[test]
    fn announces_are_those_of_the_connections_peers() {
        let mut writer = writer(&config());
        let mut rng = Rng::with_seed(1);
        for _ in 0..100 {
            let mut bytes = Vec::new();
            let wanted = writer.write(RequestKind::Announce, 500..510, &mut rng, &mut bytes);
            assert_eq!(wanted, 30);
            let head = Head::parse(&bytes).unwrap().unwrap();
            assert_eq!(head.size, bytes.len());
            let Ok(Request::Announce(announce)) = Request::parse(head.path, head.query) else {
                panic!("no announce");
            };
            let numbers = 500..510;
            assert!(
                numbers
                    .clone()
                    .any(|number| announce.peer_id == peer_id(number))
            );
            assert_eq!(announce.num_want, Some(30));
            let text = String::from_utf8(bytes).unwrap();
            assert!(
                text.ends_with("\r\nUser-Agent: somebody\r\nA: b\r\n\r\n"),
                "{text}"
            );
            assert!(!text.contains("Connection:"), "{text}");
        }
    }

    #[test]
    fn scrapes_name_each_torrent_once() {
        let mut config = config();
        config.network.keep_alive = false;
        config.requests.path = "/x/announce.php".to_owned();
        let mut writer = writer(&config);
        let mut bytes = Vec::new();
        let rows = writer.write(
            RequestKind::Scrape,
            0..1,
            &mut Rng::with_seed(1),
            &mut bytes,
        );
        assert!((1..=5).contains(&rows), "{rows} of 5 torrents");
        let head = Head::parse(&bytes).unwrap().unwrap();
        assert_eq!(head.path, b"/x/scrape.php");
        let Ok(Request::Scrape(scrape)) = Request::parse(head.path, head.query) else {
            panic!("no scrape");
        };
        assert_eq!(u32::try_from(scrape.info_hashes.iter().count()), Ok(rows));
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
    }
}
