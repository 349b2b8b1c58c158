//! acme: gets certificates from an authority that speaks ACME, such as Let's Encrypt, and renews them.
//!
//! A TLS handshake for a name that no certificate is configured for makes an order ([`office`]); the client gets the node's own
//! certificate meanwhile. The authority asks for a proof over plain HTTP, which `access` answers on whatever route the path
//! leads to ([`authority`], RFC 8555). Certificates, keys and proofs are kept where the configuration says ([`kept`]).
//!
//! - [`endpoints`]: what the Admin API gains

mod authority;
mod config;
mod endpoints;
mod kept;
mod office;
mod remote;

use std::sync::{Arc, Mutex, Weak};

use portcullis_plugin::{Answer, Endpoint, Env, Handler, Instance, OwnCertificates, Phases, Plugin, Request, Result, Scopes, Step, Wanted};
use portcullis_schema::{Check, Fields, Rule, Schema};
use serde_json::json;

use config::Config;
use office::Office;

/// A certificate, a key or a challenge kept in the database.
#[derive(Fields)]
#[expect(dead_code, reason = "describes the rows")]
struct Stored {
    /// The row's id.
    #[field(id())]
    id: uuid::Uuid,
    /// What it is found by.
    #[field(string().required().unique().auto())]
    key: String,
    /// What is kept.
    #[field(string().required().auto())]
    value: String,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    created_at: i64,
}

/// See the module's description.
pub struct Acme {
    office: Arc<Office>,
    wanted: Wanted,
    certificates: Arc<OwnCertificates>,
}

/// The office of the instance made last, for the Admin API.
#[derive(Default)]
struct Current(Mutex<Weak<Office>>);

/// Where authorities look for proofs (RFC 8555, 8.3).
const CHALLENGES: &[u8] = b"/.well-known/acme-challenge/";

impl Plugin for Acme {
    const NAME: &'static str = "acme";
    const PRIORITY: i32 = 1705;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes { consumer: false, route: false, service: false, ..Scopes::HTTP };
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let office = Office::open(config, env)?;
        let certificates = env.state.get::<OwnCertificates>();
        let weak = Arc::downgrade(&office);
        let wanted: Wanted = Arc::new(move |name: &str| {
            if let Some(office) = weak.upgrade() {
                office.want(name);
            }
        });
        certificates.serve(wanted.clone());
        *env.state.get::<Current>().0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::downgrade(&office);
        Ok(Self { office, wanted, certificates })
    }

    fn endpoints() -> Vec<Endpoint> {
        endpoints::all()
    }

    fn checks() -> Vec<Check> {
        let needs = |then_field| Check::Conditional {
            if_field: "config.storage",
            if_match: vec![Rule::Eq("redis".into())],
            then_field,
            then_match: Vec::new(),
            then_required: true,
            then_error: None,
        };
        vec![
            Check::Conditional {
                if_field: "config.api_uri",
                if_match: vec![Rule::OneOf(vec![
                    "https://acme-v02.api.letsencrypt.org".into(),
                    "https://acme-staging-v02.api.letsencrypt.org".into(),
                ])],
                then_field: "config.tos_accepted",
                then_match: vec![Rule::Eq(true.into())],
                then_required: false,
                then_error: Some("terms of service must be accepted, see https://letsencrypt.org/repository/"),
            },
            needs("config.storage_config.redis.host"),
            needs("config.storage_config.redis.port"),
            // Whether a store fits how the node is run is not known to a schema.
            Check::Shown(json!({ "custom_entity_check": { "field_sources": ["config.storage"] } })),
        ]
    }

    fn entities() -> Vec<Schema> {
        vec![Schema { ttl: true, ..Schema::new("acme_storage", Stored::fields()) }]
    }
}

impl Drop for Acme {
    fn drop(&mut self) {
        self.certificates.stop(&self.wanted);
    }
}

impl Handler for Acme {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let Some(token) = request.head.path().strip_prefix(CHALLENGES) else { return Step::Next };
        if request.client.https || !host_of(request).is_some_and(|host| self.office.allows(&host)) {
            return Step::Next;
        }
        // Tokens are base64 for URLs; `x` is what the sanity check of the Admin API asks for.
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if token.is_empty() || token == b"x" || !token.iter().all(fits) {
            return Step::answer(not_found());
        }
        let name = format!("{}#http-01", String::from_utf8_lossy(token));
        Step::later(async move {
            let answer = self.office.kept.get(&name).await?;
            let answer = answer.map(|text| Answer::bytes(200, Some("text/plain".into()), text.into_bytes()));
            Ok(Some(Box::new(answer.unwrap_or_else(not_found))))
        })
    }
}

fn not_found() -> Answer {
    Answer::bytes(404, Some("text/plain".into()), NOT_FOUND.as_bytes().to_vec())
}

const NOT_FOUND: &str = "Not found\n";

/// The host the client named, in lower case and without a port.
fn host_of(request: &Request) -> Option<String> {
    let host = std::str::from_utf8(request.head.headers.get("Host")?).ok()?;
    Some(host.split(':').next().unwrap_or_default().to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
