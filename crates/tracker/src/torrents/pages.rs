//! `/torrents` and `/torrents/INFO_HASH` at the operator's endpoint: JSON, also if something is
//! wrong.
//!
//! The endpoint has one thread. It waits for shards no longer than [`WAIT_MAX`], and tells the
//! client to come again if they have not answered by then.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use aquatic_access_list::SharedAccessList;
use aquatic_daemon::clock::Clock;
use aquatic_daemon::endpoint::{Request, Response};
use aquatic_swarm::Counts;
use aquatic_types::{InfoHash, IpFamily};
use serde::Serialize;

use super::kinds::{Kind, Shards};
use super::lists::{List, Lists, NoList};
use super::parameters::{self, ListParameters};
use super::readable::{Readable, TorrentCounts, TorrentPeer};
use super::reading::{NotTaken, ShardReaders};
use super::single::SingleTorrent;
use crate::metrics::client_name;

/// For so long the endpoint waits for shards at most, and less if others have made it wait already.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// All torrents of a process, to be shown.
#[derive(Default)]
pub struct TorrentPages {
    kinds: Vec<Box<dyn Kind>>,
}

/// Answers requests for one of the pages.
pub type Page = Box<dyn FnMut(&Request<'_>) -> Response + Send>;

impl TorrentPages {
    /// Shows the torrents of these shards, too: as those of `protocol`.
    pub fn add<S: Readable>(&mut self, protocol: &'static str, readers: ShardReaders<S>) {
        self.kinds.push(Box::new(Shards { protocol, readers }));
    }

    /// The page of the largest torrents, and that of single ones. `clock` is that of the workers.
    #[must_use]
    pub fn into_pages(self, clock: Clock, access_list: SharedAccessList) -> (Page, Page) {
        let kinds: Arc<[Box<dyn Kind>]> = self.kinds.into();
        let mut lists = ListPage {
            lists: Lists::new(Arc::clone(&kinds)),
            kinds: Arc::clone(&kinds),
        };
        let mut single = SinglePage { kinds, access_list };
        (
            Box::new(move |request| {
                let wait_max = WAIT_MAX.min(request.patience());
                lists.answer(request.query(), clock.elapsed(), wait_max)
            }),
            Box::new(move |request| {
                let client = Client {
                    is_authorized: request.is_authorized(),
                    has_token: request.has_token(),
                    wait_max: WAIT_MAX.min(request.patience()),
                };
                single.answer(request.below(), request.query(), client)
            }),
        )
    }
}

/// Who asks for a single torrent.
#[derive(Clone, Copy)]
struct Client {
    is_authorized: bool,
    /// Whether anybody can be authorised.
    has_token: bool,
    /// How long shards may take to answer.
    wait_max: Duration,
}

/// Peers are people: they are named to nobody else.
fn no_token(client: Client) -> Response {
    if !client.has_token {
        let reason = "peers are named only to whoever shows a token, and the tracker has none: \
                      name a file with one in `endpoint_token_file`";
        return Response::json_error(403, reason);
    }
    let reason = "peers are named to whoever shows the operator's token: \
                  Authorization: Bearer TOKEN, with what is in the file that \
                  `endpoint_token_file` names";
    Response::json_error(401, reason).with_header("WWW-Authenticate", "Bearer realm=\"aquatic\"")
}

struct ListPage {
    kinds: Arc<[Box<dyn Kind>]>,
    lists: Lists,
}

impl ListPage {
    fn answer(&mut self, query: &str, now: Duration, wait_max: Duration) -> Response {
        let protocols: Vec<_> = self.kinds.iter().map(|kind| kind.protocol()).collect();
        let parameters = match ListParameters::read(query, &protocols) {
            Ok(parameters) => parameters,
            Err(reason) => return Response::json_error(400, &reason),
        };
        match self.lists.list(parameters.sort_by, now, wait_max) {
            Ok(list) => ok(&list_shown(list, &protocols, parameters, now)),
            Err(NoList::NotYet) => {
                let reason = "the torrents are being looked through: ask again in a second";
                later(reason)
            }
            Err(NoList::NotTaken(reason)) => not_taken(reason),
        }
    }
}

fn list_shown(
    list: &List,
    protocols: &[&'static str],
    parameters: ListParameters<'_>,
    now: Duration,
) -> ShownList {
    let ListParameters {
        top,
        sort_by,
        protocol,
    } = parameters;
    let mut all = Vec::new();
    for (index, (top, name)) in list.tops.iter().zip(protocols).enumerate() {
        let is_wanted = protocol.is_none_or(|wanted| wanted == *name);
        let torrents = top.iter().filter(|_| is_wanted);
        all.extend(torrents.map(|(info_hash, counts)| {
            let value = sort_by.of(counts.total());
            ((Reverse(value), *info_hash, index), (*name, *counts))
        }));
    }
    all.sort_unstable_by_key(|(rank, _)| *rank);
    all.truncate(top);
    let torrents = all
        .into_iter()
        .map(|((_, info_hash, _), (name, counts))| ShownTorrent {
            info_hash: info_hash.to_string(),
            swarms: ShownSwarms::new(name, counts),
        });
    ShownList {
        sort: sort_by.name(),
        age_seconds: seconds(list.age(now)),
        walk_seconds: seconds(list.took),
        torrents: torrents.collect(),
    }
}

struct SinglePage {
    kinds: Arc<[Box<dyn Kind>]>,
    /// Not a reader of it, which would keep a list that has been replaced in memory.
    access_list: SharedAccessList,
}

impl SinglePage {
    fn answer(&mut self, info_hash: &str, query: &str, client: Client) -> Response {
        let info_hash: InfoHash = match info_hash.parse() {
            Ok(info_hash) => info_hash,
            Err(reason) => {
                return Response::json_error(400, &format!("this is no info hash: {reason}"));
            }
        };
        let peers_max = match parameters::peers(query) {
            Ok(peers_max) => peers_max,
            Err(reason) => return Response::json_error(400, &reason),
        };
        if peers_max > 0 && !client.is_authorized {
            return no_token(client);
        }
        let allowed = self.access_list.reader().is_allowed(&info_hash);
        let found = match self.find(info_hash, peers_max, client.wait_max) {
            Ok(found) => found,
            Err(reason) => return reason,
        };
        let is_known = |(_, torrent): &(_, SingleTorrent)| !torrent.counts.is_empty();
        if !found.iter().any(is_known) {
            let reason = match allowed {
                true => "this torrent is not known: it has no peers here",
                false => "this torrent is not known, and the access list forbids it",
            };
            return Response::json_error(404, reason);
        }
        let totals = found.iter().map(|(_, torrent)| torrent.counts.total());
        let total = totals.fold(Counts::default(), |sum, counts| sum + counts);
        let swarms = found.into_iter().filter(is_known);
        let swarms = swarms.map(|(protocol, torrent)| ShownPeers {
            swarms: ShownSwarms::new(protocol, torrent.counts),
            peers: (peers_max > 0)
                .then(|| torrent.peers.into_iter().map(ShownPeer::from).collect()),
        });
        ok(&ShownSingle {
            info_hash: info_hash.to_string(),
            allowed,
            counts: total.into(),
            swarms: swarms.collect(),
        })
    }

    /// What each kind of swarms has of a torrent.
    fn find(
        &self,
        info_hash: InfoHash,
        peers_max: usize,
        wait_max: Duration,
    ) -> Result<Vec<(&'static str, SingleTorrent)>, Response> {
        let mut asked: Vec<(_, Receiver<SingleTorrent>)> = Vec::new();
        for kind in self.kinds.iter() {
            let (sender, found) = sync_channel(1);
            let posted = kind.find_single(info_hash, peers_max, sender);
            posted.map_err(not_taken)?;
            asked.push((kind.protocol(), found));
        }
        let clock = Clock::start();
        let answers = asked.into_iter().map(|(protocol, found)| {
            let wait = wait_max.saturating_sub(clock.elapsed());
            let torrent = found.recv_timeout(wait);
            let torrent =
                torrent.map_err(|_| later("the worker is busy: ask again in a second"))?;
            Ok((protocol, torrent))
        });
        answers.collect()
    }
}

fn ok(shown: &impl Serialize) -> Response {
    match serde_json::to_vec(shown) {
        Ok(mut body) => {
            body.push(b'\n');
            Response::json(200, body)
        }
        // Whatever is shown has names for keys, and finite numbers.
        Err(reason) => Response::json_error(500, &reason.to_string()),
    }
}

fn later(reason: &str) -> Response {
    Response::json_error(503, reason).with_header("Retry-After", "1")
}

fn not_taken(reason: NotTaken) -> Response {
    later(&format!("{reason}: ask again in a second"))
}

/// To the millisecond.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000.0).round() / 1_000.0
}

#[derive(Serialize)]
struct ShownList {
    sort: &'static str,
    age_seconds: f64,
    walk_seconds: f64,
    torrents: Vec<ShownTorrent>,
}

#[derive(Serialize)]
struct ShownTorrent {
    info_hash: String,
    #[serde(flatten)]
    swarms: ShownSwarms,
}

#[derive(Serialize)]
struct ShownSingle {
    info_hash: String,
    allowed: bool,
    #[serde(flatten)]
    counts: ShownCounts,
    swarms: Vec<ShownPeers>,
}

#[derive(Serialize)]
struct ShownPeers {
    #[serde(flatten)]
    swarms: ShownSwarms,
    #[serde(skip_serializing_if = "Option::is_none")]
    peers: Option<Vec<ShownPeer>>,
}

/// A torrent's swarms of one kind.
#[derive(Serialize)]
struct ShownSwarms {
    protocol: &'static str,
    #[serde(flatten)]
    counts: ShownCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv4: Option<ShownCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv6: Option<ShownCounts>,
}

#[derive(Serialize)]
struct ShownCounts {
    seeders: u32,
    leechers: u32,
    completed: u32,
}

#[derive(Serialize)]
struct ShownPeer {
    ip_version: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    seeder: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<u16>,
}

impl ShownSwarms {
    fn new(protocol: &'static str, counts: TorrentCounts) -> Self {
        let (ipv4, ipv6) = match counts {
            TorrentCounts::ByFamily(counts) => (Some(counts.v4.into()), Some(counts.v6.into())),
            TorrentCounts::Whole(_) => (None, None),
        };
        Self {
            protocol,
            counts: counts.total().into(),
            ipv4,
            ipv6,
        }
    }
}

impl From<Counts> for ShownCounts {
    fn from(counts: Counts) -> Self {
        Self {
            seeders: counts.seeders,
            leechers: counts.leechers,
            completed: counts.completed,
        }
    }
}

impl From<TorrentPeer> for ShownPeer {
    fn from(peer: TorrentPeer) -> Self {
        Self {
            ip_version: match peer.family {
                IpFamily::V4 => 4,
                IpFamily::V6 => 6,
            },
            ip: peer.address.map(|address| address.ip()),
            port: peer.address.map(|address| address.port()),
            seeder: peer.is_seeder,
            client: peer.client.map(client_name),
            seconds_left: peer.seconds_left,
        }
    }
}

#[cfg(test)]
mod tests;
