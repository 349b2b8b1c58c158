//! Syslog severities, by which the plugins syslog and loggly tell how an exchange went.

use portcullis_schema::{Field, build};
use serde::Deserialize;

/// How grave something is (RFC 5424 section 6.2.1); graver ones come later.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Debug,
    Info,
    Notice,
    Warning,
    Err,
    Crit,
    Alert,
    Emerg,
}

pub fn severity() -> Field {
    build::string().default("info").one_of(["debug", "info", "notice", "warning", "err", "crit", "alert", "emerg"])
}
