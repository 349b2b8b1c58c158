//! The few messages of LDAP (RFC 4511) that a login takes, in BER: binding with a password, turning to TLS, going away.

/// The name of the operation that turns a connection to TLS (RFC 4511, 4.14.1).
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

/// Longer answers than this many bytes are not waited for.
pub const MAX_MESSAGE: usize = 64 << 10;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const BIND_RESPONSE: u8 = 0x61;
const EXTENDED_RESPONSE: u8 = 0x78;

/// A request to bind as this name with this password.
pub fn bind(id: u32, name: &[u8], password: &[u8]) -> Vec<u8> {
    let body = [element(INTEGER, &[3]), element(OCTET_STRING, name), element(0x80, password)].concat();
    message(id, &element(0x60, &body))
}

/// A request to turn the connection to TLS.
pub fn start_tls(id: u32) -> Vec<u8> {
    message(id, &element(0x77, &element(0x80, START_TLS)))
}

/// Tells the server that the client goes away; it does not answer.
pub fn unbind(id: u32) -> Vec<u8> {
    message(id, &element(0x42, b""))
}

fn message(id: u32, operation: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[element(INTEGER, &integer(id)), operation.to_vec()].concat())
}

fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match contents.len() {
        length @ 0..=127 => out.push(length as u8),
        length => {
            let bytes = length.to_be_bytes();
            let used = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(0)..];
            out.push(0x80 | used.len() as u8);
            out.extend_from_slice(used);
        }
    }
    out.extend_from_slice(contents);
    out
}

/// Big-endian, as short as may be, with a zero before a byte that would make it negative.
fn integer(value: u32) -> Vec<u8> {
    let bytes = [&[0][..], &value.to_be_bytes()].concat();
    let start = (0..4).find(|at| bytes[*at] != 0 || bytes[at + 1] >= 0x80).unwrap_or(4);
    bytes[start..].to_vec()
}

/// What a server said to a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which request it answers; 0 when the server speaks unasked.
    pub id: u32,
    /// 0 is success, 49 wrong credentials.
    pub code: u32,
    /// In the server's own words.
    pub text: String,
}

/// How many bytes the message at the start takes in all. None while that cannot be told; an error if it is no message or too
/// long.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some((tag, rest)) = bytes.split_first() else { return Ok(None) };
    if *tag != SEQUENCE {
        return Err("not an LDAP message");
    }
    let Some((length, used)) = header_length(rest)? else { return Ok(None) };
    if length > MAX_MESSAGE { Err("an LDAP message is too long") } else { Ok(Some(1 + used + length)) }
}

/// The length that is told, and in how many bytes.
fn header_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, &'static str> {
    match bytes.first() {
        None => Ok(None),
        Some(short @ 0..=127) => Ok(Some((usize::from(*short), 1))),
        Some(long) => {
            let count = usize::from(long & 0x7f);
            if !(1..=4).contains(&count) {
                return Err("a length in an LDAP message cannot be read");
            }
            let Some(digits) = bytes.get(1..=count) else { return Ok(None) };
            Ok(Some((digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), 1 + count)))
        }
    }
}

/// Reads the answer to a bind or to an extended request.
pub fn outcome(message: &[u8]) -> Option<Outcome> {
    let (SEQUENCE, contents, _) = take(message)? else { return None };
    let (INTEGER, id, rest) = take(contents)? else { return None };
    let (BIND_RESPONSE | EXTENDED_RESPONSE, result, _) = take(rest)? else { return None };
    let (ENUMERATED, code, rest) = take(result)? else { return None };
    let (_, _, rest) = take(rest)?;
    let (_, text, _) = take(rest)?;
    Some(Outcome { id: number(id)?, code: number(code)?, text: String::from_utf8_lossy(text).into_owned() })
}

fn number(bytes: &[u8]) -> Option<u32> {
    if bytes.is_empty() || bytes.len() > 5 {
        return None;
    }
    u32::try_from(bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))).ok()
}

/// Tag and contents of the first element, and what follows it.
fn take(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (length, used) = header_length(rest).ok()??;
    let contents = rest.get(used..)?;
    Some((*tag, contents.get(..length)?, contents.get(length..)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_are_as_the_standard_has_them() {
        let wanted = [&[0x30, 0x10, 2, 1, 1, 0x60, 0x0b, 2, 1, 3, 4, 4][..], b"cn=a", &[0x80, 0]].concat();
        assert_eq!(bind(1, b"cn=a", b""), wanted);
        assert_eq!(unbind(3), [0x30, 5, 2, 1, 3, 0x42, 0]);
        assert_eq!(start_tls(2)[..10], [0x30, 0x1d, 2, 1, 2, 0x77, 0x18, 0x80, 0x16, b'1']);
    }

    #[test]
    fn long_contents_have_long_lengths() {
        assert_eq!(element(4, &[7; 300])[..4], [4, 0x82, 1, 44]);
        assert_eq!((integer(0), integer(127), integer(128), integer(70_000)), (vec![0], vec![127], vec![0, 128], vec![1, 0x11, 0x70]));
    }

    #[test]
    fn answers_are_read() {
        let answer = [&[0x30, 0x0f, 2, 1, 1, 0x61, 0x0a, 0x0a, 1, 49, 4, 0, 4, 3][..], b"bad"].concat();
        assert_eq!(length(&answer).unwrap(), Some(answer.len()));
        assert_eq!(length(&answer[..1]).unwrap(), None);
        assert_eq!(outcome(&answer).unwrap(), Outcome { id: 1, code: 49, text: "bad".to_owned() });
        assert!(length(b"HTTP/1.1").is_err());
        assert!(length(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    proptest! {
        #[test]
        fn whatever_a_server_sends_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (length(&bytes), outcome(&bytes));
        }
    }
}
