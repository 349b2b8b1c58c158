//! What a TCP server gets.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use portcullis_plugin::testing::{TestRequest, exchange, plugin};
use portcullis_plugin::{Handler, ResponseHead};
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::TcpLog;

fn log(plugin: &TcpLog, target: &str) {
    plugin.log(&exchange(&TestRequest::get(target).build(), &ResponseHead::new(200)));
}

fn uri(line: &str) -> String {
    let record: Value = serde_json::from_str(line).unwrap();
    record["request"]["uri"].as_str().unwrap().to_owned()
}

fn lines(client: TcpStream) -> impl Iterator<Item = String> {
    BufReader::new(client).lines().map(Result::unwrap)
}

#[test]
fn records_are_lines_on_one_connection_which_is_made_anew_when_the_server_closes_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let plugin: TcpLog = plugin(json!({ "host": "127.0.0.1", "port": address.port() }));
    log(&plugin, "/one");
    let mut first = lines(listener.accept().unwrap().0);
    assert_eq!(uri(&first.next().unwrap()), "/one");
    log(&plugin, "/two");
    assert_eq!(uri(&first.next().unwrap()), "/two");
    drop(first);
    log(&plugin, "/three");
    let mut second = lines(listener.accept().unwrap().0);
    assert_eq!(uri(&second.next().unwrap()), "/three");
}

#[test]
fn records_go_over_tls_under_the_given_name() {
    let made = rcgen::generate_simple_self_signed(["logs.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let plugin: TcpLog = plugin(json!({ "host": "127.0.0.1", "port": port, "tls": true, "tls_sni": "logs.test" }));
    log(&plugin, "/secret");
    let client = listener.accept().unwrap().0;
    let mut server = BufReader::new(StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), client));
    let mut line = String::new();
    server.read_line(&mut line).unwrap();
    assert_eq!(uri(&line), "/secret");
    assert_eq!(server.get_ref().conn.server_name(), Some("logs.test"));
}
