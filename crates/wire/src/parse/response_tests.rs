#![allow(clippy::unwrap_used)]

use super::*;

fn parse(method: Method, text: &str) -> Result<(ResponseHead, Persistence), ResponseRefusal> {
    let (mut head, mut persistence) = (ResponseHead::default(), Persistence::default());
    match parse_response(text.as_bytes(), method, &mut head, &mut persistence)? {
        Parsed::Complete(length) => {
            assert_eq!(length, text.len());
            Ok((head, persistence))
        }
        Parsed::Partial => panic!("incomplete: {text}"),
    }
}

#[test]
fn bodies_are_framed_as_the_message_says() {
    let framing = |method, text: &str| parse(method, text).unwrap().0.framing;
    for (lines, expected) in [
        ("Content-Length: 5\r\n", Framing::Length(5)),
        ("Content-Length: 0\r\n", Framing::None),
        ("Transfer-Encoding: Chunked\r\n", Framing::Chunked),
        ("", Framing::UntilClose),
    ] {
        assert_eq!(framing(Method::Get, &format!("HTTP/1.1 200 OK\r\n{lines}\r\n")), expected);
        assert_eq!(framing(Method::Head, &format!("HTTP/1.1 200 OK\r\n{lines}\r\n")), Framing::None);
        for status in [101, 103, 204, 304] {
            assert_eq!(framing(Method::Get, &format!("HTTP/1.1 {status} X\r\n{lines}\r\n")), Framing::None);
        }
    }
}

#[test]
fn contradictions_make_a_response_invalid() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
        "NONSENSE\r\n\r\n",
    ] {
        assert!(parse(Method::Get, text).is_err(), "{text}");
    }
}

#[test]
fn connections_persist_as_their_version_has_it() {
    let keeps = |text: &str| parse(Method::Get, text).unwrap().1.keep_alive;
    assert!(keeps("HTTP/1.1 204 No\r\n\r\n"));
    assert!(!keeps("HTTP/1.1 204 No\r\nConnection: close\r\n\r\n"));
    assert!(!keeps("HTTP/1.0 204 No\r\n\r\n"));
    assert!(keeps("HTTP/1.0 204 No\r\nConnection: Keep-Alive\r\n\r\n"));
    assert!(!keeps("HTTP/1.1 200 OK\r\n\r\n"), "the body ends with the connection");
    assert!(parse(Method::Get, "HTTP/1.1 204 No\r\nConnection: X-A\r\n\r\n").unwrap().1.names_headers);
}

#[test]
fn the_reason_travels_unless_the_status_changes() {
    let (mut head, _) = parse(Method::Get, "HTTP/1.1 200 Very Well\r\nContent-Length: 1\r\n\r\n").unwrap();
    assert_eq!(head.reason(), b"Very Well");
    head.status = 404;
    assert_eq!(head.reason(), b"Not Found");
    assert_eq!(parse(Method::Get, "HTTP/1.1 200\r\n\r\n").unwrap().0.reason(), b"OK");
}

#[test]
fn what_the_quick_way_takes_the_slow_one_understands_alike() {
    let seed = b"HTTP/1.1 200 Fine\r\nDate: x\r\nContent-Length: 3\r\nConnection: keep-alive, X-A\r\nX-A: \tb \r\nTransfer_B:\r\n\r\n";
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut taken = 0;
    for _ in 0..20_000 {
        let mut bytes = seed.to_vec();
        for _ in 0..random() % 4 {
            let at = random() % bytes.len();
            match random() % 3 {
                0 => bytes[at] = b"\r\n\0: \t1a-\xff"[random() % 10],
                1 => _ = bytes.remove(at),
                _ => bytes.insert(at, b"\r\n\0: \t1a-\xff"[random() % 10]),
            }
        }
        let (mut quick, mut slow) = (ResponseHead::default(), ResponseHead::default());
        let (mut quick_stays, mut slow_stays) = (Persistence::default(), Persistence::default());
        if let Some(length) = read(&bytes, Method::Get, &mut quick, &mut quick_stays) {
            let parsed = parse_slowly(&bytes, Method::Get, &mut slow, &mut slow_stays);
            assert_eq!(parsed, Ok(Parsed::Complete(length)), "{}", bytes.escape_ascii());
            assert_eq!((quick.status, quick.framing, quick_stays), (slow.status, slow.framing, slow_stays), "{}", bytes.escape_ascii());
            assert_eq!(quick.reason(), slow.reason());
            assert!(quick.headers.iter().eq(slow.headers.iter()), "{}", bytes.escape_ascii());
            taken += 1;
        }
    }
    assert!(taken > 1000);
}
