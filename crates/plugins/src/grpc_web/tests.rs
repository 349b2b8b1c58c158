//! How calls go upstream, and how their ends are told.
#![allow(clippy::unwrap_used)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portcullis_plugin::testing::{TestRequest, answer, plugin};
use portcullis_plugin::{Handler, Response, ResponseHead};
use serde_json::json;

use super::GrpcWeb;
use crate::grpc::frame;

#[test]
fn frames_pass_and_the_trailers_follow_them_in_the_body() {
    let plugin: GrpcWeb = plugin(json!({}));
    for (content_type, text) in [("application/grpc-web+proto", false), ("application/grpc-web-text", true)] {
        let call = frame(b"ask");
        let body = if text { STANDARD.encode(&call) } else { String::from_utf8(call.clone()).unwrap() };
        let mut request = TestRequest::new("POST", "/a.B/C").body(content_type, &body).build();
        assert_eq!(answer(plugin.access(&mut request)), None);
        assert_eq!(request.upstream.body.as_deref(), Some(call.as_slice()));
        assert_eq!(request.head.headers.get("content-type"), Some(&b"application/grpc"[..]));
        let mut head = ResponseHead { status: 200, ..ResponseHead::default() };
        head.headers.append("grpc-status", b"0");
        let mut given = frame(b"told");
        plugin.response(&mut request, Response { head: &mut head, body: &mut given }).unwrap();
        let given = if text { STANDARD.decode(given).unwrap() } else { given };
        assert_eq!(given, [frame(b"told"), b"\x80\0\0\0\x1egrpc-status:0\r\ngrpc-message:\r\n".to_vec()].concat());
        assert_eq!(head.headers.get("content-type"), Some(content_type.as_bytes()));
    }
}

#[test]
fn other_types_are_refused_and_preflights_answered() {
    let plugin: GrpcWeb = plugin(json!({}));
    let mut request = TestRequest::new("POST", "/a.B/C").body("text/plain", "x").build();
    assert_eq!(answer(plugin.access(&mut request)).unwrap().status, 400);
    let preflight = answer(plugin.access(&mut TestRequest::new("OPTIONS", "/a.B/C").build())).unwrap();
    assert!(preflight.headers.iter().any(|(name, value)| name == "Access-Control-Allow-Methods" && value == b"POST"));
}
