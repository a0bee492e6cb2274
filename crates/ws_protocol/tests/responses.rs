//! What trackers send: exactly what is written, and what is read of others'.

use aquatic_types::{InfoHash, PeerId};
use aquatic_ws_protocol::{
    Action, AnnounceResponse, FailureResponse, ForwardedAnswer, ForwardedOffer, Message, OfferId,
    Response, ResponseError, ScrapeFile, ScrapeResponse,
};
use serde_json::{Value, json};

const INFO_HASH: InfoHash = InfoHash(*b"\0\x01\x08\n\x1f \"\\/az\x7f\x80\x9f\xa0\xe9\xff123");
const PEER_ID: PeerId = PeerId(*b"-WW0112-123456789012");
const OFFER_ID: OfferId = OfferId([0xff; 20]);

/// The string that stands for [`INFO_HASH`], as JavaScript sees it.
const INFO_HASH_TEXT: &str = "\0\u{1}\u{8}\n\u{1f} \"\\/az\u{7f}\u{80}\u{9f}\u{a0}\u{e9}\u{ff}123";

/// What another reader makes of a message.
#[track_caller]
fn seen(message: &impl Message) -> Value {
    let mut written = b"before".to_vec();
    message.write(&mut written);
    let written = written.strip_prefix(b"before").unwrap();
    assert_eq!(written.len(), message.size());
    serde_json::from_slice(written).unwrap()
}

#[test]
fn the_largest_scrape_is_as_large_as_is_said() {
    let file = |number| ScrapeFile {
        info_hash: InfoHash([number; 20]),
        seeders: u32::MAX,
        completed: u32::MAX,
        leechers: u32::MAX,
    };
    let mut files: Vec<_> = (0..3).map(file).collect();
    let largest = ScrapeResponse::new(&mut files).size();
    // The comma that the last one does not have.
    assert_eq!(largest + 1, ScrapeResponse::size_max(3));
}

#[test]
fn announce_reply_has_the_counts() {
    let reply = AnnounceResponse {
        info_hash: INFO_HASH,
        seeders: 0,
        leechers: u32::MAX,
        interval_seconds: 120,
        warning: None,
    };
    let mut expected = json!({
        "action": "announce",
        "info_hash": INFO_HASH_TEXT,
        "complete": 0,
        "incomplete": 4_294_967_295_u32,
        "interval": 120,
    });
    assert_eq!(seen(&reply), expected);
    let reply = AnnounceResponse {
        warning: Some("say \"who\"".into()),
        ..reply
    };
    expected["warning message"] = json!("say \"who\"");
    assert_eq!(seen(&reply), expected);
}

#[test]
fn offers_and_answers_say_who_sent_them() {
    let ids = json!({
        "action": "announce",
        "info_hash": INFO_HASH_TEXT,
        "peer_id": "-WW0112-123456789012",
        "offer_id": "ÿ".repeat(20),
    });
    let with = |key: &str, value: Value| {
        let mut message = ids.clone();
        message[key] = value;
        message
    };
    let offer = ForwardedOffer {
        info_hash: INFO_HASH,
        peer_id: PEER_ID,
        offer_id: OFFER_ID,
        offer: r#"{"type":"offer","sdp":"v=0\r\n"}"#,
    };
    let expected = with("offer", json!({ "type": "offer", "sdp": "v=0\r\n" }));
    assert_eq!(seen(&offer), expected);
    let answer = ForwardedAnswer {
        info_hash: INFO_HASH,
        peer_id: PEER_ID,
        offer_id: OFFER_ID,
        answer: "\"x\"",
    };
    assert_eq!(seen(&answer), with("answer", json!("x")));
}

