//! What `Catalog::prepare` promises, told on a small entity.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use portcullis_schema::build::*;
use portcullis_schema::{ApiError, Catalog, Check, ConfigSchema, Field, Op, Record, Rule, Schema, Shorthand, Transform};
use serde_json::{Value, json};

const NOW: f64 = 1_700_000_000.25;

fn record_from(value: Value) -> Record {
    value.as_object().unwrap().clone()
}

fn widget_fields() -> Vec<(&'static str, Field)> {
    let inner = record_of(vec![("host", string()), ("port", port().default(6379))], vec![]);
    vec![
        ("id", id()),
        ("created_at", auto_timestamp()),
        ("updated_at", auto_timestamp()),
        ("name", utf8_name().unique()),
        ("kind", string().required().one_of(["a", "b"]).default("a")),
        ("size", integer().between(1, 10)),
        ("labels", tags()),
        ("paths", array(router_path())),
        ("headers", router_headers()),
        ("nested", inner.required()),
        ("secret", string().auto()),
        ("token", string().referenceable().len_min(3)),
        ("fixed", string().immutable()),
        ("parent", foreign_cascade("parents")),
        ("digest", string()),
    ]
}

fn widgets() -> Schema {
    Schema {
        checks: vec![
            Check::AtLeastOneOf(vec!["name", "size"]),
            Check::Conditional {
                if_field: "kind",
                if_match: vec![Rule::Eq(json!("b"))],
                then_field: "nested.host",
                then_match: vec![],
                then_required: true,
                then_error: None,
            },
        ],
        shorthands: vec![Shorthand {
            name: "both",
            field: string(),
            expand: |value, record| {
                record.insert("name".to_owned(), value.clone());
                record.insert("kind".to_owned(), "a".into());
                Ok(())
            },
        }],
        transforms: vec![Transform {
            inputs: &["name"],
            needs: &[],
            apply: |record| {
                let digest = format!("<{}>", record["name"].as_str().unwrap_or_default());
                record.insert("digest".to_owned(), digest.into());
                Ok(())
            },
        }],
        ..Schema::new("widgets", widget_fields())
    }
}

fn plugin() -> ConfigSchema {
    let redis = record_of(vec![("host", string()), ("port", port().default(6379))], vec![]).required();
    let config = record_of(vec![("limit", number().required()), ("redis", redis)], vec![]).required();
    ConfigSchema {
        name: "limiter".into(),
        priority: 1,
        version: "1.0.0",
        config,
        overrides: vec![("consumer", no_consumer())],
        checks: vec![],
        shorthands: vec![Shorthand::moved("redis_host", string(), &["redis", "host"], "use redis.host")],
    }
}

fn plugins() -> Schema {
    let fields = vec![
        ("id", id()),
        ("name", string().required()),
        ("config", record_of(vec![], vec![]).shown("abstract", true)),
        ("consumer", foreign_cascade("consumers").default(Value::Null)),
    ];
    Schema { config_by: Some("name"), ..Schema::new("plugins", fields) }
}

fn catalog() -> Catalog {
    let plugins_by_name = [("limiter".to_owned(), Arc::new(plugin()))].into();
    Catalog { entities: vec![Arc::new(widgets()), Arc::new(plugins())], plugins: plugins_by_name, ..Catalog::default() }
}

fn insert(input: Value) -> Result<Record, ApiError> {
    catalog().prepare(&widgets(), record_from(input), Op::Insert, None, NOW)
}

fn complaints(result: Result<Record, ApiError>) -> Value {
    let error = result.unwrap_err();
    assert_eq!(error.code, Some(2));
    error.fields.unwrap()
}

fn update(existing: &Record, input: Value) -> Result<Record, ApiError> {
    catalog().prepare(&widgets(), record_from(input), Op::Update, Some(existing), NOW + 10.0)
}

fn plug(input: Value) -> Result<Record, ApiError> {
    catalog().prepare(&plugins(), record_from(input), Op::Insert, None, NOW)
}

#[test]
fn everything_absent_is_filled_in() {
    let made = insert(json!({ "name": "x" })).unwrap();
    assert_eq!(made["kind"], "a");
    assert_eq!(made["size"], Value::Null);
    assert_eq!(made["nested"], json!({ "host": null, "port": 6379 }));
    assert_eq!(made["created_at"], 1_700_000_000);
    assert_eq!(made["id"].as_str().unwrap().len(), 36);
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_eq!(made["digest"], "<x>");
}

