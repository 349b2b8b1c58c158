//! What is told beyond Kong's metrics, as far as `extra_metrics` asks for it.

use portcullis_plugin::Env;
use portcullis_plugin::extra_metrics::{ExtraFigures, ExtraGroups, ExtraMetrics, FAMILIES, Phase, Refused};

use super::out::{Kind, Out};
use crate::queue::{Counts, Figures};

pub fn tell(out: &mut impl Out, env: &Env) {
    let extra = env.state.get::<ExtraMetrics>();
    let groups = extra.groups();
    if groups == ExtraGroups::NONE {
        return;
    }
    for family in FAMILIES.iter().filter(|family| groups.has(family.group)) {
        out.head(family.name, if family.gauge { Kind::Gauge } else { Kind::Counter }, family.help);
        family.series.iter().for_each(|(tally, labels)| out.whole(labels, extra.tally(*tally)));
    }
    plugins(out, &extra, groups);
    if groups.has(ExtraGroups::QUEUES) {
        queues(out, env);
    }
    node(out, &env.node.extra_figures(), groups);
}

fn plugins(out: &mut impl Out, extra: &ExtraMetrics, groups: ExtraGroups) {
    let plugins = extra.plugins();
    if groups.has(ExtraGroups::AUTHENTICATION) {
        out.head("kong_auth_failures_total", Kind::Counter, "Requests refused because of who asked, by plugin and reason");
        for figures in &plugins {
            for ((_, reason), count) in Refused::ALL.iter().zip(figures.refused).filter(|(_, count)| *count > 0) {
                out.whole(&[("plugin", figures.plugin), ("reason", reason)], count);
            }
        }
    }
    if !groups.has(ExtraGroups::PLUGINS) {
        return;
    }
    let ran = || {
        let each = plugins
            .iter()
            .flat_map(|figures| Phase::ALL.iter().zip(figures.time).map(move |(phase, time)| (figures.plugin, phase.1, time)));
        each.filter(|(_, _, (calls, _))| *calls > 0)
    };
    out.head("kong_plugin_calls_total", Kind::Counter, "Calls of plugins by phase");
    ran().for_each(|(plugin, phase, (calls, _))| out.whole(&[("plugin", plugin), ("phase", phase)], calls));
    out.head("kong_plugin_seconds_total", Kind::Counter, "Time that plugins took by phase, waiting included, in seconds");
    ran().for_each(|(plugin, phase, (_, time))| out.real(&[("plugin", plugin), ("phase", phase)], time.as_secs_f64()));
}

/// What waits for log, metric and trace servers; one line a plugin that ever had something to send.
fn queues(out: &mut impl Out, env: &Env) {
    let figures = env.state.get::<Counts>().figures();
    type Of = fn(&Figures) -> u64;
    let metrics: [(&str, Kind, &str, Of); 3] = [
        ("kong_queue_entries", Kind::Gauge, "Entries that wait to be sent, by plugin", |figures| figures.waiting),
        ("kong_queue_lost_total", Kind::Counter, "Entries dropped from full queues or given up on, by plugin", |figures| figures.lost),
        ("kong_queue_sent_total", Kind::Counter, "Entries that were sent, by plugin", |figures| figures.sent),
    ];
    for (name, kind, help, of) in metrics {
        out.head(name, kind, help);
        figures.iter().for_each(|figures| out.whole(&[("plugin", figures.plugin)], of(figures)));
    }
}

fn node(out: &mut impl Out, node: &ExtraFigures, groups: ExtraGroups) {
    if groups.has(ExtraGroups::CONFIGURATION) {
        let configuration = &node.configuration;
        out.head("kong_config_errors_total", Kind::Counter, "Changes that could not be served at once");
        out.whole(&[], configuration.errors);
        out.head("kong_config_last_error_timestamp_seconds", Kind::Gauge, "When that happened last; 0 for never");
        out.real(&[], configuration.last_error_at);
        out.head("kong_config_propagation_seconds", Kind::Gauge, "From the last change's arrival at this node to its being served");
        out.real(&[], configuration.lag.as_secs_f64());
        out.head("kong_config_published_timestamp_seconds", Kind::Gauge, "When the configuration that is served went out");
        out.real(&[], configuration.published_at);
        out.head("kong_config_version", Kind::Gauge, "Counts the configurations that this process served");
        out.whole(&[], configuration.version);
    }
    if groups.has(ExtraGroups::DNS) {
        let (asked, failed, stale) = node.dns;
        out.head("kong_dns_lookups_total", Kind::Counter, "Names asked for, and answers past their time that were given out");
        for (result, count) in [("answered", asked.saturating_sub(failed)), ("failed", failed), ("stale", stale)] {
            out.whole(&[("result", result)], count);
        }
    }
    if groups.has(ExtraGroups::TLS) {
        out.head("kong_certificate_expiry_timestamp_seconds", Kind::Gauge, "When configured certificates end");
        for (id, ends) in &node.certificates {
            out.real(&[("certificate", id)], *ends as f64);
        }
        out.head("kong_tls_handshakes_total", Kind::Counter, "TLS handshakes with clients");
        out.whole(&[("result", "completed")], node.handshakes.0);
        out.whole(&[("result", "failed")], node.handshakes.1);
    }
    if groups.has(ExtraGroups::UPSTREAMS) {
        out.head("kong_upstream_connections_idle", Kind::Gauge, "Kept upstream connections that no request makes use of");
        out.whole(&[], node.upstream_idle);
    }
}
