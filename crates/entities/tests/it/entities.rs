//! Services, routes, consumers, upstreams, targets, SNIs, vaults.

use std::sync::Arc;

use portcullis_entities::routes::{Flavor, schema_for};
use portcullis_entities::{Consumer, Entity, Plugin, Route, Service, Sni, Target, Upstream, Vault, core};
use portcullis_schema::{ApiError, Catalog, ConfigSchema, Op, Record, Schema, build};
use serde_json::{Value, json};

pub fn catalog() -> Catalog {
    let env = ConfigSchema {
        name: "env".into(),
        priority: 0,
        version: "1.0.0",
        config: build::record_of(vec![("prefix", build::string())], vec![]).required(),
        overrides: vec![],
        checks: vec![],
        shorthands: vec![],
    };
    let entities = core().into_iter().map(Arc::new).collect();
    Catalog { entities, plugins: Default::default(), vaults: [("env".to_owned(), Arc::new(env))].into() }
}

pub fn prepare(schema: &Schema, input: Value) -> Result<Record, ApiError> {
    catalog().prepare(schema, input.as_object().unwrap().clone(), Op::Insert, None, 1_700_000_000.0)
}

pub fn patch(schema: &Schema, existing: &Record, input: Value) -> Result<Record, ApiError> {
    catalog().prepare(schema, input.as_object().unwrap().clone(), Op::Update, Some(existing), 1_700_000_000.0)
}

/// The complaints about an input that is refused.
pub fn refused(schema: &Schema, input: Value) -> Value {
    prepare(schema, input).unwrap_err().fields.unwrap()
}

/// What an input that is taken becomes.
fn made<T: Entity>(input: Value) -> T {
    T::from_record(&prepare(&T::schema(), input).unwrap()).unwrap()
}

#[test]
fn every_schema_can_be_described_and_parents_stand_before_children() {
    let catalog = catalog();
    let mut seen: Vec<&str> = Vec::new();
    for schema in &catalog.entities {
        assert!(catalog.describe(schema)["fields"].is_array());
        for (field, parent, _) in schema.foreigns() {
            assert!(seen.contains(&parent), "{}.{field}", schema.name);
        }
        seen.push(&schema.name);
    }
}

#[test]
fn a_services_url_is_split_and_wins() {
    let service: Service = made(json!({ "url": "https://a.test/x?y=1", "host": "b.test", "port": 1, "path": "/z" }));
    assert_eq!(
        (service.host.as_str(), service.port, service.path.as_deref(), service.protocol.as_str()),
        ("a.test", 443, Some("/x"), "https")
    );
    for (url, host, port, path) in [
        ("http://10.0.0.7:7000/seven#frag", "10.0.0.7", 7000, Some("/seven")),
        ("http://someone:secret@auth.test/", "auth.test", 80, Some("/")),
        ("http://[::1]:8000", "::1", 8000, None),
        ("grpcs://rpc.test", "rpc.test", 80, None),
    ] {
        let service: Service = made(json!({ "url": url }));
        assert_eq!((service.host.as_str(), service.port, service.path.as_deref()), (host, port, path), "{url}");
    }
}

#[test]
fn tls_settings_of_a_service_need_a_tls_protocol() {
    let found = refused(&Service::schema(), json!({ "host": "h", "tls_verify": true }));
    let entity = json!(["failed conditional validation given value of field 'protocol'"]);
    assert_eq!(found, json!({ "@entity": entity, "tls_verify": "value must be null" }));
    assert_eq!(refused(&Service::schema(), json!({ "host": "h", "protocol": "tcp", "path": "/x" }))["path"], "value must be null");
}

#[test]
fn a_route_needs_something_to_match_on() {
    let schema = Route::schema();
    for (protocols, text) in [
        (json!(["http", "https"]), "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'"),
        (json!(["http"]), "must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'http'"),
        (json!(["grpc"]), "must set one of 'hosts', 'headers', 'paths' when 'protocols' is 'grpc'"),
        (json!(["udp"]), "must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'"),
        (json!(["tls_passthrough"]), "must set snis when 'protocols' is 'tls_passthrough'"),
    ] {
        assert_eq!(refused(&schema, json!({ "protocols": protocols, "paths": [] }))["@entity"][0], text);
    }
    assert_eq!(refused(&schema, json!({ "paths": ["/x"], "protocols": [] })), json!({ "protocols": "unknown type: nil" }));
}

