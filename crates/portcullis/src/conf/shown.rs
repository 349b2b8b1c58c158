//! The configuration as `GET /` shows it: every key, what follows from them, secrets masked.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::keys::{self, ALIASES, BLOCKS, Kind};
use super::load::{Loaded, block_of};
use super::settings::Settings;

/// Flags a listener of HTTP may have, and one of streams.
const HTTP_FLAGS: [&str; 6] = ["ssl", "http2", "proxy_protocol", "deferred", "bind", "reuseport"];
const STREAM_FLAGS: [&str; 5] = ["udp", "ssl", "proxy_protocol", "bind", "reuseport"];

/// Flags with values, by the patterns Kong shows when they are not set, in the order of a listener's text.
const VALUED_FLAGS: [&str; 6] =
    ["backlog=%d+", "ipv6only=on", "ipv6only=off", "so_keepalive=on", "so_keepalive=off", "so_keepalive=%w*:%w*:%d*"];

/// Other names under which Kong shows values, too.
const SHOWN_ALIASES: [&str; 7] = [
    "nginx_user",
    "nginx_daemon",
    "nginx_worker_processes",
    "real_ip_header",
    "real_ip_recursive",
    "opentelemetry_tracing",
    "opentelemetry_tracing_sampling_rate",
];

/// The ciphers that the suite `intermediate` stands for. What is spoken is rustls's choice among them.
const INTERMEDIATE_CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
    ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-AES128-GCM-SHA256:\
    DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305";

impl Settings {
    /// As `GET /` shows it. Empty lists are `{}`, as Kong's encoder writes them.
    pub fn shown(&self) -> Map<String, Value> {
        let loaded = &self.loaded;
        let mut shown = Map::new();
        for key in keys::all() {
            match loaded.values.get(key.name) {
                Some(_) if key.secret => _ = shown.insert(key.name.to_owned(), "******".into()),
                Some(value) => _ = shown.insert(key.name.to_owned(), value.clone()),
                // Kong masks what is an empty list, too.
                None if key.kind == Kind::List && key.secret => _ = shown.insert(key.name.to_owned(), "******".into()),
                None if key.kind == Kind::List => _ = shown.insert(key.name.to_owned(), json!({})),
                None => {}
            }
        }
        shown.extend(loaded.others.iter().map(|(name, value)| (name.clone(), value.clone().into())));
        shown.insert("prefix".to_owned(), self.prefix.to_string_lossy().into());
        for alias in ALIASES.iter().filter(|alias| SHOWN_ALIASES.contains(&alias.name) && loaded.values.contains_key(alias.stands_for)) {
            shown.insert(alias.name.to_owned(), loaded.values[alias.stands_for].clone());
        }
        trusted_certificates(&mut shown);
        tls(loaded, &mut shown);
        listeners(loaded, &mut shown);
        headers(loaded, &mut shown);
        paths(&self.prefix, &mut shown);
        fixed(&mut shown);
        directives(&mut shown);
        let ports = self.proxy.port_maps.iter().map(|(outer, inner)| (inner.to_string(), Value::from(*outer)));
        shown.insert("host_ports".to_owned(), Value::Object(ports.collect()));
        shown.insert("loaded_plugins".to_owned(), Value::Object(plugins(&self.plugins)));
        let vaults = loaded.list("vaults").iter().any(|vault| matches!(*vault, "bundled" | "env"));
        shown.insert("loaded_vaults".to_owned(), if vaults { json!({"env": true}) } else { json!({}) });
        shown.insert("pluginservers".to_owned(), json!({}));
        shown.entry("lua_package_cpath").or_insert_with(|| "".into());
        shown
    }
}

fn plugins(names: &[String]) -> Map<String, Value> {
    let bundled = names.iter().any(|name| name == "bundled");
    let all = portcullis_plugins::ALL.iter().map(|entry| entry.name).filter(|_| bundled);
    let named = names.iter().map(String::as_str).filter(|name| !matches!(*name, "bundled" | "off"));
    all.chain(named).map(|name| (name.to_owned(), Value::Bool(true))).collect()
}

fn trusted_certificates(shown: &mut Map<String, Value>) {
    let Some(Value::Array(files)) = shown.get_mut("lua_ssl_trusted_certificate") else { return };
    let system = super::tls::system_bundle();
    files.retain_mut(|file| {
        if file == "system" {
            match system {
                Some(path) => *file = path.into(),
                None => return false,
            }
        }
        true
    });
}

