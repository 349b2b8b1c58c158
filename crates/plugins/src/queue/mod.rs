//! Queues between requests and the servers that logs, metrics and traces are sent to (behaviour checklist 9.0).
//!
//! A request only pushes: it never waits, and what finds the queue full takes the place of the oldest entries, which are
//! counted as lost. A task on the control runtime gathers entries into batches and hands them to the plugin's sender, again
//! and again with growing pauses until it succeeds or gives up on the batch.
//!
//! - [`config`]: the settings, as users give them
//! - [`counts`]: what queues hold, sent and lost
//! - [`drain`]: what happens when the node stops
//!
//! Instances whose endpoint and settings are equal share one queue ([`Queues`]). A queue ends when the last instance that
//! uses it is gone; what it holds by then is still sent.

mod config;
mod counts;
pub mod drain;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use portcullis_plugin::Env;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, warn};

pub use config::{OLD_DEFAULTS, OldDefaults, Queue as Config, Settings, flush_timeout, queue_size, retry_count};
pub use counts::{Count, Counts, Figures};
use drain::Running;

/// Between two tries while the node stops.
const PAUSE_WHEN_STOPPING: Duration = Duration::from_millis(50);

/// What sends a batch. It is given the same batch again after an error.
pub type Send<T> = Box<dyn Fn(Arc<[T]>) -> Sending + std::marker::Send + Sync>;
/// A batch on its way; errors with what to tell the operator.
pub type Sending = Pin<Box<dyn Future<Output = Result<(), String>> + std::marker::Send>>;

/// How much of `max_bytes` an entry takes.
pub trait Entry: std::marker::Send + Sync + 'static {
    fn size(&self) -> usize;
}

impl Entry for Box<[u8]> {
    fn size(&self) -> usize {
        self.len()
    }
}

/// The queues of the process by name, for instances to share; kept in [`portcullis_plugin::State`].
pub struct Queues<T: Entry> {
    named: Mutex<HashMap<String, Weak<Shared<T>>>>,
}

impl<T: Entry> Default for Queues<T> {
    fn default() -> Self {
        Self { named: Mutex::default() }
    }
}

impl<T: Entry> Queues<T> {
    /// A plugin's queue to an endpoint, started if there is none. `endpoint` tells all that decides how entries are sent there.
    pub fn get(&self, env: &Env, plugin: &'static str, endpoint: &str, settings: Settings, send: impl FnOnce() -> Send<T>) -> Queue<T> {
        let name = format!("{plugin} {endpoint} {settings:?}");
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.retain(|_, queue| queue.strong_count() > 0);
        if let Some(inner) = named.get(&name).and_then(Weak::upgrade).and_then(|shared| shared.users.upgrade()) {
            return Queue { users: inner };
        }
        let queue = start(env, plugin, settings, send());
        named.insert(name, Arc::downgrade(&queue.users.shared));
        queue
    }
}

/// An instance's hold on a queue. The queue ends with its last holder.
pub struct Queue<T: Entry> {
    users: Arc<Users<T>>,
}

/// Closes the queue when nobody holds it any more.
struct Users<T: Entry> {
    shared: Arc<Shared<T>>,
}

impl<T: Entry> Drop for Users<T> {
    fn drop(&mut self) {
        self.shared.waiting().closed = true;
        self.shared.wake.notify_one();
    }
}

/// What holders and the queue's task share.
struct Shared<T: Entry> {
    users: Weak<Users<T>>,
    settings: Settings,
    send: Send<T>,
    waiting: Mutex<Waiting<T>>,
    wake: Notify,
    count: Arc<Count>,
    /// Batches on their way where concurrency is not limited.
    in_flight: AtomicUsize,
    runtime: Handle,
    /// Kept so that whoever tells the queue to end does not go before it.
    _running: Arc<Running>,
}

struct Waiting<T> {
    entries: VecDeque<T>,
    bytes: usize,
    /// When the oldest entry came in.
    since: Instant,
    closed: bool,
    /// The operator knows that it fills up.
    told_filling: bool,
    /// The operator knows that entries are lost.
    told_full: bool,
}

fn start<T: Entry>(env: &Env, plugin: &'static str, settings: Settings, send: Send<T>) -> Queue<T> {
    let running = env.state.get::<Running>();
    let users = Arc::new_cyclic(|users| {
        let waiting =
            Waiting { entries: VecDeque::new(), bytes: 0, since: Instant::now(), closed: false, told_filling: false, told_full: false };
        let shared = Shared {
            users: users.clone(),
            settings,
            send,
            waiting: Mutex::new(waiting),
            wake: Notify::new(),
            count: env.state.get::<Counts>().of(plugin),
            in_flight: AtomicUsize::new(0),
            runtime: env.runtime.clone(),
            _running: running.clone(),
        };
        Users { shared: Arc::new(shared) }
    });
    let shared = users.shared.clone();
    running.spawn(&env.runtime, |closing| run(shared, closing));
    Queue { users }
}

impl<T: Entry> Queue<T> {
    /// Adds an entry; never waits.
    pub fn push(&self, entry: T) {
        let shared = &self.users.shared;
        if shared.settings.concurrency_limit.is_none() {
            return shared.send_at_once(entry);
        }
        let mut waiting = shared.waiting();
        shared.make_room(&mut waiting, entry.size());
        shared.add(waiting, entry);
    }

