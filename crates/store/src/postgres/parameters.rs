//! The table `parameters`: what the database says of itself. Its rows have no id, so they are no rows like others.

use super::connect::Connections;
use super::read::within;
use crate::Parameters;
use crate::transact::Fault;

pub(super) async fn all(connections: Connections) -> Result<Parameters, Fault> {
    let connection = connections.get().await.map_err(Fault::Broken)?;
    let asked = connection.client.query("SELECT key, value FROM parameters ORDER BY key", &[]);
    let rows = within(connections.server.timeout, asked).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

pub(super) async fn set(connections: Connections, parameters: Parameters) -> Result<(), Fault> {
    let connection = connections.get().await.map_err(Fault::Broken)?;
    let (keys, values): (Vec<String>, Vec<String>) = parameters.into_iter().unzip();
    let sql = "INSERT INTO parameters (key, value) SELECT * FROM unnest($1::text[], $2::text[]) \
               ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value";
    within(connections.server.timeout, connection.client.execute(sql, &[&keys, &values])).await.map(drop)
}
