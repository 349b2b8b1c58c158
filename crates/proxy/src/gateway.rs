//! What the worker threads share, and what each of them has of its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use portcullis_entities::consumers::Consumer;
use portcullis_plugin::extra_metrics::{ExtraGroups, ExtraMetrics};
use portcullis_plugin::{Credential, Directory, RequestId};
use portcullis_wire::headers::Name;
use portcullis_wire::{Headers, Pools};
use uuid::Uuid;

use crate::access_log::{Format, Tap};
use crate::dns::Dns;
use crate::settings::ProxySettings;
use crate::snapshot::Snapshot;

const DATE: Name = Name::new("Date");

/// Shared by all workers: the snapshot to serve from, the settings, name resolution.
pub struct Gateway {
    pub settings: ProxySettings,
    pub dns: Arc<Dns>,
    snapshot: ArcSwap<Snapshot>,
    /// Requests answered since the start.
    pub requests: AtomicU64,
    /// What is counted beyond Kong's metrics; none where nothing is.
    pub(crate) extra: Option<Arc<ExtraMetrics>>,
}

impl Gateway {
    pub fn new(settings: ProxySettings, dns: Arc<Dns>, snapshot: Arc<Snapshot>) -> Self {
        Self { settings, dns, snapshot: ArcSwap::new(snapshot), requests: AtomicU64::new(0), extra: None }
    }

    /// Counts what these metrics ask for.
    pub fn with_extra(mut self, extra: Arc<ExtraMetrics>) -> Self {
        self.extra = Some(extra).filter(|extra| extra.groups() != ExtraGroups::NONE);
        self
    }

    /// Every request that starts after this returns is served from `snapshot`.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(snapshot);
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}

/// The snapshot as one worker holds it: its requests count references without atomics that other workers would wait for.
pub struct Current {
    pub snapshot: Arc<Snapshot>,
}

impl Directory for Current {
    fn consumer(&self, id: Uuid) -> Option<Arc<Consumer>> {
        self.snapshot.consumer(id)
    }

    fn consumer_by_username(&self, username: &str) -> Option<Arc<Consumer>> {
        self.snapshot.consumer_by_username(username)
    }

    fn credential(&self, entity: &str, key: &str) -> Option<Arc<Credential>> {
        self.snapshot.credential(entity, key)
    }

    fn credential_by(&self, entity: &str, field: &str, value: &str) -> Option<Arc<Credential>> {
        self.snapshot.credential_by(entity, field, value)
    }

    fn credentials_of(&self, entity: &str, consumer: Uuid) -> Vec<Arc<Credential>> {
        self.snapshot.credentials_of(entity, consumer)
    }

    fn workspace(&self) -> Uuid {
        self.snapshot.workspace
    }

    fn has_upstream(&self, name: &str) -> bool {
        self.snapshot.upstreams.get(name).is_some()
    }
}

/// One worker thread's side of the gateway.
pub struct Worker {
    pub gateway: Arc<Gateway>,
    pub pools: Rc<Pools>,
    current: RefCell<Rc<Current>>,
    /// Our `Via` entry in responses of HTTP/1.1, HTTP/2 and HTTP/3.
    pub(crate) via: [Vec<u8>; 3],
    /// The second a `Date` header was last written for, and its text.
    date: RefCell<(u64, String)>,
    random: Cell<u64>,
    /// Instant and wall clock of the same moment: later wall clock times are sums, one clock read fewer a request.
    epoch: (Instant, u128),
    scratch: RefCell<Vec<Vec<u8>>>,
    spare_headers: RefCell<Vec<Headers>>,
    pub(crate) access_log: Option<(Arc<Format>, Tap)>,
}

impl Worker {
    pub fn new(gateway: Arc<Gateway>, pools: Rc<Pools>, seed: u64) -> Self {
        let snapshot = gateway.snapshot();
        let current = RefCell::new(Rc::new(Current { snapshot }));
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        let product = &gateway.settings.product;
        let via = ["1.1", "2", "3"].map(|version| format!("{version} {product}").into_bytes());
        Self {
            via,
            date: RefCell::default(),
            gateway,
            pools,
            current,
            random: Cell::new(seed),
            epoch: (Instant::now(), wall),
            scratch: RefCell::default(),
            spare_headers: RefCell::default(),
            access_log: None,
        }
    }

