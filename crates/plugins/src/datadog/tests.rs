//! What an agent gets.
#![allow(clippy::unwrap_used)]

use std::net::UdpSocket;

use portcullis_plugin::testing::{People, TestRequest, exchange, plugin};
use portcullis_plugin::{Exchange, Handler, Latencies, ResponseHead};
use serde_json::json;
use uuid::Uuid;

use super::Datadog;

fn datagram(server: &UdpSocket) -> String {
    let mut bytes = [0; 65_536];
    let length = server.recv(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[test]
fn figures_carry_service_status_consumer_and_tags() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let anna = Uuid::from_u128(0xa);
    let people = People::default().consumer_record(json!({ "id": anna, "custom_id": "c1" }));
    let request = TestRequest::get("/").people(&people).authenticated(anna).build();
    let plugin: Datadog = plugin(json!({ "host": "127.0.0.1", "port": server.local_addr().unwrap().port(), "status_tag": "code" }));
    plugin.log(&Exchange {
        latencies: Latencies { kong: 1, proxy: -1, request: 3, receive: 0 },
        ..exchange(&request, &ResponseHead::new(404))
    });
    let tags = "|#name:,code:404,consumer:c1,app:kong";
    for line in ["request.count:1|c", "latency:3|ms", "request.size:220|ms", "response.size:310|ms", "kong_latency:1|ms"] {
        assert_eq!(datagram(&server), format!("kong.{line}{tags}"));
    }
}
