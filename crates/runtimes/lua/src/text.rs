//! Text as nginx and Lua write it: numbers, escapes, paths.

/// A number as `%.14g` prints it.
pub fn number(number: f64) -> String {
    number_of(number, 14)
}

/// A number as `%g` prints it with so many digits, from 1 to 17.
pub fn number_of(number: f64, digits: usize) -> String {
    let digits = digits.clamp(1, 17);
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if number.fract() == 0.0 && number.abs() < 10f64.powi(digits.min(15) as i32) {
        return if number == 0.0 && number.is_sign_negative() { "-0".to_owned() } else { format!("{}", number as i64) };
    }
    let scientific = format!("{number:.*e}", digits - 1);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..digits as i32).contains(&exponent) {
        return trimmed(&format!("{number:.*}", (digits as i32 - 1 - exponent).max(0) as usize));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
}

/// Percent-encodes what may not stand in a component of an address, as nginx sees it.
pub fn escape(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'*' | b'\'' | b'(' | b')') {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

/// Percent-encodes what may not stand in a whole path, or in a whole query (`arguments`), as nginx sees it.
pub fn escape_part(text: &[u8], arguments: bool, out: &mut Vec<u8>) {
    for byte in text {
        let kept =
            byte.is_ascii_graphic() && !matches!(byte, b'#' | b'%' | b'?' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}');
        if kept && !(arguments && matches!(byte, b'&' | b'+')) {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

/// Undoes percent-encoding, and `+` for a blank if asked to.
pub fn unescape(text: &[u8], plus: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'+' if plus => out.push(b' '),
            b'%' => match (text.get(at + 1).copied().and_then(hex), text.get(at + 2).copied().and_then(hex)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    at += 2;
                }
                _ => out.push(b'%'),
            },
            byte => out.push(byte),
        }
        at += 1;
    }
    out
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// Bytes as lower-case hex digits.
pub fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A path in normal form (RFC 3986 section 6.2.2): escapes of unreserved characters undone, others in upper case, dot segments
/// resolved, slashes merged.
pub fn normal_path(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        if path[at] == b'%'
            && let (Some(high), Some(low)) = (path.get(at + 1).copied().and_then(hex), path.get(at + 2).copied().and_then(hex))
        {
            let byte = high << 4 | low;
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                plain.push(byte);
            } else {
                plain.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
            at += 3;
            continue;
        }
        plain.push(path[at]);
        at += 1;
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    let all: Vec<&[u8]> = plain.split(|byte| *byte == b'/').collect();
    let last = all.len().saturating_sub(1);
    let mut open = false;
    for (at, segment) in all.into_iter().enumerate() {
        open = false;
        match segment {
            b"" | b"." => open = at == last,
            b".." => {
                segments.pop();
                open = at == last;
            }
            segment => segments.push(segment),
        }
    }
    let mut out = Vec::with_capacity(plain.len());
    for segment in &segments {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    if open || out.is_empty() {
        out.push(b'/');
    }
    out
}

/// `host:80` without the port.
pub fn without_port(host: &[u8]) -> &[u8] {
    if host.first() == Some(&b'[') {
        return host.iter().position(|byte| *byte == b']').map_or(host, |end| &host[..=end]);
    }
    host.iter().position(|byte| *byte == b':').map_or(host, |colon| &host[..colon])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_with_fourteen_digits() {
        for (value, text) in [
            (1.0, "1"),
            (0.5, "0.5"),
            (-2.25, "-2.25"),
            (1e20, "1e+20"),
            (0.1 + 0.2, "0.3"),
            (1e-7, "1e-07"),
            (1.0 / 3.0, "0.33333333333333"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn paths_are_brought_into_normal_form() {
        for (path, normal) in [("/a/./b/../c", "/a/c"), ("//x", "/x"), ("/%41%2f", "/A%2F"), ("/a/", "/a/"), ("", "/"), ("/..", "/")] {
            assert_eq!(String::from_utf8_lossy(&normal_path(path.as_bytes())), normal, "{path}");
        }
    }
}
