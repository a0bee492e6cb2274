//! What trackers answer, byte by byte, and what is made of the answers of other trackers.

use std::borrow::Cow;
use std::net::IpAddr;

use aquatic_http_protocol::{
    AnnounceResponse, BodilessResponse, BodySize, Connection, FailureResponse, Framing, PeerForm,
    Response, ResponseError, ResponseHead, Retry, ScrapeFile, ScrapeResponse, Status, TextResponse,
    write_as_last,
};
use aquatic_types::{CompactAddr, CompactV4, CompactV6, InfoHash, PerFamily};

const FRAMING: Framing = Framing {
    connection: Connection::KeepAlive,
    omit_body: false,
};

fn written(response: &Response<'_>, framing: Framing) -> Vec<u8> {
    let mut out = b"before".to_vec();
    response.write(framing, &mut out);
    assert!(out.starts_with(b"before"));
    out.split_off(6)
}

/// `body` is what is written for `response`, which is what is read from it.
#[track_caller]
fn check(response: &Response<'_>, body: &[u8]) {
    let bytes = written(response, FRAMING);
    let head = ResponseHead::parse(&bytes).unwrap().unwrap();
    assert_eq!(head.body, BodySize::Known(body.len()));
    assert_eq!(
        bytes[head.size..].escape_ascii().to_string(),
        body.escape_ascii().to_string()
    );
    assert_eq!(Response::parse(body).as_ref(), Ok(response));
}

fn v4() -> CompactV4 {
    CompactV4::new("192.0.2.7".parse().unwrap(), 0x1a1b)
}

fn v6() -> CompactV6 {
    CompactV6::new("2001:db8::7".parse().unwrap(), 0x1c1d)
}

fn announce() -> AnnounceResponse<'static> {
    AnnounceResponse {
        seeders: 0,
        completed: 10,
        leechers: 99_999_999,
        interval_seconds: 120,
        min_interval_seconds: None,
        external_ip: None,
        peers: PerFamily::default(),
        peer_form: PeerForm::Compact,
    }
}

#[test]
fn announce_without_peers_still_has_peers() {
    let body = b"d8:completei0e10:downloadedi10e10:incompletei99999999e8:intervali120e5:peers0:e";
    check(&Response::Announce(announce()), body);
    let response = AnnounceResponse {
        peer_form: PeerForm::List,
        ..announce()
    };
    let body = b"d8:completei0e10:downloadedi10e10:incompletei99999999e8:intervali120e5:peerslee";
    check(&Response::Announce(response), body);
}

#[test]
fn announce_has_all_keys_in_order() {
    let response = AnnounceResponse {
        seeders: 100_000_000,
        completed: u32::MAX,
        min_interval_seconds: Some(60),
        external_ip: Some("192.0.2.9".parse().unwrap()),
        peers: PerFamily {
            v4: [v4().as_bytes(), v4().as_bytes()].concat().into(),
            v6: v6().as_bytes().to_vec().into(),
        },
        ..announce()
    };
    let addresses: Vec<_> = response.addresses().collect();
    assert_eq!(
        addresses,
        [v4().socket_addr(), v4().socket_addr(), v6().socket_addr()]
    );
    let body = b"d8:completei100000000e10:downloadedi4294967295e11:external ip4:\xc0\x00\x02\x09\
        10:incompletei99999999e8:intervali120e12:min intervali60e5:peers12:\xc0\x00\x02\x07\x1a\x1b\
        \xc0\x00\x02\x07\x1a\x1b6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\x1c\x1de";
    check(&Response::Announce(response), body);

    let external_ip: Option<IpAddr> = Some("2001:db8::9".parse().unwrap());
    let body = b"d8:completei0e10:downloadedi10e11:external ip16:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\
        \0\0\0\x0910:incompletei99999999e8:intervali120e5:peers0:e";
    check(
        &Response::Announce(AnnounceResponse {
            external_ip,
            ..announce()
        }),
        body,
    );
}

#[test]
fn list_has_peers_of_both_families() {
    let response = AnnounceResponse {
        peers: PerFamily {
            v4: v4().as_bytes().to_vec().into(),
            v6: v6().as_bytes().to_vec().into(),
        },
        peer_form: PeerForm::List,
        ..announce()
    };
    let body = b"d8:completei0e10:downloadedi10e10:incompletei99999999e8:intervali120e5:peersl\
        d2:ip9:192.0.2.74:porti6683eed2:ip11:2001:db8::74:porti7197eeee";
    check(&Response::Announce(response), body);
}

