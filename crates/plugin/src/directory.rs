//! Who is known: consumers and their credentials, read from the snapshot a request runs on.

use std::sync::Arc;

use portcullis_entities::consumers::Consumer;
use portcullis_schema::Record;
use uuid::Uuid;

/// A row that identifies or qualifies a consumer: a key, an ACL group, …
#[derive(Clone, Debug)]
pub struct Credential {
    pub id: Uuid,
    pub consumer: Option<Uuid>,
    /// The value of the entity's endpoint key (`key`, `username`, `group`).
    pub key: Box<str>,
    /// Seconds since the epoch after which it is as if it were not there.
    pub expires_at: Option<u64>,
    /// The remaining fields of the row, where the entity asks for them to be kept.
    pub fields: Option<Box<Record>>,
}

/// How the snapshot keeps an entity's rows for plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    /// The entity: `keyauth_credentials`.
    pub entity: &'static str,
    /// The field whose value a row is found by: `key`.
    pub key: &'static str,
    /// Rows are looked up by that key over the whole node (else only by consumer).
    pub by_key: bool,
    /// Rows are listed by their consumer.
    pub by_consumer: bool,
    /// Keep the row's other fields (secrets, algorithms). Off keeps a million keys small.
    pub keep_fields: bool,
}

/// Look-ups that cost a hash each and never wait.
pub trait Directory {
    fn consumer(&self, id: Uuid) -> Option<Arc<Consumer>>;
    fn consumer_by_username(&self, username: &str) -> Option<Arc<Consumer>>;
    /// A live credential by its key; expired ones are not found.
    fn credential(&self, entity: &str, key: &str) -> Option<Arc<Credential>>;
    /// The same by another field, where the entity has an [`Index`] of that field too.
    fn credential_by(&self, entity: &str, field: &str, value: &str) -> Option<Arc<Credential>>;
    /// A consumer's live rows of an entity.
    fn credentials_of(&self, entity: &str, consumer: Uuid) -> Vec<Arc<Credential>>;
    /// The default workspace's id.
    fn workspace(&self) -> Uuid;

    /// Whether there is an upstream entity of this name.
    fn has_upstream(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// The consumer named by id or username, as `anonymous` settings name one.
    fn consumer_named(&self, name: &str) -> Option<Arc<Consumer>> {
        match Uuid::try_parse(name) {
            Ok(id) => self.consumer(id).or_else(|| self.consumer_by_username(name)),
            Err(_) => self.consumer_by_username(name),
        }
    }
}
