//! What must hold between keys (behaviour checklist 2.4), and ranges of those the program itself does not use yet.

use portcullis_plugin::extra_metrics::ExtraGroups;

use super::load::Loaded;

/// Spans that tracing can make.
const INSTRUMENTATIONS: [&str; 11] = [
    "off",
    "all",
    "request",
    "db_query",
    "dns_query",
    "router",
    "http_client",
    "balancer",
    "plugin_rewrite",
    "plugin_access",
    "plugin_header_filter",
];

/// Complaints in Kong's words.
pub fn complaints(loaded: &Loaded) -> Vec<String> {
    let mut complaints = Vec::new();
    database(loaded, &mut complaints);
    ranges(loaded, &mut complaints);
    proxy_server(loaded, &mut complaints);
    hybrid(loaded, &mut complaints);
    tracing(loaded, &mut complaints);
    manager(loaded, &mut complaints);
    complaints
}

fn listens(loaded: &Loaded, key: &str) -> bool {
    loaded.list(key).first().is_some_and(|first| *first != "off")
}

fn database(loaded: &Loaded, complaints: &mut Vec<String>) {
    for replica in ["pg_", "pg_ro_"] {
        for name in ["max_concurrent_queries", "semaphore_timeout", "keepalive_timeout", "pool_size", "backlog"] {
            let key = format!("{replica}{name}");
            match loaded.number(&key) {
                Some(number) if number < 0.0 => complaints.push(format!("{key} must be greater than 0")),
                Some(number) if number.fract() != 0.0 => complaints.push(format!("{key} must be an integer greater than 0")),
                _ => {}
            }
        }
    }
}

fn ranges(loaded: &Loaded, complaints: &mut Vec<String>) {
    let mut require = |key: &str, holds: fn(f64) -> bool, text: &str| {
        if loaded.number(key).is_some_and(|number| !holds(number)) {
            complaints.push(format!("{key} must be {text}"));
        }
    };
    require("worker_state_update_frequency", |number| number > 0.0, "greater than 0");
    require("cluster_data_plane_purge_delay", |number| number >= 60.0, "60 or greater");
    require("cluster_max_payload", |number| number >= 4_194_304.0, "4194304 (4MB) or greater");
    for key in ["lua_max_req_headers", "lua_max_resp_headers", "lua_max_uri_args", "lua_max_post_args"] {
        require(key, |number| (1.0..=1000.0).contains(&number) && number.fract() == 0.0, "an integer between 1 and 1000");
    }
}

fn proxy_server(loaded: &Loaded, complaints: &mut Vec<String>) {
    let Some(url) = loaded.text("proxy_server") else { return };
    let complaint = match url.split_once("://") {
        None => "proxy_server missing scheme".to_owned(),
        Some((scheme, _)) if !matches!(scheme, "http" | "https") => {
            format!("proxy_server only supports \"http\" and \"https\", got {scheme}")
        }
        Some((_, rest)) if rest.is_empty() || rest.starts_with('/') => "proxy_server missing host".to_owned(),
        Some((_, rest)) if rest.contains(['?', '#', ';']) => {
            "fragments, query strings or parameters are meaningless in proxy configuration".to_owned()
        }
        Some(_) => return,
    };
    complaints.push(complaint);
}

fn hybrid(loaded: &Loaded, complaints: &mut Vec<String>) {
    let mut refuse = |wrong: bool, text: &str| {
        if wrong {
            complaints.push(text.to_owned());
        }
    };
    let role = loaded.text("role").unwrap_or("traditional");
    let labels = loaded.list("cluster_dp_labels");
    let certified = loaded.text("cluster_cert").is_some() && loaded.text("cluster_cert_key").is_some();
    let in_memory = loaded.text("database") == Some("off");
    refuse(role != "traditional" && !certified, "cluster certificate and key must be provided to use Hybrid mode");
    match role {
        "control_plane" => {
            refuse(!listens(loaded, "admin_listen"), "admin_listen must be specified when role = \"control_plane\"");
            let pki = loaded.text("cluster_mtls") == Some("pki");
            refuse(pki && loaded.text("cluster_ca_cert").is_none(), "cluster_ca_cert must be specified when cluster_mtls = \"pki\"");
            refuse(!listens(loaded, "cluster_listen"), "cluster_listen must be specified when role = \"control_plane\"");
            refuse(in_memory, "in-memory storage can not be used when role = \"control_plane\"");
            refuse(loaded.flag("cluster_use_proxy"), "cluster_use_proxy can not be used when role = \"control_plane\"");
            refuse(!labels.is_empty(), "cluster_dp_labels can not be used when role = \"control_plane\"");
        }
        "data_plane" => {
            refuse(!listens(loaded, "proxy_listen"), "proxy_listen must be specified when role = \"data_plane\"");
            refuse(!in_memory, "only in-memory storage can be used when role = \"data_plane\"\nHint: set database = off in your kong.conf");
            let proxied = loaded.flag("cluster_use_proxy") && loaded.text("proxy_server").is_none();
            refuse(proxied, "cluster_use_proxy is turned on but no proxy_server is configured");
            if labels.len() > 10 {
                complaints.push("labels validation failed: count exceeded 10 max elements".to_owned());
            }
            complaints.extend(labels.into_iter().filter_map(wrong_label));
        }
        _ => refuse(!labels.is_empty(), "cluster_dp_labels can only be used when role = \"data_plane\""),
    }
}

