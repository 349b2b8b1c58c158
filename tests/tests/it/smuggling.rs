//! Requests that two implementations might read differently: what the client saw, and that the upstream saw one request or none.

use portcullis_tests::{Connection, Gateway, Upstream, wait_until};

/// What must become of it.
#[derive(Clone, Copy)]
enum Fate {
    /// One answer with this status, then the connection closes; no request reaches the upstream.
    Refused(u16),
    /// Refused after its head was sent on: an answer of 400 or none, the connection closes, at most that one request was seen.
    Cut,
    /// Served as exactly one request.
    Served,
}
use Fate::{Cut, Refused, Served};

/// What an attacker would have the upstream take for a request.
const HIDDEN: &str = "GET /a/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

fn cases() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let post = |headers: &str, body: &str| format!("POST /a HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}").into_bytes();
    let get = |headers: &str| format!("GET /a HTTP/1.1\r\nHost: a\r\n{headers}\r\n").into_bytes();
    let hidden = |headers: &str, body: &str| post(headers, &format!("{body}{HIDDEN}"));
    let long = HIDDEN.len();
    vec![
        ("length and coding", hidden("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), Refused(400)),
        ("coding and length", hidden("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), Refused(400)),
        ("two different lengths", hidden(&format!("Content-Length: 0\r\nContent-Length: {long}\r\n"), ""), Refused(400)),
        ("two equal lengths", hidden("Content-Length: 0\r\nContent-Length: 0\r\n", ""), Refused(400)),
        ("a list of lengths", hidden(&format!("Content-Length: 0, {long}\r\n"), ""), Refused(400)),
        ("a signed length", hidden("Content-Length: +0\r\n", ""), Refused(400)),
        ("a negative length", hidden("Content-Length: -1\r\n", ""), Refused(400)),
        ("a hexadecimal length", hidden("Content-Length: 0x0\r\n", ""), Refused(400)),
        ("an empty length", hidden("Content-Length: \r\n", ""), Refused(400)),
        ("a length with a space in it", hidden(&format!("Content-Length: 0 {long}\r\n"), ""), Refused(400)),
        ("a length beyond 64 bits", hidden("Content-Length: 18446744073709551616\r\n", ""), Refused(400)),
        ("an unknown coding", hidden("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), Refused(501)),
        ("gzip, then chunked", hidden("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), Refused(501)),
        ("chunked, then identity", hidden("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), Refused(501)),
        ("identity", hidden("Transfer-Encoding: identity\r\n", ""), Refused(501)),
        ("chunked twice", hidden("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), Refused(400)),
        ("a vertical tab in the coding", hidden("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), Refused(400)),
        ("chunked in HTTP/1.0", b"POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(), Refused(400)),
        ("a space before the colon", hidden("Content-Length : 5\r\n", ""), Refused(400)),
        ("a tab before the colon", hidden("Transfer-Encoding\t: chunked\r\n", ""), Refused(400)),
        ("a folded line", hidden("X: a\r\n b\r\n", ""), Refused(400)),
        ("a folded coding", hidden("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), Refused(400)),
        ("a first header line that begins with a space", b"GET /a HTTP/1.1\r\n Host: a\r\n\r\n".to_vec(), Refused(400)),
        ("a bare LF after the request line", b"GET /a HTTP/1.1\nHost: a\r\n\r\n".to_vec(), Refused(400)),
        ("a bare LF after a header", b"GET /a HTTP/1.1\r\nHost: a\nX: b\r\n\r\n".to_vec(), Refused(400)),
        ("a bare CR in a value", get("X: a\rb\r\n"), Refused(400)),
        ("a bare CR as a line end", get("X: a\rTransfer-Encoding: chunked\r\n"), Refused(400)),
        ("NUL in a value", get("X: a\0b\r\n"), Refused(400)),
        ("NUL in a name", get("X\0: a\r\n"), Refused(400)),
        ("a control character in a value", get("X: a\x01b\r\n"), Refused(400)),
        ("a name with a space in it", get("X Y: a\r\n"), Refused(400)),
        ("an empty name", get(": a\r\n"), Refused(400)),
        ("a line without a colon", get("nothing\r\n"), Refused(400)),
        ("no Host", b"GET /a HTTP/1.1\r\n\r\n".to_vec(), Refused(400)),
        ("two Hosts", b"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(), Refused(400)),
        ("an empty Host", b"GET /a HTTP/1.1\r\nHost:\r\n\r\n".to_vec(), Refused(400)),
        ("a Host with a path", b"GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n".to_vec(), Refused(400)),
        ("a method in lower case", b"get /a HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Refused(400)),
        ("a method with a bad character", b"G@T /a HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Refused(400)),
        ("a version of one digit", b"GET /a HTTP/1\r\nHost: a\r\n\r\n".to_vec(), Refused(400)),
        ("a version that does not exist", b"GET /a HTTP/1.9x\r\nHost: a\r\n\r\n".to_vec(), Refused(400)),
        ("a space in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Refused(400)),
        ("a target without a slash", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Refused(400)),
        ("a bad percent escape", b"GET /a/%zz HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Refused(400)),
        ("a bad chunk size", hidden("Transfer-Encoding: chunked\r\n", "zz\r\n"), Cut),
        ("a signed chunk size", hidden("Transfer-Encoding: chunked\r\n", "+5\r\nhello\r\n0\r\n\r\n"), Cut),
        ("a chunk size with 0x", hidden("Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n"), Cut),
        ("a chunk size beyond 64 bits", hidden("Transfer-Encoding: chunked\r\n", "10000000000000005\r\nhello\r\n0\r\n\r\n"), Cut),
        ("an empty chunk size", hidden("Transfer-Encoding: chunked\r\n", "\r\nhello\r\n0\r\n\r\n"), Cut),
        ("a bare LF after a chunk size", hidden("Transfer-Encoding: chunked\r\n", "5\nhello\r\n0\r\n\r\n"), Cut),
        ("a bare LF in a chunk extension", hidden("Transfer-Encoding: chunked\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n"), Cut),
        ("a chunk longer than it says", hidden("Transfer-Encoding: chunked\r\n", "4\r\nhello\r\n0\r\n\r\n"), Cut),
        ("a chunk without its end", hidden("Transfer-Encoding: chunked\r\n", "5\r\nhello0\r\n\r\n"), Cut),
        ("a request within a body", post(&format!("Content-Length: {long}\r\n"), HIDDEN), Served),
        ("a request within a chunk", post("Transfer-Encoding: chunked\r\n", &format!("{long:x}\r\n{HIDDEN}\r\n0\r\n\r\n")), Served),
        ("a chunk extension", post("Transfer-Encoding: chunked\r\n", "5;name=value\r\nhello\r\n0\r\n\r\n"), Served),
        ("a trailer", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nX: y\r\n\r\n"), Served),
        ("a coding in capitals", post("Transfer-Encoding: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n"), Served),
    ]
}

#[test]
fn the_upstream_sees_one_request_or_none() {
    let (gateway, upstream) = (Gateway::with(&[("nginx_main_worker_processes", "1")]), Upstream::start());
    gateway.route("a", upstream.address);
    let mut wrong = Vec::new();
    for (name, bytes, fate) in cases() {
        upstream.forget();
        if let Err(complaint) = judge(&gateway, &upstream, &bytes, fate) {
            wrong.push(format!("{name}: {complaint}"));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

fn judge(gateway: &Gateway, upstream: &Upstream, bytes: &[u8], fate: Fate) -> Result<(), String> {
    let mut connection = Connection::open(gateway.proxy);
    // The gateway may have answered and closed before all was sent.
    let _ = connection.try_send(bytes);
    let answer = connection.try_response().map(|response| response.status).ok();
    let requests = upstream.seen().requests;
    if requests.iter().any(|request| request.contains("smuggled")) {
        return Err(format!("smuggled: {requests:?}, answered {answer:?}"));
    }
    match fate {
        Refused(status) => {
            if answer != Some(status) || !requests.is_empty() {
                return Err(format!("must be refused with {status}; answered {answer:?}, the upstream saw {requests:?}"));
            }
            let rest = connection.read_to_end();
            if !rest.is_empty() {
                return Err(format!("more than one answer: {}", String::from_utf8_lossy(&rest)));
            }
        }
        Cut => {
            if !matches!(answer, None | Some(400)) || requests.len() > 1 {
                return Err(format!("must be cut; answered {answer:?}, the upstream saw {requests:?}"));
            }
            let rest = connection.read_to_end();
            if !rest.is_empty() {
                return Err(format!("more than one answer: {}", String::from_utf8_lossy(&rest)));
            }
            // What was sent on may still be on its way to the upstream.
            connection_is_dropped(upstream);
        }
        Served => {
            if answer != Some(200) || requests.len() != 1 {
                return Err(format!("must be served; answered {answer:?}, the upstream saw {requests:?}"));
            }
        }
    }
    Ok(())
}

/// A request that was cut must leave no upstream connection that a later request could be appended to.
fn connection_is_dropped(upstream: &Upstream) {
    let seen = upstream.seen();
    wait_until("the upstream's connection of a cut request closes", || upstream.seen().abandoned >= seen.requests.len());
}
