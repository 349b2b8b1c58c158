//! Whatever JSON is sent to whatever entity: the answer is never our fault, and what is refused leaves nothing behind.

use std::sync::Arc;

use portcullis_schema::field::Kind;
use portcullis_schema::{Field, Record, Rule, Schema};
use portcullis_store::Filter;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::kit::{Gateway, Reply, catalog};

/// Rows that references may point to; an upper part of the last is never there.
const IDS: [&str; 4] = [
    "00000000-0000-4000-8000-000000000001",
    "00000000-0000-4000-8000-000000000002",
    "00000000-0000-4000-8000-000000000003",
    "ffffffff-0000-4000-8000-000000000004",
];
const TEXTS: [&str; 16] = [
    "",
    "a",
    "limit",
    "who",
    "http",
    "tcp",
    "x.example.test",
    "*.example.test",
    "/p",
    "~/p(",
    "127.0.0.1:80",
    "::1",
    "{vault://env/x}",
    "a,b/c",
    "\u{0}\u{7f}é",
    "http://x.example.test:99/p",
];

/// One request: verb, what stands in the place of the id, and the body.
#[derive(Clone, Debug)]
struct Write {
    method: &'static str,
    schema: Arc<Schema>,
    place: String,
    body: Value,
}

fn anything() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        select(vec![0_i64, 1, -1, 80, 65536, i64::MAX, i64::MIN]).prop_map(Value::from),
        select(vec![0.5, -0.0, 1e300]).prop_map(Value::from),
        select(&TEXTS[..]).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        select(&IDS[..]).prop_map(|id| json!({ "id": id })),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        let names = prop_oneof![select(&["id", "name", "1", "@entity"][..]).prop_map(str::to_owned), any::<String>()];
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((names, inner), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
    .boxed()
}

/// Something of the right kind, mostly.
fn fitting(field: &Field) -> BoxedStrategy<Value> {
    let choices = field.rules.iter().find_map(|rule| match rule {
        Rule::OneOf(values) => Some(values.clone()),
        _ => None,
    });
    if let Some(choices) = choices.filter(|choices| !choices.is_empty()) {
        return select(choices).boxed();
    }
    match &field.kind {
        Kind::String => prop_oneof![select(&TEXTS[..]), select(&IDS[..])].prop_map(Value::from).boxed(),
        Kind::Integer | Kind::Number => select(vec![0_i64, 1, 10, 80, 443, 60000]).prop_map(Value::from).boxed(),
        Kind::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        Kind::Array(element) | Kind::Set(element) => vec(fitting(element), 0..3).prop_map(Value::from).boxed(),
        Kind::Map { values, .. } => vec((select(&TEXTS[..]), fitting(values)), 0..3)
            .prop_map(|entries| Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()))
            .boxed(),
        Kind::Record(record) => of_fields(record.fields.iter().map(|(name, field)| (name.to_string(), field.clone())).collect()),
        Kind::Foreign { .. } => prop_oneof![
            select(&IDS[..]).prop_map(|id| json!({ "id": id })),
            select(&TEXTS[..]).prop_map(|name| json!({ "name": name, "username": name })),
        ]
        .boxed(),
        Kind::Json => anything(),
    }
}

/// An object with some of these fields, most of them of the right kind.
fn of_fields(fields: Vec<(String, Field)>) -> BoxedStrategy<Value> {
    let mut all: BoxedStrategy<Record> = Just(Record::new()).boxed();
    for (name, field) in fields {
        let value = prop_oneof![4 => Just(None), 6 => fitting(&field).prop_map(Some), 1 => anything().prop_map(Some)];
        all = (all, value)
            .prop_map(move |(mut record, value)| {
                record.extend(value.map(|value| (name.clone(), value)));
                record
            })
            .boxed();
    }
    all.prop_map(Value::Object).boxed()
}