/// A label is `key:value`: 1 to 63 letters, digits, dots, colons, dashes, underscores, with letters or digits at both ends.
fn wrong_label(label: &str) -> Option<String> {
    let (key, value) = label.split_once(':').unwrap_or_default();
    let taken = ["kong", "konnect", "insomnia", "mesh", "kic"].iter().any(|word| key.to_ascii_lowercase().starts_with(word));
    [("key", key, taken), ("value", value, false)].into_iter().find_map(|(part, text, taken)| {
        if text.is_empty() || text.len() > 63 {
            return Some(format!("label {part} validation failed: {text} must have between 1 and 63 characters"));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '_');
        let ends = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.ends_with(|c: char| c.is_ascii_alphanumeric());
        (taken || !ends || !text.chars().all(allowed)).then(|| format!("label {part} validation failed: {text} is invalid"))
    })
}

fn tracing(loaded: &Loaded, complaints: &mut Vec<String>) {
    let words = loaded.list("tracing_instrumentations");
    complaints.extend(words.iter().filter(|word| !INSTRUMENTATIONS.contains(word)).map(|word| format!("invalid tracing type: {word}")));
    if words.len() > 1 && words.contains(&"off") {
        complaints.push("invalid tracing types: off, other types are mutually exclusive".to_owned());
    }
    let groups = loaded.list("extra_metrics");
    complaints.extend(
        groups.iter().filter(|word| ExtraGroups::named(word).is_none()).map(|word| format!("extra_metrics: there is no group {word}")),
    );
    if groups.len() > 1 && groups.contains(&"off") {
        complaints.push("extra_metrics: off goes with nothing else".to_owned());
    }
    if let Some(endpoint) = loaded.text("otlp_metrics_endpoint").filter(|endpoint| !endpoint.is_empty())
        && !endpoint.starts_with("http://")
        && !endpoint.starts_with("https://")
    {
        complaints.push("otlp_metrics_endpoint must be a URL with http or https".to_owned());
    }
    complaints.extend(
        loaded
            .list("otlp_metrics_headers")
            .iter()
            .filter(|pair| !pair.contains(':'))
            .map(|_| "otlp_metrics_headers must be pairs name:value".to_owned()),
    );
    if loaded.number("otlp_metrics_interval").is_some_and(|interval| !(1.0..=86_400.0).contains(&interval)) {
        complaints.push("otlp_metrics_interval must be between 1 and 86400".to_owned());
    }
    if loaded.number("tracing_sampling_rate").is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
        complaints.push("tracing_sampling_rate must be between 0 and 1".to_owned());
    }
}

fn manager(loaded: &Loaded, complaints: &mut Vec<String>) {
    let Some(path) = loaded.text("admin_gui_path") else { return };
    let mut refuse = |wrong: bool, text: &str| {
        if wrong {
            complaints.push(format!("admin_gui_path {text}"));
        }
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
    refuse(!path.starts_with('/'), "must start with a slash ('/')");
    refuse(path.len() > 1 && path.ends_with('/'), "must not end with a slash ('/')");
    refuse(!path.chars().all(allowed), "can only contain letters, digits, hyphens ('-'), underscores ('_'), and slashes ('/')");
    refuse(path.contains("//"), "must not contain continuous slashes ('/')");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::load::load;
    use super::*;

    fn check(text: &str) -> Vec<String> {
        complaints(&load(text, [], &[]).0)
    }

    #[test]
    fn the_defaults_hold() {
        assert!(check("").is_empty());
    }

    #[test]
    fn a_data_plane_needs_certificates_and_memory() {
        assert_eq!(
            check("role = data_plane"),
            [
                "cluster certificate and key must be provided to use Hybrid mode",
                "only in-memory storage can be used when role = \"data_plane\"\nHint: set database = off in your kong.conf",
            ]
        );
    }

    #[test]
    fn a_control_plane_needs_a_database_and_its_listeners() {
        let file = "role = control_plane\ncluster_cert = a\ncluster_cert_key = b\nadmin_listen = off\ndatabase = off\ncluster_mtls = pki\n";
        assert_eq!(check(file).len(), 3);
    }

    #[test]
    fn labels_belong_to_data_planes_and_have_a_form() {
        assert_eq!(check("cluster_dp_labels = a:b"), ["cluster_dp_labels can only be used when role = \"data_plane\""]);
        let data_plane = "role = data_plane\ndatabase = off\ncluster_cert = a\ncluster_cert_key = b\n";
        assert!(check(&format!("{data_plane}cluster_dp_labels = region:eu-1, tier:x.y\n")).is_empty());
        assert_eq!(check(&format!("{data_plane}cluster_dp_labels = konnect:x, a:, -a:b\n")).len(), 3);
    }

    #[test]
    fn numbers_have_their_ranges() {
        let file = "worker_state_update_frequency = 0\nlua_max_uri_args = 1001\npg_pool_size = 1.5\npg_ro_backlog = -1\n\
                    cluster_max_payload = 1\ntracing_sampling_rate = 2\n";
        assert_eq!(
            check(file),
            [
                "pg_pool_size must be an integer greater than 0",
                "pg_ro_backlog must be greater than 0",
                "worker_state_update_frequency must be greater than 0",
                "cluster_max_payload must be 4194304 (4MB) or greater",
                "lua_max_uri_args must be an integer between 1 and 1000",
                "tracing_sampling_rate must be between 0 and 1",
            ]
        );
    }

    #[test]
    fn paths_urls_and_spans_have_a_form() {
        assert_eq!(check("admin_gui_path = manager//x/").len(), 3);
        assert_eq!(check("proxy_server = socks://x"), ["proxy_server only supports \"http\" and \"https\", got socks"]);
        assert_eq!(check("tracing_instrumentations = off, colours").len(), 2);
    }
}
