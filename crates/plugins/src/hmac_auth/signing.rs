//! What is signed, how, and how the header tells.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use portcullis_plugin::{Request, Version};
use regex::bytes::Regex;
use serde::Deserialize;

/// How a request is signed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Algorithm {
    #[serde(rename = "hmac-sha1")]
    Sha1,
    #[serde(rename = "hmac-sha256")]
    Sha256,
    #[serde(rename = "hmac-sha384")]
    Sha384,
    #[serde(rename = "hmac-sha512")]
    Sha512,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "hmac-sha1",
            Self::Sha256 => "hmac-sha256",
            Self::Sha384 => "hmac-sha384",
            Self::Sha512 => "hmac-sha512",
        }
    }

    pub fn verifies(self, secret: &[u8], text: &[u8], signature: &[u8]) -> bool {
        let algorithm = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::verify(&hmac::Key::new(algorithm, secret), text, signature).is_ok()
    }
}

/// What an `Authorization` header of the scheme says.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameters {
    pub username: String,
    pub algorithm: String,
    /// The names of what was signed, in order.
    pub headers: Vec<String>,
    pub signature: String,
}

/// The parameters have a fixed order, and there may be no blanks between them.
static HEADER: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"[Hh]mac\s*username="(.+)",\s*algorithm="(.+)",\s*headers="(.+)",\s*signature="(.+)""#).ok());

impl Parameters {
    pub fn parse(header: &[u8]) -> Option<Self> {
        let found = HEADER.as_ref()?.captures(header)?;
        let text = |at: usize| String::from_utf8(found.get(at)?.as_bytes().to_vec()).ok();
        // Two blanks in a row enclose a name without letters, which signs a line of its own.
        let headers = text(3)?.split(' ').map(str::to_owned).collect();
        Some(Self { username: text(1)?, algorithm: text(2)?, headers, signature: text(4)? })
    }
}

/// The text that was signed: a line for each name. The names are spelled as the client spelled them.
pub fn text(request: &Request, names: &[String]) -> Vec<u8> {
    let head = &request.head;
    let mut out = Vec::with_capacity(256);
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            out.push(b'\n');
        }
        match (head.headers.get(name), name.as_str()) {
            (Some(value), _) => [name.as_bytes(), b": ", value].iter().for_each(|part| out.extend_from_slice(part)),
            (None, "@request-target") => {
                let method = head.method_text().to_ascii_lowercase();
                [b"@request-target: ", method.as_slice(), b" ", head.target()].iter().for_each(|part| out.extend_from_slice(part));
            }
            (None, "request-line") => {
                let version: &[u8] = match head.version {
                    Version::Http10 => b"1.0",
                    Version::Http11 => b"1.1",
                    Version::Http2 => b"2.0",
                    Version::Http3 => b"3.0",
                };
                [head.method_text(), b" ", head.target(), b" HTTP/", version].iter().for_each(|part| out.extend_from_slice(part));
            }
            (None, _) => [name.as_bytes(), b":"].iter().for_each(|part| out.extend_from_slice(part)),
        }
    }
    out
}
