//! A request's path: into normal form before routing, joined with the service's path after.

use std::borrow::Cow;

/// Why a path is answered 400 before any route is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("a percent sign without two hexadecimal digits")]
    BadEscape,
    #[error("a NUL byte")]
    Nul,
    #[error("climbs above the root")]
    AboveRoot,
}

/// Splits a request target into its path and its query.
///
/// A `?` behind a `#` starts no query: nginx ends its reading at the `#`, so what follows the `?` is dropped.
pub fn split_target(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(mark) = memchr::memchr(b'?', target) else { return (target, None) };
    let (path, query) = (&target[..mark], &target[mark + 1..]);
    if memchr::memchr(b'#', path).is_some() { (path, None) } else { (path, Some(query)) }
}

/// Brings a path into the form that routes are matched by: everything percent-decoded but reserved characters, whose
/// encoding is put in upper case; dot segments resolved; slashes merged.
///
/// Borrows when the path is in that form already. Errors where nginx answers 400: it decodes reserved characters too when it
/// looks whether a path stays below the root.
pub fn normalise(path: &[u8]) -> Result<Cow<'_, [u8]>, BadPath> {
    if is_normal(path) {
        return Ok(Cow::Borrowed(if path.is_empty() { b"/" } else { path }));
    }
    check_depth(path)?;
    let decoded = decode(path);
    let mut normal: Vec<u8> = Vec::with_capacity(decoded.len() + 1);
    let mut ends_in_directory = false;
    for segment in decoded.split(|byte| *byte == b'/') {
        ends_in_directory = true;
        match segment {
            b"" | b"." => {}
            b".." => normal.truncate(memchr::memrchr(b'/', &normal).unwrap_or(0)),
            name => {
                normal.push(b'/');
                normal.extend_from_slice(name);
                ends_in_directory = false;
            }
        }
    }
    if ends_in_directory {
        normal.push(b'/');
    }
    Ok(Cow::Owned(normal))
}

/// Whether nothing in the path has to be looked at twice. `/.` may start a dot segment or an ordinary name.
fn is_normal(path: &[u8]) -> bool {
    if path.first().is_some_and(|first| *first != b'/') {
        return false;
    }
    let mut after_slash = false;
    for byte in path {
        match byte {
            b'%' | 0 => return false,
            b'/' | b'.' if after_slash => return false,
            _ => after_slash = *byte == b'/',
        }
    }
    true
}

/// Refuses what nginx refuses: broken escapes, NUL, and more `..` than there are segments above, all decoded.
fn check_depth(path: &[u8]) -> Result<(), BadPath> {
    let mut depth = 0usize;
    // What the current segment is so far: its length, and whether it has dots only.
    let mut length = 0;
    let mut dots = true;
    let mut at = 0;
    loop {
        let byte = match path.get(at) {
            Some(b'%') => {
                let decoded = hex_pair(path, at + 1).ok_or(BadPath::BadEscape)?;
                at += 2;
                decoded
            }
            // Behind a fragment mark nothing counts any more.
            Some(b'#') | None => b'/',
            Some(byte) => *byte,
        };
        match byte {
            0 => return Err(BadPath::Nul),
            b'/' => {
                match (length, dots) {
                    (0, _) | (1, true) => {}
                    (2, true) => depth = depth.checked_sub(1).ok_or(BadPath::AboveRoot)?,
                    _ => depth += 1,
                }
                (length, dots) = (0, true);
            }
            byte => {
                length += 1;
                dots &= byte == b'.';
            }
        }
        if matches!(path.get(at), Some(b'#') | None) {
            return Ok(());
        }
        at += 1;
    }
}

fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(byte) = path.get(at) {
        let escaped = if *byte == b'%' { hex_pair(path, at + 1) } else { None };
        match escaped {
            Some(value) if is_reserved(value) => {
                decoded.push(b'%');
                decoded.extend(path[at + 1..at + 3].iter().map(u8::to_ascii_uppercase));
                at += 3;
            }
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

fn hex_pair(path: &[u8], at: usize) -> Option<u8> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).map(|digit| digit as u8);
    Some(digit(path.get(at)?)? << 4 | digit(path.get(at + 1)?)?)
}

const fn is_reserved(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'*' | b'\'' | b'(' | b')' | b';' | b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b',' | b'/' | b'?' | b'%' | b'#' | b'[' | b']'
    )
}

