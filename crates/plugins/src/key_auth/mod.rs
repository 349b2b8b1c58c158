//! key-auth: who a request is from, by a key in a header, a query argument or a field of the body.
//!
//! Places are tried name by name: header, then query, then body. A name that carries several values, or a list, is refused
//! rather than guessed at. Keys are looked up in the snapshot, one hash; a refused request tells its client which scheme
//! is wanted.

use std::sync::Arc;

use portcullis_plugin::extra_metrics::Refused;
use portcullis_plugin::{
    Answer, Credential, Directory, Env, Handler, Headers, Index, Instance, Method, Phases, Plugin, Request, Result, Scopes, Step,
};
use portcullis_schema::{Fields, Schema};
use serde::Deserialize;

use crate::arguments::{self, Argument};
use crate::auth;
use crate::body::{self, Body};

/// How much of a body is looked at for a key, in bytes.
const MAX_BODY: u64 = 1 << 20;

const ENTITY: &str = "keyauth_credentials";

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Names of the headers, query arguments or body fields that may carry the key, in the order they are tried.
    #[field(array(header_name()).required().default(["apikey"]))]
    pub key_names: Vec<String>,
    /// Whether the key is taken out of the request before it goes to the upstream.
    #[field(boolean().required().default(false))]
    pub hide_credentials: bool,
    /// Id or username of the consumer that requests without a valid key pass as. Without one they are refused.
    #[field(string())]
    pub anonymous: Option<String>,
    /// Whether headers are looked at.
    #[field(boolean().required().default(true))]
    pub key_in_header: bool,
    /// Whether query arguments are looked at.
    #[field(boolean().required().default(true))]
    pub key_in_query: bool,
    /// Whether the fields of form, multipart and JSON bodies are looked at.
    #[field(boolean().required().default(false))]
    pub key_in_body: bool,
    /// Whether OPTIONS requests need a key too.
    #[field(boolean().required().default(true))]
    pub run_on_preflight: bool,
    /// The realm named in the challenge of a refusal.
    #[field(string().shown("required", false))]
    pub realm: Option<String>,
}

/// A consumer's key.
#[derive(Fields)]
#[expect(dead_code, reason = "describes the rows; requests see them as `Credential`")]
struct KeyAuthCredential {
    /// The credential's id.
    #[field(id())]
    id: uuid::Uuid,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    created_at: i64,
    /// Whose key it is.
    #[field(foreign_cascade("consumers").required())]
    consumer: uuid::Uuid,
    /// The key; made up when none is given.
    #[field(string().unique().auto().shown("required", false))]
    key: String,
    /// Labels to filter by.
    #[field(tags())]
    tags: Vec<String>,
}

/// See the module's description.
pub struct KeyAuth {
    names: Vec<Name>,
    hide_credentials: bool,
    anonymous: Option<String>,
    key_in_header: bool,
    key_in_query: bool,
    key_in_body: bool,
    run_on_preflight: bool,
    body_buffer_bytes: u64,
    challenge: String,
}

/// A key name and the header names it stands for.
struct Name {
    text: String,
    /// A header may spell underscores as dashes.
    dashed: Option<String>,
}

impl Name {
    fn new(text: String) -> Self {
        let dashed = text.contains('_').then(|| text.replace('_', "-"));
        Self { text, dashed }
    }

    fn in_headers<'a>(&self, headers: &'a Headers) -> Argument<'a> {
        let mut values = headers.get_all(&self.text);
        let first = values.next();
        match (first, &self.dashed) {
            (Some(_), _) if values.next().is_some() => Argument::Several,
            (Some(value), _) => Argument::One(value.into()),
            (None, Some(dashed)) => {
                let mut values = headers.get_all(dashed);
                match (values.next(), values.next()) {
                    (Some(value), None) => Argument::One(value.into()),
                    (Some(_), Some(_)) => Argument::Several,
                    _ => Argument::Absent,
                }
            }
            (None, None) => Argument::Absent,
        }
    }
}

/// What came of looking for a key.
enum Search {
    Found(Arc<Credential>),
    Unknown,
    Missing,
    Duplicate,
}

