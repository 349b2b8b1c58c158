//! Clients: who they are, and whether they know their secret.

use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::pbkdf2;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use portcullis_plugin::{Credential, Request};
use serde_json::Value;

use super::parameters::Parameters;
use super::{CLIENTS, entities};
use crate::secret;

/// Hashes that would take longer than this to check are not checked.
const MAX_ITERATIONS: u32 = 1_000_000;

/// How a client named itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub id: Option<String>,
    pub secret: Option<String>,
    /// In the `Authorization` header rather than in parameters.
    pub by_header: bool,
}

impl Claim {
    /// Parameters if they hold both id and secret, else the header, else an id alone.
    pub fn of(request: &Request, parameters: &Parameters, header: &str) -> Self {
        let (id, secret) = (parameters.text("client_id"), parameters.text("client_secret"));
        if id.is_some() && secret.is_some() {
            return Self { id: id.map(str::to_owned), secret: secret.map(str::to_owned), by_header: false };
        }
        match request.head.headers.get(header) {
            Some(value) => {
                let (id, secret) = basic(value).unzip();
                Self { id, secret, by_header: true }
            }
            None => Self { id: id.map(str::to_owned), secret: None, by_header: false },
        }
    }
}

/// Id and secret of a `Basic` header.
fn basic(header: &[u8]) -> Option<(String, String)> {
    let at = header.windows(5).position(|word| matches!(word, b"Basic" | b"basic"))?;
    let decoded = String::from_utf8(secret::base64(header[at + 5..].trim_ascii())?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

/// A row of a client, as far as the grants ask for it.
#[derive(Clone)]
pub struct Client {
    pub row: Arc<Credential>,
}

impl Client {
    pub fn find(request: &Request, id: &str) -> Option<Self> {
        request.directory.credential(CLIENTS, id).map(|row| Self { row })
    }

    fn field(&self, name: &str) -> Option<&Value> {
        self.row.fields.as_ref()?.get(name)
    }

    pub fn is_public(&self) -> bool {
        self.field("client_type").and_then(Value::as_str) == Some("public")
    }

    /// Where its users may be sent back to; none if it has no such list.
    pub fn redirect_uris(&self) -> Option<Vec<&str>> {
        Some(self.field("redirect_uris")?.as_array()?.iter().filter_map(Value::as_str).collect())
    }

    pub fn secret(&self) -> Option<Secret> {
        let kept = self.field("client_secret")?.as_str()?;
        let hashed = self.field("hash_secret") == Some(&Value::Bool(true));
        Some(if hashed { Secret::Hashed(kept.to_owned()) } else { Secret::Plain(kept.to_owned()) })
    }
}

pub enum Secret {
    Plain(String),
    /// In the PHC string format. Checking one takes milliseconds: not for a worker thread.
    Hashed(String),
}

impl Secret {
    pub fn is(&self, given: &str) -> bool {
        match self {
            Self::Plain(kept) => secret::same(kept.as_bytes(), given.as_bytes()),
            Self::Hashed(hash) => verify(hash, given).unwrap_or(false),
        }
    }

    /// Whether it was hashed with parameters other than today's.
    pub fn is_outdated(&self) -> bool {
        matches!(self, Self::Hashed(hash) if !hash.starts_with(entities::HASHED))
    }
}

fn verify(hash: &str, given: &str) -> Option<bool> {
    let mut parts = hash.strip_prefix("$pbkdf2-sha512$")?.split('$');
    let (parameters, salt, derived) = (parts.next()?, parts.next()?, parts.next()?);
    let iterations = parameters.split(',').find_map(|parameter| parameter.strip_prefix("i="))?.parse().ok()?;
    let iterations = NonZeroU32::new(iterations).filter(|count| count.get() <= MAX_ITERATIONS)?;
    let (salt, derived) = (STANDARD_NO_PAD.decode(salt).ok()?, STANDARD_NO_PAD.decode(derived).ok()?);
    if derived.is_empty() {
        return None;
    }
    Some(pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, iterations, &salt, given.as_bytes(), &derived).is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use portcullis_plugin::testing::TestRequest;

    fn claim(target: &str, header: Option<&str>) -> Claim {
        let request = TestRequest::new("POST", target);
        let request = header.into_iter().fold(request, |request, value| request.header("Authorization", value)).build();
        Claim::of(&request, &Parameters::of(&request), "authorization")
    }

    fn named(id: &str, secret: Option<&str>, by_header: bool) -> Claim {
        Claim { id: Some(id.to_owned()), secret: secret.map(str::to_owned), by_header }
    }

    #[test]
    fn complete_parameters_go_before_the_header_and_the_header_before_an_id_alone() {
        let header = Some("Basic YTpiOmM=");
        assert_eq!(claim("/?client_id=x&client_secret=y", header), named("x", Some("y"), false));
        assert_eq!(claim("/?client_id=x", header), named("a", Some("b:c"), true));
        assert_eq!(claim("/?client_id=x", None), named("x", None, false));
        assert_eq!(claim("/", Some("Bearer t")), Claim { by_header: true, ..Claim::default() });
    }

    #[test]
    fn hashes_of_other_parameters_are_checked_and_called_outdated() {
        let (salt, mut derived) = ([7; 16], [0; 24]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, NonZeroU32::new(50).unwrap(), &salt, b"s3cret", &mut derived);
        let hash = format!("$pbkdf2-sha512$i=50,l=24${}${}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(derived));
        let secret = Secret::Hashed(hash);
        assert_eq!((secret.is("s3cret"), secret.is("other"), secret.is_outdated()), (true, false, true));
        let made = Secret::Hashed(entities::hash("s3cret").unwrap());
        assert_eq!((made.is("s3cret"), made.is_outdated()), (true, false));
        assert!(!Secret::Hashed("$pbkdf2-sha512$nonsense".to_owned()).is("s3cret"));
    }
}
