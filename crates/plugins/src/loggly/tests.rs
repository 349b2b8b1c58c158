//! What Loggly gets.
#![allow(clippy::unwrap_used)]

use std::net::UdpSocket;

use portcullis_plugin::testing::{TestRequest, exchange, plugin};
use portcullis_plugin::{Handler, ResponseHead};
use serde_json::{Value, json};

use super::Loggly;

#[test]
fn messages_carry_token_tags_and_severity() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let plugin: Loggly = plugin(json!({
        "host": "127.0.0.1", "port": server.local_addr().unwrap().port(), "key": "t0ken", "tags": ["a", "b"],
        "log_level": "err", "server_errors_severity": "alert",
    }));
    for (target, status) in [("/mild", 200), ("/absent", 404), ("/broken", 503)] {
        plugin.log(&exchange(&TestRequest::get(target).build(), &ResponseHead::new(status)));
    }
    let mut bytes = [0; 65_536];
    let length = server.recv(&mut bytes).unwrap();
    let text = std::str::from_utf8(&bytes[..length]).unwrap();
    let (head, record) = text.split_once('{').unwrap();
    let words: Vec<&str> = head.split(' ').collect();
    let expected = ["<9>1", words[1], "node.test", "kong", "-", "-", "[t0ken@41058", "tag=\"a\"", "tag=\"b\"]", ""];
    assert_eq!(words, expected);
    assert!(words[1].len() == 20 && words[1].ends_with('Z'));
    let record: Value = serde_json::from_str(&format!("{{{record}")).unwrap();
    assert_eq!(record["request"]["uri"], "/broken");
}
