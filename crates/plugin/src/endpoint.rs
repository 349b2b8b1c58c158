//! Endpoints that plugins add to the Admin API.

use std::future::Future;
use std::pin::Pin;

use portcullis_schema::Record;

use crate::{Answer, Env};

/// A request to an [`Endpoint`].
#[derive(Clone, Debug, Default)]
pub struct AdminCall {
    /// Values of the path's parameters in order, percent-decoded.
    pub params: Vec<String>,
    pub query: Vec<(String, String)>,
    /// The fields of the body; empty when there was none.
    pub body: Record,
}

impl AdminCall {
    /// The value of the path's parameter at this position.
    pub fn param(&self, at: usize) -> &str {
        self.params.get(at).map_or("", String::as_str)
    }
}

/// The answer of an endpoint on its way.
pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// One verb at one path, e.g. `DELETE /proxy-cache/{cache_key}`. A body that is [`crate::Body::Default`] is nginx' own page
/// of that status, as Kong's exits without a body are.
#[derive(Clone, Copy)]
pub struct Endpoint {
    /// In capitals.
    pub method: &'static str,
    /// Parameters stand in braces.
    pub path: &'static str,
    pub handle: fn(Env, AdminCall) -> Answering,
}

/// An answer that has nothing to wait for.
pub fn answering(answer: impl Future<Output = Answer> + Send + 'static) -> Answering {
    Box::pin(answer)
}