/// The path the upstream is asked for, percent-encoded, appended to `out` (without the query).
///
/// `path` is the normalised request path. With `strip`, the first `matched` bytes of it are replaced by the service's path;
/// without, the service's path goes before it. Kong's `path_handling` v0; v1 means the same in the default flavour.
pub fn join(out: &mut Vec<u8>, service_path: Option<&str>, path: &[u8], matched: Option<usize>, strip: bool) {
    let base = service_path.unwrap_or("/").as_bytes();
    let (base_without_slash, base_ends_in_slash) = match base {
        [start @ .., b'/'] => (start, true),
        _ => (base, false),
    };
    if !strip {
        if base_ends_in_slash {
            escape(out, base_without_slash);
            escape(out, if path.is_empty() { b"/" } else { path });
        } else {
            escape(out, base);
            if path != b"/" {
                escape(out, path);
            }
        }
        return;
    }
    let rest = without_leading_dots(path.get(matched.unwrap_or(1)..).unwrap_or_default());
    let directory = path.ends_with(b"/");
    match rest.first() {
        Some(b'/') => {
            escape(out, base_without_slash);
            escape(out, rest);
        }
        Some(_) => {
            escape(out, base_without_slash);
            out.push(b'/');
            escape(out, rest);
        }
        None if base_ends_in_slash && (directory || base == b"/") => escape(out, base),
        None if base_ends_in_slash => escape(out, base_without_slash),
        None => {
            escape(out, base);
            if directory && path.len() > 1 {
                out.push(b'/');
            }
        }
    }
}

/// Like [`join`] as `path_handling` v1 has it: the service's path and the rest of the request's stand side by side, and only a
/// double slash between them becomes one.
pub fn glue(out: &mut Vec<u8>, service_path: Option<&str>, path: &[u8], matched: Option<usize>, strip: bool) {
    let base = service_path.unwrap_or("/").as_bytes();
    let cut = if strip { matched.unwrap_or(1) } else { 1 };
    let rest = path.get(cut..).unwrap_or_default();
    let rest = if strip { without_leading_dots(rest) } else { rest };
    match (base, rest) {
        ([start @ .., b'/'], [b'/', ..]) => escape(out, start),
        _ => escape(out, base),
    }
    escape(out, rest);
}

/// What is left after a prefix was cut off must not start a dot segment of its own: `/cut` off `/cut../x` leaves `x`.
fn without_leading_dots(rest: &[u8]) -> &[u8] {
    match rest {
        b"." | b".." => b"",
        [b'.', b'/', after @ ..] | [b'.', b'.', b'/', after @ ..] => after,
        _ => rest,
    }
}

