//! Offers that cannot be passed on, and what people are told about them.

use aquatic_ws_protocol::{AnnounceRequest, OfferFault, Request, RequestErrorKind};

/// What is made of an announce with these members, besides those that it cannot do without.
fn with(members: &str) -> AnnounceRequest<'static> {
    let id = "12345678901234567890";
    let text = format!(r#"{{"action":"announce","info_hash":"{id}","peer_id":"{id}",{members}}}"#);
    match Request::parse(text.leak().as_bytes()) {
        Ok(Request::Announce(announce)) => announce,
        other => panic!("{members}: {other:?}"),
    }
}

#[test]
fn the_first_skipped_offer_is_named_with_its_fault() {
    let good = r#"{"offer":1,"offer_id":"12345678901234567890"}"#;
    for (entry, words) in [
        ("null", "it is no JSON object"),
        ("[]", "it is no JSON object"),
        ("{}", "offer_id is missing"),
        (r#"{"offer":1,"offer_id":null}"#, "offer_id is missing"),
        (
            r#"{"offer":1,"offer_id":"short"}"#,
            "offer_id must be 20 characters",
        ),
        (
            r#"{"offer":1,"offer_id":7}"#,
            "offer_id must be 20 characters",
        ),
        (r#"{"offer_id":"12345678901234567890"}"#, "offer is missing"),
        (
            r#"{"offer":null,"offer_id":"12345678901234567890"}"#,
            "offer is missing",
        ),
    ] {
        let announce = with(&format!("\"offers\":[{good},{good},{entry},{good}]"));
        assert_eq!(announce.offers.len(), 3);
        let text = announce.skipped.unwrap().to_string();
        assert!(
            text.starts_with(&format!("offers[2] was not passed on: {words}")),
            "{text}"
        );
        assert!(!text.contains("more"), "{text}");
        let announce = with(&format!("\"offers\":[{good},{entry},{good},7,{{}}]"));
        let text = announce.skipped.unwrap().to_string();
        assert!(
            text.starts_with(&format!("offers[1] was not passed on: {words}")),
            "{text}"
        );
        assert!(text.ends_with("; nor were 2 more"), "{text}");
        // The last list counts.
        let announce = with(&format!("\"offers\":[{entry}],\"offers\":[{good}]"));
        assert_eq!((announce.skipped, announce.offers.len()), (None, 1));
    }
}

/// The limit is about the JSON that is passed on, quotes and all.
#[test]
fn offers_and_answers_are_passed_on_up_to_a_size() {
    let id = "12345678901234567890";
    let needed = format!(r#""action":"announce","info_hash":"{id}","peer_id":"{id}""#);
    let [fits, is_larger] = [10, 11].map(|size| format!("\"{}\"", "x".repeat(size - 2)));
    let offer = |json: &str| format!(r#"{{"offer_id":"{id}","offer":{json}}}"#);
    let [first, second] = [offer(&fits), offer(&is_larger)];
    let text = format!("{{{needed},\"offers\":[{first},{second},7,{second}]}}");
    let Ok(Request::Announce(announce)) = Request::parse_within(text.as_bytes(), 10) else {
        panic!("{text}");
    };
    assert_eq!(announce.offers.len(), 1);
    assert_eq!(announce.offers[0].offer, fits);
    let skipped = announce.skipped.unwrap();
    assert_eq!((skipped.count, skipped.too_large), (3, 2));
    assert_eq!((skipped.first, skipped.fault), (1, OfferFault::TooLarge));
    assert!(skipped.to_string().contains("too large"), "{skipped}");

    for (json, error) in [
        (fits, None),
        (is_larger, Some(RequestErrorKind::AnswerSize)),
    ] {
        let answer = format!(r#""to_peer_id":"{id}","offer_id":"{id}","answer":{json}"#);
        let text = format!("{{{needed},{answer}}}");
        let read = Request::parse_within(text.as_bytes(), 10);
        assert_eq!(read.err().map(|error| error.kind), error, "{json}");
    }
}
