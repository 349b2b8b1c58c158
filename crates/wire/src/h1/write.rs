//! Writing response heads.

use crate::head::ResponseHead;
use crate::headers::Known;

/// How the body leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// No body; a `Content-Length` among the header lines stays (answers to HEAD, 304).
    None,
    /// No body and no `Content-Length` (1xx, 204).
    Forbidden,
    /// A `Content-Length` among the header lines says it.
    Declared,
    /// This length, in a `Content-Length` line of ours.
    Length(u64),
    Chunked,
    UntilClose,
}

/// What the `Connection` line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    KeepAlive,
    Close,
    Upgrade,
}

/// Appends a complete head. Header lines go as they stand, but for those that frame the body.
pub(crate) fn write_head(out: &mut Vec<u8>, head: &ResponseHead, outgoing: Outgoing, connection: Connection) {
    write_status_line(out, head);
    let keeps_length = matches!(outgoing, Outgoing::None | Outgoing::Declared);
    head.headers.write_to(out, |line| match line.known {
        Known::ContentLength => keeps_length,
        Known::TransferEncoding | Known::KeepAlive => false,
        _ => true,
    });
    match outgoing {
        Outgoing::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            write_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Outgoing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        _ => {}
    }
    out.extend_from_slice(match connection {
        Connection::KeepAlive => b"Connection: keep-alive\r\n\r\n",
        Connection::Close => b"Connection: close\r\n\r\n",
        Connection::Upgrade => b"Connection: upgrade\r\n\r\n",
    });
}

fn write_status_line(out: &mut Vec<u8>, head: &ResponseHead) {
    if head.status == 200 && head.reason() == b"OK" {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(out, u64::from(head.status));
    out.push(b' ');
    out.extend_from_slice(head.reason());
    out.extend_from_slice(b"\r\n");
}

/// An interim response (RFC 9110 section 15.2), with its header lines but those that frame a body.
pub(crate) fn write_interim(out: &mut Vec<u8>, head: &ResponseHead) {
    write_status_line(out, head);
    head.headers.write_to(out, |line| !matches!(line.known, Known::ContentLength | Known::TransferEncoding));
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::reason_of;

    fn written(head: &ResponseHead, outgoing: Outgoing, connection: Connection) -> String {
        let mut out = Vec::new();
        write_head(&mut out, head, outgoing, connection);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn framing_lines_are_the_wires_own() {
        let mut head = ResponseHead::new(200);
        head.headers.append("X-A", b"1");
        head.headers.append("content-length", b"7");
        head.headers.append("Transfer-Encoding", b"chunked");
        head.headers.append("Keep-Alive", b"timeout=5");
        assert_eq!(
            written(&head, Outgoing::Chunked, Connection::KeepAlive),
            "HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n"
        );
        assert_eq!(
            written(&head, Outgoing::Declared, Connection::Close),
            "HTTP/1.1 200 OK\r\nX-A: 1\r\ncontent-length: 7\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            written(&head, Outgoing::Length(12), Connection::Close),
            "HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 12\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn unknown_statuses_have_an_empty_reason() {
        let head = ResponseHead::new(599);
        assert!(written(&head, Outgoing::Forbidden, Connection::Close).starts_with("HTTP/1.1 599 \r\n"));
        assert_eq!(reason_of(204), "No Content");
    }
}
