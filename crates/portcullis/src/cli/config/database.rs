//! Declarative files into the database and out of it, in Kong's words.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use portcullis_entities::declarative::export;
use portcullis_schema::{Catalog, Record, Schema};
use portcullis_store::{ChangeSet, Operation, Parameters, Store};
use serde_json::Value;
use uuid::Uuid;

use super::super::terminal::Terminal;
use super::super::{Done, Failure};
use crate::conf::Settings;
use crate::run::stores::Stores;
use crate::run::{catalog, lua};

/// Every entity with its rows.
pub type Rows = Vec<(Arc<Schema>, Vec<Record>)>;

/// Opens the database of these settings for one command.
pub async fn open(settings: &Settings, catalog: &Arc<Catalog>) -> Result<Stores, Failure> {
    std::fs::create_dir_all(&settings.prefix).map_err(|error| Failure(format!("{}: {error}", settings.prefix.display())))?;
    // Who writes is not the node that runs here, if one does: that one is to hear of it.
    let stores = Stores::open(settings, catalog, Uuid::new_v4(), Vec::new()).await?;
    if stores.copy.is_some() {
        return Err(Failure("the database is away".to_owned()));
    }
    Ok(stores)
}

/// Lets go of it, with all that was written safe.
pub async fn close(stores: Stores) {
    if let Some(embedded) = stores.embedded {
        embedded.close().await;
    }
    if let Some(postgres) = stores.postgres {
        postgres.close().await;
    }
}

/// All rows that an export holds.
pub async fn rows(store: &dyn Store, catalog: &Catalog) -> Result<Rows, Failure> {
    let entities: Vec<_> = catalog.entities.iter().filter(|schema| catalog::is_exported(schema)).cloned().collect();
    let mut all: Rows = Vec::new();
    let mut take = |schema: &Arc<Schema>, rows: Vec<Record>| match all.last_mut() {
        Some((last, kept)) if last.name == schema.name => kept.extend(rows),
        _ => all.push((schema.clone(), rows)),
    };
    store.everything(&entities, &mut take).await.map_err(|error| Failure(error.to_string()))?;
    Ok(all)
}

pub async fn import(terminal: Terminal, settings: &Settings, file: Option<&str>) -> Done {
    let (catalog, document) = super::read(settings, file)?;
    let stores = open(settings, &catalog).await?;
    terminal.say("parse successful, beginning import");
    let mut operations = Vec::new();
    let mut parameters = Parameters::new();
    for (schema, rows) in document.records {
        match &*schema.name {
            PARAMETERS => parameters.extend(rows.iter().filter_map(|row| Some((text(row, "key")?, text(row, "value")?)))),
            _ => operations.extend(rows.into_iter().map(|row| Operation::Upsert(schema.clone(), row))),
        }
    }
    let mut done = stores.store.apply(ChangeSet { operations }).await.map(drop);
    if done.is_ok() && !parameters.is_empty() {
        done = stores.store.set_parameters(parameters).await;
    }
    close(stores).await;
    done.map_err(|error| Failure(format!("Failed importing:\n{error}")))?;
    terminal.say("import successful");
    Ok(ExitCode::SUCCESS)
}

/// The entity that tells of the database itself, and has no ids.
const PARAMETERS: &str = "parameters";

fn text(row: &Record, field: &str) -> Option<String> {
    row.get(field).and_then(Value::as_str).map(str::to_owned)
}

/// What the database says of itself, as an export holds it.
async fn parameters(store: &dyn Store, catalog: &Catalog) -> Result<Rows, Failure> {
    let Some(schema) = catalog.entity(PARAMETERS) else { return Ok(Rows::new()) };
    let found = store.parameters().await.map_err(|error| Failure(error.to_string()))?;
    let row = |(key, value): (String, String)| {
        Record::from_iter([("created_at".to_owned(), Value::Null), ("key".to_owned(), key.into()), ("value".to_owned(), value.into())])
    };
    Ok(vec![(schema.clone(), found.into_iter().map(row).collect())])
}

pub async fn export(settings: &Settings, path: &str) -> Done {
    let failed = |error: std::io::Error| {
        // Named from the root, as Kong does.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => Failure(format!("{} already exists. Will not overwrite it.", path.display())),
            _ => Failure(format!("{}: {error}", path.display())),
        }
    };
    if std::path::Path::new(path).exists() {
        return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
    }
    let entries = catalog::enabled(&settings.plugins, &lua::install(settings, Uuid::nil()))?;
    let catalog = Arc::new(catalog::flavored(entries, settings.flavor));
    let stores = open(settings, &catalog).await?;
    let read = async {
        let mut all = parameters(&*stores.store, &catalog).await?;
        all.extend(rows(&*stores.store, &catalog).await?);
        Ok::<_, Failure>(all)
    };
    let read = read.await;
    close(stores).await;
    let text = export::text(&read?);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}
