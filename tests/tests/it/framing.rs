//! Requests whose end two readers could see in two places are refused, and nothing of them reaches an upstream.

use std::io::Write;

use portcullis_tests::{Gateway, Upstream};

/// Requests without one clear meaning; `HOST` stands for a proper Host line.
const AMBIGUOUS: &[(&str, &[u8])] = &[
    ("both framings", b"POST / HTTP/1.1\r\nHOST\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("both framings, the other order", b"POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"),
    ("two lengths", b"POST / HTTP/1.1\r\nHOST\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde"),
    ("two lengths in one line", b"POST / HTTP/1.1\r\nHOST\r\nContent-Length: 4, 5\r\n\r\nabcde"),
    ("a negative length", b"POST / HTTP/1.1\r\nHOST\r\nContent-Length: -1\r\n\r\n"),
    ("a length with a sign", b"POST / HTTP/1.1\r\nHOST\r\nContent-Length: +4\r\n\r\nabcd"),
    ("a hexadecimal length", b"POST / HTTP/1.1\r\nHOST\r\nContent-Length: 0x4\r\n\r\nabcd"),
    ("a length with a blank inside", b"POST / HTTP/1.1\r\nHOST\r\nContent-Length: 1 0\r\n\r\nabcd"),
    ("a length beyond every number", b"POST / HTTP/1.1\r\nHOST\r\nContent-Length: 99999999999999999999999\r\n\r\nabcd"),
    ("an empty length", b"POST / HTTP/1.1\r\nHOST\r\nContent-Length: \r\n\r\nabcd"),
    ("a vertical tab before chunked", b"POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    ("chunked in quotes", b"POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("chunked with a tail", b"POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n"),
    ("chunked twice", b"POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked and identity", b"POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    ("chunked not last", b"POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ("chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nHOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a folded line", b"POST / HTTP/1.1\r\nHOST\r\nX-A: b\r\n c\r\n\r\n"),
    ("a folded framing", b"POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("a blank before the colon", b"POST / HTTP/1.1\r\nHOST\r\nContent-Length : 4\r\n\r\nabcd"),
    ("a tab before the colon", b"POST / HTTP/1.1\r\nHOST\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    ("a first line that is folded", b"GET / HTTP/1.1\r\n X-A: b\r\nHOST\r\n\r\n"),
    ("a line without a colon", b"GET / HTTP/1.1\r\nHOST\r\nX-A\r\n\r\n"),
    ("a name that is empty", b"GET / HTTP/1.1\r\nHOST\r\n: b\r\n\r\n"),
    ("a name with a NUL", b"GET / HTTP/1.1\r\nHOST\r\nX\0A: b\r\n\r\n"),
    ("a value with a NUL", b"GET / HTTP/1.1\r\nHOST\r\nX-A: b\0c\r\n\r\n"),
    ("a bare line feed in the head", b"GET / HTTP/1.1\r\nHOST\r\nX-A: b\nX-B: c\r\n\r\n"),
    ("a bare line feed after the first line", b"GET / HTTP/1.1\nHOST\r\n\r\n"),
    ("a bare line feed as the empty line", b"GET / HTTP/1.1\r\nHOST\r\n\n"),
    ("a bare carriage return in a value", b"GET / HTTP/1.1\r\nHOST\r\nX-A: b\rX-B: c\r\n\r\n"),
    ("a NUL in the target", b"GET /\0 HTTP/1.1\r\nHOST\r\n\r\n"),
    ("a blank in the target", b"GET /a b HTTP/1.1\r\nHOST\r\n\r\n"),
    ("a method with a bracket", b"GE[T / HTTP/1.1\r\nHOST\r\n\r\n"),
    ("a method in small letters", b"get / HTTP/1.1\r\nHOST\r\n\r\n"),
    ("a version that is none", b"GET / HTTP/1.x\r\nHOST\r\n\r\n"),
    ("a version of two digits", b"GET / HTTP/1.10\r\nHOST\r\n\r\n"),
    ("another protocol", b"GET / HTPP/1.1\r\nHOST\r\n\r\n"),
    ("no host", b"GET / HTTP/1.1\r\n\r\n"),
    ("two hosts", b"GET / HTTP/1.1\r\nHOST\r\nHost: other.test\r\n\r\n"),
    ("a host with a slash", b"GET / HTTP/1.1\r\nHost: gate.test/path\r\n\r\n"),
];

/// Chunked bodies that are wrong. Their head has passed by then; the upstream must not take the body for whole.
const BAD_CHUNKS: &[(&str, &[u8])] = &[
    ("a size that is no number", b"x\r\nabc\r\n0\r\n\r\n"),
    ("a size with a sign", b"+3\r\nabc\r\n0\r\n\r\n"),
    ("a size with a prefix", b"0x3\r\nabc\r\n0\r\n\r\n"),
    ("a negative size", b"-1\r\nabc\r\n0\r\n\r\n"),
    ("a size beyond every number", b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    ("no size", b"\r\nabc\r\n0\r\n\r\n"),
    ("a bare line feed after the size", b"3\nabc\r\n0\r\n\r\n"),
    ("more bytes than the size says", b"3\r\nabcdef\r\n0\r\n\r\n"),
    ("a bare line feed after the chunk", b"3\r\nabc\n0\r\n\r\n"),
    ("a bare line feed in an extension", b"3;a\n=b\r\nabc\r\n0\r\n\r\n"),
    ("a bare carriage return in an extension", b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
    ("a NUL in an extension", b"3;a\0b\r\nabc\r\n0\r\n\r\n"),
    ("a trailer that is no line", b"3\r\nabc\r\n0\r\nno colon here\r\n\r\n"),
];

#[test]
fn ambiguous_requests_are_refused_and_go_nowhere() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut wrong = Vec::new();
    for (name, request) in AMBIGUOUS {
        let mut client = gateway.client();
        let text = request.escape_ascii().to_string();
        let host = request.windows(4).position(|part| part == b"HOST");
        let mut bytes = request.to_vec();
        if let Some(at) = host {
            bytes.splice(at..at + 4, *b"Host: gate.test");
        }
        // Whoever reads the request as ending early finds another one here.
        bytes.extend_from_slice(b"GET /smuggled HTTP/1.1\r\nHost: gate.test\r\n\r\n");
        client.send(bytes);
        let said = client.to_end();
        let said = String::from_utf8_lossy(&said);
        let refusals =
            said.matches("HTTP/1.1 400 ").count() + said.matches("HTTP/1.1 505 ").count() + said.matches("HTTP/1.1 501 ").count();
        if refusals != 1 || said.matches("HTTP/1.1 ").count() != 1 {
            wrong.push(format!("{name}: {text}\n  {}", said.escape_debug()));
        }
    }
    wrong.extend(upstream.seen().iter().map(|seen| format!("the upstream saw: {}", seen.head)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn broken_chunks_end_the_request_on_both_sides() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let mut wrong = Vec::new();
    for (name, body) in BAD_CHUNKS {
        let mut client = gateway.client();
        client.send([b"POST / HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\n", *body].concat());
        // The gateway may close before it has read this.
        let _ = client.stream.write_all(b"GET /smuggled HTTP/1.1\r\nHost: gate.test\r\n\r\n");
        let said = client.to_end();
        let said = String::from_utf8_lossy(&said);
        if !said.starts_with("HTTP/1.1 400 ") || said.matches("HTTP/1.1 ").count() != 1 {
            wrong.push(format!("{name}: {}", said.escape_debug()));
        }
    }
    wrong.extend(upstream.seen().iter().map(|seen| format!("the upstream saw: {} {}", seen.head, seen.body.escape_ascii())));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    upstream.wait_until_left_alone();
}

#[test]
fn a_request_inside_a_body_stays_a_body() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let inner = "GET /smuggled HTTP/1.1\r\nHost: gate.test\r\n\r\n";
    let mut client = gateway.client();
    client.send(format!("POST /echo HTTP/1.1\r\nHost: gate.test\r\nContent-Length: {}\r\n\r\n{inner}", inner.len()));
    assert_eq!(client.answer().json()["body"], inner);
    client.send(format!(
        "POST /echo HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n",
        inner.len()
    ));
    assert_eq!(client.answer().json()["body"], inner);
    client.send(format!("GET /echo HTTP/1.1\r\nHost: gate.test\r\nContent-Length: {}\r\n\r\n{inner}", inner.len()));
    assert_eq!(client.answer().json()["body"], inner);
    assert_eq!(upstream.seen().len(), 3);
}

#[test]
fn heads_beyond_the_limits_are_refused() {
    let upstream = Upstream::start();
    let gateway = Gateway::before(&upstream);
    let long = "a".repeat(40_000);
    assert_eq!(gateway.get(&format!("/{long}")).status, 414);
    let one_line = gateway.ask(format!("GET / HTTP/1.1\r\nHost: gate.test\r\nX-A: {long}\r\n\r\n"));
    assert_eq!(one_line.status, 400);
    let lines: String = (0..2000).map(|line| format!("X-{line}: {}\r\n", &long[..60])).collect();
    assert_eq!(gateway.ask(format!("GET / HTTP/1.1\r\nHost: gate.test\r\n{lines}\r\n")).status, 400);
    assert!(upstream.seen().is_empty());
}
