//! jwt: who a request is from, by a JSON Web Token.

mod config;

use portcullis_entities::pem;
use portcullis_plugin::{Env, Handler, Index, Instance, Phases, Plugin, Result, Scopes};
use portcullis_schema::field::Pattern;
use portcullis_schema::{Check, Fields, Rule, Schema};

use config::Config;

const ENTITY: &str = "jwt_secrets";

const ALGORITHMS: [&str; 13] =
    ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"];

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
    #[field(string().default("HS256").one_of(ALGORITHMS))]
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
pub struct Jwt;

impl Plugin for Jwt {
    const NAME: &'static str = "jwt";
    const PRIORITY: i32 = 1450;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    const READY: bool = false;
    const INDEXES: &'static [Index] = &[Index { entity: ENTITY, key: "key", by_key: true, by_consumer: false, keep_fields: true }];
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
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

impl Handler for Jwt {}
