//! What a request target's path and a host may look like, as nginx judges them.

/// Checks a request target's path: `%` needs two hex digits, `%00` is refused, and `..` may not lead above the root, encoded or
/// not. Errors with the reason.
pub fn check_path(target: &[u8]) -> Result<(), &'static str> {
    // Most targets have neither.
    if memchr::memchr2(b'%', b'.', target).is_none() {
        return Ok(());
    }
    // Segments so far, and the present one as far as it matters: 0, 1 or 2 dots and nothing else, or anything (3).
    let (mut depth, mut dots) = (0usize, 0u8);
    let mut bytes = target.iter().copied().skip(1);
    loop {
        let (byte, encoded) = match bytes.next() {
            None => break,
            Some(b'%') => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => (high << 4 | low, true),
                _ => return Err("malformed percent-encoding in the path"),
            },
            Some(byte) => (byte, false),
        };
        match byte {
            0 => return Err("NUL in the path"),
            b'?' | b'#' if !encoded => break,
            b'/' => {
                depth = close_segment(depth, dots)?;
                dots = 0;
            }
            b'.' if dots < 2 => dots += 1,
            _ => dots = 3,
        }
    }
    close_segment(depth, dots).map(|_| ())
}

fn close_segment(depth: usize, dots: u8) -> Result<usize, &'static str> {
    match dots {
        1 => Ok(depth),
        2 => depth.checked_sub(1).ok_or("path leads above the root"),
        _ => Ok(depth + 1),
    }
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Whether a `Host` value may stand: not empty, no blanks or control characters, no `/`, no two dots in a row, and something
/// before the port's colon. Like nginx, it is no judge of the rest (`user@a.test` and `a_b` pass).
pub fn host_is_valid(host: &[u8]) -> bool {
    // Most hosts are letters, digits, single dots and a port, which one look-up a byte tells.
    let mut allowed = PLAIN;
    for byte in host {
        let class = CLASS_IN_HOST[usize::from(*byte)];
        if class > allowed {
            return judge_host(host);
        }
        allowed = class ^ BETWEEN;
    }
    !host.is_empty()
}

const PLAIN: u8 = 0;
/// May stand between plain characters only, as far as no closer look is taken.
const BETWEEN: u8 = 1;
const ODD: u8 = 2;

const CLASS_IN_HOST: [u8; 256] = {
    let mut table = [ODD; 256];
    let mut byte = 0;
    while byte < 256 {
        match byte as u8 {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' => table[byte] = PLAIN,
            b'.' | b':' => table[byte] = BETWEEN,
            _ => {}
        }
        byte += 1;
    }
    table
};

fn judge_host(host: &[u8]) -> bool {
    let mut previous = b' ';
    let mut bracket = false;
    for (index, &byte) in host.iter().enumerate() {
        match byte {
            0..=b' ' | 0x7f | b'/' => return false,
            b'.' if previous == b'.' => return false,
            b'[' if index == 0 => bracket = true,
            b']' => bracket = false,
            b':' if index == 0 && !bracket => return false,
            _ => {}
        }
        previous = byte;
    }
    !host.is_empty() && host != b"." && !bracket
}

/// Splits an absolute-form target into its authority and the rest, which begins with `/` or `?` or is empty.
pub(crate) fn split_absolute(target: &[u8]) -> Option<(usize, usize)> {
    let colon = memchr::memchr(b':', target)?;
    let scheme = &target[..colon];
    let first = *scheme.first()?;
    if !first.is_ascii_alphabetic() || !scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')) {
        return None;
    }
    if !target[colon..].starts_with(b"://") {
        return None;
    }
    let start = colon + 3;
    let length = target[start..].iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(target.len() - start);
    Some((start, start + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_root_are_refused() {
        for path in ["/..", "/../a", "/a/../..", "/%2e%2e/a", "/.%2E", "/a/..%2f..", "/./.."] {
            assert!(check_path(path.as_bytes()).is_err(), "{path}");
        }
        for path in ["/", "/a/..", "/a/../b", "/...", "/.a", "/a..", "/..a", "//..", "/x?/../..", "/x#/../..", "/a/./.."] {
            assert_eq!(check_path(path.as_bytes()), Ok(()), "{path}");
        }
    }

    #[test]
    fn bad_percent_encoding_is_refused_in_the_path_only() {
        for path in ["/%", "/%z", "/%zz", "/%1", "/%00", "/a%0"] {
            assert!(check_path(path.as_bytes()).is_err(), "{path}");
        }
        for path in ["/?%", "/x?%zz%00", "/%3f%23", "/%ff", "/%2F"] {
            assert_eq!(check_path(path.as_bytes()), Ok(()), "{path}");
        }
    }

    #[test]
    fn hosts_are_judged_as_nginx_does() {
        for host in ["a.test", "a_b.test", "user@a.test", "[::1]:8000", "a.test.", "a:80", "a:", "127.0.0.1"] {
            assert!(host_is_valid(host.as_bytes()), "{host}");
        }
        for host in ["", ".", "a b", "a/b", "..test", "a..b", ":80", "[::1", "a\tb", "a\u{7f}"] {
            assert!(!host_is_valid(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn absolute_targets_are_split() {
        let split = |target: &'static str| split_absolute(target.as_bytes()).map(|(start, end)| (&target[start..end], &target[end..]));
        assert_eq!(split("http://a.test:80/x?y"), Some(("a.test:80", "/x?y")));
        assert_eq!(split("HTTPS://a"), Some(("a", "")));
        assert_eq!(split("http://a?b"), Some(("a", "?b")));
        for target in ["no-slash", "example.test:443", "*", "?x=1", "://a", "1http://a", "http:/a"] {
            assert_eq!(split(target), None, "{target}");
        }
    }
}
