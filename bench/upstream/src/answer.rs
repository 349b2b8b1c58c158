//! The canned answers, made once.

use std::borrow::Cow;

/// Everything that can be answered without looking at the request's body.
pub struct Answers {
    small: Vec<u8>,
    kib: Vec<u8>,
    kib_100: Vec<u8>,
    chunked: Vec<u8>,
}

impl Answers {
    pub fn new() -> Answers {
        let mut chunked = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for size in 1..=10 {
            chunked.extend_from_slice(format!("{:x}\r\n{}\r\n", size * 37, "c".repeat(size * 37)).as_bytes());
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        Answers { small: sized(&[b's'; 128]), kib: sized(&[b'k'; 1024]), kib_100: sized(&[b'h'; 100 * 1024]), chunked }
    }

    /// The whole answer to a request: `target` is its path and query, `raw` its head and body as received.
    pub fn to(&self, method: &[u8], target: &[u8], raw: &[u8]) -> Cow<'_, [u8]> {
        let path = &target[..memchr::memchr(b'?', target).unwrap_or(target.len())];
        let last = &path[memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1)..];
        let whole = match last {
            b"1k" => &self.kib,
            b"100k" => &self.kib_100,
            b"chunked" => &self.chunked,
            b"echo" => return Cow::Owned(sized(raw)),
            _ => &self.small,
        };
        if method == b"HEAD" {
            let head = memchr::memmem::find(whole, b"\r\n\r\n").map_or(whole.len(), |end| end + 4);
            return Cow::Borrowed(&whole[..head]);
        }
        Cow::Borrowed(whole)
    }
}

fn sized(body: &[u8]) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nServer: canned\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}
