//! What an operator writes behind the `?`.

use super::single::PEERS_MAX;
use super::top::{SortBy, TOP_MAX};

/// Torrents that a list names if the operator does not say how many.
const TOP_DEFAULT: usize = 100;

/// What a list is asked for with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListParameters<'a> {
    pub(super) top: usize,
    pub(super) sort_by: SortBy,
    /// The only kind of swarms that is wanted.
    pub(super) protocol: Option<&'a str>,
}

impl<'a> ListParameters<'a> {
    /// `protocols` are those that there are.
    pub(super) fn read(query: &'a str, protocols: &[&str]) -> Result<Self, String> {
        let mut read = Self {
            top: TOP_DEFAULT,
            sort_by: SortBy::Peers,
            protocol: None,
        };
        for (name, value) in pairs(query) {
            match name {
                "top" => read.top = number(name, value, 1, TOP_MAX)?,
                "sort" => {
                    let mut all = SortBy::ALL.into_iter();
                    let named = all.find(|sort_by| sort_by.name() == value);
                    read.sort_by =
                        named.ok_or_else(|| one_of(name, &SortBy::ALL.map(SortBy::name)))?;
                }
                "protocol" if protocols.contains(&value) => read.protocol = Some(value),
                "protocol" => return Err(one_of(name, protocols)),
                // Other pages need it to be asked for JSON.
                "format" if value == "json" => {}
                _ => return Err(unknown(name, &["top", "sort", "protocol"])),
            }
        }
        Ok(read)
    }
}

/// How many peers of a torrent are asked for.
pub(super) fn peers(query: &str) -> Result<usize, String> {
    let mut peers = 0;
    for (name, value) in pairs(query) {
        match name {
            "peers" => peers = number(name, value, 0, PEERS_MAX)?,
            "format" if value == "json" => {}
            _ => return Err(unknown(name, &["peers"])),
        }
    }
    Ok(peers)
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn number(name: &str, value: &str, min: usize, max: usize) -> Result<usize, String> {
    let number = value.parse().ok();
    let number = number.filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("`{name}` must be a number from {min} to {max}"))
}

fn one_of(name: &str, values: &[&str]) -> String {
    format!("`{name}` must be one of: {}", values.join(", "))
}

fn unknown(name: &str, known: &[&str]) -> String {
    format!(
        "there is no parameter `{name}`; there is {}",
        known.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_and_mistakes_are_answered_with_what_to_write() {
        let read = |query| ListParameters::read(query, &["bittorrent", "webtorrent"]);
        let default = ListParameters {
            top: 100,
            sort_by: SortBy::Peers,
            protocol: None,
        };
        assert_eq!(read(""), Ok(default));
        let all = ListParameters {
            top: 1_000,
            sort_by: SortBy::Completed,
            protocol: Some("webtorrent"),
        };
        assert_eq!(
            read("top=1000&sort=completed&&format=json&protocol=webtorrent"),
            Ok(all)
        );
        for (query, told) in [
            ("top=0", "`top` must be a number from 1 to 1000"),
            ("top=1001", "`top` must be a number from 1 to 1000"),
            ("top", "`top` must be a number from 1 to 1000"),
            (
                "sort=size",
                "`sort` must be one of: peers, seeders, leechers, completed",
            ),
            (
                "protocol=udp",
                "`protocol` must be one of: bittorrent, webtorrent",
            ),
            (
                "limit=5",
                "there is no parameter `limit`; there is top, sort, protocol",
            ),
        ] {
            assert_eq!(read(query), Err(told.to_owned()), "{query}");
        }
    }

    #[test]
    fn the_number_of_peers_is_bounded() {
        assert_eq!(peers(""), Ok(0));
        assert_eq!(peers("peers=1000&format=json"), Ok(1_000));
        let told = "`peers` must be a number from 0 to 1000";
        for query in ["peers=1001", "peers=-1", "peers=x"] {
            assert_eq!(peers(query), Err(told.to_owned()));
        }
        let told = "there is no parameter `top`; there is peers";
        assert_eq!(peers("top=5"), Err(told.to_owned()));
    }
}
