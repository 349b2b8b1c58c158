//! What a route's protocols demand of a request before any plugin runs (behaviour checklist 5.6).

use portcullis_plugin::{Answer, Request, Version};
use portcullis_wire::headers::Known;

use crate::router::Route;

/// The answer for a request that came over the wrong protocol; none lets it pass.
pub fn protocol(request: &Request, route: &Route) -> Option<Answer> {
    let protocols = route.protocols;
    if protocols.grpc() || protocols.grpcs() {
        return grpc(request, route);
    }
    if protocols.http() || request.client.forwarded_https {
        return None;
    }
    let status = route.entity.https_redirect_status_code;
    if status == 426 {
        let answer = Answer::error(426, "Please use HTTPS protocol");
        return Some(answer.header("Connection", "Upgrade").header("Upgrade", "TLS/1.2, HTTP/1.1"));
    }
    let headers = &request.head.headers;
    let own = || {
        let host = request.head.authority().or_else(|| headers.known(Known::Host)).unwrap_or(super::upstream_head::NAMELESS_HOST);
        super::upstream_head::without_port(host).to_ascii_lowercase()
    };
    let trusted = if request.client.trusted { headers.known(Known::XForwardedHost) } else { None };
    let mut location = b"https://".to_vec();
    location.extend(trusted.map_or_else(own, <[u8]>::to_vec));
    location.extend_from_slice(request.head.target());
    Some(Answer::status(status).header("Location", location))
}

fn grpc(request: &Request, route: &Route) -> Option<Answer> {
    let content_type = request.head.headers.known(Known::ContentType).unwrap_or_default();
    if !content_type.starts_with(b"application/grpc") {
        return Some(Answer::error(415, "Non-gRPC request matched gRPC route"));
    }
    if request.head.version < Version::Http2 {
        let answer = Answer::error(426, "Please use HTTP2 protocol");
        return Some(answer.header("Connection", "Upgrade").header("Upgrade", "HTTP/2"));
    }
    if !route.protocols.grpc() && !request.client.forwarded_https {
        let answer = Answer::empty(200).header("Content-Type", "application/grpc");
        return Some(answer.header("grpc-status", "1").header("grpc-message", "gRPC request matched gRPCs route"));
    }
    None
}
