use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::endpoint::guard::Guard;
use crate::endpoint::token::Token;
use crate::live::LiveSettings;

const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n";

fn routes() -> Routes {
    let token = Token::parse(b"0123456789abcdef").unwrap();
    Routes::default()
        .guarded_by(Guard::new(Some(LiveSettings::new(token)), &[]))
        .with("/page", |_| Response::ok("text/plain", "page"))
        .with_action("/do", 1_000, |post| Response::ok("text/plain", post.body))
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Sends `input` at once, takes what is answered, and says it together with the last phase.
fn talk(input: impl AsRef<[u8]>) -> (String, Phase) {
    let mut connection = Connection::new(at(0));
    let mut answers = Vec::new();
    let mut routes = routes();
    let mut actions = routes.take_actions();
    connection.receive(at(0), input.as_ref());
    loop {
        connection.answer(at(0), &mut routes);
        if let Some(job) = connection.take_job() {
            connection.complete(at(0), &actions.run(job));
        }
        let output = connection.output().to_vec();
        if output.is_empty() {
            return (String::from_utf8(answers).unwrap(), connection.phase());
        }
        answers.extend_from_slice(&output);
        connection.sent(at(0), output.len());
    }
}

#[test]
fn requests_are_answered_in_order_over_one_connection() {
    let request = "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(talk(request), (format!("{PAGE}page"), Phase::Idle));
    let two = format!("{PAGE}page{PAGE}page");
    assert_eq!(talk(request.repeat(2)), (two, Phase::Idle));
    let one_and_a_half = format!("{request}GET /pa");
    let answered = (format!("{PAGE}page"), Phase::Reading);
    assert_eq!(talk(one_and_a_half), answered);
    assert_eq!(talk("").1, Phase::Reading);
}

#[test]
fn a_head_request_gets_no_body() {
    let (answer, _) = talk("HEAD /page HTTP/1.1\r\n\r\n");
    assert_eq!(answer, PAGE);
}

#[test]
fn who_wants_the_connection_closed_gets_that() {
    for request in [
        "GET /page HTTP/1.1\r\nConnection: Close\r\n\r\n",
        "GET /page HTTP/1.1\r\nconnection: TE, close\r\n\r\n",
        "GET /page HTTP/1.0\r\n\r\n",
    ] {
        let (answer, phase) = talk(request);
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\npage"), "{answer}");
        assert_eq!(phase, Phase::Lingering);
    }
}

/// Each request is refused with this status, and the connection is in this phase then.
#[track_caller]
fn assert_refused(cases: &[(&str, &str, Phase)]) {
    for (request, status, phase) in cases {
        let (answer, last_phase) = talk(request);
        let start = format!("HTTP/1.1 {status}\r\n");
        assert!(answer.starts_with(&start), "{request}: {answer}");
        assert_eq!(last_phase, *phase, "{request}: {answer}");
        assert_eq!(
            answer.contains("\r\nConnection: close\r\n"),
            *phase == Phase::Lingering
        );
    }
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let large = format!("GET /page HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(8_192));
    let endless = format!("GET /{}", "x".repeat(8_192));
    let many = format!("GET /page HTTP/1.1\r\n{}\r\n", "X: x\r\n".repeat(65));
    assert_refused(&[
        (
            "GET /nowhere HTTP/1.1\r\n\r\n",
            "404 Not Found",
            Phase::Idle,
        ),
        (
            "PUT /page HTTP/1.1\r\n\r\n",
            "405 Method Not Allowed",
            Phase::Idle,
        ),
        (
            &large,
            "431 Request Header Fields Too Large",
            Phase::Lingering,
        ),
        (
            &endless,
            "431 Request Header Fields Too Large",
            Phase::Lingering,
        ),
        (
            &many,
            "431 Request Header Fields Too Large",
            Phase::Lingering,
        ),
        ("rubbish\r\n\r\n", "400 Bad Request", Phase::Lingering),
        (
            "\x16\x03\x01\x02\x00\x01",
            "400 Bad Request",
            Phase::Lingering,
        ),
    ]);
    assert!(
        talk("PUT /page HTTP/1.1\r\n\r\n")
            .0
            .contains("\r\nAllow: GET, HEAD\r\n")
    );
}

#[test]
fn bodies_that_may_not_come_and_requests_of_others_are_refused() {
    assert_refused(&[
        (
            "GET /page HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            "413 Content Too Large",
            Phase::Lingering,
        ),
        (
            "POST /page HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            "405 Method Not Allowed",
            Phase::Lingering,
        ),
        (
            "POST /do HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc",
            "400 Bad Request",
            Phase::Lingering,
        ),
        (
            "POST /do HTTP/1.1\r\nContent-Length: +1\r\n\r\nabc",
            "400 Bad Request",
            Phase::Lingering,
        ),
        (
            "GET /page HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "400 Bad Request",
            Phase::Lingering,
        ),
        (
            "GET /page HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            "403 Forbidden",
            Phase::Idle,
        ),
        ("POST /do HTTP/1.1\r\n\r\n", "401 Unauthorized", Phase::Idle),
        (
            "POST /do HTTP/1.1\r\nAuthorization: Bearer 0123456789abcdef\r\n\
             Origin: http://evil.example\r\nHost: localhost\r\n\r\n",
            "403 Forbidden",
            Phase::Idle,
        ),
        (
            "POST /do HTTP/1.1\r\nAuthorization: Bearer 0123456789abcdef\r\n\
             Content-Length: 99999999999999999999999\r\n\r\n",
            "413 Content Too Large",
            Phase::Lingering,
        ),
        (
            "GET /page HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "411 Length Required",
            Phase::Lingering,
        ),
    ]);
}

const POST: &str = "POST /do HTTP/1.1\r\nAuthorization: Bearer 0123456789abcdef\r\n";

#[test]
fn an_action_is_given_its_body_and_no_more() {
    let request = format!("{POST}Content-Length: 4\r\n\r\npage");
    assert_eq!(talk(&request), (format!("{PAGE}page"), Phase::Idle));
    let (answers, phase) = talk(format!("{request}GET /page HTTP/1.1\r\n\r\n{request}"));
    assert_eq!(answers, format!("{PAGE}page").repeat(3));
    assert_eq!(phase, Phase::Idle);
    let (answer, _) = talk(format!("{POST}\r\n"));
    assert!(
        answer.ends_with("\r\nContent-Length: 0\r\n\r\n"),
        "{answer}"
    );
    assert_eq!(
        talk(format!("{POST}Content-Length: 5\r\n\r\npage")).1,
        Phase::ReadingBody
    );
}

#[test]
fn a_client_that_waits_for_a_word_gets_it() {
    let head = format!("{POST}Expect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    let (answer, phase) = talk(&head);
    assert_eq!(answer.as_bytes(), CONTINUE);
    assert_eq!(phase, Phase::ReadingBody);
    // It has not waited.
    assert_eq!(talk(format!("{head}page")).0, format!("{PAGE}page"));
    let refused = head.replace("Bearer", "Basic");
    let (answer, phase) = talk(refused);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert_eq!(phase, Phase::Lingering, "the body may come or not");
}

/// What a client is answered that sends this in such pieces.
fn talk_in_pieces(input: &[u8], piece_bytes: usize) -> Vec<u8> {
    let mut connection = Connection::new(at(0));
    let mut answers = Vec::new();
    let mut routes = routes();
    let mut actions = routes.take_actions();
    for piece in input.chunks(piece_bytes) {
        connection.receive(at(0), piece);
        loop {
            connection.answer(at(0), &mut routes);
            if let Some(job) = connection.take_job() {
                connection.complete(at(0), &actions.run(job));
            }
            let bytes = connection.output().len();
            if bytes == 0 {
                break;
            }
            if connection.output() != CONTINUE {
                answers.extend_from_slice(connection.output());
            }
            connection.sent(at(0), bytes);
        }
    }
    answers
}

proptest! {
    #[test]
    fn pieces_of_requests_are_answered_as_the_whole(
        parts in vec(
            prop_oneof![
                Just(POST.to_owned()),
                Just("GET /page HTTP/1.1\r\n".to_owned()),
                Just("Expect: 100-continue\r\n".to_owned()),
                Just("\r\n".to_owned()),
                (0..12_u32).prop_map(|bytes| format!("Content-Length: {bytes}\r\n\r\n")),
                "[a-z]{0,12}",
            ],
            0..12,
        ),
        piece_bytes in 1_usize..40,
    ) {
        let input = parts.concat();
        let whole = talk_in_pieces(input.as_bytes(), input.len().max(1));
        prop_assert_eq!(talk_in_pieces(input.as_bytes(), piece_bytes), whole);
    }
}

#[test]
fn a_client_waits_for_an_action_and_is_given_up_at_last() {
    let mut connection = Connection::new(at(0));
    let mut routes = routes();
    connection.receive(
        at(1),
        format!("{POST}Content-Length: 2\r\n\r\n1").as_bytes(),
    );
    connection.answer(at(1), &mut routes);
    let state = (connection.phase(), connection.deadline());
    assert_eq!(state, (Phase::ReadingBody, at(91)));
    connection.receive(at(2), b"2");
    connection.answer(at(2), &mut routes);
    let state = (connection.phase(), connection.deadline());
    assert_eq!(state, (Phase::Working, at(122)));
    let job = connection.take_job().unwrap();
    assert!(connection.take_job().is_none());
    connection.complete(at(3), &routes.take_actions().run(job));
    assert!(connection.output().ends_with(b"12"));
    assert_eq!(connection.phase(), Phase::Sending);
}

/// Otherwise a few of them would keep load balancers from the health of the tracker.
#[test]
fn who_takes_nothing_of_an_answer_is_not_left_alone_for_long() {
    let mut connection = Connection::new(at(0));
    assert!(!connection.is_busy(at(0)));
    connection.receive(at(0), b"GET /page HTTP/1.1\r\n\r\n");
    connection.answer(at(0), &mut routes());
    assert!(connection.is_busy(at(9)) && !connection.is_busy(at(10)));
    connection.sent(at(11), 1);
    assert!(connection.is_busy(at(20)) && !connection.is_busy(at(21)));
}

#[test]
fn each_phase_has_a_deadline_that_trickling_does_not_put_off() {
    let mut connection = Connection::new(at(0));
    assert_eq!(connection.deadline(), at(10));
    connection.receive(at(3), b"GET /page HTTP/1.1\r\n");
    connection.answer(at(3), &mut routes());
    assert_eq!(connection.deadline(), at(10), "from the beginning");
    connection.receive(at(4), b"\r\n");
    connection.answer(at(4), &mut routes());
    assert_eq!(
        (connection.phase(), connection.deadline()),
        (Phase::Sending, at(34))
    );
    connection.sent(at(20), 1);
    assert_eq!(connection.deadline(), at(34));
    connection.sent(at(21), connection.output().len());
    assert_eq!(
        (connection.phase(), connection.deadline()),
        (Phase::Idle, at(321))
    );
    connection.receive(at(100), b"GET ");
    assert_eq!(
        (connection.phase(), connection.deadline()),
        (Phase::Reading, at(110))
    );
    connection.receive(at(105), b"/page HTTP/1.0\r\n\r\n");
    connection.answer(at(105), &mut routes());
    connection.sent(at(106), connection.output().len());
    assert_eq!(connection.deadline(), at(108));
    connection.receive(at(107), b"more");
    assert_eq!(
        (connection.phase(), connection.deadline()),
        (Phase::Lingering, at(108))
    );
}
