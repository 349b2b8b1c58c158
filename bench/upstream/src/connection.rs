//! One connection of a proxy: requests in, canned answers out, pipelining included.

use crate::answer::Answers;
use mio::net::TcpStream;
use std::io::{self, Read, Write};

pub struct Connection {
    stream: TcpStream,
    /// Bytes of a request that is not whole yet.
    input: Vec<u8>,
    /// Bytes of answers that the kernel didn't take yet.
    output: Vec<u8>,
    /// Where the current body ends, counted from the start of `input`, once that is known: spares parsing a head again for every
    /// piece of a body.
    ends: Option<usize>,
}

/// The connection is over: closed by the peer, broken, or not worth keeping.
pub struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Over {
        Over
    }
}

impl Connection {
    pub fn new(stream: TcpStream) -> Connection {
        Connection { stream, input: Vec::new(), output: Vec::new(), ends: None }
    }

    /// Does what can be done now. Polling is edge-triggered, so reading goes on until the socket is drained; a read that doesn't
    /// fill the buffer has drained it.
    pub fn advance(&mut self, readable: bool, buffer: &mut [u8], answers: &Answers) -> Result<(), Over> {
        self.flush()?;
        let mut open = readable;
        while open {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err(Over),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(Over),
            };
            open = count == buffer.len();
            self.take(&buffer[..count], answers)?;
        }
        Ok(())
    }

    fn take(&mut self, received: &[u8], answers: &Answers) -> Result<(), Over> {
        if self.input.is_empty() {
            let used = self.answer_all(received, answers)?;
            self.input.extend_from_slice(&received[used..]);
            return Ok(());
        }
        self.input.extend_from_slice(received);
        if self.ends.is_some_and(|ends| self.input.len() < ends) {
            return Ok(());
        }
        let input = std::mem::take(&mut self.input);
        let used = self.answer_all(&input, answers)?;
        self.input.extend_from_slice(&input[used..]);
        Ok(())
    }

    /// Answers every whole request in `bytes` and tells how many bytes they were.
    fn answer_all(&mut self, bytes: &[u8], answers: &Answers) -> Result<usize, Over> {
        let mut used = 0;
        self.ends = None;
        while used < bytes.len() {
            let rest = &bytes[used..];
            let mut lines = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Request::new(&mut lines);
            let httparse::Status::Complete(head_length) = head.parse(rest).map_err(|_| Over)? else { break };
            let Some(length) = request_length(&head, head_length, rest)? else { break };
            if rest.len() < length {
                self.ends = Some(length);
                break;
            }
            let (method, target) = (head.method.unwrap_or("GET"), head.path.unwrap_or("/"));
            self.send(&answers.to(method.as_bytes(), target.as_bytes(), &rest[..length]))?;
            used += length;
        }
        Ok(used)
    }

    fn send(&mut self, answer: &[u8]) -> Result<(), Over> {
        let mut sent = 0;
        if self.output.is_empty() {
            sent = match self.stream.write(answer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return Err(Over),
            };
        }
        self.output.extend_from_slice(&answer[sent..]);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Over> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Over),
            }
        }
        Ok(())
    }
}

/// Bytes of head and body together; `None` while a chunked body isn't whole.
fn request_length(head: &httparse::Request<'_, '_>, head_length: usize, bytes: &[u8]) -> Result<Option<usize>, Over> {
    for line in head.headers.iter() {
        if line.name.eq_ignore_ascii_case("content-length") {
            let length: usize = std::str::from_utf8(line.value).ok().and_then(|text| text.parse().ok()).ok_or(Over)?;
            return Ok(Some(head_length + length));
        }
        if line.name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(chunked_length(&bytes[head_length..])?.map(|length| head_length + length));
        }
    }
    Ok(Some(head_length))
}

/// Bytes of a chunked body including its last line, `None` while it isn't whole. Trailers are passed over.
fn chunked_length(body: &[u8]) -> Result<Option<usize>, Over> {
    let mut at = 0;
    loop {
        match httparse::parse_chunk_size(&body[at..]).map_err(|_| Over)? {
            httparse::Status::Partial => return Ok(None),
            httparse::Status::Complete((line, 0)) => {
                // The line's own CRLF serves as the beginning of the blank line when there are no trailers.
                let trailers = at + line - 2;
                return Ok(memchr::memmem::find(&body[trailers..], b"\r\n\r\n").map(|end| trailers + end + 4));
            }
            httparse::Status::Complete((line, size)) => at += line + usize::try_from(size).map_err(|_| Over)? + 2,
        }
        if at > body.len() {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(body: &[u8]) -> Option<usize> {
        chunked_length(body).unwrap_or_else(|_| panic!("refused"))
    }

    #[test]
    fn a_chunked_body_ends_after_its_blank_line() {
        assert_eq!(length(b"5\r\nhello\r\n0\r\n\r\nGET "), Some(15));
        assert_eq!(length(b"5\r\nhello\r\n0\r\nA: b\r\n\r\n"), Some(21));
    }

    #[test]
    fn a_chunked_body_that_is_not_whole_has_no_length() {
        for cut in 0..15 {
            assert_eq!(length(&b"5\r\nhello\r\n0\r\n\r\n"[..cut]), None, "{cut} bytes");
        }
    }
}
