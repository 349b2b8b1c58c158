//! Certificates: addressed by any name they serve, and written together with those names (`snis`).

use std::sync::Arc;

use http::{Method, StatusCode};
use portcullis_schema::{ApiError, Catalog, Op, Record, Schema, Violations};
use portcullis_store::{Filter, Key, Operation};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Call;
use crate::answer::{Answer, Outcome, Refusal};
use crate::crud::put_id;
use crate::page;
use crate::rows::{Address, Admin, foreign_id, id_of, now, record, uuid};
use crate::table::{PlainHandler, Scope, ScopedHandler, Table, admin_name};

const PAGE: usize = 1000;
const COLLECTION: &str = "/certificates";
const ITEM: &str = "/certificates/{certificates}";

const KNOWN_NAME: PlainHandler = |admin, call| Box::pin(known_name(admin, call));
const LIST: ScopedHandler = |admin, call, scope| Box::pin(list(admin, call, scope));
const CREATE: ScopedHandler = |admin, call, scope| Box::pin(create(admin, call, scope));
const READ: ScopedHandler = |admin, call, scope| Box::pin(read(admin, call, scope));
const REPLACE: ScopedHandler = |admin, call, scope| Box::pin(replace(admin, call, scope));
const CHANGE: ScopedHandler = |admin, call, scope| Box::pin(change(admin, call, scope));
const REMOVE: ScopedHandler = |admin, call, scope| Box::pin(remove(admin, call, scope));

pub fn endpoints(table: &mut Table, catalog: &Catalog) {
    if catalog.entity("certificates").is_none() {
        return;
    }
    table.scoped(Method::GET, COLLECTION, LIST);
    table.scoped(Method::POST, COLLECTION, CREATE);
    for (method, handler) in [(Method::GET, READ), (Method::PUT, REPLACE), (Method::PATCH, CHANGE), (Method::DELETE, REMOVE)] {
        table.scoped(method, ITEM, handler);
    }
    let below: Vec<String> = table.patterns().into_iter().filter(|pattern| pattern.starts_with(ITEM)).map(str::to_owned).collect();
    for pattern in below {
        let named = pattern == ITEM || pattern[ITEM.len()..].starts_with("/snis");
        table.at(&pattern).before = Some(if named { KNOWN_NAME } else { ONLY_IDS });
    }
}

/// What uses a certificate is found by the certificate's id alone.
const ONLY_IDS: PlainHandler = |_, call| {
    Box::pin(async {
        match uuid(call.param(0)) {
            Some(_) => Ok(Answer::no_content()),
            None => Err(ApiError::invalid_primary_key(record(json!({ "id": "expected a valid UUID" }))).into()),
        }
    })
};

/// A name in the place of an id must be one that a certificate serves. PUT of a new name makes a certificate.
async fn known_name(admin: &Admin, call: &Call) -> Outcome {
    let makes = call.method == Method::PUT && call.params.len() == 1;
    if uuid(call.param(0)).is_some() || sni(admin, call.param(0)).await?.is_some() || makes {
        return Ok(Answer::no_content());
    }
    Err(Refusal::message(StatusCode::NOT_FOUND, "SNI not found"))
}

/// The SNI of this name. Errors with code 10 if it cannot be one.
async fn sni(admin: &Admin, name: &str) -> Result<Option<Record>, Refusal> {
    let schema = admin.schema("snis")?;
    if let Some(Value::String(complaint)) = schema.field("name").and_then(|field| field.check(&name.into()).err()) {
        return Err(ApiError::invalid_unique("name", complaint).into());
    }
    Ok(admin.store.get(schema, Key::Unique("name".to_owned(), name.into())).await?)
}

/// The certificate that serves this name.
pub async fn named(admin: &Admin, name: &str) -> Result<Option<Record>, Refusal> {
    let Some(id) = sni(admin, name).await?.and_then(|sni| foreign_id(&sni, "certificate")) else { return Ok(None) };
    admin.get_by_id(admin.schema("certificates")?, id).await
}

