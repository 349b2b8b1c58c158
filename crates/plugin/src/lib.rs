//! What a plugin author sees: the whole contract between a plugin and the gateway.
//!
//! A plugin is one folder and one line: a [`Plugin`] (its configuration struct and constants) that is also a [`Handler`]
//! (its code for the phases it names), listed as an [`Entry`]. What a bundled plugin can do, an outside one can do.
//!
//! A request passes the phases in this order; in each, instances run by descending priority:
//!
//! | phase | argument | may wait | may end the request |
//! |---|---|---|---|
//! | `rewrite` (global instances only), `access` | [`Request`] | yes | yes, with an [`Answer`] |
//! | `response` (whole response buffered) | [`Request`], [`Response`] | no | it is the response |
//! | `header_filter` | [`Head`] | no | no |
//! | `body_filter` | [`Request`], a chunk | no | no |
//! | `log` | [`Exchange`] | no | no |
//!
//! Handlers are shared by all worker threads and live as long as the configuration they were made from; state that must
//! outlive a configuration change (counters, queues) is kept in [`State`]. Small and stable: depends on the entities'
//! types and the wire's heads, never on the proxy.

mod answer;
mod certificates;
mod directory;
mod endpoint;
mod entry;
mod env;
mod exchange;
pub mod extra_metrics;
pub mod log_lines;
mod request;
mod rows;
pub mod script;
#[cfg(feature = "testing")]
pub mod testing;
mod timeline;

use std::future::Future;
use std::pin::Pin;

pub use answer::{Answer, Body};
pub use certificates::{OwnCertificates, Wanted};
pub use directory::{Credential, Directory, Index};
pub use endpoint::{AdminCall, Answering, Endpoint, answering};
pub use entry::{Entry, Exposition, Instance, Maker, Phases, Plugin, Protocols, Scopes};
pub use env::{ConnectionCounts, Env, Node, State, TargetHealth};
pub use exchange::{Exchange, Latencies, Session, Source, Try, TryState};
pub use portcullis_wire::head::{Method, RequestHead, ResponseHead, Version};
pub use portcullis_wire::headers::Headers;
pub use request::{Captures, Client, Context, CountsAsProxied, LateLogFields, Patience, Request, RequestId, Upstream, query_pairs};
pub use rows::{Ask, Count, Counting, PATIENCE, Rows, RowsCall, RowsError, RowsPage, Write};
pub use timeline::{Instruments, Stage, Stretch, Timeline, Tracing};

/// What went wrong inside a plugin: the request is answered with 500 and the text goes to the log only.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;

/// What a plugin waits for: in the end an answer, or none to let the request go on.
pub type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Option<Box<Answer>>>> + 'a>>;

/// What a plugin wants after its turn. The usual case, [`Step::Next`], allocates nothing.
pub enum Step<'a> {
    Next,
    /// Ends the request with this answer; later plugins' `access` does not run.
    Answer(Box<Answer>),
    /// The plugin has to wait for something first.
    Later(Waiting<'a>),
    /// The plugin failed: 500 to the client, the cause to the log.
    Fail(Error),
}

impl<'a> Step<'a> {
    pub fn answer(answer: Answer) -> Self {
        Step::Answer(Box::new(answer))
    }

    pub fn later(future: impl Future<Output = Result<Option<Box<Answer>>>> + 'a) -> Self {
        Step::Later(Box::pin(future))
    }
}

/// The response head on its way to the client, whoever made it.
pub struct Head<'a> {
    pub request: &'a Request,
    pub context: &'a mut Context,
    pub response: &'a mut ResponseHead,
    pub source: Source,
}

/// A whole response, buffered for plugins with a `response` phase.
pub struct Response<'a> {
    pub head: &'a mut ResponseHead,
    pub body: &'a mut Vec<u8>,
}

/// A plugin's code. Only the phases its [`Plugin::PHASES`] names are ever called.
pub trait Handler: Send + Sync + 'static {
    /// Of the plugin's phases those that this instance has code for; others cost its requests nothing.
    fn phases(&self) -> Phases {
        Phases::ALL
    }

    /// How many bytes of the request body this plugin wants to see in `access`; none leaves the body streaming.
    fn body_limit(&self, request: &Request) -> Option<u64> {
        let _ = request;
        None
    }

    fn rewrite<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let _ = request;
        Step::Next
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let _ = request;
        Step::Next
    }

    /// Whether this plugin's `response` wants the response of this request. Without any that does, it streams.
    fn buffers(&self, request: &Request) -> bool {
        let _ = request;
        true
    }

    fn response(&self, request: &mut Request, response: Response<'_>) -> Result<()> {
        let _ = (request, response);
        Ok(())
    }

    fn header_filter(&self, head: &mut Head<'_>) -> Result<()> {
        let _ = head;
        Ok(())
    }

    /// `last` comes exactly once, possibly with an empty chunk.
    fn body_filter(&self, request: &mut Request, chunk: &mut Vec<u8>, last: bool) -> Result<()> {
        let _ = (request, chunk, last);
        Ok(())
    }

    fn log(&self, exchange: &Exchange<'_>) {
        let _ = exchange;
    }
}
