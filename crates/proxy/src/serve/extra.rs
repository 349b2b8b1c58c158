//! What is counted of a request beyond Kong's metrics (`extra_metrics`).

use portcullis_plugin::extra_metrics::{AuthFailure, ExtraGroups, ExtraMetrics, Phase, Tally};
use portcullis_plugin::{Request, Stage};
use portcullis_wire::UpstreamErrorKind as Kind;

/// Counts what is known once a request is over.
pub fn count(extra: &ExtraMetrics, request: &Request) {
    let groups = extra.groups();
    if groups.has(ExtraGroups::AUTHENTICATION)
        && let Some(failure) = request.context.get::<AuthFailure>()
    {
        extra.refused(*failure);
    }
    if !groups.has(ExtraGroups::PLUGINS) {
        return;
    }
    for stretch in request.timeline.iter().flat_map(|timeline| &timeline.stretches) {
        let (plugin, phase) = match stretch.stage {
            Stage::Rewrite(plugin) => (plugin, Phase::Rewrite),
            Stage::Access(plugin) => (plugin, Phase::Access),
            Stage::HeaderFilter(plugin) => (plugin, Phase::HeaderFilter),
            Stage::Router | Stage::Dns => continue,
        };
        extra.took(plugin, phase, stretch.ended.saturating_duration_since(stretch.begun));
    }
}

/// Counts a try that brought a response.
pub fn answered(extra: &ExtraMetrics, reused: bool) {
    extra.count(ExtraGroups::UPSTREAMS, if reused { Tally::Reused } else { Tally::Connected });
}

/// Counts a try that failed.
pub fn failed(extra: &ExtraMetrics, kind: &Kind, reused: bool, last: bool) {
    let reason = match kind {
        Kind::Connect(_) | Kind::ConnectTimeout => Tally::RetryConnect,
        Kind::Tls(_) => Tally::RetryTls,
        Kind::SendTimeout | Kind::ReadTimeout => Tally::RetryTimeout,
        Kind::Closed => Tally::RetryClosed,
        Kind::BadResponse(_) | Kind::HeadTooLarge | Kind::BodyTooLarge | Kind::ClientGone | Kind::ClientBody(_) => Tally::RetryResponse,
    };
    match reason {
        Tally::RetryConnect | Tally::RetryTls => extra.count(ExtraGroups::UPSTREAMS, Tally::ConnectFailed),
        _ => answered(extra, reused),
    }
    if !last {
        extra.count(ExtraGroups::UPSTREAMS, reason);
    }
}