#[test]
fn scrape_reply_has_each_torrent_once() {
    let file = |info_hash, number| ScrapeFile {
        info_hash,
        seeders: number,
        completed: number + 1,
        leechers: number + 2,
    };
    let mut files = vec![
        file(InfoHash([b'x'; 20]), 0),
        file(INFO_HASH, 5),
        file(InfoHash([b'x'; 20]), 0),
    ];
    let expected = json!({
        "action": "scrape",
        "files": {
            INFO_HASH_TEXT: { "complete": 5, "downloaded": 6, "incomplete": 7 },
            "xxxxxxxxxxxxxxxxxxxx": { "complete": 0, "downloaded": 1, "incomplete": 2 },
        },
    });
    let reply = ScrapeResponse::new(&mut files);
    assert_eq!(seen(&reply), expected);
    assert_eq!(reply.files().len(), 2);

    let nothing = ScrapeResponse::new(&mut Vec::new()).size();
    assert_eq!(nothing, r#"{"action":"scrape","files":{}}"#.len());
}

#[test]
fn failure_says_what_about() {
    let mut failure = FailureResponse {
        action: Action::Announce,
        reason: "not \"allowed\" \u{0}\\ – 😀\n".into(),
        info_hash: Some(INFO_HASH),
        retry_seconds: None,
    };
    let expected = json!({
        "action": "announce",
        "info_hash": INFO_HASH_TEXT,
        "failure reason": "not \"allowed\" \u{0}\\ – 😀\n",
    });
    assert_eq!(seen(&failure), expected);
    failure.action = Action::Scrape;
    failure.info_hash = None;
    let expected = json!({ "action": "scrape", "failure reason": failure.reason });
    assert_eq!(seen(&failure), expected);
}

/// As `JSON.stringify` does it.
#[test]
fn control_characters_are_written_in_few_bytes() {
    let failure = FailureResponse {
        action: Action::Scrape,
        reason: "\u{8}\u{c}\n\r\t\"\\/\u{1}\u{1f}".into(),
        info_hash: None,
        retry_seconds: None,
    };
    let mut written = Vec::new();
    failure.write(&mut written);
    let expected = r#"{"action":"scrape","failure reason":"\b\f\n\r\t\"\\/\u0001\u001f"}"#;
    assert_eq!(String::from_utf8(written).unwrap(), expected);
}

/// As bittorrent-tracker reads it: no interval beside a failure reason.
#[test]
fn a_failure_that_may_pass_says_when_to_announce_again() {
    let mut failure = FailureResponse {
        action: Action::Announce,
        reason: "overloaded".into(),
        info_hash: Some(INFO_HASH),
        retry_seconds: Some(60),
    };
    let expected = json!({
        "action": "announce",
        "info_hash": INFO_HASH_TEXT,
        "interval": 60,
        "warning message": "overloaded",
    });
    assert_eq!(seen(&failure), expected);
    failure.action = Action::Scrape;
    failure.info_hash = None;
    let expected = json!({ "action": "scrape", "interval": 60, "failure reason": "overloaded" });
    assert_eq!(seen(&failure), expected);
}

#[test]
fn other_trackers_are_understood() {
    let text = concat!(
        r#"{"complete":1,"incomplete":2,"action":"announce","interval":120,"peers":[],"#,
        r#""min interval":60,"info_hash":"aaaaaaaaaaaaaaaaaaaa"}"#
    );
    let expected = AnnounceResponse {
        info_hash: InfoHash([b'a'; 20]),
        seeders: 1,
        leechers: 2,
        interval_seconds: 120,
        warning: None,
    };
    let parsed = Response::parse(text.as_bytes());
    assert_eq!(parsed, Ok(Response::Announce(expected)));

    let text = r#"{"failure reason":"no \ud83d\ude00 \ud83d","action":"announce","warning":1}"#;
    let expected = FailureResponse {
        action: Action::Announce,
        reason: "no 😀 \u{fffd}".into(),
        info_hash: None,
        retry_seconds: None,
    };
    let parsed = Response::parse(text.as_bytes());
    assert_eq!(parsed, Ok(Response::Failure(expected)));

    let text = concat!(
        r#"{"action":"scrape","flags":{"min_request_interval":120},"#,
        r#""files":{"short":{"complete":1},"#,
        r#""bbbbbbbbbbbbbbbbbbbb":{"x":{}},"cccccccccccccccccccc":7,"#,
        r#""aaaaaaaaaaaaaaaaaaaa":{"complete":1,"incomplete":2,"downloaded":3,"name":"x"}}}"#
    );
    let Ok(Response::Scrape(scrape)) = Response::parse(text.as_bytes()) else {
        panic!("not read as a scrape");
    };
    let file = |letter, [seeders, completed, leechers]: [u32; 3]| ScrapeFile {
        info_hash: InfoHash([letter; 20]),
        seeders,
        completed,
        leechers,
    };
    assert_eq!(scrape.files(), [file(b'a', [1, 3, 2]), file(b'b', [0; 3])]);
}

#[test]
fn errors_say_what_is_wrong() {
    for (error, text) in [
        (ResponseError::Utf8, "UTF-8"),
        (ResponseError::Json, "JSON object"),
        (ResponseError::UnknownKind, "neither"),
    ] {
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn what_is_no_message_of_a_tracker_is_refused() {
    let kind = |text: &[u8]| Response::parse(text).unwrap_err();
    assert_eq!(kind(b"{\"\xff\":1}"), ResponseError::Utf8);
    for text in ["", "[]", "{", "{}x", "7"] {
        assert_eq!(kind(text.as_bytes()), ResponseError::Json, "{text}");
    }
    for text in [
        "{}",
        r#"{"failure reason":"x"}"#,
        r#"{"action":"x","failure reason":"x"}"#,
        r#"{"action":"scrape"}"#,
        r#"{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa"}"#,
        r#"{"action":"announce","interval":1}"#,
        r#"{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","offer":{}}"#,
        r#"{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","answer":{}}"#,
    ] {
        assert_eq!(kind(text.as_bytes()), ResponseError::UnknownKind, "{text}");
    }
}
