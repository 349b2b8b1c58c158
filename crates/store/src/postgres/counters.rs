//! Counters in Kong's own tables, which Kong's nodes count in too.
//!
//! What a decision needs is looked at first, so that a client which is over its limit, and may be eager, costs no write. Then
//! one statement adds, and is taken back where a node that came between has used up a limit: nodes never pass one together.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::connect::Connections;
use super::read::within;
use crate::counters::{Counted, Counter};
use crate::transact::Fault;

/// Counters of responses that are over, removed in one statement.
const SWEPT: i64 = 1000;

/// What tells counters apart.
const KEY: &str = "identifier, period, period_date, service_id, route_id";

/// What each counter held; then adds to all of them, unless one holds its bound.
///
/// Rows are added in the order given, so that statements which add to the same rows cannot wait for each other in a circle. The
/// commit doesn't wait for the disk: counts that a power cut takes are no loss.
pub(super) async fn count(connections: Connections, of: Counted, counters: Vec<Counter>) -> Result<Vec<u64>, Fault> {
    let table = of.table();
    let wanted = "wanted AS (SELECT identifier, period, to_timestamp(start) AS period_date, service_id, route_id, by, lives, at \
                  FROM unnest($1::text[], $2::text[], $3::float8[], $4::uuid[], $5::uuid[], $6::int4[], $7::float8[]) \
                  WITH ORDINALITY AS w (identifier, period, start, service_id, route_id, by, lives, at))";
    // Kong keeps how long a row lives for one of the two.
    let (column, value) = match of {
        Counted::Requests => (", ttl", ", now() + make_interval(secs => lives)"),
        Counted::Responses => ("", ""),
    };
    let look = format!("WITH {wanted} SELECT coalesce(value, 0)::int8 FROM wanted LEFT JOIN {table} USING ({KEY}) ORDER BY at");
    let add = format!(
        "WITH {wanted}, added AS (INSERT INTO {table} AS m ({KEY}, value{column}) \
         SELECT {KEY}, by{value} FROM wanted WHERE by <> 0 ORDER BY at \
         ON CONFLICT ({KEY}) DO UPDATE SET value = m.value + EXCLUDED.value RETURNING m.*) \
         SELECT coalesce(value - by, 0)::int8 FROM wanted LEFT JOIN added USING ({KEY}) ORDER BY at"
    );
    let identifiers: Vec<&str> = counters.iter().map(|counter| counter.identifier.as_str()).collect();
    let periods: Vec<&str> = counters.iter().map(|counter| counter.period.as_str()).collect();
    let starts: Vec<f64> = counters.iter().map(|counter| counter.start as f64).collect();
    let services: Vec<Uuid> = counters.iter().map(|counter| counter.service).collect();
    let routes: Vec<Uuid> = counters.iter().map(|counter| counter.route).collect();
    let by: Vec<i32> = counters.iter().map(|counter| counter.by).collect();
    let lives: Vec<f64> = counters.iter().map(|counter| counter.lives as f64).collect();
    let values: [&(dyn ToSql + Sync); 7] = [&identifiers, &periods, &starts, &services, &routes, &by, &lives];
    let is_full = |held: &[i64]| counters.iter().zip(held).any(|(counter, held)| *held as f64 >= counter.bound);

    let mut connection = connections.get().await.map_err(Fault::Broken)?;
    let held = within(connections.server.timeout, async {
        let statement = connection.client.prepare_cached(&look).await?;
        let held = numbers(&connection.client.query(&statement, &values).await?)?;
        if is_full(&held) || by.iter().all(|by| *by == 0) {
            return Ok(held);
        }
        let transaction = connection.client.transaction().await?;
        transaction.batch_execute("SET LOCAL synchronous_commit TO off").await?;
        let statement = transaction.prepare_cached(&add).await?;
        let held = numbers(&transaction.query(&statement, &values).await?)?;
        if is_full(&held) {
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
        }
        Ok(held)
    })
    .await?;
    Ok(held.into_iter().map(|held| u64::try_from(held).unwrap_or(0)).collect())
}

fn numbers(rows: &[Row]) -> Result<Vec<i64>, tokio_postgres::Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Removes counters of responses that are over: Kong's table of them, unlike that of requests, has nothing that would.
pub(super) async fn sweep(connections: &Connections) -> Result<(), Fault> {
    let connection = connections.get().await.map_err(Fault::Broken)?;
    let sql = "DELETE FROM response_ratelimiting_metrics WHERE ctid IN (SELECT ctid FROM response_ratelimiting_metrics \
               WHERE period_date < now() - CASE substring(period FROM '[a-z]+$') WHEN 'second' THEN interval '1 second' \
               WHEN 'minute' THEN interval '1 minute' WHEN 'hour' THEN interval '1 hour' WHEN 'day' THEN interval '1 day' \
               WHEN 'month' THEN interval '31 days' ELSE interval '366 days' END LIMIT $1)";
    loop {
        let gone = within(connections.server.timeout, async {
            let statement = connection.client.prepare_cached(sql).await?;
            connection.client.execute(&statement, &[&SWEPT]).await
        });
        if gone.await? < SWEPT as u64 {
            return Ok(());
        }
    }
}
