//! oauth2: gives out OAuth 2.0 tokens and lets in requests that carry one.
//!
//! Whatever route the plugin stands on, paths that end in `/oauth2/authorize` and `/oauth2/token` are its own: there codes
//! and tokens are given out ([`grants`]). Everything else needs a token. Tokens and clients are looked up in the snapshot;
//! what is given out is written to the store and served from before the client hears of it.
//!
//! - [`parameters`]: what a request to the endpoints says
//! - [`client`]: who asks
//! - [`grants`]: what is given for it
//! - [`token`]: what requests carry
//! - [`entities`]: the tables

mod client;
mod config;
mod entities;
mod grants;
mod parameters;
mod token;

use std::sync::Arc;

use portcullis_plugin::extra_metrics::Refused;
use portcullis_plugin::{Answer, Env, Handler, Index, Instance, Method, Phases, Plugin, Request, Result, Rows, Scopes, Step};
use portcullis_schema::{Check, Record, Rule, Schema};
use portcullis_wire::Framing;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{auth, body};
use config::Config;
use token::Token;

const CLIENTS: &str = "oauth2_credentials";
const CODES: &str = "oauth2_authorization_codes";
const TOKENS: &str = "oauth2_tokens";

const GRANTS: [&str; 4] = ["enable_authorization_code", "enable_implicit_grant", "enable_client_credentials", "enable_password_grant"];

/// How much of a body is looked at, in bytes.
const MAX_BODY: u64 = 1 << 20;

const SCOPE_HEADER: &str = "X-Authenticated-Scope";
const USER_HEADER: &str = "X-Authenticated-UserId";

/// An instance that gives out no tokens lets nobody in.
fn check_grants(record: &Record) -> std::result::Result<(), Vec<(String, Value)>> {
    let Some(config) = record.get("config") else { return Ok(()) };
    if GRANTS.iter().any(|grant| config.get(grant) == Some(&Value::Bool(true))) {
        return Ok(());
    }
    let complaint = format!("at least one of these fields must be true: {}", GRANTS.join(", "));
    Err(vec![("config".to_owned(), complaint.into())])
}

/// See the module's description.
pub struct Oauth2 {
    config: Config,
    /// The header that carries tokens.
    header: String,
    /// `Bearer`, with the realm if there is one.
    challenge: String,
    instance: Uuid,
    rows: Rows,
    runtime: tokio::runtime::Handle,
}

impl Plugin for Oauth2 {
    const NAME: &'static str = "oauth2";
    const PRIORITY: i32 = 1400;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    const INDEXES: &'static [Index] = &[
        Index { entity: CLIENTS, key: "client_id", by_key: true, by_consumer: false, keep_fields: true },
        Index { entity: CLIENTS, key: "id", by_key: true, by_consumer: false, keep_fields: true },
        Index { entity: TOKENS, key: "access_token", by_key: true, by_consumer: false, keep_fields: true },
    ];
    type Config = Config;

    fn new(config: Config, instance: &Instance, env: &Env) -> Result<Self> {
        Ok(Self {
            header: config.auth_header_name.clone().unwrap_or_else(|| "authorization".to_owned()),
            challenge: auth::challenge("Bearer", config.realm.as_deref()),
            config,
            instance: instance.id,
            rows: env.rows.clone(),
            runtime: env.runtime.clone(),
        })
    }

    fn config_checks() -> Vec<Check> {
        vec![Check::Conditional {
            if_field: "mandatory_scope",
            if_match: vec![Rule::Eq(true.into())],
            then_field: "scopes",
            then_match: Vec::new(),
            then_required: true,
            then_error: None,
        }]
    }

    fn checks() -> Vec<Check> {
        vec![Check::Hidden { fields: vec!["config"], check: check_grants }]
    }

    fn entities() -> Vec<Schema> {
        entities::all()
    }
}

/// A path of the plugin's own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Authorize,
    Token,
}

fn endpoint(request: &Request) -> Option<Endpoint> {
    let path = request.head.path();
    let path = path.strip_suffix(b"/").unwrap_or(path);
    if path.ends_with(b"/oauth2/token") {
        Some(Endpoint::Token)
    } else if path.ends_with(b"/oauth2/authorize") {
        Some(Endpoint::Authorize)
    } else {
        None
    }
}

/// Why a request is not let in.
enum Denied {
    Missing,
    Invalid,
    Global,
}

