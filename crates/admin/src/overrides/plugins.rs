//! Plugins: which there are, and protocols that must meet those of the route or service they are attached to.

use std::collections::HashSet;

use http::Method;
use portcullis_schema::{ApiError, Record, Violations};
use portcullis_store::Filter;
use serde_json::{Value, json};

use crate::Call;
use crate::answer::{Answer, Outcome, Refusal};
use crate::crud;
use crate::rows::{Admin, uuid};
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
    // Without a name Kong looks the plugin up first, to know what it is.
    if !call.body.fields.contains_key("name") && admin.find(&scope.schema, call.param(0)).await?.is_none() {
        return Ok(Answer::not_found());
    }
    crud::change(admin, call, scope).await
}

/// A plugin none of whose protocols its route speaks would never run. Only protocols that are given are looked at; a change
/// is looked at together with what the row has.
pub async fn admit(admin: &Admin, input: &Record, existing: Option<&Record>) -> Result<(), Refusal> {
    let given = |field: &str| input.get(field).or_else(|| existing.and_then(|row| row.get(field)));
    let concerned = existing.is_none() || ["protocols", "service", "route"].iter().any(|field| input.contains_key(*field));
    let Some(wanted @ Value::Array(_)) = given("protocols").filter(|_| concerned) else { return Ok(()) };
    let wanted = listed(Some(wanted));
    let refused = |complaint: &str| Err(ApiError::schema_violation(Violations::of("protocols", complaint)).into());
    let routes = admin.schema("routes")?;
    let id = |field: &str| given(field)?.get("id")?.as_str().and_then(uuid);
    if given("route").is_some_and(Value::is_object) {
        let route = match id("route") {
            Some(id) => admin.get_by_id(routes, id).await?,
            None => None,
        };
        return match route {
            Some(route) if wanted.is_disjoint(&listed(route.get("protocols"))) => refused("must match the associated route's protocols"),
            _ => Ok(()),
        };
    }
    let Some(service) = id("service") else { return Ok(()) };
    let mut after = None;
    let mut any = false;
    loop {
        let filter = Filter { parent: Some(("service".to_owned(), service)), tags: None };
        let page = admin.store.page(routes, after, PAGE, filter).await?;
        if page.rows.iter().any(|route| !wanted.is_disjoint(&listed(route.get("protocols")))) {
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

fn listed(protocols: Option<&Value>) -> HashSet<String> {
    let protocols = protocols.and_then(Value::as_array).into_iter().flatten();
    protocols.filter_map(Value::as_str).map(str::to_owned).collect()
}
