//! Answers of the gateway's own to gRPC clients: no body, but the status in headers of gRPC (behaviour checklist 6.3).

use portcullis_plugin::{Request, Version};
use portcullis_wire::Headers;
use portcullis_wire::headers::Known;

/// Whether a request is a gRPC call. Kong looks at the content type, and takes only HTTP/2 for gRPC.
pub(super) fn is_call(request: &Request) -> bool {
    let head = &request.head;
    head.version >= Version::Http2 && head.headers.known(Known::ContentType).is_some_and(|of| of.starts_with(b"application/grpc"))
}

/// The gRPC status that stands for a status of HTTP, and its name.
pub(super) fn status_of(status: u16) -> (u8, &'static str) {
    match status {
        400 => (3, "InvalidArgument"),
        401 => (16, "Unauthenticated"),
        403 => (7, "PermissionDenied"),
        404 => (5, "NotFound"),
        409 => (6, "AlreadyExists"),
        429 => (8, "ResourceExhausted"),
        499 => (1, "Canceled"),
        501 => (12, "Unimplemented"),
        503 => (14, "Unavailable"),
        504 => (4, "DeadlineExceeded"),
        200..=299 => (0, "OK"),
        402..=498 => (3, "InvalidArgument"),
        500..=599 => (13, "Internal"),
        _ => (2, "Unknown"),
    }
}

/// Turns an answer into one for a gRPC client, unless it is one already. The message is percent-encoded, as gRPC has it.
pub(super) fn into_call_answer(status: u16, headers: &mut Headers, message: Option<&str>) {
    let (code, name) = status_of(status);
    if !headers.contains("grpc-status") {
        headers.set("grpc-status", code.to_string().as_bytes());
    }
    if !headers.contains("grpc-message") {
        headers.set("grpc-message", encode(message.unwrap_or(name)).as_bytes());
    }
    headers.set("Content-Type", b"application/grpc");
}

/// Takes what came as trailers out of a buffered answer's headers again, where plugins saw it: a gRPC client looks for its status
/// behind the body. Lines, as they go out; none for other clients and other answers.
pub(super) fn take_trailers(headers: &mut Headers, names: &[String], version: Version) -> Vec<u8> {
    let mut lines = Vec::new();
    let content_type = headers.known(Known::ContentType).unwrap_or_default();
    // gRPC-Web carries them in its body.
    let is_call = content_type.starts_with(b"application/grpc") && !content_type.starts_with(b"application/grpc-web");
    if !is_call || version < Version::Http2 {
        return lines;
    }
    for name in names {
        for value in headers.get_all(name) {
            lines.extend_from_slice(name.as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value);
            lines.extend_from_slice(b"\r\n");
        }
        headers.remove(name);
    }
    lines
}

fn encode(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(encode("50% of \u{fc}\n"), "50%25 of %C3%BC%0A");
    }

    #[test]
    fn trailers_leave_as_such_to_grpc_clients_alone() {
        let names = ["grpc-status".to_owned(), "grpc-message".to_owned()];
        let answer = |content_type: &str| {
            let mut headers = Headers::default();
            headers.append("Content-Type", content_type.as_bytes());
            headers.append("grpc-status", b"5");
            headers
        };
        let mut headers = answer("application/grpc+proto");
        assert_eq!(take_trailers(&mut headers, &names, Version::Http2), b"grpc-status: 5\r\n");
        assert!(!headers.contains("grpc-status"));
        for (content_type, version) in
            [("application/grpc", Version::Http11), ("application/grpc-web", Version::Http2), ("application/json", Version::Http2)]
        {
            let mut headers = answer(content_type);
            assert!(take_trailers(&mut headers, &names, version).is_empty());
            assert!(headers.contains("grpc-status"), "{content_type}");
        }
    }

    #[test]
    fn an_answer_of_a_plugins_own_keeps_its_status() {
        let mut headers = Headers::default();
        headers.append("grpc-status", b"1");
        into_call_answer(200, &mut headers, Some("no"));
        assert_eq!((headers.get("grpc-status"), headers.get("grpc-message")), (Some(b"1".as_slice()), Some(b"no".as_slice())));
    }
}
