//! What every store does, as one suite that all of them pass.
//!
//! The test catalog is a street of [`kit`]: houses have rooms, rooms and houses have lamps, houses give out passes that
//! expire. Every test is a sentence and gets a fresh, empty store.

#![allow(clippy::unwrap_used, clippy::panic)]

mod conditions;
mod counting;
mod kit;
mod measure;
mod property;

use std::sync::Arc;

use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use crate::{ChangeSet, Filter, Key, Operation, StoreError, Tags};
use conditions::*;
use counting::*;
pub(crate) use kit::{Kit, catalog, clock, id, refused, settings};

/// Runs each sentence on each store.
macro_rules! on_every_store {
    ($($sentence:ident)*) => {
        mod embedded { $(#[tokio::test] async fn $sentence() { super::$sentence(super::Kit::embedded()).await; })* }
        mod postgres { $(#[tokio::test] async fn $sentence() { super::$sentence(super::Kit::postgres().await).await; })* }
        mod declarative { $(#[tokio::test] async fn $sentence() { super::$sentence(super::Kit::declarative()).await; })* }
    };
}

on_every_store! {
    a_row_is_found_by_id_by_unique_value_and_by_composite_key
    an_update_replaces_the_row_and_frees_its_old_values
    an_update_of_nothing_is_not_found
    an_upsert_inserts_and_then_replaces
    deleting_what_is_not_there_is_fine
    a_taken_id_is_a_primary_key_violation
    a_taken_value_names_the_field
    a_taken_combination_names_every_field_and_counts_nulls
    nulls_are_never_taken
    values_are_told_apart_by_case
    a_reference_to_nothing_is_refused
    a_row_that_is_referenced_stays
    a_delete_takes_its_dependants_first
    a_restricting_row_that_goes_too_does_not_restrict
    a_deeper_restriction_stops_the_whole_delete
    a_refused_operation_undoes_those_before_it
    pages_are_in_order_of_id_and_cover_everything_once
    pages_stay_stable_while_rows_come_and_go
    pages_of_a_parent_show_its_rows_only
    tags_filter_with_and_and_or
    tags_are_listed_by_row_and_in_the_order_given
    tags_follow_updates_and_deletes
    time_to_live_counts_down_and_then_the_row_is_gone
    a_written_back_time_to_live_changes_nothing
    an_expired_row_gives_up_its_id_and_its_values
    an_expired_row_cannot_be_referenced_or_updated
    the_feed_tells_every_change_in_order
    a_refused_change_set_is_not_told
    a_subscriber_that_falls_behind_is_told_so
    a_clear_replaces_everything_at_once
    writers_that_compete_are_served_one_after_the_other
    fields_that_are_never_kept_are_dropped
    numbers_and_text_come_back_as_they_were
    what_a_change_set_requires_is_checked_when_its_turn_comes
    of_writers_that_require_the_same_row_unchanged_one_wins
    a_requirement_does_not_look_at_what_remains_of_a_time_to_live
    counters_are_added_to_all_together_or_not_at_all
    a_rehearsal_shows_its_changes_to_nobody_and_leaves_none
}

async fn a_row_is_found_by_id_by_unique_value_and_by_composite_key(kit: Kit) {
    kit.insert("houses", json!({ "id": id(1), "name": "mill" })).await.unwrap();
    let lamp = kit.insert("lamps", json!({ "id": id(2), "kind": "oil", "house": { "id": id(1) }, "room": null })).await.unwrap();
    let house = kit.get("houses", Key::Id(id(1))).await;
    assert_eq!(house, kit.get("houses", Key::Unique("name".into(), json!("mill"))).await);
    assert_eq!(house.unwrap()["name"], "mill");
    let key = |kind: &str, house: serde_json::Value| {
        Key::Composite(vec![("house".into(), house), ("kind".into(), json!(kind)), ("room".into(), json!(null))])
    };
    assert_eq!(kit.get("lamps", key("oil", json!(id(1).to_string()))).await, Some(lamp.clone()));
    assert_eq!(kit.get("lamps", key("oil", json!({ "id": id(1) }))).await, Some(lamp));
    assert_eq!(kit.get("lamps", key("gas", json!(id(1).to_string()))).await, None);
    assert_eq!(kit.get("lamps", key("oil", json!(null))).await, None);
    assert_eq!(kit.get("houses", Key::Id(id(9))).await, None);
    assert_eq!(kit.get("houses", Key::Unique("name".into(), json!(null))).await, None);
}

async fn an_update_replaces_the_row_and_frees_its_old_values(kit: Kit) {
    kit.insert("houses", json!({ "id": id(1), "name": "mill", "number": 7 })).await.unwrap();
    kit.update("houses", json!({ "id": id(1), "name": "farm" })).await.unwrap();
    assert_eq!(kit.get("houses", Key::Unique("name".into(), json!("mill"))).await, None);
    let house = kit.get("houses", Key::Unique("name".into(), json!("farm"))).await.unwrap();
    assert_eq!(house.get("number"), None);
    kit.insert("houses", json!({ "id": id(2), "name": "mill" })).await.unwrap();
}

async fn an_update_of_nothing_is_not_found(kit: Kit) {
    let error = refused(kit.update("houses", json!({ "id": id(1), "name": "mill" })).await);
    assert_eq!((error.status, error.code), (404, Some(6)));
    assert_eq!(error.message, format!("could not find the entity with primary key '{{id=\"{}\"}}'", id(1)));
    assert_eq!(error.fields, Some(json!({ "id": id(1) })));
}

async fn an_upsert_inserts_and_then_replaces(kit: Kit) {
    kit.upsert("houses", json!({ "id": id(1), "name": "mill" })).await.unwrap();
    kit.upsert("houses", json!({ "id": id(1), "name": "farm" })).await.unwrap();
    assert_eq!(kit.ids("houses").await, [id(1)]);
    kit.insert("houses", json!({ "id": id(2), "name": "mill" })).await.unwrap();
    let error = refused(kit.upsert("houses", json!({ "id": id(2), "name": "farm" })).await);
    assert_eq!(error.code, Some(5));
}

async fn deleting_what_is_not_there_is_fine(kit: Kit) {
    let applied = kit.delete("houses", id(1)).await.unwrap();
    assert!(applied.changes.is_empty());
}

async fn a_taken_id_is_a_primary_key_violation(kit: Kit) {
    kit.insert("houses", json!({ "id": id(1), "name": "mill" })).await.unwrap();
    // The id is complained about before the name.
    let error = refused(kit.insert("houses", json!({ "id": id(1), "name": "mill" })).await);
    assert_eq!((error.status, error.code), (400, Some(3)));
    assert_eq!(error.message, format!("primary key violation on key '{{id=\"{}\"}}'", id(1)));
}

async fn a_taken_value_names_the_field(kit: Kit) {
    kit.insert("houses", json!({ "id": id(1), "name": "mill" })).await.unwrap();
    let error = refused(kit.insert("houses", json!({ "id": id(2), "name": "mill" })).await);
    assert_eq!((error.status, error.code, error.name.as_ref()), (409, Some(5), "unique constraint violation"));
    assert_eq!(error.message, "UNIQUE violation detected on '{name=\"mill\"}'");
    assert_eq!(error.fields, Some(json!({ "name": "mill" })));
    kit.insert("houses", json!({ "id": id(2), "name": "farm" })).await.unwrap();
    let error = refused(kit.update("houses", json!({ "id": id(2), "name": "mill" })).await);
    assert_eq!(error.fields, Some(json!({ "name": "mill" })));
}

async fn a_taken_combination_names_every_field_and_counts_nulls(kit: Kit) {
    kit.insert("houses", json!({ "id": id(1), "name": "mill" })).await.unwrap();
    kit.insert("lamps", json!({ "id": id(2), "kind": "oil", "house": { "id": id(1) } })).await.unwrap();
    kit.insert("lamps", json!({ "id": id(3), "kind": "oil" })).await.unwrap();
    kit.insert("lamps", json!({ "id": id(4), "kind": "gas", "house": { "id": id(1) } })).await.unwrap();
    let error = refused(kit.insert("lamps", json!({ "id": id(5), "kind": "oil", "house": { "id": id(1) } })).await);
    let message = format!("UNIQUE violation detected on '{{house={{id=\"{}\"}},kind=\"oil\",room=null}}'", id(1));
    assert_eq!((error.code, error.message), (Some(5), message));
    assert_eq!(error.fields, Some(json!({ "house": { "id": id(1) }, "kind": "oil", "room": null })));
    let error = refused(kit.insert("lamps", json!({ "id": id(5), "kind": "oil", "house": null })).await);
    assert_eq!(error.fields, Some(json!({ "house": null, "kind": "oil", "room": null })));
}

async fn nulls_are_never_taken(kit: Kit) {
    kit.insert("houses", json!({ "id": id(1), "name": null })).await.unwrap();
    kit.insert("houses", json!({ "id": id(2), "name": null })).await.unwrap();
    kit.insert("houses", json!({ "id": id(3) })).await.unwrap();
    assert_eq!(kit.ids("houses").await.len(), 3);
}

async fn values_are_told_apart_by_case(kit: Kit) {
    kit.insert("houses", json!({ "id": id(1), "name": "mill" })).await.unwrap();
    kit.insert("houses", json!({ "id": id(2), "name": "Mill" })).await.unwrap();
    if kit.holds_nul {
        kit.insert("houses", json!({ "id": id(3), "name": "mill\u{0}" })).await.unwrap();
    } else {
        let error = refused(kit.insert("houses", json!({ "id": id(3), "name": "mill\u{0}" })).await);
        assert_eq!((error.status, error.code), (400, Some(2)));
    }
    assert_eq!(kit.get("houses", Key::Unique("name".into(), json!("Mill"))).await.unwrap()["id"], json!(id(2)));
}

async fn a_reference_to_nothing_is_refused(kit: Kit) {
    let error = refused(kit.insert("rooms", json!({ "id": id(2), "name": "hall", "house": { "id": id(1) } })).await);
    assert_eq!((error.status, error.code, error.name.as_ref()), (400, Some(4), "foreign key violation"));
    assert_eq!(error.message, format!("the foreign key '{{id=\"{}\"}}' does not reference an existing 'houses' entity.", id(1)));
    assert_eq!(error.fields, Some(json!({ "house": { "id": id(1) } })));
}

async fn a_row_that_is_referenced_stays(kit: Kit) {
    kit.street().await;
    let error = refused(kit.delete("houses", id(1)).await);
    assert_eq!((error.status, error.code), (400, Some(4)));
    assert_eq!(error.message, "an existing 'rooms' entity references this 'houses' entity");
    assert_eq!(error.fields, Some(json!({ "@referenced_by": "rooms" })));
    assert_eq!(kit.ids("houses").await, [id(1)]);
}

async fn a_delete_takes_its_dependants_first(kit: Kit) {
    kit.street().await;
    let applied = kit.delete("rooms", id(10)).await.unwrap();
    let gone: Vec<_> = applied.changes.iter().map(|change| (change.schema.name.to_string(), change.id)).collect();
    assert_eq!(gone, [("bulbs".into(), id(30)), ("lamps".into(), id(20)), ("rooms".to_owned(), id(10))]);
    assert!(applied.changes.iter().all(|change| change.old.is_some() && change.new.is_none()));
    assert_eq!(applied.changes[1].old.as_ref().unwrap()["kind"], "oil");
    assert_eq!(kit.ids("lamps").await, [id(21)]);
    assert!(kit.ids("bulbs").await.is_empty());
}

async fn a_restricting_row_that_goes_too_does_not_restrict(kit: Kit) {
    kit.street().await;
    // The bulb restricts its spare room, and goes with the lamp of that same room.
    kit.update("bulbs", json!({ "id": id(30), "lamp": { "id": id(20) }, "spare_in": { "id": id(10) } })).await.unwrap();
    let applied = kit.delete("rooms", id(10)).await.unwrap();
    assert_eq!(applied.changes.len(), 3);
}

async fn a_deeper_restriction_stops_the_whole_delete(kit: Kit) {
    kit.street().await;
    kit.insert("bulbs", json!({ "id": id(31), "lamp": { "id": id(21) }, "spare_in": { "id": id(10) } })).await.unwrap();
    let error = refused(kit.delete("rooms", id(10)).await);
    assert_eq!(error.message, "an existing 'bulbs' entity references this 'rooms' entity");
    assert_eq!(kit.ids("lamps").await, [id(20), id(21)]);
}

async fn a_refused_operation_undoes_those_before_it(kit: Kit) {
    kit.street().await;
    let before = kit.everything().await;
    let operations = vec![
        kit.operation_insert("houses", json!({ "id": id(2), "name": "farm", "tags": ["new"] })),
        Operation::Delete(kit.schema("rooms"), id(10)),
        kit.operation_insert("houses", json!({ "id": id(3), "name": "mill" })),
        kit.operation_insert("houses", json!({ "id": id(4), "name": "barn" })),
    ];
    match kit.store.apply(ChangeSet { operations }).await {
        Err(StoreError::Refused { operation: 2, error }) => assert_eq!(error.code, Some(5)),
        other => panic!("{other:?}"),
    }
    assert_eq!(kit.everything().await, before);
    assert!(kit.store.tagged(Some("new"), None, 10).await.unwrap().is_empty());
}

async fn pages_are_in_order_of_id_and_cover_everything_once(kit: Kit) {
    let numbers = [5_u128, 3, 9, 1, 7, 8, 2];
    for number in numbers {
        kit.insert("houses", json!({ "id": id(number) })).await.unwrap();
    }
    let houses = kit.schema("houses");
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = kit.store.page(&houses, after, 2, Filter::default()).await.unwrap();
        assert!(page.rows.len() == 2 || page.next.is_none());
        seen.extend(page.rows.iter().map(kit::id_of));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [1, 2, 3, 5, 7, 8, 9].map(id));
    let exactly = kit.store.page(&houses, None, 7, Filter::default()).await.unwrap();
    assert_eq!((exactly.rows.len(), exactly.next), (7, None));
    let none = kit.store.page(&houses, None, 0, Filter::default()).await.unwrap();
    assert_eq!((none.rows.len(), none.next), (0, None));
}

async fn pages_stay_stable_while_rows_come_and_go(kit: Kit) {
    for number in [10, 20, 30, 40, 50] {
        kit.insert("houses", json!({ "id": id(number) })).await.unwrap();
    }
    let houses = kit.schema("houses");
    let first = kit.store.page(&houses, None, 2, Filter::default()).await.unwrap();
    assert_eq!(first.next, Some(id(20)));
    // One before the mark, one behind it, and the mark itself goes.
    kit.insert("houses", json!({ "id": id(15) })).await.unwrap();
    kit.insert("houses", json!({ "id": id(35) })).await.unwrap();
    kit.delete("houses", id(20)).await.unwrap();
    let second = kit.store.page(&houses, first.next, 10, Filter::default()).await.unwrap();
    assert_eq!(second.rows.iter().map(kit::id_of).collect::<Vec<_>>(), [30, 35, 40, 50].map(id));
}

async fn pages_of_a_parent_show_its_rows_only(kit: Kit) {
    kit.street().await;
    kit.insert("houses", json!({ "id": id(2), "name": "farm" })).await.unwrap();
    for number in 40..45 {
        kit.insert("rooms", json!({ "id": id(number), "house": { "id": id(2) }, "tags": ["cold"] })).await.unwrap();
    }
    let parent = Some(("house".to_owned(), id(2)));
    let rooms = kit.schema("rooms");
    let page = kit.store.page(&rooms, None, 3, Filter { parent: parent.clone(), tags: None }).await.unwrap();
    assert_eq!(page.next, Some(id(42)));
    let rest = kit.store.page(&rooms, page.next, 3, Filter { parent: parent.clone(), tags: None }).await.unwrap();
    assert_eq!((rest.rows.len(), rest.next), (2, None));
    kit.update("rooms", json!({ "id": id(40), "house": { "id": id(1) }, "tags": ["cold"] })).await.unwrap();
    let both = Filter { parent, tags: Some(Tags::Any(vec!["cold".into(), "warm".into()])) };
    let page = kit.store.page(&rooms, None, 9, both).await.unwrap();
    assert_eq!(page.rows.iter().map(kit::id_of).collect::<Vec<_>>(), [41, 42, 43, 44].map(id));
}

async fn tags_filter_with_and_and_or(kit: Kit) {
    for (number, tags) in [(1, vec!["a"]), (2, vec!["a", "b"]), (3, vec!["b"]), (4, vec!["c", "b", "a"]), (5, vec![])] {
        kit.insert("houses", json!({ "id": id(number), "tags": tags })).await.unwrap();
    }
    // The same tags on another entity are another entity's.
    kit.insert("lamps", json!({ "id": id(6), "kind": "oil", "tags": ["a", "b"] })).await.unwrap();
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
    let with = async |wanted: Tags| {
        let filter = Filter { parent: None, tags: Some(wanted) };
        let houses = kit.schema("houses");
        // One by one, so that every page starts somewhere.
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = kit.store.page(&houses, after, 1, filter.clone()).await.unwrap();
            found.extend(page.rows.iter().map(kit::id_of));
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    };
    assert_eq!(with(Tags::All(tags(&["a"]))).await, [1, 2, 4].map(id));
    assert_eq!(with(Tags::All(tags(&["a", "b"]))).await, [2, 4].map(id));
    assert_eq!(with(Tags::All(tags(&["a", "b", "c"]))).await, [4].map(id));
    assert_eq!(with(Tags::Any(tags(&["a", "b"]))).await, [1, 2, 3, 4].map(id));
    assert_eq!(with(Tags::Any(tags(&["c", "none"]))).await, [4].map(id));
    assert!(with(Tags::All(tags(&["a", "none"]))).await.is_empty());
}

async fn tags_are_listed_by_row_and_in_the_order_given(kit: Kit) {
    kit.insert("lamps", json!({ "id": id(2), "kind": "oil", "tags": ["shared"] })).await.unwrap();
    kit.insert("houses", json!({ "id": id(1), "tags": ["shared", "only", "shared"] })).await.unwrap();
    let all = kit.store.tagged(None, None, 10).await.unwrap();
    let row = |entity: &str, number, tag: &str| (entity.to_owned(), id(number), tag.to_owned());
    assert_eq!(all, [row("houses", 1, "shared"), row("houses", 1, "only"), row("lamps", 2, "shared")]);
    let mut paged = Vec::new();
    let mut after = None;
    loop {
        let page = kit.store.tagged(None, after, 1).await.unwrap();
        let Some((_, id, tag)) = page.first() else { break };
        after = Some((*id, tag.clone()));
        paged.extend(page);
    }
    assert_eq!(paged, all);
    let shared = kit.store.tagged(Some("shared"), None, 1).await.unwrap();
    assert_eq!(shared, [row("houses", 1, "shared")]);
    let rest = kit.store.tagged(Some("shared"), Some((id(1), "shared".into())), 5).await.unwrap();
    assert_eq!(rest, [row("lamps", 2, "shared")]);
    assert!(kit.store.tagged(Some("none"), None, 5).await.unwrap().is_empty());
}

async fn tags_follow_updates_and_deletes(kit: Kit) {
    kit.insert("houses", json!({ "id": id(1), "tags": ["old", "kept"] })).await.unwrap();
    kit.insert("houses", json!({ "id": id(2), "tags": ["old"] })).await.unwrap();
    kit.update("houses", json!({ "id": id(1), "tags": ["kept", "new"] })).await.unwrap();
    kit.delete("houses", id(2)).await.unwrap();
    let tags: Vec<_> = kit.store.tagged(None, None, 10).await.unwrap().into_iter().map(|(_, _, tag)| tag).collect();
    assert_eq!(tags, ["kept", "new"]);
    kit.update("houses", json!({ "id": id(1), "tags": null })).await.unwrap();
    assert!(kit.store.tagged(None, None, 10).await.unwrap().is_empty());
}

async fn time_to_live_counts_down_and_then_the_row_is_gone(kit: Kit) {
    let made = kit.insert("passes", json!({ "id": id(1), "code": "short", "ttl": 10, "tags": ["t"] })).await.unwrap();
    assert_eq!(made["ttl"], 10);
    kit.insert("passes", json!({ "id": id(2), "code": "ever", "ttl": 0 })).await.unwrap();
    let ever = kit.get("passes", Key::Id(id(2))).await.unwrap();
    assert_eq!(ever["ttl"], json!(null));
    kit.advance(3500);
    assert_eq!(kit.get("passes", Key::Id(id(1))).await.unwrap()["ttl"], 7);
    kit.advance(6499);
    assert_eq!(kit.get("passes", Key::Unique("code".into(), json!("short"))).await.unwrap()["ttl"], 1);
    kit.advance(1);
    assert_eq!(kit.get("passes", Key::Id(id(1))).await, None);
    assert_eq!(kit.get("passes", Key::Unique("code".into(), json!("short"))).await, None);
    assert_eq!(kit.ids("passes").await, [id(2)]);
    assert!(kit.store.tagged(None, None, 9).await.unwrap().is_empty());
    let filter = Filter { parent: None, tags: Some(Tags::Any(vec!["t".into()])) };
    assert!(kit.store.page(&kit.schema("passes"), None, 9, filter).await.unwrap().rows.is_empty());
}

async fn a_written_back_time_to_live_changes_nothing(kit: Kit) {
    kit.insert("passes", json!({ "id": id(1), "code": "a", "ttl": 10 })).await.unwrap();
    kit.advance(9500);
    let shown = kit.get("passes", Key::Id(id(1))).await.unwrap();
    kit.update("passes", shown.into()).await.unwrap();
    // Without the field, too.
    kit.update("passes", json!({ "id": id(1), "code": "b" })).await.unwrap();
    kit.advance(499);
    assert!(kit.get("passes", Key::Id(id(1))).await.is_some());
    kit.update("passes", json!({ "id": id(1), "code": "b", "ttl": 5 })).await.unwrap();
    kit.advance(4999);
    assert!(kit.get("passes", Key::Id(id(1))).await.is_some());
    kit.update("passes", json!({ "id": id(1), "code": "b", "ttl": null })).await.unwrap();
    kit.advance(1_000_000);
    assert!(kit.get("passes", Key::Id(id(1))).await.is_some());
}

async fn an_expired_row_gives_up_its_id_and_its_values(kit: Kit) {
    kit.insert("passes", json!({ "id": id(1), "code": "a", "ttl": 1 })).await.unwrap();
    kit.insert("passes", json!({ "id": id(2), "code": "b", "ttl": 1 })).await.unwrap();
    kit.advance(1000);
    let operation = kit.operation_insert("passes", json!({ "id": id(1), "code": "b" }));
    let applied = kit.store.apply(ChangeSet { operations: vec![operation] }).await.unwrap();
    let told: Vec<_> = applied.changes.iter().map(|change| (change.id, change.new.is_some())).collect();
    assert_eq!(told, [(id(1), false), (id(2), false), (id(1), true)]);
    assert_eq!(kit.ids("passes").await, [id(1)]);
}

async fn an_expired_row_cannot_be_referenced_or_updated(kit: Kit) {
    kit.insert("passes", json!({ "id": id(1), "code": "a", "ttl": 1 })).await.unwrap();
    kit.insert("stamps", json!({ "id": id(2), "pass": { "id": id(1) } })).await.unwrap();
    kit.insert("passes", json!({ "id": id(3), "code": "b", "ttl": 1 })).await.unwrap();
    kit.advance(1000);
    let error = refused(kit.insert("stamps", json!({ "id": id(4), "pass": { "id": id(3) } })).await);
    assert_eq!(error.code, Some(4));
    // Whether something still references it or not.
    let error = refused(kit.update("passes", json!({ "id": id(1), "code": "a" })).await);
    assert_eq!(error.code, Some(6));
}

async fn the_feed_tells_every_change_in_order(kit: Kit) {
    let mut feed = kit.store.changes();
    kit.insert("houses", json!({ "id": id(1), "name": "mill" })).await.unwrap();
    kit.update("houses", json!({ "id": id(1), "name": "farm" })).await.unwrap();
    kit.delete("houses", id(1)).await.unwrap();
    let mut versions = Vec::new();
    let mut told = Vec::new();
    for _ in 0..3 {
        let applied = feed.recv().await.unwrap();
        versions.push(applied.version);
        let change = &applied.changes[0];
        let name = |record: &Option<crate::Record>| record.as_ref().map(|record| record["name"].as_str().unwrap().to_owned());
        told.push((name(&change.old), name(&change.new)));
    }
    assert!(versions.is_sorted() && versions[0] < versions[1] && versions[1] < versions[2]);
    assert_eq!(told, [(None, Some("mill".into())), (Some("mill".into()), Some("farm".into())), (Some("farm".to_owned()), None)]);
}

async fn a_refused_change_set_is_not_told(kit: Kit) {
    let mut feed = kit.store.changes();
    refused(kit.update("houses", json!({ "id": id(1) })).await);
    kit.insert("houses", json!({ "id": id(2) })).await.unwrap();
    assert_eq!(feed.recv().await.unwrap().changes[0].id, id(2));
}

async fn a_subscriber_that_falls_behind_is_told_so(kit: Kit) {
    let mut feed = kit.store.changes();
    for number in 1..=300 {
        kit.insert("houses", json!({ "id": id(number) })).await.unwrap();
    }
    assert!(matches!(feed.recv().await, Err(RecvError::Lagged(_))));
    assert!(feed.recv().await.is_ok());
}

async fn a_clear_replaces_everything_at_once(kit: Kit) {
    kit.street().await;
    let mut feed = kit.store.changes();
    let operations = vec![
        Operation::Clear,
        kit.operation_insert("houses", json!({ "id": id(1), "name": "mill", "tags": ["fresh"] })),
        kit.operation_insert("rooms", json!({ "id": id(11), "name": "hall", "house": { "id": id(1) } })),
    ];
    let applied = kit.store.apply(ChangeSet { operations }).await.unwrap();
    assert!(applied.reload && applied.changes.is_empty());
    assert!(feed.recv().await.unwrap().reload);
    assert_eq!(kit.ids("rooms").await, [id(11)]);
    assert!(kit.ids("lamps").await.is_empty());
    assert_eq!(kit.store.tagged(None, None, 9).await.unwrap().len(), 1);

    let before = kit.everything().await;
    let operations = vec![Operation::Clear, kit.operation_insert("rooms", json!({ "id": id(12), "house": { "id": id(5) } }))];
    assert!(matches!(kit.store.apply(ChangeSet { operations }).await, Err(StoreError::Refused { operation: 1, .. })));
    assert_eq!(kit.everything().await, before);
}

async fn writers_that_compete_are_served_one_after_the_other(kit: Kit) {
    let kit = Arc::new(kit);
    // Twenty want the same five names: five succeed, whoever is first.
    let writers: Vec<_> = (0..20_u128)
        .map(|number| {
            let kit = kit.clone();
            tokio::spawn(async move { kit.insert("houses", json!({ "id": id(number + 1), "name": format!("n{}", number % 5) })).await })
        })
        .collect();
    let mut made = 0;
    for writer in writers {
        match writer.await.unwrap() {
            Ok(_) => made += 1,
            Err(error) => assert!(matches!(error, StoreError::Refused { .. }), "{error}"),
        }
    }
    assert_eq!((made, kit.ids("houses").await.len()), (5, 5));
}

async fn fields_that_are_never_kept_are_dropped(kit: Kit) {
    let made = kit.insert("houses", json!({ "id": id(1), "name": "mill", "whisper": "psst" })).await.unwrap();
    assert_eq!(made.get("whisper"), None);
    assert_eq!(kit.get("houses", Key::Id(id(1))).await.unwrap().get("whisper"), None);
}

async fn numbers_and_text_come_back_as_they_were(kit: Kit) {
    let name = if kit.holds_nul { "\u{1F3E0} \"quoted\" \\ \u{0}\n" } else { "\u{1F3E0} \"quoted\" \\ \n" };
    let record = json!({
        "id": Uuid::max(), "name": name, "number": 1_764_000_000.123, "tags": ["two words", "w\u{f6}rd"],
        "more": { "empty": {}, "list": [], "null": null, "big": 9_007_199_254_740_993_i64, "nested": [[1, 2.5]] },
    });
    kit.insert("houses", record.clone()).await.unwrap();
    assert_eq!(serde_json::Value::from(kit.get("houses", Key::Id(Uuid::max())).await.unwrap()), record);
    assert_eq!(kit.ids("houses").await, [Uuid::max()]);
}
