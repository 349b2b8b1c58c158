//! jwt: who a request is from, by a JSON Web Token.
//!
//! The token names its credential, by a claim or in its header; the credential says with which one algorithm and key the token
//! has to be signed, so that a token never chooses how it is checked.

mod config;
mod place;
mod token;

use std::borrow::Cow;
use std::sync::Arc;

use portcullis_entities::consumers::Consumer;
use portcullis_entities::pem;
use portcullis_plugin::extra_metrics::Refused;
use portcullis_plugin::{Answer, Credential, Env, Handler, Index, Instance, Method, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::field::Pattern;
use portcullis_schema::{Check, Fields, Rule, Schema};

use serde_json::{Map, Value, json};

use crate::auth::VerifiedClaims;
use crate::{auth, secret};
use config::Config;
use place::{Places, Search};
use token::{Claims, Token};

const ENTITY: &str = "jwt_secrets";

/// What a consumer's tokens are signed with.
#[derive(Fields)]
#[expect(dead_code, reason = "describes the rows; requests see them as `Credential`")]
struct JwtSecret {
    /// The credential's id.
    #[field(id())]
    id: uuid::Uuid,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    created_at: i64,
    /// Whose it is.
    #[field(foreign_cascade("consumers").required())]
    consumer: uuid::Uuid,
    /// What tokens name it by; made up when none is given.
    #[field(string().unique().auto().shown("required", false))]
    key: String,
    /// The secret of the HS algorithms; made up when none is given.
    #[field(string().auto())]
    secret: String,
    /// The public key of all other algorithms, in PEM.
    #[field(string())]
    rsa_public_key: Option<String>,
    /// The algorithm that tokens are signed with.
    #[field(string().default("HS256").one_of(token::NAMES))]
    algorithm: String,
    /// Labels to filter by.
    #[field(tags())]
    tags: Vec<String>,
}

/// Most algorithms with a public key demand a usable one.
fn key_check() -> Check {
    let patterns = ["^RS256$", "^RS384$", "^RS512$", "^PS256$", "^PS384$", "^PS512$", "^EdDSA$"];
    let patterns = patterns.into_iter().map(|pattern| Pattern { lua: pattern, regex: pattern }).collect();
    Check::Conditional {
        if_field: "algorithm",
        if_match: vec![Rule::MatchAny { patterns, message: None }],
        then_field: "rsa_public_key",
        then_match: vec![Rule::Custom(|value| match pem::PublicKey::from_pem(value.as_str().unwrap_or_default()) {
            Some(_) => Ok(()),
            None => Err("invalid key".to_owned()),
        })],
        then_required: true,
        then_error: None,
    }
}

/// See the module's description.
pub struct Jwt {
    places: Places,
    key_claim: String,
    secret_is_base64: bool,
    claims: Claims,
    anonymous: Option<String>,
    run_on_preflight: bool,
    realm: Option<String>,
}

/// Why a token does not let anybody in.
enum Flaw {
    Missing,
    Message(Cow<'static, str>),
    /// What is wrong with each claim.
    Claims(Map<String, Value>),
}

impl From<&'static str> for Flaw {
    fn from(message: &'static str) -> Self {
        Flaw::Message(message.into())
    }
}

impl Plugin for Jwt {
    const NAME: &'static str = "jwt";
    const PRIORITY: i32 = 1450;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    const INDEXES: &'static [Index] = &[Index { entity: ENTITY, key: "key", by_key: true, by_consumer: false, keep_fields: true }];
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self {
            places: Places {
                arguments: config.uri_param_names.unwrap_or_default(),
                cookies: config.cookie_names.unwrap_or_default(),
                headers: config.header_names.unwrap_or_default(),
            },
            key_claim: config.key_claim_name.unwrap_or_else(|| "iss".to_owned()),
            secret_is_base64: config.secret_is_base64,
            claims: Claims {
                verified: config.claims_to_verify.unwrap_or_default(),
                maximum_expiration: config.maximum_expiration.unwrap_or_default(),
            },
            anonymous: config.anonymous,
            run_on_preflight: config.run_on_preflight,
            realm: config.realm,
        })
    }

    fn checks() -> Vec<Check> {
        vec![Check::Conditional {
            if_field: "config.maximum_expiration",
            if_match: vec![Rule::Gt(0.0)],
            then_field: "config.claims_to_verify",
            then_match: vec![Rule::Contains("exp".into())],
            then_required: false,
            then_error: None,
        }]
    }

    fn entities() -> Vec<Schema> {
        vec![Schema {
            admin_name: Some("jwts"),
            nested_name: Some("jwt"),
            endpoint_key: Some("key"),
            cache_key: &["key"],
            checks: vec![key_check()],
            ..Schema::new(ENTITY, JwtSecret::fields())
        }]
    }
}