/// What the chosen suite says of protocols and preferences; rustls chooses the ciphers.
fn tls(loaded: &Loaded, shown: &mut Map<String, Value>) {
    let own = loaded.text("ssl_protocols").unwrap_or_default();
    let (protocols, prefer) = match loaded.text("ssl_cipher_suite") {
        Some("modern") => ("TLSv1.3", "off"),
        Some("fips") => ("TLSv1.2", "on"),
        Some("custom") => (own, loaded.text("ssl_prefer_server_ciphers").unwrap_or("on")),
        _ => ("TLSv1.2 TLSv1.3", "off"),
    };
    for block in ["http", "stream"] {
        let mut put = |name: &str, value: &str| _ = shown.insert(format!("nginx_{block}_{name}"), value.into());
        put("ssl_protocols", protocols);
        put("ssl_prefer_server_ciphers", prefer);
        put("ssl_session_tickets", loaded.text("ssl_session_tickets").unwrap_or("on"));
        put("ssl_session_timeout", loaded.text("ssl_session_timeout").unwrap_or("1d"));
        put("lua_ssl_protocols", loaded.text("lua_ssl_protocols").unwrap_or_default());
    }
    let (ciphers, parameters) = match loaded.text("ssl_cipher_suite") {
        Some("modern") => ("", None),
        Some("custom") => (loaded.text("ssl_ciphers").unwrap_or_default(), loaded.text("ssl_dhparam")),
        _ => (INTERMEDIATE_CIPHERS, Some("ffdhe2048")),
    };
    shown.insert("ssl_ciphers".to_owned(), ciphers.into());
    shown.insert("ssl_dhparam".to_owned(), parameters.unwrap_or_default().into());
}

fn listeners(loaded: &Loaded, shown: &mut Map<String, Value>) {
    for name in ["proxy", "admin", "admin_gui", "status", "cluster", "stream"] {
        let entries: Vec<_> = loaded.list(&format!("{name}_listen")).into_iter().filter(|entry| *entry != "off").collect();
        let flags: &[&str] = if name == "stream" { &STREAM_FLAGS } else { &HTTP_FLAGS };
        // http2 on one entry counts for all that share the block, but Kong shows each entry's own.
        let list: Vec<Value> = entries.iter().map(|entry| listener(entry, flags)).collect();
        let ssl = list.iter().any(|listener| listener["ssl"] == true);
        shown.insert(format!("{name}_listeners"), if list.is_empty() { json!({}) } else { list.into() });
        match name {
            "stream" => _ = shown.insert("stream_proxy_ssl_enabled".to_owned(), ssl.into()),
            "cluster" => {}
            _ => _ = shown.insert(format!("{name}_ssl_enabled"), ssl.into()),
        }
    }
}

fn listener(entry: &str, flags: &[&str]) -> Value {
    let mut words = entry.split_whitespace();
    let address = words.next().unwrap_or_default();
    let words: Vec<_> = words.collect();
    let mut shown = Map::new();
    let mut text = address.to_owned();
    for flag in flags {
        let set = words.contains(flag);
        // nginx wants http2 as a directive, so it is not in the listener's text.
        if set && *flag != "http2" {
            text.push(' ');
            text.push_str(flag);
        }
        shown.insert((*flag).to_owned(), set.into());
    }
    // Kong has no such flag, so it is not there unless it is set.
    if words.contains(&"quic") {
        text.push_str(" quic");
        shown.insert("quic".to_owned(), true.into());
    }
    for pattern in VALUED_FLAGS {
        let (name, wanted) = pattern.split_once('=').unwrap_or((pattern, ""));
        let given = words.iter().find(|word| {
            let value = word.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
            value.is_some_and(|value| {
                value == wanted || (wanted.contains('%') && wanted.contains(':') == value.contains(':') && !value.starts_with('o'))
            })
        });
        match given {
            Some(word) => {
                text.push(' ');
                text.push_str(word);
                shown.insert((*word).to_owned(), true.into());
            }
            None => _ = shown.insert(pattern.to_owned(), false.into()),
        }
    }
    if let Some((ip, port)) = address.rsplit_once(':')
        && !address.starts_with("unix:")
    {
        shown.insert("ip".to_owned(), ip.into());
        shown.insert("port".to_owned(), port.parse::<u16>().map_or(Value::Null, Value::from));
    }
    shown.insert("listener".to_owned(), text.into());
    Value::Object(shown)
}