#[test]
fn a_route_matches_only_on_what_its_protocols_have() {
    let schema = Route::schema();
    let found = refused(&schema, json!({ "protocols": ["http"], "paths": ["/x"], "sources": [] }));
    assert_eq!(found, json!({ "sources": "cannot set 'sources' when 'protocols' is 'http' or 'https'" }));
    let found = refused(&schema, json!({ "protocols": ["http"], "paths": ["/x"], "snis": ["a.test"] }));
    assert_eq!(found["snis"], "length must be 0");
    let found = refused(&schema, json!({ "protocols": ["http", "tcp"], "paths": ["/x"] }));
    assert_eq!(found, json!({ "protocols": "these sets are mutually exclusive: ('http', 'https'), ('tcp', 'tls', 'udp')" }));
}

#[test]
fn grpc_routes_keep_the_path() {
    let route: Route = made(json!({ "protocols": ["grpc"], "paths": ["/x"] }));
    assert!(!route.strip_path);
    let found = refused(&Route::schema(), json!({ "protocols": ["grpc"], "paths": ["/x"], "strip_path": true }));
    assert_eq!(found, json!({ "strip_path": "cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'" }));
}

#[test]
fn each_bad_path_is_told_at_its_place() {
    let found = refused(&Route::schema(), json!({ "paths": ["/ok", "//bad", "worse", "/a/../b", "~/(", "~/a**", "/x%2"] }));
    let paths = found["paths"].as_array().unwrap();
    assert_eq!(paths[0], Value::Null);
    assert_eq!(paths[1], "must not have empty segments");
    assert_eq!(paths[2], "should start with: / (fixed path) or ~/ (regex path)");
    assert_eq!(paths[3], "non-normalized path, consider use '/b' instead");
    for at in [4, 5] {
        assert!(paths[at].as_str().unwrap().starts_with("invalid regex: '"), "{at}");
    }
    assert_eq!(paths[6], "invalid url-encoded value: '%2'");
    let _: Route = made(json!({ "paths": ["~/items/(?<id>\\d+)$", "~/a+?b", "~/[*+]+", "~/(?:x)?", "/sp ace"] }));
}

#[test]
fn only_the_traditional_router_looks_around() {
    let input = json!({ "paths": ["~/look(?=ahead)"] });
    assert!(refused(&Route::schema(), input.clone())["@entity"][0].as_str().unwrap().starts_with("Router Expression failed validation"));
    assert!(prepare(&schema_for(Flavor::Traditional), input).is_ok());
}

#[test]
fn an_expression_stands_alone() {
    let schema = schema_for(Flavor::Expressions);
    assert!(prepare(&schema, json!({ "expression": "http.path == \"/\"", "priority": 3 })).is_ok());
    let found = refused(&schema, json!({ "expression": "x", "paths": ["/x"] }));
    assert!(found["@entity"][0].as_str().unwrap().contains("cannot set 'expression' with 'methods'"));
    let found = refused(&schema, json!({ "paths": ["/x"], "priority": 5 }));
    assert!(found["@entity"][0].as_str().unwrap().contains("cannot set 'priority' with"));
    assert_eq!(refused(&Route::schema(), json!({ "paths": ["/x"], "priority": 5 })), json!({ "priority": "unknown field" }));
}

#[test]
fn consumers_need_a_name_of_one_kind() {
    let text = "at least one of these fields must be non-empty: 'custom_id', 'username'";
    assert_eq!(refused(&Consumer::schema(), json!({})), json!({ "@entity": [text] }));
    let consumer: Consumer = made(json!({ "custom_id": "c" }));
    assert_eq!(consumer.username, None);
}

#[test]
fn upstreams_are_named_like_hosts() {
    for (name, complaint) in [
        ("10.0.0.1:80", "no ip addresses allowed"),
        ("::1", "no ip addresses allowed"),
        ("a.test:80", "no port allowed"),
        ("bad name", "must be a valid hostname"),
        ("ünicode", "must be a valid hostname"),
    ] {
        assert_eq!(
            refused(&Upstream::schema(), json!({ "name": name })),
            json!({ "name": format!("Invalid name ('{name}'); {complaint}") })
        );
    }
}