    /// Adds an entry if there is room for it, and else counts it as lost: for entries of which newer ones are worth no more.
    pub fn push_if_room(&self, entry: T) {
        let shared = &self.users.shared;
        if shared.settings.concurrency_limit.is_none() {
            return shared.send_at_once(entry);
        }
        let waiting = shared.waiting();
        if shared.has_room(&waiting, entry.size()) {
            shared.add(waiting, entry);
        } else {
            shared.count.lost(1);
        }
    }
}

impl<T: Entry> Shared<T> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, mut waiting: MutexGuard<'_, Waiting<T>>, entry: T) {
        if waiting.entries.is_empty() {
            waiting.since = Instant::now();
        }
        waiting.bytes += entry.size();
        waiting.entries.push_back(entry);
        self.count.came();
        let ripe = waiting.entries.len() == 1 || waiting.entries.len() >= self.settings.max_batch_size;
        drop(waiting);
        if ripe {
            self.wake.notify_one();
        }
    }

    fn has_room(&self, waiting: &Waiting<T>, size: usize) -> bool {
        let most_bytes = self.settings.max_bytes.unwrap_or(usize::MAX);
        waiting.entries.len() < self.settings.max_entries && waiting.bytes.saturating_add(size) <= most_bytes
    }

    /// Pushes the oldest entries out until another one of this size fits.
    fn make_room(&self, waiting: &mut Waiting<T>, size: usize) {
        let most = self.settings.max_entries;
        let mut pushed_out = 0;
        while !self.has_room(waiting, size) {
            let Some(oldest) = waiting.entries.pop_front() else { break };
            waiting.bytes -= oldest.size();
            pushed_out += 1;
        }
        if pushed_out > 0 {
            self.count.left(pushed_out);
            self.count.lost(pushed_out);
            if !std::mem::replace(&mut waiting.told_full, true) {
                error!(entries = waiting.entries.len(), "queue is full, the oldest entries are dropped");
            }
        } else if waiting.entries.len() * 5 >= most * 4 && most >= 5 && !std::mem::replace(&mut waiting.told_filling, true) {
            warn!(entries = waiting.entries.len(), of = most, "queue is filling up");
        }
    }

    /// Without a limit of concurrency nothing queues; only how many may be on their way is bounded.
    fn send_at_once(self: &Arc<Self>, entry: T) {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= self.settings.max_entries {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.count.lost(1);
            return;
        }
        self.count.came();
        let shared = self.clone();
        self.runtime.spawn(async move {
            shared.deliver(Arc::from([entry]), None).await;
            shared.in_flight.fetch_sub(1, Ordering::Relaxed);
            shared.count.left(1);
        });
    }

    /// The next batch, when it is full or its oldest entry has waited long enough. None once nothing more will come.
    async fn next_batch(&self, closing: &mut watch::Receiver<bool>) -> Option<Arc<[T]>> {
        loop {
            let ripe_at = {
                let mut waiting = self.waiting();
                let hurry = waiting.closed || *closing.borrow();
                let ripe_at = waiting.since + self.settings.max_coalescing_delay;
                if waiting.entries.len() >= self.settings.max_batch_size
                    || !waiting.entries.is_empty() && (hurry || Instant::now() >= ripe_at)
                {
                    return Some(self.take(&mut waiting));
                }
                if hurry {
                    return None;
                }
                (!waiting.entries.is_empty()).then_some(ripe_at)
            };
            let ripe = async {
                match ripe_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = ripe => {}
                changed = closing.changed() => if changed.is_err() { return None },
            }
        }
    }

    fn take(&self, waiting: &mut Waiting<T>) -> Arc<[T]> {
        let count = waiting.entries.len().min(self.settings.max_batch_size);
        let batch: Arc<[T]> = waiting.entries.drain(..count).collect();
        waiting.bytes -= batch.iter().map(Entry::size).sum::<usize>();
        self.count.left(batch.len());
        waiting.since = Instant::now();
        waiting.told_full = false;
        if waiting.entries.len() * 5 < self.settings.max_entries * 4 {
            waiting.told_filling = false;
        }
        batch
    }

    /// Sends a batch until it arrives or there is no use in trying on.
    async fn deliver(&self, batch: Arc<[T]>, mut closing: Option<&mut watch::Receiver<bool>>) {
        let begun = Instant::now();
        let mut pause = self.settings.initial_retry_delay;
        loop {
            let Err(reason) = (self.send)(batch.clone()).await else { return self.count.sent(batch.len()) };
            if begun.elapsed() >= self.settings.max_retry_time {
                self.count.lost(batch.len());
                error!(entries = batch.len(), reason, "could not send entries, giving up on them");
                return;
            }
            warn!(entries = batch.len(), reason, "could not send entries, trying again");
            let pausing = sleep(pause.min(self.settings.max_retry_delay));
            let closed = async {
                match &mut closing {
                    Some(closing) => drop(closing.wait_for(|closing| *closing).await),
                    None => std::future::pending().await,
                }
                // When the node stops there is no time for long pauses.
                sleep(PAUSE_WHEN_STOPPING).await;
            };
            tokio::select! {
                () = pausing => {}
                () = closed => {}
            }
            pause = pause.saturating_mul(2);
        }
    }
}

async fn run<T: Entry>(shared: Arc<Shared<T>>, mut closing: watch::Receiver<bool>) {
    while let Some(batch) = shared.next_batch(&mut closing).await {
        shared.deliver(batch, Some(&mut closing)).await;
    }
}
