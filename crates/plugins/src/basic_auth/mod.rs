//! basic-auth: who a request is from, by a user name and a password.

mod config;

use aws_lc_rs::digest;
use portcullis_plugin::{Env, Handler, Index, Instance, Phases, Plugin, Result, Scopes};
use portcullis_schema::{Fields, Record, Schema, Transform, Violations};
use serde_json::Value;

use crate::secret;
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
fn hash(password: &str, consumer: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(password.as_bytes());
    context.update(consumer.as_bytes());
    secret::hex(context.finish().as_ref())
}

fn keep_hash(record: &mut Record) -> std::result::Result<(), Violations> {
    let password = record.get("password").and_then(Value::as_str);
    let consumer = record.get("consumer").and_then(|consumer| consumer.get("id")).and_then(Value::as_str);
    if let (Some(password), Some(consumer)) = (password, consumer) {
        let hash = hash(password, consumer);
        record.insert("password".to_owned(), hash.into());
    }
    Ok(())
}

/// See the module's description.
pub struct BasicAuth;

impl Plugin for BasicAuth {
    const NAME: &'static str = "basic-auth";
    const PRIORITY: i32 = 1100;
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
            admin_name: Some("basic-auths"),
            nested_name: Some("basic-auth"),
            endpoint_key: Some("username"),
            cache_key: &["username"],
            transforms: vec![Transform { inputs: &["password"], needs: &["consumer.id"], apply: keep_hash }],
            ..Schema::new(ENTITY, BasicAuthCredential::fields())
        }]
    }
}

impl Handler for BasicAuth {}
