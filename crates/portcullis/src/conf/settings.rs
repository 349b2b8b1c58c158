//! The settings the program runs on, typed and checked against each other.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use portcullis_entities::routes::Flavor;
use portcullis_plugin::Instruments;
use portcullis_plugin::extra_metrics::ExtraGroups;
use portcullis_plugins::opentelemetry::MetricsTo;
use portcullis_proxy::access_log::Format as LogFormat;
use portcullis_proxy::dns;
use portcullis_proxy::serve::errors::Format;
use portcullis_proxy::settings::{ErrorTemplates, HeaderTokens, ProxySettings};
use portcullis_wire::listener::Listen;
use portcullis_wire::tls::{ServerTlsOptions, UpstreamDefaults};
use portcullis_wire::{PoolSettings, Settings as WireSettings};
use uuid::Uuid;

use super::check;
use super::load::{Complaints, Loaded};
use super::reader::Reader;
use crate::access_log;

/// Where configuration is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// A file in the prefix.
    Embedded,
    /// In memory, from a declarative file.
    Off,
    /// A Postgres server: see [`super::postgres`].
    Postgres,
}

/// A pair of PEM texts, certificate and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemPair {
    pub certificate: String,
    pub key: String,
}

/// Who writes which access log; none where it is off.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogs {
    pub proxy: Option<access_log::Settings>,
    pub admin: Option<access_log::Settings>,
    pub status: Option<access_log::Settings>,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub prefix: PathBuf,
    pub log_level: String,
    pub error_log: PathBuf,
    pub access_logs: AccessLogs,
    /// What makes spans, and the share of requests whose spans are sent.
    pub tracing: (Instruments, f64),
    /// What is counted beyond Kong's metrics.
    pub extra_metrics: ExtraGroups,
    /// Where metrics are sent, if anywhere.
    pub otlp_metrics: Option<MetricsTo>,
    /// Stay in the foreground.
    pub foreground: bool,
    pub workers: usize,
    pub proxy_listens: Vec<Listen>,
    pub stream_listens: Vec<Listen>,
    pub admin_listens: Vec<Listen>,
    pub status_listens: Vec<Listen>,
    pub proxy_certificate: Option<PemPair>,
    /// Beside it, with a key of another kind.
    pub proxy_certificate_alternative: Option<PemPair>,
    pub admin_certificate: Option<PemPair>,
    pub status_certificate: Option<PemPair>,
    pub tls: ServerTlsOptions,
    /// How TLS is spoken with upstreams whose service does not say.
    pub upstream_tls: UpstreamDefaults,
    /// Whom active health checks trust, as PEM.
    pub trusted: Vec<Arc<str>>,
    pub wire: WireSettings,
    pub pools: PoolSettings,
    pub proxy: ProxySettings,
    pub flavor: Flavor,
    pub dns: dns::Settings,
    pub database: Database,
    pub declarative_config: Option<PathBuf>,
    pub declarative_config_string: Option<String>,
    /// Plugins by name; `bundled` stands for all of ours.
    pub plugins: Vec<String>,
    /// Whether the node refuses to start with plugins that have no handler.
    pub plugins_strict: bool,
    pub node_id: Option<Uuid>,
    /// The version clients are told: Kong's, or our own.
    pub version: String,
    pub admin_body_limit: usize,
    pub admin_origins: Vec<String>,
    pub loaded: Loaded,
}

/// The version of Kong whose behaviour this is.
pub const KONG_VERSION: &str = "3.9.3";

impl Settings {
    /// Errors with every complaint at once: those that came up while loading, then its own.
    pub fn new((loaded, Complaints(complaints)): (Loaded, Complaints)) -> Result<Self, Complaints> {
        let mut reader = Reader { loaded: &loaded, complaints };
        let settings = reader.settings();
        let mut complaints = reader.complaints;
        complaints.extend(check::complaints(&loaded));
        if !complaints.is_empty() {
            return Err(Complaints(complaints));
        }
        Ok(Self { loaded, ..settings })
    }

