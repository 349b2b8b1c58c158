//! Just enough of protocol buffers to write OTLP: messages go straight into the buffer that waits to be sent.
//!
//! A span costs its worker a few hundred nanoseconds this way and one allocation; building generated structs first would cost
//! one for every string. The tests read everything back with OpenTelemetry's own definitions.

use serde_json::Value;

/// A message being written.
#[derive(Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u32, kind: u64) {
        self.raw_varint(u64::from(field) << 3 | kind);
    }

    pub fn varint(&mut self, field: u32, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    pub fn fixed64(&mut self, field: u32, value: u64) {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn fixed32(&mut self, field: u32, value: u32) {
        self.key(field, 5);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// Text must be UTF-8; what is not is replaced.
    pub fn text(&mut self, field: u32, value: &[u8]) {
        match std::str::from_utf8(value) {
            Ok(_) => self.bytes(field, value),
            Err(_) => self.bytes(field, String::from_utf8_lossy(value).as_bytes()),
        }
    }

    /// A message within this one.
    pub fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.key(field, 2);
        let begin = self.0.len();
        write(self);
        // The length stands before what it counts: most are a byte, so little is moved.
        let length = (self.0.len() - begin) as u64;
        let end = self.0.len();
        self.raw_varint(length);
        let width = self.0.len() - end;
        self.0[begin..].rotate_right(width);
    }

    /// A `KeyValue` with a string.
    pub fn attribute(&mut self, field: u32, key: &str, value: &[u8]) {
        self.message(field, |pair| {
            pair.bytes(1, key.as_bytes());
            pair.message(2, |any| any.text(1, value));
        });
    }

    /// A `KeyValue` with whatever there is to say; numbers are floating, as Lua's are, but for the status of a response.
    pub fn pair(&mut self, field: u32, key: &str, value: &Value) {
        self.message(field, |pair| {
            pair.bytes(1, key.as_bytes());
            match (key, value.as_i64()) {
                ("http.status_code", Some(status)) => pair.message(2, |any| any.varint(3, status as u64)),
                _ => pair.any(2, value),
            }
        });
    }

    /// An `AnyValue`.
    pub fn any(&mut self, field: u32, value: &Value) {
        self.message(field, |any| match value {
            Value::Null => {}
            Value::Bool(flag) => any.varint(2, u64::from(*flag)),
            Value::Number(number) => any.fixed64(4, number.as_f64().unwrap_or_default().to_bits()),
            Value::String(text) => any.bytes(1, text.as_bytes()),
            Value::Array(list) => any.message(5, |values| list.iter().for_each(|value| values.any(1, value))),
            Value::Object(fields) => any.message(6, |values| fields.iter().for_each(|(name, value)| values.pair(1, name, value))),
        });
    }

    /// A `KeyValue` with a whole number.
    pub fn number(&mut self, field: u32, key: &str, value: i64) {
        self.message(field, |pair| {
            pair.bytes(1, key.as_bytes());
            pair.message(2, |any| any.varint(3, value as u64));
        });
    }
}
