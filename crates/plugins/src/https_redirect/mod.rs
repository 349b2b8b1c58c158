//! https-redirect: sends clients that come without TLS to the same address with it, and tells browsers to stay there.
//!
//! Routes with `protocols: ["https"]` refuse or redirect on their own; this is for whole services, hosts or the gateway, with a
//! say over status, port and exceptions. A request that a trusted proxy took in over HTTPS counts as one with TLS.

mod config;

use portcullis_plugin::{Answer, Env, Handler, Head, Instance, Phases, Plugin, Request, Result, Scopes, Step};

use config::Config;

/// See the module's description.
pub struct HttpsRedirect {
    status: u16,
    /// `:port`, or nothing.
    port: String,
    hosts: Vec<String>,
    exclude_paths: Vec<String>,
    /// The value of `Strict-Transport-Security`.
    hsts: Option<String>,
}

impl Plugin for HttpsRedirect {
    const NAME: &'static str = "https-redirect";
    /// Before anything asks for credentials, which had better not travel in the clear.
    const PRIORITY: i32 = 2400;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER);
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        let hsts = config.hsts_max_age.map(|seconds| {
            let subdomains = if config.hsts_include_subdomains { "; includeSubDomains" } else { "" };
            let preload = if config.hsts_preload { "; preload" } else { "" };
            format!("max-age={seconds}{subdomains}{preload}")
        });
        Ok(Self {
            status: u16::try_from(config.status_code)?,
            port: config.port.filter(|port| *port != 443).map_or_else(String::new, |port| format!(":{port}")),
            hosts: config.hosts.unwrap_or_default().into_iter().map(|host| host.to_ascii_lowercase()).collect(),
            exclude_paths: config.exclude_paths.unwrap_or_default(),
            hsts,
        })
    }
}

impl Handler for HttpsRedirect {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        if request.client.forwarded_https {
            return Step::Next;
        }
        let Some(host) = host_of(request).filter(|host| self.is_for(host)) else { return Step::Next };
        if self.exclude_paths.iter().any(|prefix| request.head.path().starts_with(prefix.as_bytes())) {
            return Step::Next;
        }
        let target = String::from_utf8_lossy(request.head.target());
        let location = format!("https://{host}{}{target}", self.port);
        Step::answer(Answer::empty(self.status).header("Location", location))
    }

    fn header_filter(&self, head: &mut Head<'_>) -> Result<()> {
        // Browsers ignore it on responses without TLS (RFC 6797, 8.1), where anybody could have put it.
        if let Some(hsts) = &self.hsts
            && head.request.client.forwarded_https
            && host_of(head.request).is_some_and(|host| self.is_for(&host))
        {
            head.response.headers.set("Strict-Transport-Security", hsts.as_bytes());
        }
        Ok(())
    }
}

impl HttpsRedirect {
    fn is_for(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|pattern| matches(pattern, host))
    }
}

fn matches(pattern: &str, host: &str) -> bool {
    if let Some(suffix) = pattern.strip_prefix('*') {
        return host.len() > suffix.len() && host.ends_with(suffix);
    }
    match pattern.strip_suffix('*') {
        Some(prefix) => host.len() > prefix.len() && host.starts_with(prefix),
        None => pattern == host,
    }
}

/// The host the client named, in lower case and without a port. None if it named none, or one that fits into no address.
fn host_of(request: &Request) -> Option<String> {
    let named = request.head.authority().or_else(|| request.head.headers.get("Host"))?;
    let named = std::str::from_utf8(named).ok()?;
    // An IPv6 address has colons of its own, between brackets.
    let end = named.rfind(']').map_or_else(|| named.find(':').unwrap_or(named.len()), |bracket| bracket + 1);
    let host = named[..end].to_ascii_lowercase();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~[]:%".contains(&byte);
    (!host.is_empty() && host.bytes().all(fits)).then_some(host)
}

#[cfg(test)]
mod tests;
