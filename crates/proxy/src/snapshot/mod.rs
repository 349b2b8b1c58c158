//! The whole configuration, compiled for serving: immutable, shared by all workers, made anew for every change.
//!
//! A new snapshot shares with the one before it everything the change did not touch ([`sharded`], the router's tries), so
//! making one costs what the change costs. [`builder::Builder`] is the only writer.

pub mod builder;
mod certificates;
mod credentials;
pub mod sharded;

use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_entities::consumers::Consumer;
use portcullis_entities::services::Service;
use portcullis_plugin::{Credential, OwnCertificates};
use portcullis_wire::UpstreamTls;
use portcullis_wire::tls::Shown;
use uuid::Uuid;

use crate::balancer::Upstreams;
use crate::gateway::Gateway;
use crate::plan::PluginSet;
use crate::router::Router;
pub use certificates::Certificates;
pub use credentials::Credentials;
use sharded::{Keyed, Sharded};

/// A service with what its requests need worked out.
pub struct ServiceRow {
    pub entity: Arc<Service>,
    pub https: bool,
    /// gRPC: the upstream speaks HTTP/2.
    pub grpc: bool,
    pub port: u16,
    /// The host, shared with the tries that go there.
    pub host: Arc<str>,
    /// The address, when `host` is one.
    pub address: Option<SocketAddr>,
    /// How TLS is spoken with it, for https.
    pub tls: Option<Arc<UpstreamTls>>,
    /// Host header for a target of this name: with the port unless it is the scheme's own.
    pub host_header: Box<[u8]>,
}

/// Something with an id.
trait Identified {
    fn id(&self) -> &Uuid;
}

impl Identified for ServiceRow {
    fn id(&self) -> &Uuid {
        &self.entity.id
    }
}

impl Identified for Consumer {
    fn id(&self) -> &Uuid {
        &self.id
    }
}

struct ById<T>(Arc<T>);

impl<T> Clone for ById<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Identified> Keyed for ById<T> {
    type Key = Uuid;
    fn key(&self) -> &Uuid {
        self.0.id()
    }
}

#[derive(Clone)]
struct ByUsername(Arc<Consumer>);

impl Keyed for ByUsername {
    type Key = str;
    fn key(&self) -> &str {
        self.0.username.as_deref().unwrap_or_default()
    }
}

#[derive(Clone)]
pub struct Snapshot {
    pub router: Router,
    pub plugins: PluginSet,
    /// The instances that take part in connections without HTTP.
    pub stream_plugins: PluginSet,
    pub upstreams: Upstreams,
    pub certificates: Certificates,
    pub workspace: Uuid,
    services: Sharded<ById<ServiceRow>>,
    consumers: Sharded<ById<Consumer>>,
    usernames: Sharded<ByUsername>,
    credentials: Vec<Credentials>,
}

impl Snapshot {
    #[inline]
    pub fn service(&self, id: &Uuid) -> Option<&ServiceRow> {
        self.services.get(id).map(|row| &*row.0)
    }

    pub fn consumer(&self, id: Uuid) -> Option<Arc<Consumer>> {
        self.consumers.get(&id).map(|row| row.0.clone())
    }

    pub fn consumer_by_username(&self, username: &str) -> Option<Arc<Consumer>> {
        self.usernames.get(username).map(|row| row.0.clone())
    }

    pub fn credential(&self, entity: &str, key: &str) -> Option<Arc<Credential>> {
        self.credentials.iter().find(|credentials| credentials.index.entity == entity)?.by_key(key)
    }

    pub fn credential_by(&self, entity: &str, field: &str, value: &str) -> Option<Arc<Credential>> {
        self.credentials.iter().find(|of| of.index.entity == entity && of.index.key == field)?.by_key(value)
    }

    pub fn credentials_of(&self, entity: &str, consumer: Uuid) -> Vec<Arc<Credential>> {
        let Some(credentials) = self.credentials.iter().find(|credentials| credentials.index.entity == entity) else {
            return Vec::new();
        };
        credentials.of_consumer(consumer)
    }
}

/// The certificates of whatever snapshot is served when a client comes, and those that a plugin got by itself.
pub struct Serving {
    pub gateway: Arc<Gateway>,
    pub own: Arc<OwnCertificates>,
}

impl portcullis_wire::tls::Certificates for Serving {
    fn find(&self, sni: Option<&str>) -> Option<Shown> {
        let snapshot = self.gateway.snapshot();
        let own = |name: &str| Some(Shown::from(self.own.find(&name.trim_end_matches('.').to_ascii_lowercase())?));
        let certificates = &snapshot.certificates;
        certificates.named(sni).or_else(|| own(sni?)).or_else(|| certificates.fallback())
    }
}
