//! Heads of requests: what is read, what is refused, and how the answer must look.

use aquatic_http_protocol::{Connection, Framing, HEADERS_MAX, Head, HeadError, Status};

/// Reads a head that is whole, and has the rest of a connection's bytes after it.
#[track_caller]
fn parse(text: &str) -> Result<Head<'_>, HeadError> {
    let head = Head::parse(text.as_bytes()).map(|head| head.expect("the head is whole"))?;
    assert_eq!(head.size, text.len());
    Ok(head)
}

/// What the answer to a head must look like.
#[track_caller]
fn framing(text: &str) -> Framing {
    parse(text).unwrap().framing
}

#[test]
fn target_is_split() {
    for (target, path, query) in [
        ("/announce?a=b&c", "/announce", "a=b&c"),
        ("/announce", "/announce", ""),
        ("/announce?", "/announce", ""),
        ("/?a?b", "/", "a?b"),
        ("/a b c", "/a b c", ""),
        ("//announce", "//announce", ""),
        ("*", "*", ""),
        ("http://x.example/announce?a", "/announce", "a"),
        ("HTTPS://x.example:6969//announce?/", "//announce", "/"),
        ("http://x.example", "http://x.example", ""),
        ("http://", "http://", ""),
        ("ftp://x.example/announce", "ftp://x.example/announce", ""),
        ("\u{e9}\0\t%?\r\u{e9}", "\u{e9}\0\t%", "\r\u{e9}"),
        ("", "", ""),
    ] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        let head = parse(&text).unwrap();
        assert_eq!(head.path, path.as_bytes(), "{target}");
        assert_eq!(head.query, query.as_bytes(), "{target}");
    }
}

#[test]
fn bytes_of_an_info_hash_may_be_unescaped() {
    // All bytes but the one that ends the line; no text in any encoding.
    let raw: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    let request = [b"GET /announce?info_hash=", &raw[..], b" HTTP/1.1\r\n\r\n"].concat();
    let head = Head::parse(&request).unwrap().unwrap();
    assert_eq!(head.query, [b"info_hash=", &raw[..]].concat());
}

#[test]
fn connection_stays_open_as_version_and_header_say() {
    let cases = [
        ("1.1", "", Connection::KeepAlive),
        ("1.1", "Connection: keep-alive", Connection::KeepAlive),
        ("1.1", "Connection: upgrade", Connection::KeepAlive),
        ("1.1", "Connection:", Connection::KeepAlive),
        ("1.1", "Connection: close", Connection::Close),
        ("1.1", "cOnnecTion:CLOSE\t", Connection::Close),
        ("1.1", "Connection: x , Close,", Connection::Close),
        (
            "1.1",
            "Connection: close\r\nConnection: keep-alive",
            Connection::Close,
        ),
        ("1.1", "Proxy-Connection: close", Connection::KeepAlive),
        ("1.1", "User-Agent: close", Connection::KeepAlive),
        ("1.1", "Connection: closed", Connection::KeepAlive),
        ("1.7", "", Connection::KeepAlive),
        ("1.0", "", Connection::Close),
        ("1.0", "Connection: upgrade", Connection::Close),
        ("1.0", "Connection: keep-alive", Connection::KeepAliveSaid),
        ("1.0", "CONNECTION: Keep-Alive", Connection::KeepAliveSaid),
        ("1.0", "Connection: close, keep-alive", Connection::Close),
    ];
    for (version, header, connection) in cases {
        let line_end = if header.is_empty() { "" } else { "\r\n" };
        let text = format!("GET / HTTP/{version}\r\n{header}{line_end}\r\n");
        let expected = Framing {
            connection,
            omit_body: false,
        };
        assert_eq!(framing(&text), expected, "{text}");
        assert_eq!(connection.stays_open(), connection != Connection::Close);
    }
}

