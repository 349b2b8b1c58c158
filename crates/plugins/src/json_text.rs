//! JSON as Kong writes it into bodies: compact, slashes escaped, numbers with at most 16 significant digits.
//!
//! Fields stand in the order of their names; Kong's is that of a hash table.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// The text of a value. None if it cannot be written.
pub fn write(value: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut out, Kongs)).ok()?;
    Some(out)
}

struct Kongs;

impl Formatter for Kongs {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['/', '\x7f']) {
            writer.write_all(&rest.as_bytes()[..at])?;
            writer.write_all(if rest.as_bytes()[at] == b'/' { b"\\/" } else { b"\\u007f" })?;
            rest = &rest[at + 1..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_i64<W: ?Sized + Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        self.write_f64(writer, value as f64)
    }

    fn write_u64<W: ?Sized + Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        self.write_f64(writer, value as f64)
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(number(value).as_bytes())
    }
}

/// As C's `%.16g` writes it.
fn number(value: f64) -> String {
    let scientific = format!("{value:.15e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..16).contains(&exponent) {
        let decimals = usize::try_from(15 - exponent).unwrap_or_default();
        return trimmed(&format!("{value:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_short_and_slashes_escaped() {
        let text = |value| String::from_utf8(write(&value).unwrap_or_default()).unwrap_or_default();
        assert_eq!(
            text(json!({ "path": "a/b\u{7f}\n", "list": [1.0, -0.5, 1e20, 1e-7] })),
            r#"{"list":[1,-0.5,1e+20,1e-07],"path":"a\/b\u007f\n"}"#
        );
        assert_eq!(text(json!([123_456_789_012_i64, 100_000_000_000_000_000_u64, 0.1, -0.0, 0])), "[123456789012,1e+17,0.1,-0,0]");
    }
}
