//! Postgres' failures in an operator's words, one line each.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::transact::Fault;

/// Why a database cannot be used, one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Nobody answers, or not now: it may be back any moment.
    #[error("{0}")]
    Away(String),
    /// It answers, and waiting would not help: a wrong password, no such database, tables of another version.
    #[error("{0}")]
    Unfit(String),
}

impl Trouble {
    /// The same with more words around it.
    pub fn map(self, words: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Away(cause) => Self::Away(words(cause)),
            Self::Unfit(cause) => Self::Unfit(words(cause)),
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        // Shutting down, starting up, too many connections, out of memory or disk.
        let passes = |state: &SqlState| ["57", "58", "53", "08"].iter().any(|class| state.code().starts_with(class));
        match error.code() {
            Some(state) if !passes(state) => Self::Unfit(explain(&error)),
            _ => Self::Away(explain(&error)),
        }
    }
}

/// One line that says what happened.
pub(super) fn explain(error: &Error) -> String {
    let text = match error.as_db_error() {
        Some(told) => format!("postgres: {} ({})", told.message(), told.code().code()),
        None => {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("postgres: {error}{cause}")
        }
    };
    text.replace('\n', " ")
}

/// Somebody else wrote at the same time: run again, the transaction sees what they did.
pub(super) fn is_conflict(error: &Error) -> bool {
    const CONFLICTS: [SqlState; 4] =
        [SqlState::UNIQUE_VIOLATION, SqlState::FOREIGN_KEY_VIOLATION, SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
    error.code().is_some_and(|code| CONFLICTS.contains(code))
}

pub(super) fn timed_out() -> String {
    "postgres: no answer within pg_timeout".to_owned()
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Broken(explain(&error))
    }
}
