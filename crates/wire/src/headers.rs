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
    // From here on: names that a request may have once ([`Known::is_unique`]).
    Authorization,
    ContentRange,
    IfMatch,
    IfModifiedSince,
    IfNoneMatch,
    IfRange,
    IfUnmodifiedSince,
}

/// The known names in lower case.
const NAMES: [(&[u8], Known); 32] = [
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
    (b"content-range", Known::ContentRange),
    (b"if-match", Known::IfMatch),
    (b"if-modified-since", Known::IfModifiedSince),
    (b"if-none-match", Known::IfNoneMatch),
    (b"if-range", Known::IfRange),
    (b"if-unmodified-since", Known::IfUnmodifiedSince),
];

/// The known name that may stand in each slot: length and last letter but one tell all of them apart.
const SLOTS: [(&[u8], Known); 128] = {
    let mut slots: [(&[u8], Known); 128] = [(b"", Known::Other); 128];
    let mut at = 0;
    while at < NAMES.len() {
        let slot = slot_of(NAMES[at].0);
        assert!(slots[slot].0.is_empty(), "two known names in one slot: the factor must change");
        slots[slot] = NAMES[at];
        at += 1;
    }
    slots
};

#[inline]
const fn slot_of(name: &[u8]) -> usize {
    if name.len() < 2 {
        return 0;
    }
    ((name.len() * 9) ^ (name[name.len() - 2] | 0x20) as usize) % 128
}

impl Known {
    /// Tells a name apart; most unknown names cost no comparison, any other one.
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        let (text, known) = SLOTS[slot_of(name)];
        if text.len() == name.len() && same_name(name, text) { known } else { Known::Other }
    }

    /// Whether a request that has two lines of this name is refused, as nginx refuses it. `Host`, `Content-Length` and
    /// `Transfer-Encoding` are judged on their own.
    #[inline]
    pub(crate) fn is_unique(self) -> bool {
        self as u8 >= Known::Authorization as u8
    }

    /// [`Known::of`] for names that the compiler knows.
    const fn of_constant(name: &[u8]) -> Self {
        let (text, known) = SLOTS[slot_of(name)];
        if name.eq_ignore_ascii_case(text) { known } else { Known::Other }
    }
}

/// A header name of the gateway's own, told apart when it is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    text: &'static str,
    known: Known,
}

impl Name {
    pub const fn new(text: &'static str) -> Self {
        Self { text, known: Known::of_constant(text.as_bytes()) }
    }

    pub const fn as_str(&self) -> &'static str {
        self.text
    }
}

/// Whether `name` is `known` in any case; both are of the same length, and `known` is in lower case. Eight (or four) bytes at a
/// time.
#[inline]
fn same_name(name: &[u8], known: &[u8]) -> bool {
    let long = |at: usize| match (name.get(at..).and_then(<[u8]>::first_chunk), known.get(at..).and_then(<[u8]>::first_chunk)) {
        (Some(name), Some(known)) => same_word(u64::from_le_bytes(*name), u64::from_le_bytes(*known)),
        _ => false,
    };
    let short = |at: usize| match (name.get(at..).and_then(<[u8]>::first_chunk), known.get(at..).and_then(<[u8]>::first_chunk)) {
        (Some(name), Some(known)) => same_word(u32::from_le_bytes(*name).into(), u32::from_le_bytes(*known).into()),
        _ => false,
    };
    match known.len() {
        0..4 => name.eq_ignore_ascii_case(known),
        4..8 => short(0) && short(known.len() - 4),
        8..=16 => long(0) && long(known.len() - 8),
        _ => long(0) && long(known.len() - 8) && long(8),
    }
}

/// Whether eight bytes are the same in any case; those of `known` are lower-case letters and `-`.
#[inline]
fn same_word(name: u64, known: u64) -> bool {
    // Where a letter (bit 6) is expected, bit 5 is its case.
    let case = (known >> 1) & 0x2020_2020_2020_2020;
    (name ^ known) & !case == 0
}

/// What names of headers consist of.
#[inline]
fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            let text = byte as u8;
            table[byte] = text.is_ascii_alphanumeric()
                || matches!(text, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
            byte += 1;
        }
        table
    };
    TOKEN[usize::from(byte)]
}

