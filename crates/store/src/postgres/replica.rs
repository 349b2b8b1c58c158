//! A read-only copy of the server, asked by those who can do with what was there a moment ago.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connect::{Connections, Server};
use crate::transact::Fault;

/// How long one that failed is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(5);

pub(super) struct Replica {
    pub connections: Connections,
    failed_at: Mutex<Option<Instant>>,
}

impl Replica {
    pub fn new(server: Server) -> Result<Self, String> {
        Ok(Self { connections: Connections::new(server)?, failed_at: Mutex::new(None) })
    }

    pub fn is_worth_asking(&self) -> bool {
        let failed_at = self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        failed_at.is_none_or(|at| at.elapsed() > LEFT_ALONE)
    }

    /// Leaves it alone for a while: those who would ask it ask the server instead.
    pub fn has_failed(&self, fault: &Fault) {
        tracing::warn!(
            replica = self.connections.server.address(),
            ?fault,
            "the read-only replica does not answer: the server itself is asked"
        );
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}
