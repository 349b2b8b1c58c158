//! session: keeps clients that authenticated once known by a cookie.
//!
//! Runs before every authenticating plugin: a client with a valid cookie is who it was when the cookie was made, and plugins
//! with `anonymous` leave it alone. When another plugin authenticated a request, its response brings the cookie
//! ([`cookie`]). What a session holds (consumer, credential, groups) is in the cookie itself, or with `storage` `kong` in the
//! database ([`kept`]).

mod config;
mod cookie;
mod kept;

use std::sync::Arc;

use portcullis_plugin::{
    Answer, Credential, Env, Handler, Head, Index, Instance, Method, Phases, Plugin, Protocols, Request, Result, Scopes, Step,
};
use portcullis_schema::{Fields, Record, Schema, Shorthand, build::HTTP_PROTOCOLS};
use portcullis_wire::Framing;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::warn;
use uuid::Uuid;

use crate::arguments;
use crate::auth;
use crate::body::{self, Body};
use config::Config;
use cookie::{Cookie, Seal, Ticket};
use kept::{Found, Kept, OnTheWay};

const SESSIONS: &str = "sessions";

/// How much of a body is looked at for the wish to log out, in bytes.
const MAX_BODY: u64 = 1 << 20;

const AUTHENTICATED_GROUPS: &str = "X-Authenticated-Groups";

/// A session kept in the database.
#[derive(Fields)]
#[expect(dead_code, reason = "describes the rows")]
struct Row {
    /// The row's id.
    #[field(id())]
    id: uuid::Uuid,
    /// The name the cookie knows it by.
    #[field(string().unique().required())]
    session_id: String,
    /// When it ends, in seconds since the epoch.
    #[field(integer())]
    expires: Option<i64>,
    /// What is in it, encrypted.
    #[field(string())]
    data: Option<String>,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    created_at: i64,
}

fn put(config: &mut Record, name: &str, value: Value) -> std::result::Result<(), String> {
    config.insert(name.to_owned(), value);
    Ok(())
}

/// Seconds; 0 for ever.
#[derive(Clone, Copy)]
struct Timeouts {
    idling: u64,
    rolling: u64,
    absolute: u64,
}

impl Timeouts {
    /// When each of them ends a session: idling, rolling, absolute.
    fn ends(&self, ticket: &Ticket) -> [Option<u64>; 3] {
        let end = |from: u64, seconds: u64| (seconds > 0).then(|| from.saturating_add(seconds));
        [end(ticket.touched, self.idling), end(ticket.rolled, self.rolling), end(ticket.created, self.absolute)]
    }

    fn is_over(&self, ticket: &Ticket, now: u64) -> bool {
        self.ends(ticket).into_iter().flatten().any(|end| now > end)
    }

    /// Seconds left; none for ever.
    fn remaining(&self, ticket: &Ticket, now: u64) -> Option<u64> {
        self.ends(ticket).into_iter().flatten().min().map(|end| end.saturating_sub(now))
    }
}

/// One of the two cookies: that of the browser's session, and that of clients who want to be remembered.
struct Pass {
    cookie: Cookie,
    seal: Seal,
    /// For contents that are kept elsewhere.
    contents_seal: Seal,
    timeouts: Timeouts,
    /// Outlives the browser.
    lasting: bool,
}

/// What a session is for.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
struct Contents {
    consumer: Uuid,
    credential: Uuid,
    subject: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
}

/// A session that a request came with.
struct Opened {
    ticket: Ticket,
    contents: Contents,
    /// By the cookie that outlives the browser.
    lasting: bool,
    /// Its row, where it is kept in the database.
    row: Option<Uuid>,
}

/// What of a session goes into headers.
#[derive(Clone, Copy)]
enum Told {
    Id,
    Audience,
    Subject,
    Timeout,
    Idling,
    Rolling,
    Absolute,
}