/// The names that a certificate serves.
async fn snis_of(admin: &Admin, certificate: Uuid) -> Result<Vec<Record>, Refusal> {
    let schema = admin.schema("snis")?;
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let filter = Filter { parent: Some(("certificate".to_owned(), certificate)), tags: None };
        let page = admin.store.page(schema, after, PAGE, filter).await?;
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            return Ok(rows);
        }
    }
}

async fn shown(admin: &Admin, schema: &Schema, row: Record) -> Result<Value, Refusal> {
    let snis = snis_of(admin, id_of(&row)?).await?;
    let mut names: Vec<&str> = snis.iter().filter_map(name_of).collect();
    names.sort_unstable();
    let names = json!(names);
    let mut shown = admin.shown(schema, row);
    shown["snis"] = names;
    Ok(shown)
}

fn name_of(row: &Record) -> Option<&str> {
    row.get("name").and_then(Value::as_str)
}

async fn list(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let size = page::size(&call.query)?;
    let after = page::offset(&call.query)?;
    let tags = page::tags(&call.query)?;
    let found = admin.store.page(&scope.schema, after, size, Filter { parent: None, tags }).await?;
    let mut rows = Vec::with_capacity(found.rows.len());
    for row in found.rows {
        rows.push(shown(admin, &scope.schema, row).await?);
    }
    let next = found.next.map(|id| page::Next {
        offset: page::encode(&json!([id])),
        path: format!("/{}", admin_name(&scope.schema)),
        keep: page::kept(&call.query),
    });
    page::answer(rows, next)
}

async fn create(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let input = admin.typed(&scope.schema, &call.body, None);
    let _editing = admin.editing().await;
    let row = Written { scope, op: Op::Insert, existing: None, input, action: "create" }.write(admin).await?;
    Ok(Answer::created(row))
}

async fn read(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let row = at(admin, call, scope).await?;
    Ok(Answer::ok(shown(admin, &scope.schema, row).await?))
}

/// The certificate of the path. Errors with code 6, which Kong only does for certificates.
async fn at(admin: &Admin, call: &Call, scope: &Scope) -> Result<Record, Refusal> {
    let row = admin.find(&scope.schema, call.param(0)).await?;
    match (row, uuid(call.param(0))) {
        (Some(row), _) => Ok(row),
        (None, Some(id)) => Err(Address::Id(id).not_found().into()),
        (None, None) => Err(Refusal::not_found()),
    }
}

async fn replace(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let mut input = admin.typed(&scope.schema, &call.body, None);
    one_name_is_a_list(&mut input);
    match input.get_mut("snis") {
        // The name in the path joins those that are given. Where none are, the certificate serves none.
        Some(Value::Array(names)) if uuid(call.param(0)).is_none() && !names.iter().any(|name| name == call.param(0)) => {
            names.push(call.param(0).into());
        }
        Some(_) => {}
        None => _ = input.insert("snis".to_owned(), Value::Null),
    }
    let _editing = admin.editing().await;
    let id = match uuid(call.param(0)) {
        Some(id) => id,
        None => match named(admin, call.param(0)).await? {
            Some(row) => id_of(&row)?,
            None => Uuid::new_v4(),
        },
    };
    put_id(&scope.schema, &mut input, id.to_string().into());
    let row = Written { scope, op: Op::Upsert, existing: None, input, action: "create or update" }.write(admin).await?;
    Ok(Answer::ok(row))
}

fn one_name_is_a_list(input: &mut Record) {
    if let Some(names @ Value::String(_)) = input.get_mut("snis") {
        *names = Value::Array(vec![names.take()]);
    }
}

async fn change(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let _editing = admin.editing().await;
    let existing = at(admin, call, scope).await?;
    let mut input = admin.typed(&scope.schema, &call.body, Some(&existing));
    one_name_is_a_list(&mut input);
    put_id(&scope.schema, &mut input, id_of(&existing)?.to_string().into());
    let row = Written { scope, op: Op::Update, existing: Some(existing), input, action: "update" }.write(admin).await?;
    Ok(Answer::ok(row))
}