#[test]
fn a_given_creation_time_is_kept_and_a_given_change_time_is_not() {
    let made = insert(json!({ "name": "x", "created_at": 5, "updated_at": "whenever" })).unwrap();
    assert_eq!((&made["created_at"], &made["updated_at"]), (&json!(5), &json!(1_700_000_000)));
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let found = complaints(insert(json!({ "name": "a b", "size": 11, "labels": "x", "kind": null, "surprise": 1, "token": "ab" })));
    let want = json!({
        "name": "invalid value 'a b': the only accepted ascii characters are alphanumerics or ., -, _, and ~",
        "size": "value should be between 1 and 10",
        "labels": "expected a set",
        "kind": "required field missing",
        "surprise": "unknown field",
        "token": "length must be at least 3",
    });
    assert_eq!(found, want);
}

#[test]
fn elements_are_told_by_place_and_maps_by_their_first_complaint() {
    let found = complaints(insert(json!({ "name": "x", "labels": ["ok", 1, null], "headers": { "a": "b" } })));
    let labels = json!([null, "expected a string", "required field missing"]);
    assert_eq!(found, json!({ "labels": labels, "headers": "expected an array" }));
}

#[test]
fn sets_lose_their_repetitions_and_whole_floats_their_point() {
    let made = insert(json!({ "labels": ["z", "a", "z"], "size": 3.0 })).unwrap();
    assert_eq!((&made["labels"], made["size"].to_string()), (&json!(["z", "a"]), "3".to_owned()));
    assert_eq!(complaints(insert(json!({ "size": 1.5 }))), json!({ "size": "expected an integer" }));
}

#[test]
fn checks_over_several_fields_are_filed_under_the_entity() {
    let text = "at least one of these fields must be non-empty: 'name', 'size'";
    assert_eq!(complaints(insert(json!({}))), json!({ "@entity": [text] }));
    let found = complaints(insert(json!({ "name": "x", "kind": "b" })));
    let want = json!({
        "@entity": ["failed conditional validation given value of field 'kind'"],
        "nested": { "host": "required field missing" },
    });
    assert_eq!(found, want);
}

#[test]
fn a_check_on_a_wrong_field_is_left_out() {
    assert_eq!(complaints(insert(json!({ "name": "x", "kind": "c" }))), json!({ "kind": "expected one of: a, b" }));
}

#[test]
fn vault_references_are_not_looked_into() {
    assert!(insert(json!({ "name": "x", "token": "{vault://env/t}" })).is_ok());
    assert!(insert(json!({ "name": "{vault://env/t}" })).is_err(), "only where a field says so");
}

#[test]
fn references_need_an_id_and_keep_nothing_else() {
    let id = "5f0dcd1b-0000-4000-8000-00000000beef";
    let made = insert(json!({ "name": "x", "parent": { "id": id, "name": "other" } })).unwrap();
    assert_eq!(made["parent"], json!({ "id": id }));
    for (given, complaint) in
        [(json!("x"), "missing primary key"), (json!({}), "missing primary key"), (json!({ "id": "x" }), "expected a valid UUID")]
    {
        assert_eq!(complaints(insert(json!({ "name": "x", "parent": given }))), json!({ "parent": { "id": complaint } }));
    }
}

#[test]
fn a_patch_merges_records_and_replaces_the_rest() {
    let made = insert(json!({ "name": "x", "nested": { "host": "h" }, "labels": ["a"], "headers": { "a": ["1"] } })).unwrap();
    let changed = update(&made, json!({ "nested": { "port": 1 }, "labels": ["b"], "headers": { "b": ["2"] }, "kind": "b" })).unwrap();
    assert_eq!(changed["nested"], json!({ "host": "h", "port": 1 }));
    assert_eq!(changed["labels"], json!(["b"]));
    assert_eq!(changed["headers"], json!({ "b": ["2"] }));
    assert_eq!((&changed["id"], &changed["secret"], &changed["created_at"]), (&made["id"], &made["secret"], &made["created_at"]));
    assert_eq!(changed["updated_at"], 1_700_000_010);
    let unset = update(&changed, json!({ "labels": null, "size": null })).unwrap();
    assert_eq!(unset["labels"], Value::Null);
}

