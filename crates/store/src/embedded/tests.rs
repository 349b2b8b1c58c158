//! What a file adds to the suite: it outlives the process, other processes, full disks and damage.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portcullis_schema::build::{foreign, string};
use portcullis_schema::{Catalog, Schema};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use super::{Embedded, Settings};
use crate::suite::{Kit, catalog, clock, id, refused, settings};
use crate::{ChangeSet, Filter, Key, Operation, Store, StoreError, Tags};

fn file() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("portcullis.db");
    (directory, path)
}

fn open(path: &Path) -> (Arc<Embedded>, Kit) {
    open_with(path, |settings| settings)
}

fn open_with(path: &Path, change: impl FnOnce(Settings) -> Settings) -> (Arc<Embedded>, Kit) {
    let (time, clock) = clock();
    let store = Arc::new(Embedded::open(change(settings(path.to_owned(), clock)), &catalog()).unwrap());
    let kit = Kit::of(store.clone(), time);
    (store, kit)
}

fn refusal_to_open(path: &Path) -> String {
    let error = Embedded::open(settings(path.to_owned(), clock().1), &catalog()).err().unwrap();
    assert!(!error.contains('\n') && error.starts_with(&path.display().to_string()), "{error}");
    error
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let (_directory, path) = file();
    let (store, kit) = open(&path);
    kit.street().await;
    kit.insert("passes", json!({ "id": id(50), "code": "a", "ttl": 100, "tags": ["t"] })).await.unwrap();
    let before = kit.everything().await;
    let version = kit.delete("houses", id(9)).await.unwrap().version;
    store.close().await;
    assert!(matches!(kit.insert("houses", json!({ "id": id(2) })).await, Err(StoreError::Unavailable(_))));
    assert!(!store.reachable().await);

    let (_store, kit) = open(&path);
    assert_eq!(kit.everything().await, before);
    assert!(kit.delete("houses", id(9)).await.unwrap().version > version);
}

