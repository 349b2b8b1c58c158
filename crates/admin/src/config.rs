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

pub fn endpoints(table: &mut Table) {
    table.plain(Method::GET, PATH, WITHOUT_DATABASE);
    table.plain(Method::POST, PATH, WITHOUT_DATABASE);
}
