//! How many instructions other JSON readers need for what [`Request::parse`] does (needs
//! `valgrind`):
//!
//! ```text
//! cargo bench -p aquatic_budgets --bench json_readers
//! ```
//!
//! Each reader finds the members of an announce and its offers, decodes the ids, and has the offers
//! ready to be passed on. What `aquatic_ws_protocol` does beyond that (telling what is wrong,
//! repeated members, numbers in strings) is left out here, in favour of the others.

#![forbid(unsafe_code)]

mod messages;

use std::borrow::Cow;
use std::cell::RefCell;
use std::error::Error;
use std::hint::black_box;

use aquatic_budgets::{Case, Work};
use aquatic_ws_protocol::Request;
use serde::Deserialize;
use serde_json::value::RawValue;
use simd_json::prelude::{ValueAsScalar, Writable};
use simd_json::{Buffers, tape};
use sonic_rs::LazyValue;

const CASES: [Case; 13] = [
    ("announce: our own", Work::Buffer(own_announce)),
    (
        "announce: serde_json, raw values",
        Work::Buffer(serde_announce),
    ),
    (
        "announce: serde_json, raw values, bad offers skipped",
        Work::Buffer(serde_tolerant_announce),
    ),
    ("announce: simd-json, tape", Work::Buffer(simd_announce)),
    (
        "announce: simd-json, tape, offers written again",
        Work::Buffer(simd_rewritten_announce),
    ),
    (
        "announce: copied, as simd-json writes into its input",
        Work::Buffer(copied_announce),
    ),
    (
        "announce: sonic-rs, lazy values",
        Work::Buffer(sonic_announce),
    ),
    (
        "announce: sonic-rs, lazy values, bad offers skipped",
        Work::Buffer(sonic_tolerant_announce),
    ),
    ("answer: our own", Work::Buffer(own_answer)),
    ("answer: serde_json, raw values", Work::Buffer(serde_answer)),
    ("answer: sonic-rs, lazy values", Work::Buffer(sonic_answer)),
    ("answer: simd-json, tape", Work::Buffer(simd_answer)),
    (
        "answer: simd-json, tape, answer written again",
        Work::Buffer(simd_rewritten_answer),
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    aquatic_budgets::report("json_readers", &CASES)
}

fn own_announce(_: &mut Vec<u8>) {
    let request = Request::parse(black_box(messages::announce()));
    assert!(
        matches!(black_box(request), Ok(Request::Announce(announce)) if announce.offers.len() == 10)
    );
}

fn own_answer(_: &mut Vec<u8>) {
    let request = Request::parse(black_box(messages::answer()));
    assert!(matches!(black_box(request), Ok(Request::Answer(_))));
}

/// What serde_json gives. Offers are raw values, or whatever `O` makes of the entries.
#[derive(Deserialize)]
#[serde(bound(deserialize = "O: Deserialize<'de>, R: Deserialize<'de>, 'de: 'a"))]
struct SerdeRequest<'a, O, R> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    info_hash: Cow<'a, str>,
    #[serde(borrow)]
    peer_id: Cow<'a, str>,
    #[serde(borrow)]
    to_peer_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    offer_id: Option<Cow<'a, str>>,
    answer: Option<R>,
    left: Option<u64>,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    numwant: Option<i64>,
    offers: Option<Vec<O>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "R: Deserialize<'de>, 'de: 'a"))]
struct SerdeOffer<'a, R> {
    #[serde(borrow)]
    offer_id: Cow<'a, str>,
    offer: R,
}

/// The 20 bytes that a string stands for.
fn decoded(text: &str) -> Option<[u8; 20]> {
    let mut characters = text.chars();
    let mut bytes = [0; 20];
    for byte in &mut bytes {
        *byte = u8::try_from(characters.next()?).ok()?;
    }
    characters.next().is_none().then_some(bytes)
}

/// A value as it stands in the text.
trait Raw {
    fn text(&self) -> &str;
}

impl Raw for &RawValue {
    fn text(&self) -> &str {
        self.get()
    }
}

impl Raw for LazyValue<'_> {
    fn text(&self) -> &str {
        self.as_raw_str()
    }
}

impl<O, R: Raw> SerdeRequest<'_, O, R> {
    fn use_up(&self) {
        assert_eq!(self.action, "announce");
        black_box((decoded(&self.info_hash), decoded(&self.peer_id)));
        black_box(self.to_peer_id.as_deref().map(decoded));
        black_box(self.offer_id.as_deref().map(decoded));
        black_box(self.answer.as_ref().map(Raw::text));
        black_box((
            self.left,
            self.event.as_deref() == Some("started"),
            self.numwant,
        ));
    }
}

