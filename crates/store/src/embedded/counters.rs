//! Counters in the file: written by the writing thread, without waiting for the disk.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::fault;
use crate::StoreError;
use crate::counters::{Counted, Counter};

/// Expired counters removed in one transaction.
const SWEPT: i64 = 10_000;

/// What each counter held; then adds to all of them, unless one holds its bound.
pub(super) fn count(connection: &mut Connection, of: Counted, counters: &[Counter], now: u64) -> Result<Vec<u64>, StoreError> {
    let failed = |error: rusqlite::Error| StoreError::Unavailable(fault::explain(&error));
    // Counts that a power cut takes are no loss, and a sync for each request would be felt.
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
    let counted = run(connection, of, counters, now).map_err(failed);
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    counted
}

fn run(connection: &mut Connection, of: Counted, counters: &[Counter], now: u64) -> rusqlite::Result<Vec<u64>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut held = Vec::with_capacity(counters.len());
    {
        let mut find = transaction.prepare_cached(
            "SELECT value FROM _counters WHERE identifier = ?1 AND period = ?2 AND start = ?3 AND service = ?4 AND route = ?5 AND kind = ?6",
        )?;
        for Counter { identifier, period, start, service, route, .. } in counters {
            let key = params![identifier, period, *start as i64, service.as_bytes(), route.as_bytes(), of.table()];
            let value: Option<i64> = find.query_row(key, |row| row.get(0)).optional()?;
            held.push(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0));
        }
        if counters.iter().zip(&held).all(|(counter, held)| (*held as f64) < counter.bound) {
            let mut add = transaction.prepare_cached(
                "INSERT INTO _counters (identifier, period, start, service, route, kind, value, expires_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
                 ON CONFLICT (identifier, period, start, service, route, kind) DO UPDATE SET value = value + excluded.value",
            )?;
            for Counter { identifier, period, start, service, route, by, lives, .. } in counters.iter().filter(|counter| counter.by != 0) {
                let expires_at = now.saturating_add(lives.saturating_mul(1000)) as i64;
                let (service, route) = (service.as_bytes(), route.as_bytes());
                add.execute(params![identifier, period, *start as i64, service, route, of.table(), *by, expires_at])?;
            }
        }
    }
    transaction.commit()?;
    Ok(held)
}

/// Removes expired counters, a bounded number at a time.
pub(super) fn sweep(connection: &Connection, now: u64) -> rusqlite::Result<()> {
    let sql = "DELETE FROM _counters WHERE (identifier, period, start, service, route, kind) IN \
               (SELECT identifier, period, start, service, route, kind FROM _counters WHERE expires_at <= ?1 LIMIT ?2)";
    while connection.execute(sql, params![now as i64, SWEPT])? as i64 == SWEPT {}
    Ok(())
}