impl Told {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "id" => Self::Id,
            "audience" => Self::Audience,
            "subject" => Self::Subject,
            "timeout" => Self::Timeout,
            "idling-timeout" => Self::Idling,
            "rolling-timeout" => Self::Rolling,
            "absolute-timeout" => Self::Absolute,
            _ => return None,
        })
    }

    fn header(self) -> &'static str {
        match self {
            Self::Id => "Session-Id",
            Self::Audience => "Session-Audience",
            Self::Subject => "Session-Subject",
            Self::Timeout => "Session-Timeout",
            Self::Idling => "Session-Idling-Timeout",
            Self::Rolling => "Session-Rolling-Timeout",
            Self::Absolute => "Session-Absolute-Timeout",
        }
    }
}

/// See the module's description.
pub struct Session {
    audience: String,
    session: Pass,
    remember: Option<Pass>,
    /// Where contents are, if not in the cookie.
    kept: Option<Kept>,
    stale_secs: u64,
    request_headers: Vec<Told>,
    response_headers: Vec<Told>,
    read_body_for_logout: bool,
    logout_methods: Vec<Method>,
    logout_query_arg: String,
    logout_post_arg: String,
}

impl Plugin for Session {
    const NAME: &'static str = "session";
    const PRIORITY: i32 = 1900;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER);
    const SCOPES: Scopes = Scopes { consumer: false, protocols: Protocols::AnyDefault(&HTTP_PROTOCOLS), ..Scopes::ANY };
    const INDEXES: &'static [Index] = &[Index { entity: SESSIONS, key: "session_id", by_key: true, by_consumer: false, keep_fields: true }];
    type Config = Config;

    fn new(config: Config, _: &Instance, env: &Env) -> Result<Self> {
        let secret = config.secret.unwrap_or_default();
        let audience = config.audience.unwrap_or_else(|| "default".to_owned());
        let seconds = |value: Option<f64>| value.unwrap_or_default().max(0.0) as u64;
        let mut attributes = String::new();
        let named = [("Domain", &config.cookie_domain), ("Path", &config.cookie_path), ("SameSite", &config.cookie_same_site)];
        for (name, value) in named {
            if let Some(value) = value.as_ref().filter(|value| name != "Domain" || !matches!(value.as_str(), "" | "localhost")) {
                attributes.push_str(&format!("; {name}={value}"));
            }
        }
        // Browsers take cookies for all sites only where they are secure, whatever the configuration says of it.
        let secure = config.cookie_secure == Some(true) || config.cookie_same_site.as_deref() == Some("None");
        for (name, set) in [("Secure", secure), ("HttpOnly", config.cookie_http_only == Some(true))] {
            if set {
                attributes.push_str(&format!("; {name}"));
            }
        }
        let pass = |name: String, lasting: bool, timeouts: Timeouts| Pass {
            seal: Seal::new(secret.as_bytes(), &[&name, &audience, "cookie"]),
            contents_seal: Seal::new(secret.as_bytes(), &[&name, &audience, "contents"]),
            cookie: Cookie { name, attributes: attributes.clone() },
            timeouts,
            lasting,
        };
        let session = pass(
            config.cookie_name.unwrap_or_else(|| "session".to_owned()),
            false,
            Timeouts {
                idling: seconds(config.idling_timeout),
                rolling: seconds(config.rolling_timeout),
                absolute: seconds(config.absolute_timeout),
            },
        );
        let remember = (config.remember == Some(true)).then(|| {
            let timeouts = Timeouts {
                idling: 0,
                rolling: seconds(config.remember_rolling_timeout),
                absolute: seconds(config.remember_absolute_timeout),
            };
            pass(config.remember_cookie_name.unwrap_or_else(|| "remember".to_owned()), true, timeouts)
        });
        let told = |names: Option<Vec<String>>| names.unwrap_or_default().iter().filter_map(|name| Told::of(name)).collect();
        let method = |name: &String| match name.as_str() {
            "GET" => Some(Method::Get),
            "POST" => Some(Method::Post),
            "DELETE" => Some(Method::Delete),
            _ => None,
        };
        Ok(Self {
            session,
            remember,
            kept: (config.storage.as_deref() == Some("kong")).then(|| Kept {
                rows: env.rows.clone(),
                runtime: env.runtime.clone(),
                on_the_way: env.state.get::<OnTheWay>(),
            }),
            stale_secs: seconds(config.stale_ttl),
            request_headers: told(config.request_headers),
            response_headers: told(config.response_headers),
            read_body_for_logout: config.read_body_for_logout == Some(true),
            logout_methods: config.logout_methods.unwrap_or_default().iter().filter_map(method).collect(),
            logout_query_arg: config.logout_query_arg.unwrap_or_default(),
            logout_post_arg: config.logout_post_arg.unwrap_or_default(),
            audience,
        })
    }

    fn shorthands() -> Vec<Shorthand> {
        use portcullis_schema::build::{boolean, number, string};
        let older = |name, field, expand| Shorthand { name, field, expand };
        vec![
            older("cookie_lifetime", number(), |value, config| put(config, "rolling_timeout", value.clone())),
            older("cookie_idletime", number(), |value, config| put(config, "idling_timeout", value.clone())),
            older("cookie_renew", number(), |_, _| Ok(())),
            older("cookie_discard", number(), |value, config| put(config, "stale_ttl", value.clone())),
            older("cookie_samesite", string(), |value, config| {
                let value = if *value == "off" { "Lax".into() } else { value.clone() };
                put(config, "cookie_same_site", value)
            }),
            older("cookie_httponly", boolean(), |value, config| put(config, "cookie_http_only", value.clone())),
            older("cookie_persistent", boolean(), |value, config| put(config, "remember", value.clone())),
        ]
    }

    fn entities() -> Vec<Schema> {
        vec![Schema { endpoint_key: Some("session_id"), cache_key: &["session_id"], ttl: true, ..Schema::new("sessions", Row::fields()) }]
    }
}

