//! The settings of pre-function and post-function: Lua code by the phase it runs in.

use portcullis_schema::{Check, Field, Fields, build};
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Code for when the certificate of a connection is picked.
    #[field(functions())]
    pub certificate: Vec<String>,
    /// Code for before a route is picked.
    #[field(functions())]
    pub rewrite: Vec<String>,
    /// Code for before a request goes to the upstream.
    #[field(functions())]
    pub access: Vec<String>,
    /// Code for when the head of a response is there.
    #[field(functions())]
    pub header_filter: Vec<String>,
    /// Code for every piece of a response's body.
    #[field(functions())]
    pub body_filter: Vec<String>,
    /// Code for when a response is over.
    #[field(functions())]
    pub log: Vec<String>,
}

fn functions() -> Field {
    build::array(build::string()).required().default([""; 0])
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
