//! HTTP/2 frame by frame, by the sections of RFC 9113: what a client may not do, and what is answered. A gateway that has been
//! treated like this serves the next connection as if nothing had been.
//!
//! Where the standard names a code of its own for frames of a wrong length, the `h2` crate says PROTOCOL_ERROR in some places and
//! closes the connection all the same; both are taken.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http2::gateway;
use crate::support::{Gateway, run};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;
/// The connection was closed without a word.
const CLOSED: u32 = u32::MAX;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// `GET http://a/own` as a header block.
fn get() -> Vec<u8> {
    block(&[":method", "GET", ":scheme", "http", ":path", "/own", ":authority", "a"])
}

/// A header block of literals, never indexed.
fn block(fields: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for text in fields.chunks(2) {
        out.push(0);
        for part in text {
            out.push(part.len() as u8);
            out.extend_from_slice(part.as_bytes());
        }
    }
    out
}

fn request(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, block)
}

/// What the gateway does about something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    /// GOAWAY, or the connection closed: any code of these.
    Ends(&'static [u32]),
    /// The stream alone is reset (or the whole connection ended, which is stricter): any code of these.
    Resets(&'static [u32]),
    /// An answer of this status on the stream.
    Answers(u32),
    /// The PING that follows is answered: nothing happened.
    Nothing,
}
use Reaction::{Answers, Ends, Nothing, Resets};

struct Raw {
    stream: TcpStream,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Raw {
    async fn connect(gate: &Gateway) -> Self {
        let mut stream = TcpStream::connect(gate.address).await.unwrap();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        Self { stream, bytes: Vec::new() }
    }

    /// The next frame; none once the connection has ended.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((head, rest)) = self.bytes.split_first_chunk::<9>() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if rest.len() >= length {
                    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                    let frame = Frame { kind: head[3], flags: head[4], stream, payload: rest[..length].to_vec() };
                    self.bytes.drain(..9 + length);
                    return Some(frame);
                }
            }
            if self.stream.read_buf(&mut self.bytes).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Sends the frames and a PING, and tells what came of it: the answer to the PING only if nothing else does.
    async fn reaction(&mut self, frames: &[u8], patience: Duration) -> (u8, u32) {
        // A gateway that has had enough may close before all of it is written.
        let _ = self.stream.write_all(&[frames, &frame(PING, 0, 0, b"the end.")].concat()).await;
        let code = |bytes: &[u8]| u32::from_be_bytes(*bytes.first_chunk::<4>().unwrap());
        let mut answered = false;
        loop {
            let next = if answered { tokio::time::timeout(patience, self.next()).await } else { Ok(self.next().await) };
            let Ok(next) = next else { return (PING, 0) };
            let Some(next) = next else { return (GOAWAY, CLOSED) };
            match next.kind {
                GOAWAY => return (GOAWAY, code(&next.payload[4..])),
                RST_STREAM => return (RST_STREAM, code(&next.payload)),
                HEADERS => return (HEADERS, next.stream),
                PING if next.flags & ACK != 0 && next.payload == b"the end." => answered = true,
                _ => {}
            }
        }
    }
}

async fn check(gate: &Gateway, section: &str, frames: Vec<u8>, expected: Reaction) {
    let patience = if expected == Nothing { Duration::from_millis(50) } else { Duration::from_secs(2) };
    let got = Raw::connect(gate).await.reaction(&frames, patience).await;
    let fits = match expected {
        Ends(codes) => got.0 == GOAWAY && (got.1 == CLOSED || codes.contains(&got.1)),
        Resets(codes) => matches!(got.0, GOAWAY | RST_STREAM) && (got.1 == CLOSED || codes.contains(&got.1)),
        Answers(stream) => got == (HEADERS, stream),
        Nothing => got.0 == PING,
    };
    assert!(fits, "{section}: expected {expected:?}, got frame {} with {}", got.0, got.1);
}