impl Plugin for KeyAuth {
    const NAME: &'static str = "key-auth";
    const PRIORITY: i32 = 1250;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    const INDEXES: &'static [Index] = &[Index { entity: ENTITY, key: "key", by_key: true, by_consumer: false, keep_fields: false }];
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        Ok(Self {
            names: config.key_names.into_iter().map(Name::new).collect(),
            hide_credentials: config.hide_credentials,
            anonymous: config.anonymous,
            key_in_header: config.key_in_header,
            key_in_query: config.key_in_query,
            key_in_body: config.key_in_body,
            run_on_preflight: config.run_on_preflight,
            body_buffer_bytes: env.node.body_buffer_bytes(),
            challenge: auth::challenge("Key", config.realm.as_deref()),
        })
    }

    fn entities() -> Vec<Schema> {
        vec![Schema {
            admin_name: Some("key-auths"),
            nested_name: Some("key-auth"),
            endpoint_key: Some("key"),
            cache_key: &["key"],
            ttl: true,
            ..Schema::new(ENTITY, KeyAuthCredential::fields())
        }]
    }
}

impl Handler for KeyAuth {
    fn body_limit(&self, request: &Request) -> Option<u64> {
        let wanted = self.key_in_body && body::may_have_fields(request);
        if wanted { body::in_memory(request, self.body_buffer_bytes, MAX_BODY) } else { None }
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        if !self.run_on_preflight && request.head.method == Method::Options {
            return Step::Next;
        }
        let anonymous = self.anonymous.as_deref();
        if auth::is_settled(request, anonymous) {
            return Step::Next;
        }
        let (reason, refusal) = match self.search(request) {
            Search::Found(credential) => {
                let consumer = credential.consumer.and_then(|id| request.directory.consumer(id));
                let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
                let identifier = credential.id.hyphenated().encode_lower(&mut id).as_bytes();
                auth::identify(request, consumer, credential, identifier);
                return Step::Next;
            }
            Search::Unknown => (Refused::Invalid, "Unauthorized"),
            Search::Missing => (Refused::Missing, "No API key found in request"),
            Search::Duplicate => (Refused::Invalid, "Duplicate API key found"),
        };
        auth::refuse(request, anonymous, reason.by(Self::NAME), || {
            Answer::error(401, refusal).header("WWW-Authenticate", self.challenge.as_str())
        })
    }
}

impl KeyAuth {
    /// Tries names and places in order. The first text found is the key, whether or not anybody has it.
    fn search(&self, request: &mut Request) -> Search {
        let mut body = None;
        for (at, name) in self.names.iter().enumerate() {
            let (head, query) = (&request.head, request.upstream.query.as_deref());
            let mut value = if self.key_in_header { name.in_headers(&head.headers) } else { Argument::Absent };
            if self.key_in_query && value.is_absent() {
                value = query.map_or(Argument::Absent, |query| arguments::find(query, &name.text));
            }
            if self.key_in_body && value.is_absent() {
                let body = body.get_or_insert_with(|| Body::of(request));
                value = body.as_ref().map_or(Argument::Absent, |body| body.find(&name.text));
            }
            match value {
                Argument::Absent | Argument::NoText => {}
                Argument::Several => return Search::Duplicate,
                Argument::One(key) => {
                    let found = look_up(&*request.directory, &key);
                    drop(key);
                    drop(body);
                    if self.hide_credentials {
                        self.hide(request, &self.names[at]);
                    }
                    return found;
                }
            }
        }
        Search::Missing
    }

    /// Takes a name out of every place it may stand in.
    fn hide(&self, request: &mut Request, name: &Name) {
        request.head.headers.remove(&name.text);
        if let Some(dashed) = &name.dashed {
            request.head.headers.remove(dashed);
        }
        // Kong writes query and body anew, with or without the name in them.
        if let Some(query) = request.upstream.query.as_ref().filter(|query| !query.is_empty()) {
            let left = arguments::query_anew_without(query, &name.text);
            request.upstream.query = (!left.is_empty()).then_some(left);
        }
        if self.key_in_body
            && let Some(body) = Body::of(request)
            && let Some(left) = body.anew_without(&name.text)
        {
            let boundary = body.boundary().map(|boundary| [b"multipart/form-data; boundary=", boundary].concat());
            drop(body);
            request.upstream.body = Some(left);
            if let Some(content_type) = boundary {
                request.head.headers.set("Content-Type", &content_type);
            }
        }
    }
}

fn look_up(directory: &dyn Directory, key: &[u8]) -> Search {
    if key.is_empty() {
        return Search::Missing;
    }
    let credential = std::str::from_utf8(key).ok().and_then(|key| directory.credential(ENTITY, key));
    credential.map_or(Search::Unknown, Search::Found)
}

#[cfg(test)]
mod tests;
