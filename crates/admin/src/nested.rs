//! The generated endpoints that follow references: the children of a row (`/services/x/routes`) and the row that a foreign
//! field points to (`/routes/x/service`).

use portcullis_schema::{Op, Record};
use portcullis_store::{Filter, Key, Operation};
use serde_json::json;
use uuid::Uuid;

use crate::answer::{Answer, Outcome, Refusal};
use crate::rows::{Address, Admin, foreign_id, id_of, record, uuid};
use crate::table::{Scope, ScopedHandler};
use crate::{Call, crud, page};

pub const LIST: ScopedHandler = |admin, call, scope| Box::pin(list(admin, call, scope));
pub const CREATE: ScopedHandler = |admin, call, scope| Box::pin(create(admin, call, scope));
pub const READ: ScopedHandler = |admin, call, scope| Box::pin(read(admin, call, scope));
pub const REPLACE: ScopedHandler = |admin, call, scope| Box::pin(replace(admin, call, scope));
pub const CHANGE: ScopedHandler = |admin, call, scope| Box::pin(change(admin, call, scope));
pub const REMOVE: ScopedHandler = |admin, call, scope| Box::pin(remove(admin, call, scope));
pub const READ_PARENT: ScopedHandler = |admin, call, scope| Box::pin(read_parent(admin, call, scope));
pub const REPLACE_PARENT: ScopedHandler = |admin, call, scope| Box::pin(replace_parent(admin, call, scope));
pub const CHANGE_PARENT: ScopedHandler = |admin, call, scope| Box::pin(change_parent(admin, call, scope));
pub const REMOVE_PARENT: ScopedHandler = |admin, call, scope| Box::pin(remove_parent(admin, call, scope));

/// The row that the path starts with, or 404.
pub async fn parent(admin: &Admin, call: &Call, scope: &Scope) -> Result<Record, Refusal> {
    let schema = scope.parent.as_ref().unwrap_or(&scope.schema);
    admin.find(schema, call.param(0)).await?.ok_or_else(Refusal::not_found)
}

async fn parent_id(admin: &Admin, call: &Call, scope: &Scope) -> Result<Uuid, Refusal> {
    id_of(&parent(admin, call, scope).await?)
}

/// How a path names a child: like any row, or by a field that is only unique below one parent.
enum Child {
    At(Address),
    Within(&'static str),
}

impl Child {
    fn of(scope: &Scope, text: &str) -> Result<Self, Refusal> {
        let schema = &scope.schema;
        let unique = schema.endpoint_key.and_then(|key| schema.field(key)).is_some_and(|field| field.unique);
        match *schema.cache_key {
            [first, second] if !unique && uuid(text).is_none() && (first == scope.field || second == scope.field) => {
                Ok(Self::Within(if first == scope.field { second } else { first }))
            }
            _ => Ok(Self::At(Address::of(schema, text)?)),
        }
    }

    /// The field that names the child, for messages.
    fn by(&self) -> Option<&str> {
        match self {
            Self::At(address) => address.by(),
            Self::Within(_) => None,
        }
    }