#[test]
fn a_patch_is_told_that_it_is_one() {
    let made = insert(json!({ "name": "x" })).unwrap();
    let text = "when updating, at least one of these fields must be non-empty: 'name', 'size'";
    assert_eq!(complaints(update(&made, json!({ "name": null }))), json!({ "@entity": [text] }));
}

#[test]
fn ids_and_immutable_fields_stay() {
    let made = insert(json!({ "name": "x", "fixed": "a" })).unwrap();
    assert_eq!(complaints(update(&made, json!({ "fixed": "b" }))), json!({ "fixed": "immutable field cannot be updated" }));
    let error = update(&made, json!({ "id": "5f0dcd1b-0000-4000-8000-00000000beef" })).unwrap_err();
    assert_eq!((error.status, error.code), (404, Some(6)));
}

#[test]
fn transformations_run_on_what_was_given_only() {
    let made = insert(json!({ "name": "x" })).unwrap();
    let mut stored = made.clone();
    stored.insert("digest".to_owned(), "kept".into());
    assert_eq!(update(&stored, json!({ "size": 2 })).unwrap()["digest"], "kept");
    assert_eq!(update(&stored, json!({ "name": "y" })).unwrap()["digest"], "<y>");
}

#[test]
fn a_transformation_and_what_it_needs_come_together() {
    let seal = Transform { inputs: &["name"], needs: &["owner.id"], apply: |_| Ok(()) };
    let fields = vec![("name", string()), ("note", string()), ("owner", foreign("people"))];
    let schema = Schema { transforms: vec![seal], ..Schema::new("letters", fields) };
    let run = |op, input: Value, existing: Option<&Record>| complaints(catalog().prepare(&schema, record_from(input), op, existing, 1.0));
    let (one, other) = ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002");
    let refused = json!({ "@entity": ["all or none of these fields must be set: 'name', 'owner.id'"] });

    assert_eq!(run(Op::Insert, json!({ "name": "n" }), None), refused);
    let kept = record_from(json!({ "name": "n", "note": null, "owner": { "id": one } }));
    assert_eq!(run(Op::Update, json!({ "owner": { "id": other } }), Some(&kept)), refused);
    // Kong compares with what is given only: what isn't counts as another.
    assert_eq!(run(Op::Update, json!({ "name": "m" }), Some(&kept)), refused);
    for input in [
        json!({ "note": "x" }),
        json!({ "name": "m", "owner": { "id": one } }),
        json!({ "owner": { "id": one } }),
        json!({ "name": "m", "owner": { "id": other } }),
    ] {
        let prepared = catalog().prepare(&schema, record_from(input.clone()), Op::Update, Some(&kept), 1.0);
        assert!(prepared.is_ok(), "{input}");
    }
}

#[test]
fn an_empty_list_in_place_of_a_record_changes_nothing_of_it() {
    let made = insert(json!({ "name": "x", "nested": { "host": "h" } })).unwrap();
    assert_eq!(update(&made, json!({ "nested": [] })).unwrap()["nested"], json!({ "host": "h", "port": 6379 }));
}

#[test]
fn a_name_that_is_no_text_is_told_by_its_first_element() {
    let refused = |name: Value| complaints(plug(json!({ "name": name })))["name"].clone();
    assert_eq!(refused(json!(["x"])), "plugin 'x' not enabled; add it to the 'plugins' configuration property");
    assert_eq!(refused(json!([])), "plugin 'nil' not enabled; add it to the 'plugins' configuration property");
    assert_eq!(refused(json!({})), "plugin 'nil' not enabled; add it to the 'plugins' configuration property");
}

#[test]
fn what_the_store_keeps_beside_the_fields_survives_a_patch() {
    let mut made = insert(json!({ "name": "x" })).unwrap();
    made.insert("ws_id".to_owned(), "w".into());
    assert_eq!(update(&made, json!({ "size": 2 })).unwrap()["ws_id"], "w");
}

#[test]
fn shorthands_win_and_their_complaints_stand_alone() {
    let made = insert(json!({ "both": "n", "name": "other", "kind": "b" })).unwrap();
    assert_eq!((&made["name"], &made["kind"]), (&json!("n"), &json!("a")));
    assert!(!made.contains_key("both"));
    assert_eq!(complaints(insert(json!({ "both": 5, "size": 99 }))), json!({ "both": "expected a string" }));
}

