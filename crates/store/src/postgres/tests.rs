//! What only this store does: the tables it makes, and what it tells other nodes.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_tests::Postgres as Running;
use serde_json::{Value, json};

use super::Server;
use super::migrate::{Migrator, State, Steps};

fn server(database: &str) -> Server {
    let running = Running::shared();
    Server { port: running.port(), database: database.to_owned(), ..Server::default() }
}

/// A database with the tables.
pub(crate) async fn bootstrapped() -> String {
    let database = Running::shared().database();
    bootstrap(&server(&database)).await;
    database
}

async fn bootstrap(server: &Server) {
    let mut migrator = Migrator::connect(server, None).await.unwrap();
    let state = migrator.state().await.unwrap();
    assert!(state.needs_bootstrap);
    assert!(migrator.lock(Duration::ZERO).await.unwrap());
    migrator.make(&state).await.unwrap();
}

/// Facts about a real Kong 3.9.3, of the shape `DESCRIBE` answers.
fn facts(name: &str) -> Value {
    let text = match name {
        "tables" => include_str!("facts/tables.json"),
        _ => include_str!("facts/schema_meta.json"),
    };
    serde_json::from_str(text).unwrap()
}

/// What the catalog says of every table, each list in an order of its own.
const DESCRIBE: &str = "
SELECT json_agg(json_build_object(
  'table_name', c.relname,
  'columns', (SELECT json_agg(json_build_object('column', a.attname, 'type', CASE WHEN t.typcategory = 'A' THEN t.typname
       ELSE format_type(a.atttypid, NULL) END, 'nullable', NOT a.attnotnull, 'default', pg_get_expr(d.adbin, d.adrelid)) ORDER BY a.attnum)
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'indexes', COALESCE((SELECT json_agg(json_build_object('index', indexname, 'definition', indexdef) ORDER BY indexname)
     FROM pg_indexes WHERE schemaname = 'public' AND tablename = c.relname), '[]'),
  'constraints', COALESCE((SELECT json_agg(json_build_object('name', conname, 'definition', pg_get_constraintdef(oid)) ORDER BY conname)
     FROM pg_constraint WHERE conrelid = c.oid), '[]'),
  'triggers', COALESCE((SELECT json_agg(json_build_object('name', trigger_name, 'timing', action_timing, 'event', event_manipulation,
       'calls', action_statement)) FROM information_schema.triggers WHERE event_object_table = c.relname), '[]')
)) FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'";

/// Tables by name, and within each its lists without regard to order; columns keep theirs.
fn by_name(tables: Value) -> BTreeMap<String, Value> {
    let tables = tables.as_array().unwrap().iter().cloned();
    let sorted = |list: &Value| {
        let mut lines: Vec<String> = list.as_array().into_iter().flatten().map(Value::to_string).collect();
        lines.sort();
        lines
    };
    let named = tables.map(|table| {
        let lists = ["indexes", "constraints", "triggers"].map(|list| sorted(&table[list]));
        (table["table_name"].as_str().unwrap().to_owned(), json!({ "columns": table["columns"], "lists": lists }))
    });
    named.collect()
}

#[tokio::test]
async fn a_new_database_has_the_tables_of_kong() {
    let database = bootstrapped().await;
    let ours = by_name(serde_json::from_str(&Running::shared().run(&database, DESCRIBE)).unwrap());
    let theirs = by_name(facts("tables"));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (name, table) in theirs {
        assert_eq!(ours[&name], table, "{name}");
    }
}

#[tokio::test]
async fn a_new_database_says_of_its_migrations_what_kong_says() {
    let database = bootstrapped().await;
    let rows = Running::shared().run(&database, "SELECT json_agg(m ORDER BY subsystem) FROM schema_meta m");
    let mut ours: Value = serde_json::from_str(&rows).unwrap();
    let mut theirs = facts("schema_meta");
    for list in [&mut ours, &mut theirs] {
        list.as_array_mut().unwrap().sort_by_key(|row| row["subsystem"].to_string());
    }
    assert_eq!(ours, theirs);
}

#[tokio::test]
async fn the_state_of_a_database_is_told() {
    let database = Running::shared().database();
    let mut migrator = Migrator::connect(&server(&database), None).await.unwrap();
    let empty = migrator.state().await.unwrap();
    assert_eq!(empty, State { needs_bootstrap: true, new: Steps::all(), ..State::default() });
    migrator.make(&empty).await.unwrap();
    assert_eq!(migrator.state().await.unwrap(), State { executed: Steps::all(), ..State::default() });
    // A plugin that was not there when the database was made.
    Running::shared().run(&database, "DELETE FROM schema_meta WHERE subsystem = 'acl'; DROP TABLE acls");
    let state = migrator.state().await.unwrap();
    assert_eq!(state.new.iter().map(|steps| steps.subsystem.as_str()).collect::<Vec<_>>(), ["acl"]);
    assert!(!state.is_up_to_date());
    migrator.make(&state).await.unwrap();
    assert!(migrator.state().await.unwrap().is_up_to_date());
    migrator.reset().await.unwrap();
    assert_eq!(migrator.state().await.unwrap(), empty);
}

#[tokio::test]
async fn only_one_process_migrates_at_a_time() {
    let database = Running::shared().database();
    let first = Migrator::connect(&server(&database), None).await.unwrap();
    let second = Migrator::connect(&server(&database), None).await.unwrap();
    assert!(first.lock(Duration::ZERO).await.unwrap());
    assert!(!second.lock(Duration::ZERO).await.unwrap());
    first.unlock().await;
    assert!(second.lock(Duration::ZERO).await.unwrap());
}
