//! Header lines kept as the bytes that came, an index over them, and edits at the end of the same buffer.
//!
//! A request costs one copy of its head and no allocation once the buffer is warm; lines that nobody touched are written
//! onwards in runs, one copy a run. Names compare without case; names and order of untouched lines are kept.

use std::ops::Range;

/// Names the engine and the gateway look at on every request, told apart once while indexing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Known {
    Other,
    Accept,
    Authorization,
    Connection,
    ContentLength,
    ContentType,
    Date,
    Expect,
    Forwarded,
    Host,
    KeepAlive,
    ProxyAuthorization,
    ProxyConnection,
    Server,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    Via,
    XForwardedFor,
    XForwardedHost,
    XForwardedPath,
    XForwardedPort,
    XForwardedPrefix,
    XForwardedProto,
    XKongRequestId,
    XRealIp,
}

impl Known {
    /// Tells a name apart by its length first, so that most names cost one comparison or none.
    pub fn of(name: &[u8]) -> Self {
        const NAMES: [(&[u8], Known); 26] = [
            (b"te", Known::Te),
            (b"via", Known::Via),
            (b"date", Known::Date),
            (b"host", Known::Host),
            (b"accept", Known::Accept),
            (b"expect", Known::Expect),
            (b"server", Known::Server),
            (b"trailer", Known::Trailer),
            (b"upgrade", Known::Upgrade),
            (b"forwarded", Known::Forwarded),
            (b"x-real-ip", Known::XRealIp),
            (b"connection", Known::Connection),
            (b"keep-alive", Known::KeepAlive),
            (b"content-type", Known::ContentType),
            (b"authorization", Known::Authorization),
            (b"content-length", Known::ContentLength),
            (b"x-forwarded-for", Known::XForwardedFor),
            (b"proxy-connection", Known::ProxyConnection),
            (b"x-forwarded-host", Known::XForwardedHost),
            (b"x-forwarded-path", Known::XForwardedPath),
            (b"x-forwarded-port", Known::XForwardedPort),
            (b"transfer-encoding", Known::TransferEncoding),
            (b"x-forwarded-proto", Known::XForwardedProto),
            (b"x-kong-request-id", Known::XKongRequestId),
            (b"x-forwarded-prefix", Known::XForwardedPrefix),
            (b"proxy-authorization", Known::ProxyAuthorization),
        ];
        // First index of each length in NAMES, which is sorted by length.
        let (start, end) = match name.len() {
            2 => (0, 1),
            3 => (1, 2),
            4 => (2, 4),
            6 => (4, 7),
            7 => (7, 9),
            9 => (9, 11),
            10 => (11, 13),
            12 => (13, 14),
            13 => (14, 15),
            14 => (15, 16),
            15 => (16, 17),
            16 => (17, 21),
            17 => (21, 24),
            18 => (24, 25),
            19 => (25, 26),
            _ => return Known::Other,
        };
        NAMES[start..end].iter().find(|(known, _)| same_name(name, known)).map_or(Known::Other, |(_, known)| *known)
    }
}

/// Whether `name` is `known` in any case; both are of the same length, and `known` is in lower case.
///
/// Eight bytes at a time, with bit 5 set in all: that lowers letters and leaves digits and `-` as they are. The bytes it
/// confuses (`^` with `~`, `_` with DEL) stand in no known name.
#[inline]
fn same_name(name: &[u8], known: &[u8]) -> bool {
    const LOWER: u64 = 0x2020_2020_2020_2020;
    let word = |bytes: &[u8], at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_le_bytes(*word));
    let last = known.len().saturating_sub(8);
    if last == 0 {
        return name.len() == known.len() && name.iter().zip(known).all(|(byte, known)| byte | 0x20 == *known);
    }
    let same = |at: usize| word(name, at) | LOWER == word(known, at) | LOWER;
    name.len() == known.len() && same(0) && same(last) && (last <= 8 || same(8))
}

/// Where one header line stands in the buffer. `start..end` covers the line with its CRLF.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    start: u32,
    end: u32,
    value_start: u32,
    value_end: u32,
    name_len: u16,
    pub known: Known,
}

/// An ordered list of header lines over one buffer.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    /// The reason phrase that came with a status, in the same buffer.
    reason: Option<(u16, Range<usize>)>,
}