#[test]
fn scrape_has_each_torrent_once_in_order() {
    let file = |byte, seeders| ScrapeFile {
        info_hash: InfoHash([byte; 20]),
        seeders,
        completed: 20,
        leechers: 3,
        downloaders: 2,
    };
    let mut files = vec![file(b'b', 1), file(b'a', 0), file(b'b', 1)];
    let mut response = ScrapeResponse::new(&mut files);
    assert_eq!(response.files(), [file(b'a', 0), file(b'b', 1)]);
    let body = b"d5:filesd\
        20:aaaaaaaaaaaaaaaaaaaad8:completei0e10:downloadedi20e11:downloadersi2e10:incompletei3ee\
        20:bbbbbbbbbbbbbbbbbbbbd8:completei1e10:downloadedi20e11:downloadersi2e10:incompletei3ee\
        ee";
    check(&Response::Scrape(response.clone()), body);

    response.min_request_interval_seconds = Some(900);
    let body = [
        &body[..body.len() - 1],
        b"5:flagsd20:min_request_intervali900eee",
    ];
    check(&Response::Scrape(response), &body.concat());
    check(
        &Response::Scrape(ScrapeResponse::new(&mut vec![])),
        b"d5:filesdee",
    );
}

#[test]
fn failure_says_why_and_when() {
    let failure = |retry| {
        Response::Failure(FailureResponse {
            reason: b"not allowed \xff",
            interval_seconds: None,
            min_interval_seconds: None,
            retry,
        })
    };
    check(&failure(None), b"d14:failure reason13:not allowed \xffe");
    let never = b"d14:failure reason13:not allowed \xff8:retry in5:nevere";
    check(&failure(Some(Retry::Never)), never);
    let later = b"d14:failure reason13:not allowed \xff8:retry ini15ee";
    check(&failure(Some(Retry::AfterMinutes(15))), later);
    // Minutes may also come as text.
    let later = b"d8:retry in2:1514:failure reason13:not allowed \xffe";
    assert_eq!(
        Response::parse(later),
        Ok(failure(Some(Retry::AfterMinutes(15))))
    );
}

#[test]
fn failure_says_the_interval_with_sorted_keys() {
    let failure = |interval_seconds, min_interval_seconds| {
        Response::Failure(FailureResponse {
            reason: b"no",
            interval_seconds,
            min_interval_seconds,
            retry: Some(Retry::AfterMinutes(1)),
        })
    };
    let both = b"d14:failure reason2:no8:intervali60e12:min intervali30e8:retry ini1ee";
    check(&failure(Some(60), Some(30)), both);
    let one = b"d14:failure reason2:no8:intervali60e8:retry ini1ee";
    check(&failure(Some(60), None), one);
    let other = b"d14:failure reason2:no12:min intervali30e8:retry ini1ee";
    check(&failure(None, Some(30)), other);
}

#[test]
fn answers_that_are_no_trackers_answers_have_a_head_like_others() {
    for (connection, line) in [
        (Connection::KeepAlive, ""),
        (Connection::KeepAliveSaid, "Connection: keep-alive\r\n"),
        (Connection::Close, "Connection: close\r\n"),
    ] {
        let start = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{line}");
        for (omit_body, body) in [(false, "ok\n"), (true, "")] {
            let mut out = Vec::new();
            let framing = Framing {
                connection,
                omit_body,
            };
            TextResponse { text: "ok\n" }.write(framing, &mut out);
            let expected = format!("{start}Content-Length: 3\r\n\r\n{body}");
            assert_eq!(String::from_utf8(out).unwrap(), expected);

            let mut out = Vec::new();
            BodilessResponse.write(framing, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{start}\r\n"));
        }
    }
}

#[test]
fn http_around_an_answer_is_as_the_request_demands() {
    let response = Response::Failure(FailureResponse {
        reason: b"x",
        interval_seconds: None,
        min_interval_seconds: None,
        retry: None,
    });
    let body = "d14:failure reason1:xe";
    for (connection, line) in [
        (Connection::KeepAlive, ""),
        (Connection::KeepAliveSaid, "Connection: keep-alive\r\n"),
        (Connection::Close, "Connection: close\r\n"),
    ] {
        for omit_body in [false, true] {
            let framing = Framing {
                connection,
                omit_body,
            };
            let bytes = written(&response, framing);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
            let sent_body = if omit_body { "" } else { body };
            let expected = format!("{head}{line}Content-Length: 22\r\n\r\n{sent_body}");
            assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);

            let head = ResponseHead::parse(&bytes).unwrap().unwrap();
            assert_eq!(head.stays_open, connection.stays_open());
            assert_eq!((head.status, head.body), (200, BodySize::Known(body.len())));
            assert_eq!(head.size, bytes.len() - sent_body.len());
        }
    }
}