impl Handler for Jwt {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        if !self.run_on_preflight && request.head.method == Method::Options {
            return Step::Next;
        }
        let anonymous = self.anonymous.as_deref();
        if auth::is_settled(request, anonymous) {
            return Step::Next;
        }
        match self.authenticated(request) {
            Ok((credential, consumer, claims)) => {
                let key = credential.key.clone();
                auth::identify(request, Some(consumer), credential, key.as_bytes());
                request.context.set(VerifiedClaims(claims));
                Step::Next
            }
            Err(flaw) => {
                let reason = match &flaw {
                    Flaw::Missing => Refused::Missing,
                    Flaw::Claims(claims) if claims.contains_key("exp") => Refused::Expired,
                    Flaw::Message(_) | Flaw::Claims(_) => Refused::Invalid,
                };
                auth::refuse(request, anonymous, reason.by(Self::NAME), || self.refusal(flaw))
            }
        }
    }
}

/// What a good token proves: the credential, its consumer, and the token's claims.
type Proven = (Arc<Credential>, Arc<Consumer>, Map<String, Value>);

impl Jwt {
    /// Finds the token and whose it is. The order of checks is the order in which clients hear of flaws.
    fn authenticated(&self, request: &Request) -> std::result::Result<Proven, Flaw> {
        let text = match self.places.search(request) {
            Search::Missing => return Err(Flaw::Missing),
            Search::Several => return Err("Multiple tokens provided".into()),
            Search::NoText => return Err("Unrecognizable token".into()),
            Search::Found(text) => text,
        };
        let token = Token::parse(&text).map_err(|reason| Flaw::Message(format!("Bad token; {reason}").into()))?;
        let name = &self.key_claim;
        let named = |fields: &Map<String, Value>| fields.get(name).filter(|value| **value != Value::Bool(false)).cloned();
        let key = match named(&token.claims).or_else(|| named(&token.header)) {
            None => return Err(Flaw::Message(format!("No mandatory '{name}' in claims").into())),
            Some(Value::String(key)) if !key.is_empty() => key,
            Some(_) => return Err(Flaw::Message(format!("Invalid '{name}' in claims").into())),
        };
        let credential = request.directory.credential(ENTITY, &key);
        let credential = credential.ok_or_else(|| Flaw::Message(format!("No credentials found for given '{name}'").into()))?;
        let field = |field: &str| credential.fields.as_ref().and_then(|fields| fields.get(field)).and_then(Value::as_str);
        if field("algorithm").unwrap_or("HS256") != token.algorithm.name() {
            return Err("Invalid algorithm".into());
        }
        let material = match token.algorithm.is_symmetric() {
            true if self.secret_is_base64 => field("secret").and_then(|secret| secret::base64_url(secret.as_bytes())),
            true => field("secret").map(|secret| secret.as_bytes().to_vec()),
            false => field("rsa_public_key").and_then(pem::PublicKey::from_pem).map(|key| key.bits),
        };
        let material = material.ok_or("Invalid key/secret")?;
        if !token.is_signed_with(&material) {
            return Err("Invalid signature".into());
        }
        self.claims.check(&token.claims, (request.started_at_ms / 1000) as f64).map_err(Flaw::Claims)?;
        match credential.consumer.and_then(|id| request.directory.consumer(id)) {
            Some(consumer) => Ok((credential, consumer, token.claims)),
            None => Err(Flaw::Message(format!("Could not find consumer for '{name}={key}'").into())),
        }
    }

    fn refusal(&self, flaw: Flaw) -> Answer {
        let mut challenge = auth::challenge("Bearer", self.realm.as_deref());
        if !matches!(flaw, Flaw::Missing) {
            challenge.push_str(" error=\"invalid_token\"");
        }
        let body = match flaw {
            Flaw::Missing => json!({ "message": "Unauthorized" }),
            Flaw::Message(message) => json!({ "message": message }),
            Flaw::Claims(claims) => Value::Object(claims),
        };
        Answer::json(401, body).header("WWW-Authenticate", challenge)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