fn serde_announce(_: &mut Vec<u8>) {
    let request: SerdeRequest<'_, SerdeOffer<'_, &RawValue>, &RawValue> =
        serde_json::from_slice(black_box(messages::announce())).unwrap();
    request.use_up();
    for entry in request.offers.iter().flatten() {
        black_box((decoded(&entry.offer_id), entry.offer.get()));
    }
}

fn serde_tolerant_announce(_: &mut Vec<u8>) {
    let request: SerdeRequest<'_, &RawValue, &RawValue> =
        serde_json::from_slice(black_box(messages::announce())).unwrap();
    request.use_up();
    for entry in request.offers.iter().flatten() {
        if let Ok(entry) = serde_json::from_str::<SerdeOffer<'_, &RawValue>>(entry.get()) {
            black_box((decoded(&entry.offer_id), entry.offer.get()));
        }
    }
}

fn serde_answer(_: &mut Vec<u8>) {
    let request: SerdeRequest<'_, &RawValue, &RawValue> =
        serde_json::from_slice(black_box(messages::answer())).unwrap();
    request.use_up();
}

fn sonic_announce(_: &mut Vec<u8>) {
    let request: SerdeRequest<'_, SerdeOffer<'_, LazyValue<'_>>, LazyValue<'_>> =
        sonic_rs::from_slice(black_box(messages::announce())).unwrap();
    request.use_up();
    for entry in request.offers.iter().flatten() {
        black_box((decoded(&entry.offer_id), entry.offer.text()));
    }
}

fn sonic_tolerant_announce(_: &mut Vec<u8>) {
    let request: SerdeRequest<'_, LazyValue<'_>, LazyValue<'_>> =
        sonic_rs::from_slice(black_box(messages::announce())).unwrap();
    request.use_up();
    for entry in request.offers.iter().flatten() {
        if let Ok(entry) = sonic_rs::from_str::<SerdeOffer<'_, LazyValue<'_>>>(entry.text()) {
            black_box((decoded(&entry.offer_id), entry.offer.text()));
        }
    }
}

fn sonic_answer(_: &mut Vec<u8>) {
    let request: SerdeRequest<'_, LazyValue<'_>, LazyValue<'_>> =
        sonic_rs::from_slice(black_box(messages::answer())).unwrap();
    request.use_up();
}

thread_local! {
    /// As a worker would keep them.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers::default());
}

/// Lets `then` use what simd-json makes of a message, copied into `input`.
fn with_tape(message: &[u8], input: &mut Vec<u8>, then: impl FnOnce(tape::Value<'_, '_>)) {
    input.clear();
    input.extend_from_slice(black_box(message));
    BUFFERS.with_borrow_mut(|buffers| {
        let tape = simd_json::to_tape_with_buffers(input, buffers).unwrap();
        then(tape.as_value());
    });
}

fn use_up_tape(request: tape::Value<'_, '_>, mut pass_on: impl FnMut(tape::Value<'_, '_>)) {
    let request = request.as_object().unwrap();
    for (key, value) in request.iter() {
        match key {
            "action" => assert_eq!(value.as_str(), Some("announce")),
            "info_hash" | "peer_id" | "to_peer_id" | "offer_id" => {
                black_box(value.as_str().map(decoded));
            }
            "answer" => pass_on(value),
            "left" => drop(black_box(value.as_u64())),
            "numwant" => drop(black_box(value.as_i64())),
            "event" => drop(black_box(value.as_str() == Some("started"))),
            "offers" => {
                for entry in value.as_array().unwrap().iter() {
                    for (key, value) in entry.as_object().unwrap().iter() {
                        match key {
                            "offer_id" => drop(black_box(value.as_str().map(decoded))),
                            "offer" => pass_on(value),
                            _ => {}
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

fn simd_announce(input: &mut Vec<u8>) {
    with_tape(messages::announce(), input, |request| {
        use_up_tape(request, |value| {
            black_box(value);
        });
    });
}

fn simd_answer(input: &mut Vec<u8>) {
    with_tape(messages::answer(), input, |request| {
        use_up_tape(request, |value| {
            black_box(value);
        });
    });
}

fn simd_rewritten_announce(input: &mut Vec<u8>) {
    with_tape(messages::announce(), input, |request| {
        let mut out = Vec::with_capacity(32 * 1024);
        use_up_tape(request, |value| value.write(&mut out).unwrap());
        black_box(out);
    });
}

fn simd_rewritten_answer(input: &mut Vec<u8>) {
    with_tape(messages::answer(), input, |request| {
        let mut out = Vec::with_capacity(32 * 1024);
        use_up_tape(request, |value| value.write(&mut out).unwrap());
        black_box(out);
    });
}

fn copied_announce(input: &mut Vec<u8>) {
    input.clear();
    input.extend_from_slice(black_box(messages::announce()));
}
