//! What the transformers ask of the header names in their settings.

use serde_json::Value;

fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Errors with the complaint that users get.
fn check_name(name: &str) -> Result<(), String> {
    if is_header_name(name) { Ok(()) } else { Err(format!("'{name}' is not a valid header")) }
}

fn halves(value: &Value) -> (&str, &str) {
    value.as_str().unwrap_or_default().split_once(':').unwrap_or_default()
}

/// A header to remove. What stands behind a colon is ignored.
pub fn check_removed(value: &Value) -> Result<(), String> {
    check_name(value.as_str().unwrap_or_default().split(':').next().unwrap_or_default())
}

/// `Header:value`.
pub fn check_header(value: &Value) -> Result<(), String> {
    check_name(halves(value).0)
}

/// `Header:New-Header`.
pub fn check_renamed(value: &Value) -> Result<(), String> {
    check_header(value)?;
    check_name(halves(value).1)
}