/// What a request's cookies lead to.
enum Lookup {
    Nothing,
    Here(Opened),
    /// The database has to be asked for what is under this ticket.
    Elsewhere(Ticket, bool),
}

impl Handler for Session {
    fn body_limit(&self, request: &Request) -> Option<u64> {
        let head = &request.head;
        let wanted = self.read_body_for_logout
            && self.logout_methods.contains(&head.method)
            && head.framing != Framing::None
            && head.headers.contains("Cookie")
            && body::may_have_fields(request);
        wanted.then_some(MAX_BODY)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        if !request.head.headers.contains("Cookie") {
            return Step::Next;
        }
        match self.look_up(request) {
            Lookup::Nothing => Step::Next,
            Lookup::Here(opened) => self.enter(request, opened),
            Lookup::Elsewhere(ticket, lasting) => Step::later(async move {
                let (Some(kept), Some(pass)) = (&self.kept, self.pass(lasting)) else { return Ok(None) };
                let data = kept.fetch(&ticket.name()).await?;
                let Some(opened) = pass.opened(ticket, data, None) else { return Ok(None) };
                match self.enter(request, opened) {
                    Step::Next => Ok(None),
                    Step::Answer(answer) => Ok(Some(answer)),
                    Step::Fail(error) => Err(error),
                    Step::Later(later) => later.await,
                }
            }),
        }
    }

    fn header_filter(&self, head: &mut Head<'_>) -> Result<()> {
        // Nobody who is not known is given a session.
        let (Some(consumer), Some(credential)) = (&head.request.consumer, &head.request.credential) else { return Ok(()) };
        let now = head.request.started_at_ms / 1000;
        let same = |opened: &&Opened| opened.contents.consumer == consumer.id && opened.contents.credential == credential.id;
        let opened = head.context.get::<Opened>().filter(same);
        let contents = match opened {
            Some(opened) => opened.contents.clone(),
            None => {
                let names = [&consumer.username, &consumer.custom_id];
                Contents {
                    consumer: consumer.id,
                    credential: credential.id,
                    subject: names.into_iter().flatten().next().cloned().unwrap_or_else(|| consumer.id.to_string()),
                    groups: head.request.authenticated_groups.clone().unwrap_or_default(),
                }
            }
        };
        let (ticket, lines) = self.renewed(opened, &contents, now);
        for line in lines {
            head.response.headers.append("Set-Cookie", line.as_bytes());
        }
        if let Some(ticket) = ticket {
            for told in &self.response_headers {
                head.response.headers.set(told.header(), self.tell(*told, &ticket, &contents, now).as_bytes());
            }
        }
        Ok(())
    }
}

