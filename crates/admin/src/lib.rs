//! The Admin API and the Status API.
//!
//! Most of it is made from schemas: [`table`] walks the catalog and gives every entity its collection, its items and its
//! nested paths, all served by the few functions of [`crud`]. What Kong does differently for one entity stands in
//! `overrides/`, which replaces single verbs and calls the generated rest. [`serve`] is what every request goes through:
//! finding the endpoint, reading the body ([`body`]), the headers and the error bodies that all answers share.
//!
//! The crate knows neither the proxy nor any plugin: rows come and go through [`Store`] and [`Writer`], and what only the
//! running process knows comes from [`Node`]. It must never answer with the cause of an error of ours: that goes to the
//! log.

mod answer;
mod body;
mod bulk;
mod call;
mod clustering;
mod config;
mod crud;
mod enabled;
mod etag;
mod form;
mod nested;
mod node;
mod openapi;
mod overrides;
mod page;
mod references;
mod rows;
mod serve;
mod state;
mod status;
mod table;

pub use answer::Answer;
pub use call::Call;
pub use portcullis_store::BoxFuture;
pub use state::{
    AddressHealth, AdminState, Connections, Extension, ExtensionHandler, HostHealth, Memory, Metrics, Node, Settings, UpstreamHealth,
    Writer,
};

/// The Admin API: everything under `admin_listen`.
pub fn admin(state: AdminState) -> axum::Router {
    let table = table::admin(&state.catalog, &state.extensions);
    serve::router(rows::Admin::new(state), table, serve::Surface::Admin)
}

/// The Status API: what a monitor may read, under `status_listen`.
pub fn status(state: AdminState) -> axum::Router {
    let table = table::status(&state.catalog, !state.store.writable());
    serve::router(rows::Admin::new(state), table, serve::Surface::Status)
}
