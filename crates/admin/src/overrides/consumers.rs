//! `GET /consumers?custom_id=x`: a list of the one consumer with that custom id, or of none.

use http::{Method, StatusCode};
use portcullis_store::Key;

use crate::Call;
use crate::answer::{Answer, Outcome};
use crate::crud;
use crate::page;
use crate::rows::Admin;
use crate::table::{Scope, ScopedHandler, Table};

const LIST: ScopedHandler = |admin, call, scope| Box::pin(list(admin, call, scope));

pub fn endpoints(table: &mut Table) {
    table.scoped(Method::GET, "/consumers", LIST);
}

async fn list(admin: &Admin, call: &Call, scope: &Scope) -> Outcome {
    let mut given = call.query.all("custom_id");
    let Some(first) = given.next() else { return crud::list(admin, call, scope).await };
    let wanted = first.filter(|text| !text.is_empty() && given.next().is_none());
    let Some(wanted) = wanted else {
        return Ok(Answer::message(StatusCode::BAD_REQUEST, "custom_id must be an unempty string"));
    };
    let row = admin.store.get(&scope.schema, Key::Unique("custom_id".to_owned(), wanted.into())).await?;
    page::answer(row.into_iter().map(|row| admin.shown(&scope.schema, row)).collect(), None)
}
