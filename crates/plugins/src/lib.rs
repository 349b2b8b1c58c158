//! The bundled plugins: a folder each, a line each in [`ALL`] or, where Kong has no such plugin, in [`BEYOND`].
//!
//! A folder holds the typed configuration, the handler, the plugin's own entities and its tests; its page for users is
//! `docs/plugins/<name>.md`. To add a plugin, write the folder, the page and the line.
//!
//! - [`ai`]: language models, as all plugins around them are told of one
//! - [`auth`]: what all authenticating plugins share: identity headers, anonymous consumers, challenges
//! - [`arguments`]: query arguments and form fields looked up and removed without taking the rest apart
//! - [`body`]: request bodies of the three types that carry fields
//! - [`calendar`]: moments as text
//! - [`client`]: requests that plugins make of their own
//! - [`deprecation`]: settings that are to go
//! - [`grpc`]: services as files describe them, messages in their frames
//! - [`header_name`], [`json_fields`]: what the transformers share
//! - [`http_client`]: HTTP to the servers that logs and traces are sent to
//! - [`log_fields`], [`severity`]: settings that log plugins share
//! - [`lua_functions`]: the settings of pre-function and post-function
//! - [`metric_fields`]: settings that plugins around figures share
//! - [`number`]: numbers as header text
//! - [`pattern`]: regular expressions of users, look-around included
//! - [`propagation`]: how traces go on, as tracing plugins are told
//! - [`queue`]: what waits to be sent to log, metrics and trace servers
//! - [`redis`], [`stores`]: the places counts and the like are kept in, as settings name them
//! - [`secret`]: hashes of secrets, and comparisons of them
//! - [`sigv4`]: how AWS wants requests signed
//! - [`serialize`]: a finished exchange as log plugins tell it
//! - [`sinks`]: sockets that log plugins write to
//!
//! Stands on `plugin` only; the proxy is handed the list and knows no plugin by name.

mod ai;
mod arguments;
mod auth;
mod body;
mod calendar;
mod client;
mod deprecation;
mod grpc;
mod header_name;
pub mod http_client;
mod json_fields;
mod json_text;
mod log_fields;
mod lua_functions;
mod metric_fields;
mod number;
mod pattern;
mod propagation;
pub mod queue;
mod redis;
mod secret;
pub mod serialize;
mod severity;
mod sigv4;
mod sinks;
mod stores;

pub mod access_control;
pub mod acl;
pub mod acme;
pub mod ai_prompt_decorator;
pub mod ai_prompt_guard;
pub mod ai_prompt_template;
pub mod ai_proxy;
pub mod ai_request_transformer;
pub mod ai_response_transformer;
pub mod aws_lambda;
pub mod azure_functions;
pub mod basic_auth;
pub mod bot_detection;
pub mod correlation_id;
pub mod cors;
pub mod datadog;
pub mod file_log;
pub mod grpc_gateway;
pub mod grpc_web;
pub mod hmac_auth;
pub mod http_log;
pub mod https_redirect;
pub mod ip_restriction;
pub mod jwt;
pub mod key_auth;
pub mod ldap_auth;
pub mod loggly;
pub mod oauth2;
pub mod opentelemetry;
pub mod post_function;
pub mod pre_function;
pub mod prometheus;
pub mod proxy_cache;
pub mod rate_limiting;
pub mod redirect;
pub mod request_size_limiting;
pub mod request_termination;
pub mod request_transformer;
pub mod response_ratelimiting;
pub mod response_transformer;
pub mod rewrite;
pub mod session;
pub mod standard_webhooks;
pub mod statsd;
pub mod syslog;
pub mod tcp_log;
pub mod udp_log;
pub mod zipkin;

use portcullis_plugin::Entry;

/// Every bundled plugin, by name. The order of execution comes from their priorities.
pub const ALL: &[Entry] = &[
    Entry::of::<acl::Acl>(),
    Entry::of::<acme::Acme>(),
    Entry::of::<ai_prompt_decorator::AiPromptDecorator>(),
    Entry::of::<ai_prompt_guard::AiPromptGuard>(),
    Entry::of::<ai_prompt_template::AiPromptTemplate>(),
    Entry::of::<ai_proxy::AiProxy>(),
    Entry::of::<ai_request_transformer::AiRequestTransformer>(),
    Entry::of::<ai_response_transformer::AiResponseTransformer>(),
    Entry::of::<aws_lambda::AwsLambda>(),
    Entry::of::<azure_functions::AzureFunctions>(),
    Entry::of::<basic_auth::BasicAuth>(),
    Entry::of::<bot_detection::BotDetection>(),
    Entry::of::<correlation_id::CorrelationId>(),
    Entry::of::<cors::Cors>(),
    Entry::of::<datadog::Datadog>(),
    Entry::of::<file_log::FileLog>(),
    Entry::of::<grpc_gateway::GrpcGateway>(),
    Entry::of::<grpc_web::GrpcWeb>(),
    Entry::of::<hmac_auth::HmacAuth>(),
    Entry::of::<http_log::HttpLog>(),
    Entry::of::<ip_restriction::IpRestriction>(),
    Entry::of::<jwt::Jwt>(),
    Entry::of::<key_auth::KeyAuth>(),
    Entry::of::<ldap_auth::LdapAuth>(),
    Entry::of::<loggly::Loggly>(),
    Entry::of::<oauth2::Oauth2>(),
    Entry::of::<opentelemetry::OpenTelemetry>(),
    Entry::of::<post_function::PostFunction>(),
    Entry::of::<pre_function::PreFunction>(),
    Entry::of::<prometheus::Prometheus>(),
    Entry::of::<proxy_cache::ProxyCache>(),
    Entry::of::<rate_limiting::RateLimiting>(),
    Entry::of::<redirect::Redirect>(),
    Entry::of::<request_size_limiting::RequestSizeLimiting>(),
    Entry::of::<request_termination::RequestTermination>(),
    Entry::of::<request_transformer::RequestTransformer>(),
    Entry::of::<response_ratelimiting::ResponseRatelimiting>(),
    Entry::of::<response_transformer::ResponseTransformer>(),
    Entry::of::<session::Session>(),
    Entry::of::<standard_webhooks::StandardWebhooks>(),
    Entry::of::<statsd::Statsd>(),
    Entry::of::<syslog::Syslog>(),
    Entry::of::<tcp_log::TcpLog>(),
    Entry::of::<udp_log::UdpLog>(),
    Entry::of::<zipkin::Zipkin>(),
];

/// Plugins that Kong does not have. They can be used where the setting `plugins` names them: `bundled` stands for Kong's.
pub const BEYOND: &[Entry] =
    &[Entry::of::<access_control::AccessControl>(), Entry::of::<https_redirect::HttpsRedirect>(), Entry::of::<rewrite::Rewrite>()];

#[cfg(test)]
mod tests;
