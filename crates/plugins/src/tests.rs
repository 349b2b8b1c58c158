//! What holds for the list as a whole.

use super::{ALL, BEYOND};

/// Kong's order of execution (behaviour checklist 8.3), first to last.
const ORDER: [(&str, i32); 45] = [
    ("pre-function", 1_000_000),
    ("correlation-id", 100_001),
    ("zipkin", 100_000),
    ("bot-detection", 2500),
    ("cors", 2000),
    ("session", 1900),
    ("acme", 1705),
    ("jwt", 1450),
    ("oauth2", 1400),
    ("key-auth", 1250),
    ("ldap-auth", 1200),
    ("basic-auth", 1100),
    ("hmac-auth", 1030),
    ("grpc-gateway", 998),
    ("ip-restriction", 990),
    ("request-size-limiting", 951),
    ("acl", 950),
    ("rate-limiting", 910),
    ("response-ratelimiting", 900),
    ("request-transformer", 801),
    ("response-transformer", 800),
    ("redirect", 779),
    ("ai-request-transformer", 777),
    ("ai-prompt-template", 773),
    ("ai-prompt-decorator", 772),
    ("ai-prompt-guard", 771),
    ("ai-proxy", 770),
    ("ai-response-transformer", 768),
    ("standard-webhooks", 760),
    ("aws-lambda", 750),
    ("azure-functions", 749),
    ("proxy-cache", 100),
    ("opentelemetry", 14),
    ("prometheus", 13),
    ("http-log", 12),
    ("statsd", 11),
    ("datadog", 10),
    ("file-log", 9),
    ("udp-log", 8),
    ("tcp-log", 7),
    ("loggly", 6),
    ("syslog", 4),
    ("grpc-web", 3),
    ("request-termination", 2),
    ("post-function", -1000),
];

#[test]
fn plugins_run_in_kongs_order() {
    let mut listed: Vec<(&str, i32)> = ALL.iter().map(|entry| (entry.name, entry.priority)).collect();
    listed.sort_by_key(|(_, priority)| -priority);
    let expected: Vec<(&str, i32)> = ORDER.into_iter().filter(|(name, _)| ALL.iter().any(|entry| entry.name == *name)).collect();
    assert_eq!(listed, expected);
}

#[test]
fn plugins_beyond_kongs_have_names_and_places_of_their_own() {
    for entry in BEYOND {
        assert!(ALL.iter().all(|other| other.name != entry.name && other.priority != entry.priority), "{}", entry.name);
    }
}

#[test]
fn no_plugin_is_listed_twice_and_the_list_is_sorted() {
    assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name));
}

#[test]
fn every_plugin_has_a_page_for_users() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plugins");
    for entry in ALL.iter().chain(BEYOND) {
        assert!(std::path::Path::new(docs).join(format!("{}.md", entry.name)).is_file(), "docs/plugins/{}.md is missing", entry.name);
    }
}

#[test]
fn indexes_are_of_the_plugins_own_entities() {
    for entry in ALL {
        let entities = (entry.entities)();
        for index in entry.indexes {
            let schema = entities.iter().find(|schema| schema.name == index.entity).expect("an index is of an entity of the plugin");
            assert!(schema.field(index.key).is_some(), "{} has no field {}", index.entity, index.key);
        }
    }
}
