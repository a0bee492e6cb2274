//! What clients send, and what must be made of it: each tolerated and each refused form.

use aquatic_types::{AnnounceEvent, InfoHash, PeerId, PeerStatus};
use aquatic_ws_protocol::{
    Action, AnnounceRequest, AnswerRequest, DEPTH_MAX, Message, Offer, OfferFault, OfferId,
    Request, RequestErrorKind, Response, ScrapeRequest, is_json,
};

const INFO_HASH: InfoHash = InfoHash(*b"an info hash, really");
const PEER_ID: PeerId = PeerId(*b"-WW0112-123456789012");

/// What an announce cannot do without.
const NEEDED: &str =
    r#""action":"announce","info_hash":"an info hash, really","peer_id":"-WW0112-123456789012""#;

fn announce<'a>() -> AnnounceRequest<'a> {
    AnnounceRequest {
        info_hash: INFO_HASH,
        peer_id: PEER_ID,
        bytes_uploaded: None,
        bytes_downloaded: None,
        bytes_left: None,
        event: AnnounceEvent::None,
        num_want: None,
        offers: vec![],
        skipped: None,
    }
}

/// What an announce with some members more is read as.
#[track_caller]
fn with(members: &str) -> AnnounceRequest<'static> {
    let [before, after] = [
        format!("{{{members},{NEEDED}}}"),
        format!(" {{ {NEEDED} ,\r\n\t{members} }}\n"),
    ]
    .map(|text| match Request::parse(text.leak().as_bytes()) {
        Ok(Request::Announce(announce)) => announce,
        other => panic!("{members}: {other:?}"),
    });
    assert_eq!(before, after);
    after
}

#[track_caller]
fn error_of(message: &str) -> (RequestErrorKind, Action, Option<InfoHash>) {
    let error = Request::parse(message.as_bytes()).expect_err(message);
    let mut written = Vec::new();
    error.response().write(&mut written);
    let Ok(Response::Failure(failure)) = Response::parse(&written) else {
        panic!("{error:?} is not written as a failure");
    };
    assert_eq!(failure.reason, error.to_string());
    assert_eq!(
        (failure.action, failure.info_hash),
        (error.action, error.info_hash)
    );
    (error.kind, error.action, error.info_hash)
}

/// Why a message with what an announce needs and these members more is refused.
#[track_caller]
fn refusal(members: &str) -> RequestErrorKind {
    let (kind, action, info_hash) = error_of(&format!("{{{NEEDED},{members}}}"));
    assert_eq!((action, info_hash), (Action::Announce, Some(INFO_HASH)));
    kind
}

#[test]
fn needed_members_are_enough() {
    let text = format!("{{{NEEDED}}}");
    let parsed = Request::parse(text.as_bytes());
    assert_eq!(parsed, Ok(Request::Announce(announce())));
}

#[test]
fn an_announce_is_read_as_browsers_send_it() {
    let text = concat!(
        r#"{"numwant":2,"uploaded":0,"downloaded":0,"left":7,"event":"started","#,
        r#""action":"announce","info_hash":"an info hash, really","#,
        r#""peer_id":"-WW0112-123456789012","offers":["#,
        r#"{"offer":{"type":"offer","sdp":"v=0\r\no=- 42 2 IN IP4 127.0.0.1\r\n"},"#,
        r#""offer_id":"ÿ\u0000\b\t\n\f\r\"\\é°²xyzabcde"},"#,
        r#"{"offer":{"type":"offer","sdp":"v=0\r\n"},"offer_id":"bbbbbbbbbbbbbbbbbbbb"}]}"#,
    );
    let offers = [
        Offer {
            offer_id: OfferId(*b"\xff\0\x08\t\n\x0c\r\"\\\xe9\xb0\xb2xyzabcde"),
            offer: r#"{"type":"offer","sdp":"v=0\r\no=- 42 2 IN IP4 127.0.0.1\r\n"}"#,
        },
        Offer {
            offer_id: OfferId([b'b'; 20]),
            offer: r#"{"type":"offer","sdp":"v=0\r\n"}"#,
        },
    ];
    let expected = AnnounceRequest {
        bytes_uploaded: Some(0),
        bytes_downloaded: Some(0),
        bytes_left: Some(7),
        event: AnnounceEvent::Started,
        num_want: Some(2),
        offers: offers.to_vec(),
        ..announce()
    };
    assert_eq!(
        Request::parse(text.as_bytes()),
        Ok(Request::Announce(expected))
    );
}

