//! The bundled plugins: a folder each, a line each in [`ALL`].
//!
//! A folder holds the typed configuration, the handler, the plugin's own entities and its tests; its page for users is
//! `docs/plugins/<name>.md`. To add a plugin, write the folder, the page and the line.
//!
//! - [`auth`]: what all authenticating plugins share: identity headers, anonymous consumers, challenges
//! - [`arguments`]: query arguments and form fields looked up and removed without taking the rest apart
//! - [`body`]: request bodies of the three types that carry fields
//! - [`number`]: numbers as header text
//! - [`queue`]: what waits to be sent to log, metrics and trace servers
//! - [`serialize`]: a finished exchange as log plugins tell it
//!
//! Stands on `plugin` only; the proxy is handed the list and knows no plugin by name.

mod arguments;
mod auth;
mod body;
mod number;
pub mod queue;
mod serialize;

pub mod acl;
pub mod correlation_id;
pub mod cors;
pub mod http_log;
pub mod ip_restriction;
pub mod key_auth;
pub mod prometheus;
pub mod rate_limiting;
pub mod request_termination;
pub mod request_transformer;

use portcullis_plugin::Entry;

/// Every bundled plugin, by name. The order of execution comes from their priorities.
pub const ALL: &[Entry] = &[
    Entry::of::<acl::Acl>(),
    Entry::of::<correlation_id::CorrelationId>(),
    Entry::of::<cors::Cors>(),
    Entry::of::<http_log::HttpLog>(),
    Entry::of::<ip_restriction::IpRestriction>(),
    Entry::of::<key_auth::KeyAuth>(),
    Entry::of::<prometheus::Prometheus>(),
    Entry::of::<rate_limiting::RateLimiting>(),
    Entry::of::<request_termination::RequestTermination>(),
    Entry::of::<request_transformer::RequestTransformer>(),
];

#[cfg(test)]
mod tests;
