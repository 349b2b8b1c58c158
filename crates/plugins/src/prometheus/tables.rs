//! The counts: one table a thread, added up when asked for.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_entities::consumers::Consumer;
use portcullis_entities::routes::Route;
use portcullis_entities::services::Service;
use portcullis_plugin::Source;
use uuid::Uuid;

use super::out::Exemplar;

/// Upper bounds of the buckets of an AI provider's time, in milliseconds.
pub const AI_BUCKETS: [u32; 14] = [250, 500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 4500, 5000, 10_000, 30_000, 60_000];
/// Upper bounds of the buckets of time spent in the gateway, in milliseconds.
pub const KONG_BUCKETS: [u32; 17] = [1, 2, 5, 7, 10, 15, 20, 30, 50, 75, 100, 200, 500, 750, 1000, 3000, 6000];
/// The same for upstream and whole-request times.
pub const UPSTREAM_BUCKETS: [u32; 13] = [25, 50, 80, 100, 250, 400, 700, 1000, 2000, 5000, 10_000, 30_000, 60_000];

/// Series a table may hold; what comes beyond is counted as an error instead.
const MOST_SERIES: usize = 100_000;
const TABLES: usize = 64;
/// Parts of a table: a scrape holds one of them at a time, so that requests of the others go on.
const PARTS: usize = 16;

/// What a series is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub route: Uuid,
    pub service: Option<Uuid>,
    pub consumer: Option<Uuid>,
    /// Connections without HTTP are counted apart.
    pub stream: bool,
}

/// What the use of AI is counted under: provider and model.
pub type AiKey = (Box<str>, Box<str>);

/// Use of one model.
#[derive(Clone, Debug, Default)]
pub struct AiSeries {
    pub requests: u64,
    pub cost: f64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub total_tokens: u64,
    pub latency: Histogram<14>,
}

impl AiSeries {
    fn add(&mut self, other: &AiSeries) {
        self.requests += other.requests;
        self.cost += other.cost;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.total_tokens += other.total_tokens;
        self.latency.add(&other.latency);
    }

    /// Milliseconds that the provider took.
    pub fn took(&mut self, latency: i64) {
        self.latency.observe(&AI_BUCKETS, latency);
    }
}

/// How many values fell into each bucket; the last is for what is larger than all bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram<const N: usize> {
    pub counts: [u64; N],
    pub larger: u64,
    pub sum: u64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { counts: [0; N], larger: 0, sum: 0 }
    }
}

impl<const N: usize> Histogram<N> {
    fn observe(&mut self, bounds: &[u32; N], value: i64) {
        let Ok(value) = u64::try_from(value) else { return };
        self.sum += value;
        match bounds.iter().position(|bound| value <= u64::from(*bound)) {
            Some(bucket) => self.counts[bucket] += 1,
            None => self.larger += 1,
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.larger += other.larger;
        self.sum += other.sum;
    }

    pub fn total(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.larger
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latencies {
    pub kong: Histogram<17>,
    pub upstream: Histogram<13>,
    pub request: Histogram<13>,
    /// Of whole requests; the newest of each bucket.
    pub exemplars: Vec<Exemplar>,
}

/// What is counted for one key.
#[derive(Clone, Debug, Default)]
pub struct Series {
    pub stream: bool,
    pub service: Box<str>,
    pub route: Box<str>,
    pub consumer: Box<str>,
    /// Status, whether the upstream answered, and how often; few, so a list.
    pub answers: Vec<(u16, bool, u64)>,
    pub has_bytes: bool,
    pub received: u64,
    pub sent: u64,
    pub latencies: Option<Box<Latencies>>,
    /// The entities the labels were taken from: another one means other labels.
    entities: (usize, usize),
}

impl Series {
    pub fn answered(&mut self, status: u16, source: Source) {
        let upstream = source == Source::Service;
        match self.answers.iter_mut().find(|(code, by, _)| (*code, *by) == (status, upstream)) {
            Some((_, _, count)) => *count += 1,
            None => self.answers.push((status, upstream, 1)),
        }
    }

    /// Milliseconds; what did not happen is negative and not counted.
    pub fn measured(&mut self, kong: i64, upstream: i64, request: i64) {
        let latencies = self.latencies.get_or_insert_default();
        latencies.kong.observe(&KONG_BUCKETS, kong);
        latencies.upstream.observe(&UPSTREAM_BUCKETS, upstream);
        latencies.request.observe(&UPSTREAM_BUCKETS, request);
    }

    /// Notes a request that a trace tells more about: so many milliseconds long, begun then.
    pub fn exemplify(&mut self, trace: &str, took: i64, at_ms: u64) {
        let Ok(value) = u64::try_from(took) else { return };
        let bucket = UPSTREAM_BUCKETS.iter().position(|bound| value <= u64::from(*bound)).unwrap_or(UPSTREAM_BUCKETS.len()) as u8;
        let exemplars = &mut self.latencies.get_or_insert_default().exemplars;
        match exemplars.iter_mut().find(|exemplar| exemplar.bucket == bucket) {
            Some(old) => *old = Exemplar { bucket, trace: trace.into(), value, at_ms },
            None => exemplars.push(Exemplar { bucket, trace: trace.into(), value, at_ms }),
        }
    }

    fn label(&mut self, route: &Arc<Route>, service: Option<&Arc<Service>>, consumer: Option<&Arc<Consumer>>) {
        self.entities = entities(route, service);
        self.route = route.name.as_deref().map_or_else(|| route.id.to_string().into(), Into::into);
        self.service = service.map(|service| service.name.as_deref().unwrap_or(&service.host)).unwrap_or_default().into();
        self.consumer = consumer.and_then(|consumer| consumer.username.as_deref()).unwrap_or_default().into();
    }

    fn add(&mut self, other: &Series) {
        for (status, upstream, count) in &other.answers {
            match self.answers.iter_mut().find(|(code, by, _)| (code, by) == (status, upstream)) {
                Some((_, _, sum)) => *sum += count,
                None => self.answers.push((*status, *upstream, *count)),
            }
        }
        self.has_bytes |= other.has_bytes;
        self.received += other.received;
        self.sent += other.sent;
        if let Some(more) = &other.latencies {
            let sum = self.latencies.get_or_insert_default();
            sum.kong.add(&more.kong);
            sum.upstream.add(&more.upstream);
            sum.request.add(&more.request);
            for exemplar in &more.exemplars {
                match sum.exemplars.iter_mut().find(|known| known.bucket == exemplar.bucket) {
                    Some(known) if known.at_ms >= exemplar.at_ms => {}
                    Some(known) => *known = exemplar.clone(),
                    None => sum.exemplars.push(exemplar.clone()),
                }
            }
        }
    }
}

fn entities(route: &Arc<Route>, service: Option<&Arc<Service>>) -> (usize, usize) {
    (Arc::as_ptr(route) as usize, service.map_or(0, |service| Arc::as_ptr(service) as usize))
}

/// Series by what they are counted under.
type Table = HashMap<Key, Series, foldhash::fast::RandomState>;

/// All counts of the process.
pub struct Tables {
    ai: Box<[Mutex<HashMap<AiKey, AiSeries>>]>,
    tables: Box<[[Mutex<Table>; PARTS]]>,
    telling_health: Arc<AtomicUsize>,
    pub errors: AtomicU64,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            ai: (0..TABLES).map(|_| Mutex::default()).collect(),
            tables: (0..TABLES).map(|_| Default::default()).collect(),
            telling_health: Arc::default(),
            errors: AtomicU64::new(0),
        }
    }
}

thread_local! {
    /// Which table this thread counts in.
    static TABLE: Cell<usize> = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % TABLES)
    };
}