#[test]
fn what_a_client_may_not_do_is_answered_as_the_standard_says() {
    run(|| async {
        let gate = gateway().await;
        let open = |more: &[u8]| [frame(HEADERS, END_HEADERS, 1, &get()), more.to_vec()].concat();
        let with = |fields: &[&str]| request(1, &[get(), block(fields)].concat());
        let pseudo = |fields: &[&str]| request(1, &block(fields));
        let settings = |id: u16, value: u32| frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        let cases: Vec<(&str, Vec<u8>, Reaction)> = vec![
            ("3.4 a request is answered", request(1, &get()), Answers(1)),
            ("4.1 frames of unknown kinds are ignored", frame(0x77, 0, 0, b"?"), Nothing),
            ("4.1 unknown flags are ignored", frame(PING, 0xfe, 0, b"00000000"), Nothing),
            ("4.1 the reserved bit is ignored", frame(PING, 0, 1 << 31, b"00000000"), Nothing),
            ("4.2 a frame may not be larger than agreed", open(&frame(DATA, END_STREAM, 1, &[0; 16_385])), Resets(&[FRAME_SIZE_ERROR])),
            ("4.2 nor a header block", frame(HEADERS, 5, 1, &[0; 16_385]), Ends(&[FRAME_SIZE_ERROR])),
            (
                "4.3 a header block that does not decode",
                request(1, &[0xff, 0xff, 0xff, 0xff, 0xff]),
                Ends(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
            ),
            (
                "4.3 nothing stands between parts of a header block",
                [frame(HEADERS, END_STREAM, 1, &get()), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9])].concat(),
                Ends(&[PROTOCOL_ERROR]),
            ),
            (
                "4.3 nor a block of another stream",
                [frame(HEADERS, END_STREAM, 1, &get()), request(3, &get())].concat(),
                Ends(&[PROTOCOL_ERROR]),
            ),
            ("5.1 idle: DATA", frame(DATA, END_STREAM, 1, b"x"), Ends(&[PROTOCOL_ERROR])),
            ("5.1 idle: RST_STREAM", frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), Ends(&[PROTOCOL_ERROR])),
            ("5.1 idle: WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 8]), Ends(&[PROTOCOL_ERROR])),
            ("5.1 idle: CONTINUATION", frame(CONTINUATION, END_HEADERS, 1, &get()), Ends(&[PROTOCOL_ERROR])),
            (
                "5.1 half closed: DATA",
                [
                    frame(HEADERS, 5, 1, &block(&[":method", "GET", ":scheme", "http", ":path", "/hang", ":authority", "a"])),
                    frame(DATA, 1, 1, b"x"),
                ]
                .concat(),
                Resets(&[STREAM_CLOSED, PROTOCOL_ERROR]),
            ),
            ("5.1.1 an even number", request(2, &get()), Ends(&[PROTOCOL_ERROR])),
            ("5.1.1 a number below one that was used", [request(5, &get()), request(3, &get())].concat(), Ends(&[PROTOCOL_ERROR])),
            ("5.3.1 a stream that depends on itself", frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 9]), Resets(&[PROTOCOL_ERROR])),
            ("6.1 DATA without a stream", frame(DATA, 0, 0, b"x"), Ends(&[PROTOCOL_ERROR])),
            ("6.1 padding longer than the frame", open(&frame(DATA, PADDED | 1, 1, &[9, 0])), Ends(&[PROTOCOL_ERROR])),
            ("6.2 HEADERS without a stream", frame(HEADERS, 5, 0, &get()), Ends(&[PROTOCOL_ERROR])),
            ("6.2 padding longer than the frame", frame(HEADERS, PADDED | 5, 1, &[200, 0x82]), Ends(&[PROTOCOL_ERROR])),
            ("6.3 PRIORITY without a stream", frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 9]), Ends(&[PROTOCOL_ERROR])),
            ("6.3 PRIORITY of another length", frame(PRIORITY, 0, 1, &[0; 4]), Resets(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR])),
            ("6.4 RST_STREAM without a stream", frame(RST_STREAM, 0, 0, &[0; 4]), Ends(&[PROTOCOL_ERROR])),
            ("6.4 RST_STREAM of another length", open(&frame(RST_STREAM, 0, 1, &[0; 3])), Ends(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR])),
            ("6.5 an acknowledgement with a payload", frame(SETTINGS, ACK, 0, &[0; 6]), Ends(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR])),
            ("6.5 SETTINGS of a stream", frame(SETTINGS, 0, 1, &[]), Ends(&[PROTOCOL_ERROR])),
            ("6.5 SETTINGS of another length", frame(SETTINGS, 0, 0, &[0; 3]), Ends(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR])),
            ("6.5.2 ENABLE_PUSH of 2", settings(2, 2), Ends(&[PROTOCOL_ERROR])),
            ("6.5.2 INITIAL_WINDOW_SIZE too large", settings(4, 1 << 31), Ends(&[FLOW_CONTROL_ERROR, PROTOCOL_ERROR])),
            ("6.5.2 MAX_FRAME_SIZE too small", settings(5, 16_383), Ends(&[PROTOCOL_ERROR])),
            ("6.5.2 MAX_FRAME_SIZE too large", settings(5, 1 << 24), Ends(&[PROTOCOL_ERROR])),
            ("6.5.2 unknown settings are ignored", settings(0x77, 1), Nothing),
            ("6.6 a client cannot promise", open(&frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])), Ends(&[PROTOCOL_ERROR])),
            ("6.7 PING of a stream", frame(PING, 0, 1, &[0; 8]), Ends(&[PROTOCOL_ERROR])),
            ("6.7 PING of another length", frame(PING, 0, 0, &[0; 6]), Ends(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR])),
            ("6.7 an answer nobody asked for", frame(PING, ACK, 0, &[0; 8]), Nothing),
            ("6.8 GOAWAY of a stream", frame(GOAWAY, 0, 1, &[0; 8]), Ends(&[PROTOCOL_ERROR])),
            ("6.9 WINDOW_UPDATE of nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), Ends(&[PROTOCOL_ERROR])),
            ("6.9 the same for a stream", open(&frame(WINDOW_UPDATE, 0, 1, &[0; 4])), Resets(&[PROTOCOL_ERROR])),
            ("6.9 WINDOW_UPDATE of another length", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), Ends(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR])),
            ("6.9.1 a window beyond its limit", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), Ends(&[FLOW_CONTROL_ERROR])),
            ("6.10 CONTINUATION without a stream", frame(CONTINUATION, 4, 0, &get()), Ends(&[PROTOCOL_ERROR])),
            (
                "6.10 CONTINUATION behind a complete block",
                [request(1, &get()), frame(CONTINUATION, 4, 1, &block(&["x", "y"]))].concat(),
                Ends(&[PROTOCOL_ERROR, STREAM_CLOSED]),
            ),
            (
                "8.1 trailers that do not end the stream",
                open(&frame(HEADERS, END_HEADERS, 1, &block(&["x", "y"]))),
                Resets(&[PROTOCOL_ERROR]),
            ),
            ("8.2 a name in capitals", with(&["X-Up", "y"]), Resets(&[PROTOCOL_ERROR])),
            ("8.2.2 a header of the connection", with(&["connection", "close"]), Resets(&[PROTOCOL_ERROR])),
            ("8.2.2 TE that is not trailers", with(&["te", "gzip"]), Resets(&[PROTOCOL_ERROR])),
            ("8.3 a pseudo header nobody knows", with(&[":test", "y"]), Resets(&[PROTOCOL_ERROR])),
            ("8.3 one of a response", with(&[":status", "200"]), Resets(&[PROTOCOL_ERROR])),
            ("8.3 one behind others", request(1, &[block(&["x", "y"]), get()].concat()), Resets(&[PROTOCOL_ERROR])),
            ("8.3 one twice", with(&[":path", "/"]), Resets(&[PROTOCOL_ERROR])),
            ("8.3.1 no :method", pseudo(&[":scheme", "http", ":path", "/own", ":authority", "a"]), Resets(&[PROTOCOL_ERROR])),
            ("8.3.1 no :scheme", pseudo(&[":method", "GET", ":path", "/own", ":authority", "a"]), Resets(&[PROTOCOL_ERROR])),
            ("8.3.1 no :path", pseudo(&[":method", "GET", ":scheme", "http", ":authority", "a"]), Resets(&[PROTOCOL_ERROR])),
            (
                "8.3.1 an empty :path",
                pseudo(&[":method", "GET", ":scheme", "http", ":path", "", ":authority", "a"]),
                Resets(&[PROTOCOL_ERROR]),
            ),
            (
                "8.1.1 a body longer than announced",
                [
                    frame(
                        HEADERS,
                        END_HEADERS,
                        1,
                        &[
                            block(&[":method", "POST", ":scheme", "http", ":path", "/read", ":authority", "a"]),
                            block(&["content-length", "1"]),
                        ]
                        .concat(),
                    ),
                    frame(DATA, END_STREAM, 1, b"xx"),
                ]
                .concat(),
                Resets(&[PROTOCOL_ERROR]),
            ),
        ];
        for (section, frames, expected) in cases {
            check(&gate, section, frames, expected).await;
        }
        check(&gate, "afterwards", request(1, &get()), Answers(1)).await;
    });
}

