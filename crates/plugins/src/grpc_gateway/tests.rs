//! What requests become calls, and what their answers become.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::testing::{TestRequest, answer, plugin};
use portcullis_plugin::{Body, Handler, Request, Response, ResponseHead};
use serde_json::json;

use super::GrpcGateway;
use crate::grpc::frame;

const FILE: &str = r#"
    syntax = "proto3";
    package harbour;
    import "google/api/annotations.proto";
    service Boats {
      rpc Find(Wanted) returns (Boat) {
        option (google.api.http) = {
          get: "/v1/{place=ports/*}/boats/{number}"
          additional_bindings { post: "/v1/boats" body: "*" }
        };
      }
    }
    message Wanted { string place = 1; int32 number = 2; Size size = 3; repeated string tags = 4; bool old = 5; }
    message Size { int32 length = 1; }
    message Boat { string name = 1; int64 weight_kg = 2; }
"#;

fn gateway() -> (tempfile::TempDir, GrpcGateway) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("harbour.proto");
    std::fs::write(&file, FILE).unwrap();
    let plugin = plugin(json!({ "proto": file }));
    (folder, plugin)
}

fn sent(request: &Request) -> Vec<u8> {
    request.upstream.body.clone().unwrap()
}

#[test]
fn path_and_query_become_the_message() {
    let (_folder, plugin) = gateway();
    let mut request = TestRequest::get("/v1/ports/north/boats/7?size.length=12&tags=a&tags=b&old=true&unknown=1").build();
    assert_eq!(answer(plugin.access(&mut request)), None);
    assert_eq!(request.upstream.path, b"/harbour.Boats/Find");
    assert_eq!(request.upstream.method.as_deref(), Some("POST"));
    let message = b"\x0a\x0bports/north\x10\x07\x1a\x02\x08\x0c\x22\x01a\x22\x01b\x28\x01";
    assert_eq!(sent(&request), frame(message));
}

#[test]
fn a_body_becomes_the_message_where_the_binding_says_so() {
    let (_folder, plugin) = gateway();
    let mut request = TestRequest::new("POST", "/v1/boats").body("application/json", r#"{"number": 7}"#).build();
    assert_eq!(answer(plugin.access(&mut request)), None);
    assert_eq!(sent(&request), frame(b"\x10\x07"));
    let mut request = TestRequest::new("POST", "/v1/boats").body("application/json", "{").build();
    assert_eq!(answer(plugin.access(&mut request)).unwrap().status, 400);
}

#[test]
fn answers_become_json_and_statuses_their_likes() {
    let (_folder, plugin) = gateway();
    for (status, expected, body) in
        [("0", 200, r#"{"name":"Ida","weight_kg":900}{"name":"","weight_kg":0}"#), ("5", 404, r#"{"code":5,"message":"none"}"#)]
    {
        let mut request = TestRequest::get("/v1/ports/north/boats/7").build();
        assert_eq!(answer(plugin.access(&mut request)), None);
        let mut head = ResponseHead { status: 200, ..ResponseHead::default() };
        head.headers.append("grpc-status", status.as_bytes());
        head.headers.append("grpc-message", b"none");
        let mut given = [frame(b"\x0a\x03Ida\x10\x84\x07"), frame(b"")].concat();
        plugin.response(&mut request, Response { head: &mut head, body: &mut given }).unwrap();
        assert_eq!((head.status, String::from_utf8(given).unwrap().as_str()), (expected, body));
    }
}

#[test]
fn what_no_method_is_bound_to_is_refused() {
    let (_folder, plugin) = gateway();
    assert_eq!(answer(plugin.access(&mut TestRequest::get("/v1/trains").build())).unwrap().status, 400);
    let without: GrpcGateway = portcullis_plugin::testing::plugin(json!({}));
    let refused = answer(without.access(&mut TestRequest::get("/").build())).unwrap();
    let text = b"transcoding requests require a .proto file defining the service".to_vec();
    assert_eq!(refused.body, Body::Bytes { content_type: None, bytes: text });
    let preflight = answer(without.access(&mut TestRequest::new("OPTIONS", "/").build())).unwrap();
    assert_eq!(preflight.status, 200);
}