impl Handler for Oauth2 {
    fn body_limit(&self, request: &Request) -> Option<u64> {
        if request.head.framing == Framing::None {
            return None;
        }
        let wanted = match endpoint(request) {
            Some(_) => body::may_have_fields(request),
            None => token::may_be_in_body(request, &self.header),
        };
        wanted.then_some(MAX_BODY)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        if let Some(endpoint) = endpoint(request) {
            if request.head.method != Method::Post {
                return Step::answer(self.wrong_method(request, endpoint));
            }
            return Step::later(async move {
                let answer = match endpoint {
                    Endpoint::Authorize => self.authorize(request).await?,
                    Endpoint::Token => self.issue_token(request).await?,
                };
                Ok(Some(Box::new(answer)))
            });
        }
        if auth::is_settled(request, self.config.anonymous.as_deref()) {
            return Step::Next;
        }
        let given = token::take(request, &self.header, self.config.hide_credentials).filter(|token| !token.is_empty());
        let Some(given) = given else { return self.deny(request, Denied::Missing) };
        if let Some(row) = request.directory.credential(TOKENS, &given) {
            let outcome = self.admit(request, row.fields.as_deref());
            return self.step(request, outcome);
        }
        if !self.rows.are_shared() {
            return self.deny(request, Denied::Invalid);
        }
        // Another node may have given it out a moment ago.
        Step::later(async move {
            let row = self.rows.find(TOKENS, "access_token", &given).await?;
            let outcome = self.admit(request, row.as_ref());
            match self.step(request, outcome) {
                Step::Next => Ok(None),
                Step::Answer(answer) => Ok(Some(answer)),
                Step::Fail(error) => Err(error),
                Step::Later(later) => later.await,
            }
        })
    }
}

impl Oauth2 {
    /// Lets a request in that carries this token.
    fn admit(&self, request: &mut Request, row: Option<&Record>) -> std::result::Result<(), Denied> {
        let token = row.and_then(Token::of).ok_or(Denied::Invalid)?;
        match (token.service, self.config.global_credentials) {
            (None, false) => return Err(Denied::Global),
            (Some(service), _) if request.service.as_ref().map(|of| of.id) != Some(service) => return Err(Denied::Invalid),
            _ => {}
        }
        if token.has_expired(request.started_at_ms) {
            return Err(Denied::Invalid);
        }
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        let id = token.credential.hyphenated().encode_lower(&mut id);
        let client = request.directory.credential_by(CLIENTS, "id", id).ok_or(Denied::Invalid)?;
        let client_id: Arc<str> = client.fields.as_ref().and_then(|fields| fields.get("client_id")?.as_str()).unwrap_or_default().into();
        let client = request.directory.credential(CLIENTS, &client_id).ok_or(Denied::Invalid)?;
        let consumer = client.consumer.and_then(|id| request.directory.consumer(id));
        auth::identify(request, consumer, client, client_id.as_bytes());
        for (name, value) in [(SCOPE_HEADER, token.scope), (USER_HEADER, token.user)] {
            request.head.headers.remove(name);
            if let Some(value) = value {
                request.head.headers.append(name, value.as_bytes());
            }
        }
        Ok(())
    }

    fn step<'a>(&self, request: &mut Request, outcome: std::result::Result<(), Denied>) -> Step<'a> {
        match outcome {
            Ok(()) => Step::Next,
            Err(denied) => self.deny(request, denied),
        }
    }

    fn deny<'a>(&self, request: &mut Request, denied: Denied) -> Step<'a> {
        const INVALID: &str = "The access token is invalid or has expired";
        if self.config.anonymous.is_some() {
            request.head.headers.remove(SCOPE_HEADER);
            request.head.headers.remove(USER_HEADER);
        }
        let reason = if matches!(denied, Denied::Missing) { Refused::Missing } else { Refused::Invalid };
        auth::refuse(request, self.config.anonymous.as_deref(), reason.by(Self::NAME), || {
            let (error, description) = match denied {
                Denied::Missing => ("invalid_request", "The access token is missing"),
                Denied::Invalid => ("invalid_token", INVALID),
                Denied::Global => {
                    let text = "The access token is global, but the current plugin is configured without 'global_credentials'";
                    ("invalid_token", text)
                }
            };
            let challenge = match denied {
                Denied::Missing => self.challenge.clone(),
                _ => format!("{} error=\"invalid_token\" error_description=\"{INVALID}\"", self.challenge),
            };
            Answer::json(401, json!({ "error": error, "error_description": description })).header("WWW-Authenticate", challenge)
        })
    }

    fn wrong_method(&self, request: &Request, endpoint: Endpoint) -> Answer {
        let name = if endpoint == Endpoint::Token { "token" } else { "authorization" };
        let method = String::from_utf8_lossy(request.head.method_text()).into_owned();
        let text = format!("The HTTP method {method} is invalid for the {name} endpoint");
        let challenge = format!("{} error=\"invalid_method\" error_description=\"{text}\"", self.challenge);
        Answer::json(405, json!({ "error": "invalid_method", "error_description": text })).header("WWW-Authenticate", challenge)
    }
}

#[cfg(test)]
mod tests;