#[test]
fn methods_are_told_apart() {
    assert!(!framing("GET / HTTP/1.1\r\n\r\n").omit_body);
    assert!(framing("HEAD / HTTP/1.1\r\n\r\n").omit_body);
    for method in [
        "POST",
        "PUT",
        "OPTIONS",
        "CONNECT",
        "get",
        "GETS",
        "VERSION-CONTROL",
    ] {
        let text = format!("{method} /announce HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(parse(&text), Err(HeadError::Method), "{method}");
    }
    // A form is refused for its method, whether its body has come or not.
    let text = "POST /announce HTTP/1.1\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(parse(text), Err(HeadError::Method));
}

#[test]
fn what_is_not_http_is_malformed() {
    for text in [
        "GET /\r\n\r\n",
        "GET\r\n\r\n",
        "GET \r\n\r\n",
        "x\r\n\r\n",
        " GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET / HTTP/0.9\r\n\r\n",
        "GET / HTTP/1.x\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "GET / http/1.1\r\n\r\n",
        "GET /HTTP/1.1\r\n\r\n",
        "\r\n\r\n\r\n\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\n: no name\r\n\r\n",
        "GET / HTTP/1.1\r\nspace : before colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n folded line\r\n\r\n",
        "GET / HTTP/1.1\r\nnul: \0\r\n\r\n",
        "GET / HTTP/1.1\r\nlone: \r carriage return\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length:\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 0, 0\r\n\r\n",
    ] {
        assert_eq!(
            Head::parse(text.as_bytes()),
            Err(HeadError::Malformed),
            "{text:?}"
        );
    }
}

#[test]
fn what_cannot_become_a_request_is_refused_at_once() {
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], // a TLS handshake
        b"\x13BitTorrent protocol",
        b"\0",
        b" ",
        b"[]",
        &[b'G'; 33],
    ] {
        assert_eq!(Head::parse(bytes), Err(HeadError::Malformed), "{bytes:?}");
    }
    let longest = "M".repeat(32);
    assert_eq!(Head::parse(longest.as_bytes()), Ok(None));
    let text = format!("{longest} / HTTP/1.1\r\n\r\n");
    assert_eq!(parse(&text), Err(HeadError::Method));
}

#[test]
fn bodies_are_refused() {
    for header in [
        "Content-Length: 1",
        "content-length: 0010",
        "Content-Length: 0\r\nContent-Length: 1",
        "Content-Length: 1\r\nContent-Length: 0",
        "Content-Length: 99999999999999999999999999",
        "Transfer-Encoding: chunked",
        "transfer-ENCODING: x",
    ] {
        let text = format!("GET / HTTP/1.1\r\n{header}\r\n\r\n");
        assert_eq!(parse(&text), Err(HeadError::Body), "{header}");
    }
    for header in [
        "Content-Length: 0",
        "Content-Length:000",
        "X-Content-Length: 1",
        "Accept-Charset: 1",
        "If-Modified-Since: 1",
    ] {
        let text = format!("GET / HTTP/1.1\r\n{header}\r\n\r\n");
        assert!(parse(&text).is_ok(), "{header}");
    }
}

#[test]
fn header_lines_are_many_but_not_too_many() {
    for lines in [0, 1, 15, 16, 17, 64, HEADERS_MAX - 1] {
        let text = format!(
            "GET / HTTP/1.1\r\n{}Connection: close\r\n\r\n",
            "a: b\r\n".repeat(lines)
        );
        assert_eq!(
            framing(&text).connection,
            Connection::Close,
            "{lines} lines"
        );
    }
    let text = format!(
        "GET / HTTP/1.1\r\n{}\r\n",
        "a: b\r\n".repeat(HEADERS_MAX + 1)
    );
    assert_eq!(parse(&text), Err(HeadError::TooManyHeaders));
}

#[test]
fn head_may_be_large() {
    let query = "x".repeat(8 << 10);
    let header = "y".repeat(8 << 10);
    let text = format!("GET /announce?{query} HTTP/1.1\r\nX: {header}\r\n\r\n");
    let head = parse(&text).unwrap();
    assert_eq!(head.query, query.as_bytes());
    assert_eq!(head.last_header("x"), Some(header.as_bytes()));
}

#[test]
fn lines_may_end_and_begin_oddly() {
    let head = parse("\r\n\n\r\nGET /a?b HTTP/1.0\nConnection:\tkeep-alive \nX: y\n\n").unwrap();
    assert_eq!((head.path, head.query), (&b"/a"[..], &b"b"[..]));
    assert_eq!(head.framing.connection, Connection::KeepAliveSaid);
    assert_eq!(head.last_header("X"), Some(&b"y"[..]));
}