impl Pass {
    fn ticket(&self, request: &Request, now: u64) -> Option<(Ticket, Vec<u8>)> {
        let value = self.cookie.read(&request.head.headers)?;
        self.seal.open(&value).filter(|(ticket, _)| !self.timeouts.is_over(ticket, now))
    }

    /// The session under a ticket whose contents are kept elsewhere.
    fn opened(&self, ticket: Ticket, data: Option<String>, row: Option<Uuid>) -> Option<Opened> {
        let (of, contents) = self.contents_seal.open(data?.as_bytes())?;
        let contents = serde_json::from_slice(&contents).ok()?;
        (of.id == ticket.id).then_some(Opened { ticket, contents, lasting: self.lasting, row })
    }
}

impl Session {
    fn passes(&self) -> impl Iterator<Item = &Pass> {
        std::iter::once(&self.session).chain(&self.remember)
    }

    fn pass(&self, lasting: bool) -> Option<&Pass> {
        if lasting { self.remember.as_ref() } else { Some(&self.session) }
    }

    fn look_up(&self, request: &Request) -> Lookup {
        let now = request.started_at_ms / 1000;
        for pass in self.passes() {
            let Some((ticket, contents)) = pass.ticket(request, now) else { continue };
            let Some(kept) = &self.kept else {
                let Ok(contents) = serde_json::from_slice(&contents) else { continue };
                return Lookup::Here(Opened { ticket, contents, lasting: pass.lasting, row: None });
            };
            let name = ticket.name();
            let data = match kept.find(request, &name) {
                Found::Here(data) => data,
                Found::Elsewhere => return Lookup::Elsewhere(ticket, pass.lasting),
            };
            let row = request.directory.credential(SESSIONS, &name).map(|row| row.id);
            if let Some(opened) = pass.opened(ticket, data, row) {
                return Lookup::Here(opened);
            }
        }
        Lookup::Nothing
    }

    /// Logs out who wants to; everybody else is who the session says.
    fn enter<'a>(&'a self, request: &'a mut Request, opened: Opened) -> Step<'a> {
        let consumer = request.directory.consumer(opened.contents.consumer);
        let leaves = self.wants_logout(request);
        if leaves || consumer.is_none() {
            self.forget(request);
            let answer = leaves.then(|| Box::new(Answer::status(200)));
            let Some(kept) = &self.kept else { return answer.map_or(Step::Next, Step::Answer) };
            let now = request.started_at_ms / 1000;
            let tickets: Vec<Ticket> = self.passes().filter_map(|pass| pass.ticket(request, now)).map(|(ticket, _)| ticket).collect();
            return Step::later(async move {
                for ticket in tickets {
                    let row = opened.row.filter(|_| ticket.id == opened.ticket.id);
                    kept.end(row, &ticket.name()).await?;
                }
                Ok(answer)
            });
        }
        let Contents { credential, groups, .. } = &opened.contents;
        let id = credential.hyphenated().to_string();
        let credential = Credential {
            id: *credential,
            consumer: Some(opened.contents.consumer),
            key: id.as_str().into(),
            expires_at: None,
            fields: None,
        };
        auth::identify(request, consumer, Arc::new(credential), id.as_bytes());
        request.head.headers.remove(AUTHENTICATED_GROUPS);
        if !groups.is_empty() {
            request.head.headers.append(AUTHENTICATED_GROUPS, groups.join(", ").as_bytes());
            request.authenticated_groups = Some(groups.clone());
        }
        let now = request.started_at_ms / 1000;
        for told in &self.request_headers {
            let text = self.tell(*told, &opened.ticket, &opened.contents, now);
            request.head.headers.set(told.header(), text.as_bytes());
        }
        request.context.set(opened);
        Step::Next
    }

    fn wants_logout(&self, request: &Request) -> bool {
        if !self.logout_methods.contains(&request.head.method) {
            return false;
        }
        let query = request.upstream.query.as_deref().unwrap_or_default();
        if !arguments::find(query, &self.logout_query_arg).is_absent() {
            return true;
        }
        self.read_body_for_logout && Body::of(request).is_some_and(|body| !body.find(&self.logout_post_arg).is_absent())
    }

