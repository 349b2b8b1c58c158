#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn catalog() -> Catalog {
    Catalog { entities: crate::core().into_iter().map(Arc::new).collect(), ..Catalog::default() }
}

fn read(tree: Value) -> Result<Document, Box<Refusal>> {
    load_value(&catalog(), tree, 1_700_000_000.0)
}

fn rows(document: &Document, entity: &str) -> Vec<Record> {
    let of = document.records.iter().find(|(schema, _)| schema.name == entity);
    of.map(|(_, rows)| rows.clone()).unwrap_or_default()
}

fn fields(tree: Value) -> Value {
    read(tree).unwrap_err().error().fields.unwrap()
}

fn flattened(tree: Value) -> Value {
    read(tree).unwrap_err().flattened_body()["flattened_errors"].clone()
}

#[test]
fn nested_entities_belong_to_their_parent() {
    let document = read(json!({
        "_format_version": "3.0", "_comment": "all of it", "_ignore": [1],
        "services": [{ "name": "s", "host": "h", "_comment": "one", "routes": [{ "name": "r", "paths": ["/r"] }] }],
        "upstreams": [{ "name": "u", "targets": [{ "target": "10.0.0.1" }] }],
    }))
    .unwrap();
    let (service, route) = (&rows(&document, "services")[0], &rows(&document, "routes")[0]);
    assert_eq!(route["service"]["id"], service["id"]);
    assert_eq!(service["created_at"], 1_700_000_000);
    assert_eq!(rows(&document, "targets")[0]["target"], "10.0.0.1:8000");
    let order: Vec<_> = document.records.iter().map(|(schema, _)| schema.name.to_string()).collect();
    assert_eq!(order, ["services", "routes", "upstreams", "targets"]);
}

#[test]
fn references_are_by_name_or_id() {
    let id = "22222222-0000-4000-8000-000000000001";
    let document = read(json!({
        "_format_version": "3.0",
        "services": [{ "name": "s", "host": "h", "id": id }],
        "routes": [
            { "name": "a", "paths": ["/a"], "service": "s" },
            { "name": "b", "paths": ["/b"], "service": id },
            { "name": "c", "paths": ["/c"], "service": { "id": id } },
        ],
    }))
    .unwrap();
    assert!(rows(&document, "routes").iter().all(|route| route["service"] == json!({ "id": id })));
}

#[test]
fn the_same_document_gets_the_same_ids_and_hash() {
    let tree = json!({ "_format_version": "3.0", "consumers": [{ "username": "u" }, { "custom_id": "only" }] });
    let (one, two) = (read(tree.clone()).unwrap(), read(tree).unwrap());
    assert_eq!(rows(&one, "consumers"), rows(&two, "consumers"));
    assert_eq!(one.hash, two.hash);
    assert_eq!(load(&catalog(), "_format_version: '3.0'", Format::Yaml, 0.0).unwrap().hash, EMPTY_HASH);
    assert_eq!(hash("abc"), "900150983cd24fb0d6963f7d28e17f72");
}

#[test]
fn every_error_is_found_and_told_where_it_is() {
    let found = fields(json!({
        "_format_version": "9", "_info": {}, "consumers": "text",
        "services": [{ "name": "fine", "host": "h" }, { "port": "x", "routes": [{ "paths": ["bad"] }] }],
    }));
    let want = json!({
        "_format_version": "expected one of: 1.1, 2.1, 3.0",
        "_info": "unknown field",
        "consumers": "expected an array",
        "services": [null, {
            "host": "required field missing",
            "port": "expected an integer",
            "routes": [{ "paths": ["should start with: / (fixed path) or ~/ (regex path)"] }],
        }],
    });
    assert_eq!(found, want);
}

#[test]
fn the_message_is_the_tree_in_one_line() {
    let error = read(json!({ "_format_version": "3.0", "services": [{ "name": "s", "host": "h" }, {}] })).unwrap_err().error();
    assert_eq!(error.message, "declarative config is invalid: {services={[2]={host=\"required field missing\"}}}");
    assert_eq!((error.status, error.code), (400, Some(14)));
}

