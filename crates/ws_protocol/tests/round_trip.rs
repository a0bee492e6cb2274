//! What is written is read as it was; what comes in does no harm, whatever it is.

use std::collections::BTreeSet;

use aquatic_types::{AnnounceEvent, InfoHash, PeerId};
use aquatic_ws_protocol::{
    Action, AnnounceRequest, AnnounceResponse, AnswerRequest, FailureResponse, ForwardedAnswer,
    ForwardedOffer, Message, Offer, OfferId, Request, RequestErrorKind, Response, ScrapeFile,
    ScrapeRequest, ScrapeResponse,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use serde_json::Value;

fn info_hash() -> impl Strategy<Value = InfoHash> {
    any::<[u8; 20]>().prop_map(InfoHash)
}

fn peer_id() -> impl Strategy<Value = PeerId> {
    any::<[u8; 20]>().prop_map(PeerId)
}

fn offer_id() -> impl Strategy<Value = OfferId> {
    any::<[u8; 20]>().prop_map(OfferId)
}

/// JSON of any kind, a few levels deep, with or without spaces.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((any::<String>(), inner), 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    });
    (value, any::<bool>()).prop_map(|(value, with_spaces)| match with_spaces {
        true => format!("{value:#}"),
        false => value.to_string(),
    })
}

fn opaque() -> impl Strategy<Value = String> {
    json().prop_filter("null is no offer and no answer", |json| json != "null")
}

/// Characters that JSON consists of, in an order that often is none.
fn almost_json() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        prop::sample::select(
            &[
                "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "\\u00e9", "\\ud83d", "\\n",
                "\\x", "/", " ", "\n", "\t", "\u{1}", "\u{7f}", "é", "null", "true", "false",
                "nul", "0", "1", "00", "-", "-0", "1.5", ".5", "1.", "1e5", "1E+05", "1e", "+",
                "x", "\"x\"", "\"x\":", "\"\"",
            ][..]
        )
        .prop_map(str::to_owned),
        json(),
    ];
    vec(token, 0..8).prop_map(|tokens| tokens.concat())
}

#[track_caller]
fn assert_same(request: &Request<'_>) {
    let mut written = Vec::new();
    request.write(&mut written);
    assert_eq!(written.len(), request.size());
    assert!(serde_json::from_slice::<Value>(&written).is_ok());
    assert_eq!(Request::parse(&written).as_ref(), Ok(request));
}

#[track_caller]
fn assert_same_response(response: &Response<'_>) {
    let mut written = Vec::new();
    response.write(&mut written);
    assert_eq!(written.len(), response.size());
    assert!(serde_json::from_slice::<Value>(&written).is_ok());
    assert_eq!(Response::parse(&written).as_ref(), Ok(response));
}

