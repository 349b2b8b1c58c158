//! `kong.db`: rows of entities, read and written while the code waits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use mlua::{IntoLuaMulti, Lua, Table, Value};
use portcullis_plugin::{Rows, Write};
use portcullis_schema::Record;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::custom::schema::leaked;
use crate::json;
use crate::moment::with;
use crate::run::{Made, Waiting};
use crate::settings::Settings;

/// Names of entities that code may come up with in one thread.
const NAMES: usize = 256;

/// The name for as long as the process lives: calls to the store carry it like that.
fn name(text: &str) -> mlua::Result<&'static str> {
    thread_local!(static KNOWN: RefCell<HashMap<String, &'static str>> = RefCell::default());
    KNOWN.with_borrow_mut(|known| match known.get(text) {
        Some(name) => Ok(*name),
        None if known.len() >= NAMES => Err(mlua::Error::runtime("too many different entities")),
        None => Ok(*known.entry(text.to_owned()).or_insert(leaked(text))),
    })
}

fn record(value: Option<Table>) -> mlua::Result<Record> {
    match value.map(Value::Table).map(|value| json::from_lua(&value)).transpose()?.flatten() {
        Some(Json::Object(record)) => Ok(record),
        _ => Ok(Record::new()),
    }
}

/// The field and value that find a row: a unique field's, or the id, which may come in a table.
fn key(field: Option<String>, value: &Value) -> mlua::Result<(&'static str, String)> {
    let value = match value {
        Value::Table(table) => table.get::<Value>("id")?,
        other => other.clone(),
    };
    let text = match json::from_lua(&value)?.unwrap_or_default() {
        Json::String(text) => text,
        other => other.to_string(),
    };
    Ok((name(field.as_deref().unwrap_or("id"))?, text))
}

fn wait(pending: Waiting) -> mlua::Result<()> {
    with(|moment| {
        *moment.run.pending.borrow_mut() = Some(pending);
        Ok(())
    })
}

fn row(found: Result<Option<Record>, String>) -> Made {
    Box::new(move |lua: &Lua| match found {
        Ok(Some(record)) => json::to_lua(lua, &Json::Object(record), false)?.into_lua_multi(lua),
        Ok(None) => Value::Nil.into_lua_multi(lua),
        Err(problem) => (Value::Nil, problem).into_lua_multi(lua),
    })
}

/// What is done to a row.
enum Deed {
    Insert,
    Update,
    Upsert,
    Delete,
}

async fn write(
    rows: Rows,
    entity: &'static str,
    deed: Deed,
    key: Option<(&'static str, String)>,
    fields: Record,
) -> Result<Option<Record>, String> {
    let told = |error: portcullis_plugin::RowsError| error.to_string();
    let existing = match &key {
        Some((field, value)) => rows.find(entity, field, value).await.map_err(told)?,
        None => None,
    };
    let id = existing.as_ref().and_then(|row| row.get("id")).and_then(Json::as_str).and_then(|id| Uuid::try_parse(id).ok());
    let write = match (deed, id) {
        (Deed::Update | Deed::Upsert, Some(id)) => Write::Update { entity, id, fields },
        (Deed::Delete, Some(id)) => Write::Delete { entity, id },
        (Deed::Delete, None) => return Ok(None),
        (Deed::Update, None) => return Err("[postgres] could not find the entity".to_owned()),
        (Deed::Insert, _) => Write::Insert { entity, row: fields },
        (Deed::Upsert, None) => {
            let mut fields = fields;
            if let Some((field, value)) = key {
                fields.entry(field).or_insert(value.into());
            }
            Write::Insert { entity, row: fields }
        }
    };
    Ok(rows.write(vec![write]).await.map_err(told)?.into_iter().next())
}

pub fn add(lua: &Lua, native: &Table, settings: &Arc<Settings>) -> mlua::Result<()> {
    let own = settings.rows.clone();
    let door = move || own.get().cloned().ok_or_else(|| mlua::Error::runtime("there is no database here"));
    let rows = door.clone();
    native.set("has_entity", lua.create_function(move |_, _: String| Ok(rows().is_ok()))?)?;
    let rows = door.clone();
    native.set(
        "row",
        lua.create_function(move |_, (entity, field, value): (String, Option<String>, Value)| {
            let (rows, entity, (field, value)) = (rows()?, name(&entity)?, key(field, &value)?);
            wait(Box::pin(async move { row(rows.find(entity, field, &value).await.map_err(|error| error.to_string())) }))
        })?,
    )?;
    let rows = door.clone();
    native.set(
        "row_write",
        lua.create_function(move |_, (entity, kind, field, value, fields): (String, String, Option<String>, Value, Option<Table>)| {
            let (rows, entity, fields) = (rows()?, name(&entity)?, record(fields)?);
            let (deed, key) = match kind.as_str() {
                "insert" => (Deed::Insert, None),
                "update" => (Deed::Update, Some(key(field, &value)?)),
                "upsert" => (Deed::Upsert, Some(key(field, &value)?)),
                _ => (Deed::Delete, Some(key(field, &value)?)),
            };
            wait(Box::pin(async move { row(write(rows, entity, deed, key, fields).await) }))
        })?,
    )?;
    native.set(
        "row_page",
        lua.create_function(move |_, (entity, size, after, parent): (String, usize, Option<String>, Option<Table>)| {
            let (rows, entity) = (door()?, name(&entity)?);
            let after = after.and_then(|id| Uuid::try_parse(&id).ok());
            let parent = match parent {
                Some(table) => Uuid::try_parse(&table.get::<String>("id")?).ok().zip(table.get::<String>("field").ok()),
                None => None,
            };
            let parent = parent.map(|(id, field)| (field, id));
            wait(Box::pin(async move {
                let page = rows.page(entity, size, after, parent).await;
                Box::new(move |lua: &Lua| match page {
                    Ok((list, next)) => {
                        let list = json::to_lua(lua, &Json::Array(list.into_iter().map(Json::Object).collect()), false)?;
                        (list, Value::Nil, Value::Nil, next.map(|id| id.to_string())).into_lua_multi(lua)
                    }
                    Err(problem) => (Value::Nil, problem.to_string()).into_lua_multi(lua),
                }) as Made
            }))
        })?,
    )
}
