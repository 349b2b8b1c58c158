//! The data plane: from a request head to the last byte of its answer.
//!
//! Serves from an immutable [`snapshot::Snapshot`] and never waits for the control plane. Knows entities and the plugin
//! contract, but no plugin: it is handed a list of entries. Stands on `wire` for bytes.
//!
//! - [`gateway`]: what workers share and what each has of its own
//! - [`serve`]: the life of a request
//! - [`snapshot`]: the configuration compiled for serving, and the builder that makes it
//! - [`plan`]: which plugin instances run, in which order
//! - [`router`]: which route answers
//! - [`access_log`]: a line for every request, on its way off the worker threads
//! - [`balancer`], [`dns`]: which address is asked
//! - [`vault`]: secrets that configuration refers to
//! - [`settings`]: the part of the configuration file that matters here

pub mod access_log;
pub mod balancer;
pub mod dns;
pub mod gateway;
pub mod plan;
pub mod router;
pub mod serve;
pub mod settings;
pub mod snapshot;
pub mod vault;