#[test]
fn http_errors_are_plain_text() {
    for (status, expected) in [
        (
            Status::BadRequest,
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\
            Content-Length: 11\r\n\r\nBad Request",
        ),
        (
            Status::NotFound,
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nConnection: close\r\n\
            Content-Length: 9\r\n\r\nNot Found",
        ),
        (
            Status::MethodNotAllowed,
            "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain\r\nAllow: GET, HEAD\r\n\
            Connection: close\r\nContent-Length: 18\r\n\r\nMethod Not Allowed",
        ),
        (
            Status::HeadTooLarge,
            "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain\r\n\
            Connection: close\r\nContent-Length: 31\r\n\r\nRequest Header Fields Too Large",
        ),
    ] {
        let mut out = Vec::new();
        status.write(Framing::CLOSE, &mut out);
        assert_eq!(String::from_utf8(out.clone()).unwrap(), expected);
        let head = ResponseHead::parse(&out).unwrap().unwrap();
        assert_eq!((head.status, head.stays_open), (status.code(), false));
    }
    for connection in [Connection::KeepAlive, Connection::KeepAliveSaid] {
        let framing = Framing {
            connection,
            omit_body: true,
        };
        let mut out = Vec::new();
        Status::NotFound.write(framing, &mut out);
        let head = ResponseHead::parse(&out).unwrap().unwrap();
        assert!(head.stays_open);
        assert_eq!((head.size, head.body), (out.len(), BodySize::Known(9)));
    }
}

#[test]
fn response_heads_of_other_servers_are_read() {
    let head = |text: &str| ResponseHead::parse(text.as_bytes());
    for (text, body, stays_open) in [
        ("HTTP/1.1 200 OK\r\n\r\n", BodySize::UntilClose, false),
        (
            "HTTP/1.1 200\r\ncontent-length: 7\r\n\r\n",
            BodySize::Known(7),
            true,
        ),
        (
            "HTTP/1.0 200 OK\nContent-Length: 0\n\n",
            BodySize::Known(0),
            false,
        ),
        (
            "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n",
            BodySize::Known(0),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n",
            BodySize::Chunked,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: Close\r\n\r\n",
            BodySize::Known(7),
            false,
        ),
    ] {
        let read = head(text).unwrap().unwrap();
        assert_eq!((read.size, read.status), (text.len(), 200));
        assert_eq!((read.body, read.stays_open), (body, stays_open), "{text}");
        for end in 0..text.len() {
            assert_eq!(head(&text[..end]), Ok(None), "{end} bytes of {text}");
        }
    }
    for text in [
        "d8:intervali1ee",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    ] {
        assert_eq!(head(text), Err(ResponseError::Head), "{text}");
    }
}

