//! What separates a database from a wanted configuration: shown (`diff`), or taken away in one transaction (`sync`, `rollback`).
//!
//! Rows are the same if their ids are, or the names that the Admin API knows them by. Times of making and changing don't count,
//! and what is made at run time (tokens, certificates of ACME, the cluster's own id) is nobody's to take away.

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
use std::sync::Arc;

use portcullis_entities::declarative::Document;
use portcullis_schema::{Catalog, Kind, Record, Schema, id_of};
use portcullis_store::{ChangeSet, Operation};
use serde_json::Value;
use uuid::Uuid;

use super::super::terminal::Terminal;
use super::super::{Done, Failure};
use super::database::{Rows, close, open, rows};
use super::node::Node;
use crate::conf::Settings;
use crate::run::{catalog, last_good, lua, stores};

/// Exit code of `diff` when something differs.
const DIFFERS: u8 = 2;

/// One row that is to be made, changed or taken away.
struct Step {
    operation: Operation,
    /// One line for people.
    line: String,
}

#[derive(Default)]
struct Difference {
    steps: Vec<Step>,
    created: usize,
    changed: usize,
    deleted: usize,
}

pub async fn show(terminal: Terminal, settings: &Settings, file: Option<&str>, node: Option<&str>) -> Done {
    let (catalog, document) = super::read(settings, file)?;
    let found = match node {
        Some(url) => Node::reach(url, settings).await?.rows(&catalog).await,
        None => {
            let stores = open(settings, &catalog).await?;
            let found = rows(&*stores.store, &catalog).await;
            close(stores).await;
            found
        }
    };
    let difference = between(&found?, document.records);
    for step in &difference.steps {
        terminal.say(&step.line);
    }
    terminal.say(&format!("{} to create, {} to change, {} to delete", difference.created, difference.changed, difference.deleted));
    Ok(if difference.steps.is_empty() { ExitCode::SUCCESS } else { DIFFERS.into() })
}

pub async fn sync(terminal: Terminal, settings: &Settings, file: Option<&str>, node: Option<&str>) -> Done {
    let (catalog, document) = super::read(settings, file)?;
    if let Some(url) = node {
        return sync_node(terminal, &Node::reach(url, settings).await?, &catalog, document).await;
    }
    let stores = open(settings, &catalog).await?;
    let done = apply(terminal, &stores, &catalog, document.records).await;
    close(stores).await;
    done
}

async fn sync_node(terminal: Terminal, node: &Node, catalog: &Catalog, document: Document) -> Done {
    let found = node.rows(catalog).await?;
    // The node computes what is to be computed, so it is sent what the file says.
    let mut given = document.given();
    adopt_ids(&found, &mut given);
    let difference = between(&found, document.records);
    if let Some(step) = difference.steps.iter().find(|step| is_computed(step, &given)) {
        return Err(Failure(format!(
            "{}: the file has it hashed already (_transform: false), a node would hash it again: sync its database",
            step.line
        )));
    }
    let mut operations = Vec::with_capacity(difference.steps.len());
    for step in difference.steps {
        terminal.say(&step.line);
        operations.push(step.operation);
    }
    if !operations.is_empty() {
        node.change(operations, &given, &found).await?;
    }
    terminal.say(&format!("{} created, {} changed, {} deleted", difference.created, difference.changed, difference.deleted));
    Ok(ExitCode::SUCCESS)
}

/// Whether the row was given with computed values that would be computed once more.
fn is_computed(step: &Step, given: &Rows) -> bool {
    let Operation::Upsert(schema, row) = &step.operation else { return false };
    if schema.transforms.is_empty() || !given.iter().any(|(of, rows)| of.name == schema.name && rows.contains(row)) {
        return false;
    }
    let mut again = row.clone();
    schema.transform(&mut again).is_ok() && again != *row
}