async fn remove(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let Some(row) = admin.find(&scope.schema, call.param(0)).await? else { return Ok(Answer::no_content()) };
    admin.must_write("remove", &scope.schema, None)?;
    let id = id_of(&row)?;
    let snis = admin.schema("snis")?;
    let mut operations = Vec::new();
    for sni in snis_of(admin, id).await? {
        operations.push(Operation::Delete(snis.clone(), id_of(&sni)?));
    }
    operations.push(Operation::Delete(scope.schema.clone(), id));
    admin.apply(operations).await?;
    Ok(Answer::no_content())
}

/// A certificate about to be written with its names.
struct Written<'a> {
    scope: &'a Scope,
    op: Op,
    existing: Option<Record>,
    input: Record,
    action: &'static str,
}

impl Written<'_> {
    async fn write(self, admin: &Admin) -> Result<Value, Refusal> {
        let schema = &self.scope.schema;
        let names = self.input.get("snis").cloned();
        if let Some(twice) = names.as_ref().and_then(duplicate) {
            return Err(complaint(format!("{twice} is duplicated")));
        }
        let own = self.input.get("id").and_then(Value::as_str).and_then(uuid).filter(|_| self.op != Op::Insert);
        let given = names.iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str);
        for name in given {
            check_owner(admin, name, own).await?;
        }
        let mut row = admin.prepared(schema, self.input, self.op, self.existing.as_ref()).await?;
        row.remove("snis");
        let id = id_of(&row)?;
        let snis = match names {
            Some(Value::Array(names)) => replaced(admin, id, names.iter().filter_map(Value::as_str).collect()).await?,
            Some(Value::Null) => replaced(admin, id, Vec::new()).await?,
            _ => Vec::new(),
        };
        admin.must_write(self.action, schema, None)?;
        let operation = match self.op {
            Op::Insert => Operation::Insert(schema.clone(), row.clone()),
            Op::Update => Operation::Update(schema.clone(), row.clone()),
            Op::Upsert => Operation::Upsert(schema.clone(), row.clone()),
        };
        admin.apply([vec![operation], snis].concat()).await?;
        shown(admin, schema, admin.get_by_id(schema, id).await?.unwrap_or(row)).await
    }
}

fn complaint(text: String) -> Refusal {
    ApiError::schema_violation(Violations::of("snis", text)).into()
}

fn duplicate(names: &Value) -> Option<&str> {
    let names = names.as_array()?;
    let twice = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name));
    twice.and_then(|(_, name)| name.as_str())
}

/// A name that another certificate serves is refused.
async fn check_owner(admin: &Admin, name: &str, own: Option<Uuid>) -> Result<(), Refusal> {
    match sni(admin, name).await?.and_then(|sni| foreign_id(&sni, "certificate")) {
        Some(owner) if own != Some(owner) => Err(complaint(format!("{name} already associated with existing certificate '{owner}'"))),
        _ => Ok(()),
    }
}

/// What has to be done so that the certificate serves these names and no others.
async fn replaced(admin: &Admin, certificate: Uuid, names: Vec<&str>) -> Result<Vec<Operation>, Refusal> {
    let schema: &Arc<Schema> = admin.schema("snis")?;
    let mut operations = Vec::new();
    let existing = snis_of(admin, certificate).await?;
    for sni in existing.iter().filter(|sni| !name_of(sni).is_some_and(|name| names.contains(&name))) {
        operations.push(Operation::Delete(schema.clone(), id_of(sni)?));
    }
    for name in names {
        if existing.iter().any(|sni| name_of(sni) == Some(name)) {
            continue;
        }
        let input = record(json!({ "name": name, "certificate": { "id": certificate } }));
        let row = admin.catalog.prepare(schema, input, Op::Insert, None, now())?;
        operations.push(Operation::Insert(schema.clone(), row));
    }
    Ok(operations)
}
