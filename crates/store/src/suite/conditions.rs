//! What change sets require, and changes that are only tried.

use std::sync::Arc;

use portcullis_schema::Record;
use serde_json::json;

use super::{Kit, id, refused};
use crate::{ChangeSet, Expected, Key, Operation};

fn unchanged(kit: &Kit, entity: &str, number: u128, row: Record) -> Operation {
    Operation::Require(kit.schema(entity), id(number), Expected::Unchanged(row))
}

pub(super) async fn what_a_change_set_requires_is_checked_when_its_turn_comes(kit: Kit) {
    let first = kit.insert("houses", json!({ "id": id(1), "name": "mill", "number": 1.5 })).await.unwrap();
    let rename = |name: &str| {
        Operation::Update(kit.schema("houses"), Record::from_iter([("id".into(), json!(id(1))), ("name".into(), json!(name))]))
    };
    let operations = vec![unchanged(&kit, "houses", 1, first.clone()), rename("farm")];
    let applied = kit.store.apply(ChangeSet { operations }).await.unwrap();
    assert_eq!(applied.changes.len(), 1, "a requirement changes nothing");

    // Refused as a whole, what stands before it included.
    let operations =
        vec![kit.operation_insert("houses", json!({ "id": id(2), "name": "inn" })), unchanged(&kit, "houses", 1, first), rename("barn")];
    let error = refused(kit.store.apply(ChangeSet { operations }).await);
    assert_eq!((error.status, error.code, error.name.as_ref()), (412, None, "precondition failed"));
    assert_eq!(error.fields, Some(json!({ "id": id(1) })));
    assert_eq!(kit.ids("houses").await, [id(1)]);
    assert_eq!(kit.get("houses", Key::Id(id(1))).await.unwrap()["name"], "farm");

    let present = |number| Operation::Require(kit.schema("houses"), id(number), Expected::Present);
    kit.one(present(1)).await.unwrap();
    assert_eq!(refused(kit.one(present(2)).await).status, 412);
    assert_eq!(refused(kit.one(unchanged(&kit, "houses", 2, Record::new())).await).status, 412);
    // It sees what the same change set did before.
    let operations = vec![kit.operation_insert("houses", json!({ "id": id(2), "name": "inn" })), present(2)];
    kit.store.apply(ChangeSet { operations }).await.unwrap();
}

pub(super) async fn of_writers_that_require_the_same_row_unchanged_one_wins(kit: Kit) {
    let kit = Arc::new(kit);
    let row = kit.insert("houses", json!({ "id": id(1), "name": "mill" })).await.unwrap();
    let writers: Vec<_> = (0..20)
        .map(|number| {
            let (kit, row) = (kit.clone(), row.clone());
            tokio::spawn(async move {
                let changed = Record::from_iter([("id".into(), json!(id(1))), ("number".into(), json!(number))]);
                let operations = vec![unchanged(&kit, "houses", 1, row), Operation::Update(kit.schema("houses"), changed)];
                kit.store.apply(ChangeSet { operations }).await.is_ok()
            })
        })
        .collect();
    let mut won = 0;
    for writer in writers {
        won += usize::from(writer.await.unwrap());
    }
    assert_eq!(won, 1);
}

pub(super) async fn a_requirement_does_not_look_at_what_remains_of_a_time_to_live(kit: Kit) {
    let row = kit.insert("passes", json!({ "id": id(1), "code": "x", "ttl": 60 })).await.unwrap();
    kit.advance(5_000);
    kit.one(unchanged(&kit, "passes", 1, row.clone())).await.unwrap();
    kit.advance(60_000);
    assert_eq!(refused(kit.one(unchanged(&kit, "passes", 1, row)).await).status, 412);
}

pub(super) async fn a_rehearsal_shows_its_changes_to_nobody_and_leaves_none(kit: Kit) {
    kit.street().await;
    let before = kit.everything().await;
    let mut feed = kit.store.changes();
    {
        let rehearsal = Kit::of(kit.store.rehearse().await.unwrap(), Arc::default());
        let farm = rehearsal.insert("houses", json!({ "id": id(2), "name": "farm", "tags": ["new"] })).await.unwrap();
        assert_eq!(rehearsal.get("houses", Key::Unique("name".into(), json!("farm"))).await, Some(farm));
        assert_eq!(rehearsal.ids("houses").await, [id(1), id(2)]);
        assert_eq!(rehearsal.store.tagged(Some("new"), None, 9).await.unwrap().len(), 1);
        // A refused change leaves those before it.
        assert_eq!(refused(rehearsal.insert("houses", json!({ "id": id(3), "name": "farm" })).await).code, Some(5));
        assert_eq!(refused(rehearsal.delete("houses", id(1)).await).code, Some(4));
        assert_eq!(rehearsal.delete("lamps", id(20)).await.unwrap().changes.len(), 2);
        assert_eq!(rehearsal.ids("houses").await, [id(1), id(2)]);
        assert_eq!(kit.get("houses", Key::Id(id(2))).await, None);
    }
    assert_eq!(kit.everything().await, before);
    // Writers that had to wait go on, and theirs is the first change that is told.
    kit.insert("houses", json!({ "id": id(5), "name": "inn" })).await.unwrap();
    assert_eq!(feed.recv().await.unwrap().changes[0].id, id(5));
}
