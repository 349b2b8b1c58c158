//! Request heads: the way in for everything a client says, so nothing ambiguous passes.

use std::ops::Range;

use super::lines::{is_valid_name, read_lines};
use super::{MANY_LINES, Parsed, content_length, limits, once, target, tokens};
use crate::head::{Framing, Method, RequestHead, Version};
use crate::headers::Known;
use crate::serve::Refusal;

/// Reads one request head from the start of `bytes` into `head`, whose buffers are reused.
///
/// Lines whose names hold characters that nginx calls invalid are dropped, as nginx drops them. On a refusal `head` holds what
/// came before the offending line, for the answer's form to be chosen by.
pub fn parse_request(bytes: &[u8], head: &mut RequestHead) -> Result<Parsed, Refusal> {
    head.clear();
    if let Some(length) = read(bytes, head) {
        if length > limits::ALWAYS_FITS {
            limits::check_bytes(&bytes[..length])?;
        }
        return Ok(Parsed::Complete(length));
    }
    examine(bytes, head)
}

/// Reads a complete head that is as nearly all heads are. None when there is anything about it that [`examine`] must judge.
fn read(bytes: &[u8], head: &mut RequestHead) -> Option<usize> {
    let at = memchr::memchr(b'\n', bytes)? + 1;
    let (line, version) = bytes[..at].split_last_chunk()?;
    head.version = match version {
        b" HTTP/1.1\r\n" => Version::Http11,
        b" HTTP/1.0\r\n" => Version::Http10,
        _ => return None,
    };
    let method_end = line.iter().position(|byte| *byte == b' ')?;
    if !line[method_end + 1..].iter().fold(true, |fit, byte| fit & (b'!'..=b'~').contains(byte)) {
        return None;
    }
    let slash_due = set_line(head, bytes, 0..method_end, method_end + 1..line.len()).ok()?;
    let mut judge = Judge::default();
    let version = head.version;
    let length = read_lines(bytes, at, &mut head.headers, |known, value| judge.accept(version, bytes, value, known).ok())?;
    judge.finish(head, bytes).ok()?;
    head.headers.push_raw(&bytes[..length]);
    if slash_due {
        put_slash(head);
    }
    Some(length)
}

/// Judges method and target, which stand in `text` from the head's first byte on, and notes where they do. True when the target
/// is in absolute form without a path and [`put_slash`] has to follow.
fn set_line(head: &mut RequestHead, text: &[u8], method: Range<usize>, target: Range<usize>) -> Result<bool, Refusal> {
    let name = &text[method.clone()];
    head.method = Method::of(name);
    if head.method == Method::Other
        && (name.is_empty() || !name.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'-')))
    {
        return Err(Refusal::bad("malformed method"));
    }
    head.method_text = method;
    let offset = target.start;
    let asked = &text[target.clone()];
    if asked.first() == Some(&b'/') {
        head.target = target;
    } else {
        let (start, end) = target::split_absolute(asked).ok_or(Refusal::bad("malformed request target"))?;
        if !target::host_is_valid(&asked[start..end]) {
            return Err(Refusal::bad("malformed host in the request target"));
        }
        head.authority = Some(offset + start..offset + end);
        head.target = offset + end..target.end;
        if asked.get(end) != Some(&b'/') {
            return Ok(true);
        }
    }
    target::check_path(&text[head.target.clone()]).map_err(Refusal::bad)?;
    Ok(false)
}

/// Puts the missing path ahead of the target's query, behind everything else in the buffer.
#[cold]
fn put_slash(head: &mut RequestHead) {
    let query = head.headers.raw(head.target.clone()).to_vec();
    let slash = head.headers.push_raw(b"/");
    let rest = head.headers.push_raw(&query);
    head.target = slash.start..rest.end;
}

pub(crate) const REPEATED: Refusal = Refusal::bad("a header that may be there once was repeated");

/// Judges header lines in order and, at the end, what they say together. The order of the checks is nginx'.
#[derive(Default)]
struct Judge {
    host: bool,
    length: Option<Range<usize>>,
    coding: Option<Range<usize>>,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    expects_continue: bool,
    /// A bit for each unique name that was there.
    unique: u64,
}

