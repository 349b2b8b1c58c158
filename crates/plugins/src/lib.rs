//! The bundled plugins: a folder each, a line each in [`ALL`].
//!
//! A folder holds the typed configuration, the handler, the plugin's own entities and its tests; its page for users is
//! `docs/plugins/<name>.md`. To add a plugin, write the folder, the page and the line.
//!
//! - [`ai`]: language models, as all plugins around them are told of one
//! - [`auth`]: what all authenticating plugins share: identity headers, anonymous consumers, challenges
//! - [`arguments`]: query arguments and form fields looked up and removed without taking the rest apart
//! - [`body`]: request bodies of the three types that carry fields
//! - [`log_fields`], [`severity`]: settings that log plugins share
//! - [`lua_functions`]: the settings of pre-function and post-function
//! - [`number`]: numbers as header text
//! - [`propagation`]: how traces go on, as tracing plugins are told
//! - [`queue`]: what waits to be sent to log, metrics and trace servers
//! - [`serialize`]: a finished exchange as log plugins tell it
//!
//! Stands on `plugin` only; the proxy is handed the list and knows no plugin by name.

mod ai;
mod arguments;
mod auth;
mod body;
mod log_fields;
mod lua_functions;
mod number;
mod propagation;
pub mod queue;
mod serialize;
mod severity;

pub mod acl;
pub mod ai_prompt_decorator;
pub mod ai_prompt_guard;
pub mod ai_prompt_template;
pub mod ai_proxy;
pub mod ai_request_transformer;
pub mod ai_response_transformer;
pub mod aws_lambda;
pub mod azure_functions;
pub mod correlation_id;
pub mod cors;
pub mod datadog;
pub mod file_log;
pub mod http_log;
pub mod ip_restriction;
pub mod key_auth;
pub mod loggly;
pub mod opentelemetry;
pub mod post_function;
pub mod pre_function;
pub mod prometheus;
pub mod rate_limiting;
pub mod request_termination;
pub mod request_transformer;
pub mod statsd;
pub mod syslog;
pub mod tcp_log;
pub mod udp_log;
pub mod zipkin;

use portcullis_plugin::Entry;

/// Every bundled plugin, by name. The order of execution comes from their priorities.
pub const ALL: &[Entry] = &[
    Entry::of::<acl::Acl>(),
    Entry::of::<ai_prompt_decorator::AiPromptDecorator>(),
    Entry::of::<ai_prompt_guard::AiPromptGuard>(),
    Entry::of::<ai_prompt_template::AiPromptTemplate>(),
    Entry::of::<ai_proxy::AiProxy>(),
    Entry::of::<ai_request_transformer::AiRequestTransformer>(),
    Entry::of::<ai_response_transformer::AiResponseTransformer>(),
    Entry::of::<aws_lambda::AwsLambda>(),
    Entry::of::<azure_functions::AzureFunctions>(),
    Entry::of::<correlation_id::CorrelationId>(),
    Entry::of::<cors::Cors>(),
    Entry::of::<datadog::Datadog>(),
    Entry::of::<file_log::FileLog>(),
    Entry::of::<http_log::HttpLog>(),
    Entry::of::<ip_restriction::IpRestriction>(),
    Entry::of::<key_auth::KeyAuth>(),
    Entry::of::<loggly::Loggly>(),
    Entry::of::<opentelemetry::OpenTelemetry>(),
    Entry::of::<post_function::PostFunction>(),
    Entry::of::<pre_function::PreFunction>(),
    Entry::of::<prometheus::Prometheus>(),
    Entry::of::<rate_limiting::RateLimiting>(),
    Entry::of::<request_termination::RequestTermination>(),
    Entry::of::<request_transformer::RequestTransformer>(),
    Entry::of::<statsd::Statsd>(),
    Entry::of::<syslog::Syslog>(),
    Entry::of::<tcp_log::TcpLog>(),
    Entry::of::<udp_log::UdpLog>(),
    Entry::of::<zipkin::Zipkin>(),
];

#[cfg(test)]
mod tests;
