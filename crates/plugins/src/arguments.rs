//! Query arguments and form fields, looked up and removed one at a time.
//!
//! Only what is asked for is decoded; what stays keeps its order and its spelling.

use std::borrow::Cow;

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
    fn list_notations_are_other_names() {
        assert_eq!(find(b"key[]=k&key[1]=k", "key"), Argument::Absent);
    }
}
