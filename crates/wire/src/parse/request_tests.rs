#![allow(clippy::unwrap_used)]

use super::*;

fn parse(text: &str) -> Result<RequestHead, Refusal> {
    let mut head = RequestHead::default();
    match parse_request(text.as_bytes(), &mut head)? {
        Parsed::Complete(length) => {
            assert_eq!(length, text.len());
            Ok(head)
        }
        Parsed::Partial => panic!("incomplete: {text}"),
    }
}

fn with_lines(lines: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")
}

#[test]
fn every_form_that_may_mean_two_things_is_refused() {
    let length = |value: &str| with_lines(&format!("Content-Length: {value}\r\n"));
    let coding = |value: &str| with_lines(&format!("Transfer-Encoding: {value}\r\n"));
    let line = |line: &str| format!("{line}\r\nHost: a.test\r\n\r\n");
    let host = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let table = [
        (with_lines("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), 400),
        (with_lines("Content-Length: 0\r\nContent-Length: 0\r\n"), 400),
        (with_lines("Content-Length: 1\r\nContent-Length: 2\r\n"), 400),
        (with_lines("Authorization: a\r\nX: 1\r\nauthorization: b\r\n"), 400),
        (with_lines("If-None-Match: a\r\nIf-None-Match: a\r\n"), 400),
        (length("abc"), 400),
        (length("-1"), 400),
        (length("+5"), 400),
        (length("1, 1"), 400),
        (length(""), 400),
        (length("0x5"), 400),
        (length("5 5"), 400),
        (length("99999999999999999999"), 400),
        (coding("gzip, chunked"), 501),
        (coding("identity"), 501),
        (coding("xchunked"), 501),
        (coding("chunked, chunked"), 501),
        (with_lines("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), 400),
        (with_lines("X-A: b\r\n c\r\n"), 400),
        (with_lines("X-A: b\n"), 400),
        (with_lines("X-A: b\rc\r\n"), 400),
        (with_lines("X-A : b\r\n"), 400),
        (with_lines(" X-A: b\r\n"), 400),
        (with_lines("X-A: b\0\r\n"), 400),
        (with_lines("X-A: b\u{1}\r\n"), 400),
        (with_lines("X-A: b\u{7f}\r\n"), 400),
        (with_lines("X(A : b\r\n"), 400),
        (with_lines("X(\u{1}: b\r\n"), 400),
        (with_lines("X(A: b\r\n c\r\n"), 400),
        (with_lines("X(A: b\rc\r\n"), 400),
        (with_lines("X(A: b\n"), 400),
        (with_lines("X(A\r\n"), 400),
        (with_lines("Content\rLength: 1\r\n"), 400),
        (with_lines(": b\r\n"), 400),
        (with_lines("X-A\r\n"), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (host(""), 400),
        (host("a/b.test"), 400),
        (host("a b.test"), 400),
        (host("..test"), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.0\r\nHost: \r\n\r\n".to_owned(), 400),
        (line("get /x HTTP/1.1"), 400),
        (line("GeT /x HTTP/1.1"), 400),
        (line("G@T /x HTTP/1.1"), 400),
        (line("G3T /x HTTP/1.1"), 400),
        (line("GET no-slash HTTP/1.1"), 400),
        (line("OPTIONS * HTTP/1.1"), 400),
        (line("GET ?x=1 HTTP/1.1"), 400),
        (line("GET  /x HTTP/1.1"), 400),
        (line("GET /x  HTTP/1.1"), 400),
        (line("GET /x y HTTP/1.1"), 400),
        (line("GET /x\ty HTTP/1.1"), 400),
        (line("GET /x HTTP/1.2"), 400),
        (line("GET /x HTTP/1.1 "), 400),
        (line("GET /x http/1.1"), 400),
        (line("GET /x HTTP/2.0"), 505),
        (line("GET /x"), 400),
        (line("GET http:///x HTTP/1.1"), 400),
        (line("GET /%zz HTTP/1.1"), 400),
        (line("GET /%00 HTTP/1.1"), 400),
        (line("GET /.. HTTP/1.1"), 400),
        (line("CONNECT example.test:443 HTTP/1.1"), 400),
        (line("CONNECT /x HTTP/1.1"), 405),
        (line("TRACE /x HTTP/1.1"), 405),
        (format!("GET /?{} HTTP/1.1\r\nHost: a\r\n\r\n", "q".repeat(9000)), 414),
        (with_lines(&format!("X-Long: {}\r\n", "a".repeat(9000))), 494),
        (with_lines(&format!("X-Long: {}\r\n", "a".repeat(5000)).repeat(5)), 494),
        (with_lines(&"A: b\r\n".repeat(1100)), 494),
    ];
    for (text, status) in table {
        let refused = parse(&text).map(|_| ()).unwrap_err();
        assert_eq!(refused.status, status, "{} ({})", text.get(..200).unwrap_or(&text).escape_debug(), refused.reason);
    }
}

#[test]
fn a_refused_head_holds_the_lines_before_the_offence() {
    for (text, accept) in [
        (with_lines("Accept: a/b\r\nContent-Length: 1\r\nContent-Length: 2\r\n"), true),
        (with_lines("Content-Length: x\r\nAccept: a/b\r\n"), true),
        (with_lines("X A: 1\r\nAccept: a/b\r\n"), false),
        (with_lines("Accept: a/b\r\nX A: 1\r\n"), true),
        ("GET / HTTP/1.1\r\nHost: \r\nAccept: a/b\r\n\r\n".to_owned(), false),
        ("GET /%zz HTTP/1.1\r\nAccept: a/b\r\nHost: a\r\n\r\n".to_owned(), false),
    ] {
        let mut head = RequestHead::default();
        parse_request(text.as_bytes(), &mut head).unwrap_err();
        assert_eq!(head.headers.get("accept").is_some(), accept, "{text}");
    }
}

#[test]
fn a_head_is_understood_as_it_came() {
    let head = parse("PUT /a%20b?q=1 HTTP/1.1\r\nhost:  a.test:80 \r\nX-Empty:\r\nX-B: \t1 2 \r\nContent-Length: 12\r\n\r\n").unwrap();
    assert_eq!((head.method, head.method_text(), head.target()), (Method::Put, b"PUT".as_slice(), b"/a%20b?q=1".as_slice()));
    assert_eq!((head.path(), head.query()), (b"/a%20b".as_slice(), Some(b"q=1".as_slice())));
    assert_eq!(head.framing, Framing::Length(12));
    let lines: Vec<_> = head.headers.iter().collect();
    assert_eq!(lines[0], (b"host".as_slice(), b"a.test:80".as_slice()));
    assert_eq!(lines[1], (b"X-Empty".as_slice(), b"".as_slice()));
    assert_eq!(lines[2], (b"X-B".as_slice(), b"1 2".as_slice()));
    let mut out = Vec::new();
    head.headers.write_to(&mut out, |_| true);
    assert_eq!(out, b"host:  a.test:80\r\nX-Empty:\r\nX-B: \t1 2\r\nContent-Length: 12\r\n");
}

#[test]
fn lines_whose_names_are_invalid_are_dropped() {
    for name in ["X(A", "X.A", "X!", "(Transfer-Encoding)", "Content-Length\u{e9}", "X/A", "\"X\""] {
        let head = parse(&with_lines(&format!("Accept: a/b\r\n{name}: chunked\r\nX_B: 1\r\nContent-Length: 3\r\n"))).unwrap();
        let names: Vec<_> = head.headers.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
        assert_eq!(names, ["Host", "Accept", "X_B", "Content-Length"], "{name}");
        assert_eq!(head.framing, Framing::Length(3));
        let mut out = Vec::new();
        head.headers.write_to(&mut out, |_| true);
        assert_eq!(out, b"Host: a.test\r\nAccept: a/b\r\nX_B: 1\r\nContent-Length: 3\r\n");
    }
}

#[test]
fn absolute_targets_give_their_authority() {
    for (target, path) in [("http://b.test:1/p?q", "/p?q"), ("http://b.test:1", "/"), ("HTTP://b.test:1?q", "/?q")] {
        let head = parse(&format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n")).unwrap();
        assert_eq!((head.target(), head.authority()), (path.as_bytes(), Some(b"b.test:1".as_slice())));
        assert_eq!(head.headers.get("host"), Some(b"a.test".as_slice()));
    }
}

#[test]
fn what_the_connection_does_next_is_told() {
    let keeps = |version: &str, connection: &str| {
        parse(&format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n\r\n")).unwrap().keep_alive
    };
    assert!(keeps("1.1", "x") && !keeps("1.1", "Close") && !keeps("1.1", "keep-alive, close"));
    assert!(!keeps("1.0", "x") && keeps("1.0", "Keep-Alive"));
    let head = parse("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n").unwrap();
    assert!(head.upgrade && head.keep_alive);
    let head = parse("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nTransfer-Encoding: Chunked\r\n\r\n").unwrap();
    assert!(head.expects_continue && head.framing == Framing::Chunked);
    assert!(!parse("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n").unwrap().expects_continue);
}

#[test]
fn a_head_is_partial_until_its_last_byte() {
    let text = "\r\nGET /x HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n";
    let mut head = RequestHead::default();
    for cut in 0..text.len() {
        assert_eq!(parse_request(&text.as_bytes()[..cut], &mut head), Ok(Parsed::Partial), "{cut}");
    }
    assert_eq!(parse_request(text.as_bytes(), &mut head), Ok(Parsed::Complete(text.len())));
    assert_eq!((head.target(), head.headers.len()), (b"/x".as_slice(), 2));
}

#[test]
fn no_bytes_make_it_panic() {
    let seed = b"POST /a?b HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nX-A: b\r\n\r\n";
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut head = RequestHead::default();
    for _ in 0..20_000 {
        let mut bytes = seed.to_vec();
        for _ in 0..random() % 4 {
            let at = random() % bytes.len();
            match random() % 3 {
                0 => bytes[at] = b"\r\n\0: \t%/.\xff"[random() % 10],
                1 => bytes.truncate(at + 1),
                _ => bytes.insert(at, b"\r\n\0: \t%/.\xff"[random() % 10]),
            }
        }
        if let Ok(Parsed::Complete(length)) = parse_request(&bytes, &mut head) {
            assert!(length <= bytes.len());
            assert!(head.target().starts_with(b"/"));
        }
        // What the quick way takes, the thorough one takes and understands alike.
        let (mut quick, mut thorough) = (RequestHead::default(), RequestHead::default());
        if let Some(length) = read(&bytes, &mut quick) {
            assert_eq!(examine(&bytes, &mut thorough), Ok(Parsed::Complete(length)), "{}", bytes.escape_ascii());
            assert_eq!((quick.target(), quick.framing, quick.keep_alive), (thorough.target(), thorough.framing, thorough.keep_alive));
            assert!(quick.headers.iter().eq(thorough.headers.iter()));
        }
    }
}
