//! What a UDP server gets.
#![allow(clippy::unwrap_used)]

use std::net::UdpSocket;

use portcullis_plugin::testing::{TestRequest, exchange, plugin};
use portcullis_plugin::{Handler, ResponseHead};
use serde_json::{Value, json};

use super::UdpLog;

#[test]
fn records_are_datagrams() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let plugin: UdpLog = plugin(json!({ "host": "127.0.0.1", "port": server.local_addr().unwrap().port() }));
    for target in ["/one", "/two"] {
        plugin.log(&exchange(&TestRequest::get(target).build(), &ResponseHead::new(200)));
    }
    let mut bytes = [0; 65_536];
    for target in ["/one", "/two"] {
        let length = server.recv(&mut bytes).unwrap();
        let record: Value = serde_json::from_slice(&bytes[..length]).unwrap();
        assert!(record["request"]["uri"] == target && bytes[length - 1] == b'}');
    }
}