impl Judge {
    /// Hears a line whose value stands in `text`.
    #[inline]
    fn accept(&mut self, version: Version, text: &[u8], value: Range<usize>, known: Known) -> Result<(), Refusal> {
        match known {
            Known::Host => {
                if std::mem::replace(&mut self.host, true) {
                    return Err(Refusal::bad("more than one Host header"));
                }
                if !target::host_is_valid(&text[value]) {
                    return Err(Refusal::bad("malformed Host header"));
                }
            }
            Known::ContentLength => {
                once(&mut self.length, value, "more than one Content-Length header").map_err(Refusal::bad)?;
            }
            Known::TransferEncoding => {
                once(&mut self.coding, value, "more than one Transfer-Encoding header").map_err(Refusal::bad)?;
            }
            Known::Connection => {
                for token in tokens(&text[value]) {
                    self.close |= token.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            Known::Upgrade => self.upgrade = true,
            Known::Expect => {
                self.expects_continue = version >= Version::Http11 && text[value].eq_ignore_ascii_case(b"100-continue");
            }
            _ if known.is_unique() => {
                let bit = 1 << known as u8;
                if self.unique & bit != 0 {
                    return Err(REPEATED);
                }
                self.unique |= bit;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self, head: &mut RequestHead, text: &[u8]) -> Result<(), Refusal> {
        if !self.host && head.version >= Version::Http11 {
            return Err(Refusal::bad("no Host header"));
        }
        head.expects_continue = self.expects_continue;
        let length = match self.length {
            None => None,
            Some(value) => Some(content_length(&text[value]).ok_or(Refusal::bad("malformed Content-Length"))?),
        };
        head.framing = match (self.coding, length) {
            (None, None | Some(0)) => Framing::None,
            (None, Some(length)) => Framing::Length(length),
            (Some(coding), length) => {
                if head.version < Version::Http11 {
                    return Err(Refusal::bad("Transfer-Encoding in an HTTP/1.0 request"));
                }
                if !text[coding].eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::new(501, "unknown Transfer-Encoding"));
                }
                if length.is_some() {
                    return Err(Refusal::bad("Content-Length with Transfer-Encoding"));
                }
                Framing::Chunked
            }
        };
        if matches!(head.method, Method::Trace | Method::Connect) {
            return Err(Refusal::new(405, "method not allowed"));
        }
        head.keep_alive = !self.close && (self.keep_alive || head.version >= Version::Http11);
        head.upgrade = self.upgrade && head.version >= Version::Http11 && head.framing == Framing::None;
        Ok(())
    }
}

/// Goes through a head line by line: one that is incomplete so far, has lines to drop, or has something wrong that is to be
/// named, with the lines before it kept.
#[cold]
fn examine(bytes: &[u8], head: &mut RequestHead) -> Result<Parsed, Refusal> {
    head.clear();
    // Empty lines ahead of a request are skipped (RFC 9112 section 2.2).
    let Some(start) = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) else { return Ok(Parsed::Partial) };
    let text = &bytes[start..];
    let judged = examine_lines(text, head);
    let length = match judged {
        Ok(Parsed::Complete(length)) => length,
        Ok(Parsed::Partial) => text.len(),
        Err(_) => text.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or(text.len()),
    };
    if let Err(too_large) = limits::check_bytes(&text[..length]) {
        head.clear();
        return Err(too_large);
    }
    judged.map(|parsed| if parsed == Parsed::Partial { parsed } else { Parsed::Complete(start + length) })
}

fn examine_lines(text: &[u8], head: &mut RequestHead) -> Result<Parsed, Refusal> {
    head.headers.push_raw(text);
    let (mut judge, mut slash_due, mut at) = (Judge::default(), false, 0);
    for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let start = at;
        at += line.len();
        let Some(content) = line.strip_suffix(b"\r\n") else {
            if line.ends_with(b"\n") {
                return Err(Refusal::bad("line without CRLF"));
            }
            if index == 0 && !may_be_method(line) {
                return Err(Refusal::bad("malformed request line"));
            }
            return Ok(Parsed::Partial);
        };
        if index == 0 {
            slash_due = examine_request_line(content, text, head)?;
            continue;
        }
        if content.is_empty() {
            judge.finish(head, text)?;
            if slash_due {
                put_slash(head);
            }
            return Ok(Parsed::Complete(at));
        }
        let (name_len, value) = examine_header_line(content)?;
        if !is_valid_name(&content[..name_len]) {
            continue;
        }
        if head.headers.len() == MANY_LINES {
            return Err(limits::HEADER_TOO_LARGE);
        }
        let value = start + value.start..start + value.end;
        let known = Known::of(&content[..name_len]);
        judge.accept(head.version, text, value.clone(), known)?;
        head.headers.push_known_line(start..at, name_len, value, known);
    }
    Ok(Parsed::Partial)
}

/// Whether an unfinished first line may become a request line: what speaks another protocol need not be waited for.
fn may_be_method(line: &[u8]) -> bool {
    line.iter().take_while(|byte| **byte != b' ').all(|byte| byte.is_ascii_graphic())
}

fn examine_request_line(line: &[u8], text: &[u8], head: &mut RequestHead) -> Result<bool, Refusal> {
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(Refusal::bad("malformed request line"));
    };
    if method.is_empty() || target.iter().any(|byte| matches!(byte, 0..=b' ' | 0x7f)) || std::str::from_utf8(target).is_err() {
        return Err(Refusal::bad("malformed request line"));
    }
    let slash_due = set_line(head, text, 0..method.len(), method.len() + 1..method.len() + 1 + target.len())?;
    match version {
        b"HTTP/1.1" => head.version = Version::Http11,
        b"HTTP/1.0" => head.version = Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', b'2'..=b'9', b'.', b'0'..=b'9'] => return Err(Refusal::new(505, "unsupported HTTP version")),
        _ => return Err(Refusal::bad("malformed HTTP version")),
    }
    Ok(slash_due)
}

/// Length of the name and place of the value. As for nginx, a name may hold anything but blanks and control characters; whether
/// it is valid is another question.
fn examine_header_line(line: &[u8]) -> Result<(usize, Range<usize>), Refusal> {
    const MALFORMED: Refusal = Refusal::bad("malformed header line");
    let colon = memchr::memchr(b':', line).ok_or(MALFORMED)?;
    let value = super::trim(&line[colon + 1..]);
    if colon == 0
        || line[..colon].iter().any(|byte| matches!(byte, 0..=b' ' | 0x7f))
        || value.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 0x7f))
    {
        return Err(MALFORMED);
    }
    let value_start = if value.is_empty() { line.len() } else { value.as_ptr() as usize - line.as_ptr() as usize };
    Ok((colon, value_start..value_start + value.len()))
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
