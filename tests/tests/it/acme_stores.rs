//! acme with its certificates in Consul and in Vault: stand-ins that keep what they are given and look at how they are asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::acme::outlives_the_node;

/// A value, what goes with it, and how often it was written.
type Rows = Mutex<BTreeMap<String, (String, Value, u64)>>;

/// A key-value store over HTTP.
struct Keeper {
    address: SocketAddr,
    rows: Arc<Rows>,
}

/// Answers one request: method, path with query, token and body.
type Answering = fn(&Rows, &str, &str, &str, &str) -> (u16, String);

impl Keeper {
    fn start(token_header: &'static str, answer: Answering) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, rows) = (listener.local_addr().unwrap(), Arc::new(Rows::default()));
        let kept = rows.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                std::thread::spawn(move || {
                    serve(stream, token_header, |method, path, token, body| answer(&kept, method, path, token, body))
                });
            }
        });
        Self { address, rows }
    }

    fn keys(&self) -> Vec<String> {
        self.rows.lock().unwrap().keys().cloned().collect()
    }
}

fn serve(mut stream: TcpStream, token_header: &str, answer: impl Fn(&str, &str, &str, &str) -> (u16, String)) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let (mut length, mut token) = (0, String::new());
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let Some((name, value)) = header.trim().split_once(": ") else { break };
            match name.to_ascii_lowercase() {
                name if name == "content-length" => length = value.parse().unwrap(),
                name if name == token_header => token = value.to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mut parts = line.split(' ');
        let (method, path) = (parts.next().unwrap(), parts.next().unwrap());
        let (status, text) = answer(method, path, &token, &String::from_utf8(body).unwrap());
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", text.len());
        if stream.write_all(format!("{head}{text}").as_bytes()).is_err() {
            return;
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group = (u32::from(chunk[0]) << 16) | (u32::from(*chunk.get(1).unwrap_or(&0)) << 8) | u32::from(*chunk.get(2).unwrap_or(&0));
        (0..=chunk.len()).for_each(|at| out.push(char::from(DIGITS[(group >> (18 - 6 * at)) as usize & 63])));
        (chunk.len()..3).for_each(|_| out.push('='));
    }
    out
}

fn consul(rows: &Rows, method: &str, path: &str, token: &str, body: &str) -> (u16, String) {
    if token != "sesame" {
        return (403, "Permission denied".to_owned());
    }
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let key = path.strip_prefix("/v1/kv/ship/acme/").unwrap().to_owned();
    let asked = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok());
    let mut rows = rows.lock().unwrap();
    match method {
        "GET" if query == "keys" => (200, json!(rows.keys().map(|key| format!("ship/acme/{key}")).collect::<Vec<_>>()).to_string()),
        "GET" => match rows.get(&key) {
            None => (404, String::new()),
            Some((value, flags, version)) => {
                (200, json!([{"Value": base64(value.as_bytes()), "Flags": flags, "ModifyIndex": version}]).to_string())
            }
        },
        "PUT" => {
            let version = rows.get(&key).map_or(0, |(.., version)| *version);
            if asked("cas").is_some_and(|wanted| wanted != version) {
                return (200, "false".to_owned());
            }
            rows.insert(key, (body.to_owned(), json!(asked("flags").unwrap_or(0)), version + 1));
            (200, "true".to_owned())
        }
        _ => {
            rows.remove(&key);
            (200, "true".to_owned())
        }
    }
}

fn vault(rows: &Rows, method: &str, path: &str, token: &str, body: &str) -> (u16, String) {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    if path == "/v1/auth/cluster/login" {
        let known = body == json!({"role": "gate", "jwt": "account"});
        return if known {
            (200, json!({"auth": {"client_token": "sesame"}}).to_string())
        } else {
            (400, r#"{"errors":["no"]}"#.to_owned())
        };
    }
    if token != "sesame" {
        return (403, r#"{"errors":["permission denied"]}"#.to_owned());
    }
    let mut rows = rows.lock().unwrap();
    let (is_data, key) = match path.strip_prefix("/v1/secret/data/ship/") {
        Some(key) => (true, key.to_owned()),
        None => (false, path.strip_prefix("/v1/secret/metadata/ship/").unwrap().to_owned()),
    };
    match (method, is_data) {
        ("LIST", _) => (200, json!({"data": {"keys": rows.keys().collect::<Vec<_>>()}}).to_string()),
        ("GET", _) => match rows.get(&key) {
            None => (404, r#"{"errors":[]}"#.to_owned()),
            Some((value, _, version)) => (200, json!({"data": {"data": {"value": value}, "metadata": {"version": version}}}).to_string()),
        },
        ("POST", true) => {
            let version = rows.get(&key).map_or(0, |(.., version)| *version);
            if body["options"]["cas"].as_u64().is_some_and(|wanted| wanted != version) {
                return (400, r#"{"errors":["check-and-set parameter did not match the current version"]}"#.to_owned());
            }
            rows.insert(key, (body["data"]["value"].as_str().unwrap().to_owned(), Value::Null, version + 1));
            (200, json!({"data": {"version": version + 1}}).to_string())
        }
        // How long the value that comes next lives.
        ("POST", false) => {
            assert!(body["delete_version_after"].as_str().unwrap().ends_with("000ms"));
            (204, String::new())
        }
        _ => {
            rows.remove(&key);
            (204, String::new())
        }
    }
}

fn holds_the_certificate(keeper: &Keeper) {
    assert!(keeper.keys().iter().any(|key| key == "kong_acme:cert_key:deck.ship.test"), "{:?}", keeper.keys());
}

#[test]
fn what_is_kept_in_consul_outlives_the_node() {
    let keeper = Keeper::start("x-consul-token", consul);
    let place = json!({"host": "127.0.0.1", "port": keeper.address.port(), "kv_path": "ship/acme", "token": "sesame"});
    outlives_the_node(json!({"storage": "consul", "storage_config": {"consul": place}}), || holds_the_certificate(&keeper));
}

#[test]
fn what_is_kept_in_vault_outlives_the_node() {
    let keeper = Keeper::start("x-vault-token", vault);
    let account = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(account.path(), "account\n").unwrap();
    let place = json!({
        "host": "127.0.0.1", "port": keeper.address.port(), "kv_path": "secret/ship", "auth_method": "kubernetes", "auth_path": "cluster",
        "auth_role": "gate", "jwt_path": account.path(),
    });
    outlives_the_node(json!({"storage": "vault", "storage_config": {"vault": place}}), || holds_the_certificate(&keeper));
}
