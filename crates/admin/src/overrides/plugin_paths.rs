//! Paths that plugins add to the API. Until a plugin brings its own handlers for them (see [`crate::Extension`]), they answer
//! what they answer where no instance of it has anything to show.

use http::{Method, StatusCode};
use portcullis_schema::Catalog;

use crate::answer::Answer;
use crate::table::{PlainHandler, Table};

const ABSENT: PlainHandler = |_, _| Box::pin(async { Ok(Answer::page(StatusCode::NOT_FOUND)) });
const FORGOTTEN: PlainHandler = |_, _| Box::pin(async { Ok(Answer::no_content()) });

/// Plugin, verb, path and what an absent instance answers.
const PATHS: [(&str, Method, &str, PlainHandler); 8] = [
    ("acme", Method::POST, "/acme", ABSENT),
    ("acme", Method::GET, "/acme/certificates", ABSENT),
    ("acme", Method::GET, "/acme/certificates/{certificates}", ABSENT),
    ("proxy-cache", Method::DELETE, "/proxy-cache", FORGOTTEN),
    ("proxy-cache", Method::GET, "/proxy-cache/{cache_key}", ABSENT),
    ("proxy-cache", Method::DELETE, "/proxy-cache/{cache_key}", ABSENT),
    ("proxy-cache", Method::GET, "/proxy-cache/{plugin_id}/caches/{cache_key}", ABSENT),
    ("proxy-cache", Method::DELETE, "/proxy-cache/{plugin_id}/caches/{cache_key}", ABSENT),
];

pub fn endpoints(table: &mut Table, catalog: &Catalog) {
    for (plugin, method, path, handler) in PATHS {
        if catalog.plugins.contains_key(plugin) {
            table.plain(method, path, handler);
        }
    }
}
