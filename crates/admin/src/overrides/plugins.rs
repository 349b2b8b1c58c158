//! Plugins: which there are, and protocols that must meet those of the route or service they are attached to.

use std::collections::HashSet;

use http::Method;
use portcullis_schema::{ApiError, Record, Violations};
use portcullis_store::Filter;
use serde_json::{Value, json};

use crate::Call;
use crate::answer::{Answer, Outcome, Refusal};
use crate::crud;
use crate::rows::{Admin, foreign_id};
use crate::table::{PlainHandler, Scope, ScopedHandler, Table};

const PAGE: usize = 1000;
const CHANGE: ScopedHandler = |admin, call, scope| Box::pin(change(admin, call, scope));
const ENABLED: PlainHandler = |admin, _| {
    Box::pin(async {
        let names: Vec<&String> = admin.catalog.plugins.keys().collect();
        Ok(Answer::ok(json!({ "enabled_plugins": names })))
    })
};

pub fn endpoints(table: &mut Table) {
    table.plain(Method::GET, "/plugins/enabled", ENABLED);
    table.scoped(Method::PATCH, "/plugins/{plugins}", CHANGE);
}

async fn change(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    if admin.find(&scope.schema, call.param(0)).await?.is_none() {
        return Ok(Answer::not_found());
    }
    crud::change(admin, call, scope).await
}

/// A plugin none of whose protocols its route speaks would never run.
pub async fn admit(admin: &Admin, row: &Record) -> Result<(), Refusal> {
    let wanted = protocols(row);
    if wanted.is_empty() {
        return Ok(());
    }
    let refused = |complaint: &str| Err(ApiError::schema_violation(Violations::of("protocols", complaint)).into());
    let routes = admin.schema("routes")?;
    if let Some(id) = foreign_id(row, "route") {
        let route = admin.get_by_id(routes, id).await?;
        return match route {
            Some(route) if wanted.is_disjoint(&protocols(&route)) => refused("must match the associated route's protocols"),
            _ => Ok(()),
        };
    }
    let Some(service) = foreign_id(row, "service") else { return Ok(()) };
    let mut after = None;
    let mut any = false;
    loop {
        let filter = Filter { parent: Some(("service".to_owned(), service)), tags: None };
        let page = admin.store.page(routes, after, PAGE, filter).await?;
        if page.rows.iter().any(|route| !wanted.is_disjoint(&protocols(route))) {
            return Ok(());
        }
        any |= !page.rows.is_empty();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    match any {
        true => refused("must match the protocols of at least one route pointing to this Plugin's service"),
        false => Ok(()),
    }
}

fn protocols(row: &Record) -> HashSet<String> {
    let listed = row.get("protocols").and_then(Value::as_array).into_iter().flatten();
    listed.filter_map(Value::as_str).map(str::to_owned).collect()
}