impl Tables {
    /// Counts in the series of a route, its service and (if given) a consumer.
    pub fn count(
        &self,
        route: &Arc<Route>,
        service: Option<&Arc<Service>>,
        consumer: Option<&Arc<Consumer>>,
        stream: bool,
        change: impl FnOnce(&mut Series),
    ) {
        let key =
            Key { route: route.id, service: service.map(|service| service.id), consumer: consumer.map(|consumer| consumer.id), stream };
        // Only a scrape ever holds the lock of another thread's table.
        let part = key.route.as_u128() as usize % PARTS;
        let mut table = self.tables[TABLE.get()][part].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = table.get_mut(&key) {
            if series.entities != entities(route, service) {
                series.label(route, service, consumer);
            }
            return change(series);
        }
        if table.len() >= MOST_SERIES / PARTS {
            self.errors.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut series = Series { stream, ..Series::default() };
        series.label(route, service, consumer);
        change(&mut series);
        table.insert(key, series);
    }

    /// Counts a use of a provider's model.
    pub fn count_ai(&self, provider: &str, model: &str, change: impl FnOnce(&mut AiSeries)) {
        let mut table = self.ai[TABLE.get()].lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MOST_SERIES {
            self.errors.fetch_add(1, Ordering::Relaxed);
            return;
        }
        change(table.entry((provider.into(), model.into())).or_default());
    }

    /// The sum of what was counted of AI, by provider and model.
    pub fn ai(&self) -> BTreeMap<AiKey, AiSeries> {
        let mut sum: BTreeMap<AiKey, AiSeries> = BTreeMap::new();
        for table in &self.ai {
            for (key, series) in table.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                sum.entry(key.clone()).or_default().add(series);
            }
        }
        sum
    }

    /// The sum of all tables.
    pub fn sum(&self) -> Table {
        let mut sum = Table::default();
        for table in self.tables.iter().flatten() {
            let table = table.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, series) in table.iter() {
                match sum.get_mut(key) {
                    Some(known) => known.add(series),
                    None => _ = sum.insert(*key, series.clone()),
                }
            }
        }
        sum
    }

    /// Tells the health of targets for as long as what this answers lives.
    pub fn tell_health(&self) -> TellsHealth {
        self.telling_health.fetch_add(1, Ordering::Relaxed);
        TellsHealth(self.telling_health.clone())
    }

    pub fn tells_health(&self) -> bool {
        self.telling_health.load(Ordering::Relaxed) > 0
    }
}

/// Someone wants the health of targets told.
pub struct TellsHealth(Arc<AtomicUsize>);

impl Drop for TellsHealth {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
