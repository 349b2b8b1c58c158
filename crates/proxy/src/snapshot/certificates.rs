//! Which certificate a client is shown, and how TLS is spoken with upstreams.
//!
//! Order of choice (behaviour checklist 6.5): the exact name, a wildcard at the left (`*.example.com`), a wildcard at the
//! right (`example.*`), the SNI entity named `*`, the node's own certificate.

use std::sync::Arc;

use portcullis_entities::services::{Protocol, Service};
use portcullis_schema::Record;
use portcullis_wire::UpstreamTls;
use portcullis_wire::tls::{self, Asked, CertifiedKey, Shown};
use serde_json::Value;
use tracing::error;
use uuid::Uuid;

use super::sharded::{Keyed, Sharded};

#[derive(Clone)]
struct Pair {
    id: Uuid,
    key: Shown,
}

impl Keyed for Pair {
    type Key = Uuid;
    fn key(&self) -> &Uuid {
        &self.id
    }
}

#[derive(Clone)]
struct Sni {
    name: Box<str>,
    certificate: Uuid,
}

impl Keyed for Sni {
    type Key = str;
    fn key(&self) -> &str {
        &self.name
    }
}

/// A CA certificate that upstreams may be verified against.
#[derive(Clone)]
struct Authority {
    id: Uuid,
    pem: Arc<str>,
}

impl Keyed for Authority {
    type Key = Uuid;
    fn key(&self) -> &Uuid {
        &self.id
    }
}

#[derive(Clone)]
pub struct Certificates {
    authorities: Sharded<Authority>,
    pairs: Sharded<Pair>,
    snis: Sharded<Sni>,
    /// The node's own certificate, for names nobody configured.
    fallback: Option<Shown>,
    upstream: Arc<tls::UpstreamConfigs>,
}

impl Certificates {
    /// `upstream` makes the client configurations for upstreams that speak TLS.
    pub fn new(fallback: Option<Shown>, upstream: Arc<tls::UpstreamConfigs>) -> Self {
        Self { authorities: Sharded::default(), pairs: Sharded::default(), snis: Sharded::default(), fallback, upstream }
    }

    /// The same settings without any configured certificate.
    pub fn emptied(&self) -> Self {
        Self::new(self.fallback.clone(), self.upstream.clone())
    }

    /// The certificate for a client that names this server, or none.
    pub fn find(&self, sni: Option<&str>) -> Option<Shown> {
        self.named(sni).or_else(|| self.fallback())
    }

    /// When each configured certificate ends, in seconds since the epoch.
    pub fn ends(&self) -> impl Iterator<Item = (Uuid, i64)> + '_ {
        self.pairs.iter().filter_map(|pair| Some((pair.id, tls::ends_at(&pair.key.first)?)))
    }

    /// The certificate that is configured for this name.
    pub fn named(&self, sni: Option<&str>) -> Option<Shown> {
        let name = sni.filter(|_| !self.snis.is_empty())?;
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let left = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let right = name.rsplit_once('.').map(|(stem, _)| format!("{stem}.*"));
        self.pair(&name).or_else(|| self.pair(&left?)).or_else(|| self.pair(&right?)).or_else(|| self.pair("*"))
    }

    /// The node's own certificate.
    pub fn fallback(&self) -> Option<Shown> {
        self.fallback.clone()
    }

    fn pair(&self, name: &str) -> Option<Shown> {
        self.pairs.get(&self.snis.get(name)?.certificate).map(|pair| pair.key.clone())
    }

    /// How TLS is spoken with a service. Its own client certificate goes before the one of the upstream it leads to.
    pub fn upstream_tls(&self, service: &Service, of_upstream: Option<Uuid>) -> Arc<UpstreamTls> {
        let shown = service.client_certificate.as_ref().map(|of| of.id).or(of_upstream);
        let client: Option<Arc<CertifiedKey>> = shown.and_then(|id| self.pairs.get(&id)).map(|pair| pair.key.first.clone());
        let roots: Vec<Arc<str>> =
            service.ca_certificates.iter().flatten().filter_map(|id| self.authorities.get(id)).map(|ca| ca.pem.clone()).collect();
        self.upstream.make(Asked {
            verify: service.tls_verify,
            depth: service.tls_verify_depth,
            roots: &roots,
            client,
            http2: service.protocol == Protocol::Grpcs,
            stream: service.protocol == Protocol::Tls,
        })
    }

    pub(super) fn certificate(&mut self, id: Uuid, new: Option<&Record>) {
        let Some(record) = new else {
            self.pairs.remove(&id);
            return;
        };
        let text = |field: &str| record.get(field).and_then(Value::as_str);
        let first = tls::certified_key(text("cert").unwrap_or_default(), text("key").unwrap_or_default());
        let second = text("cert_alt").zip(text("key_alt")).map(|(certificate, key)| tls::certified_key(certificate, key)).transpose();
        match (first, second) {
            (Ok(first), Ok(second)) => _ = self.pairs.insert(Pair { id, key: Shown { first, second } }),
            (Err(problem), _) | (_, Err(problem)) => error!(certificate = %id, %problem, "certificate left out"),
        }
    }

    pub(super) fn authority(&mut self, id: Uuid, new: Option<&Record>) {
        match new.and_then(|record| record.get("cert")).and_then(Value::as_str) {
            Some(pem) => _ = self.authorities.insert(Authority { id, pem: pem.into() }),
            None => _ = self.authorities.remove(&id),
        }
    }

    pub(super) fn sni(&mut self, old: Option<&Record>, new: Option<&Record>) {
        let name = |record: &Record| record.get("name").and_then(Value::as_str).map(str::to_ascii_lowercase);
        if let Some(old) = old.and_then(name) {
            self.snis.remove(&*old);
        }
        let Some(record) = new else { return };
        let certificate = record.get("certificate").and_then(|of| of.get("id")).and_then(Value::as_str);
        if let (Some(name), Some(certificate)) = (name(record), certificate.and_then(|id| Uuid::try_parse(id).ok())) {
            self.snis.insert(Sni { name: name.into(), certificate });
        }
    }
}
