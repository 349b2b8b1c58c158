//! Any sequence of operations leaves every store with the same rows, and answers the same.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::kit::{Kit, bare, id};
use crate::{ChangeSet, Operation, StoreError};

/// One operation over few ids and few values, so that they meet.
#[derive(Clone, Debug)]
enum Act {
    Write { how: u8, entity: usize, id: u128, value: Option<u8>, references: [Option<u128>; 2], tags: Vec<u8>, ttl: Option<u8> },
    Delete { entity: usize, id: u128 },
    Clear,
}

#[derive(Clone, Debug)]
enum Moment {
    Apply(Vec<Act>),
    /// Milliseconds pass.
    Wait(u16),
}

const ENTITIES: [&str; 6] = ["houses", "rooms", "lamps", "bulbs", "passes", "stamps"];

fn act() -> impl Strategy<Value = Act> {
    let some_id = || prop::option::weighted(0.7, 1..5_u128);
    let write = (
        0..3_u8,
        0..ENTITIES.len(),
        1..5_u128,
        prop::option::of(0..3_u8),
        [some_id(), some_id()],
        prop::collection::vec(0..3_u8, 0..3),
        prop::option::of(0..4_u8),
    );
    let write =
        write.prop_map(|(how, entity, id, value, references, tags, ttl)| Act::Write { how, entity, id, value, references, tags, ttl });
    let delete = (0..ENTITIES.len(), 1..5_u128).prop_map(|(entity, id)| Act::Delete { entity, id });
    prop_oneof![24 => write, 8 => delete, 1 => Just(Act::Clear)]
}

fn moments() -> impl Strategy<Value = Vec<Moment>> {
    let moment = prop_oneof![
        8 => prop::collection::vec(act(), 1..3).prop_map(Moment::Apply),
        1 => (0..3000_u16).prop_map(Moment::Wait),
    ];
    prop::collection::vec(moment, 1..40)
}

fn operation(kit: &Kit, act: &Act) -> Operation {
    let (how, entity, row, value, references, tags, ttl) = match act {
        Act::Clear => return Operation::Clear,
        Act::Delete { entity, id: row } => return Operation::Delete(kit.schema(ENTITIES[*entity]), id(*row)),
        Act::Write { how, entity, id, value, references, tags, ttl } => (how, *entity, *id, value, references, tags, ttl),
    };
    let to = |at: usize| references[at].map_or(Value::Null, |number| json!({ "id": id(number) }));
    let text = value.map(|value| format!("v{value}"));
    let mut record = match ENTITIES[entity] {
        "houses" => json!({ "name": text }),
        "rooms" => json!({ "name": text, "house": to(0) }),
        "lamps" => json!({ "kind": text, "room": to(0), "house": to(1) }),
        "bulbs" => json!({ "lamp": to(0), "spare_in": to(1) }),
        "passes" => json!({ "code": text, "house": to(0), "ttl": ttl }),
        _ => json!({ "pass": to(0) }),
    };
    record["id"] = json!(id(row));
    record["tags"] = tags.iter().map(|tag| format!("t{tag}")).collect();
    let Value::Object(record) = record else { unreachable!("built as an object") };
    let schema = kit.schema(ENTITIES[entity]);
    match how {
        0 => Operation::Insert(schema, record),
        1 => Operation::Update(schema, record),
        _ => Operation::Upsert(schema, record),
    }
}

/// Rows to start with, each referring to those before it: what follows then finds something to touch.
fn crowd(kit: &Kit) -> Vec<Operation> {
    let rows = (0..ENTITIES.len()).flat_map(|entity| (1..4).map(move |id| (entity, id)));
    let writes = rows.map(|(entity, id)| {
        let tags = vec![id as u8 - 1];
        Act::Write { how: 0, entity, id, value: Some(id as u8 + 10), references: [Some(id), Some(1)], tags, ttl: None }
    });
    writes.map(|write| operation(kit, &write)).collect()
}

/// What a change set came to, comparable between stores.
fn told(result: Result<Arc<crate::Applied>, StoreError>) -> String {
    match result {
        Ok(applied) => {
            let changes = applied.changes.iter().map(|change| {
                let [old, new] = [&change.old, &change.new].map(|row| row.clone().map(bare));
                format!("{} {} {old:?} {new:?}", change.schema.name, change.id)
            });
            format!("version {} reload {} {:?}", applied.version, applied.reload, changes.collect::<Vec<_>>())
        }
        Err(StoreError::Refused { operation, error }) => format!("{operation}: {error}"),
        Err(StoreError::Unavailable(cause)) => panic!("{cause}"),
    }
}

#[test]
fn the_same_operations_leave_the_same_rows_in_every_store() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let same = |moments: Vec<Moment>| {
        runtime.block_on(async {
            let kits = [Kit::embedded(), Kit::declarative(), Kit::postgres().await];
            for kit in &kits {
                kit.store.apply(ChangeSet { operations: crowd(kit) }).await.unwrap();
            }
            for moment in &moments {
                match moment {
                    Moment::Wait(milliseconds) => kits.iter().for_each(|kit| kit.advance(u64::from(*milliseconds))),
                    Moment::Apply(acts) => {
                        let mut answers = Vec::new();
                        for kit in &kits {
                            let operations = acts.iter().map(|act| operation(kit, act)).collect();
                            answers.push(told(kit.store.apply(ChangeSet { operations }).await));
                        }
                        prop_assert_eq!(&answers[0], &answers[1]);
                        prop_assert_eq!(&answers[0], &answers[2]);
                    }
                }
            }
            let everything = kits[0].everything().await;
            prop_assert_eq!(&everything, &kits[1].everything().await);
            prop_assert_eq!(&everything, &kits[2].everything().await);
            Ok(())
        })
    };
    TestRunner::new(config).run(&moments(), same).unwrap();
}
