#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn rows(lists: &[(&str, Value)]) -> Rows {
    let catalog = catalog::of(&[]);
    let list = |(entity, rows): &(&str, Value)| {
        let rows = rows.as_array().unwrap().iter().map(|row| row.as_object().unwrap().clone()).collect();
        (catalog.entity(entity).unwrap().clone(), rows)
    };
    lists.iter().map(list).collect()
}

fn lines(found: &[(&str, Value)], wanted: &[(&str, Value)]) -> Vec<String> {
    between(&rows(found), rows(wanted)).steps.into_iter().map(|step| step.line).collect()
}

fn id(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

#[test]
fn what_is_the_same_is_no_difference() {
    let found = [("services", json!([{ "id": id(1), "name": "a", "port": 80, "path": null, "created_at": 1 }]))];
    let wanted = [("services", json!([{ "id": id(1), "name": "a", "port": 80.0, "created_at": 2 }]))];
    assert!(lines(&found, &wanted).is_empty());
}

#[test]
fn children_go_before_their_parents_and_come_after_them() {
    let found = [("services", json!([{ "id": id(1), "name": "a" }])), ("routes", json!([{ "id": id(2), "service": { "id": id(1) } }]))];
    let wanted = [("services", json!([{ "id": id(3), "name": "b" }])), ("routes", json!([{ "id": id(4), "service": { "id": id(3) } }]))];
    let steps = [
        format!("delete routes {}", id(2)),
        format!("delete services a ({})", id(1)),
        format!("create services b ({})", id(3)),
        format!("create routes {}", id(4)),
    ];
    assert_eq!(lines(&found, &wanted), steps);
}

#[test]
fn a_row_of_the_same_name_is_the_same_row() {
    let found = [("services", json!([{ "id": id(1), "name": "a", "host": "old" }]))];
    let wanted = [
        ("services", json!([{ "id": id(9), "name": "a", "host": "new" }])),
        ("routes", json!([{ "id": id(4), "name": "r", "service": { "id": id(9) } }])),
    ];
    let difference = between(&rows(&found), rows(&wanted));
    let said: Vec<_> = difference.steps.iter().map(|step| step.line.as_str()).collect();
    assert_eq!(said, [format!("change services a ({}): host", id(1)), format!("create routes r ({})", id(4))]);
    let Operation::Upsert(_, route) = &difference.steps[1].operation else { unreachable!() };
    assert_eq!(route["service"]["id"], id(1));
}

#[test]
fn what_is_made_at_run_time_stays() {
    let found = [("parameters", json!([{ "key": "cluster_id", "value": "x" }]))];
    assert!(lines(&found, &[]).is_empty());
}