#[test]
fn algorithm_and_hashing_pull_each_other_along() {
    for (input, algorithm, hash_on) in [
        (json!({ "hash_on": "ip" }), "consistent-hashing", "ip"),
        (json!({ "algorithm": "least-connections", "hash_on": "ip" }), "least-connections", "none"),
        (json!({ "algorithm": "round-robin", "hash_on": "ip" }), "consistent-hashing", "ip"),
        (json!({ "algorithm": "consistent-hashing" }), "round-robin", "none"),
    ] {
        let mut input = input;
        input["name"] = "u".into();
        let made = prepare(&Upstream::schema(), input).unwrap();
        assert_eq!((&made["algorithm"], &made["hash_on"]), (&json!(algorithm), &json!(hash_on)));
    }
}

#[test]
fn what_is_hashed_must_be_named_and_cannot_fall_back_to_itself() {
    let schema = Upstream::schema();
    assert_eq!(refused(&schema, json!({ "name": "u", "hash_on": "header" }))["hash_on_header"], "required field missing");
    let found = refused(&schema, json!({ "name": "u", "hash_on": "none", "hash_fallback": "ip" }));
    assert_eq!(found["hash_fallback"], "expected one of: none");
    let same = json!({ "name": "u", "hash_on": "header", "hash_on_header": "x", "hash_fallback": "header", "hash_fallback_header": "x" });
    let text = "values of these fields must be distinct: 'hash_on_header', 'hash_fallback_header'";
    assert_eq!(refused(&schema, same), json!({ "@entity": [text] }));
}

#[test]
fn health_checks_merge_deeply() {
    let schema = Upstream::schema();
    let given = json!({ "name": "u", "healthchecks": { "active": { "healthy": { "interval": 5 } } } });
    let upstream = prepare(&schema, given).unwrap();
    assert_eq!(upstream["healthchecks"]["active"]["healthy"], json!({ "interval": 5, "http_statuses": [200, 302], "successes": 0 }));
    let changed = patch(&schema, &upstream, json!({ "healthchecks": { "active": { "healthy": { "successes": 2 } } } })).unwrap();
    assert_eq!(changed["healthchecks"]["active"]["healthy"]["interval"], 5);
    assert!(Upstream::from_record(&changed).is_ok());
}

#[test]
fn targets_are_kept_in_one_form() {
    let upstream = json!({ "id": "5f0dcd1b-0000-4000-8000-00000000beef" });
    for (given, kept) in [
        ("10.0.0.1", "10.0.0.1:8000"),
        ("host.test", "host.test:8000"),
        ("[::1]:90", "[0000:0000:0000:0000:0000:0000:0000:0001]:90"),
        ("010.000.000.002:82", "10.0.0.2:82"),
    ] {
        let target: Target = made(json!({ "target": given, "upstream": upstream }));
        assert_eq!(target.target, kept);
    }
    for bad in ["bad host:80", "10.0.0.1:99999", "10.0.0.256", "http://x.test"] {
        let found = refused(&Target::schema(), json!({ "target": bad, "upstream": upstream }));
        assert_eq!(found, json!({ "target": format!("Invalid target ('{bad}'); not a valid hostname or ip address") }));
    }
}

#[test]
fn snis_are_names_with_a_wildcard_at_one_end() {
    let certificate = json!({ "id": "5f0dcd1b-0000-4000-8000-00000000beef" });
    let sni: Sni = made(json!({ "name": "*.a.test", "certificate": certificate }));
    assert_eq!(sni.name, "*.a.test");
    let found = refused(&Sni::schema(), json!({ "name": "10.0.0.1", "certificate": certificate }));
    assert_eq!(found, json!({ "name": "must not be an IP" }));
}

#[test]
fn vaults_have_a_prefix_of_their_own_and_a_known_kind() {
    let schema = Vault::schema();
    assert!(prepare(&schema, json!({ "name": "env", "prefix": "my-env" })).is_ok());
    assert_eq!(refused(&schema, json!({ "name": "paper", "prefix": "p-1" })), json!({ "name": "vault 'paper' is not installed" }));
    for (prefix, complaint) in [("env", "must not be one of: env"), ("1bad", "invalid value: 1bad"), ("dash-", "invalid value: dash-")] {
        assert_eq!(refused(&schema, json!({ "name": "env", "prefix": prefix })), json!({ "prefix": complaint }));
    }
}

#[test]
fn plugins_of_an_unknown_name_are_refused() {
    let text = "plugin 'x' not enabled; add it to the 'plugins' configuration property";
    assert_eq!(refused(&Plugin::schema(), json!({ "name": "x" })), json!({ "name": text }));
}