#[test]
fn answers_of_other_trackers_are_read() {
    // Keys in any order, keys that are not known, nested; numbers out of range; a line end after.
    let body = b"d5:peers6:\xc0\x00\x02\x07\x1a\x1b5:extrad1:ald1:bi-1eeee8:intervali1800e\
        8:completei-5e10:incompletei4294967296e10:tracker id3:abce\r\n";
    let expected = AnnounceResponse {
        seeders: 0,
        completed: 0,
        leechers: u32::MAX,
        interval_seconds: 1800,
        peers: PerFamily {
            v4: v4().as_bytes().to_vec().into(),
            v6: Cow::Borrowed(&[]),
        },
        ..announce()
    };
    assert_eq!(Response::parse(body), Ok(Response::Announce(expected)));

    // A list with peer ids, a host name, a port that is none, and IPv6 peers apart.
    let body = b"d8:intervali1e5:peersl\
        d2:ip9:192.0.2.77:peer id20:-XX0100-1234567890124:porti6683ee\
        d2:ip11:example.com4:porti1ee\
        d2:ip9:192.0.2.74:porti65536ee\
        d2:ip9:192.0.2.7e\
        i7e4:spam\
        d4:porti7197e2:ip11:2001:db8::7e\
        e6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\x1c\x1de";
    let Ok(Response::Announce(read)) = Response::parse(body) else {
        panic!("not read as an announce");
    };
    let addresses: Vec<_> = read.addresses().collect();
    assert_eq!(
        addresses,
        [v4().socket_addr(), v6().socket_addr(), v6().socket_addr()]
    );

    // Without downloaders; with a key that is no info hash, and a value that is no dictionary.
    let body = b"d5:filesd3:abcde20:aaaaaaaaaaaaaaaaaaaad10:incompletei3eee5:flagsi1ee";
    let mut files = vec![ScrapeFile {
        info_hash: InfoHash([b'a'; 20]),
        seeders: 0,
        completed: 0,
        leechers: 3,
        downloaders: 3,
    }];
    let expected = Response::Scrape(ScrapeResponse::new(&mut files));
    assert_eq!(Response::parse(body), Ok(expected));
}

#[test]
fn interval_or_peers_make_an_announce() {
    for body in [&b"d8:intervali0ee"[..], b"d5:peers0:e", b"d6:peers60:e"] {
        let expected = AnnounceResponse {
            completed: 0,
            leechers: 0,
            interval_seconds: 0,
            ..announce()
        };
        assert_eq!(Response::parse(body), Ok(Response::Announce(expected)));
    }
}

#[test]
fn errors_say_what_is_wrong() {
    for (error, text) in [
        (ResponseError::Head, "HTTP/1.x"),
        (ResponseError::Bencode, "bencoded dictionary"),
        (ResponseError::UnknownKind, "neither peers"),
    ] {
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn what_is_no_answer_is_refused() {
    for body in [
        &b""[..],
        b"d",
        b"le",
        b"i1e",
        b"4:spam",
        b"<html>",
        b"d8:intervali1800e",
        b"d8:intervali1800",
        b"d8:intervalie5:peers0:e",
        b"d8:intervali1x5:peers0:e",
        b"d5:peers6:12345e",
        b"d5:peers99999999999999999999999:e",
        b"d5:peersli1ee",
        b"di1ei2ee",
        b"d5:peerse",
    ] {
        assert_eq!(
            Response::parse(body),
            Err(ResponseError::Bencode),
            "{}",
            body.escape_ascii()
        );
    }
    for body in [
        &b"de"[..],
        b"d4:spam4:eggse",
        b"d14:failure reasoni1ee",
        b"d5:files0:e",
    ] {
        assert_eq!(Response::parse(body), Err(ResponseError::UnknownKind));
    }
    // Nesting is no way to exhaust the stack.
    for start in [&b"l"[..], b"d1:a"] {
        let nested = [b"d1:a", &start.repeat(100_000)[..], &b"e".repeat(100_001)].concat();
        assert_eq!(Response::parse(&nested), Err(ResponseError::UnknownKind));
        let cut = &nested[..nested.len() - 1];
        assert_eq!(Response::parse(cut), Err(ResponseError::Bencode));
    }
}

/// An answer that was written for a connection that stays open becomes the last one.
#[test]
fn an_answer_can_become_the_last_on_its_connection() {
    let answer = |connection| {
        let framing = Framing {
            connection,
            omit_body: false,
        };
        let mut out = Vec::new();
        TextResponse { text: "ok" }.write(framing, &mut out);
        out
    };
    let last = answer(Connection::Close);
    for connection in [
        Connection::KeepAlive,
        Connection::KeepAliveSaid,
        Connection::Close,
    ] {
        // Behind another one.
        let mut out = b"before".to_vec();
        write_as_last(&answer(connection), &mut out);
        assert_eq!(
            out.strip_prefix(b"before"),
            Some(&last[..]),
            "{connection:?}"
        );
    }
    let mut refusal = Vec::new();
    Status::NotFound.write(Framing::CLOSE, &mut refusal);
    let mut out = Vec::new();
    write_as_last(&refusal, &mut out);
    assert_eq!(out, refusal);
}