impl Headers {
    /// Forgets every line and keeps the buffers' capacity.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lines.clear();
        self.reason = None;
    }

    /// Notes where the buffer holds the reason phrase that came with this status.
    pub(crate) fn set_reason(&mut self, status: u16, place: Range<usize>) {
        self.reason = Some((status, place));
    }

    /// The reason phrase that came with this status, if one did.
    pub(crate) fn reason(&self, status: u16) -> Option<&[u8]> {
        self.reason.as_ref().filter(|(with, _)| *with == status).map(|(_, place)| &self.bytes[place.clone()])
    }

    /// Adds bytes that are no header line (a request line) ahead of the lines; answers where they stand.
    pub(crate) fn push_raw(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// Registers a line that already stands in the buffer.
    pub(crate) fn push_line(&mut self, line: Range<usize>, name_len: usize, value: Range<usize>) {
        let known = self.known_at(line.start, name_len);
        self.push_known_line(line, name_len, value, known);
    }

    /// Tells apart the name that stands in the buffer at `start`.
    #[inline]
    pub(crate) fn known_at(&self, start: usize, name_len: usize) -> Known {
        Known::of(&self.bytes[start..start + name_len])
    }

    /// Registers a line that already stands in the buffer and whose name is told apart already.
    #[inline]
    pub(crate) fn push_known_line(&mut self, line: Range<usize>, name_len: usize, value: Range<usize>, known: Known) {
        self.lines.push(Line {
            start: line.start as u32,
            end: line.end as u32,
            value_start: value.start as u32,
            value_end: value.end as u32,
            name_len: name_len as u16,
            known,
        });
    }

    pub(crate) fn raw(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Bytes the buffer can hold without growing.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Bytes in the buffer, those of removed lines included.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub fn name(&self, line: &Line) -> &[u8] {
        let start = line.start as usize;
        &self.bytes[start..start + line.name_len as usize]
    }

    pub fn value(&self, line: &Line) -> &[u8] {
        &self.bytes[line.value_start as usize..line.value_end as usize]
    }

    /// Name and value of every line, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| (self.name(line), self.value(line)))
    }

    /// The first line of a name the engine knows.
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        self.lines.iter().find(|line| line.known == known).map(|line| self.value(line))
    }

    /// The value of the first line of this name; names compare without case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The values of all lines of this name, in order.
    pub fn get_all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let known = Known::of(name.as_bytes());
        self.lines
            .iter()
            .filter(move |line| line.known == known && (known != Known::Other || self.name(line).eq_ignore_ascii_case(name.as_bytes())))
            .map(|line| self.value(line))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Adds a line at the end. Bytes that cannot stand in a header value (CR, LF, NUL) are dropped, so that no caller can
    /// split a message.
    pub fn append(&mut self, name: &str, value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b": ");
        let value_start = self.bytes.len();
        if value.iter().fold(false, |unfit, byte| unfit | matches!(byte, b'\r' | b'\n' | 0)) {
            self.bytes.extend(value.iter().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
        } else {
            self.bytes.extend_from_slice(value);
        }
        let value_end = self.bytes.len();
        self.bytes.extend_from_slice(b"\r\n");
        self.push_line(start..self.bytes.len(), name.len(), value_start..value_end);
    }

    /// Replaces all lines of this name by one at the end.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }

    /// Removes all lines of this name; says whether there were any.
    pub fn remove(&mut self, name: &str) -> bool {
        let known = Known::of(name.as_bytes());
        let before = self.lines.len();
        let bytes = &self.bytes;
        self.lines.retain(|line| {
            let start = line.start as usize;
            line.known != known
                || (known == Known::Other && !bytes[start..start + line.name_len as usize].eq_ignore_ascii_case(name.as_bytes()))
        });
        before != self.lines.len()
    }

    /// Removes all lines of a known name; says whether there were any.
    pub fn remove_known(&mut self, known: Known) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| line.known != known);
        before != self.lines.len()
    }

    /// Keeps the lines for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let bytes = &self.bytes;
        self.lines.retain(|line| {
            let start = line.start as usize;
            let name = &bytes[start..start + line.name_len as usize];
            keep(name, &bytes[line.value_start as usize..line.value_end as usize])
        });
    }

    /// Keeps the lines for which `keep` says so, by what is known of them.
    pub(crate) fn retain_lines(&mut self, keep: impl FnMut(&Line) -> bool) {
        self.lines.retain(keep);
    }

    /// Writes the lines for which `keep` says so, each with its CRLF. Neighbours in the buffer go in one copy; blanks behind a
    /// value, which are no part of it, stay behind.
    pub fn write_to(&self, out: &mut Vec<u8>, mut keep: impl FnMut(&Line) -> bool) {
        let mut run = 0..0;
        for line in &self.lines {
            if !keep(line) {
                continue;
            }
            let (start, end) = (line.start as usize, line.end as usize);
            if run.end != start {
                out.extend_from_slice(&self.bytes[run]);
                run = start..start;
            }
            if line.value_end + 2 == line.end {
                run.end = end;
            } else {
                out.extend_from_slice(&self.bytes[run.start..line.value_end as usize]);
                out.extend_from_slice(b"\r\n");
                run = end..end;
            }
        }
        out.extend_from_slice(&self.bytes[run]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_known_name_is_recognised_in_any_case() {
        for name in ["te", "VIA", "Host", "X-Forwarded-Prefix", "proxy-authorization", "transfer-encoding", "Forwarded", "X-Real-IP"] {
            assert_ne!(Known::of(name.as_bytes()), Known::Other, "{name}");
        }
        for name in ["x-other-xx", "hosx", "content_length", "content-lengtX", "x-forwarded-for1", "X-Forwarded-Perto", ""] {
            assert_eq!(Known::of(name.as_bytes()), Known::Other, "{name}");
        }
    }

    #[test]
    fn edits_keep_the_order_of_untouched_lines() {
        let mut headers = Headers::default();
        for (name, value) in [("A", "1"), ("Host", "h"), ("B", "2"), ("a", "3")] {
            headers.append(name, value.as_bytes());
        }
        headers.set("host", b"other");
        headers.remove("b");
        let mut out = Vec::new();
        headers.write_to(&mut out, |_| true);
        assert_eq!(out, b"A: 1\r\na: 3\r\nhost: other\r\n");
        assert_eq!(headers.get_all("A").count(), 2);
    }

    #[test]
    fn a_value_cannot_split_the_message() {
        let mut headers = Headers::default();
        headers.append("X", b"a\r\nInjected: 1\0");
        let mut out = Vec::new();
        headers.write_to(&mut out, |_| true);
        assert_eq!(out, b"X: aInjected: 1\r\n");
    }
}
