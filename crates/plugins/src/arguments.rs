//! Query arguments and form fields, looked up and removed one at a time.
//!
//! Only what is asked for is decoded; what stays keeps its order and its spelling.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// What a request has under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument<'a> {
    Absent,
    /// There, but not as text: an argument without `=`, a JSON number.
    NoText,
    One(Cow<'a, [u8]>),
    /// More than one value, or a list.
    Several,
}

impl Argument<'_> {
    pub fn is_absent(&self) -> bool {
        *self == Argument::Absent
    }
}

/// Finds a name among `a=1&b=2`. Names compare byte by byte once decoded.
pub fn find<'a>(arguments: &'a [u8], name: &str) -> Argument<'a> {
    let mut found = Argument::Absent;
    for (key, value) in pairs(arguments) {
        if !is_named(key, name) {
            continue;
        }
        if !found.is_absent() {
            return Argument::Several;
        }
        found = value.map_or(Argument::NoText, |value| Argument::One(decode(value)));
    }
    found
}

/// The arguments without those of this name.
pub fn without(arguments: &[u8], name: &str) -> Vec<u8> {
    let mut kept = Vec::with_capacity(arguments.len());
    for pair in arguments.split(|byte| *byte == b'&') {
        if is_named(split(pair).0, name) {
            continue;
        }
        if !kept.is_empty() {
            kept.push(b'&');
        }
        kept.extend_from_slice(pair);
    }
    kept
}

/// The query without the arguments of this name, written anew as the URL standard writes forms: every argument has a `=`.
pub fn query_anew_without(query: &[u8], name: &str) -> Vec<u8> {
    let mut written = String::with_capacity(query.len());
    for (key, value) in query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(split) {
        let key = decode(key);
        if *key == *name.as_bytes() {
            continue;
        }
        if !written.is_empty() {
            written.push('&');
        }
        written.extend(form_urlencoded::byte_serialize(&key));
        written.push('=');
        written.extend(form_urlencoded::byte_serialize(&decode(value.unwrap_or_default())));
    }
    written.into_bytes()
}

/// What Kong leaves as it is in the forms that it writes.
const PLAIN_IN_FORMS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');

/// A form or query without the fields of this name, written anew as Kong writes them: sorted, and a field without a `=` without one.
pub fn anew_without(arguments: &[u8], name: &str) -> Vec<u8> {
    // What one name has stays together and in order; the texts are sorted, not the names.
    let mut fields: BTreeMap<Cow<'_, [u8]>, String> = BTreeMap::new();
    for (key, value) in pairs(arguments) {
        let key = decode(key);
        if *key == *name.as_bytes() {
            continue;
        }
        let mut field = percent_encode(&key, PLAIN_IN_FORMS).to_string();
        if let Some(value) = value {
            field.push('=');
            field.extend(percent_encode(&decode(value), PLAIN_IN_FORMS));
        }
        fields.entry(key).and_modify(|text| *text = format!("{text}&{field}")).or_insert(field);
    }
    let mut texts: Vec<String> = fields.into_values().collect();
    texts.sort_unstable();
    texts.join("&").into_bytes()
}

/// Name and value of each argument, still encoded; no value without a `=`.
pub fn pairs(arguments: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    arguments.split(|byte| *byte == b'&').map(split).filter(|(key, _)| !key.is_empty())
}

/// Undoes percent encoding and `+` for a space. A `%` that no two hexadecimal digits follow stays.
pub fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let hex = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        at += 1;
    }
    Cow::Owned(out)
}

fn split(pair: &[u8]) -> (&[u8], Option<&[u8]>) {
    match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => (&pair[..at], Some(&pair[at + 1..])),
        None => (pair, None),
    }
}

fn is_named(key: &[u8], name: &str) -> bool {
    key == name.as_bytes() || (key.contains(&b'%') || key.contains(&b'+')) && *decode(key) == *name.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_is_found_among_many() {
        let arguments = b"a=1&b=x%20y+z&c&%61b=2&d=%zz&e=&e=";
        let one = |text: &'static str| Argument::One(Cow::Borrowed(text.as_bytes()));
        for (name, want) in [
            ("a", one("1")),
            ("b", one("x y z")),
            ("c", Argument::NoText),
            ("ab", one("2")),
            ("d", one("%zz")),
            ("e", Argument::Several),
            ("A", Argument::Absent),
        ] {
            assert_eq!(find(arguments, name), want, "{name}");
        }
    }

    #[test]
    fn what_stays_keeps_its_order_and_spelling() {
        assert_eq!(without(b"a=1&key=k&b=x%20y&k%65y=2", "key"), b"a=1&b=x%20y");
        assert_eq!(without(b"key", "key"), b"");
    }

    #[test]
    fn queries_are_written_anew_as_the_url_standard_has_it() {
        assert_eq!(query_anew_without(b"&b=x%20y&key=k&a&c=~(%fc)&d=1=2", "key"), b"b=x+y&a=&c=%7E%28%FC%29&d=1%3D2");
        assert_eq!(query_anew_without(b"k%65y=1&key", "key"), b"");
    }

    #[test]
    fn forms_are_written_anew_and_sorted() {
        assert_eq!(anew_without(b"a-b=0&b=2+2&key=k&a[]=z&a[]=%2f&=1&c&c=~(1)", "key"), b"a%5B%5D=z&a%5B%5D=%2F&a-b=0&b=2%202&c&c=~(1)");
    }

    #[test]
    fn list_notations_are_other_names() {
        assert_eq!(find(b"key[]=k&key[1]=k", "key"), Argument::Absent);
    }
}
