//! Field sections (RFC 9204), without I/O and without a dynamic table.
//!
//! We tell clients that our table has no room, so that a section stands for itself: no stream waits for another, and no client
//! fills memory of ours. What we send names lines and names by the static table's numbers and spells out the rest.

mod huffman;
mod table;

use std::borrow::Cow;

/// Why a field section could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Larger than the limit, counted as RFC 9114 section 4.2.2 does.
    TooLarge,
    /// An error of the connection.
    Broken,
}

/// A field line's name and value.
pub(super) type Line<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// What a field line counts for besides its bytes.
const LINE_OVERHEAD: usize = 32;

/// Reads a section, which may count `limit` bytes decoded.
pub(super) fn decode(section: &[u8], limit: usize) -> Result<Vec<Line<'_>>, Unreadable> {
    let mut rest = Rest(section);
    // Lines of the dynamic table that are needed: there are none. The base that follows counts from them.
    if rest.number(8)?.1 != 0 {
        return Err(Unreadable::Broken);
    }
    rest.number(7)?;
    let (mut lines, mut counted) = (Vec::new(), 0);
    while let Some(first) = rest.0.first().copied() {
        // Section 4.5. Everything else refers to the dynamic table.
        let line: Line<'_> = if first & 0b1100_0000 == 0b1100_0000 {
            let (name, value) = rest.of_table(6)?;
            (name.as_bytes().into(), value.as_bytes().into())
        } else if first & 0b1101_0000 == 0b0101_0000 {
            let (name, _) = rest.of_table(4)?;
            (name.as_bytes().into(), rest.string(7)?)
        } else if first & 0b1110_0000 == 0b0010_0000 {
            (rest.string(3)?, rest.string(7)?)
        } else {
            return Err(Unreadable::Broken);
        };
        counted += line.0.len() + line.1.len() + LINE_OVERHEAD;
        if counted > limit {
            return Err(Unreadable::TooLarge);
        }
        lines.push(line);
    }
    Ok(lines)
}

/// What is left of a section.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// A number in the last `prefix` bits of a byte and the bytes after it (section 4.1.1), with the bits before it.
    fn number(&mut self, prefix: u32) -> Result<(u8, usize), Unreadable> {
        let (&first, mut rest) = self.0.split_first().ok_or(Unreadable::Broken)?;
        let mask = u8::MAX >> (8 - prefix);
        let mut number = usize::from(first & mask);
        if number == usize::from(mask) {
            let mut shift = 0;
            loop {
                let (&byte, after) = rest.split_first().ok_or(Unreadable::Broken)?;
                rest = after;
                number += usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
                // No length or index we take needs more.
                if shift > 21 {
                    return Err(Unreadable::Broken);
                }
            }
        }
        self.0 = rest;
        Ok((first & !mask, number))
    }

    fn of_table(&mut self, prefix: u32) -> Result<(&'static str, &'static str), Unreadable> {
        let (_, number) = self.number(prefix)?;
        table::LINES.get(number).copied().ok_or(Unreadable::Broken)
    }

    /// A string whose length has `prefix` bits; the bit before says whether it is Huffman-coded.
    fn string(&mut self, prefix: u32) -> Result<Cow<'a, [u8]>, Unreadable> {
        let (before, length) = self.number(prefix)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Unreadable::Broken)?;
        self.0 = rest;
        Ok(if before & 1 << prefix == 0 { text.into() } else { huffman::decode(text)?.into() })
    }
}

/// Begins a section of an answer.
pub(super) fn put_status(out: &mut Vec<u8>, status: u16) {
    put_start(out);
    match table::number_of_status(status) {
        Some(number) => put_number(out, 0b1100_0000, 6, number),
        None => {
            // The first `:status` line's name, and a value.
            put_number(out, 0b0101_0000, 4, 24);
            put_string(out, 0, 7, status.to_string().as_bytes());
        }
    }
}

