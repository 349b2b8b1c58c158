//! YAML to JSON values and back, in the dialect that declarative files are written in.
//!
//! Kong reads files with a YAML 1.1 library: plain `yes` and `off` are booleans, dates stay text. The parser gives events;
//! the tree is built here without recursion, under limits on depth and on what aliases may multiply to.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// Levels of nesting. JSON documents have the same limit.
const MAX_DEPTH: usize = 128;
/// Values that aliases may add to those written out.
const MAX_COPIED: usize = 1_000_000;

/// A list or map being read.
enum Frame {
    List { items: Vec<Value>, anchor: usize },
    Map { entries: Map<String, Value>, key: Option<String>, anchor: usize },
}

/// Reads the first document of a text. Errors with what is wrong and where.
pub fn parse(text: &str) -> Result<Value, String> {
    // Tabs cannot indent; this parser is lenient about those before everything else.
    if text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with('\t')) {
        return Err("found a tab where indentation is expected".to_owned());
    }
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| error.to_string())?;
        if builder.take(event).map_err(|what| format!("{what} at line {}", span.start.line()))? {
            break;
        }
    }
    Ok(builder.root.unwrap_or(Value::Null))
}

#[derive(Default)]
struct Builder {
    open: Vec<Frame>,
    anchors: HashMap<usize, (Value, usize)>,
    copied: usize,
    root: Option<Value>,
}

impl Builder {
    /// Takes one event in. True when the document is complete.
    fn take(&mut self, event: Event<'_>) -> Result<bool, String> {
        match event {
            Event::SequenceStart(anchor, _) => self.push(Frame::List { items: Vec::new(), anchor })?,
            Event::MappingStart(anchor, _) => self.push(Frame::Map { entries: Map::new(), key: None, anchor })?,
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Frame::List { items, anchor }) => self.place(Value::Array(items), anchor)?,
                Some(Frame::Map { entries, anchor, .. }) => self.place(Value::Object(entries), anchor)?,
                None => {}
            },
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.suffix == "str");
                if self.wants_key() {
                    return self.key(text.into_owned()).map(|()| false);
                }
                let value = if is_text { Value::String(text.into_owned()) } else { plain(&text) };
                self.place(value, anchor)?;
            }
            Event::Alias(anchor) => {
                // An anchor inside itself isn't complete yet, so it isn't known.
                let (value, size) = self.anchors.get(&anchor).cloned().ok_or("an alias for nothing")?;
                self.copied += size;
                if self.copied > MAX_COPIED {
                    return Err("aliases multiply to too much".to_owned());
                }
                if self.wants_key() {
                    let key = value.as_str().ok_or("a key that is no text")?.to_owned();
                    return self.key(key).map(|()| false);
                }
                self.place(value, 0)?;
            }
            Event::DocumentEnd => return Ok(true),
            _ => {}
        }
        Ok(false)
    }

    fn push(&mut self, frame: Frame) -> Result<(), String> {
        if self.wants_key() {
            return Err("a key that is no text".to_owned());
        }
        if self.open.len() >= MAX_DEPTH {
            return Err("nested too deeply".to_owned());
        }
        self.open.push(frame);
        Ok(())
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Frame::Map { key: None, .. }))
    }

    fn key(&mut self, text: String) -> Result<(), String> {
        if let Some(Frame::Map { key, .. }) = self.open.last_mut() {
            *key = Some(text);
        }
        Ok(())
    }

    fn place(&mut self, value: Value, anchor: usize) -> Result<(), String> {
        if anchor > 0 {
            // Each anchor keeps a copy, which nested anchors would multiply as aliases do.
            let size = size(&value);
            self.copied += size;
            if self.copied > MAX_COPIED {
                return Err("anchors multiply to too much".to_owned());
            }
            self.anchors.insert(anchor, (value.clone(), size));
        }
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Frame::List { items, .. }) => items.push(value),
            Some(Frame::Map { entries, key, .. }) => match key.take() {
                Some(key) if key == "<<" => merge(entries, value),
                Some(key) => {
                    entries.insert(key, value);
                }
                None => {}
            },
        }
        Ok(())
    }
}

/// `<<: *base`: what the map doesn't say itself, others say for it.
fn merge(entries: &mut Map<String, Value>, value: Value) {
    match value {
        Value::Object(base) => {
            for (key, value) in base {
                entries.entry(key).or_insert(value);
            }
        }
        Value::Array(bases) => bases.into_iter().for_each(|base| merge(entries, base)),
        _ => {}
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(entries) => 1 + entries.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// What an unquoted word means.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Value::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let radix = |digits: &str, radix| i64::from_str_radix(digits, radix).ok().map(|n| Number::from(if negative { -n } else { n }));
    if let Some(hexadecimal) = digits.strip_prefix("0x") {
        return radix(hexadecimal, 16);
    }
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    if all_digits && digits.len() > 1 && digits.starts_with('0') {
        return radix(digits, 8);
    }
    if all_digits && let Some(whole) = radix(digits, 10) {
        return Some(whole);
    }
    let is_float = digits.bytes().any(|byte| byte.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    text.parse().ok().filter(|_| is_float).and_then(Number::from_f64)
}

/// Writes one field of an entry in block style, `indent` spaces from the left, the first of an item of a list behind its dash.
pub fn write_field(name: &str, value: &Value, indent: usize, behind_dash: bool, out: &mut String) {
    if !behind_dash {
        out.extend(std::iter::repeat_n(' ', indent));
    }
    out.push_str(&text_scalar(name));
    out.push(':');
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push('\n');
            fields.iter().for_each(|(name, value)| write_field(name, value, indent + 2, false, out));
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            items.iter().for_each(|item| write_item(item, indent, false, out));
        }
        Value::String(text) if is_block(text) => write_block(text, indent + 2, out),
        other => out.push_str(&format!(" {}\n", scalar(other))),
    }
}

