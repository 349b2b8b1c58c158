//! Counters in Redis that many nodes add to.
//!
//! [`Counts::add`] is one script, so what a decision needs to know and what it changes happen at once. The keys of one decision
//! share a hash tag: they live on one node of a cluster. With a `sync_rate`, [`Batched`] decides by what it knows and tells the
//! server every so often.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ::redis::Script;
use foldhash::fast::RandomState;
use tracing::warn;

use super::link::Link;

/// Adds to every key, which goes away by itself; answers the sums.
const ADD: &str = "local sums = {} \
    for at, key in ipairs(KEYS) do \
      local by = tonumber(ARGV[2 * at - 1]) \
      if by == 0 then \
        sums[at] = tonumber(redis.call('GET', key) or 0) \
      else \
        local sum = redis.call('INCRBY', key, ARGV[2 * at - 1]) \
        if sum == by then redis.call('EXPIRE', key, ARGV[2 * at]) end \
        sums[at] = sum \
      end \
    end \
    return sums";

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(ADD));

/// What is added to one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    pub key: String,
    /// Zero reads.
    pub by: i64,
    /// Seconds a new counter lives.
    pub lives: u64,
}

/// Adds, in one step; answers the sums in the same order.
pub async fn add(link: &Arc<Link>, additions: Vec<Addition>) -> Result<Vec<i64>, String> {
    link.run(move |mut connection| async move {
        let mut script = SCRIPT.prepare_invoke();
        for addition in &additions {
            script.key(addition.key.as_str());
            script.arg(addition.by).arg(addition.lives);
        }
        script.invoke_async(&mut connection).await
    })
    .await
}

const SHARDS: usize = 64;
/// A million counters in all; more and those are forgotten that have nothing to tell the server.
const MOST_PER_SHARD: usize = 16_384;

/// What this node knows of counters it adds to in batches.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The sum at the server when it was last told.
    sum: i64,
    /// Added since.
    added: i64,
    lives: u64,
    /// Seconds since the epoch after which it is over.
    ends: u64,
}

/// Counters of one server that are told of in batches.
pub struct Batched {
    link: Arc<Link>,
    shards: Vec<Mutex<HashMap<String, Known, RandomState>>>,
    seed: RandomState,
}

impl Batched {
    /// Starts telling the server every `rate`, for as long as the returned value is held.
    pub fn start(link: Arc<Link>, rate: Duration, runtime: &tokio::runtime::Handle) -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let batched = Arc::new(Self { link, shards, seed: RandomState::default() });
        runtime.spawn(keep_telling(Arc::downgrade(&batched), rate));
        batched
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, HashMap<String, Known, RandomState>> {
        self.shards[self.seed.hash_one(key) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sum as far as this node knows; none if it has not asked yet.
    pub fn known(&self, key: &str) -> Option<i64> {
        self.shard(key).get(key).map(|known| known.sum + known.added)
    }

    /// Asks the server for the sums of these keys.
    pub async fn ask(&self, additions: Vec<Addition>, ends: u64) -> Result<(), String> {
        let asked = additions.iter().map(|addition| Addition { by: 0, ..addition.clone() }).collect();
        let sums = add(&self.link, asked).await?;
        for (addition, sum) in additions.into_iter().zip(sums) {
            let mut shard = self.shard(&addition.key);
            if shard.len() >= MOST_PER_SHARD {
                shard.retain(|_, known| known.added > 0);
            }
            let known = shard.entry(addition.key).or_insert(Known { lives: addition.lives, ends, ..Known::default() });
            known.sum = sum;
        }
        Ok(())
    }

    /// Adds here; the server hears of it with the next batch.
    pub fn add(&self, addition: &Addition, ends: u64) {
        let mut shard = self.shard(&addition.key);
        let fresh = Known { lives: addition.lives, ends, ..Known::default() };
        match shard.get_mut(&addition.key) {
            Some(known) => known.added += addition.by,
            None => _ = shard.insert(addition.key.clone(), Known { added: addition.by, ..fresh }),
        }
    }

    /// Tells the server what was added since, and learns the sums.
    async fn tell(&self, now: u64) {
        let mut additions = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, known| known.added > 0 || known.ends > now);
            // Counters nobody added to are asked for, too: other nodes may have.
            additions.extend(shard.iter().map(|(key, known)| Addition { key: key.clone(), by: known.added, lives: known.lives }));
        }
        // In a cluster every key has to go on its own; one connection takes them all without waiting in between.
        let telling = additions.into_iter().map(|addition| async move {
            let sums = add(&self.link, vec![addition.clone()]).await?;
            let mut shard = self.shard(&addition.key);
            if let Some(known) = shard.get_mut(&addition.key) {
                known.added -= addition.by;
                known.sum = sums.first().copied().unwrap_or(known.sum);
            }
            Ok::<(), String>(())
        });
        for told in futures_util::future::join_all(telling).await {
            if let Err(error) = told {
                warn!(error, "counts stay on this node until redis answers");
                return;
            }
        }
    }
}

async fn keep_telling(batched: Weak<Batched>, rate: Duration) {
    let mut tick = tokio::time::interval(rate);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(batched) = batched.upgrade() else { return };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        batched.tell(now).await;
    }
}
