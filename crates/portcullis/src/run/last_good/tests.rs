#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::sync::Mutex;
use std::time::Duration;

use portcullis_store::embedded::{Embedded, Settings};
use portcullis_store::{BoxFuture, ChangeFeed, ChangeSet, Filter, Key, Operation, Page, Store, StoreError, Tagged, TakeRows};

use super::fingerprint::Fingerprint;
use super::*;
use crate::run::catalog;

fn row(catalog: &Catalog, entity: &str, row: serde_json::Value) -> (Arc<Schema>, Record) {
    (catalog.entity(entity).unwrap().clone(), row.as_object().unwrap().clone())
}

fn write(copies: &Copies, rows: &[(Arc<Schema>, Record)]) {
    copies.put_first(&Copy { number: 0, taken: 0, workspace: Uuid::max(), rows: rows.to_vec() }).unwrap();
}

fn numbers(copies: &Copies) -> Vec<u64> {
    copies.list().into_iter().map(|(number, _)| number).collect()
}

/// Appends a state to the newest file, as the keeper does.
fn append(copies: &Copies, number: u64, put: &[(Arc<Schema>, Record)], gone: &[(&str, Uuid)]) {
    let (_, path) = copies.list().remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let seal = form::parse(&bytes).unwrap().states.last().unwrap().seal.to_owned();
    let mut lines = Lines::after(&seal);
    put.iter().for_each(|(schema, row)| lines.put(&schema.name, row, &mut bytes));
    gone.iter().for_each(|(entity, id)| lines.remove(entity, *id, &mut bytes));
    bytes.extend_from_slice(lines.end(number, "hash").0.as_bytes());
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_copy_is_read_back_as_it_was_written() {
    let (home, catalog) = (tempfile::tempdir().unwrap(), catalog::of(&[]));
    let copies = Copies::new(home.path(), 2);
    assert!(copies.newest(&catalog).is_none() && copies.is_empty());
    let rows = [
        row(&catalog, "services", json!({ "id": Uuid::nil(), "host": "two\nlines\nend 1", "tags": ["\u{1f3e0}"] })),
        row(&catalog, "consumers", json!({ "id": Uuid::nil(), "username": "ann" })),
    ];
    write(&copies, &rows);
    let copy = copies.newest(&catalog).unwrap();
    assert_eq!((copy.number, copy.workspace, copy.rows.len()), (1, Uuid::max(), 2));
    assert_eq!(copy.rows[0].1, rows[0].1);
    // The last two stay.
    write(&copies, &rows[..1]);
    write(&copies, &rows[1..]);
    assert_eq!(numbers(&copies), [3, 2]);
}

#[test]
fn what_was_appended_is_a_copy_of_its_own() {
    let (home, catalog) = (tempfile::tempdir().unwrap(), catalog::of(&[]));
    let copies = Copies::new(home.path(), 5);
    let consumer = |number: u128, name: &str| row(&catalog, "consumers", json!({ "id": Uuid::from_u128(number), "username": name }));
    write(&copies, &[consumer(1, "ann"), consumer(2, "bob")]);
    append(&copies, 2, &[consumer(1, "anna"), row(&catalog, "services", json!({ "id": Uuid::nil() }))], &[]);
    append(&copies, 3, &[consumer(3, "cid")], &[("consumers", Uuid::from_u128(2)), ("consumers", Uuid::from_u128(9))]);
    assert_eq!(numbers(&copies), [3, 2, 1]);
    let names = |number: Option<u64>| {
        let (_, path) = copies.list().remove(0);
        let copy = read(number, &path, &catalog).unwrap();
        let named = |(schema, row): &(Arc<Schema>, Record)| {
            row.get("username").map_or(schema.name.as_ref(), |name| name.as_str().unwrap()).to_owned()
        };
        copy.rows.iter().map(named).collect::<Vec<_>>()
    };
    assert_eq!(names(Some(1)), ["ann", "bob"]);
    assert_eq!(names(Some(2)), ["anna", "bob", "services"]);
    assert_eq!(names(None), ["anna", "cid", "services"]);
    // What was being appended when the power went is passed over.
    let (_, path) = copies.list().remove(0);
    let whole = fs::read(&path).unwrap();
    for torn in 1..80 {
        fs::write(&path, &whole[..whole.len() - torn]).unwrap();
        assert_eq!(copies.newest(&catalog).unwrap().number, 2, "{torn}");
    }
    fs::write(&path, &whole).unwrap();
    // The next is a file of its own again.
    write(&copies, &[]);
    assert_eq!(numbers(&copies), [4, 3, 2, 1]);
    assert_eq!(copies.files().len(), 2);
}

#[test]
fn the_same_again_is_no_copy_of_its_own() {
    let (home, catalog) = (tempfile::tempdir().unwrap(), catalog::of(&[]));
    let copies = Copies::new(home.path(), 5);
    let keep = |host: &str| {
        let (schema, row) = row(&catalog, "services", json!({ "id": Uuid::nil(), "host": host }));
        let (mut whole, mut hash) = (Whole::begin(&copies, Uuid::max()).unwrap(), Fingerprint::default());
        whole.rows(&schema, &[row], &mut hash);
        keeper::finish(&copies, whole, hash).map(drop).unwrap();
        numbers(&copies)
    };
    assert_eq!(keep("a.test"), [1]);
    assert_eq!(keep("a.test"), [1]);
    assert_eq!(keep("b.test"), [2, 1]);
    // What stands behind a seal without one of its own makes the file no base to go on from: it is written anew.
    let (_, newest) = copies.list().remove(0);
    let whole = fs::read(&newest).unwrap();
    fs::write(&newest, [whole.as_slice(), b"x\n"].concat()).unwrap();
    assert_eq!(copies.newest(&catalog).unwrap().number, 2);
    assert_eq!(keep("b.test")[0], 3);
}

#[test]
fn a_damaged_copy_is_passed_over_for_the_one_before() {
    let (home, catalog) = (tempfile::tempdir().unwrap(), catalog::of(&[]));
    let copies = Copies::new(home.path(), 5);
    let rows = [row(&catalog, "services", json!({ "id": Uuid::nil(), "host": "a.test" }))];
    write(&copies, &rows);
    write(&copies, &[]);
    let (_, newest) = copies.list().remove(0);
    let whole = fs::read(&newest).unwrap();
    for broken in [&whole[..whole.len() - 1], &whole[..10], b""] {
        fs::write(&newest, broken).unwrap();
        assert!(read(Some(2), &newest, &catalog).unwrap_err().starts_with(&newest.display().to_string()));
        assert_eq!(copies.newest(&catalog).unwrap().number, 1);
    }
    for at in [form::FORM.len(), whole.len() - 100] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&newest, flipped).unwrap();
        assert!(read(Some(2), &newest, &catalog).unwrap_err().ends_with("(its checksum differs)"), "{at}");
    }
}

