//! Header lines as nearly all of them are, found in one go.
//!
//! What is not understood here is not wrong yet: the caller looks at such a head again, line by line.

use std::ops::Range;

/// Where the parts of a header line stand, counted from the line's start. The line ends two bytes (CRLF) behind `end`.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name_len: usize,
    /// Without the blanks around it.
    pub(super) value: Range<usize>,
    pub(super) end: usize,
}

/// Takes the first line of `bytes` apart. Its value holds no control characters but tabs; its name is not judged.
#[inline]
pub(super) fn split_line(bytes: &[u8]) -> Option<Line> {
    let name_len = find_colon(bytes)?;
    let end = find_control(bytes, name_len + 1)?;
    if bytes.get(end..end + 2)? != b"\r\n" {
        return None;
    }
    let mut value = name_len + 1..end;
    while value.start < value.end && is_blank(bytes[value.start]) {
        value.start += 1;
    }
    while value.start < value.end && is_blank(bytes[value.end - 1]) {
        value.end -= 1;
    }
    Some(Line { name_len, value, end })
}

#[inline]
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

const ONES: u64 = 0x0101_0101_0101_0101;
const TOP_BITS: u64 = ONES << 7;

/// Sets the top bit of every zero byte, and perhaps of others above the lowest zero byte.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & TOP_BITS
}

/// The first colon, eight bytes at a time: names are too short for anything that takes time to get going.
#[inline]
fn find_colon(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let found = zero_bytes(u64::from_le_bytes(*word) ^ (ONES * b':' as u64));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes[at..].iter().position(|byte| *byte == b':').map(|found| at + found)
}

/// The first control character but a tab, from `at` on.
#[inline]
fn find_control(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*word);
        // As with zero bytes: the lowest bit set is right.
        let below_blank = word.wrapping_sub(ONES * b' ' as u64) & !word & TOP_BITS;
        let found = below_blank | zero_bytes(word ^ (ONES * 0x7f));
        if found == 0 {
            at += 8;
            continue;
        }
        at += found.trailing_zeros() as usize / 8;
        if bytes[at] != b'\t' {
            return Some(at);
        }
        at += 1;
    }
    let rest = bytes.get(at..)?;
    rest.iter().position(|byte| byte.is_ascii_control() && *byte != b'\t').map(|found| at + found)
}

/// What a name may consist of for nginx to keep its line: letters, digits, `-` and `_`.
#[inline]
pub(crate) fn is_valid_name(name: &[u8]) -> bool {
    const VALID: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'_');
            byte += 1;
        }
        table
    };
    !name.is_empty() && name.iter().all(|byte| VALID[usize::from(*byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        for (text, name, value) in [
            ("A: b\r\n", "A", "b"),
            ("A-Longer-Name:b\r\nX", "A-Longer-Name", "b"),
            ("Host: \t a:1 \t\r\n", "Host", "a:1"),
            ("Empty:\r\n", "Empty", ""),
            ("Blank:  \r\n", "Blank", ""),
            (": b\r\n", "", "b"),
        ] {
            let line = split_line(text.as_bytes()).map(|line| (&text[..line.name_len], &text[line.value], &text[line.end..line.end + 2]));
            assert_eq!(line, Some((name, value, "\r\n")), "{text}");
        }
        for text in ["", "A", "A: b", "A: b\n", "A:\n", "A\r\n"] {
            assert!(split_line(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn control_characters_are_seen_wherever_they_stand() {
        let clean = b"X-Tab: a\tb \x80\xff and more than a word of it\r\n";
        assert_eq!(find_control(clean, 0), Some(clean.len() - 2));
        for at in 0..clean.len() - 2 {
            for unfit in [0, 1, 8, b'\n', 0xb, 0xc, b'\r', 0x1f, 0x7f] {
                let mut bytes = clean.to_vec();
                bytes[at] = unfit;
                assert_eq!(find_control(&bytes, 0), Some(at), "{unfit}");
                assert!(at <= 5 || split_line(&bytes).is_none(), "{at} {unfit}");
            }
        }
    }
}
