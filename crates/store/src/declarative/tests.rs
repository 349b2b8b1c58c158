#![allow(clippy::unwrap_used)]
//! A whole configuration taken at once is the same as its rows taken one by one, and refused for the same reasons.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::suite::{catalog, clock, id};

type Rows = Vec<(Arc<Schema>, Vec<Record>)>;

fn rows(lists: &[(&str, Value)]) -> Rows {
    let catalog = catalog();
    let list = |(entity, rows): &(&str, Value)| {
        let rows = rows.as_array().unwrap().iter().map(|row| row.as_object().unwrap().clone()).collect();
        (catalog.entity(entity).unwrap().clone(), rows)
    };
    lists.iter().map(list).collect()
}

/// Everything that a reader can see, in every way of looking.
async fn seen(store: &Declarative, catalog: &Catalog) -> Vec<Vec<Record>> {
    let mut seen = Vec::new();
    for schema in &catalog.entities {
        let mut filters = vec![Filter::default()];
        filters.extend(["red", "blue"].map(|tag| Filter { tags: Some(crate::Tags::All(vec![tag.to_owned()])), ..Filter::default() }));
        for (field, _, _) in schema.foreigns() {
            filters.extend((1..5).map(|parent| Filter { parent: Some((field.to_owned(), id(parent))), ..Filter::default() }));
        }
        for filter in filters {
            seen.push(store.page(schema, None, 100, filter).await.unwrap().rows);
        }
    }
    let tagged = store.tagged(None, None, 100).await.unwrap();
    seen.push(vec![Record::from_iter([("tagged".to_owned(), json!(tagged))])]);
    seen
}

async fn both_ways(rows: &Rows) -> [Result<Vec<Vec<Record>>, String>; 2] {
    let catalog = catalog();
    let (at_once, one_by_one) = (Declarative::with_clock(&catalog, clock().1), Declarative::with_clock(&catalog, clock().1));
    for store in [&at_once, &one_by_one] {
        let before = Operation::Insert(catalog.entity("houses").unwrap().clone(), json!({"id": id(99)}).as_object().unwrap().clone());
        store.apply(ChangeSet { operations: vec![before] }).await.unwrap();
    }
    let replaced = std::thread::scope(|scope| scope.spawn(|| at_once.replace(rows)).join().unwrap());
    let inserts = rows.iter().flat_map(|(schema, rows)| rows.iter().map(|row| Operation::Insert(schema.clone(), row.clone())));
    let operations = std::iter::once(Operation::Clear).chain(inserts).collect();
    let applied = one_by_one.apply(ChangeSet { operations }).await;
    let mut outcomes = Vec::new();
    for (store, outcome) in [(&at_once, replaced), (&one_by_one, applied)] {
        outcomes.push(match outcome {
            Ok(applied) => {
                assert_eq!((applied.version, applied.reload, applied.changes.len()), (2, true, 0));
                Ok(seen(store, &catalog).await)
            }
            Err(StoreError::Refused { error, .. }) => Err(error.to_string()),
            Err(error) => panic!("{error}"),
        });
    }
    outcomes.try_into().unwrap()
}

fn street() -> Vec<(&'static str, Value)> {
    vec![
        (
            "houses",
            json!([
                {"id": id(3), "name": "inn", "number": 3, "more": {"id": "x"}, "tags": ["red", "blue", "red"]},
                {"id": id(1), "name": "mill", "number": null, "more": null, "tags": null},
                {"id": id(2), "name": null, "number": 1.5, "more": [null], "tags": ["blue"], "unknown": 1},
                {"id": id(4).to_string().to_uppercase(), "whisper": "never kept"}
            ]),
        ),
        (
            "rooms",
            json!([{"id": id(2), "name": "hall", "house": {"id": id(3)}, "walls": []}, {"id": id(1), "name": "attic", "house": null}]),
        ),
        ("lamps", json!([{"id": id(1), "kind": "oil", "room": {"id": id(2)}, "house": {"id": id(1)}, "tags": null}])),
        ("passes", json!([{"id": id(1), "code": "a", "house": null, "ttl": 5, "tags": null}, {"id": id(2), "code": "b", "ttl": null}])),
    ]
}

#[tokio::test]
async fn a_whole_configuration_reads_like_its_rows_one_by_one() {
    let [at_once, one_by_one] = both_ways(&rows(&street())).await;
    assert_eq!(at_once.unwrap(), one_by_one.unwrap());
    // The same without what is never kept: this one takes the quick way.
    let mut street = street();
    street[0].1.as_array_mut().unwrap().pop();
    let rows = rows(&street);
    let layout = Layout::new(&catalog().entities);
    assert!(whole::of(&layout, &rows, 1, 0).is_some());
    let [at_once, one_by_one] = both_ways(&rows).await;
    assert_eq!(at_once.unwrap(), one_by_one.unwrap());
}

#[tokio::test]
async fn a_whole_configuration_is_refused_for_the_same_reasons() {
    let twice = ("houses", json!([{"id": id(1), "name": "a"}, {"id": id(1), "name": "b"}]));
    let same_name = ("houses", json!([{"id": id(1), "name": "a"}, {"id": id(2), "name": "a"}]));
    let nowhere = ("rooms", json!([{"id": id(1), "name": "hall", "house": {"id": id(7)}}]));
    for wrong in [twice, same_name, nowhere] {
        let [at_once, one_by_one] = both_ways(&rows(&[wrong])).await;
        assert_eq!(at_once.unwrap_err(), one_by_one.unwrap_err());
    }
}
