//! How long loading, scanning and looking up take, for eyes only.

use std::time::Instant;

use serde_json::json;
use uuid::Uuid;

use super::{Kit, id};
use crate::{ChangeSet, Filter, Key};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by hand"]
async fn how_long_things_take() {
    for (name, kit) in [("embedded", Kit::embedded()), ("declarative", Kit::declarative())] {
        let store = kit.store.clone();
        let mut lap = Instant::now();
        let mut took = |what: &str| {
            eprintln!("{name}: {what} in {:?}", lap.elapsed());
            lap = Instant::now();
        };
        let mut operations = vec![kit.operation_insert("houses", json!({ "id": id(1), "name": "mill" }))];
        operations.extend((1..=100_000).map(|number| {
            let walls = ["north", "east", "south", "west"].repeat(10);
            let record =
                json!({ "id": Uuid::new_v4(), "name": format!("room-{number}"), "house": { "id": id(1) }, "walls": walls, "tags": ["a"] });
            kit.operation_insert("rooms", record)
        }));
        took("100,000 rooms made up");
        store.apply(ChangeSet { operations }).await.unwrap();
        took("100,000 rooms loaded");
        for chunk in 0..100_u32 {
            let operations = (0..10_000).map(|number| {
                let code = format!("code-{chunk}-{number}-0123456789abcdef");
                kit.operation_insert("passes", json!({ "id": Uuid::new_v4(), "code": code, "house": { "id": id(1) }, "created_at": 1 }))
            });
            store.apply(ChangeSet { operations: operations.collect() }).await.unwrap();
        }
        took("1,000,000 passes loaded in 100 change sets");
        let passes = kit.schema("passes");
        let mut after = None;
        loop {
            let page = store.page(&passes, after, 1000, Filter::default()).await.unwrap();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        took("1,000,000 passes scanned");
        for number in 0..10_000 {
            let code = format!("code-{}-{number}-0123456789abcdef", number % 100);
            assert!(store.get(&passes, Key::Unique("code".into(), json!(code))).await.unwrap().is_some());
        }
        took("10,000 passes found by code, one after the other");
        for number in 10..110 {
            let house = kit.operation_insert("houses", json!({ "id": id(number), "name": format!("h{number}") }));
            store.apply(ChangeSet { operations: vec![house] }).await.unwrap();
        }
        took("100 single writes");
    }
}
