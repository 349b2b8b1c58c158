//! The plugin's tables: clients, and the codes and tokens given out to them.

use aws_lc_rs::{pbkdf2, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use portcullis_schema::{Field, Fields, Record, Schema, Transform, Violations, build};
use serde_json::Value;
use url::Url;

/// A client of a consumer's.
#[derive(Fields)]
#[expect(dead_code, reason = "describes the rows; requests see them as `Credential`")]
struct Client {
    /// The credential's id.
    #[field(id())]
    id: uuid::Uuid,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    created_at: i64,
    /// Whose it is.
    #[field(foreign_cascade("consumers").required())]
    consumer: uuid::Uuid,
    /// What users know the client by.
    #[field(string().required())]
    name: String,
    /// What the client names itself by; made up when none is given.
    #[field(string().unique().auto().shown("required", false))]
    client_id: String,
    /// What proves it; made up when none is given.
    #[field(string().encrypted().auto().shown("required", false))]
    client_secret: String,
    /// Whether only a hash of the secret is kept.
    #[field(boolean().required().default(false))]
    hash_secret: bool,
    /// Where users may be sent back to.
    #[field(array(redirect_uri()).shown("required", false))]
    redirect_uris: Vec<String>,
    /// Labels to filter by.
    #[field(tags())]
    tags: Vec<String>,
    /// Whether the client can keep a secret.
    #[field(string().required().one_of(["confidential", "public"]).default("confidential"))]
    client_type: String,
}

/// A code that a client can turn into a token, once.
#[derive(Fields)]
#[expect(dead_code, reason = "describes the rows")]
struct Code {
    /// The row's id.
    #[field(id())]
    id: uuid::Uuid,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    created_at: i64,
    /// The service it is for; none for all.
    #[field(foreign_cascade("services").default(Value::Null).shown("default", Value::Null))]
    service: Option<uuid::Uuid>,
    /// The client it was given to.
    #[field(foreign_cascade("oauth2_credentials").required())]
    credential: uuid::Uuid,
    /// The code.
    #[field(string().unique().auto().shown("required", false))]
    code: String,
    /// The user who agreed.
    #[field(string().shown("required", false))]
    authenticated_userid: Option<String>,
    /// What was agreed to, separated by spaces.
    #[field(string())]
    scope: Option<String>,
    /// What the client will have to prove that it knows.
    #[field(string().shown("required", false))]
    challenge: Option<String>,
    /// How that is hashed.
    #[field(string().one_of(["S256"]).shown("required", false))]
    challenge_method: Option<String>,
    /// The instance of the plugin that gave it out.
    #[field(foreign_cascade("plugins").default(Value::Null).shown("default", Value::Null))]
    plugin: Option<uuid::Uuid>,
}

/// A token that a client was given.
#[derive(Fields)]
#[expect(dead_code, reason = "describes the rows")]
struct Token {
    /// The row's id.
    #[field(id())]
    id: uuid::Uuid,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    created_at: i64,
    /// The service it is for; none for all.
    #[field(foreign_cascade("services").default(Value::Null).shown("default", Value::Null))]
    service: Option<uuid::Uuid>,
    /// The client it was given to.
    #[field(foreign_cascade("oauth2_credentials").required())]
    credential: uuid::Uuid,
    /// The kind of token.
    #[field(string().required().one_of(["bearer"]).default("bearer"))]
    token_type: String,
    /// Seconds for which it is valid.
    #[field(integer().required())]
    expires_in: i64,
    /// The token.
    #[field(string().unique().auto().shown("required", false))]
    access_token: String,
    /// What it is renewed with.
    #[field(string().unique().shown("required", false))]
    refresh_token: Option<String>,
    /// The user who agreed.
    #[field(string().shown("required", false))]
    authenticated_userid: Option<String>,
    /// What was agreed to, separated by spaces.
    #[field(string())]
    scope: Option<String>,
}

/// Clients, then what refers to them.
pub fn all() -> Vec<Schema> {
    vec![
        Schema {
            admin_name: Some("oauth2"),
            endpoint_key: Some("client_id"),
            cache_key: &["client_id"],
            transforms: vec![Transform { inputs: &["hash_secret"], needs: &["client_secret"], apply: keep_hash }],
            ..Schema::new("oauth2_credentials", Client::fields())
        },
        Schema { ttl: true, admin_api: false, ..Schema::new("oauth2_authorization_codes", Code::fields()) },
        Schema {
            endpoint_key: Some("access_token"),
            cache_key: &["access_token"],
            ttl: true,
            ..Schema::new("oauth2_tokens", Token::fields())
        },
    ]
}

/// An absolute URI without a fragment.
fn redirect_uri() -> Field {
    build::string().custom(|value| {
        let text = value.as_str().unwrap_or_default();
        match Url::parse(text) {
            Ok(uri) if uri.fragment().is_some() => Err(format!("fragment not allowed in '{text}'")),
            Ok(uri) if uri.has_host() => Ok(()),
            _ => Err(format!("cannot parse '{text}'")),
        }
    })
}

/// What a hash begins with: the function and its parameters, as the PHC string format has them.
pub const HASHED: &str = "$pbkdf2-sha512$i=10000,l=32$";
const ITERATIONS: std::num::NonZeroU32 = std::num::NonZeroU32::MIN.saturating_add(9_999);

/// PBKDF2 of a secret with a salt of its own, as text.
pub fn hash(secret: &str) -> Option<String> {
    let (mut salt, mut hash) = ([0; 16], [0; 32]);
    rand::fill(&mut salt).ok()?;
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, ITERATIONS, &salt, secret.as_bytes(), &mut hash);
    Some(format!("{HASHED}{}${}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash)))
}

/// Hashes the secret where that is wanted and has not been done.
fn keep_hash(record: &mut Record) -> Result<(), Violations> {
    if record.get("hash_secret") != Some(&Value::Bool(true)) {
        return Ok(());
    }
    let secret = record.get("client_secret").and_then(Value::as_str).filter(|secret| !secret.starts_with("$pbkdf2-sha512$"));
    let Some(secret) = secret else { return Ok(()) };
    let hash = hash(secret).ok_or_else(|| Violations::of("client_secret", "could not be hashed"))?;
    record.insert("client_secret".to_owned(), hash.into());
    Ok(())
}
