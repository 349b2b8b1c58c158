//! The settings of pre-function and post-function: Lua code by the phase it runs in.

use std::sync::Arc;

use portcullis_plugin::script::{self, Functions};
use portcullis_plugin::{Exchange, Handler, Head, Instance, Phases, Request, Result, Step};
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

/// post-function if `POST`, else pre-function: the engine's handler that runs the code.
pub struct Code<const POST: bool>(Arc<dyn Handler>);

impl<const POST: bool> Code<POST> {
    /// Errors when this program has no engine, or the engine cannot take the code.
    pub fn of(config: Config<POST>, instance: &Instance) -> Result<Self> {
        let Some(engine) = script::engine() else { return Err("there is no Lua in this program".into()) };
        let Config { certificate: _, rewrite, access, header_filter, body_filter, log } = config;
        engine.functions(name::<POST>(), Functions { rewrite, access, header_filter, body_filter, log }, instance).map(Self)
    }
}

impl<const POST: bool> Handler for Code<POST> {
    fn phases(&self) -> Phases {
        self.0.phases()
    }

    fn body_limit(&self, request: &Request) -> Option<u64> {
        self.0.body_limit(request)
    }

    fn rewrite<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        self.0.rewrite(request)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        self.0.access(request)
    }

    fn header_filter(&self, head: &mut Head<'_>) -> Result<()> {
        self.0.header_filter(head)
    }

    fn body_filter(&self, request: &mut Request, chunk: &mut Vec<u8>, last: bool) -> Result<()> {
        self.0.body_filter(request, chunk, last)
    }

    fn log(&self, exchange: &Exchange<'_>) {
        self.0.log(exchange);
    }
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