    /// Takes the cookies away from the client.
    fn forget(&self, request: &mut Request) {
        for line in self.passes().flat_map(|pass| pass.cookie.forget(&request.head.headers)).collect::<Vec<_>>() {
            request.response_headers.append("Set-Cookie", line.as_bytes());
        }
    }

    /// The session as it goes on, with the `Set-Cookie` values that the client needs for that.
    fn renewed(&self, opened: Option<&Opened>, contents: &Contents, now: u64) -> (Option<Ticket>, Vec<String>) {
        let Some(opened) = opened.filter(|opened| !opened.lasting) else {
            let mut lines = Vec::new();
            let ticket = self.begin(&self.session, contents, now, now, None, &mut lines);
            if let Some(remember) = &self.remember {
                let before = opened.map(|opened| (opened.row, self.stale_secs));
                let created = opened.map_or(now, |opened| opened.ticket.created);
                self.begin(remember, contents, created, now, before, &mut lines);
            }
            return (ticket, lines);
        };
        let Timeouts { idling, rolling, .. } = self.session.timeouts;
        let mut lines = Vec::new();
        let ticket = &opened.ticket;
        // In the last quarter of its time a session gets a new id; in the other three it is noted now and then that it is in use.
        if rolling > 0 && now.saturating_sub(ticket.rolled) >= rolling - rolling / 4 {
            let before = Some((opened.row, self.stale_secs));
            let fresh = self.begin(&self.session, contents, ticket.created, now, before, &mut lines);
            return (fresh, lines);
        }
        if idling > 0 && now.saturating_sub(ticket.touched) >= (idling / 4).max(1) {
            let touched = Ticket { touched: now, ..ticket.clone() };
            let inside = if self.kept.is_some() { Vec::new() } else { serde_json::to_vec(contents).unwrap_or_default() };
            if let Some(value) = self.session.seal.close(&touched, &inside) {
                lines.extend(self.session.cookie.write(&value, None, now).into_iter().flatten());
            }
            return (Some(touched), lines);
        }
        (Some(ticket.clone()), lines)
    }

    /// A new session that takes the place of an older one, if there is one.
    fn begin(
        &self,
        pass: &Pass,
        contents: &Contents,
        created: u64,
        now: u64,
        before: Option<(Option<Uuid>, u64)>,
        lines: &mut Vec<String>,
    ) -> Option<Ticket> {
        let ticket = Ticket::new(created, now)?;
        let inside = serde_json::to_vec(contents).unwrap_or_default();
        let remaining = pass.timeouts.remaining(&Ticket { touched: u64::MAX / 2, ..ticket.clone() }, now);
        let value = match &self.kept {
            None => pass.seal.close(&ticket, &inside)?,
            Some(kept) => {
                let data = pass.contents_seal.close(&ticket, &inside)?;
                let expires = remaining.map(|seconds| now.saturating_add(seconds));
                if !kept.begin(ticket.name(), data, expires, remaining.unwrap_or(0), before) {
                    return None;
                }
                pass.seal.close(&ticket, b"")?
            }
        };
        let Some(cookies) = pass.cookie.write(&value, remaining.filter(|_| pass.lasting), now) else {
            warn!(consumer = %contents.consumer, "a session is too large for cookies and was not begun");
            return None;
        };
        lines.extend(cookies);
        Some(ticket)
    }

    fn tell(&self, told: Told, ticket: &Ticket, contents: &Contents, now: u64) -> String {
        let [idling, rolling, absolute] = self.session.timeouts.ends(ticket);
        let left = |end: Option<u64>| end.map_or(0, |end| end.saturating_sub(now)).to_string();
        match told {
            Told::Id => ticket.name(),
            Told::Audience => self.audience.clone(),
            Told::Subject => contents.subject.clone(),
            Told::Timeout => left([idling, rolling, absolute].into_iter().flatten().min()),
            Told::Idling => left(idling),
            Told::Rolling => left(rolling),
            Told::Absolute => left(absolute),
        }
    }
}

#[cfg(test)]
mod tests;
