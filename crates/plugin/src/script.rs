//! Code in configuration: what plugins need of the language it is written in, without knowing the language.
//!
//! The one [`Engine`] of a process is set before any configuration is read. It is a global because checks of schemas are plain
//! functions: there is nothing else they could ask whether a piece of code can be parsed.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::{Exchange, Handler, Instance, Request, Result};

static ENGINE: OnceLock<Box<dyn Engine>> = OnceLock::new();

/// Code by the phase it runs in. Every piece may give a function, which is then called in its place from then on.
#[derive(Clone, Debug, Default)]
pub struct Functions {
    pub rewrite: Vec<String>,
    pub access: Vec<String>,
    pub header_filter: Vec<String>,
    pub body_filter: Vec<String>,
    pub log: Vec<String>,
}

/// Runs code that users wrote into configuration.
pub trait Engine: Send + Sync {
    /// Whether this can be parsed, and may run at all. Complains in the words that clients are told.
    fn check(&self, code: &str) -> std::result::Result<(), String>;

    /// A handler that runs code in its phases.
    fn functions(&self, plugin: &'static str, code: Functions, instance: &Instance) -> Result<Arc<dyn Handler>>;

    /// Code that gives a value for each finished exchange.
    fn field(&self, code: &str) -> Result<Arc<dyn Field>>;

    /// A worker thread has started: called on it, within its runtime.
    fn worker_started(&self) {}

    /// Called on each worker thread every now and then.
    fn worker_ticked(&self) {}

    /// Text in which each `$(expression)` stands for what it gives. The expressions see `headers`, `query_params`,
    /// `uri_captures` and `shared`.
    fn template(&self, text: &str) -> Result<Arc<dyn Template>>;
}

/// A value computed for each finished exchange, as in `custom_fields_by_lua`.
pub trait Field: Send + Sync {
    /// None (and null) take the field away. An error goes to the log, and the field stays as it is.
    fn value(&self, exchange: &Exchange<'_>) -> Result<Option<Value>>;
}

/// Text computed for each request.
pub trait Template: Send + Sync {
    /// None if an expression stands alone in the text and gives nothing.
    fn text(&self, request: &Request) -> Result<Option<String>>;
}

/// Sets the process's engine. A second one is refused.
pub fn set_engine(engine: Box<dyn Engine>) -> std::result::Result<(), &'static str> {
    ENGINE.set(engine).map_err(|_| "there is an engine already")
}

/// The process's engine, if it has one.
pub fn engine() -> Option<&'static dyn Engine> {
    ENGINE.get().map(|engine| &**engine)
}