/// Puts the database back to the copy `back` steps before the newest, one if not said. While it is away, makes that copy the
/// one that the next start serves from.
pub async fn rollback(terminal: Terminal, settings: &Settings, back: Option<&str>) -> Done {
    let back: usize = match back {
        None => 1,
        Some(text) => text.parse().map_err(|_| Failure(format!("how many copies back must be a number: '{text}'")))?,
    };
    let copies = stores::copies(settings).ok_or_else(|| Failure("copies are kept with database=postgres only".to_owned()))?;
    let list = copies.list();
    let (number, path) = list.get(back).ok_or_else(|| Failure(format!("there is no copy {back} steps back: {} are kept", list.len())))?;
    let entries = catalog::enabled(&settings.plugins, &lua::install(settings, Uuid::nil()))?;
    let catalog = Arc::new(catalog::flavored(entries, settings.flavor));
    let copy = last_good::read(Some(*number), path, &catalog)?;
    let stores = match open(settings, &catalog).await {
        Ok(stores) => stores,
        Err(Failure(problem)) => {
            copies.put_first(&copy)?;
            terminal.say(&format!("{problem}; a node that starts now serves from copy {number}"));
            return Ok(ExitCode::SUCCESS);
        }
    };
    let mut wanted: Rows = Vec::new();
    for (schema, row) in copy.rows {
        match wanted.last_mut() {
            Some((last, kept)) if last.name == schema.name => kept.push(row),
            _ => wanted.push((schema, vec![row])),
        }
    }
    terminal.say(&format!("going back to copy {number}"));
    let done = apply(terminal, &stores, &catalog, wanted).await;
    close(stores).await;
    done
}

async fn apply(terminal: Terminal, stores: &stores::Stores, catalog: &Arc<Catalog>, wanted: Rows) -> Done {
    let difference = between(&rows(&*stores.store, catalog).await?, wanted);
    let mut operations = Vec::with_capacity(difference.steps.len());
    for step in difference.steps {
        terminal.say(&step.line);
        operations.push(step.operation);
    }
    if !operations.is_empty() {
        stores.store.apply(ChangeSet { operations }).await.map_err(|error| Failure(format!("nothing was changed: {error}")))?;
    }
    terminal.say(&format!("{} created, {} changed, {} deleted", difference.created, difference.changed, difference.deleted));
    Ok(ExitCode::SUCCESS)
}

/// What a row is called: the value of the field that the Admin API finds it by.
fn name_of(schema: &Schema, row: &Record) -> Option<String> {
    schema.endpoint_key.and_then(|key| row.get(key)).and_then(Value::as_str).map(str::to_owned)
}

fn between(found: &Rows, mut wanted: Rows) -> Difference {
    adopt_ids(found, &mut wanted);
    let compared = catalog::is_configuration;
    let there: HashMap<(&str, Uuid), &Record> =
        found.iter().flat_map(|(schema, rows)| rows.iter().filter_map(|row| Some(((&*schema.name, id_of(row)?), row)))).collect();
    let kept: HashSet<(&str, Uuid)> =
        wanted.iter().flat_map(|(schema, rows)| rows.iter().filter_map(|row| Some((&*schema.name, id_of(row)?)))).collect();
    let mut difference = Difference::default();
    let line = |what: &str, schema: &Schema, row: &Record, more: &str| {
        let id = id_of(row).map(|id| id.to_string()).unwrap_or_default();
        let name = name_of(schema, row).map(|name| format!("{name} ({id})")).unwrap_or(id);
        format!("{what} {} {name}{more}", schema.name)
    };
    // What goes, children first: a row that is referenced stays.
    let order = children_first(found.iter().map(|(schema, _)| schema));
    for schema in &order {
        let rows = found.iter().filter(|(of, _)| of.name == schema.name && compared(of)).flat_map(|(_, rows)| rows);
        for row in rows {
            let Some(id) = id_of(row).filter(|id| !kept.contains(&(&*schema.name, *id))) else { continue };
            difference.deleted += 1;
            difference.steps.push(Step { operation: Operation::Delete(schema.clone(), id), line: line("delete", schema, row, "") });
        }
    }
    for (schema, rows) in wanted.iter().filter(|(schema, _)| compared(schema)) {
        for row in rows {
            let Some(id) = id_of(row) else { continue };
            let (what, more) = match there.get(&(&*schema.name, id)) {
                None => {
                    difference.created += 1;
                    ("create", String::new())
                }
                Some(before) => {
                    let fields = changed_fields(schema, before, row);
                    if fields.is_empty() {
                        continue;
                    }
                    difference.changed += 1;
                    ("change", format!(": {}", fields.join(", ")))
                }
            };
            let line = line(what, schema, row, &more);
            difference.steps.push(Step { operation: Operation::Upsert(schema.clone(), row.clone()), line });
        }
    }
    difference
}

