//! What only this store does: the tables it makes, and what it tells other nodes.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_tests::Postgres as Running;
use serde_json::{Value, json};

use portcullis_schema::{Catalog, Kind, OnDelete, Schema};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::migrate::{Migrator, State, Steps};
use super::{Postgres, Server, Settings};
use crate::suite::{Kit, catalog, clock, id};
use crate::{Applied, ChangeFeed, ChangeSet, Clock, Filter, Key, Operation, Store, StoreError};

fn server(database: &str) -> Server {
    let running = Running::shared();
    Server { port: running.port(), database: database.to_owned(), ..Server::default() }
}

/// A database with the tables, which nobody is connected to.
pub(crate) async fn bootstrapped() -> String {
    let database = Running::shared().database();
    let server = server(&database);
    // On a runtime of its own, with which the connection ends.
    let make = move || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(bootstrap(&server));
    std::thread::spawn(make).join().unwrap();
    database
}

/// An empty store of the suite's catalog.
pub(crate) async fn empty_store(catalog: &Catalog, clock: Clock) -> Postgres {
    Postgres::open(quiet(&suite_database().await, clock), catalog).unwrap()
}

/// Tables for the suite's catalog, made as Kong makes its.
fn suite_tables() -> String {
    catalog().entities.iter().map(|schema| table_like_kong(schema)).collect::<Vec<_>>().join("\n")
}

/// A database with Kong's tables and the suite's.
async fn suite_database() -> String {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    let template = TEMPLATE.get_or_init(|| async {
        let database = bootstrapped().await;
        Running::shared().run(&database, &suite_tables());
        database
    });
    Running::shared().database_like(template.await)
}

/// Settings that leave everything periodic to the test.
fn quiet(database: &str, clock: Clock) -> Settings {
    let never = Duration::from_secs(1_000_000);
    Settings { clock, poll_interval: never, sweep_interval: never, ..Settings::new(server(database), Uuid::new_v4()) }
}