    /// Writes a line for every request.
    pub fn with_access_log(mut self, log: Option<(Arc<Format>, Tap)>) -> Self {
        self.access_log = log;
        self
    }

    /// The newest snapshot. One atomic read unless it changed.
    #[inline]
    pub fn current(&self) -> Rc<Current> {
        let newest = self.gateway.snapshot.load();
        let current = self.current.borrow();
        if Arc::ptr_eq(&newest, &current.snapshot) {
            return current.clone();
        }
        drop(current);
        let snapshot = Arc::clone(&newest);
        let fresh = Rc::new(Current { snapshot });
        *self.current.borrow_mut() = fresh.clone();
        fresh
    }

    /// Lets go of a snapshot that was replaced while this worker had nothing to do.
    pub fn refresh(&self) {
        self.current();
    }

    /// Nanoseconds since the epoch at `moment`.
    pub fn wall_clock_ns(&self, moment: Instant) -> u128 {
        self.epoch.1 + moment.saturating_duration_since(self.epoch.0).as_nanos()
    }

    /// Adds the `Date` header (RFC 9110 section 6.6.1) to a response that has none. `now_ms` is since the epoch.
    pub(crate) fn append_date(&self, headers: &mut Headers, now_ms: u64) {
        let second = now_ms / 1000;
        let mut date = self.date.borrow_mut();
        if date.0 != second {
            *date = (second, httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second)));
        }
        headers.append_clean(DATE, date.1.as_bytes());
    }

    pub fn take_buffer(&self) -> Vec<u8> {
        self.scratch.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(1024))
    }

    pub fn give_buffer(&self, mut buffer: Vec<u8>) {
        const KEPT: usize = 256;
        let mut scratch = self.scratch.borrow_mut();
        if buffer.capacity() <= 16 * 1024 && scratch.len() < KEPT {
            buffer.clear();
            scratch.push(buffer);
        }
    }

    /// No header lines, in buffers that are warm.
    #[inline]
    pub(crate) fn take_headers(&self) -> Headers {
        self.spare_headers.borrow_mut().pop().unwrap_or_default()
    }

    #[inline]
    pub(crate) fn give_headers(&self, mut headers: Headers) {
        const KEPT: usize = 256;
        let mut spare = self.spare_headers.borrow_mut();
        if headers.capacity() <= 16 * 1024 && spare.len() < KEPT {
            headers.clear();
            spare.push(headers);
        }
    }

    /// 64 random bits (wyrand): for request ids and balancing, not for secrets.
    #[inline]
    pub fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0xa076_1d64_78bd_642f);
        self.random.set(state);
        let product = u128::from(state) * u128::from(state ^ 0xe703_7ed1_a0b4_28db);
        (product >> 64) as u64 ^ product as u64
    }

    pub fn request_id(&self) -> RequestId {
        let (first, second) = (self.random(), self.random());
        let mut id = [0u8; 32];
        for (digits, bits) in id.as_chunks_mut::<8>().0.iter_mut().zip([first, first >> 32, second, second >> 32]) {
            *digits = hex_digits(bits as u32);
        }
        RequestId(id)
    }

    pub fn count_request(&self) {
        self.gateway.requests.fetch_add(1, Ordering::Relaxed);
    }
}

/// 32 bits as hex digits, all eight at once.
#[inline]
fn hex_digits(bits: u32) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Half a byte to each byte.
    let mut spread = u64::from(bits);
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Ten and above carry into bit 4 and become letters.
    let letters = ((spread + ONES * 6) >> 4) & ONES;
    (spread + ONES * b'0' as u64 + letters * (b'a' - b'0' - 10) as u64).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_digits_are_those_of_the_number() {
        for bits in [0, 1, 0x9abc_def0, 0x0123_4567, u32::MAX] {
            let mut want = format!("{bits:08x}").into_bytes();
            want.reverse();
            assert_eq!(hex_digits(bits).as_slice(), want);
        }
    }
}
