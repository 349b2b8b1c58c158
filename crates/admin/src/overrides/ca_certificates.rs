//! A CA certificate that services or plugins verify against stays: they name it in lists, which no foreign key guards.

use std::sync::Arc;

use http::Method;
use portcullis_schema::{ApiError, Record, Schema};
use portcullis_store::Filter;
use serde_json::Value;

use crate::Call;
use crate::answer::{Answer, Outcome, Refusal};
use crate::crud;
use crate::rows::{Address, Admin, id_of};
use crate::table::{Scope, ScopedHandler, Table};

const PAGE: usize = 1000;
const REMOVE: ScopedHandler = |admin, call, scope| Box::pin(remove(admin, call, scope));

pub fn endpoints(table: &mut Table) {
    table.scoped(Method::DELETE, "/ca_certificates/{ca_certificates}", REMOVE);
}

async fn remove(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let address = Address::of(&scope.schema, call.param(0))?;
    let Some(row) = admin.get(&scope.schema, &address).await? else { return Ok(Answer::no_content()) };
    let id = id_of(&row)?.to_string();
    for name in ["services", "plugins"] {
        if let Some(user) = user(admin, admin.schema(name)?, &id).await? {
            let message = format!("ca certificate {id} is still referenced by {name} (id = {user})");
            return Err(ApiError::referenced_by_others(message).into());
        }
    }
    crud::delete(admin, scope, &row, address.by()).await
}

/// The id of a row that names the certificate.
async fn user(admin: &Admin, schema: &Arc<Schema>, id: &str) -> Result<Option<String>, Refusal> {
    let mut after = None;
    loop {
        let page = admin.store.page(schema, after, PAGE, Filter::default()).await?;
        if let Some(row) = page.rows.iter().find(|row| names(row, id)) {
            return Ok(Some(id_of(row)?.to_string()));
        }
        after = page.next;
        if after.is_none() {
            return Ok(None);
        }
    }
}

fn names(row: &Record, id: &str) -> bool {
    let own = row.get("ca_certificates");
    let configured = row.get("config").and_then(|config| config.get("ca_certificates"));
    let mut listed = [own, configured].into_iter().flatten().filter_map(Value::as_array).flatten();
    listed.any(|listed| listed.as_str() == Some(id))
}