fn table_like_kong(schema: &Schema) -> String {
    let mut lines = Vec::new();
    for (name, field) in schema.fields.iter().filter(|(_, field)| !field.transient) {
        let column = if matches!(field.kind, Kind::Foreign { .. }) { format!("{name}_id") } else { name.to_string() };
        let sort = match &field.kind {
            _ if name == "id" => "uuid PRIMARY KEY".to_owned(),
            Kind::Integer | Kind::Number => "double precision".to_owned(),
            Kind::Boolean => "boolean".to_owned(),
            Kind::Array(_) | Kind::Set(_) => "text[]".to_owned(),
            Kind::Foreign { entity, on_delete } => {
                let cascade = if *on_delete == OnDelete::Cascade { " ON DELETE CASCADE" } else { "" };
                format!("uuid REFERENCES {entity} (id){cascade}")
            }
            Kind::String => "text".to_owned(),
            _ => "jsonb".to_owned(),
        };
        lines.push(format!("{column} {sort}"));
        if field.unique || field.unique_across_ws {
            lines.push(if field.unique_across_ws || !schema.workspaceable {
                format!("UNIQUE ({column})")
            } else {
                format!("UNIQUE (ws_id, {column})")
            });
        }
    }
    lines.extend(schema.workspaceable.then(|| "ws_id uuid REFERENCES workspaces (id)".to_owned()));
    lines.extend((schema.cache_key.len() > 1).then(|| "cache_key text UNIQUE".to_owned()));
    lines.extend(schema.ttl.then(|| "ttl timestamptz".to_owned()));
    format!("CREATE TABLE {} ({});", schema.name, lines.join(", "))
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

/// Two nodes on one database, and the database.
async fn two_nodes() -> (Kit, Kit, String) {
    let database = suite_database().await;
    let node = || {
        let (time, clock) = clock();
        Kit::of(Arc::new(Postgres::open(quiet(&database, clock), &catalog()).unwrap()), time)
    };
    (node(), node(), database.clone())
}

async fn next(feed: &mut ChangeFeed) -> Arc<Applied> {
    tokio::time::timeout(Duration::from_secs(10), feed.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn another_node_hears_of_a_change_at_once_and_of_nothing_else() {
    let (here, there, _) = two_nodes().await;
    let (mut feed, mut own) = (there.store.changes(), here.store.changes());
    let begun = Instant::now();
    here.insert("houses", json!({ "id": id(1), "name": "mill", "number": 3 })).await.unwrap();
    let told = next(&mut feed).await;
    assert!(begun.elapsed() < Duration::from_millis(250), "{:?}", begun.elapsed());
    assert!(!told.reload);
    assert_eq!(told.changes.len(), 1);
    assert_eq!((told.changes[0].id, &told.changes[0].new.as_ref().unwrap()["number"]), (id(1), &json!(3.0)));

    here.update("houses", json!({ "id": id(1), "name": "farm" })).await.unwrap();
    let told = next(&mut feed).await;
    let change = &told.changes[0];
    assert_eq!((&change.old.as_ref().unwrap()["name"], &change.new.as_ref().unwrap()["name"]), (&json!("mill"), &json!("farm")));
    here.delete("houses", id(1)).await.unwrap();
    let told = next(&mut feed).await;
    assert_eq!((&told.changes[0].old.as_ref().unwrap()["name"], &told.changes[0].new), (&json!("farm"), &None));

    // The writer itself is told each change once.
    there.insert("houses", json!({ "id": id(2), "name": "barn" })).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(next(&mut own).await.changes[0].id);
    }
    assert_eq!(heard, [id(1), id(1), id(1), id(2)]);
    assert!(own.try_recv().is_err());
}

#[tokio::test]
async fn nodes_that_compete_for_a_value_are_told_whose_it_is() {
    let (here, there, _) = two_nodes().await;
    let (here, there) = (Arc::new(here), Arc::new(there));
    let writers: Vec<_> = (0..40_u128)
        .map(|number| {
            let kit = if number % 2 == 0 { here.clone() } else { there.clone() };
            tokio::spawn(async move { kit.insert("houses", json!({ "id": id(number + 1), "name": format!("n{}", number / 8) })).await })
        })
        .collect();
    let mut made = 0;
    for writer in writers {
        match writer.await.unwrap() {
            Ok(_) => made += 1,
            Err(StoreError::Refused { error, .. }) => assert_eq!(error.code, Some(5)),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((made, here.ids("houses").await.len()), (5, 5));
}

#[tokio::test]
async fn what_was_not_notified_is_found_by_asking() {
    let database = suite_database().await;
    let (time, clock) = clock();
    let settings = Settings { poll_interval: Duration::from_millis(20), ..quiet(&database, clock) };
    let kit = Kit::of(Arc::new(Postgres::open(settings, &catalog()).unwrap()), time);
    let mut feed = kit.store.changes();
    kit.insert("houses", json!({ "id": id(1), "name": "mill" })).await.unwrap();
    next(&mut feed).await;
    // As a Kong node writes: no notification.
    let invalidate_on = |channel: &str, key: &str| {
        let sql = format!(
            "INSERT INTO cluster_events VALUES (gen_random_uuid(), '00000000-0000-0000-0000-00000000000b', now(), NULL, \
             now() + interval '1 hour', '{channel}', '{key}')"
        );
        Running::shared().run(&database, &sql);
    };
    let invalidate = |key: &str| invalidate_on("invalidations", key);
    let ws = kit.store.workspace().unwrap();
    invalidate("router:version");
    invalidate(&format!("houses:{}:::::{ws}", id(1)));
    let told = next(&mut feed).await;
    assert_eq!((told.reload, told.changes.len(), told.changes[0].id), (false, 1, id(1)));
    // Kong's core has a channel of its own.
    invalidate_on("invalidations_kong_core_db_cache", &format!("houses:{}:::::{ws}", id(1)));
    assert_eq!(next(&mut feed).await.changes[0].id, id(1));
    // What is gone may have taken others with it.
    invalidate(&format!("houses:{}:::::{ws}", id(2)));
    assert!(next(&mut feed).await.reload);
    // Once only.
    kit.insert("houses", json!({ "id": id(3), "name": "inn" })).await.unwrap();
    assert_eq!(next(&mut feed).await.changes[0].id, id(3));
}

#[tokio::test]
async fn everything_is_read_as_of_one_moment() {
    let (here, there, _) = two_nodes().await;
    here.street().await;
    let entities: Vec<_> = here.entities().cloned().collect();
    let mut seen = Vec::new();
    let mut take = |schema: &Arc<Schema>, rows: Vec<crate::Record>| seen.extend(rows.into_iter().map(|_| schema.name.to_string()));
    there.store.everything(&entities, &mut take).await.unwrap();
    assert_eq!(seen, ["houses", "rooms", "rooms", "lamps", "lamps", "bulbs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_server_that_is_away_opens_when_it_is_there() {
    let database = suite_database().await;
    let (_, clock) = clock();
    let reached = quiet(&database, clock);
    let nobody = Server { port: portcullis_tests::free_port(), ..reached.server.clone() };
    let away = Settings { server: nobody, ..reached.clone() };
    assert!(matches!(Postgres::open(away.clone(), &catalog()), Err(super::Trouble::Away(_))));
    let unfit = Server { database: "nowhere".to_owned(), ..reached.server.clone() };
    assert!(matches!(Postgres::open(Settings { server: unfit, ..reached.clone() }, &catalog()), Err(super::Trouble::Unfit(_))));
    let (_, clock) = crate::suite::clock();
    let kit = Kit::of(Arc::new(Postgres::open_away(away, &catalog()).unwrap()), Arc::default());
    let written = kit.insert("houses", json!({ "id": id(1), "name": "mill" })).await;
    assert!(matches!(written, Err(StoreError::Unavailable(_))), "{written:?}");
    assert_eq!(kit.store.workspace(), None);
    // The same for one that is there: it tells that everything is to be read.
    let kit = Kit::of(Arc::new(Postgres::open_away(Settings { clock, ..reached }, &catalog()).unwrap()), Arc::default());
    let mut feed = kit.store.changes();
    if !kit.store.reachable().await {
        assert!(next(&mut feed).await.reload);
    }
    assert!(kit.store.workspace().is_some());
}

/// Ids stand for themselves in Kong's cache keys, so this is a catalog of its own entities.
#[tokio::test]
async fn a_kong_node_is_told_in_cache_keys() {
    let database = bootstrapped().await;
    let entities = portcullis_entities::core().into_iter().map(Arc::new).collect();
    let catalog = Catalog { entities, ..Catalog::default() };
    let store = Postgres::open(quiet(&database, crate::system_clock()), &catalog).unwrap();
    let insert =
        |entity: &str, record: Value| Operation::Insert(catalog.entity(entity).unwrap().clone(), record.as_object().unwrap().clone());
    let config = json!({ "minute": 5 });
    let operations = vec![
        insert(
            "services",
            json!({ "id": id(1), "name": "up", "host": "up.test", "port": 80, "protocol": "http", "created_at": 1, "updated_at": 1 }),
        ),
        insert("routes", json!({ "id": id(2), "name": "all", "service": { "id": id(1) }, "paths": ["/"], "headers": { "x": ["y"] } })),
        insert("plugins", json!({ "id": id(3), "name": "rate-limiting", "service": { "id": id(1) }, "config": config, "enabled": true })),
        insert("consumers", json!({ "id": id(4), "username": "ann" })),
        insert("certificates", json!({ "id": id(5), "cert": "c", "key": "k" })),
        insert("snis", json!({ "id": id(6), "name": "a.b.test", "certificate": { "id": id(5) } })),
        insert("upstreams", json!({ "id": id(7), "name": "u", "slots": 10 })),
        insert("targets", json!({ "id": id(8), "upstream": { "id": id(7) }, "target": "t:80", "weight": 1, "created_at": 1700000000.123 })),
    ];
    store.apply(ChangeSet { operations }).await.unwrap();
    let ws = store.workspace().unwrap();
    let told = Running::shared().run(
        &database,
        "SELECT channel || ' ' || data FROM cluster_events WHERE channel <> 'portcullis:changes' ORDER BY channel, data COLLATE \"C\"",
    );
    let mut told: Vec<&str> = told.lines().collect();
    told.sort_unstable();
    let n = |number| id(number).to_string();
    let mut expected = vec![
        format!("invalidations_kong_core_db_cache services:{}:::::{ws}", n(1)),
        format!("invalidations_kong_core_db_cache routes:{}:::::{ws}", n(2)),
        "invalidations_kong_core_db_cache router:version".to_owned(),
        format!("invalidations_kong_core_db_cache plugins:rate-limiting::{}:::{ws}", n(1)),
        "invalidations_kong_core_db_cache plugins_iterator:version".to_owned(),
        format!("invalidations consumers:{}:::::{ws}", n(4)),
        format!("invalidations consumers:ann:::::{ws}"),
        format!("invalidations_kong_core_db_cache certificates:{}:::::{ws}", n(5)),
        format!("invalidations_kong_core_db_cache snis:{}:::::{ws}", n(6)),
        "invalidations_kong_core_db_cache snis:a.b.test".to_owned(),
        "invalidations_kong_core_db_cache snis:*.b.test".to_owned(),
        "invalidations_kong_core_db_cache snis:a.b.*".to_owned(),
        format!("invalidations_kong_core_db_cache upstreams:{}:::::{ws}", n(7)),
        format!("balancer:upstreams create:{ws}:{}:u", n(7)),
        format!("invalidations_kong_core_db_cache targets:{}:t:80::::{ws}", n(7)),
        format!("balancer:targets create:{}", n(7)),
    ];
    expected.sort_unstable();
    assert_eq!(told, expected);

    let get = async |entity: &str, number| store.get(catalog.entity(entity).unwrap(), Key::Id(id(number))).await.unwrap().unwrap();
    assert_eq!(get("targets", 8).await["created_at"], json!(1700000000.123));
    assert_eq!(get("services", 1).await["created_at"], json!(1));
    let route = get("routes", 2).await;
    assert_eq!((&route["paths"], &route["headers"], &route["methods"]), (&json!(["/"]), &json!({ "x": ["y"] }), &json!(null)));
    assert_eq!(get("plugins", 3).await["config"], config);
    let cache_key = Running::shared().run(&database, "SELECT cache_key FROM plugins");
    assert_eq!(cache_key, format!("plugins:rate-limiting::{}:::{ws}", n(1)));
    // Every table of the catalog can be read.
    for schema in catalog.entities.iter().filter(|schema| schema.field("id").is_some()) {
        store.page(schema, None, 10, Filter::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_outlives_its_database_and_catches_up() {
    let running = Running::start();
    let database = running.database();
    let server = Server { port: running.port(), database: database.clone(), ..Server::default() };
    bootstrap(&server).await;
    running.run(&database, &suite_tables());
    let node = || {
        let (time, clock) = clock();
        let settings = Settings { server: server.clone(), ..quiet(&database, clock) };
        Kit::of(Arc::new(Postgres::open(settings, &catalog()).unwrap()), time)
    };
    let (here, there) = (node(), node());
    let mut feed = there.store.changes();
    here.insert("houses", json!({ "id": id(1), "name": "mill" })).await.unwrap();
    next(&mut feed).await;

    tokio::task::block_in_place(|| running.kill());
    let begun = Instant::now();
    while here.store.reachable().await || there.store.reachable().await {
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let begun = Instant::now();
    let written = here.insert("houses", json!({ "id": id(2), "name": "farm" })).await;
    assert!(matches!(written, Err(StoreError::Unavailable(_))), "{written:?}");
    let read = here.store.get(&here.schema("houses"), Key::Id(id(1))).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());

    tokio::task::block_in_place(|| running.serve());
    let begun = Instant::now();
    // Whoever is back first writes; the other finds it when it is back.
    while !here.store.reachable().await {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    here.insert("houses", json!({ "id": id(2), "name": "farm" })).await.unwrap();
    let told = next(&mut feed).await;
    assert_eq!((told.reload, told.changes[0].id), (false, id(2)));
    assert_eq!(there.ids("houses").await, [id(1), id(2)]);
}

#[tokio::test]
#[ignore = "measures; run by hand"]
async fn how_long_a_change_takes_to_the_other_node() {
    let (here, there, _) = two_nodes().await;
    let mut feed = there.store.changes();
    let (mut written, mut heard) = (Vec::new(), Vec::new());
    for number in 1..=300 {
        let begun = Instant::now();
        here.insert("houses", json!({ "id": id(number), "name": format!("h{number}") })).await.unwrap();
        written.push(begun.elapsed());
        next(&mut feed).await;
        heard.push(begun.elapsed());
    }
    for (what, times) in [("written", &mut written), ("heard", &mut heard)] {
        times.sort();
        eprintln!("{what}: median {:?}, 99th percentile {:?}", times[150], times[297]);
    }
    let begun = Instant::now();
    let operations =
        (1000..11_000).map(|number| here.operation_insert("houses", json!({ "id": id(number), "name": format!("h{number}") })));
    here.store.apply(ChangeSet { operations: operations.collect() }).await.unwrap();
    eprintln!("10,000 rows in one change set: {:?}", begun.elapsed());
    let begun = Instant::now();
    here.ids("houses").await;
    eprintln!("10,000 rows read: {:?}", begun.elapsed());
}