#[test]
fn next_request_starts_where_the_head_ends() {
    let one = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    let two = "\r\nHEAD /b HTTP/1.0\n\n";
    let both = format!("{one}{two}GET /c");
    let head = Head::parse(both.as_bytes()).unwrap().unwrap();
    assert_eq!((head.size, head.path), (one.len(), &b"/a"[..]));
    let rest = &both.as_bytes()[head.size..];
    let head = Head::parse(rest).unwrap().unwrap();
    assert_eq!((head.size, head.path), (two.len(), &b"/b"[..]));
    assert_eq!(Head::parse(&rest[head.size..]), Ok(None));
}

#[test]
fn last_header_with_a_name_counts() {
    let head = parse(
        "GET / HTTP/1.1\r\n\
        x-forwarded-for: 192.0.2.1\r\n\
        X-Forwarded-For: 192.0.2.2, 192.0.2.3\r\n\
        Other: X-Forwarded-For: 192.0.2.4\r\n\
        X-Forwarded-For-Too: 192.0.2.5\r\n\
        Colons:: a:b \r\n\
        Empty:\r\n\
        \r\n",
    )
    .unwrap();
    for name in ["X-Forwarded-For", "x-forwarded-FOR"] {
        assert_eq!(head.last_header(name), Some(&b"192.0.2.2, 192.0.2.3"[..]));
    }
    assert_eq!(head.last_header("colons"), Some(&b": a:b"[..]));
    assert_eq!(head.last_header("empty"), Some(&b""[..]));
    let all = head
        .headers()
        .map(|(name, value)| (str::from_utf8(name), str::from_utf8(value)));
    assert!(all.eq([
        (Ok("x-forwarded-for"), Ok("192.0.2.1")),
        (Ok("X-Forwarded-For"), Ok("192.0.2.2, 192.0.2.3")),
        (Ok("Other"), Ok("X-Forwarded-For: 192.0.2.4")),
        (Ok("X-Forwarded-For-Too"), Ok("192.0.2.5")),
        (Ok("Colons"), Ok(": a:b")),
        (Ok("Empty"), Ok("")),
    ]));
    assert_eq!(head.last_header("Forwarded"), None);
    assert_eq!(head.last_header("GET / HTTP/1.1"), None);
    assert_eq!(
        parse("GET / HTTP/1.1\r\n\r\n").unwrap().last_header("x"),
        None
    );
}

#[test]
fn head_that_trickles_in_is_read_when_it_ends() {
    for text in [
        "GET /announce?a=b HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.0\nHost: x\n\r\n",
        "HEAD / HTTP/1.0\r\n\n",
    ] {
        let bytes = text.as_bytes();
        let mut seen = 0;
        for end in 1..bytes.len() {
            assert_eq!(Head::parse(&bytes[..end]), Ok(None), "{end} bytes");
            seen = end;
        }
        assert!(Head::may_end(bytes, seen));
        assert!(Head::parse(bytes).unwrap().is_some());
    }
    // However many bytes come at once, the end is never missed; and it is not seen where none is.
    let text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for seen in 0..text.len() {
        assert!(Head::may_end(text, seen), "{seen} bytes");
        for end in seen..text.len() {
            assert!(
                !Head::may_end(&text[..end], seen),
                "{seen} bytes, then {end}"
            );
        }
    }
}

#[test]
fn errors_have_a_status() {
    for (error, code) in [
        (HeadError::Malformed, 400),
        (HeadError::Body, 400),
        (HeadError::Method, 405),
        (HeadError::TooManyHeaders, 431),
    ] {
        assert_eq!(error.status().code(), code);
    }
    assert_eq!(Status::NotFound.code(), 404);
}

#[test]
fn errors_say_what_is_wrong() {
    for (error, text) in [
        (HeadError::Malformed, "not an HTTP/1.1 request"),
        (HeadError::Method, "method is not GET or HEAD"),
        (HeadError::Body, "request with a body"),
        (HeadError::TooManyHeaders, "too many headers"),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
