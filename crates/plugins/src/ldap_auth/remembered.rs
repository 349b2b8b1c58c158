//! Outcomes of logins, remembered for a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::{hmac, rand};

/// How many outcomes a shard holds at most.
const SHARD: usize = 4096;
const SHARDS: usize = 16;

/// Names and passwords stand here as keyed hashes only; the key is made up anew for each instance.
pub struct Remembered {
    key: hmac::Key,
    ttl: Duration,
    shards: [Mutex<HashMap<Digest, (bool, Instant)>>; SHARDS],
}

pub type Digest = [u8; 32];

impl Remembered {
    /// Errors if the system has no random numbers.
    pub fn new(ttl: Duration) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new())?;
        Ok(Self { key, ttl, shards: std::array::from_fn(|_| Mutex::default()) })
    }

    /// What stands for a name and a password.
    pub fn digest(&self, name: &[u8], password: &[u8]) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        // The length keeps ("ab", "c") apart from ("a", "bc").
        context.update(&(name.len() as u64).to_be_bytes());
        context.update(name);
        context.update(password);
        let mut digest = Digest::default();
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    fn shard<T>(&self, digest: &Digest, work: impl FnOnce(&mut HashMap<Digest, (bool, Instant)>) -> T) -> T {
        let shard = &self.shards[usize::from(digest[0]) % SHARDS];
        work(&mut shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn find(&self, digest: &Digest, now: Instant) -> Option<bool> {
        self.shard(digest, |outcomes| outcomes.get(digest).filter(|(_, until)| now < *until).map(|(accepted, _)| *accepted))
    }

    pub fn keep(&self, digest: Digest, accepted: bool, now: Instant) {
        if self.ttl.is_zero() {
            return;
        }
        self.shard(&digest, |outcomes| {
            if outcomes.len() >= SHARD {
                outcomes.retain(|_, (_, until)| now < *until);
            }
            if outcomes.len() >= SHARD {
                outcomes.clear();
            }
            outcomes.insert(digest, (accepted, now + self.ttl));
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn outcomes_are_remembered_for_their_time() {
        let remembered = Remembered::new(Duration::from_secs(60)).unwrap();
        let (now, digest) = (Instant::now(), remembered.digest(b"anna", b"secret"));
        assert_eq!(remembered.find(&digest, now), None);
        remembered.keep(digest, true, now);
        assert_eq!(remembered.find(&digest, now + Duration::from_secs(59)), Some(true));
        assert_eq!(remembered.find(&digest, now + Duration::from_secs(60)), None);
        assert_ne!(digest, remembered.digest(b"annas", b"ecret"));
    }

    #[test]
    fn a_flood_of_logins_finds_a_bound() {
        let remembered = Remembered::new(Duration::from_secs(60)).unwrap();
        let now = Instant::now();
        for at in 0..3 * SHARD * SHARDS / 2 {
            let mut digest = Digest::default();
            digest[..8].copy_from_slice(&at.to_le_bytes());
            remembered.keep(digest, false, now);
        }
        assert!(remembered.shards.iter().all(|shard| shard.lock().unwrap().len() <= SHARD));
    }
}
