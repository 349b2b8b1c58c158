//! The settings of pre-function and post-function: Lua code by the phase it runs in.

use std::sync::Arc;

use portcullis_plugin::script::{self, Functions};
use portcullis_plugin::{Handler, Instance, Result};
use portcullis_schema::{Check, Field, Fields, build};
use serde::Deserialize;
use serde_json::Value;

/// The settings of post-function if `POST`, else of pre-function: complaints name the plugin.
#[derive(Debug, Deserialize, Fields)]
pub struct Config<const POST: bool> {
    /// Code for when the certificate of a connection is picked.
    #[field(functions::<POST>())]
    pub certificate: Vec<String>,
    /// Code for before a route is picked.
    #[field(functions::<POST>())]
    pub rewrite: Vec<String>,
    /// Code for before a request goes to the upstream.
    #[field(functions::<POST>())]
    pub access: Vec<String>,
    /// Code for when the head of a response is there.
    #[field(functions::<POST>())]
    pub header_filter: Vec<String>,
    /// Code for every piece of a response's body.
    #[field(functions::<POST>())]
    pub body_filter: Vec<String>,
    /// Code for when a response is over.
    #[field(functions::<POST>())]
    pub log: Vec<String>,
}

fn functions<const POST: bool>() -> Field {
    build::array(build::string().len_min(1).custom(parsed::<POST>)).required().default([""; 0])
}

const fn name<const POST: bool>() -> &'static str {
    if POST { "post-function" } else { "pre-function" }
}

/// Complains about code that cannot be parsed. A program without an engine takes any.
fn parsed<const POST: bool>(code: &Value) -> std::result::Result<(), String> {
    let (Some(engine), Some(code)) = (script::engine(), code.as_str()) else { return Ok(()) };
    engine.check(code).map_err(|problem| format!("error parsing {}: {problem}", name::<POST>()))
}

/// Makes the handler that runs the code.
pub fn handler<const POST: bool>(config: Config<POST>, instance: &Instance) -> Result<Arc<dyn Handler>> {
    let Some(engine) = script::engine() else { return Err("there is no Lua in this program".into()) };
    let Config { certificate: _, rewrite, access, header_filter, body_filter, log } = config;
    engine.functions(name::<POST>(), Functions { rewrite, access, header_filter, body_filter, log }, instance)
}

pub fn checks() -> Vec<Check> {
    vec![Check::AtLeastOneOf(vec![
        "config.certificate",
        "config.rewrite",
        "config.access",
        "config.header_filter",
        "config.body_filter",
        "config.log",
    ])]
}
