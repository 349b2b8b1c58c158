//! The settings of a queue, as users give them.

use std::time::Duration;

use portcullis_schema::{Field, Fields, build};
use serde::Deserialize;

use crate::deprecation::deprecated;

#[derive(Clone, Debug, Deserialize, Fields)]
pub struct Queue {
    /// Entries sent at once at most.
    #[field(integer().between(1, 1_000_000).default(1))]
    pub max_batch_size: Option<usize>,
    /// Seconds the first entry of a batch waits for others.
    #[field(number().between(0, 3600).default(1))]
    pub max_coalescing_delay: Option<f64>,
    /// Entries held at most; the oldest go first.
    #[field(integer().between(1, 1_000_000).default(10_000))]
    pub max_entries: Option<usize>,
    /// Bytes of entries held at most.
    #[field(integer())]
    pub max_bytes: Option<i64>,
    /// Seconds after which a batch that cannot be sent is given up.
    #[field(number().default(60))]
    pub max_retry_time: Option<f64>,
    /// Seconds before a batch is sent again for the first time; twice as many each time after.
    #[field(number().between(0.001, 1_000_000).default(0.01))]
    pub initial_retry_delay: Option<f64>,
    /// Seconds between two tries at most.
    #[field(number().between(0.001, 1_000_000).default(60))]
    pub max_retry_delay: Option<f64>,
    /// Batches under way at once: one, or -1 for as many as there are requests, without a queue.
    #[field(integer().one_of([-1, 1]).default(1))]
    pub concurrency_limit: Option<i64>,
}

/// The same, complete and with units.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub max_batch_size: usize,
    pub max_coalescing_delay: Duration,
    pub max_entries: usize,
    pub max_bytes: Option<usize>,
    pub max_retry_time: Duration,
    pub initial_retry_delay: Duration,
    pub max_retry_delay: Duration,
    /// None: entries are not queued, each is sent at once.
    pub concurrency_limit: Option<usize>,
}

impl From<&Queue> for Settings {
    fn from(given: &Queue) -> Self {
        Self {
            max_batch_size: given.max_batch_size.unwrap_or(1).max(1),
            max_coalescing_delay: seconds(given.max_coalescing_delay, 1.0),
            max_entries: given.max_entries.unwrap_or(10_000).max(1),
            max_bytes: given.max_bytes.and_then(|bytes| usize::try_from(bytes).ok()),
            max_retry_time: seconds(given.max_retry_time, 60.0),
            initial_retry_delay: seconds(given.initial_retry_delay, 0.01),
            max_retry_delay: seconds(given.max_retry_delay, 60.0),
            concurrency_limit: given.concurrency_limit.unwrap_or(1).try_into().ok(),
        }
    }
}

/// What a plugin's settings from before there were queues are when nobody chose them.
#[derive(Clone, Copy, Debug)]
pub struct OldDefaults {
    pub batch_size: i64,
    /// In seconds.
    pub delay: f64,
}

/// Of `queue_size` and `flush_timeout`.
pub const OLD_DEFAULTS: OldDefaults = OldDefaults { batch_size: 1, delay: 2.0 };

impl Settings {
    /// Settings from before there were queues win over the queue's own, unless they hold what was their default then.
    pub fn with_older(mut self, batch_size: Option<i64>, delay_secs: Option<f64>, defaults: OldDefaults) -> Self {
        if let Some(size) = batch_size.filter(|size| *size != defaults.batch_size) {
            self.max_batch_size = usize::try_from(size).unwrap_or(1).max(1);
        }
        if let Some(delay) = delay_secs.filter(|delay| *delay != defaults.delay) {
            self.max_coalescing_delay = seconds(Some(delay), defaults.delay);
        }
        self
    }
}

/// A time in seconds; what is no time is none at all, what is beyond a century is that.
fn seconds(given: Option<f64>, default: f64) -> Duration {
    const CENTURY: f64 = 3_155_760_000.0;
    Duration::try_from_secs_f64(given.unwrap_or(default).clamp(0.0, CENTURY)).unwrap_or_default()
}

/// A setting from before there were queues: how often a plugin tried to send.
pub fn retry_count(plugin: &str) -> Field {
    let message = format!("{plugin}: config.retry_count no longer works, please use config.queue.max_retry_time instead");
    deprecated(build::integer(), message, 10)
}

/// A setting from before there were queues: how much was sent at once.
pub fn queue_size(plugin: &str) -> Field {
    let message = format!("{plugin}: config.queue_size is deprecated, please use config.queue.max_batch_size instead");
    deprecated(build::integer(), message, 1)
}

/// A setting from before there were queues: how many seconds the first entry waited.
pub fn flush_timeout(plugin: &str) -> Field {
    let message = format!("{plugin}: config.flush_timeout is deprecated, please use config.queue.max_coalescing_delay instead");
    deprecated(build::number(), message, 2)
}