/// Begins a section, whose lines need nothing of the dynamic table.
pub(super) fn put_start(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
}

/// Appends a line; `name` is in lower case.
pub(super) fn put_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    match table::number_of(name) {
        Some(number) => put_number(out, 0b0101_0000, 4, number),
        None => put_string(out, 0b0010_0000, 3, name.as_bytes()),
    }
    put_string(out, 0, 7, value);
}

fn put_string(out: &mut Vec<u8>, before: u8, prefix: u32, text: &[u8]) {
    put_number(out, before, prefix, text.len());
    out.extend_from_slice(text);
}

fn put_number(out: &mut Vec<u8>, before: u8, prefix: u32, number: usize) {
    let most = usize::from(u8::MAX >> (8 - prefix));
    if number < most {
        return out.push(before | number as u8);
    }
    out.push(before | most as u8);
    let mut left = number - most;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(section: &[u8]) -> Result<Vec<(String, String)>, Unreadable> {
        let own = |text: Cow<'_, [u8]>| String::from_utf8(text.into_owned()).unwrap();
        decode(section, 1 << 15).map(|lines| lines.into_iter().map(|(name, value)| (own(name), own(value))).collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_example_of_the_standard_is_read() {
        // RFC 9204 appendix B.1.
        let section = [b"\x00\x00\x51\x0b".as_slice(), b"/index.html"].concat();
        assert_eq!(text(&section).unwrap(), pairs(&[(":path", "/index.html")]));
    }

    #[test]
    fn lines_of_every_kind_are_read() {
        // GET by number; a literal name, Huffman-coded as its value is.
        let section = b"\x00\x00\xd1\x2e\xa8\xeb\x10\x64\x9c\xbf\x86\xa8\xeb\x10\x64\x9c\xbf";
        assert_eq!(text(section).unwrap(), pairs(&[(":method", "GET"), ("no-cache", "no-cache")]));
    }

    #[test]
    fn what_is_written_is_read() {
        let long = "v".repeat(3000);
        let mut section = Vec::new();
        put_status(&mut section, 200);
        put_line(&mut section, "content-type", b"text/plain");
        put_line(&mut section, "x-a-name-of-some-length", long.as_bytes());
        put_line(&mut section, "x-frame-options", b"");
        let expected = [(":status", "200"), ("content-type", "text/plain"), ("x-a-name-of-some-length", &long), ("x-frame-options", "")];
        assert_eq!(text(&section).unwrap(), pairs(&expected));
        let mut section = Vec::new();
        put_status(&mut section, 418);
        assert_eq!(text(&section).unwrap(), pairs(&[(":status", "418")]));
    }

    #[test]
    fn what_needs_the_dynamic_table_is_broken() {
        for section in [
            b"".as_slice(),
            b"\x00",
            b"\x02\x00",
            b"\x00\x00\x80",
            b"\x00\x00\x10",
            b"\x00\x00\x40\x00",
            b"\x00\x00\x00\x00",
            b"\x00\x00\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x00\x00\xff\x24",
            b"\x00\x00\x51\x0b/",
        ] {
            assert_eq!(text(section), Err(Unreadable::Broken), "{section:x?}");
        }
    }

    #[test]
    fn a_section_over_the_limit_is_told_apart() {
        let mut section = vec![0, 0];
        put_line(&mut section, "a", &[b'b'; 67]);
        assert!(decode(&section, 100).is_ok());
        assert_eq!(decode(&section, 99), Err(Unreadable::TooLarge));
    }

    #[test]
    fn no_bytes_make_it_stumble() {
        // Every start of two bytes after the prefix, and a tail that any length may reach into.
        for start in 0..=u16::MAX {
            let section = [&[0, 0], start.to_be_bytes().as_slice(), &[0x85, 0xff, 0x03, 0x20, 0x7f, 0x81, 0x00]].concat();
            let _ = decode(&section, 1 << 15);
        }
    }
}