#[test]
fn the_command_line_gets_indented_lines() {
    let refusal = read(json!({ "_format_version": "3.0", "services": [{}], "bogus": 1 })).unwrap_err();
    let want = "in 'bogus': unknown field\nin 'services':\n  - in entry 1 of 'services':\n    in 'host': required field missing";
    assert_eq!(refusal.pretty(), want);
}

#[test]
fn references_that_lead_nowhere_are_named() {
    let found = fields(json!({ "_format_version": "3.0", "routes": [{ "name": "r", "paths": ["/r"], "service": "gone" }] }));
    assert_eq!(found, json!({ "routes": { "r": ["invalid reference 'service: gone' (no such entry in 'services')"] } }));
    let found = fields(json!({ "_format_version": "3.0", "routes": [{ "paths": ["/r"], "service": { "name": "x" } }] }));
    assert_eq!(found, json!({ "routes": [{ "service": { "id": "missing primary key" } }] }));
}

#[test]
fn names_and_ids_are_given_once() {
    let taken = |entity: &str, field: &str, value: &str| {
        format!("uniqueness violation: '{entity}' entity with {field} set to '{value}' already declared")
    };
    let services = json!([{ "name": "a", "host": "h" }, { "name": "a", "host": "i" }]);
    let found = fields(json!({ "_format_version": "3.0", "services": services }));
    assert_eq!(found, json!({ "services": [null, taken("services", "name", "a")] }));
    let found = fields(json!({ "_format_version": "3.0", "consumers": [
        { "username": "u", "custom_id": "same" }, { "username": "v", "custom_id": "same" },
    ] }));
    assert_eq!(found, json!({ "consumers": { "v": taken("consumers", "custom_id", "same") } }));
    let found = fields(json!({ "_format_version": "3.0", "upstreams": [
        { "name": "u", "targets": [{ "target": "a:1" }, { "target": "a:1" }] },
    ] }));
    assert!(found["upstreams"][0]["targets"][1].as_str().unwrap().contains("'targets' entity with primary key set to"));
}

#[test]
fn flattened_errors_stand_for_one_entity_each() {
    let id = "aaaaaaaa-0000-4000-8000-000000000003";
    let found = flattened(json!({ "_format_version": "3.0", "services": [
        { "name": "s", "port": "x", "id": id, "tags": [], "routes": [{ "name": "bad", "methods": ["get"], "tags": ["t"] }, { "name": "worse" }] },
    ] }));
    let text = "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'";
    let want = json!([
        {
            "entity_type": "route", "entity_name": "bad", "entity_tags": ["t"],
            "entity": { "name": "bad", "methods": ["get"], "tags": ["t"], "service": { "id": id } },
            "errors": [{ "type": "field", "field": "methods.1", "message": "invalid value: get" }],
        },
        {
            "entity_type": "route", "entity_name": "worse", "entity": { "name": "worse", "service": { "id": id } },
            "errors": [{ "type": "entity", "message": text }],
        },
        {
            "entity_type": "service", "entity_name": "s", "entity_id": id,
            "entity": { "name": "s", "port": "x", "id": id, "tags": {} },
            "errors": [
                { "type": "field", "field": "port", "message": "expected an integer" },
                { "type": "field", "field": "host", "message": "required field missing" },
            ],
        },
    ]);
    assert_eq!(found, want);
}

#[test]
fn what_belongs_to_no_entity_is_not_flattened() {
    let body = read(json!({ "_format_version": "3.0", "bogus": 1 })).unwrap_err().flattened_body();
    assert_eq!((&body["fields"], &body["flattened_errors"]), (&json!({ "bogus": "unknown field" }), &json!({})));
}

#[test]
fn older_documents_have_their_patterns_marked() {
    let routes = json!([{ "name": "r", "paths": ["/f/(a|b)", "/with%20space", "/plain"] }]);
    let paths = |version: &str| rows(&read(json!({ "_format_version": version, "routes": routes })).unwrap(), "routes")[0]["paths"].clone();
    assert_eq!(paths("2.1"), json!(["~/f/(a|b)", "/with space", "/plain"]));
    assert!(read(json!({ "_format_version": "3.0", "routes": routes })).is_err(), "not normalised");
}

