//! hmac-auth: who a request is from, by a signature over some of its headers.

mod config;

use portcullis_plugin::{Env, Handler, Index, Instance, Phases, Plugin, Result, Scopes};
use portcullis_schema::{Fields, Schema};

use config::Config;

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

/// See the module's description.
pub struct HmacAuth;

impl Plugin for HmacAuth {
    const NAME: &'static str = "hmac-auth";
    const PRIORITY: i32 = 1030;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    const READY: bool = false;
    const INDEXES: &'static [Index] = &[Index { entity: ENTITY, key: "username", by_key: true, by_consumer: false, keep_fields: true }];
    type Config = Config;

    fn new(_: Config, _: &Instance, _: &Env) -> Result<Self> {
        Ok(Self)
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

impl Handler for HmacAuth {}