/// A wanted row that is there under another id, by name, is that row: its id and every reference to it follow.
fn adopt_ids(found: &Rows, wanted: &mut Rows) {
    let mut by_name: HashMap<(&str, String), Uuid> = HashMap::new();
    for (schema, rows) in found {
        by_name.extend(rows.iter().filter_map(|row| Some(((&*schema.name, name_of(schema, row)?), id_of(row)?))));
    }
    let mut adopted: HashMap<(String, String), String> = HashMap::new();
    for (schema, rows) in wanted.iter_mut() {
        let taken: HashSet<Uuid> = rows.iter().filter_map(id_of).collect();
        for row in rows {
            let (Some(id), Some(name)) = (id_of(row), name_of(schema, row)) else { continue };
            let Some(there) = by_name.get(&(&*schema.name, name)).filter(|there| **there != id && !taken.contains(there)) else { continue };
            row.insert("id".to_owned(), there.to_string().into());
            adopted.insert((schema.name.to_string(), id.to_string()), there.to_string());
        }
    }
    if adopted.is_empty() {
        return;
    }
    for (schema, rows) in wanted.iter_mut() {
        let references = schema.fields.iter().filter_map(|(name, field)| match &field.kind {
            Kind::Foreign { entity, .. } => Some((name.to_string(), entity.to_string())),
            _ => None,
        });
        let references: Vec<_> = references.collect();
        for row in rows {
            for (name, entity) in &references {
                let Some(id) = row.get_mut(name).and_then(|value| value.get_mut("id")) else { continue };
                let new = id.as_str().and_then(|id| adopted.get(&(entity.clone(), id.to_owned())));
                if let Some(new) = new.cloned() {
                    *id = new.into();
                }
            }
        }
    }
}

/// Fields in which two rows differ; null and absent are one.
fn changed_fields(schema: &Schema, before: &Record, after: &Record) -> Vec<String> {
    let counts = |name: &str| !catalog::MOMENTS.contains(&name) && schema.field(name).is_some_and(|field| !field.transient);
    let names = schema.fields.iter().map(|(name, _)| name.to_string()).filter(|name| counts(name));
    let value = |row: &Record, name: &str| row.get(name).cloned().map(without_nulls).unwrap_or_default();
    names.filter(|name| value(before, name) != value(after, name)).collect()
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, without_nulls(value)));
            Value::Object(fields.filter(|(_, value)| !value.is_null()).collect())
        }
        // Whole numbers may have been kept as floating ones.
        Value::Number(number) => number.as_f64().map_or(Value::Number(number), Value::from),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// The schemas so that every one stands before those it references.
fn children_first<'a>(schemas: impl Iterator<Item = &'a Arc<Schema>>) -> Vec<Arc<Schema>> {
    let mut left: Vec<Arc<Schema>> = schemas.cloned().collect();
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let referenced: HashSet<String> = left
            .iter()
            .flat_map(|schema| schema.fields.iter().map(move |(_, field)| (schema, field)))
            .filter_map(|(schema, field)| match &field.kind {
                Kind::Foreign { entity, .. } if *entity != schema.name => Some(entity.to_string()),
                _ => None,
            })
            .collect();
        let (free, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|schema| !referenced.contains(&*schema.name));
        // References in a circle: any order is as good.
        if free.is_empty() {
            order.extend(rest);
            return order;
        }
        order.extend(free);
        left = rest;
    }
    order
}

#[cfg(test)]
#[path = "difference_tests.rs"]
mod tests;