fn headers(loaded: &Loaded, shown: &mut Map<String, Value>) {
    const LATENCIES: [&str; 4] = ["X-Kong-Proxy-Latency", "X-Kong-Response-Latency", "X-Kong-Admin-Latency", "X-Kong-Upstream-Latency"];
    let words: Vec<_> = loaded.list("headers").iter().map(|word| word.to_ascii_lowercase()).collect();
    let has = |name: &str| words.iter().any(|word| *word == name.to_ascii_lowercase());
    let (server, latency) = (has("server_tokens"), has("latency_tokens"));
    let mut enabled = Map::new();
    let mut put = |name: &str, on: bool| _ = enabled.insert(name.to_owned(), (on && !has("off")).into());
    put("server_tokens", server);
    put("latency_tokens", latency);
    for name in ["Server", "Via"] {
        put(name, server || has(name));
    }
    for name in LATENCIES {
        put(name, latency || has(name));
    }
    for name in ["X-Kong-Upstream-Status", "X-Kong-Request-Id"] {
        put(name, has(name));
    }
    shown.insert("enabled_headers".to_owned(), Value::Object(enabled));
    let upstream = loaded.list("headers_upstream").iter().any(|word| word.eq_ignore_ascii_case("x-kong-request-id"));
    shown.insert("enabled_headers_upstream".to_owned(), json!({"X-Kong-Request-Id": upstream}));
}

/// Names of sockets in Kong's prefix, and masked secrets whether they are set or not.
fn fixed(shown: &mut Map<String, Value>) {
    for (key, value) in [("worker_events_sock", "we"), ("cluster_proxy_ssl_terminator_sock", "cp"), ("pg_password", "******")] {
        shown.insert(key.to_owned(), value.into());
    }
}

/// Files of the prefix.
fn paths(prefix: &Path, shown: &mut Map<String, Value>) {
    for (key, path) in [
        ("nginx_pid", "pids/nginx.pid"),
        ("nginx_err_logs", "logs/error.log"),
        ("nginx_acc_logs", "logs/access.log"),
        ("admin_acc_logs", "logs/admin_access.log"),
        ("kong_env", ".kong_env"),
        ("socket_path", "sockets"),
        ("ssl_cert_default", "ssl/portcullis-default.crt"),
        ("ssl_cert_key_default", "ssl/portcullis-default.key"),
        ("admin_ssl_cert_default", "ssl/admin-portcullis-default.crt"),
        ("admin_ssl_cert_key_default", "ssl/admin-portcullis-default.key"),
        ("status_ssl_cert_default", "ssl/status-portcullis-default.crt"),
        ("status_ssl_cert_key_default", "ssl/status-portcullis-default.key"),
        ("client_ssl_cert_default", "ssl/portcullis-default.crt"),
        ("client_ssl_cert_key_default", "ssl/portcullis-default.key"),
        // Files that Kong has beside these, and nobody here writes or reads.
        ("ssl_cert_csr_default", "ssl/portcullis-default.csr"),
        ("ssl_cert_default_ecdsa", "ssl/portcullis-default-ecdsa.crt"),
        ("ssl_cert_key_default_ecdsa", "ssl/portcullis-default-ecdsa.key"),
        ("admin_ssl_cert_default_ecdsa", "ssl/admin-portcullis-default-ecdsa.crt"),
        ("admin_ssl_cert_key_default_ecdsa", "ssl/admin-portcullis-default-ecdsa.key"),
        ("status_ssl_cert_default_ecdsa", "ssl/status-portcullis-default-ecdsa.crt"),
        ("status_ssl_cert_key_default_ecdsa", "ssl/status-portcullis-default-ecdsa.key"),
        ("kong_process_secrets", ".kong_process_secrets"),
    ] {
        shown.insert(key.to_owned(), prefix.join(path).to_string_lossy().into());
    }
    if shown.get("proxy_ssl_enabled") == Some(&Value::Bool(true)) && shown.get("ssl_cert") == Some(&json!({})) {
        shown.insert("ssl_cert".to_owned(), json!([shown["ssl_cert_default"]]));
    }
}

