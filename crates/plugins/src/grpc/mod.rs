//! What the two gRPC plugins share: services as `.proto` files describe them, and messages in their frames.
//!
//! - [`services`]: methods with their HTTP bindings
//! - this file: frames and statuses

pub mod services;

use portcullis_plugin::Headers;
use prost_reflect::MessageDescriptor;

use services::Services;

/// The largest body of a call, in bytes.
pub const LARGEST_BODY: u64 = 16 << 20;

/// The services of an instance: of the file its configuration names, if any.
pub struct Described(Option<Result<Services, String>>);

impl Described {
    pub fn of(file: Option<&str>) -> Self {
        Self(file.map(Services::load))
    }

    /// Errors with what the client is told where there is no usable file.
    pub fn services(&self) -> Result<&Services, String> {
        match &self.0 {
            None => Err("transcoding requests require a .proto file defining the service".to_owned()),
            Some(loaded) => loaded.as_ref().map_err(Clone::clone),
        }
    }
}

/// The messages of a body as JSON, one behind the other. Errors as [`messages`], and where one is not of this kind.
pub fn json(of: &MessageDescriptor, body: &[u8]) -> Result<String, String> {
    let mut out = String::new();
    for message in messages(body)? {
        out.push_str(&services::decode(of.clone(), message)?.to_string());
    }
    Ok(out)
}

/// A message in its frame: a flag, the length, the bytes.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(message.len() + 5);
    frame.push(0);
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

/// The messages of a body. Errors when a frame is cut short or compressed.
pub fn messages(mut body: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut messages = Vec::new();
    while !body.is_empty() {
        let [flag, a, b, c, d, rest @ ..] = body else { return Err("a frame is cut short".to_owned()) };
        if *flag != 0 {
            return Err("compressed messages are not understood".to_owned());
        }
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if rest.len() < length {
            return Err("a frame is cut short".to_owned());
        }
        let (message, after) = rest.split_at(length);
        messages.push(message);
        body = after;
    }
    Ok(messages)
}

/// The call's status, from headers that the trailers have joined; 0 where none is told.
pub fn status(headers: &Headers) -> u32 {
    headers.get("grpc-status").and_then(|text| std::str::from_utf8(text).ok()?.trim().parse().ok()).unwrap_or(0)
}

/// The call's message, as it is encoded.
pub fn message(headers: &Headers) -> String {
    headers.get("grpc-message").map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
}

/// The HTTP status for a gRPC status (behaviour checklist 9.4).
pub fn http_status(status: u32) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}
