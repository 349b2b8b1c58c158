//! What users set.

use portcullis_schema::Fields;
use serde::Deserialize;

/// The default of lists that are there even when nothing was given.
const NONE: [&str; 0] = [];

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Regular expressions of user agents that pass, whatever else is said of them.
    #[field(array(string().is_regex()).default(NONE))]
    pub allow: Option<Vec<String>>,
    /// Regular expressions of user agents that are refused, beside the known robots.
    #[field(array(string().is_regex()).default(NONE))]
    pub deny: Option<Vec<String>>,
}