fn write_item(item: &Value, indent: usize, behind_dash: bool, out: &mut String) {
    if !behind_dash {
        out.extend(std::iter::repeat_n(' ', indent));
    }
    out.push_str("- ");
    match item {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().enumerate().for_each(|(at, (name, value))| write_field(name, value, indent + 2, at == 0, out));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(at, item)| write_item(item, indent + 2, at == 0, out));
        }
        other => out.push_str(&format!("{}\n", scalar(other))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "~".to_owned(),
        Value::String(text) => text_scalar(text),
        other => other.to_string(),
    }
}

/// Text without quotes if it reads back as the same text, in single ones if it would be something else, else as JSON.
fn text_scalar(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    if text.is_empty() || !text.bytes().all(safe) {
        return Value::from(text).to_string();
    }
    let begins_plainly = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    if begins_plainly && plain(text).is_string() { text.to_owned() } else { format!("'{text}'") }
}

/// Whether text is written line by line, as certificates and code are best read.
fn is_block(text: &str) -> bool {
    let lines = text.strip_suffix('\n').unwrap_or(text);
    let fits = |line: &str| line.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && line.trim_end() == line;
    lines.contains('\n') && !lines.starts_with(['\n', ' ']) && !lines.ends_with('\n') && lines.split('\n').all(fits)
}

fn write_block(text: &str, indent: usize, out: &mut String) {
    let lines = text.strip_suffix('\n');
    out.push_str(if lines.is_some() { " |\n" } else { " |-\n" });
    for line in lines.unwrap_or(text).split('\n') {
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            out.push_str(line);
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_words_are_what_kong_takes_them_for() {
        let text = "a: yes\nb: 'yes'\nc: 10\nd: 1.5\ne: ~\nf: 2020-01-01\ng: 0x1f\nh: 010\ni: -3\nj: 1e3\nk: .x\nl:\n";
        let want = json!({
            "a": true, "b": "yes", "c": 10, "d": 1.5, "e": null, "f": "2020-01-01", "g": 31, "h": 8, "i": -3, "j": 1000.0,
            "k": ".x", "l": null,
        });
        assert_eq!(parse(text).unwrap(), want);
    }

    #[test]
    fn aliases_and_merge_keys_are_followed() {
        let text = "base: &b {x: 1, y: 2}\nother:\n  <<: *b\n  y: 3\nlist: [*b]\n";
        assert_eq!(parse(text).unwrap(), json!({ "base": { "x": 1, "y": 2 }, "other": { "x": 1, "y": 3 }, "list": [{ "x": 1, "y": 2 }] }));
    }

    #[test]
    fn bombs_are_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        assert!(parse(&text).unwrap_err().contains("multiply"));
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"- ".repeat(100_000)).is_err());
    }

    #[test]
    fn broken_text_is_an_error() {
        for text in ["services: [", "\tservices: 1\n", "a: *nothing", "? [a]\n: b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let texts = [
            "",
            "no",
            "~",
            "null",
            "1",
            "1.5",
            "0x1f",
            "a.test",
            "/x y",
            "-",
            "--",
            "- a",
            "a: b",
            "it's",
            "\"",
            "# a",
            "\u{1f3e0}",
            "a\nb",
            "a\nb\n",
            "a\n\nb\n\n",
            " a\nb",
            "a\n  b",
            "a \nb",
            "\na",
            "\n",
            "a\r\nb",
            "a\tb\nc",
            "-----BEGIN X-----\nAb+/=\n-----END X-----\n",
        ];
        for text in texts {
            let nested = json!({ text: [text, [text, [text, {}]], { text: text, "b": { text: [[text]], "e": [], "f": null } }] });
            let value = json!({ "a": text, "b": [text, text], "c": nested });
            let mut out = String::new();
            write_field("list", &json!([value, {}, null]), 0, false, &mut out);
            assert_eq!(parse(&out).unwrap(), json!({ "list": [value, {}, null] }), "{out}");
        }
    }

    #[test]
    fn it_is_laid_out_as_kongs() {
        let mut out = String::new();
        let route = json!({ "a": "https", "b": ["http", "https"], "c": null, "d": { "x": [{ "y": 1, "z": "3.0" }] }, "e": "x\ny\n" });
        write_field("routes", &json!([route]), 0, false, &mut out);
        let lines = [
            "routes:",
            "- a: https",
            "  b:",
            "  - http",
            "  - https",
            "  c: ~",
            "  d:",
            "    x:",
            "    - y: 1",
            "      z: '3.0'",
            "  e: |",
            "    x",
            "    y",
            "",
        ];
        assert_eq!(out, lines.join("\n"));
    }
}
