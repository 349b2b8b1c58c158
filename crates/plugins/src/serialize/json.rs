//! JSON written straight into a buffer: a log record has some fifty values, and a tree of them costs ten times their text.

use serde_json::Value;

/// Writes the fields of an object, in the order of the calls.
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    /// What the next field begins with: `{`, later `,`.
    before: u8,
}

impl Object<'_> {
    pub fn write(out: &mut Vec<u8>, fields: impl FnOnce(&mut Object<'_>)) {
        let mut object = Object { out, before: b'{' };
        fields(&mut object);
        if object.before == b'{' {
            object.out.push(b'{');
        }
        object.out.push(b'}');
    }

    /// The place for the value of the next field. Names are ours and need no escapes.
    fn value(&mut self, name: &str) -> &mut Vec<u8> {
        self.out.push(self.before);
        self.before = b',';
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    pub fn text(&mut self, name: &str, value: &[u8]) {
        text(self.value(name), value);
    }

    pub fn number(&mut self, name: &str, value: impl Into<i128>) {
        number(self.value(name), value.into());
    }

    pub fn object(&mut self, name: &str, fields: impl FnOnce(&mut Object<'_>)) {
        Object::write(self.value(name), fields);
    }

    /// A list of objects.
    pub fn objects<T>(&mut self, name: &str, items: &[T], mut fields: impl FnMut(&T, &mut Object<'_>)) {
        let out = self.value(name);
        out.push(b'[');
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            Object::write(out, |object| fields(item, object));
        }
        out.push(b']');
    }

    /// A value that is JSON already.
    pub fn json(&mut self, name: &str, value: &[u8]) {
        self.value(name).extend_from_slice(value);
    }

    /// A field whose name comes from outside, with a value that is a tree already.
    pub fn tree(&mut self, name: &str, value: &Value) {
        self.out.push(self.before);
        self.before = b',';
        text(self.out, name.as_bytes());
        self.out.push(b':');
        // Writing to a buffer cannot fail, and the keys of records are texts.
        let _ = serde_json::to_writer(&mut *self.out, value);
    }

    /// A field whose name comes from outside, and its values: one as it is, several as a list.
    pub fn texts<'v>(&mut self, name: &[u8], mut values: impl Iterator<Item = &'v [u8]>) {
        let Some(first) = values.next() else { return };
        self.out.push(self.before);
        self.before = b',';
        text(self.out, name);
        self.out.push(b':');
        let Some(second) = values.next() else { return text(self.out, first) };
        self.out.push(b'[');
        text(self.out, first);
        for value in std::iter::once(second).chain(values) {
            self.out.push(b',');
            text(self.out, value);
        }
        self.out.push(b']');
    }
}

fn number(out: &mut Vec<u8>, value: i128) {
    // Forty characters hold any number of this type.
    let mut digits = [0; 40];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// A string (RFC 8259 section 7). What is not UTF-8 becomes U+FFFD.
fn text(out: &mut Vec<u8>, value: &[u8]) {
    let odd = |byte: &u8| *byte < 0x20 || *byte >= 0x7f || matches!(byte, b'"' | b'\\');
    // Nearly everything is plain, and blocks that are looked through without stopping cost little.
    if value.chunks(32).all(|block| !block.iter().fold(false, |found, byte| found | odd(byte))) {
        out.push(b'"');
        out.extend_from_slice(value);
        out.push(b'"');
        return;
    }
    // Writing to a buffer cannot fail.
    let _ = serde_json::to_writer(out, &String::from_utf8_lossy(value));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn written(fields: impl FnOnce(&mut Object<'_>)) -> Value {
        let mut out = Vec::new();
        Object::write(&mut out, fields);
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn fields_of_every_kind_are_json() {
        assert_eq!(written(|_| {}), json!({}));
        let values: [&[u8]; 3] = [b"1", b"2\"", b"\xff"];
        let object = written(|object| {
            object.number("small", i64::MIN);
            object.number("large", u64::MAX);
            object.number("zero", 0_u8);
            object.object("inner", |inner| inner.text("a", b"b\n"));
            object.objects("list", &[1_u8, 2], |item, object| object.number("is", *item));
            object.json("raw", br#"{"x":null}"#);
            object.texts(b"na\"me", values.into_iter());
            object.texts(b"one", values.into_iter().take(1));
            object.texts(b"none", values.into_iter().take(0));
        });
        assert_eq!(
            object,
            json!({
                "small": i64::MIN, "large": u64::MAX, "zero": 0, "inner": { "a": "b\n" }, "list": [{ "is": 1 }, { "is": 2 }],
                "raw": { "x": null }, "na\"me": ["1", "2\"", "\u{fffd}"], "one": "1",
            })
        );
    }

    proptest! {
        #[test]
        fn any_text_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let object = written(|object| object.text("t", &bytes));
            prop_assert_eq!(object["t"].as_str(), Some(&*String::from_utf8_lossy(&bytes)));
        }

        #[test]
        fn any_number_comes_back(value in any::<i64>()) {
            prop_assert_eq!(written(|object| object.number("n", value))["n"].as_i64(), Some(value));
        }
    }
}