/// Whether a value holds CR, LF or NUL. Eight bytes at a time: bytes below 16 but the tab are looked at closely.
#[inline]
fn may_split(value: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = ONES << 7;
    let (words, rest) = value.as_chunks::<8>();
    let below_16 = |word: u64| word.wrapping_sub(ONES * 16) & !word & TOPS;
    let suspicious = words.iter().fold(0, |found, word| found | below_16(u64::from_le_bytes(*word))) != 0;
    let splits = |bytes: &[u8]| bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    splits(rest) || (suspicious && splits(value))
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
    pub fn capacity(&self) -> usize {
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
            .filter(move |line| {
                line.known == known
                    && (known != Known::Other
                        || (line.name_len as usize == name.len() && self.name(line).eq_ignore_ascii_case(name.as_bytes())))
            })
            .map(|line| self.value(line))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Adds a line at the end. Bytes that cannot stand in a header value (CR, LF, NUL) are dropped, and a line whose name is
    /// no token (RFC 9110 section 5.6.2) is not added at all, so that no caller can split a message.
    pub fn append(&mut self, name: &str, value: &[u8]) {
        if name.is_empty() || !name.bytes().fold(true, |fit, byte| fit & is_token(byte)) {
            return;
        }
        self.append_checked(name, Known::of(name.as_bytes()), value);
    }

    /// As [`Headers::append`], for a name that is known to be one. Cheap where the value is clean.
    #[inline]
    pub fn append_clean(&mut self, name: Name, value: &[u8]) {
        self.append_checked(name.text, name.known, value);
    }

    #[inline]
    fn append_checked(&mut self, name: &str, known: Known, value: &[u8]) {
        if may_split(value) {
            let fit: Vec<u8> = value.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)).collect();
            return self.push_text(name, known, &fit);
        }
        self.push_text(name, known, value);
    }

    #[inline]
    fn push_text(&mut self, name: &str, known: Known, value: &[u8]) {
        let start = self.bytes.len();
        let value_start = start + name.len() + 2;
        let value_end = value_start + value.len();
        self.bytes.reserve(name.len() + value.len() + 4);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
        self.push_known_line(start..value_end + 2, name.len(), value_start..value_end, known);
    }

    /// Replaces all lines of this name by one at the end.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }

    /// Replaces all lines of the name that `line` has in `other` by that line, at the end.
    pub fn set_from(&mut self, other: &Headers, line: &Line) {
        let name = other.name(line);
        self.remove_named(name, line.known);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes[line.start as usize..line.end as usize]);
        let moved = |at: u32| at as usize - line.start as usize + start;
        let value = moved(line.value_start)..moved(line.value_end);
        self.push_known_line(start..moved(line.end), name.len(), value, line.known);
    }

    /// Removes all lines of this name; says whether there were any.
    pub fn remove(&mut self, name: &str) -> bool {
        self.remove_named(name.as_bytes(), Known::of(name.as_bytes()))
    }

    fn remove_named(&mut self, name: &[u8], known: Known) -> bool {
        let bytes = &self.bytes;
        let is_named = |line: &Line| {
            let start = line.start as usize;
            line.known == known
                && (known != Known::Other
                    || (line.name_len as usize == name.len() && bytes[start..start + name.len()].eq_ignore_ascii_case(name)))
        };
        // Mostly there is none, and a look is cheaper than going through with a list that may shrink.
        let Some(first) = self.lines.iter().position(is_named) else { return false };
        let mut at = 0;
        self.lines.retain(|line| {
            at += 1;
            at <= first || !is_named(line)
        });
        true
    }

    /// Removes all lines of a known name; says whether there were any.
    pub fn remove_known(&mut self, known: Known) -> bool {
        if !self.lines.iter().any(|line| line.known == known) {
            return false;
        }
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
        for name in
            ["x-other-xx", "hosx", "content_length", "content-lengtX", "x-forwarded-for1", "X-Forwarded-Perto", "content\rlength", ""]
        {
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
        headers.append("Y: 1\r\nInjected", b"1");
        headers.append("Y(1)", b"1");
        headers.append("\u{e4}", b"1");
        headers.append_clean(Name::new("Z"), b"0123456789\r\n\tabcdefg");
        headers.append("", b"1");
        let mut out = Vec::new();
        headers.write_to(&mut out, |_| true);
        assert_eq!(out, b"X: aInjected: 1\r\nZ: 0123456789\tabcdefg\r\n");
    }
}