    pub fn pid_file(&self) -> PathBuf {
        self.prefix.join("pids/nginx.pid")
    }
}

impl Reader<'_> {
    fn settings(&mut self) -> Settings {
        let loaded = self.loaded;
        let text = |key: &str| loaded.text(key).map(str::to_owned);
        let prefix = absolute(&text("prefix").unwrap_or_else(|| "/usr/local/portcullis".to_owned()));
        let error_log = prefix.join(text("proxy_error_log").unwrap_or_else(|| "logs/error.log".to_owned()));
        let version = if loaded.flag("kong_version_compatible") { KONG_VERSION } else { env!("CARGO_PKG_VERSION") };
        let node_id = text("node_id").and_then(|id| match Uuid::try_parse(&id) {
            Ok(id) => Some(id),
            Err(_) => {
                self.complaints.push("node_id must be a valid UUID".to_owned());
                None
            }
        });
        let proxy_listens = self.listens("proxy_listen");
        Settings {
            access_logs: self.access_logs(&prefix),
            extra_metrics: extra_metrics(loaded),
            otlp_metrics: otlp_metrics(loaded),
            tracing: (instruments(loaded), loaded.number("tracing_sampling_rate").unwrap_or(0.01)),
            error_log,
            log_level: text("log_level").unwrap_or_else(|| "notice".to_owned()),
            foreground: !loaded.flag("nginx_main_daemon"),
            workers: self.workers(),
            proxy_listens: proxy_listens.clone(),
            stream_listens: self.listens("stream_listen"),
            admin_listens: self.listens("admin_listen"),
            status_listens: self.listens("status_listen"),
            proxy_certificate: self.certificate("ssl_cert", "ssl_cert_key"),
            proxy_certificate_alternative: self.second_certificate("ssl_cert", "ssl_cert_key"),
            admin_certificate: self.certificate("admin_ssl_cert", "admin_ssl_cert_key"),
            status_certificate: self.certificate("status_ssl_cert", "status_ssl_cert_key"),
            tls: self.server_tls(&proxy_listens),
            upstream_tls: self.upstream_tls(),
            trusted: self.trusted(),
            wire: self.wire(),
            pools: PoolSettings {
                size: self.whole("upstream_keepalive_pool_size", 512) as usize,
                max_requests: u32::try_from(self.whole("upstream_keepalive_max_requests", 10_000)).unwrap_or(u32::MAX),
                idle: Duration::from_secs(self.whole("upstream_keepalive_idle_timeout", 60)),
            },
            proxy: self.proxy(),
            flavor: loaded.text("router_flavor").and_then(Flavor::named).unwrap_or_default(),
            dns: self.dns(),
            database: self.database(),
            declarative_config: text("declarative_config").map(PathBuf::from),
            declarative_config_string: text("declarative_config_string"),
            plugins: loaded.list("plugins").into_iter().map(str::to_owned).collect(),
            plugins_strict: loaded.flag("plugins_strict"),
            node_id,
            version: version.to_owned(),
            admin_body_limit: self.size("nginx_admin_client_max_body_size", 10 << 20) as usize,
            admin_origins: loaded.list("admin_gui_url").into_iter().map(origin_of).collect(),
            prefix,
            loaded: Loaded::default(),
        }
    }

    fn access_logs(&mut self, prefix: &Path) -> AccessLogs {
        let directive = self.loaded.directive("log_format").map(|(_, value)| value.to_owned());
        let own: Vec<_> = directive.iter().filter_map(|value| LogFormat::directive(value)).collect();
        let mut read = |key: &str| {
            let value = self.loaded.text(key).unwrap_or("off");
            access_log::Settings::read(prefix, value, &own).unwrap_or_else(|problem| {
                self.complaints.push(format!("{key}: {problem}"));
                None
            })
        };
        AccessLogs { proxy: read("proxy_access_log"), admin: read("admin_access_log"), status: read("status_access_log") }
    }

    fn database(&mut self) -> Database {
        match self.loaded.text("database") {
            Some("off") => Database::Off,
            Some("postgres") => Database::Postgres,
            Some("cassandra") => {
                self.complaints
                    .push("Cassandra as a datastore for Kong is not supported in versions 3.4 and above. Please use Postgres.".to_owned());
                Database::Embedded
            }
            _ => Database::Embedded,
        }
    }

    fn workers(&mut self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        match self.loaded.text("nginx_main_worker_processes") {
            None | Some("auto") => cores,
            Some(text) => match text.parse::<usize>() {
                Ok(count @ 1..=1024) => count,
                _ => {
                    self.complaints.push(format!("nginx_main_worker_processes must be a number from 1 to 1024 or 'auto': '{text}'"));
                    1
                }
            },
        }
    }

    fn wire(&mut self) -> WireSettings {
        let defaults = WireSettings::default();
        let connections = match self.loaded.text("nginx_events_worker_connections") {
            None | Some("auto") => defaults.max_connections,
            Some(text) => text.parse().ok().filter(|count| *count > 0).unwrap_or_else(|| {
                self.complaints.push(format!("nginx_events_worker_connections must be a number above 0 or 'auto': '{text}'"));
                defaults.max_connections
            }),
        };
        WireSettings {
            client_header_timeout: self.directive_time("client_header_timeout", 60),
            client_body_timeout: self.directive_time("client_body_timeout", 60),
            send_timeout: self.directive_time("send_timeout", 60),
            keepalive_timeout: self.directive_time("keepalive_timeout", 75),
            keepalive_requests: self.directive_size("keepalive_requests", 10_000),
            max_body_size: self.directive_size("client_max_body_size", 0),
            response_head_limit: self.directive_size("proxy_buffer_size", 4096) as usize,
            max_connections: connections,
            ..defaults
        }
    }

    fn proxy(&mut self) -> ProxySettings {
        let loaded = self.loaded;
        let defaults = ProxySettings::default();
        let mut trusted_ips = Vec::new();
        let mut trust_unix = false;
        for entry in loaded.list("trusted_ips") {
            match (entry, entry.parse::<IpNet>(), entry.parse::<IpAddr>()) {
                ("unix:", ..) => trust_unix = true,
                (_, Ok(net), _) => trusted_ips.push(net),
                (_, _, Ok(ip)) => trusted_ips.push(IpNet::from(ip)),
                _ => self.complaints.push(format!(
                    "trusted_ips must be a comma separated list in the form of IPv4 or IPv6 address or CIDR block or 'unix:', got '{entry}'"
                )),
            }
        }
        let header = loaded.text("nginx_proxy_real_ip_header").unwrap_or("X-Real-IP");
        // The directive has a default of its own; the key counts where only the key is set.
        let directive_set = loaded.directive("client_body_buffer_size").is_some_and(|(_, size)| size != "8k");
        let body_buffer_size =
            if directive_set { self.directive_size("client_body_buffer_size", 8192) } else { self.size("client_body_buffer_size", 8192) };
        ProxySettings {
            headers: self.header_tokens(),
            trusted_ips,
            trust_unix,
            real_ip_header: header.to_ascii_lowercase(),
            real_ip_recursive: loaded.flag("nginx_proxy_real_ip_recursive"),
            port_maps: self.port_maps(),
            error_default_type: Format::of_setting(loaded.text("error_default_type").unwrap_or("text/plain")),
            error_templates: ErrorTemplates {
                json: self.template("error_template_json"),
                html: self.template("error_template_html"),
                xml: self.template("error_template_xml"),
                plain: self.template("error_template_plain"),
            },
            allow_debug_header: loaded.flag("allow_debug_header"),
            request_debug: loaded.flag("request_debug").then(|| {
                let token = loaded.text("request_debug_token").filter(|token| !token.is_empty());
                token.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
            }),
            timeline: instruments(loaded) != Instruments::NONE || extra_metrics(loaded).has(ExtraGroups::PLUGINS),
            body_buffer_size,
            stream_proxy_protocol: self.other("nginx_sproxy_proxy_protocol") == Some("on"),
            ..defaults
        }
    }

    fn header_tokens(&mut self) -> HeaderTokens {
        let mut tokens = HeaderTokens {
            server: false,
            via: false,
            proxy_latency: false,
            response_latency: false,
            upstream_latency: false,
            upstream_status: false,
            request_id: false,
            upstream_request_id: false,
        };
        for word in self.loaded.list("headers") {
            match word.to_ascii_lowercase().as_str() {
                "off" => {}
                "server_tokens" => (tokens.server, tokens.via) = (true, true),
                "latency_tokens" => {
                    (tokens.proxy_latency, tokens.response_latency, tokens.upstream_latency) = (true, true, true);
                }
                "server" => tokens.server = true,
                "via" => tokens.via = true,
                "x-kong-proxy-latency" => tokens.proxy_latency = true,
                "x-kong-response-latency" => tokens.response_latency = true,
                "x-kong-upstream-latency" => tokens.upstream_latency = true,
                "x-kong-upstream-status" => tokens.upstream_status = true,
                "x-kong-admin-latency" => {}
                "x-kong-request-id" => tokens.request_id = true,
                _ => self.complaints.push(format!("headers: invalid entry '{word}'")),
            }
        }
        for word in self.loaded.list("headers_upstream") {
            match word.to_ascii_lowercase().as_str() {
                "off" => {}
                "x-kong-request-id" => tokens.upstream_request_id = true,
                _ => self.complaints.push(format!("headers_upstream: invalid entry '{word}'")),
            }
        }
        tokens
    }

    fn port_maps(&mut self) -> Vec<(u16, u16)> {
        let mut maps = Vec::new();
        for entry in self.loaded.list("port_maps") {
            let pair = entry.split_once(':').and_then(|(outer, inner)| Some((port(outer)?, port(inner)?)));
            match pair {
                Some(pair) => maps.push(pair),
                None => self.complaints.push(format!("invalid port mapping (`port_maps`): {entry}")),
            }
        }
        maps
    }

    fn dns(&mut self) -> dns::Settings {
        let loaded = self.loaded;
        let defaults = dns::Settings::default();
        if !loaded.flag("new_dns_client") {
            let seconds = |key: &str, default: Duration| loaded.number(key).map_or(default, seconds);
            let order = self.record_kinds("dns_order");
            return dns::Settings {
                resolvers: self.name_servers("dns_resolver"),
                hosts_file: self.hosts_file("dns_hostsfile"),
                order: if order.is_empty() { defaults.order } else { order },
                valid_ttl: loaded.number("dns_valid_ttl").map(self::seconds),
                stale_ttl: seconds("dns_stale_ttl", defaults.stale_ttl),
                not_found_ttl: seconds("dns_not_found_ttl", defaults.not_found_ttl),
                error_ttl: seconds("dns_error_ttl", defaults.error_ttl),
                cache_size: self.whole("dns_cache_size", 10_000) as usize,
                srv_by_name: false,
            };
        }
        // The new client has no time of its own for names that were not found.
        let error_ttl = loaded.number("resolver_error_ttl").map_or(defaults.error_ttl, seconds);
        let order = self.record_kinds("resolver_family");
        dns::Settings {
            resolvers: self.name_servers("resolver_address"),
            hosts_file: self.hosts_file("resolver_hosts_file"),
            order: if order.is_empty() { vec![dns::Kind::A, dns::Kind::Srv] } else { order },
            valid_ttl: loaded.number("resolver_valid_ttl").map(seconds),
            stale_ttl: loaded.number("resolver_stale_ttl").map_or(defaults.stale_ttl, seconds),
            not_found_ttl: error_ttl,
            error_ttl,
            cache_size: self.whole("resolver_lru_cache_size", 10_000) as usize,
            srv_by_name: true,
        }
    }

    fn name_servers(&mut self, key: &str) -> Vec<SocketAddr> {
        let mut servers = Vec::new();
        for entry in self.loaded.list(key) {
            let address =
                entry.parse::<SocketAddr>().or_else(|_| entry.trim_matches(['[', ']']).parse().map(|ip: IpAddr| SocketAddr::new(ip, 53)));
            match address {
                Ok(address) => servers.push(address),
                Err(_) => self
                    .complaints
                    .push(format!("{key} must be a comma separated list in the form of IPv4/6 or IPv4/6:port, got '{entry}'")),
            }
        }
        servers
    }

    fn record_kinds(&mut self, key: &str) -> Vec<dns::Kind> {
        let mut kinds = Vec::new();
        for word in self.loaded.list(key) {
            match dns::Kind::parse(word) {
                Some(kind) => kinds.push(kind),
                None => self.complaints.push(format!("{key}: invalid entry '{word}'")),
            }
        }
        kinds
    }

    fn hosts_file(&mut self, key: &str) -> PathBuf {
        let file = PathBuf::from(self.loaded.text(key).unwrap_or("/etc/hosts"));
        if !file.is_file() {
            self.complaints.push(format!("{key}: file does not exist"));
        }
        file
    }
}