#[test]
fn a_plugin_is_checked_by_the_schema_its_name_picks() {
    assert_eq!(complaints(plug(json!({}))), json!({ "name": "required field missing" }));
    let unknown = "plugin 'x' not enabled; add it to the 'plugins' configuration property";
    assert_eq!(complaints(plug(json!({ "name": "x", "config": { "a": 1 } }))), json!({ "name": unknown }));
    let consumer = json!({ "id": "5f0dcd1b-0000-4000-8000-00000000beef" });
    let found = complaints(plug(json!({ "name": "limiter", "consumer": consumer, "config": { "more": 1 } })));
    let want = json!({
        "consumer": "value must be null",
        "config": { "limit": "required field missing", "more": "unknown field" },
    });
    assert_eq!(found, want);
}

#[test]
fn moved_settings_are_taken_and_shown_under_both_names() {
    let made = plug(json!({ "name": "limiter", "config": { "limit": 1, "redis_host": "h" } })).unwrap();
    assert_eq!(made["config"], json!({ "limit": 1, "redis": { "host": "h", "port": 6379 } }));
    let shown = catalog().shown(&plugins(), made.clone());
    assert_eq!(shown["config"]["redis_host"], "h");
    let again = catalog().prepare(&plugins(), record_from(json!({ "config": { "redis_host": "new" } })), Op::Update, Some(&made), NOW);
    assert_eq!(again.unwrap()["config"]["redis"]["host"], "new");
    let clash = plug(json!({ "name": "limiter", "config": { "limit": 1, "redis_host": "h", "redis": { "host": "i" } } }));
    let text = "both deprecated and new field are used but their values mismatch: redis_host = h vs redis.host = i";
    assert_eq!(complaints(clash), json!({ "redis_host": text }));
}

#[test]
fn form_values_get_the_types_of_their_fields() {
    let input = json!({ "name": "7", "size": "3", "labels": "one", "token": "", "nested": { "port": "1" }, "paths": ["/a"], "kind": "a" });
    let typed = catalog().infer(&widgets(), record_from(input), None);
    let want = json!({ "name": "7", "size": 3, "labels": ["one"], "token": null, "nested": { "port": 1 }, "paths": ["/a"], "kind": "a" });
    assert_eq!(Value::Object(typed), want);
    let plugin = catalog().infer(&plugins(), record_from(json!({ "name": "limiter", "config": { "limit": "1.5" } })), None);
    assert_eq!(plugin["config"]["limit"], 1.5);
}

#[test]
fn a_plugin_is_described_with_what_it_overrides() {
    let described = catalog().describe_plugin(&plugin());
    assert_eq!(described["fields"][0]["consumer"], json!({ "type": "foreign", "reference": "consumers", "eq": null }));
    let config = &described["fields"][1]["config"];
    assert_eq!(config["shorthand_fields"][0]["redis_host"]["deprecation"]["replaced_with"], json!([{ "path": ["redis", "host"] }]));
}

mod anything {
    use super::*;
    use proptest::prelude::*;

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-zA-Z0-9/~:%.*\\[(é_ -]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,4}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Any value under the entity's own names and some others.
    fn input() -> impl Strategy<Value = Record> {
        let mut names: Vec<String> = widget_fields().into_iter().map(|(name, _)| name.to_owned()).collect();
        names.extend(["both", "config", "consumer", "other"].map(str::to_owned));
        prop::collection::btree_map(prop::sample::select(names), json_value(), 0..8).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn never_panics(input in input(), plugin in any::<bool>()) {
            let mut input = input;
            let schema = if plugin { input.insert("name".to_owned(), "limiter".into()); plugins() } else { widgets() };
            let _ = catalog().prepare(&schema, input.clone(), Op::Insert, None, NOW);
            let _ = catalog().infer(&schema, input.clone(), None);
            let made = insert(json!({ "name": "x" })).unwrap();
            let _ = catalog().prepare(&schema, input, Op::Update, Some(&made), NOW);
        }

        #[test]
        fn what_is_valid_stays_as_it_is(
            name in "[a-z]{1,8}", size in 1..10_i64, labels in prop::collection::vec("[a-z]{1,3}", 0..6), port in 0..65535_u32,
        ) {
            let made = insert(json!({ "name": name, "size": size, "labels": labels, "nested": { "port": port } })).unwrap();
            prop_assert_eq!(&insert(Value::Object(made.clone())).unwrap(), &made);
            let patched = catalog().prepare(&widgets(), made.clone(), Op::Update, Some(&made), NOW).unwrap();
            prop_assert_eq!(&patched, &made);
        }
    }
}
