//! What users set.

use portcullis_schema::Fields;
use serde::Deserialize;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The status of the redirect: 301 and 302 let clients turn POST into GET, 307 and 308 do not.
    #[field(integer().required().one_of([301, 302, 307, 308]).default(301))]
    pub status_code: i64,
    /// The port clients are sent to; none for HTTPS's own.
    #[field(port())]
    pub port: Option<u16>,
    /// The hosts this is for, `*.example.com` for all below one; all hosts if not given.
    #[field(array(wildcard_host()))]
    pub hosts: Option<Vec<String>>,
    /// Beginnings of paths that stay reachable without TLS.
    #[field(array(path()))]
    pub exclude_paths: Option<Vec<String>>,
    /// Seconds for which browsers are told to use HTTPS only (`Strict-Transport-Security`); nothing is said if not given.
    #[field(integer().between(0, 63072000))]
    pub hsts_max_age: Option<i64>,
    /// Whether that is for all hosts below this one too.
    #[field(boolean().required().default(false))]
    pub hsts_include_subdomains: bool,
    /// Whether the host may go into the lists that browsers come with.
    #[field(boolean().required().default(false))]
    pub hsts_preload: bool,
}