fn writes() -> impl Strategy<Value = Write> {
    let entities: Vec<Arc<Schema>> = catalog().entities.into_iter().filter(|schema| schema.admin_api && !schema.read_only).collect();
    let by_entity = entities.into_iter().map(|schema| {
        let mut fields: Vec<(String, Field)> = schema.fields.iter().map(|(name, field)| (name.to_string(), field.clone())).collect();
        fields.extend(schema.shorthands.iter().map(|shorthand| (shorthand.name.to_owned(), shorthand.field.clone())));
        let body = prop_oneof![12 => of_fields(fields), 1 => anything()];
        let place = prop_oneof![select(&IDS[..]), select(&["a", "x.example.test"][..])];
        (select(&["POST", "PUT", "PATCH"][..]), place, body).prop_map(move |(method, place, body)| Write {
            method,
            schema: schema.clone(),
            place: place.to_owned(),
            body,
        })
    });
    proptest::strategy::Union::new(by_entity.map(Strategy::boxed))
}

/// Every row of every entity.
async fn everything(gateway: &Gateway) -> Vec<(String, Record)> {
    let mut all = Vec::new();
    for schema in gateway.catalog.entities.iter().filter(|schema| schema.field("id").is_some() && !schema.read_only) {
        let page = gateway.store.page(schema, None, 1000, Filter::default()).await.unwrap();
        all.extend(page.rows.into_iter().map(|row| (schema.name.to_string(), row)));
    }
    all
}

async fn sent(gateway: &Gateway, write: &Write) -> Reply {
    let collection = format!("/{}", write.schema.admin_name.unwrap_or(&write.schema.name));
    let below = match &*write.schema.name {
        "targets" => format!("/upstreams/{}/targets", IDS[0]),
        "acls" => format!("/consumers/{}/acls", IDS[0]),
        _ => collection,
    };
    let path = if write.method == "POST" { below } else { format!("{below}/{}", write.place) };
    gateway.json(write.method, &path, write.body.clone()).await
}

#[test]
fn arbitrary_bodies_are_never_our_fault_and_leave_nothing_half_written() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let gateway = runtime.block_on(async {
        let gateway = Gateway::start().await;
        gateway.put(&format!("/services/{}", IDS[0]), json!({ "name": "a", "host": "x.example.test" })).await.expect(200);
        gateway.put(&format!("/consumers/{}", IDS[0]), json!({ "username": "a" })).await.expect(200);
        gateway.put(&format!("/upstreams/{}", IDS[0]), json!({ "name": "x.example.test" })).await.expect(200);
        gateway.put(&format!("/routes/{}", IDS[1]), json!({ "name": "a", "paths": ["/p"] })).await.expect(200);
        gateway
    });
    let mut runner = TestRunner::new(Config { cases: 1200, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&writes(), |write| {
        runtime.block_on(async {
            let before = everything(&gateway).await;
            let reply = sent(&gateway, &write).await;
            prop_assert!(reply.status < 500, "{} {}: {}", reply.status, write.schema.name, reply.text);
            if reply.status >= 400 {
                prop_assert_eq!(before, everything(&gateway).await, "refused with {} and yet written", reply.text);
                return Ok(());
            }
            // What was written is there as it was answered, and passes its own schema again.
            let id = reply.body["id"].as_str().unwrap_or_default().to_owned();
            let after = everything(&gateway).await;
            let row = after.iter().find(|(entity, row)| *entity == write.schema.name && row["id"] == id.as_str());
            let (_, row) = row.ok_or_else(|| TestCaseError::fail(format!("{} is not there", reply.text)))?;
            for (name, _) in write.schema.fields.iter().filter(|(_, field)| !field.transient) {
                prop_assert_eq!(
                    &reply.body[name.as_ref()],
                    row.get(name.as_ref()).unwrap_or(&Value::Null),
                    "{} of {}",
                    name,
                    write.schema.name
                );
            }
            Ok(())
        })
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
