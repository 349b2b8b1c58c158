//! ldap-auth: who a request is from, by a user and password that an LDAP server knows.
//!
//! A login is a simple bind as `<attribute>=<user>,<base_dn>` ([`server`]). Its outcome, good or bad, is remembered for
//! `cache_ttl` seconds ([`remembered`]), so that few requests wait for the server. There is no consumer behind such a user;
//! the user's name is what later plugins and the upstream see.
//!
//! - [`ber`]: the messages

mod ber;
mod config;
mod remembered;
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use portcullis_plugin::extra_metrics::Refused;
use portcullis_plugin::{Answer, Credential, Env, Handler, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::{Check, Rule};
use portcullis_wire::tls::UpstreamConfigs;
use uuid::Uuid;

use crate::{auth, secret};
use config::Config;
use remembered::Remembered;
use server::{Security, Server};

/// See the module's description.
pub struct LdapAuth {
    anonymous: Option<String>,
    hide_credentials: bool,
    /// Followed by white space and the credentials.
    header_type: String,
    challenge: String,
    attribute: String,
    base_dn: String,
    server: Arc<Server>,
    remembered: Remembered,
    runtime: tokio::runtime::Handle,
}

impl Plugin for LdapAuth {
    const NAME: &'static str = "ldap-auth";
    const PRIORITY: i32 = 1200;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let millis = |value: Option<f64>| Duration::from_secs_f64(value.unwrap_or_default().max(0.0) / 1000.0);
        let security = match (config.ldaps, config.start_tls) {
            (true, _) => Security::Ldaps,
            (false, true) => Security::StartTls,
            (false, false) => Security::None,
        };
        let verify = config.verify_ldap_host && security != Security::None;
        let roots = if verify { vec![env.node.trusted_certificates()] } else { Vec::new() };
        let mut tls = (*UpstreamConfigs::new().for_service(verify, None, &roots, None).config).clone();
        tls.alpn_protocols.clear();
        let (timeout, keepalive) = (millis(config.timeout), millis(config.keepalive));
        let header_type = config.header_type.unwrap_or_else(|| "ldap".to_owned());
        // As Kong: its own scheme in capitals, any other as it is set.
        let scheme = if header_type == "ldap" { "LDAP" } else { &header_type };
        Ok(Self {
            anonymous: config.anonymous,
            hide_credentials: config.hide_credentials,
            challenge: auth::challenge(scheme, config.realm.as_deref()),
            header_type,
            attribute: config.attribute,
            base_dn: config.base_dn,
            server: Arc::new(Server::new(config.ldap_host, config.ldap_port, security, Arc::new(tls), timeout, keepalive)),
            remembered: Remembered::new(Duration::from_secs_f64(config.cache_ttl.max(0.0)))?,
            runtime: env.runtime.clone(),
        })
    }

    fn config_checks() -> Vec<Check> {
        vec![Check::Conditional {
            if_field: "ldaps",
            if_match: vec![Rule::Eq(true.into())],
            then_field: "start_tls",
            then_match: vec![Rule::Eq(false.into())],
            then_required: false,
            then_error: Some("'ldaps' and 'start_tls' cannot be enabled simultaneously"),
        }]
    }
}

/// A user's name and password as a header brought them.
#[derive(Debug, PartialEq, Eq)]
struct Login {
    user: String,
    password: Vec<u8>,
}

impl Handler for LdapAuth {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        if auth::is_settled(request, self.anonymous.as_deref()) {
            return Step::Next;
        }
        let headers = &request.head.headers;
        let logins = ["Proxy-Authorization", "Authorization"].into_iter().filter_map(|name| login(headers.get(name)?, &self.header_type));
        let logins: Vec<Login> = logins.collect();
        let now = Instant::now();
        for login in &logins {
            match self.remembered.find(&self.remembered.digest(login.user.as_bytes(), &login.password), now) {
                Some(true) => return self.admit(request, &login.user),
                Some(false) => {}
                None => return Step::later(self.ask(request, logins)),
            }
        }
        self.refuse(request)
    }
}

impl LdapAuth {
    /// Tries the logins in order, asking the server for what is not remembered.
    async fn ask(&self, request: &mut Request, logins: Vec<Login>) -> Result<Option<Box<Answer>>> {
        for login in logins {
            let digest = self.remembered.digest(login.user.as_bytes(), &login.password);
            let accepted = match self.remembered.find(&digest, Instant::now()) {
                Some(accepted) => accepted,
                None => {
                    let name = format!("{}={},{}", self.attribute, escape(&login.user), self.base_dn);
                    let (server, password) = (self.server.clone(), login.password);
                    let asked = self.runtime.spawn(async move { server.accepts(&name, &password).await }).await?;
                    let accepted = asked.map_err(|error| format!("LDAP server {}:{}: {error}", self.server.host, self.server.port))?;
                    self.remembered.keep(digest, accepted, Instant::now());
                    accepted
                }
            };
            if accepted {
                self.admit(request, &login.user);
                return Ok(None);
            }
        }
        match self.refuse(request) {
            Step::Answer(answer) => Ok(Some(answer)),
            Step::Fail(error) => Err(error),
            Step::Next | Step::Later(_) => Ok(None),
        }
    }

    fn admit<'a>(&self, request: &mut Request, user: &str) -> Step<'a> {
        if self.hide_credentials {
            request.head.headers.remove("Authorization");
            request.head.headers.remove("Proxy-Authorization");
        }
        let credential = Credential { id: id_of(user), consumer: None, key: user.into(), expires_at: None, fields: None };
        auth::identify(request, None, Arc::new(credential), user.as_bytes());
        Step::Next
    }

    fn refuse<'a>(&self, request: &mut Request) -> Step<'a> {
        let shown = ["Proxy-Authorization", "Authorization"].into_iter().any(|name| request.head.headers.contains(name));
        let reason = if shown { Refused::Invalid } else { Refused::Missing };
        auth::refuse(request, self.anonymous.as_deref(), reason.by(Self::NAME), || {
            Answer::error(401, "Unauthorized").header("WWW-Authenticate", self.challenge.as_str())
        })
    }
}

/// The same user has the same id everywhere, so that limits by credential count together.
fn id_of(user: &str) -> Uuid {
    let hash = digest::digest(&digest::SHA256, user.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// User and password of a header of this scheme. Neither may be empty: a bind without a password is an anonymous one, which
/// servers accept for any name (RFC 4513, 5.1.2).
fn login(header: &[u8], scheme: &str) -> Option<Login> {
    let header = header.trim_ascii_start();
    let (start, rest) = header.split_at_checked(scheme.len())?;
    if !start.eq_ignore_ascii_case(scheme.as_bytes()) || !rest.first()?.is_ascii_whitespace() {
        return None;
    }
    let decoded = secret::base64(rest.trim_ascii())?;
    // Name and password are one line; a line end behind it is no part of the password.
    let line = decoded.strip_suffix(b"\n").unwrap_or(&decoded);
    if line.contains(&b'\n') {
        return None;
    }
    let colon = line.iter().position(|byte| *byte == b':')?;
    let user = std::str::from_utf8(&line[..colon]).ok()?.to_owned();
    let password = line[colon + 1..].to_vec();
    (!user.is_empty() && !password.is_empty()).then_some(Login { user, password })
}

/// A value inside a distinguished name (RFC 4514, 2.4).
fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        match character {
            '\0' => out.push_str("\\00"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => out.extend(['\\', character]),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            '#' if at == 0 => out.push_str("\\#"),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests;
