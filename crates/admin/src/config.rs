//! `/config`: the whole configuration of a node without a database, as one document.

use http::{Method, StatusCode};

use crate::answer::{Answer, Refusal};
use crate::table::{PlainHandler, Table};

/// The only path that takes YAML.
pub const PATH: &str = "/config";

const WITHOUT_DATABASE: PlainHandler = |admin, _| {
    Box::pin(async {
        match admin.database() {
            false => Ok(Answer::no_content()),
            true => Err(Refusal::message(
                StatusCode::BAD_REQUEST,
                "this endpoint is only available when Kong is configured to not use a database",
            )),
        }
    })
};

/// Nothing reads or writes documents here yet, and a client must not take silence for success.
const MISSING: PlainHandler = |_, _| {
    Box::pin(async {
        Err(Refusal::message(StatusCode::NOT_IMPLEMENTED, "this version takes no declarative configuration over the Admin API"))
    })
};

pub fn endpoints(table: &mut Table) {
    table.plain(Method::GET, PATH, MISSING);
    table.plain(Method::POST, PATH, MISSING);
    table.at(PATH).before = Some(WITHOUT_DATABASE);
}
