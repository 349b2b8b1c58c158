//! Which settings pass.
#![allow(clippy::unwrap_used)]

use portcullis_plugin::Entry;
use portcullis_plugin::testing::configured;
use serde_json::json;

use super::ProxyCache;

#[test]
fn the_store_has_to_be_one_there_is() {
    let error = configured(&Entry::of::<ProxyCache>(), json!({ "strategy": "memory", "memory": { "dictionary_name": "x" } })).unwrap_err();
    assert_eq!(error.fields.unwrap(), json!({ "@entity": ["missing shared dict 'x'"] }));
    assert!(configured(&Entry::of::<ProxyCache>(), json!({ "strategy": "memory" })).is_ok());
}
