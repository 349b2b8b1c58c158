//! Tags: a view over the tags of all entities, which can only be read.

use http::Method;
use portcullis_schema::{ApiError, Violations};
use serde_json::{Value, json};

use crate::Call;
use crate::answer::{Outcome, Refusal};
use crate::page;
use crate::rows::Admin;
use crate::table::{Scope, ScopedHandler, Table};

const LIST: ScopedHandler = |admin, call, _| Box::pin(listed(admin, call, None));
const READ: ScopedHandler = |admin, call, scope| Box::pin(one(admin, call, scope));
const REFUSE: ScopedHandler = |_, _, _| {
    Box::pin(async {
        let complaint = "does not support insert/upsert/update/delete operations";
        Err(Refusal::from(ApiError::schema_violation(Violations::of("tags", complaint))))
    })
};

pub fn endpoints(table: &mut Table) {
    table.scoped(Method::GET, "/tags", LIST);
    table.scoped(Method::POST, "/tags", REFUSE);
    table.scoped(Method::GET, "/tags/{tags}", READ);
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        table.scoped(method, "/tags/{tags}", REFUSE);
    }
}

async fn one(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let tag = call.param(0);
    let complaint = scope.schema.field("tag").and_then(|field| field.check(&Value::from(tag)).err());
    if let Some(Value::String(complaint)) = complaint {
        return Err(ApiError::invalid_unique("tag", complaint).into());
    }
    listed(admin, call, Some(tag)).await
}

async fn listed(admin: &Admin, call: &Call, tag: Option<&str>) -> Outcome {
    let size = page::size(&call.query)?;
    let after = page::tag_offset(&call.query)?;
    // One more than asked for tells whether there is another page.
    let mut found = admin.store.tagged(tag, after, size + 1).await?;
    let more = found.len() > size;
    found.truncate(size);
    let last = found.last().filter(|_| more);
    let next = last.map(|(_, id, tag)| page::Next {
        offset: page::encode(&json!([id, tag])),
        path: call.path.clone(),
        keep: page::kept(&call.query),
    });
    let rows = found.iter().map(|(entity, id, tag)| json!({ "entity_name": entity, "entity_id": id, "tag": tag }));
    page::answer(rows.collect(), next)
}
