//! Counters in Kong's own tables, which Kong's nodes count in too: one statement a decision.

use uuid::Uuid;

use super::connect::Connections;
use super::read::within;
use crate::counters::{Counted, Counter};
use crate::transact::Fault;

/// What each counter held; then adds to all of them, unless one holds its bound.
///
/// Rows are added in the order given, so that statements which add to the same rows cannot wait for each other in a circle. The
/// commit doesn't wait for the disk: counts that a power cut takes are no loss.
pub(super) async fn count(connections: Connections, of: Counted, counters: Vec<Counter>) -> Result<Vec<u64>, Fault> {
    let table = of.table();
    // Kong keeps how long a row lives for one of the two.
    let (column, value) = match of {
        Counted::Requests => (", ttl", ", now() + make_interval(secs => lives)"),
        Counted::Responses => ("", ""),
    };
    let sql = format!(
        "WITH soon AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS commit), \
         wanted AS ( \
           SELECT identifier, period, to_timestamp(start) AS period_date, service_id, route_id, by, bound, lives, at \
           FROM unnest($1::text[], $2::text[], $3::float8[], $4::uuid[], $5::uuid[], $6::int4[], $7::float8[], $8::float8[]) \
           WITH ORDINALITY AS w (identifier, period, start, service_id, route_id, by, bound, lives, at)), \
         found AS MATERIALIZED ( \
           SELECT wanted.*, coalesce(m.value, 0) AS held FROM wanted \
           LEFT JOIN {table} m USING (identifier, period, period_date, service_id, route_id)), \
         added AS ( \
           INSERT INTO {table} AS m (identifier, period, period_date, service_id, route_id, value{column}) \
           SELECT identifier, period, period_date, service_id, route_id, by{value} FROM found, soon \
           WHERE by > 0 AND soon.commit IS NOT NULL AND NOT EXISTS (SELECT 1 FROM found WHERE held >= bound) ORDER BY at \
           ON CONFLICT (identifier, period, period_date, service_id, route_id) DO UPDATE SET value = m.value + EXCLUDED.value) \
         SELECT held FROM found ORDER BY at"
    );
    let identifiers: Vec<&str> = counters.iter().map(|counter| counter.identifier.as_str()).collect();
    let periods: Vec<&str> = counters.iter().map(|counter| counter.period.as_str()).collect();
    let starts: Vec<f64> = counters.iter().map(|counter| counter.start as f64).collect();
    let services: Vec<Uuid> = counters.iter().map(|counter| counter.service).collect();
    let routes: Vec<Uuid> = counters.iter().map(|counter| counter.route).collect();
    let by: Vec<i32> = counters.iter().map(|counter| i32::try_from(counter.by).unwrap_or(i32::MAX)).collect();
    let bounds: Vec<f64> = counters.iter().map(|counter| counter.bound).collect();
    let lives: Vec<f64> = counters.iter().map(|counter| counter.lives as f64).collect();

    let connection = connections.get().await.map_err(Fault::Broken)?;
    let rows = within(connections.server.timeout, async {
        let statement = connection.client.prepare_cached(&sql).await?;
        connection.client.query(&statement, &[&identifiers, &periods, &starts, &services, &routes, &by, &bounds, &lives]).await
    })
    .await?;
    let held = rows.iter().map(|row| row.try_get::<_, i32>(0).map(|held| u64::try_from(held).unwrap_or(0)));
    held.collect::<Result<_, _>>().map_err(|error| Fault::Broken(super::fault::explain(&error)))
}