/// Percent-encodes every byte that may not stand in a path. Percent signs are taken to belong to escapes.
fn escape(out: &mut Vec<u8>, path: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut rest = path;
    while let Some(at) = rest.iter().position(|byte| !may_stand(*byte)) {
        out.extend_from_slice(&rest[..at]);
        let byte = rest[at];
        out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn may_stand(byte: u8) -> bool {
    const MAY_STAND: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            let text = byte as u8;
            table[byte] = text.is_ascii_alphanumeric() || matches!(text, b'-' | b'.' | b'_' | b'~') || is_reserved(text);
            byte += 1;
        }
        table
    };
    MAY_STAND[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn normal(path: &str) -> String {
        String::from_utf8(normalise(path.as_bytes()).unwrap().into_owned()).unwrap()
    }

    fn joined(service: &str, path: &str, matched: Option<usize>, strip: bool) -> String {
        let mut out = Vec::new();
        join(&mut out, Some(service), path.as_bytes(), matched, strip);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_path_in_normal_form_is_borrowed() {
        for path in ["/", "/a/b.c/", "/caf\u{e9}", "/a b", ""] {
            assert!(matches!(normalise(path.as_bytes()), Ok(Cow::Borrowed(_))), "{path}");
        }
        assert_eq!(normal(""), "/");
    }

    #[test]
    fn dot_segments_are_resolved_also_when_encoded() {
        for (path, expected) in [
            ("/pub/./x", "/pub/x"),
            ("/pub/a/../b", "/pub/b"),
            ("/pub/a/%2e%2e/b", "/pub/b"),
            ("/pub/a/%2E./b/%2e", "/pub/b/"),
            ("/pub/..%2Fprivate", "/pub/..%2Fprivate"),
            ("/pub/x/..", "/pub/"),
            ("/pub/x/.", "/pub/x/"),
            ("/pub/...", "/pub/..."),
            ("/pub/.hidden/x..", "/pub/.hidden/x.."),
            ("/a/..", "/"),
            ("//t///abc//def", "/t/abc/def"),
            ("//", "/"),
            ("/x%2Fy/../../z", "/z"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn reserved_characters_keep_their_encoding_in_upper_case() {
        assert_eq!(normal("/e/%41%62-%5F%7E"), "/e/Ab-_~");
        assert_eq!(normal("/e/%3a%2f%23%25%2541"), "/e/%3A%2F%23%25%2541");
        assert_eq!(normalise(b"/e/%20%c3%a9").unwrap().as_ref(), "/e/ \u{e9}".as_bytes());
    }

    #[test]
    fn climbing_above_the_root_and_broken_escapes_are_refused() {
        for path in ["/..", "/../etc/passwd", "/%2e%2e/etc", "/a/../../b", "/a/%2e%2e%2f%2e%2e/b"] {
            assert_eq!(normalise(path.as_bytes()), Err(BadPath::AboveRoot), "{path}");
        }
        assert_eq!(normalise(b"/a%00"), Err(BadPath::Nul));
        assert_eq!(normalise(b"/%zz"), Err(BadPath::BadEscape));
        assert_eq!(normalise(b"/a%2"), Err(BadPath::BadEscape));
    }

    #[test]
    fn a_question_mark_behind_a_fragment_starts_no_query() {
        assert_eq!(split_target(b"/a?b=?c"), (&b"/a"[..], Some(&b"b=?c"[..])));
        assert_eq!(split_target(b"/a?"), (&b"/a"[..], Some(&b""[..])));
        assert_eq!(split_target(b"/frag#ment?x=1"), (&b"/frag#ment"[..], None));
        assert_eq!(split_target(b"/a?b#c"), (&b"/a"[..], Some(&b"b#c"[..])));
    }

    #[test]
    fn stripping_replaces_the_matched_prefix_by_the_service_path() {
        for (service, path, matched, expected) in [
            ("/s/", "/r", Some(2), "/s"),
            ("/s/", "/r/", Some(2), "/s/"),
            ("/s/", "/rx", Some(2), "/s/x"),
            ("/s/", "/r/x/", Some(2), "/s/x/"),
            ("/s/", "/", None, "/s/"),
            ("/s/", "/x/", None, "/s/x/"),
            ("/", "/r", Some(2), "/"),
            ("/", "/r/", Some(3), "/"),
            ("/s", "/", Some(1), "/s"),
            ("/s", "/r/", Some(3), "/s/"),
            ("/s", "/rx", Some(2), "/s/x"),
            ("/s", "/x/", None, "/s/x/"),
            ("/base", "/cut..", Some(4), "/base"),
            ("/base", "/cut../x", Some(4), "/base/x"),
            ("/base", "/cut.../x", Some(4), "/base/.../x"),
            ("/base", "/cut..%2Fx", Some(4), "/base/..%2Fx"),
            ("/", "/bare../x/y", Some(5), "/x/y"),
        ] {
            assert_eq!(joined(service, path, matched, true), expected, "{service} {path} {matched:?}");
        }
    }

    #[test]
    fn keeping_the_path_puts_the_service_path_before_it() {
        for (service, path, expected) in
            [("/s", "/", "/s"), ("/s", "/r/", "/s/r/"), ("/s/", "/", "/s/"), ("/s/", "/r", "/s/r"), ("/", "/x", "/x"), ("/", "/", "/")]
        {
            assert_eq!(joined(service, path, Some(1), false), expected, "{service} {path}");
        }
    }

    #[test]
    fn gluing_puts_nothing_between() {
        for (service, path, matched, strip, expected) in [
            ("/", "/req", Some(2), true, "/eq"),
            ("/", "/r/eq/", Some(2), true, "/eq/"),
            ("/s", "/r", Some(2), true, "/s"),
            ("/s", "/req", Some(2), true, "/seq"),
            ("/s/", "/r", Some(2), true, "/s/"),
            ("/s/", "/r/", Some(2), true, "/s/"),
            ("/s/", "/r/x", Some(3), true, "/s/x"),
            ("/s", "/r/eq", Some(2), false, "/sr/eq"),
            ("/s/", "/r/eq", Some(2), false, "/s/r/eq"),
            ("/s", "/x/y", None, true, "/sx/y"),
            ("/s/", "/", None, true, "/s/"),
        ] {
            let mut out = Vec::new();
            glue(&mut out, Some(service), path.as_bytes(), matched, strip);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{service} {path} {matched:?} {strip}");
        }
    }

    #[test]
    fn what_may_not_stand_in_a_path_is_encoded_on_the_way_out() {
        assert_eq!(joined("/", "/e/a\"b<c>d\\e^f`g{h|i}", None, false), "/e/a%22b%3Cc%3Ed%5Ce%5Ef%60g%7Bh%7Ci%7D");
        assert_eq!(joined("/", "/e/!$&'()*+,;=:@[]#", None, false), "/e/!$&'()*+,;=:@[]#");
        assert_eq!(joined("/", "/\u{e9}\r\n \u{7f}%2F", None, false), "/%C3%A9%0D%0A%20%7F%2F");
    }
}
