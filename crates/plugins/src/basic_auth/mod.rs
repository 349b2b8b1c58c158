//! basic-auth: who a request is from, by a user name and a password.
//!
//! `Proxy-Authorization` is read first, and `Authorization` where that names no known user. Passwords are kept as a hash with
//! the consumer's id as salt, which is what existing tables hold.

mod config;

use std::sync::Arc;

use aws_lc_rs::digest;
use portcullis_plugin::extra_metrics::Refused;
use portcullis_plugin::{Answer, Credential, Env, Handler, Index, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::{Fields, Record, Schema, Transform, Violations};
use serde_json::Value;

use crate::{auth, secret};
use config::Config;

const ENTITY: &str = "basicauth_credentials";

/// A consumer's user name and password.
#[derive(Fields)]
#[expect(dead_code, reason = "describes the rows; requests see them as `Credential`")]
struct BasicAuthCredential {
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
    /// The password; kept and shown as a hash.
    #[field(string().required().encrypted())]
    password: String,
    /// Labels to filter by.
    #[field(tags())]
    tags: Vec<String>,
}

/// What is kept of a password: SHA-1 of it and of its consumer's id, in hexadecimal.
fn hash(password: &[u8], consumer: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(password);
    context.update(consumer.as_bytes());
    secret::hex(context.finish().as_ref())
}

fn keep_hash(record: &mut Record) -> std::result::Result<(), Violations> {
    let password = record.get("password").and_then(Value::as_str);
    let consumer = record.get("consumer").and_then(|consumer| consumer.get("id")).and_then(Value::as_str);
    if let (Some(password), Some(consumer)) = (password, consumer) {
        let hash = hash(password.as_bytes(), consumer);
        record.insert("password".to_owned(), hash.into());
    }
    Ok(())
}

/// See the module's description.
pub struct BasicAuth {
    anonymous: Option<String>,
    hide_credentials: bool,
    challenge: String,
}

impl Plugin for BasicAuth {
    const NAME: &'static str = "basic-auth";
    const PRIORITY: i32 = 1100;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    const INDEXES: &'static [Index] = &[Index { entity: ENTITY, key: "username", by_key: true, by_consumer: false, keep_fields: true }];
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        let challenge = auth::challenge("Basic", Some(&config.realm));
        Ok(Self { anonymous: config.anonymous, hide_credentials: config.hide_credentials, challenge })
    }

    fn entities() -> Vec<Schema> {
        vec![Schema {
            admin_name: Some("basic-auths"),
            nested_name: Some("basic-auth"),
            endpoint_key: Some("username"),
            cache_key: &["username"],
            transforms: vec![Transform { inputs: &["password"], needs: &["consumer.id"], apply: keep_hash }],
            ..Schema::new(ENTITY, BasicAuthCredential::fields())
        }]
    }
}

impl Handler for BasicAuth {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let anonymous = self.anonymous.as_deref();
        if auth::is_settled(request, anonymous) {
            return Step::Next;
        }
        let shown = ["Proxy-Authorization", "Authorization"].into_iter().any(|name| request.head.headers.contains(name));
        let reason = if shown { Refused::Invalid } else { Refused::Missing };
        if let Some(credential) = self.authenticated(request) {
            let consumer = credential.consumer.and_then(|id| request.directory.consumer(id));
            let username = credential.key.clone();
            auth::identify(request, consumer, credential, username.as_bytes());
            return Step::Next;
        }
        auth::refuse(request, anonymous, reason.by(Self::NAME), || {
            Answer::error(401, "Unauthorized").header("WWW-Authenticate", self.challenge.as_str())
        })
    }
}

impl BasicAuth {
    /// The credential of the first header that names a known user, if the password is that user's.
    fn authenticated(&self, request: &mut Request) -> Option<Arc<Credential>> {
        for header in ["Proxy-Authorization", "Authorization"] {
            let Some(given) = request.head.headers.get(header).map(login) else { continue };
            // What is no name and password once decoded goes on to the upstream, hidden or not, as in Kong.
            if self.hide_credentials && !matches!(given, Login::Shapeless) {
                request.head.headers.remove(header);
            }
            let Login::Given(username, password) = given else { continue };
            let Some(credential) = request.directory.credential(ENTITY, &username) else { continue };
            let kept = credential.fields.as_ref()?.get("password")?.as_str()?;
            let hash = hash(&password, &credential.consumer?.hyphenated().to_string());
            return secret::same(hash.as_bytes(), kept.as_bytes()).then_some(credential);
        }
        None
    }
}

/// What an `Authorization` header holds.
enum Login {
    /// Something of another scheme.
    Foreign,
    /// Something of this scheme without a name, or without a colon behind it.
    Shapeless,
    /// User name and password.
    Given(String, Vec<u8>),
}

/// User name and password of an `Authorization` header. The scheme may stand anywhere in it, as `Basic` or `basic`, with or
/// without a space behind it.
fn login(header: &[u8]) -> Login {
    let scheme = header.windows(5).position(|word| matches!(word, b"Basic" | b"basic"));
    let Some(decoded) = scheme.and_then(|at| secret::base64(header[at + 5..].trim_ascii_start())) else { return Login::Foreign };
    // A name has at least one character and no colon; a colon before it is skipped. A password ends with its line.
    let start = decoded.iter().position(|byte| *byte != b':').unwrap_or(decoded.len());
    let Some(length) = decoded[start..].iter().position(|byte| *byte == b':') else { return Login::Shapeless };
    let Ok(username) = std::str::from_utf8(&decoded[start..start + length]) else { return Login::Foreign };
    let password = decoded[start + length + 1..].split(|byte| *byte == b'\n').next().unwrap_or_default();
    Login::Given(username.to_owned(), password.to_vec())
}

#[cfg(test)]
mod tests;