#[tokio::test]
async fn what_was_answered_is_there_without_a_goodbye() {
    let (_directory, path) = file();
    let (store, kit) = open(&path);
    kit.street().await;
    // The files as a crash would leave them: the log is not folded in, nothing was closed.
    let (_copies, copy) = file();
    for suffix in ["", "-wal"] {
        std::fs::copy(format!("{}{suffix}", path.display()), format!("{}{suffix}", copy.display())).unwrap();
    }
    let (_other, after) = open(&copy);
    assert_eq!(after.everything().await, kit.everything().await);
    drop(store);
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_transaction_leaves_no_trace() {
    let (_directory, path) = file();
    let (store, kit) = open(&path);
    kit.street().await;
    let before = kit.everything().await;
    store.close().await;
    let dying = Connection::open(&path).unwrap();
    dying.execute_batch("BEGIN IMMEDIATE; DELETE FROM bulbs; DELETE FROM _tags; UPDATE houses SET name = 'half'").unwrap();
    drop(dying);
    let (_store, kit) = open(&path);
    assert_eq!(kit.everything().await, before);
    kit.insert("houses", json!({ "id": id(2), "name": "half" })).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_the_write_and_keeps_the_rest() {
    let (_directory, path) = file();
    let (store, kit) = open_with(&path, |settings| Settings { largest_file: Some(600 * 1024), ..settings });
    kit.street().await;
    let before = kit.everything().await;
    let big = "x".repeat(2000);
    let operations = (100..1000).map(|number| kit.operation_insert("houses", json!({ "id": id(number), "more": big }))).collect();
    match store.apply(ChangeSet { operations }).await {
        Err(StoreError::Unavailable(cause)) => assert!(cause.contains("full") && !cause.contains('\n'), "{cause}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(kit.everything().await, before);
    assert!(store.reachable().await);
    kit.delete("rooms", id(11)).await.unwrap();
    kit.insert("houses", json!({ "id": id(2), "name": "small" })).await.unwrap();
}

#[tokio::test]
async fn a_file_locked_by_another_process_is_said_to_be() {
    let (_directory, path) = file();
    let (store, kit) = open_with(&path, |settings| Settings { busy_timeout: Duration::from_millis(20), ..settings });
    kit.street().await;
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    match kit.insert("houses", json!({ "id": id(2) })).await {
        Err(StoreError::Unavailable(cause)) => assert_eq!(cause, "the database file is locked by another process"),
        other => panic!("{other:?}"),
    }
    // Readers don't mind.
    assert_eq!(kit.ids("houses").await, [id(1)]);
    assert!(store.reachable().await);
    other.execute_batch("ROLLBACK").unwrap();
    kit.insert("houses", json!({ "id": id(2) })).await.unwrap();
}

#[tokio::test]
async fn another_process_may_write_and_is_noticed() {
    let (_directory, path) = file();
    let (store, kit) = open_with(&path, |settings| Settings { watch_interval: Duration::from_millis(5), ..settings });
    let mut feed = store.changes();
    let (_other, importer) = open(&path);
    importer.street().await;
    let applied = feed.recv().await.unwrap();
    assert!(applied.reload);
    assert_eq!(kit.ids("rooms").await, [id(10), id(11)]);
    refused(kit.insert("houses", json!({ "id": id(2), "name": "mill" })).await);
}

#[tokio::test]
async fn a_write_behind_another_process_asks_for_a_reload() {
    let (_directory, path) = file();
    let (_store, kit) = open(&path);
    let (_other, importer) = open(&path);
    importer.street().await;
    let operation = kit.operation_insert("houses", json!({ "id": id(2), "name": "farm" }));
    let applied = kit.one(operation).await.unwrap();
    assert!(applied.reload);
    assert_eq!(applied.changes.len(), 1);
    assert!(!kit.delete("houses", id(2)).await.unwrap().reload);
}

#[test]
fn a_damaged_file_is_refused_in_one_line() {
    let (_directory, path) = file();
    std::fs::write(&path, "not a database, but long enough to be looked at as one ".repeat(40)).unwrap();
    assert!(refusal_to_open(&path).contains("no database"));
}

#[tokio::test]
async fn damage_met_while_running_is_unavailable_and_nothing_worse() {
    let (_directory, path) = file();
    let (store, kit) = open(&path);
    for number in 1..400 {
        let operation = kit.operation_insert("houses", json!({ "id": id(number), "more": "x".repeat(500) }));
        kit.one(operation).await.unwrap();
    }
    store.close().await;
    drop((store, kit));
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    // All pages behind the schema.
    bytes[length / 3..].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();
    let message = match Embedded::open(settings(path, clock().1), &catalog()) {
        Err(cause) => cause,
        Ok(store) => {
            let houses = catalog().entity("houses").unwrap().clone();
            match store.page(&houses, None, 1000, Filter::default()).await {
                Err(StoreError::Unavailable(cause)) => cause,
                other => panic!("{other:?}"),
            }
        }
    };
    assert!(message.contains("damaged") && !message.contains('\n'), "{message}");
}

#[test]
fn a_file_of_another_program_is_left_alone() {
    let (_directory, path) = file();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(refusal_to_open(&path).contains("another program's"));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let (_directory, path) = file();
    open(&path).0.close().await;
    Connection::open(&path).unwrap().execute_batch("UPDATE _meta SET value = 99 WHERE key = 'format'").unwrap();
    assert!(refusal_to_open(&path).contains("format 99"));
}

#[test]
fn a_missing_directory_is_said_to_be() {
    let (directory, _) = file();
    assert!(refusal_to_open(&directory.path().join("absent/portcullis.db")).contains("check that its directory exists"));
}

#[tokio::test]
async fn a_read_only_file_is_said_to_be() {
    let (_directory, path) = file();
    let (store, kit) = open(&path);
    kit.street().await;
    store.close().await;
    // Permissions don't bind every user that runs tests; a read-only connection fails the same way.
    let uri = format!("file:{}?mode=ro", path.display());
    let reading = Connection::open(uri).unwrap();
    let error = reading.execute("DELETE FROM houses", []).unwrap_err();
    assert_eq!(super::fault::explain(&error), "the database file is read-only: make it writable for this user");
}

#[tokio::test]
async fn a_sweep_removes_expired_rows_and_tells() {
    let (_directory, path) = file();
    let (store, kit) = open(&path);
    let operations =
        (1..=2500).map(|number| kit.operation_insert("passes", json!({ "id": id(number), "code": format!("c{number}"), "ttl": 1 })));
    store.apply(ChangeSet { operations: operations.collect() }).await.unwrap();
    kit.insert("passes", json!({ "id": id(9000), "code": "ever" })).await.unwrap();
    // Kept by a living row.
    kit.insert("stamps", json!({ "id": id(9001), "pass": { "id": id(7) } })).await.unwrap();
    kit.advance(1000);
    let mut feed = store.changes();
    assert_eq!(store.sweep().await.unwrap(), 2499);
    let batches: Vec<usize> = std::iter::from_fn(|| feed.try_recv().ok()).map(|applied| applied.changes.len()).collect();
    assert_eq!(batches.iter().sum::<usize>(), 2499);
    assert!(batches.iter().all(|rows| *rows <= 1000), "{batches:?}");
    let left: i64 = Connection::open(&path).unwrap().query_row("SELECT count(*) FROM passes", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 2);
    kit.delete("stamps", id(9001)).await.unwrap();
    assert_eq!(store.sweep().await.unwrap(), 1);
}

#[tokio::test]
async fn sweeps_come_around_by_themselves() {
    let (_directory, path) = file();
    let (store, kit) = open_with(&path, |settings| Settings { sweep_interval: Duration::from_millis(5), ..settings });
    kit.insert("passes", json!({ "id": id(1), "code": "a", "ttl": 1 })).await.unwrap();
    let mut feed = store.changes();
    kit.advance(1000);
    let applied = feed.recv().await.unwrap();
    assert_eq!((applied.changes[0].id, applied.changes[0].new.is_none()), (id(1), true));
}

#[tokio::test]
async fn a_schema_that_gained_keys_finds_the_rows_it_had() {
    let (_directory, path) = file();
    let old = Catalog {
        entities: vec![
            Arc::new(Schema::new("houses", vec![("id", string())])),
            Arc::new(Schema::new("rooms", vec![("id", string()), ("name", string())])),
        ],
        ..Catalog::default()
    };
    let store = Embedded::open(settings(path.clone(), clock().1), &old).unwrap();
    let record = |value: serde_json::Value| value.as_object().unwrap().clone();
    let operations = vec![
        Operation::Insert(old.entities[0].clone(), record(json!({ "id": id(1) }))),
        Operation::Insert(old.entities[1].clone(), record(json!({ "id": id(2), "name": "hall", "house": { "id": id(1) } }))),
    ];
    store.apply(ChangeSet { operations }).await.unwrap();
    store.close().await;

    let (store, kit) = open(&path);
    let hall = kit.get("rooms", Key::Unique("name".into(), json!("hall"))).await.unwrap();
    assert_eq!(hall["id"], json!(id(2)));
    refused(kit.insert("rooms", json!({ "id": id(3), "name": "hall" })).await);
    assert_eq!(refused(kit.delete("houses", id(1)).await).code, Some(4));
    store.close().await;
    drop((store, kit));

    // And one whose rows don't keep a new rule is refused, the file as it was.
    let new = |unique| {
        let house = if unique { foreign("houses").unique() } else { foreign("houses") };
        let rooms = Schema::new("rooms", vec![("id", string()), ("house", house)]);
        Catalog { entities: vec![old.entities[0].clone(), Arc::new(rooms)], ..Catalog::default() }
    };
    let shared = new(false);
    let store = Embedded::open(settings(path.clone(), clock().1), &shared).unwrap();
    let row = record(json!({ "id": id(4), "house": { "id": id(1) } }));
    store.apply(ChangeSet { operations: vec![Operation::Insert(shared.entities[1].clone(), row)] }).await.unwrap();
    store.close().await;
    let error = Embedded::open(settings(path.clone(), clock().1), &new(true)).err().unwrap();
    assert!(error.contains("the rows of rooms") && !error.contains('\n'), "{error}");
    Embedded::open(settings(path, clock().1), &shared).unwrap();
}

#[tokio::test]
async fn pages_walk_an_index_whatever_the_filter() {
    let (_directory, path) = file();
    let (_store, kit) = open(&path);
    kit.street().await;
    let layout = crate::layout::Layout::new(&catalog().entities);
    let connection = Connection::open(&path).unwrap();
    let statements: Vec<_> = layout.tables.iter().zip(1..).map(|(table, number)| super::Statements::new(table, number)).collect();
    let reader = super::Reader { connection: &connection, layout: &layout, statements: &statements, now: 0 };
    let rooms = layout.place("rooms").unwrap();
    let parent = Some(("house".to_owned(), id(1)));
    let tags = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let filters = [
        Filter::default(),
        Filter { parent: parent.clone(), tags: None },
        Filter { parent: None, tags: Some(Tags::All(tags(&["a", "b"]))) },
        Filter { parent, tags: Some(Tags::All(tags(&["a"]))) },
    ];
    for filter in filters {
        let (sql, values) = reader.page_query(rooms, Some(id(5)), 10, &filter).unwrap();
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> =
            explain.query_map(rusqlite::params_from_iter(values), |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(!plan.iter().any(|step| step.starts_with("SCAN") || step.contains("TEMP B-TREE")), "{filter:?}: {plan:?}");
    }
}