#[test]
fn ids_are_read_however_they_are_escaped() {
    let id = *b"\x00\x08\t\n\x0c\r\x1f\x20\"\\/Az\x7f\x80\xa0\xbf\xc0\xe9\xff";
    let escaped: String = id.iter().map(|byte| format!("\\u{byte:04x}")).collect();
    let ways = [
        escaped.clone(),
        escaped.to_uppercase().replace("\\U", "\\u"),
        // As JSON.stringify writes it.
        "\\u0000\\b\\t\\n\\f\\r\\u001f \\\"\\\\/Az\u{7f}\u{80}\u{a0}\u{bf}\u{c0}\u{e9}\u{ff}"
            .to_owned(),
        "\\u0000\\u0008\\t\\n\\f\\r\\u001F\\u0020\\\"\\u005c\\/\\u0041z\u{7f}\\u0080\u{a0}\u{bf}\
            \\u00C0\\u00e9\u{ff}"
            .to_owned(),
    ];
    for way in ways {
        let text = format!(r#"{{"action":"announce","info_hash":"{way}","peer_id":"{way}"}}"#);
        let expected = AnnounceRequest {
            info_hash: InfoHash(id),
            peer_id: PeerId(id),
            ..announce()
        };
        let parsed = Request::parse(text.as_bytes());
        assert_eq!(parsed, Ok(Request::Announce(expected)), "{text}");
    }
}

#[test]
fn ids_of_other_sizes_are_no_ids() {
    for bad in [
        r#""""#,
        r#""1234567890123456789""#,
        r#""123456789012345678901""#,
        r#""1234567890123456789Ā""#,
        r#""1234567890123456789\u0100""#,
        r#""1234567890123456789\ud83d""#,
        r#""1234567890123456789😀""#,
        // 20 bytes, but 10 characters.
        r#""éééééééééé""#,
        "7",
        "true",
        "{}",
        "[]",
    ] {
        let kind = refusal(&format!(r#""peer_id":{bad}"#));
        assert_eq!(kind, RequestErrorKind::PeerIdSize, "{bad}");
        let (kind, _, info_hash) = error_of(&format!(r#"{{{NEEDED},"info_hash":{bad}}}"#));
        assert_eq!(
            (kind, info_hash),
            (RequestErrorKind::InfoHashSize, None),
            "{bad}"
        );
        let entry = format!(r#""offers":[{{"offer_id":{bad},"offer":{{}}}}]"#);
        let fault = Some(OfferFault::OfferIdSize);
        let read = with(&entry);
        assert_eq!(read.skipped.map(|it| it.fault), fault, "{bad}");
        let skipped = None;
        assert_eq!(AnnounceRequest { skipped, ..read }, announce(), "{bad}");
    }
}

#[test]
fn bytes_are_a_number_or_a_string_or_nothing() {
    for (value, left) in [
        ("0", Some(0)),
        ("7", Some(7)),
        ("\"0\"", Some(0)),
        ("\"734003200\"", Some(734_003_200)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", Some(u64::MAX)),
        ("1e400", Some(u64::MAX)),
        ("1.5e3", Some(1500)),
        ("0.9", Some(0)),
        ("\"Infinity\"", Some(u64::MAX)),
        ("-0", Some(0)),
        ("-1", None),
        ("\"-1\"", None),
        ("-1e400", None),
        ("null", None),
        ("\"\"", None),
        ("\"x\"", None),
        ("\"NaN\"", None),
        ("\"null\"", None),
        ("true", None),
        ("[7]", None),
        ("{\"left\":7}", None),
    ] {
        let members = ["left", "uploaded", "downloaded"].map(|it| format!(r#""{it}":{value}"#));
        let it = with(&members.join(","));
        let all = [it.bytes_left, it.bytes_uploaded, it.bytes_downloaded];
        assert_eq!(all, [left; 3], "{value}");
    }
}

#[test]
fn who_does_not_say_what_is_left_is_a_leecher() {
    for (members, status) in [
        (r#""x":0"#, PeerStatus::Leecher),
        (r#""left":null"#, PeerStatus::Leecher),
        (r#""left":7"#, PeerStatus::Leecher),
        (r#""left":"0""#, PeerStatus::Seeder),
        (r#""event":"completed""#, PeerStatus::Seeder),
        (r#""event":"completed","left":7"#, PeerStatus::Leecher),
        (r#""event":"stopped","left":0"#, PeerStatus::Stopped),
    ] {
        assert_eq!(with(members).status(), status, "{members}");
    }
}

#[test]
fn events_that_are_not_known_are_none() {
    for (value, event) in [
        ("\"started\"", AnnounceEvent::Started),
        ("\"stopped\"", AnnounceEvent::Stopped),
        ("\"completed\"", AnnounceEvent::Completed),
        ("\"st\\u0061rted\"", AnnounceEvent::Started),
        ("\"update\"", AnnounceEvent::None),
        ("\"paused\"", AnnounceEvent::None),
        ("\"empty\"", AnnounceEvent::None),
        ("\"\"", AnnounceEvent::None),
        ("\"start\"", AnnounceEvent::None),
        ("null", AnnounceEvent::None),
        ("2", AnnounceEvent::None),
        ("[\"started\"]", AnnounceEvent::None),
    ] {
        let announce = with(&format!(r#""event":{value}"#));
        assert_eq!(announce.event, event, "{value}");
    }
}

#[test]
fn numwant_need_not_be_the_number_of_offers() {
    let offer = r#"{"offer_id":"12345678901234567890","offer":0}"#;
    for (numwant, wanted) in [
        ("0", Some(0)),
        ("1", Some(1)),
        ("50", Some(50)),
        ("\"5\"", Some(5)),
        ("4294967296", Some(u32::MAX)),
        ("-1", None),
        ("null", None),
        ("\"\"", None),
    ] {
        let members = format!(r#""numwant":{numwant},"offers":[{offer},{offer}]"#);
        let announce = with(&members);
        assert_eq!((announce.num_want, announce.offers.len()), (wanted, 2));
    }
}

#[test]
fn malformed_entries_of_offers_are_skipped() {
    let good = |offer| Offer {
        offer_id: OfferId(*b"12345678901234567890"),
        offer,
    };
    let entries = r#"[null, 7, "x", [], {}, [{"offer":1,"offer_id":"12345678901234567890"}],
        {"offer":{"sdp":"x"}}, {"offer_id":"12345678901234567890"},
        {"offer_id":"12345678901234567890","offer":{ "a" : [1, 2.5e-1] }},
        {"offer":null,"offer_id":"12345678901234567890"}, {"offer":{},"offer_id":"short"},
        {"offer":{},"offer_id":null},
        {"x":1,"offer":"text","y":{"offer":2},"offer_id":"12345678901234567890","z":[]},
        {"offer":1,"offer":false,"offer_id":"x","offer_id":"12345678901234567890"}]"#;
    let expected = [
        good(r#"{ "a" : [1, 2.5e-1] }"#),
        good("\"text\""),
        good("false"),
    ];
    let announce = with(&format!("\"offers\":{entries}"));
    assert_eq!(announce.offers, expected);
    let skipped = announce.skipped.unwrap();
    assert_eq!((skipped.count, skipped.first), (11, 0));
}

#[test]
fn offers_that_are_no_list_are_none() {
    for value in ["null", "{}", "0", "\"x\"", "[]", r#"{"0":{"offer":1}}"#] {
        assert_eq!(with(&format!("\"offers\":{value}")), announce(), "{value}");
    }
    // The last one counts.
    let offer = r#"{"offer_id":"12345678901234567890","offer":0}"#;
    let twice = with(&format!(r#""offers":[{offer},{offer}],"offers":[{offer}]"#));
    assert_eq!(twice.offers.len(), 1);
    assert_eq!(
        with(&format!(r#""offers":[{offer}],"offers":null"#)),
        announce()
    );
}

#[test]
fn offers_and_answers_are_passed_on_unchanged() {
    for json in [
        r#"{"type":"offer","sdp":"v=0\r\na=x:\u00e9\ud83d\ude00 😀 \/ \ud800"}"#,
        "{ \"b\" : 1.50e+1,\n\t\"a\" : [ ], \"a\" : { } }",
        "\"\"",
        "0",
        "false",
        "[null]",
    ] {
        let entry =
            format!(r#""offers":[ {{"offer": {json} ,"offer_id":"12345678901234567890"}}]"#);
        assert_eq!(with(&entry).offers[0].offer, json);
        let text = format!(r#"{{{NEEDED},{ANSWER},"answer": {json} }}"#);
        let Ok(Request::Answer(answer)) = Request::parse(text.as_bytes()) else {
            panic!("{text}");
        };
        assert_eq!(answer.answer, json);
    }
}

/// What makes an announce an answer.
const ANSWER: &str = concat!(
    r#""to_peer_id":"-WW0112-abcdefghijkl","#,
    r#""offer_id":"aaaaaaaaaaaaaaaaaaaa","answer":{"type":"answer"}"#,
);

#[test]
fn an_announce_with_an_answer_is_an_answer() {
    let expected = AnswerRequest {
        info_hash: INFO_HASH,
        peer_id: PEER_ID,
        to_peer_id: PeerId(*b"-WW0112-abcdefghijkl"),
        offer_id: OfferId([b'a'; 20]),
        answer: r#"{"type":"answer"}"#,
    };
    let text = format!("{{{ANSWER},{NEEDED}}}");
    assert_eq!(
        Request::parse(text.as_bytes()),
        Ok(Request::Answer(expected))
    );
    // What says nothing does not make an announce an answer.
    let nothing = r#""answer":null,"to_peer_id":null,"offer_id":null"#;
    assert_eq!(with(nothing), announce());
    assert_eq!(with(r#""offer_id":"aaaaaaaaaaaaaaaaaaaa""#), announce());
}

#[test]
fn what_an_answer_cannot_do_without_is_named() {
    for (members, kind) in [
        (
            ANSWER.replace("to_peer_id", "x"),
            RequestErrorKind::ToPeerIdMissing,
        ),
        (ANSWER.replace("ijkl", ""), RequestErrorKind::ToPeerIdSize),
        (
            ANSWER.replace("offer_id", "x"),
            RequestErrorKind::OfferIdMissing,
        ),
        (ANSWER.replace("aaa", "a"), RequestErrorKind::OfferIdSize),
        (
            ANSWER.replace(r#""answer":"#, r#""x":"#),
            RequestErrorKind::AnswerMissing,
        ),
        (
            ANSWER.replace(r#"{"type":"answer"}"#, "null"),
            RequestErrorKind::AnswerMissing,
        ),
    ] {
        assert_eq!(refusal(&members), kind, "{members}");
    }
}

#[test]
fn what_an_announce_cannot_do_without_is_named() {
    for (key, kind) in [
        ("action", RequestErrorKind::ActionMissing),
        ("info_hash", RequestErrorKind::InfoHashMissing),
        ("peer_id", RequestErrorKind::PeerIdMissing),
    ] {
        let info_hash = Some(INFO_HASH).filter(|_| key != "info_hash");
        let without = NEEDED.replace(&format!("\"{key}\""), "\"x\"");
        assert_eq!(
            error_of(&format!("{{{without}}}")),
            (kind, Action::Announce, info_hash)
        );
        let null = format!(r#"{{{NEEDED},"{key}":null}}"#);
        assert_eq!(error_of(&null), (kind, Action::Announce, info_hash));
    }
    for action in [
        "\"\"",
        "\"announc\"",
        "\"announces\"",
        "\"Announce\"",
        "7",
        "[]",
    ] {
        let kind = refusal(&format!(r#""action":{action}"#));
        assert_eq!(kind, RequestErrorKind::ActionUnknown, "{action}");
    }
}

#[test]
fn last_one_of_repeated_members_counts() {
    let first = r#""action":"x","info_hash":1,"peer_id":"","left":1,"event":"stopped","numwant":1"#;
    let then = r#""left":2,"event":"started","numwant":2"#;
    let text = format!("{{{first},{NEEDED},{then}}}");
    let expected = AnnounceRequest {
        bytes_left: Some(2),
        event: AnnounceEvent::Started,
        num_want: Some(2),
        ..announce()
    };
    assert_eq!(
        Request::parse(text.as_bytes()),
        Ok(Request::Announce(expected))
    );
}

#[test]
fn strange_members_are_read_past() {
    for members in [
        r#""":"""#,
        r#""uploaded":null,"downloaded":-1.5e+10,"corrupt":null,"trackerid":"x","key":true"#,
        r#""x":{"info_hash":"y","offers":[{}]},"Peer_id":1,"peer_id ":1,"peer":[[[[]]]]"#,
        r#""\u0070eer":"\ud800\\\"","é":"é","😀":false"#,
    ] {
        assert_eq!(with(members), announce(), "{members}");
    }
    assert_eq!(with(r#""l\u0065ft":7"#).bytes_left, Some(7));
}

#[test]
fn scrapes_name_one_torrent_or_many_or_none() {
    let [a, b] = [InfoHash([b'a'; 20]), InfoHash([0xe9; 20])];
    let (a_text, b_text) = ("a".repeat(20), "é".repeat(20));
    for (members, expected) in [
        (format!(r#","info_hash":"{a_text}""#), vec![a]),
        (format!(r#","info_hash":["{b_text}"]"#), vec![b]),
        (
            format!(r#","info_hash":[ "{a_text}" , "{b_text}", "{a_text}" ]"#),
            vec![a, b, a],
        ),
        (r#","info_hash":[]"#.to_owned(), vec![]),
        (r#","info_hash":null"#.to_owned(), vec![]),
        (String::new(), vec![]),
    ] {
        let text = format!(r#"{{"action":"scrape"{members}}}"#);
        let Ok(Request::Scrape(scrape)) = Request::parse(text.as_bytes()) else {
            panic!("{text}");
        };
        assert_eq!(scrape.info_hashes, expected, "{text}");
    }
}

#[test]
fn scrapes_of_something_else_are_refused() {
    let good = "a".repeat(20);
    for bad in [
        "7",
        "{}",
        "\"\"",
        "\"x\"",
        "[7]",
        "[null]",
        &format!(r#"["{good}","x"]"#),
        &format!(r#"["x","{good}"]"#),
        &format!(r#"[["{good}"]]"#),
    ] {
        let error = error_of(&format!(r#"{{"action":"scrape","info_hash":{bad}}}"#));
        assert_eq!(
            error,
            (RequestErrorKind::InfoHashSize, Action::Scrape, None),
            "{bad}"
        );
    }
}

#[test]
fn what_is_readable_of_a_bad_message_is_in_the_error() {
    let kind = RequestErrorKind::Json;
    for end in [
        "",
        ",",
        "}x",
        "}}",
        "},",
        r#","left":"#,
        r#","left":1"#,
        r#","x":nul}"#,
        ",}",
    ] {
        let error = error_of(&format!("{{{NEEDED}{end}"));
        assert_eq!(error, (kind, Action::Announce, Some(INFO_HASH)), "{end}");
    }
    let error = error_of(r#"{"action":"scrape","info_hash":["#);
    assert_eq!(error, (kind, Action::Scrape, None));
    for text in [
        "",
        " ",
        "[]",
        "7",
        "null",
        "\"x\"",
        "GET / HTTP/1.1",
        "\u{feff}{}",
    ] {
        assert_eq!(error_of(text), (kind, Action::Announce, None), "{text}");
    }
    assert_eq!(error_of("{}").0, RequestErrorKind::ActionMissing);
    let latin_1 = Request::parse(b"{\"action\":\"announce\",\"info_hash\":\"\xe9\"}");
    assert_eq!(latin_1.unwrap_err().kind, RequestErrorKind::Utf8);
}

#[test]
fn control_characters_in_strings_are_refused_wherever_they_are() {
    for size in 0..70 {
        let plain = "x".repeat(size);
        for control in '\0'..' ' {
            for text in [format!("{plain}{control}"), format!("{control}{plain}\\n")] {
                let members = format!(r#""offers":[{{"offer":"{text}"}}]"#);
                assert_eq!(refusal(&members), RequestErrorKind::Json, "{members:?}");
            }
        }
        let members = format!("\"x\":\"{plain} {plain}\u{7f}{plain}\\n\"");
        assert_eq!(with(&members), announce());
    }
}

#[test]
fn nesting_is_bounded() {
    let depth_max = usize::try_from(DEPTH_MAX).unwrap();
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    // One level is the message itself.
    let deepest = nested(depth_max - 1);
    assert_eq!(with(&format!("\"x\":{deepest}")), announce());
    let wide = format!("[{0},{0},{0}]", nested(depth_max - 2));
    assert_eq!(with(&format!("\"x\":{wide},\"y\":{wide}")), announce());
    let too_deep = format!("\"x\":{}", nested(depth_max));
    assert_eq!(refusal(&too_deep), RequestErrorKind::Depth);
    let never_closed = format!("\"x\":{}", "{\"x\":".repeat(100_000));
    assert_eq!(refusal(&never_closed), RequestErrorKind::Depth);
}

#[test]
fn requests_are_written_as_clients_write_them() {
    let offer_id = OfferId(*b"\0\x1f\n\"\\/\x7f\x80\xff-----------");
    let offer = r#"{"sdp":"\r\n"}"#;
    let offers = [Offer { offer_id, offer }];
    let requests = [
        Request::Announce(AnnounceRequest {
            bytes_left: Some(7),
            event: AnnounceEvent::Started,
            num_want: Some(1),
            offers: offers.to_vec(),
            ..announce()
        }),
        Request::Announce(announce()),
        Request::Scrape(ScrapeRequest {
            info_hashes: vec![INFO_HASH, INFO_HASH],
        }),
        Request::Scrape(ScrapeRequest {
            info_hashes: vec![],
        }),
    ];
    let expected = [
        concat!(
            r#"{"action":"announce","info_hash":"an info hash, really","#,
            r#""peer_id":"-WW0112-123456789012","left":7,"event":"started","numwant":1,"#,
            r#""offers":[{"offer_id":"\u0000\u001f\n\"\\/"#,
            "\u{7f}\u{80}\u{ff}",
            r#"-----------","offer":{"sdp":"\r\n"}}]}"#
        ),
        concat!(
            r#"{"action":"announce","info_hash":"an info hash, really","#,
            r#""peer_id":"-WW0112-123456789012","offers":[]}"#
        ),
        r#"{"action":"scrape","info_hash":["an info hash, really","an info hash, really"]}"#,
        r#"{"action":"scrape","info_hash":[]}"#,
    ];
    for (request, expected) in requests.iter().zip(expected) {
        let mut written = Vec::new();
        request.write(&mut written);
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }
}

/// What is to stand in a message as an offer, and did not come in one.
#[test]
fn json_is_told_from_what_is_none() {
    for text in ["null", "7", "\"x\"", " {\"a\": [1, {}]} ", "[]", "true"] {
        assert!(is_json(text), "{text}");
    }
    for text in [
        "", " ", "{", "{}{}", "{},1", "nul", "'x'", "\"\n\"", "\"x", "[1,]", "01",
    ] {
        assert!(!is_json(text), "{text}");
    }
    let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
    let max = usize::try_from(DEPTH_MAX).unwrap();
    assert!(is_json(&nested(max)));
    assert!(!is_json(&nested(max + 1)));
}
