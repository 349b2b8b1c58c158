//! Syslog severities, by which the plugins syslog and loggly tell how an exchange went.

use portcullis_schema::{Field, build};
use serde::Deserialize;

/// How grave something is (RFC 5424 section 6.2.1); graver ones come later.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Debug,
    #[default]
    Info,
    Notice,
    Warning,
    Err,
    Crit,
    Alert,
    Emerg,
}

impl Severity {
    /// As the protocol counts: 0 is the gravest.
    pub fn number(self) -> u8 {
        7 - self as u8
    }
}

/// How grave exchanges are, and from when on they are told.
#[derive(Clone, Copy, Debug)]
pub struct Severities {
    pub least: Severity,
    pub successful: Severity,
    pub client_errors: Severity,
    pub server_errors: Severity,
}

impl Severities {
    /// How grave an answer of this status is; none when it is not to be told.
    pub fn of(&self, status: u16) -> Option<Severity> {
        let severity = match status {
            500.. => self.server_errors,
            400.. => self.client_errors,
            _ => self.successful,
        };
        (severity >= self.least).then_some(severity)
    }
}

pub fn severity() -> Field {
    build::string().default("info").one_of(["debug", "info", "notice", "warning", "err", "crit", "alert", "emerg"])
}