#[test]
fn a_preface_that_is_none_is_http_1_or_nothing() {
    run(|| async {
        let gate = gateway().await;
        let mut stream = TcpStream::connect(gate.address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{}", answer.escape_ascii());
    });
}

/// What floods come to: the connection is closed before long, and others do not notice.
async fn flood(gate: &Gateway, what: &str, mut next: impl FnMut(u32) -> Vec<u8>) {
    let mut raw = Raw::connect(gate).await;
    let (mut reading, mut writing) = raw.stream.split();
    let sending = async {
        for number in 0..200_000 {
            if writing.write_all(&next(number)).await.is_err() {
                return;
            }
        }
        panic!("{what}: all of it was taken");
    };
    let hearing = async {
        let mut bytes = Vec::new();
        while reading.read_buf(&mut bytes).await.unwrap_or(0) > 0 {
            let calm = frame(GOAWAY, 0, 0, &[]);
            if bytes.windows(9).any(|head| head[3] == calm[3] && head[0] == 0 && head[5..9] == calm[5..9]) {
                return;
            }
            if bytes.len() > 1 << 20 {
                bytes.clear();
            }
        }
    };
    tokio::select! {
        () = sending => {}
        () = hearing => {}
    }
    check(gate, what, request(1, &get()), Answers(1)).await;
}

#[test]
fn floods_close_their_own_connection_only() {
    run(|| async {
        let gate = gateway().await;
        let silent = block(&[":method", "GET", ":scheme", "http", ":path", "/hang", ":authority", "a"]);
        flood(&gate, "rapid reset", |number| {
            let stream = number * 2 + 1;
            [request(stream, &silent), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
        })
        .await;
        flood(&gate, "CONTINUATION", |number| match number {
            0 => frame(HEADERS, END_STREAM, 1, &get()),
            _ => frame(CONTINUATION, 0, 1, &block(&["x-some-name", "y"])),
        })
        .await;
    });
}

#[test]
fn settings_and_pings_without_reading_their_answers_cost_no_memory() {
    run(|| async {
        let gate = gateway().await;
        let mut raw = Raw::connect(&gate).await;
        let piece = [frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]), frame(PING, 0, 0, &[0; 8])].concat().repeat(100);
        // Answers nobody reads stop the gateway from reading further: the writes stop being taken, or the connection ends.
        let sending = async { while raw.stream.write_all(&piece).await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), sending).await;
        check(&gate, "afterwards", request(1, &get()), Answers(1)).await;
    });
}