#[test]
fn what_has_expired_since_is_left_out() {
    let (home, catalog) = (tempfile::tempdir().unwrap(), catalog::of(&[]));
    let key = |number: u128, ttl: u64| row(&catalog, "keyauth_credentials", json!({ "id": Uuid::from_u128(number), "ttl": ttl }));
    let copies = Copies::new(home.path(), 5);
    write(&copies, &[key(1, 10), key(2, 10_000)]);
    let bytes = fs::read(&copies.list()[0].1).unwrap();
    let mut parsed = form::parse(&bytes).unwrap();
    parsed.states[0].taken -= 100;
    let copy = parsed.rows(0, &catalog).unwrap();
    assert_eq!(copy.rows.len(), 1);
    assert!((9890..=9900).contains(&copy.rows[0].1["ttl"].as_u64().unwrap()));
}

/// An embedded store that counts how often it is read as a whole.
struct Counting(Embedded, Arc<Mutex<usize>>);

impl Store for Counting {
    fn get<'a>(&'a self, of: &'a Arc<Schema>, key: Key) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        self.0.get(of, key)
    }
    fn page<'a>(
        &'a self,
        of: &'a Arc<Schema>,
        after: Option<Uuid>,
        size: usize,
        filter: Filter,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.0.page(of, after, size, filter)
    }
    fn apply(&self, changes: ChangeSet) -> BoxFuture<'_, Result<Arc<portcullis_store::Applied>, StoreError>> {
        self.0.apply(changes)
    }
    fn changes(&self) -> ChangeFeed {
        self.0.changes()
    }
    fn everything<'a>(&'a self, of: &'a [Arc<Schema>], take: TakeRows<'a>) -> BoxFuture<'a, Result<(), StoreError>> {
        *self.1.lock().unwrap() += 1;
        self.0.everything(of, take)
    }
    fn workspace(&self) -> Option<Uuid> {
        Some(Uuid::max())
    }
    fn reachable(&self) -> BoxFuture<'_, bool> {
        self.0.reachable()
    }
    fn tagged<'a>(
        &'a self,
        tag: Option<&'a str>,
        after: Option<(Uuid, String)>,
        size: usize,
    ) -> BoxFuture<'a, Result<Vec<Tagged>, StoreError>> {
        self.0.tagged(tag, after, size)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_large_configuration_only_what_changes_is_written() {
    let (home, catalog) = (tempfile::tempdir().unwrap(), Arc::new(catalog::of(&[])));
    let consumer = |number: u128, name: String| {
        let custom = "x".repeat(600);
        row(&catalog, "consumers", json!({ "id": Uuid::from_u128(number), "username": name, "custom_id": format!("{custom}{number}") }))
    };
    let embedded = Embedded::open(Settings::new(home.path().join("portcullis.db")), &catalog).unwrap();
    let reads = Arc::new(Mutex::new(0));
    let store = Arc::new(Counting(embedded, reads.clone()));
    let insert = |(schema, row)| Operation::Insert(schema, row);
    let operations = (0..2000).map(|number| insert(consumer(number, format!("c{number}")))).collect();
    store.apply(ChangeSet { operations }).await.unwrap();

    let copies = Copies::new(home.path(), 5);
    let (hashes, mut heard) = tokio::sync::mpsc::channel(100);
    let told = Box::new(move |hash: String| _ = hashes.try_send(hash));
    let keeper = keeper::Keeper { copies: copies.clone(), store: store.clone(), entities: catalog::watched(&[], &catalog), told };
    let following = tokio::spawn(keeper.follow());
    let next = async |heard: &mut tokio::sync::mpsc::Receiver<String>| {
        tokio::time::timeout(Duration::from_secs(30), heard.recv()).await.unwrap().unwrap()
    };
    let first = next(&mut heard).await;
    assert_eq!(numbers(&copies), [1]);
    let size = fs::metadata(&copies.list()[0].1).unwrap().len();

    store.apply(ChangeSet { operations: vec![insert(consumer(5000, "late".to_owned()))] }).await.unwrap();
    let second = next(&mut heard).await;
    let (schema, ann) = consumer(7, "ann".to_owned());
    let operations = vec![Operation::Update(schema.clone(), ann), Operation::Delete(schema, Uuid::from_u128(5000))];
    store.apply(ChangeSet { operations }).await.unwrap();
    let third = next(&mut heard).await;
    assert_eq!((numbers(&copies), *reads.lock().unwrap()), (vec![3, 2, 1], 1));
    assert!(first != second && second != third && first != third);
    assert!(fs::metadata(&copies.list()[0].1).unwrap().len() < size + 4000);

    // The copy says what the store holds, and so does the hash.
    let copy = copies.newest(&catalog).unwrap();
    let mut hash = Fingerprint::default();
    let mut held = 0;
    let schema = catalog.entity("consumers").unwrap().clone();
    let mut take = |schema: &Arc<Schema>, rows: Vec<Record>| {
        held += rows.len();
        for row in &rows {
            hash.put(&schema.name, id_of(row).unwrap(), row);
        }
    };
    store.everything(std::slice::from_ref(&schema), &mut take).await.unwrap();
    assert_eq!((copy.rows.len(), held, hash.text()), (2000, 2000, third));
    assert!(copy.rows.iter().any(|(_, row)| row["username"] == "ann"));
    following.abort();
    store.0.close().await;
}
