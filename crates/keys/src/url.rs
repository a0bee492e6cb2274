//! Where clients put the key: in the announce URL that a user was given.
//!
//! The same for all protocols: HTTP has path and query in the request, WebSocket in the upgrade
//! request, UDP in an option of the announce (BEP 41).

use std::borrow::Cow;

/// The key in the path and query of a URL, the query without its `?`.
///
/// That is the value of `passkey` in the query; else what follows `announce` or `scrape` in the
/// path (`/announce/KEY`); else what comes before it (`/KEY/announce`); else, where the path has
/// neither, its last segment (`wss://tracker.example.com/KEY`). The parameter `key` is another
/// thing: a number that the client draws for itself.
///
/// A key needs no percent-encoding, and is not decoded. Spaces that a user has copied behind it are
/// left out.
#[must_use]
pub fn key_in_url<'a>(path: &'a [u8], query: &'a [u8]) -> Option<&'a [u8]> {
    let key = passkey(query).or_else(|| in_path(path))?;
    let key = without_spaces(key);
    (!key.is_empty()).then_some(key)
}

/// The last value that is not empty: `?` joins parameters as well as `&`, as in announces.
fn passkey(query: &[u8]) -> Option<&[u8]> {
    let parameters = query.rsplit(|byte| matches!(byte, b'&' | b'?'));
    let mut values = parameters.filter_map(|parameter| {
        // From a URL that was copied out of a page's source.
        let parameter = parameter.strip_prefix(b"amp;").unwrap_or(parameter);
        parameter.strip_prefix(b"passkey=")
    });
    values.find(|value| !value.is_empty())
}

fn in_path(path: &[u8]) -> Option<&[u8]> {
    let mut after = None;
    let mut segments = path.rsplit(|byte| *byte == b'/');
    while let Some(segment) = segments.next() {
        if is_request(segment) {
            let before = segments.next().filter(|segment| !segment.is_empty());
            return after.or(before);
        }
        if !segment.is_empty() {
            after = Some(segment);
        }
    }
    let mut segments = path.rsplit(|byte| *byte == b'/');
    segments.find(|segment| !segment.is_empty())
}

/// Whether a segment is `announce` or `scrape`, perhaps with an extension (`announce.php`) or with
/// spaces behind it.
fn is_request(segment: &[u8]) -> bool {
    let segment: Cow<'_, [u8]> = match segment.contains(&b'%') {
        true => decoded(segment).into(),
        false => segment.into(),
    };
    [&b"announce"[..], b"scrape"].iter().any(|name| {
        let rest = segment.strip_prefix(*name);
        rest.is_some_and(|rest| rest.starts_with(b".") || rest.iter().all(|byte| *byte == b' '))
    })
}

fn decoded(mut text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|it| u8::try_from(it).ok())
    };
    let mut decoded = Vec::with_capacity(text.len());
    while let Some((first, mut rest)) = text.split_first() {
        let mut byte = *first;
        if let (b'%', [high, low, after @ ..]) = (byte, rest)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            byte = (high << 4) | low;
            rest = after;
        }
        decoded.push(byte);
        text = rest;
    }
    decoded
}

fn without_spaces(mut key: &[u8]) -> &[u8] {
    loop {
        let shorter = [&b"%20"[..], b"+", b" "]
            .iter()
            .find_map(|space| key.strip_suffix(*space));
        match shorter {
            Some(shorter) => key = shorter,
            None => return key,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(url: &str) -> Option<&str> {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let key = key_in_url(path.as_bytes(), query.as_bytes())?;
        Some(str::from_utf8(key).unwrap())
    }

    #[test]
    fn announce_urls_of_users() {
        for url in [
            "/K/announce",
            "/announce/K",
            "/K/scrape",
            "/scrape/K",
            "/K/announce.php",
            "/announce.php/K",
            "/announce.php?passkey=K",
            "/announce?passkey=K",
            "/scrape?passkey=K&info_hash=abc",
            "/announce?passkey=K?info_hash=abc",
            "/announce?x=y&amp;passkey=K&amp;info_hash=a",
            "/announce?passkey=&passkey=K",
            "/tracker/announce?passkey=K",
            "/tracker/K/announce",
            "/tracker/announce/K",
            "/announce/K/",
            "/announce/K%20",
            "/announce/K+%20?info_hash=a",
            "/K/announce%20",
            "/K/%61nnounce",
            "//K/announce",
            "/K",
            "/K/",
            "K",
            "/announce/K?key=other",
            "/?passkey=K",
        ] {
            assert_eq!(key(url), Some("K"), "{url}");
        }
    }

    #[test]
    fn urls_without_a_key() {
        for url in [
            "",
            "/",
            "/announce",
            "/announce/",
            "/announce?key=K",
            "/announce?passkey=",
            "/announce?info_hash=a&pass=K",
            "/scrape",
            "announce",
            "/announce.php",
            "/%20",
        ] {
            assert_eq!(key(url), None, "{url}");
        }
    }

    proptest! {
        #[test]
        fn keys_are_found_wherever_they_are(k in "[A-Za-z0-9_-]{1,64}", form in 0..5_usize) {
            prop_assume!(k != "announce" && k != "scrape");
            let url = [
                format!("/{k}/announce?info_hash=a"),
                format!("/announce/{k}?info_hash=a&key=1"),
                format!("/announce?passkey={k}&info_hash=a"),
                format!("/announce?info_hash=a&passkey={k}"),
                format!("/{k}"),
            ];
            prop_assert_eq!(key(&url[form]), Some(&*k));
        }

        #[test]
        fn any_bytes_have_a_key_or_none(path: Vec<u8>, query: Vec<u8>) {
            let key = key_in_url(&path, &query);
            prop_assert!(key.is_none_or(|key| !key.is_empty()));
        }
    }
}
