//! Targets: the addresses behind an upstream.

use portcullis_schema::address::{Host, full_v6, parse_host};
use portcullis_schema::{Fields, Record, Schema, Transform, Violations};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{Entity, Ref};

/// The port of targets that name none.
pub const DEFAULT_PORT: u16 = 8000;

/// An address that requests to an upstream may go to.
#[derive(Clone, Debug, Deserialize, Fields)]
pub struct Target {
    /// The target's id.
    #[field(id())]
    pub id: Uuid,
    /// When it was made, in seconds since the epoch, to the millisecond.
    #[field(auto_timestamp_ms())]
    pub created_at: Option<f64>,
    /// When it was last changed, in seconds since the epoch, to the millisecond.
    #[field(auto_timestamp_ms())]
    pub updated_at: Option<f64>,
    /// The upstream it stands behind.
    #[field(foreign_cascade("upstreams").required())]
    pub upstream: Ref,
    /// Host or address, with a port.
    #[field(string().required().custom(check_target))]
    pub target: String,
    /// Its share of requests among the upstream's targets. Zero takes it out.
    #[field(integer().between(0, 65535).default(100))]
    pub weight: Option<u32>,
    /// Labels to filter by.
    #[field(tags())]
    pub tags: Option<Vec<String>>,
}

impl Entity for Target {
    const NAME: &'static str = "targets";
    const ENDPOINT_KEY: Option<&'static str> = Some("target");

    fn schema() -> Schema {
        let normalize = Transform { inputs: &["target"], needs: &[], apply: normalize_target };
        Schema { cache_key: &["upstream", "target"], transforms: vec![normalize], ..Self::base() }
    }
}

fn check_target(value: &Value) -> Result<(), String> {
    value.as_str().map_or(Ok(()), |target| match normalized(target) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("Invalid target ('{target}'); not a valid hostname or ip address")),
    })
}

fn normalize_target(record: &mut Record) -> Result<(), Violations> {
    if let Some(Value::String(target)) = record.get_mut("target") {
        *target = normalized(target).map_err(|complaint| Violations::of("target", complaint))?;
    }
    Ok(())
}

/// A target in the one form it is kept in: `host:port`, addresses written plainly or in full. Errors in Kong's words.
pub fn normalized(target: &str) -> Result<String, String> {
    let (host, port) = parse_host(target).map_err(|_| "Invalid target; not a valid hostname or ip address".to_owned())?;
    let port = port.unwrap_or(DEFAULT_PORT);
    Ok(match host {
        Host::Name(name) => format!("{name}:{port}"),
        Host::V4(address) => format!("{address}:{port}"),
        Host::V6(address) => format!("[{}]:{port}", full_v6(address)),
    })
}
