//! What a StatsD server gets.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use portcullis_plugin::testing::{People, TestRequest, exchange, plugin};
use portcullis_plugin::{Handler, Request, ResponseHead};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Statsd;

const ANNA: Uuid = Uuid::from_u128(0xa);

/// A request by Anna to the service `my.service`.
fn request() -> Request {
    let people = People::default().consumer_record(json!({ "id": ANNA, "username": "anna", "custom_id": "c.1" }));
    let mut request = TestRequest::get("/").people(&people).authenticated(ANNA).build();
    let service = json!({ "id": Uuid::from_u128(1), "name": "my.service", "host": "up", "port": 80, "protocol": "http", "retries": 5,
        "connect_timeout": 1, "write_timeout": 1, "read_timeout": 1, "enabled": true });
    request.service = Some(Arc::new(serde_json::from_value(service).unwrap()));
    let route = json!({ "id": Uuid::from_u128(2), "protocols": ["http"], "https_redirect_status_code": 426, "strip_path": true,
        "preserve_host": false, "request_buffering": true, "response_buffering": true });
    request.route = Some(Arc::new(serde_json::from_value(route).unwrap()));
    request
}

fn server() -> (UdpSocket, u16) {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    (server, port)
}

fn datagram(server: &UdpSocket) -> String {
    let mut bytes = [0; 65_536];
    let length = server.recv(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// What a plugin with these settings sends in a datagram.
fn sent(settings: Value, request: &Request) -> Vec<String> {
    let (server, port) = server();
    let mut config = json!({ "host": "127.0.0.1", "port": port, "udp_packet_size": 65_000 });
    config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let plugin: Statsd = plugin(config);
    plugin.log(&exchange(request, &ResponseHead::new(200)));
    datagram(&server).lines().map(str::to_owned).collect()
}

#[test]
fn every_figure_has_kongs_name() {
    let workspace = request().directory.workspace();
    let expected = [
        "kong.service.my_service.request.count:1|c".to_owned(),
        "kong.service.my_service.latency:3|ms".to_owned(),
        "kong.service.my_service.request.size:220|c".to_owned(),
        "kong.service.my_service.status.200:1|c".to_owned(),
        "kong.service.my_service.response.size:310|c".to_owned(),
        "kong.service.my_service.user.uniques:c_1|s".to_owned(),
        "kong.service.my_service.user.c_1.request.count:1|c".to_owned(),
        "kong.service.my_service.upstream_latency:2|ms".to_owned(),
        "kong.service.my_service.kong_latency:1|ms".to_owned(),
        "kong.service.my_service.user.c_1.status.200:1|c".to_owned(),
        format!("kong.service.my_service.workspace.{workspace}.status.200:1|c"),
        "kong.route.00000000-0000-0000-0000-000000000002.user.c_1.status.200:1|c".to_owned(),
    ];
    assert_eq!(sent(json!({}), &request()), expected);
}

#[test]
fn identifiers_prefix_statuses_and_rates_are_settings() {
    let metrics = json!([
        { "name": "request_per_user", "stat_type": "gauge", "sample_rate": 0.5, "consumer_identifier": "username" },
        { "name": "status_count", "stat_type": "counter", "sample_rate": 1 },
        { "name": "request_size", "stat_type": "histogram", "service_identifier": "service_host" },
    ]);
    let settings = json!({ "prefix": "gate", "hostname_in_prefix": true, "allow_status_codes": ["500-599"], "metrics": metrics });
    let expected =
        ["gate.node.node_test.service.my_service.user.anna.request.count:1|g|@0.5", "gate.node.node_test.service.up.request.size:220|h"];
    assert_eq!(sent(settings, &request()), expected);
    let unmatched = sent(json!({}), &TestRequest::get("/").build());
    assert_eq!(unmatched[0], "kong.global.unmatched.request.count:1|c");
}

#[test]
fn ids_are_tags_in_four_styles() {
    let metrics = json!([{ "name": "request_count", "stat_type": "counter", "sample_rate": 1, "workspace_identifier": "workspace_name" }]);
    let tags = |between| {
        let route = "00000000-0000-0000-0000-000000000002";
        ["service:my_service", &format!("route:{route}"), "consumer:c_1", "workspace:default", "status:200"].join(",").replace(':', between)
    };
    for (style, expected) in [
        ("dogstatsd", format!("kong.request.count:1|c|#{}", tags(":"))),
        ("influxdb", format!("kong.request.count,{}:1|c", tags("="))),
        ("librato", format!("kong.request.count#{}:1|c", tags("="))),
        ("signalfx", format!("kong.request.count[{}]:1|c", tags("="))),
    ] {
        assert_eq!(sent(json!({ "tag_style": style, "metrics": metrics }), &request()), [expected]);
    }
}

#[test]
fn each_figure_is_a_datagram_unless_packets_are_larger_and_tcp_gets_lines() {
    let (server, port) = server();
    let udp: Statsd = plugin(json!({ "host": "127.0.0.1", "port": port }));
    udp.log(&exchange(&request(), &ResponseHead::new(200)));
    assert_eq!(
        [datagram(&server), datagram(&server)],
        ["kong.service.my_service.request.count:1|c", "kong.service.my_service.latency:3|ms"]
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp: Statsd = plugin(json!({ "host": "127.0.0.1", "port": listener.local_addr().unwrap().port(), "use_tcp": true }));
    tcp.log(&exchange(&request(), &ResponseHead::new(200)));
    let mut lines = BufReader::new(listener.accept().unwrap().0).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "kong.service.my_service.request.count:1|c");
    assert_eq!(lines.nth(10).unwrap().unwrap(), "kong.route.00000000-0000-0000-0000-000000000002.user.c_1.status.200:1|c");
}