proptest! {
    #[test]
    fn announce(
        info_hash in info_hash(),
        peer_id in peer_id(),
        bytes in [(); 3].map(|()| option::of(any::<u64>())),
        event in prop::sample::select(&[
            AnnounceEvent::None,
            AnnounceEvent::Completed,
            AnnounceEvent::Started,
            AnnounceEvent::Stopped,
        ][..]),
        num_want in option::of(any::<u32>()),
        offers in vec((offer_id(), opaque()), 0..4),
    ) {
        let offers = offers.iter().map(|(offer_id, offer)| Offer { offer_id: *offer_id, offer });
        let offers = offers.collect();
        assert_same(&Request::Announce(AnnounceRequest {
            info_hash, peer_id, event, num_want, offers,
            bytes_uploaded: bytes[0],
            bytes_downloaded: bytes[1],
            bytes_left: bytes[2],
            skipped: None,
        }));
    }

    #[test]
    fn answer(
        info_hash in info_hash(),
        peer_id in peer_id(),
        to_peer_id in peer_id(),
        offer_id in offer_id(),
        answer in opaque(),
    ) {
        let answer = &answer;
        assert_same(&Request::Answer(AnswerRequest {
            info_hash, peer_id, to_peer_id, offer_id, answer,
        }));
    }

    #[test]
    fn scrape(info_hashes in vec(info_hash(), 0..5)) {
        assert_same(&Request::Scrape(ScrapeRequest { info_hashes }));
    }

    #[test]
    fn announce_response(
        info_hash in info_hash(),
        numbers in any::<[u32; 3]>(),
        warning in option::of(any::<String>()),
    ) {
        let [seeders, leechers, interval_seconds] = numbers;
        let warning = warning.map(Into::into);
        assert_same_response(&Response::Announce(AnnounceResponse {
            info_hash, seeders, leechers, interval_seconds, warning,
        }));
    }

    #[test]
    fn forwarded(
        info_hash in info_hash(),
        peer_id in peer_id(),
        offer_id in offer_id(),
        json in opaque(),
    ) {
        let [offer, answer] = [&json; 2];
        assert_same_response(&Response::Offer(ForwardedOffer {
            info_hash, peer_id, offer_id, offer,
        }));
        assert_same_response(&Response::Answer(ForwardedAnswer {
            info_hash, peer_id, offer_id, answer,
        }));
    }

    #[test]
    fn scrape_response(files in vec((info_hash(), any::<[u32; 3]>()), 0..5)) {
        let file = |(info_hash, [seeders, completed, leechers]): (_, [u32; 3])| ScrapeFile {
            info_hash, seeders, completed, leechers,
        };
        let mut files: Vec<_> = files.into_iter().map(file).collect();
        let response = ScrapeResponse::new(&mut files);
        prop_assert!(response.size() <= ScrapeResponse::size_max(response.files().len()));
        assert_same_response(&Response::Scrape(ScrapeResponse::new(&mut files)));
    }

    #[test]
    fn failure(
        is_scrape in any::<bool>(),
        reason in any::<String>(),
        info_hash in option::of(info_hash()),
        retry_seconds in option::of(any::<u32>()),
    ) {
        let action = if is_scrape { Action::Scrape } else { Action::Announce };
        let reason = reason.into();
        assert_same_response(&Response::Failure(FailureResponse {
            action,
            reason,
            info_hash,
            retry_seconds,
        }));
    }

    #[test]
    fn any_bytes_can_be_parsed(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Request::parse(&bytes);
        let _ = Response::parse(&bytes);
    }

    /// A message that was cut or garbled anywhere.
    #[test]
    fn any_damage_does_no_harm(
        json in opaque(),
        at in any::<prop::sample::Index>(),
        garbage in vec(any::<u8>(), 0..3),
        keeps_end in any::<bool>(),
    ) {
        let offers = [Offer { offer_id: OfferId([0xe9; 20]), offer: &json }];
        let mut written = Vec::new();
        Request::Announce(AnnounceRequest {
            info_hash: InfoHash([b'"'; 20]),
            peer_id: PeerId([0; 20]),
            bytes_uploaded: None,
            bytes_downloaded: None,
            bytes_left: Some(7),
            event: AnnounceEvent::Started,
            num_want: Some(1),
            offers: offers.to_vec(),
            skipped: None,
        }).write(&mut written);
        let at = at.index(written.len());
        let end = if keeps_end { at + 1 } else { written.len() };
        written.splice(at..end, garbage);
        let _ = Response::parse(&written);
        // Numbers that are too large for anything are numbers.
        let is_json = str::from_utf8(&written)
            .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
        match Request::parse(&written) {
            // What is passed on must be valid.
            Ok(_) => prop_assert!(is_json),
            Err(error) => prop_assert_eq!(
                matches!(error.kind, RequestErrorKind::Json | RequestErrorKind::Utf8),
                !is_json,
                "{}", String::from_utf8_lossy(&written)
            ),
        }
    }

    /// Nothing is taken for JSON that is none, and the other way round.
    #[test]
    fn another_reader_agrees_on_what_is_json(text in almost_json()) {
        let message = format!("{{\"x\":{text}}}");
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&message).is_ok();
        let kind = Request::parse(message.as_bytes()).unwrap_err().kind;
        prop_assert_eq!(kind != RequestErrorKind::Json, is_json, "{}: {}", message, kind.reason());
    }
}

#[test]
fn kinds_of_errors_have_words_of_their_own() {
    let all = [
        RequestErrorKind::Utf8,
        RequestErrorKind::Json,
        RequestErrorKind::Depth,
        RequestErrorKind::ActionMissing,
        RequestErrorKind::ActionUnknown,
        RequestErrorKind::InfoHashMissing,
        RequestErrorKind::InfoHashSize,
        RequestErrorKind::PeerIdMissing,
        RequestErrorKind::PeerIdSize,
        RequestErrorKind::ToPeerIdMissing,
        RequestErrorKind::ToPeerIdSize,
        RequestErrorKind::OfferIdMissing,
        RequestErrorKind::OfferIdSize,
        RequestErrorKind::AnswerMissing,
        RequestErrorKind::AnswerSize,
    ];
    let reasons: BTreeSet<_> = all.into_iter().map(RequestErrorKind::reason).collect();
    assert_eq!(reasons.len(), all.len());
    assert_eq!(
        RequestErrorKind::PeerIdMissing.reason(),
        "peer_id is missing"
    );
}
