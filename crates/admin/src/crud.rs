//! The generated endpoints of an entity: its collection and its items.

use portcullis_schema::{ApiError, Op, Record, Schema};
use portcullis_store::{Filter, Operation};
use serde_json::{Value, json};

use crate::answer::{Answer, Outcome, Refusal};
use crate::rows::{Address, Admin, id_of};
use crate::table::{Scope, ScopedHandler, admin_name};
use crate::{Call, overrides, page};

pub const LIST: ScopedHandler = |admin, call, scope| Box::pin(list(admin, call, scope));
pub const CREATE: ScopedHandler = |admin, call, scope| Box::pin(create(admin, call, scope));
pub const READ: ScopedHandler = |admin, call, scope| Box::pin(read(admin, call, scope));
pub const REPLACE: ScopedHandler = |admin, call, scope| Box::pin(replace(admin, call, scope));
pub const CHANGE: ScopedHandler = |admin, call, scope| Box::pin(change(admin, call, scope));
pub const REMOVE: ScopedHandler = |admin, call, scope| Box::pin(remove(admin, call, scope));

pub async fn list(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let size = page::size(&call.query)?;
    let after = page::offset(&call.query)?;
    let tags = page::tags(&call.query)?;
    let found = admin.store.page(&scope.schema, after, size, Filter { parent: None, tags }).await?;
    let rows = found.rows.into_iter().map(|row| admin.shown(&scope.schema, row)).collect();
    let next = found.next.map(|id| page::Next {
        offset: page::encode(&json!([id])),
        path: format!("/{}", admin_name(&scope.schema)),
        keep: page::kept(&call.query),
    });
    page::answer(rows, next)
}

pub async fn create(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let input = admin.typed(&scope.schema, &call.body, None);
    Ok(Answer::created(insert(admin, scope, input).await?))
}

/// Makes a new row of what a client gave, and shows it.
pub async fn insert(admin: &Admin, scope: &Scope, input: Record) -> Result<Value, Refusal> {
    let schema = &scope.schema;
    let nameless = is_nulled(&input);
    let record = admin.prepared(schema, input, Op::Insert, None).await?;
    admin.must_write("create", schema, None)?;
    if nameless {
        return Err(ApiError::null_primary_key().into());
    }
    overrides::admit_row(schema, &record, None)?;
    let row = admin.write(schema, Operation::Insert(schema.clone(), record)).await?;
    Ok(admin.shown(schema, row))
}

pub async fn read(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    match admin.find(&scope.schema, call.param(0)).await? {
        Some(row) => Ok(Answer::ok(admin.shown(&scope.schema, row))),
        None => Err(Refusal::not_found()),
    }
}

pub async fn replace(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let address = Address::of(&scope.schema, call.param(0))?;
    let input = admin.typed(&scope.schema, &call.body, None);
    Ok(Answer::ok(upsert(admin, scope, &address, input).await?))
}

/// Puts a row at an address, new or in the place of what is there. What the address says wins over the input.
pub async fn upsert(admin: &Admin, scope: &Scope, address: &Address, mut input: Record) -> Result<Value, Refusal> {
    let schema = &scope.schema;
    let _editing = admin.editing().await;
    let mut nameless = false;
    match address {
        Address::Id(id) => put_id(schema, &mut input, id.to_string().into()),
        Address::Named(field, value) => {
            input.insert(field.clone(), value.as_str().into());
            match admin.get(schema, address).await? {
                Some(existing) => _ = input.insert("id".to_owned(), id_of(&existing)?.to_string().into()),
                None => nameless = is_nulled(&input),
            }
        }
    }
    let record = admin.prepared(schema, input, Op::Upsert, None).await?;
    admin.must_write("create or update", schema, address.by())?;
    if let (true, Address::Named(field, value)) = (nameless, address) {
        return Err(ApiError::primary_key_violation(Record::from_iter([(field.clone(), value.as_str().into())])).into());
    }
    overrides::admit_row(schema, &record, address.by())?;
    let row = admin.write(schema, Operation::Upsert(schema.clone(), record)).await?;
    Ok(admin.shown(schema, row))
}

/// Whether a client asked for a row without an id. Kong finds out from its database only, after everything else was found right.
fn is_nulled(input: &Record) -> bool {
    input.get("id").is_some_and(Value::is_null)
}

/// What the address says goes before what the body says, but an id that is none is told as such.
pub fn put_id(schema: &Schema, input: &mut Record, id: Value) {
    let is_wrong = |given: &Value| !given.is_null() && schema.field("id").is_some_and(|field| field.check(given).is_err());
    if !input.get("id").is_some_and(is_wrong) {
        input.insert("id".to_owned(), id);
    }
}

pub async fn change(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let address = Address::of(&scope.schema, call.param(0))?;
    let _editing = admin.editing().await;
    let existing = admin.get(&scope.schema, &address).await?.ok_or_else(|| address.not_found())?;
    let input = admin.typed(&scope.schema, &call.body, Some(&existing));
    Ok(Answer::ok(update(admin, scope, existing, input, address.by()).await?))
}

/// Merges `input` into a row. The caller holds the editing lock since it read the row.
pub async fn update(admin: &Admin, scope: &Scope, existing: Record, input: Record, by: Option<&str>) -> Result<Value, Refusal> {
    let schema = &scope.schema;
    let record = admin.prepared(schema, input, Op::Update, Some(&existing)).await?;
    if record.get("id") != existing.get("id") {
        // An id cannot be changed: Kong looks for a row that has both and finds none.
        let key = by.unwrap_or("id");
        let key = Record::from_iter([(key.to_owned(), existing.get(key).cloned().unwrap_or_default())]);
        return Err(if by.is_some() { ApiError::not_found_by(key) } else { ApiError::not_found(key) }.into());
    }
    admin.must_write("update", schema, by)?;
    overrides::admit_row(schema, &record, by)?;
    let row = admin.write(schema, Operation::Update(schema.clone(), record)).await?;
    Ok(admin.shown(schema, row))
}

pub async fn remove(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let address = Address::of(&scope.schema, call.param(0))?;
    match admin.get(&scope.schema, &address).await? {
        Some(row) => delete(admin, scope, &row, address.by()).await,
        // Deleting what isn't there is no error at the top level.
        None => Ok(Answer::no_content()),
    }
}

/// Removes a row.
pub async fn delete(admin: &Admin, scope: &Scope, row: &Record, by: Option<&str>) -> Outcome {
    let schema = &scope.schema;
    admin.must_write("remove", schema, by)?;
    admin.apply(vec![Operation::Delete(schema.clone(), id_of(row)?)]).await?;
    Ok(Answer::no_content())
}
