//! Paths of documents from before Kong 3.0, when a path that looked like a pattern was one.

use portcullis_schema::Record;
use portcullis_schema::address::normalize_path;
use serde_json::Value;

/// Rewrites a route's paths to today's meaning: patterns get their `~`, prefixes their normal form.
pub(super) fn migrate(route: &mut Record) {
    let Some(Value::Array(paths)) = route.get_mut("paths") else { return };
    for path in paths {
        if let Value::String(text) = path
            && text.starts_with('/')
        {
            *text = if is_prefix(text) { String::from_utf8_lossy(&normalize_path(text)).into_owned() } else { format!("~{text}") };
        }
    }
}

fn is_prefix(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b'/' | b'%'))
}