/// What makes spans.
fn instruments(loaded: &Loaded) -> Instruments {
    let words = loaded.list("tracing_instrumentations");
    words.into_iter().filter_map(Instruments::named).fold(Instruments::NONE, Instruments::and)
}

fn extra_metrics(loaded: &Loaded) -> ExtraGroups {
    loaded.list("extra_metrics").into_iter().filter_map(ExtraGroups::named).fold(ExtraGroups::NONE, ExtraGroups::and)
}

fn otlp_metrics(loaded: &Loaded) -> Option<MetricsTo> {
    let endpoint = loaded.text("otlp_metrics_endpoint").filter(|endpoint| !endpoint.is_empty())?;
    let headers = loaded.list("otlp_metrics_headers").into_iter().filter_map(|pair| pair.split_once(':'));
    Some(MetricsTo {
        endpoint: endpoint.to_owned(),
        headers: headers.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect(),
        interval: seconds(loaded.number("otlp_metrics_interval").unwrap_or(60.0)),
    })
}

/// Absolute, without a slash at the end.
fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path)).components().collect()
}

fn port(text: &str) -> Option<u16> {
    text.trim().parse().ok().filter(|port| *port > 0)
}

fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or_default()
}

/// `https://manager.example.com/path` → `https://manager.example.com`.
fn origin_of(url: &str) -> String {
    let end = url.find("://").and_then(|at| url[at + 3..].find('/').map(|slash| at + 3 + slash)).unwrap_or(url.len());
    url[..end].to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::load::load;
    use super::*;

    fn settings(text: &str) -> Result<Settings, Complaints> {
        Settings::new(load(text, [], &[]))
    }

    #[test]
    fn the_defaults_are_complete() {
        let settings = settings("").unwrap();
        assert_eq!(settings.proxy_listens.len(), 2);
        assert_eq!(settings.wire.keepalive_timeout, Duration::from_secs(75));
        assert_eq!(settings.admin_body_limit, 10 << 20);
        assert!(settings.proxy.headers.server && !settings.proxy.headers.upstream_status);
        assert_eq!(settings.database, Database::Embedded);
    }

    #[test]
    fn complaints_from_several_keys_come_together() {
        let text = "proxy_listen = nowhere\ntrusted_ips = x\nheaders = server_tokens, x-nothing\nnginx_http_client_max_body_size = 1z\n";
        let complaints = settings(text).unwrap_err().0;
        assert_eq!(complaints.len(), 4, "{complaints:?}");
        assert!(complaints.iter().any(|complaint| complaint == "headers: invalid entry 'x-nothing'"));
    }

    #[test]
    fn sizes_and_times_have_nginx_units() {
        let settings = settings("nginx_http_client_max_body_size = 2m\nnginx_http_client_body_timeout = 500ms\n").unwrap();
        assert_eq!(settings.wire.max_body_size, 2 << 20);
        assert_eq!(settings.wire.client_body_timeout, Duration::from_millis(500));
    }
}