/// `nginx_http_directives` and its like: what each block was given, by name.
fn directives(shown: &mut Map<String, Value>) {
    let mut lists: Vec<(&str, Vec<Value>)> = BLOCKS.iter().map(|block| (*block, Vec::new())).collect();
    for (name, value) in shown.iter() {
        let Some((block, directive)) = block_of(name) else { continue };
        if value.as_str().is_none_or(|value| value == "NONE") || directive == "lua_ssl_protocols" {
            continue;
        }
        if let Some((_, list)) = lists.iter_mut().find(|(known, _)| *known == block) {
            list.push(json!({"name": directive, "value": value}));
        }
    }
    for (block, mut list) in lists {
        let block = match block {
            "wasm" => "wasm_main",
            "wasm_shm_kv" => "wasm_main_shm_kv",
            other => other,
        };
        list.sort_by(|one, other| one["name"].as_str().cmp(&other["name"].as_str()));
        shown.insert(format!("nginx_{block}_directives"), if list.is_empty() { json!({}) } else { list.into() });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::load::load;
    use super::*;

    fn shown(text: &str) -> Map<String, Value> {
        Settings::new(load(text, [], &[])).unwrap().shown()
    }

    #[test]
    fn values_have_kongs_json_types_and_secrets_are_masked() {
        let shown = shown("prefix = /opt/gate/\npg_password = secret\nssl_cert_key =\nport_maps = 443:8443\n");
        assert_eq!(shown["prefix"], "/opt/gate");
        assert_eq!(shown["pg_password"], "******");
        assert_eq!(shown["ssl_cert_key"], "******");
        assert_eq!(shown["pg_port"], 5432);
        assert_eq!(shown["tracing_sampling_rate"], 0.01);
        assert_eq!(shown["anonymous_reports"], true);
        assert_eq!(shown["ssl_session_tickets"], "on");
        assert_eq!(shown["dns_order"], json!(["LAST", "SRV", "A", "CNAME"]));
        assert_eq!(shown["trusted_ips"], json!({}));
        assert_eq!(shown["real_ip_header"], "X-Real-IP");
        assert_eq!(shown["nginx_daemon"], "on");
        assert_eq!(shown["host_ports"], json!({"8443": 443}));
        assert_eq!(shown["nginx_pid"], "/opt/gate/pids/nginx.pid");
        assert_eq!(shown["ssl_cert"], json!(["/opt/gate/ssl/portcullis-default.crt"]));
        assert!(!shown.contains_key("pg_schema"));
    }

    #[test]
    fn listeners_are_taken_apart() {
        let shown =
            shown("proxy_listen = 127.0.0.1:8443 http2 ssl reuseport backlog=16384, [::1]:80 so_keepalive=1m::3\nadmin_gui_listen = off\n");
        let first = &shown["proxy_listeners"][0];
        assert_eq!(
            *first,
            json!({
                "ip": "127.0.0.1", "port": 8443, "listener": "127.0.0.1:8443 ssl reuseport backlog=16384", "ssl": true, "http2": true,
                "reuseport": true, "proxy_protocol": false, "deferred": false, "bind": false, "backlog=16384": true,
                "ipv6only=on": false, "ipv6only=off": false, "so_keepalive=on": false, "so_keepalive=off": false,
                "so_keepalive=%w*:%w*:%d*": false,
            })
        );
        let second = &shown["proxy_listeners"][1];
        assert_eq!((&second["ip"], &second["backlog=%d+"], &second["so_keepalive=1m::3"]), (&"[::1]".into(), &false.into(), &true.into()));
        assert_eq!(shown["admin_gui_listeners"], json!({}));
        assert_eq!((&shown["proxy_ssl_enabled"], &shown["admin_gui_ssl_enabled"]), (&true.into(), &false.into()));
    }

    #[test]
    fn header_tokens_turn_on_what_they_stand_for() {
        let shown = shown("headers = latency_tokens, via\n");
        let enabled = &shown["enabled_headers"];
        assert_eq!((&enabled["X-Kong-Proxy-Latency"], &enabled["Via"], &enabled["Server"]), (&true.into(), &true.into(), &false.into()));
    }

    #[test]
    fn directives_are_listed_by_block_and_name() {
        let shown = shown("nginx_proxy_proxy_buffer_size = 16k\nnginx_proxy_real_ip_recursive = on\nnginx_upstream_keepalive = NONE\n");
        let list = json!([
            {"name": "proxy_buffer_size", "value": "16k"},
            {"name": "real_ip_header", "value": "X-Real-IP"},
            {"name": "real_ip_recursive", "value": "on"},
        ]);
        assert_eq!(shown["nginx_proxy_directives"], list);
        assert_eq!(shown["nginx_upstream_directives"], json!({}));
    }
}
