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
    fn an_answer_of_a_plugins_own_keeps_its_status() {
        let mut headers = Headers::default();
        headers.append("grpc-status", b"1");
        into_call_answer(200, &mut headers, Some("no"));
        assert_eq!((headers.get("grpc-status"), headers.get("grpc-message")), (Some(b"1".as_slice()), Some(b"no".as_slice())));
    }
}
