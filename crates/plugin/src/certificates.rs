//! Certificates that a plugin got by itself, for names that no `certificates` row is for.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use portcullis_wire::tls::CertifiedKey;

/// Asked for a name that has no certificate yet. Called while a client waits: it only takes notice.
pub type Wanted = Arc<dyn Fn(&str) + Send + Sync>;

/// One per process, in [`crate::State`]. Looked at only when a client's TLS handshake names a host without a certificate.
#[derive(Default)]
pub struct OwnCertificates {
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    keys: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// Who takes notice: the last one, until it stops.
    wanted: Vec<Wanted>,
}

impl OwnCertificates {
    /// The certificate for a name in lower case. Whoever gets certificates hears of names that have none.
    pub fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let wanted = {
            let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
            let wanted = inner.wanted.last()?;
            match inner.keys.get(name) {
                Some(key) => return Some(key.clone()),
                None => wanted.clone(),
            }
        };
        wanted(name);
        None
    }

    pub fn insert(&self, name: &str, key: Arc<CertifiedKey>) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).keys.insert(name.into(), key);
    }

    /// From now on `wanted` hears of names without a certificate. What was there before stays.
    pub fn serve(&self, wanted: Wanted) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).wanted.push(wanted);
    }

    /// `wanted` hears no more; without anybody who does nothing is served.
    pub fn stop(&self, wanted: &Wanted) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.wanted.retain(|other| !Arc::ptr_eq(other, wanted));
        if inner.wanted.is_empty() {
            inner.keys.clear();
        }
    }
}
