//! hmac-auth: who a request is from, by a signature over some of its headers.
//!
//! The date is looked at before anything else, so that an old request is refused whatever its signature. Then the parameters of
//! `Proxy-Authorization`, or else of `Authorization`, name the user, the algorithm and what was signed.

mod config;
mod signing;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use portcullis_plugin::extra_metrics::Refused;
use portcullis_plugin::{Answer, Credential, Env, Handler, Index, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::{Fields, Schema};

use portcullis_wire::Framing;

use crate::{auth, body, secret};
use config::Config;
use signing::{Algorithm, Parameters};

const ENTITY: &str = "hmacauth_credentials";

/// A consumer's user name and secret.
#[derive(Fields)]
#[expect(dead_code, reason = "describes the rows; requests see them as `Credential`")]
struct HmacAuthCredential {
    /// The credential's id.
    #[field(id())]
    id: uuid::Uuid,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    created_at: i64,
    /// Whose it is.
    #[field(foreign_cascade("consumers").required())]
    consumer: uuid::Uuid,
    /// The user name.
    #[field(string().required().unique())]
    username: String,
    /// What requests are signed with; made up when none is given.
    #[field(string().auto())]
    secret: String,
    /// Labels to filter by.
    #[field(tags())]
    tags: Vec<String>,
}

/// How much of a body is looked at, in bytes; the digest of a larger one does not fit.
const MAX_BODY: u64 = 16 << 20;

const NO_DATE: &str = "HMAC signature cannot be verified, a valid date or x-date header is required for HMAC Authentication";
const UNVERIFIABLE: &str = "HMAC signature cannot be verified";
const MISMATCH: &str = "HMAC signature does not match";

/// See the module's description.
pub struct HmacAuth {
    hide_credentials: bool,
    /// Seconds.
    clock_skew: f64,
    anonymous: Option<String>,
    validate_request_body: bool,
    body_buffer_bytes: u64,
    enforce_headers: Vec<String>,
    algorithms: Vec<Algorithm>,
    challenge: String,
}

impl Plugin for HmacAuth {
    const NAME: &'static str = "hmac-auth";
    const PRIORITY: i32 = 1030;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    const INDEXES: &'static [Index] = &[Index { entity: ENTITY, key: "username", by_key: true, by_consumer: false, keep_fields: true }];
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        Ok(Self {
            hide_credentials: config.hide_credentials,
            clock_skew: config.clock_skew.unwrap_or(300.0),
            challenge: auth::challenge("hmac", config.realm.as_deref()),
            anonymous: config.anonymous,
            validate_request_body: config.validate_request_body,
            body_buffer_bytes: env.node.body_buffer_bytes(),
            enforce_headers: config.enforce_headers.unwrap_or_default(),
            algorithms: config.algorithms.unwrap_or_default(),
        })
    }

    fn entities() -> Vec<Schema> {
        vec![Schema {
            admin_name: Some("hmac-auths"),
            nested_name: Some("hmac-auth"),
            endpoint_key: Some("username"),
            cache_key: &["username"],
            ..Schema::new(ENTITY, HmacAuthCredential::fields())
        }]
    }
}

impl Handler for HmacAuth {
    fn body_limit(&self, request: &Request) -> Option<u64> {
        if self.validate_request_body { body::in_memory(request, self.body_buffer_bytes, MAX_BODY) } else { None }
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let anonymous = self.anonymous.as_deref();
        if auth::is_settled(request, anonymous) {
            return Step::Next;
        }
        match self.authenticated(request) {
            Ok(credential) => {
                let consumer = credential.consumer.and_then(|id| request.directory.consumer(id));
                let username = credential.key.clone();
                auth::identify(request, consumer, credential, username.as_bytes());
                Step::Next
            }
            Err(refusal) => {
                let reason = match refusal {
                    "Unauthorized" => Refused::Missing,
                    NO_DATE => Refused::Expired,
                    _ => Refused::Invalid,
                };
                auth::refuse(request, anonymous, reason.by(Self::NAME), || {
                    Answer::error(401, refusal).header("WWW-Authenticate", self.challenge.as_str())
                })
            }
        }
    }
}

impl HmacAuth {
    fn authenticated(&self, request: &mut Request) -> std::result::Result<Arc<Credential>, &'static str> {
        let headers = &request.head.headers;
        if !headers.contains("Proxy-Authorization") && !headers.contains("Authorization") {
            return Err("Unauthorized");
        }
        if !["X-Date", "Date"].into_iter().any(|name| self.is_recent(request, name)) {
            return Err(NO_DATE);
        }
        let given = self.take(request, "Proxy-Authorization").or_else(|| {
            let given = self.take(request, "Authorization");
            // Kong hides it whatever it holds; an anonymous request goes on without.
            if self.hide_credentials {
                request.head.headers.remove("Authorization");
            }
            given
        });
        let given = given.filter(|given| self.enforce_headers.iter().all(|name| given.headers.iter().any(|signed| signed == name)));
        let given = given.ok_or(UNVERIFIABLE)?;
        let algorithm = self.algorithms.iter().find(|algorithm| algorithm.name() == given.algorithm).ok_or(UNVERIFIABLE)?;
        let credential = request.directory.credential(ENTITY, &given.username).ok_or(UNVERIFIABLE)?;
        let secret = credential.fields.as_ref().and_then(|fields| fields.get("secret")).and_then(serde_json::Value::as_str);
        let secret = secret.ok_or(UNVERIFIABLE)?;
        let signature = secret::base64(given.signature.as_bytes()).ok_or(MISMATCH)?;
        let text = signing::text(request, &given.headers);
        if !algorithm.verifies(secret.as_bytes(), &text, &signature) || (self.validate_request_body && !has_true_digest(request)) {
            return Err(MISMATCH);
        }
        Ok(credential)
    }

    /// Whether a header holds a date that is neither long ago nor far ahead.
    fn is_recent(&self, request: &Request, name: &str) -> bool {
        let date = request.head.headers.get(name).and_then(|value| std::str::from_utf8(value).ok());
        let Some(date) = date.and_then(instant) else { return false };
        let seconds = date.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        ((request.started_at_ms / 1000) as f64 - seconds).abs() <= self.clock_skew
    }

    /// What a header says, if it is of this scheme; taken out of the request where it is to be hidden.
    fn take(&self, request: &mut Request, name: &str) -> Option<Parameters> {
        let parameters = Parameters::parse(request.head.headers.get(name)?)?;
        if self.hide_credentials {
            request.head.headers.remove(name);
        }
        Some(parameters)
    }
}

/// The instant a date header names. What stands behind the seconds of a date with a comma isn't read, as in nginx.
fn instant(date: &str) -> Option<SystemTime> {
    if !date.contains(',') {
        return httpdate::parse_http_date(date).ok();
    }
    let read = date.get(..date.find(':')? + ":00:00".len())?;
    httpdate::parse_http_date(&format!("{read} GMT")).ok()
}

/// Whether `Digest` is that of the body. A request without a body needs none.
fn has_true_digest(request: &Request) -> bool {
    let empty = Vec::new();
    let body = match &request.body {
        Some(body) => body,
        None if request.head.framing == Framing::None => &empty,
        None => return false,
    };
    let Some(given) = request.head.headers.get("Digest") else { return body.is_empty() };
    let digest = format!("SHA-256={}", STANDARD.encode(digest::digest(&digest::SHA256, body)));
    secret::same(digest.as_bytes(), given)
}

#[cfg(test)]
mod tests;
