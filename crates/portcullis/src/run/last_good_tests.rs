#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::run::catalog;

fn row(catalog: &Catalog, entity: &str, row: serde_json::Value) -> (Arc<Schema>, Record) {
    (catalog.entity(entity).unwrap().clone(), row.as_object().unwrap().clone())
}

fn write(copies: &Copies, rows: &[(Arc<Schema>, Record)]) {
    fs::create_dir_all(&copies.directory).unwrap();
    let mut writing = Writing::new(File::create(copies.directory.join("next.tmp")).unwrap(), Uuid::max());
    for (schema, row) in rows {
        writing.rows(schema, std::slice::from_ref(row));
    }
    copies.finish(writing).unwrap();
}

#[test]
fn a_copy_is_read_back_as_it_was_written() {
    let (home, catalog) = (tempfile::tempdir().unwrap(), catalog::of(&[]));
    let copies = Copies::new(home.path(), 2);
    assert!(copies.newest(&catalog).is_none());
    let rows = [
        row(&catalog, "services", json!({ "id": Uuid::nil(), "host": "two\nlines", "tags": ["\u{1f3e0}"] })),
        row(&catalog, "consumers", json!({ "id": Uuid::nil(), "username": "ann" })),
    ];
    write(&copies, &rows);
    let copy = copies.newest(&catalog).unwrap();
    assert_eq!((copy.number, copy.workspace, copy.rows.len()), (1, Uuid::max(), 2));
    assert_eq!(copy.rows[0].1, rows[0].1);
    // The same again is no copy of its own; of different ones the last two stay.
    write(&copies, &rows);
    assert_eq!(copies.list().len(), 1);
    write(&copies, &rows[..1]);
    write(&copies, &rows[1..]);
    assert_eq!(copies.list().into_iter().map(|(number, _)| number).collect::<Vec<_>>(), [3, 2]);
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
    for broken in [&whole[..whole.len() - 1], &whole[..10], b"", &[whole.as_slice(), b"x\n"].concat()] {
        fs::write(&newest, broken).unwrap();
        assert!(read(2, &newest, &catalog).unwrap_err().starts_with(&newest.display().to_string()));
        assert_eq!(copies.newest(&catalog).unwrap().number, 1);
    }
    let mut flipped = whole.clone();
    flipped[FORM.len()] ^= 1;
    fs::write(&newest, flipped).unwrap();
    assert!(read(2, &newest, &catalog).unwrap_err().ends_with("(its checksum differs)"));
}

#[test]
fn what_has_expired_since_is_left_out() {
    let (home, catalog) = (tempfile::tempdir().unwrap(), catalog::of(&[]));
    let copies = Copies::new(home.path(), 5);
    let key = |number: u128, ttl: u64| row(&catalog, "keyauth_credentials", json!({ "id": Uuid::from_u128(number), "ttl": ttl }));
    write(&copies, &[key(1, 10), key(2, 10_000)]);
    let (_, path) = copies.list().remove(0);
    let text = fs::read_to_string(&path).unwrap();
    let words: Vec<&str> = text.lines().next_back().unwrap().split(' ').collect();
    let taken: u64 = words[2].parse::<u64>().unwrap() - 100;
    let body = text.rsplit_once("end ").unwrap().0;
    fs::write(&path, format!("{body}end 2 {taken} {} {}\n", words[3], seal(2, taken, words[3]))).unwrap();
    let copy = read(1, &path, &catalog).unwrap();
    assert_eq!(copy.rows.len(), 1);
    assert!((9890..=9900).contains(&copy.rows[0].1["ttl"].as_u64().unwrap()));
}