    async fn get(&self, admin: &Admin, scope: &Scope, parent: Uuid, text: &str) -> Result<Option<Record>, Refusal> {
        match self {
            Self::At(address) => admin.get(&scope.schema, address).await,
            Self::Within(field) => {
                let key = vec![(scope.field.clone(), parent.to_string().into()), ((*field).to_owned(), text.into())];
                Ok(admin.store.get(&scope.schema, Key::Composite(key)).await?)
            }
        }
    }
}

/// The child that the path names, if it belongs to the parent, and the field that names it.
pub async fn child(admin: &Admin, call: &Call, scope: &Scope) -> Result<(Record, Option<String>), Refusal> {
    let parent = parent_id(admin, call, scope).await?;
    let child = Child::of(scope, call.param(1))?;
    let row = child.get(admin, scope, parent, call.param(1)).await?;
    let row = row.filter(|row| foreign_id(row, &scope.field) == Some(parent)).ok_or_else(Refusal::not_found)?;
    Ok((row, child.by().map(str::to_owned)))
}

pub async fn list(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let parent = parent_id(admin, call, scope).await?;
    let size = page::size(&call.query)?;
    let after = page::offset(&call.query)?;
    // Below a parent, tags are read and then ignored, as Kong does.
    page::tags(&call.query)?;
    let filter = Filter { parent: Some((scope.field.clone(), parent)), tags: None };
    let found = admin.store.page(&scope.schema, after, size, filter).await?;
    let rows = found.rows.into_iter().map(|row| admin.shown(&scope.schema, row)).collect();
    let next = found.next.map(|id| page::Next { offset: page::encode(&json!([id])), path: call.path.clone(), keep: Vec::new() });
    page::answer(rows, next)
}

pub async fn create(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let parent = parent_id(admin, call, scope).await?;
    let mut input = admin.typed(&scope.schema, &call.body, None);
    input.insert(scope.field.clone(), json!({ "id": parent }));
    Ok(Answer::created(crud::insert(admin, scope, input).await?))
}

pub async fn read(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let (row, _) = child(admin, call, scope).await?;
    Ok(Answer::ok(admin.shown(&scope.schema, row)))
}

pub async fn replace(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let parent = parent_id(admin, call, scope).await?;
    let mut input = admin.typed(&scope.schema, &call.body, None);
    input.insert(scope.field.clone(), json!({ "id": parent }));
    let child = Child::of(scope, call.param(1))?;
    let address = match &child {
        Child::At(address) => address.clone(),
        Child::Within(field) => {
            input.entry(*field).or_insert_with(|| call.param(1).into());
            match child.get(admin, scope, parent, call.param(1)).await? {
                Some(row) => Address::Id(id_of(&row)?),
                None => Address::Id(Uuid::new_v4()),
            }
        }
    };
    Ok(Answer::ok(crud::upsert(admin, scope, &address, input).await?))
}

pub async fn change(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let _editing = admin.editing().await;
    let (row, by) = child(admin, call, scope).await?;
    let mut input = admin.typed(&scope.schema, &call.body, Some(&row));
    // What the path says of the parent counts as given, unless the body says something else.
    if let Some(parent) = row.get(scope.field.as_str()) {
        input.entry(scope.field.clone()).or_insert_with(|| parent.clone());
    }
    Ok(Answer::ok(crud::update(admin, scope, row, input, by.as_deref()).await?))
}

pub async fn remove(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let (row, by) = child(admin, call, scope).await?;
    crud::delete(admin, scope, &row, by.as_deref()).await
}

/// The row that holds the reference, and the row it points to.
async fn referenced(admin: &Admin, call: &Call, scope: &Scope) -> Result<(Record, Option<Record>), Refusal> {
    let holder = parent(admin, call, scope).await?;
    let row = match foreign_id(&holder, &scope.field) {
        Some(id) => admin.get_by_id(&scope.schema, id).await?,
        None => None,
    };
    Ok((holder, row))
}

async fn read_parent(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let (_, row) = referenced(admin, call, scope).await?;
    let row = row.ok_or_else(Refusal::not_found)?;
    Ok(Answer::ok(admin.shown(&scope.schema, row)))
}

/// The row at the other end of a reference is never removed this way; there has to be one all the same.
async fn remove_parent(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let holder = parent(admin, call, scope).await?;
    match foreign_id(&holder, &scope.field) {
        Some(_) => Ok(Answer::message(http::StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")),
        None => Err(Refusal::not_found()),
    }
}

async fn change_parent(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let _editing = admin.editing().await;
    let (_, row) = referenced(admin, call, scope).await?;
    let row = row.ok_or_else(Refusal::not_found)?;
    let input = admin.typed(&scope.schema, &call.body, Some(&row));
    Ok(Answer::ok(crud::update(admin, scope, row, input, None).await?))
}

/// Replaces the row that the reference points to; where it points nowhere, a new row is made and referenced.
async fn replace_parent(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let (mut holder, row) = referenced(admin, call, scope).await?;
    let input = admin.typed(&scope.schema, &call.body, None);
    if let Some(row) = row {
        let address = Address::Id(id_of(&row)?);
        return Ok(Answer::ok(crud::upsert(admin, scope, &address, input).await?));
    }
    let holder_schema = scope.parent.as_ref().unwrap_or(&scope.schema);
    let made = admin.prepared(&scope.schema, input, Op::Insert, None).await?;
    let id = id_of(&made)?;
    let reference = record(json!({ scope.field.as_str(): { "id": id } }));
    holder = admin.catalog.prepare(holder_schema, reference, Op::Update, Some(&holder), crate::rows::now())?;
    admin.must_write("create", &scope.schema, None)?;
    let operations = vec![Operation::Insert(scope.schema.clone(), made.clone()), Operation::Update(holder_schema.clone(), holder)];
    let applied = admin.apply(operations).await?;
    let stored = applied.changes.iter().find(|change| change.id == id).and_then(|change| change.new.clone());
    Ok(Answer::ok(admin.shown(&scope.schema, stored.unwrap_or(made))))
}
