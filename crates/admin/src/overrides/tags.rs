//! Tags: a view over the tags of all entities, which can only be read.

use http::Method;
use portcullis_schema::{ApiError, Violations};
use portcullis_store::Tagged;
use serde_json::{Value, json};
use uuid::Uuid;

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
    let mut found = match after {
        Some((id, shown, Some(entity))) => after_row(admin, tag, &(entity, id, shown), size + 1).await?,
        Some((id, shown, None)) => admin.store.tagged(tag, Some((id, shown)), size + 1).await?,
        None => admin.store.tagged(tag, None, size + 1).await?,
    };
    let of_all = tag.is_none();
    let more = found.len() > size;
    found.truncate(size);
    let last = found.last().filter(|_| more);
    let next = last.map(|(entity, id, tag)| page::Next {
        offset: page::encode(&json!([id, tag, entity])),
        path: call.path.clone(),
        keep: if of_all { page::kept(&call.query) } else { Vec::new() },
    });
    let rows = found.iter().map(|(entity, id, tag)| json!({ "entity_name": entity, "entity_id": id, "tag": tag }));
    page::answer(rows.collect(), next)
}

/// At most `size` tags behind this one. The store goes on behind an id and a tag, which several entities may share: so it
/// is asked for everything from this id on, and what was shown of that is left out here.
async fn after_row(admin: &Admin, tag: Option<&str>, shown: &Tagged, size: usize) -> Result<Vec<Tagged>, Refusal> {
    let (entity, id, _) = shown;
    // No row has an empty tag: the store goes on behind the id before this one.
    let before = id.as_u128().checked_sub(1).map(|before| (Uuid::from_u128(before), String::new()));
    let mut more = 64;
    loop {
        let mut found = admin.store.tagged(tag, before.clone(), size + more).await?;
        let here = found.iter().take_while(|(_, other, _)| other == id).count();
        if here == size + more {
            more *= 2;
            continue;
        }
        // A tag that is gone since takes the rest of its row with it.
        let last = found[..here].iter().rposition(|row| row == shown);
        let last = last.or_else(|| found[..here].iter().rposition(|(other, _, _)| other == entity));
        found.drain(..last.map_or(here, |at| at + 1));
        found.truncate(size);
        return Ok(found);
    }
}
