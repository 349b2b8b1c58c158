//! What a control plane knows of its data planes.

use http::{Method, StatusCode};
use portcullis_store::Filter;
use serde_json::{Map, Value, json};

use crate::Call;
use crate::answer::{Answer, Outcome, Refusal};
use crate::page;
use crate::rows::Admin;
use crate::table::{PlainHandler, Table};

const PAGE: usize = 1000;
const DATA_PLANES: PlainHandler = |admin, call| Box::pin(data_planes(admin, call));
const STATUS: PlainHandler = |admin, _| Box::pin(status(admin));
const CONTROL_PLANE: PlainHandler = |admin, _| {
    Box::pin(async {
        match admin.node.control_plane() {
            true => Ok(Answer::no_content()),
            false => Err(Refusal::message(
                StatusCode::BAD_REQUEST,
                "this endpoint is only available when Kong is configured to run as Control Plane for the cluster",
            )),
        }
    })
};

pub fn endpoints(table: &mut Table) {
    for (pattern, handler) in [("/clustering/data-planes", DATA_PLANES), ("/clustering/status", STATUS)] {
        table.plain(Method::GET, pattern, handler);
        table.at(pattern).before = Some(CONTROL_PLANE);
    }
}

async fn data_planes(admin: &Admin, call: &Call) -> Outcome {
    let schema = admin.schema("clustering_data_planes")?;
    let size = page::size(&call.query)?;
    let after = page::offset(&call.query)?;
    let found = admin.store.page(schema, after, size, Filter::default()).await?;
    let rows = found.rows.into_iter().map(|row| admin.shown(schema, row)).collect();
    let next =
        found.next.map(|id| page::Next { offset: page::encode(&json!([id])), path: call.path.clone(), keep: page::kept(&call.query) });
    page::answer(rows, next)
}

/// The older form, a map by id.
async fn status(admin: &Admin) -> Outcome {
    let schema = admin.schema("clustering_data_planes")?;
    let found = admin.store.page(schema, None, PAGE, Filter::default()).await?;
    let planes = found.rows.into_iter().filter_map(|row| {
        let id = row.get("id")?.as_str()?.to_owned();
        let fact = |name: &str| row.get(name).cloned().unwrap_or(Value::Null);
        Some((
            id,
            json!({ "config_hash": fact("config_hash"), "hostname": fact("hostname"), "ip": fact("ip"), "last_seen": fact("last_seen") }),
        ))
    });
    Ok(Answer::ok(planes.collect::<Map<String, Value>>()).header("deprecation", "true"))
}
