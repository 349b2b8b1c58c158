//! What users set.

use portcullis_schema::{Field, Fields, build};
use serde::Deserialize;
use serde_json::Value;

use crate::header_name::{check_header, check_renamed};

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// What is taken out.
    #[field(record::<Names>().required())]
    pub remove: Names,
    /// What gets another name: `old:new`.
    #[field(record::<Renames>().required())]
    pub rename: Renames,
    /// What gets another value where it is there: `name:value`.
    #[field(record::<Pairs>().required())]
    pub replace: Pairs,
    /// What is added where it is not there: `name:value`.
    #[field(record::<Pairs>().required())]
    pub add: Pairs,
    /// What is added to what may be there: `name:value`.
    #[field(record::<Pairs>().required())]
    pub append: Pairs,
}

#[derive(Debug, Default, Deserialize, Fields)]
pub struct Names {
    /// Fields at the top level of a JSON body.
    #[field(list(string()))]
    pub json: Vec<String>,
    /// Response headers.
    #[field(list(string()))]
    pub headers: Vec<String>,
}

#[derive(Debug, Default, Deserialize, Fields)]
pub struct Renames {
    /// Fields at the top level of a JSON body.
    #[field(list(pair()))]
    pub json: Vec<String>,
    /// Response headers.
    #[field(list(pair().custom(check_renamed)))]
    pub headers: Vec<String>,
}

#[derive(Debug, Default, Deserialize, Fields)]
pub struct Pairs {
    /// Fields at the top level of a JSON body.
    #[field(list(pair()))]
    pub json: Vec<String>,
    /// The type of each value in `json`, in the same order; what has none stays text.
    #[field(list(string().one_of(["boolean", "number", "string"])))]
    pub json_types: Vec<JsonType>,
    /// Response headers.
    #[field(list(pair().custom(check_header)))]
    pub headers: Vec<String>,
}

/// What a configured text becomes in a JSON body.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum JsonType {
    Boolean,
    Number,
    String,
}

/// A list that is there even when nothing was given.
fn list(elements: Field) -> Field {
    build::array(elements).required().default(Value::Array(Vec::new()))
}

/// `name:value`.
fn pair() -> Field {
    build::string().matches("^[^:]+:.*$", "(?s)^[^:]+:.*$")
}
