//! What PCRE says of patterns that it cannot read: clients of the Admin API match on its words.

/// Why PCRE refuses a pattern, with where: `pcre2_compile() failed: … in "pattern" at "rest"`. None if no reason of the usual
/// kinds is found.
pub fn complaint(pattern: &str) -> Option<String> {
    let (reason, offset) = scan(pattern)?;
    let rest = match pattern.get(offset..) {
        Some(rest) if !rest.is_empty() => format!(" at \"{rest}\""),
        _ => String::new(),
    };
    Some(format!("pcre2_compile() failed: {reason} in \"{pattern}\"{rest}"))
}

/// What may come next at some place of a pattern.
#[derive(Clone, Copy, PartialEq)]
enum Last {
    /// Nothing that could be repeated: the beginning of the pattern, a group or an alternative.
    Nothing,
    Item,
    Quantifier,
    /// A quantifier that is lazy or possessive already.
    Finished,
}

fn scan(pattern: &str) -> Option<(&'static str, usize)> {
    const QUANTIFIER: &str = "quantifier does not follow a repeatable item";
    let bytes = pattern.as_bytes();
    let (mut at, mut open, mut last) = (0, 0_usize, Last::Nothing);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if at + 1 == bytes.len() => return Some(("\\ at end of pattern", bytes.len())),
            b'\\' => {
                at += 1;
                last = Last::Item;
            }
            b'[' => match class(bytes, at) {
                Ok(end) => {
                    at = end;
                    last = Last::Item;
                }
                Err(found) => return Some(found),
            },
            b'(' => {
                open += 1;
                last = Last::Nothing;
                // `(?` opens a group of some kind, `(*` says something to the engine: neither mark is a quantifier.
                at += usize::from(matches!(bytes.get(at + 1), Some(b'?' | b'*')));
            }
            b')' if open == 0 => return Some(("unmatched closing parenthesis", at)),
            b')' => {
                open -= 1;
                last = Last::Item;
            }
            b'|' => last = Last::Nothing,
            b'*' | b'+' | b'?' => {
                last = match last {
                    Last::Item => Last::Quantifier,
                    Last::Quantifier if *byte != b'*' => Last::Finished,
                    _ => return Some((QUANTIFIER, at)),
                };
            }
            _ => last = Last::Item,
        }
        at += 1;
    }
    (open > 0).then_some(("missing closing parenthesis", bytes.len()))
}

/// Where the character class ends that begins at `start`.
fn class(bytes: &[u8], start: usize) -> Result<usize, (&'static str, usize)> {
    let mut at = start + 1;
    at += usize::from(bytes.get(at) == Some(&b'^'));
    let first = at;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b']' if at > first => return Ok(at),
            b'\\' => at += 1,
            b'[' if bytes.get(at + 1) == Some(&b':') => {
                if let Some(length) = bytes[at..].windows(2).position(|pair| pair == b":]") {
                    at += length + 1;
                }
            }
            low if bytes.get(at + 1) == Some(&b'-') => match bytes.get(at + 2) {
                Some(high) if !matches!(high, b']' | b'\\' | b'[') && high < low => {
                    return Err(("range out of order in character class", at + 2));
                }
                _ => {}
            },
            _ => {}
        }
        at += 1;
    }
    Err(("missing terminating ] for character class", bytes.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn complaints_name_the_pattern_and_what_is_left_of_it() {
        assert_eq!(complaint("/a(b").unwrap(), "pcre2_compile() failed: missing closing parenthesis in \"/a(b\"");
        assert_eq!(complaint("a)b").unwrap(), "pcre2_compile() failed: unmatched closing parenthesis in \"a)b\" at \")b\"");
        assert_eq!(complaint("/[a-").unwrap(), "pcre2_compile() failed: missing terminating ] for character class in \"/[a-\"");
        assert_eq!(complaint("/a\\").unwrap(), "pcre2_compile() failed: \\ at end of pattern in \"/a\\\"");
        let quantifier = "pcre2_compile() failed: quantifier does not follow a repeatable item in \"a**\" at \"*\"";
        assert_eq!(complaint("a**").unwrap(), quantifier);
    }

    #[test]
    fn patterns_in_order_are_not_complained_about() {
        for pattern in ["/a+?b*+", "(?<x>[]a])", "(?:a|b)?", "[[:alpha:]-z]\\(", "a{2}", "/x-(?!y)"] {
            assert_eq!(complaint(pattern), None, "{pattern}");
        }
    }
}