#[test]
fn text_that_is_no_document_is_said_to_be_none() {
    let error = |text: &str, format| load(&catalog(), text, format, 0.0).unwrap_err().error().fields.unwrap();
    let plain = json!({ "error": "failed parsing declarative configuration: expected an object" });
    assert_eq!(error("only words", Format::Unknown), plain);
    assert_eq!(error("[1]", Format::Json), plain);
    assert!(error("services: [", Format::Yaml)["error"].as_str().unwrap().starts_with("failed parsing declarative configuration: "));
    assert_eq!(error("[]", Format::Unknown), json!({ "_format_version": "required field missing" }));
    assert_eq!(Format::of(Path::new("kong.yml")), Ok(Format::Yaml));
    assert_eq!(Format::of(Path::new("kong.txt")), Err("unknown file type: kong.txt. (Accepted types: json, yaml)".to_owned()));
}

#[test]
fn an_export_reads_back_as_what_it_was() {
    let document = read(json!({
        "_format_version": "3.0",
        "services": [{ "name": "s", "host": "h", "tags": ["yes", "3.0", "a: b"], "routes": [{ "name": "r", "paths": ["~/x\\d+"], "headers": { "a": ["1"] } }] }],
        "upstreams": [{ "name": "u", "targets": [{ "target": "a:1" }] }],
    }))
    .unwrap();
    let text = export::text(&document.records);
    assert!(text.contains("_format_version: '3.0'\n_transform: false\n"));
    assert!(!text.contains("null") && text.contains("  client_certificate: ~\n"), "{text}");
    assert!(text.find("\nservices:") < text.find("\nroutes:") && text.contains("  tags:\n  - 'yes'\n  - '3.0'\n"), "{text}");
    let again = load(&catalog(), &text, Format::Yaml, 1_700_000_000.0).unwrap();
    let plain =
        |document: &Document| document.records.iter().map(|(schema, rows)| (schema.name.to_string(), rows.clone())).collect::<Vec<_>>();
    assert_eq!(plain(&again), plain(&document));
}

#[test]
fn the_answer_shows_values_as_they_were_given() {
    let document = read(json!({ "_format_version": "3.0", "upstreams": [{ "name": "u", "targets": [{ "target": "a" }] }] })).unwrap();
    let id = rows(&document, "targets")[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(serde_json::from_slice::<Value>(&document.answer().unwrap()).unwrap()["targets"][&id]["target"], "a");
}

mod anything {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_never_panics(text in "(_format_version: '3.0'\n)?[\\[\\]{}:,\n &*a-c'\"|>!?-]{0,60}") {
            let _ = load(&catalog(), &text, Format::Unknown, 0.0);
        }

        #[test]
        fn trees_never_panic(key in "(services|routes|consumers|plugins|targets)", inner in "(routes|plugins|targets|id|tags|name)", leaf in 0..6_usize) {
            let leaves = [Value::Null, json!([]), json!({}), json!([[]]), json!([{ "id": 5 }, null]), json!("x")];
            for item in [leaves[leaf].clone(), json!([leaves[leaf]]), json!([{ (inner.clone()): leaves[leaf] }])] {
                if let Err(refusal) = read(json!({ "_format_version": "3.0", (key.clone()): item })) {
                    let _ = (refusal.flattened_body(), refusal.pretty(), refusal.error());
                }
            }
        }
    }
}

#[test]
fn the_answer_holds_every_row_by_its_id_however_many_there_are() {
    for count in [1, 25_000] {
        let services: Vec<Value> = (0..count).map(|number| json!({ "name": format!("s{number}"), "host": "h.test" })).collect();
        let document = read(json!({ "_format_version": "3.0", "services": services, "consumers": [{ "username": "u" }] })).unwrap();
        let answer: Value = serde_json::from_slice(&document.answer().unwrap()).unwrap();
        assert_eq!(answer["consumers"].as_object().unwrap().len(), 1);
        let answered = answer["services"].as_object().unwrap();
        assert_eq!(answered.len(), count);
        for row in rows(&document, "services") {
            assert_eq!(answered[row["id"].as_str().unwrap()], Value::Object(row));
        }
    }
}
