//! Answers the gateway makes itself, and the headers every response gains (behaviour checklist 6.2, 6.3, 17).

use std::time::Instant;

use portcullis_plugin::{Answer, Body, CountsAsProxied, Head, Phases, Request, ResponseHead, Source, Stage};
use portcullis_wire::headers::{Known, Name};
use portcullis_wire::{BodyError, Downstream, Framing, Headers, Version};
use smallvec::SmallVec;
use tracing::error;

use super::errors::{self, Format};
use super::upstream_head::Decimal;
use super::{End, Resolved, Trace, grpc};
use crate::gateway::Worker;

const CONTENT_TYPE: Name = Name::new("Content-Type");
const UPSTREAM_LATENCY: Name = Name::new("X-Kong-Upstream-Latency");
const PROXY_LATENCY: Name = Name::new("X-Kong-Proxy-Latency");
const RESPONSE_LATENCY: Name = Name::new("X-Kong-Response-Latency");
const REQUEST_ID: Name = Name::new("X-Kong-Request-Id");
const VIA: Name = Name::new("Via");

/// How a request ends whose body could not be read.
pub(super) fn body_error(error: BodyError) -> End {
    match error {
        BodyError::TooLarge => End::Low(413),
        BodyError::Timeout => End::Low(408),
        BodyError::Malformed => End::Low(400),
        BodyError::ClientGone => End::Gone,
    }
}

impl Worker {
    /// Sends the answer that ends the request and tells what was sent.
    pub(super) async fn conclude(
        &self,
        end: End,
        request: &mut Request,
        down: &mut Downstream,
        trace: &mut Trace,
        resolved: &Resolved<'_>,
    ) -> (ResponseHead, Source) {
        let (mut head, mut body, source) = match end {
            End::Answer(answer) => {
                let (head, body) = self.answer(*answer, request);
                (head, body, Source::Exit)
            }
            End::Low(status) => {
                let (head, body) = self.low_level(status, request);
                (head, body, Source::Error)
            }
            End::Gone => {
                down.abort();
                return (ResponseHead { status: 499, ..ResponseHead::default() }, Source::Error);
            }
        };
        self.add_own_headers(&mut head.headers, trace);
        if matches!(head.status, 400 | 408 | 413) && source == Source::Error {
            down.close_after();
        }
        self.header_filter(&mut head, request, resolved, source);
        // A type with parameters is taken as it is here; an upstream's is taken apart.
        let is_bare = |value: &[u8]| !value.contains(&b';');
        if head.headers.known(Known::ContentType).is_some_and(is_bare) {
            add_charset(&mut head.headers, head.status);
        }
        let status = head.status;
        self.add_final_headers(&mut head.headers, status, request, trace);
        filter_body(&mut body, request, resolved);
        // A client that went away before its answer is no fault of anybody's; the log shows what it would have got.
        let _ = down.respond(&mut head, &body).await;
        if !matches!(head.status, 100..=199 | 204 | 304) {
            // What the engine has told the client, logs tell too.
            head.framing = Framing::Length(body.len() as u64);
        }
        (head, source)
    }

    /// An answer for a message that never became a request.
    pub(super) fn refusal(&self, status: u16, headers: &Headers) -> (ResponseHead, Vec<u8>) {
        let settings = &self.gateway.settings;
        let id = self.request_id();
        let (content_type, body) = match errors::nginx_page(status) {
            Some(page) => ("text/html; charset=utf-8", page),
            None => {
                let format = match status {
                    // The target or the headers could not be kept: there is nothing to negotiate with.
                    414 | 494 => Format::Plain,
                    _ => errors::negotiate_low(headers, settings.error_default_type),
                };
                let message = errors::low_message(status);
                (format.content_type(), errors::body(&settings.error_templates, format, &message, id.as_str()))
            }
        };
        let mut head = ResponseHead { status: if matches!(status, 494 | 497) { 400 } else { status }, ..ResponseHead::default() };
        head.headers.append("Content-Type", content_type.as_bytes());
        self.append_date(&mut head.headers, (self.wall_clock_ns(Instant::now()) / 1_000_000) as u64);
        if settings.headers.server {
            head.headers.append("Server", settings.product.as_bytes());
        }
        if settings.headers.response_latency {
            head.headers.append("X-Kong-Response-Latency", b"0");
        }
        if settings.headers.request_id {
            head.headers.append("X-Kong-Request-Id", id.as_bytes());
        }
        (head, body)
    }

    fn answer(&self, answer: Answer, request: &Request) -> (ResponseHead, Vec<u8>) {
        let status = answer.status;
        // 494 is nginx' own name for a 400.
        let shown = if status == 494 && answer.body == Body::Default { 400 } else { status };
        let mut head = ResponseHead { status: shown, headers: request.response_headers.clone(), ..ResponseHead::default() };
        if grpc::is_call(request) && !says_grpc(&answer) {
            for (name, value) in &answer.headers {
                head.headers.set(name, value);
            }
            let message = match &answer.body {
                Body::Negotiated(message) => Some(String::from(&**message)),
                Body::Json(value) => value.get("message").and_then(|message| message.as_str()).map(str::to_owned),
                Body::Bytes { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
                Body::Default | Body::Empty => None,
            };
            grpc::into_call_answer(status, &mut head.headers, message.as_deref());
            return (head, Vec::new());
        }
        let given = answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let mut content_type = |text: &str| {
            if !given {
                head.headers.set("Content-Type", text.as_bytes());
            }
        };
        let body = match answer.body {
            Body::Negotiated(message) => {
                let format = errors::negotiate(&request.head.headers);
                if format == Format::Grpc {
                    content_type("");
                } else {
                    content_type(format.content_type());
                }
                errors::body(&self.gateway.settings.error_templates, format, &message, request.id.as_str())
            }
            Body::Json(value) => {
                content_type("application/json; charset=utf-8");
                serde_json::to_vec(&value).unwrap_or_default()
            }
            Body::Bytes { content_type: of, bytes } => {
                if let Some(of) = of {
                    content_type(&of);
                }
                bytes
            }
            Body::Default => self.default_body(status, request, &mut content_type),
            Body::Empty => Vec::new(),
        };
        for (at, (name, value)) in answer.headers.iter().enumerate() {
            // The first line of a name replaces what others had set; its later ones stand beside it.
            if answer.headers[..at].iter().any(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
                head.headers.append(name, value);
            } else {
                head.headers.set(name, value);
            }
        }
        (head, body)
    }

    /// What the gateway says for a status when a plugin gives no body: Kong's error text for some, nginx' page for others.
    fn default_body(&self, status: u16, request: &Request, content_type: &mut dyn FnMut(&str)) -> Vec<u8> {
        if matches!(status, 400 | 404 | 408 | 411 | 412 | 413 | 414 | 417 | 494 | 500 | 502 | 503 | 504) {
            let format = errors::negotiate_low(&request.head.headers, self.gateway.settings.error_default_type);
            if format == Format::Grpc {
                content_type("application/json; charset=utf-8");
                return serde_json::to_vec(&serde_json::json!({ "message": errors::low_message(status) })).unwrap_or_default();
            }
            content_type(format.content_type());
            let templates = &self.gateway.settings.error_templates;
            return errors::body(templates, format, &errors::low_message(status), request.id.as_str());
        }
        let Some(page) = errors::nginx_page(status) else { return Vec::new() };
        content_type("text/html");
        page
    }

    /// Kong's error page for failures below the plugins.
    fn low_level(&self, status: u16, request: &Request) -> (ResponseHead, Vec<u8>) {
        let settings = &self.gateway.settings;
        let mut head = ResponseHead { status, headers: request.response_headers.clone(), ..ResponseHead::default() };
        let format = errors::negotiate_low(&request.head.headers, settings.error_default_type);
        let message = errors::low_message(status);
        if grpc::is_call(request) {
            grpc::into_call_answer(status, &mut head.headers, Some(&message));
            return (head, Vec::new());
        }
        if format == Format::Grpc {
            head.headers.set("Content-Type", b"application/json; charset=utf-8");
            let body = serde_json::to_vec(&serde_json::json!({ "message": message })).unwrap_or_default();
            return (head, body);
        }
        head.headers.set("Content-Type", format.content_type().as_bytes());
        (head, errors::body(&settings.error_templates, format, &message, request.id.as_str()))
    }

    /// What header filters may see and change of an answer that no upstream gave. A failed upstream counts as proxied.
    fn add_own_headers(&self, headers: &mut Headers, trace: &Trace) {
        let tokens = &self.gateway.settings.headers;
        // Kong's own error pages name the server before the plugins' turn.
        if trace.proxied && tokens.server && headers.known(Known::Server).is_none() {
            headers.append("Server", self.gateway.settings.product.as_bytes());
        }
        if trace.proxied && tokens.upstream_status {
            headers.append("X-Kong-Upstream-Status", trace.upstream_status().as_bytes());
        }
    }

    /// What header filters may see and change of a proxied response.
    pub(super) fn add_proxied_headers(&self, headers: &mut Headers, request: &Request, trace: &Trace) {
        let settings = &self.gateway.settings;
        let tokens = &settings.headers;
        // Another gateway's, at the upstream, or what is meant for nginx: rarely there, so one look before any line is touched.
        if headers.iter().any(|(name, _)| matches!(name, [b'x' | b'X', b'-', ..]) && is_for_a_gateway(name)) {
            for name in NGINX_ONLY {
                headers.remove(name);
            }
            // Kong's own lines replace those of the upstream, which pass where Kong writes none.
            for (name, written) in [
                ("X-Kong-Upstream-Latency", tokens.upstream_latency),
                ("X-Kong-Proxy-Latency", tokens.proxy_latency),
                ("X-Kong-Upstream-Status", tokens.upstream_status),
                ("X-Kong-Request-Id", tokens.request_id),
            ] {
                if written {
                    headers.remove(name);
                }
            }
        }
        if !request.response_headers.is_empty() {
            join_own(headers, &request.response_headers);
        }
        if tokens.upstream_status {
            headers.append("X-Kong-Upstream-Status", trace.upstream_status().as_bytes());
        }
        if settings.allow_debug_header && request.head.headers.contains("kong-debug") {
            debug_headers(headers, request);
        }
    }

    /// `Date`, `Server`, latencies, `Via` and the request id, which Kong adds behind the plugins' header filters: none sees them or
    /// can take them away.
    pub(super) fn add_final_headers(&self, headers: &mut Headers, status: u16, request: &Request, trace: &Trace) {
        let tokens = &self.gateway.settings.headers;
        if headers.known(Known::Date).is_none() {
            self.append_date(headers, request.started_at_ms);
        }
        if tokens.server && headers.known(Known::Server).is_none() {
            headers.append("Server", self.gateway.settings.product.as_bytes());
        }
        let replays = request.context.get::<CountsAsProxied>().is_some();
        if trace.answered.is_some() || replays {
            add_charset(headers, status);
        }
        match trace.balanced.filter(|_| trace.proxied) {
            Some(balanced) => {
                if tokens.upstream_latency {
                    append_ms(headers, UPSTREAM_LATENCY, balanced, trace.answered.unwrap_or_else(Instant::now));
                }
                if tokens.proxy_latency {
                    append_ms(headers, PROXY_LATENCY, request.started, balanced);
                }
                if tokens.via {
                    self.append_via(headers, request);
                }
            }
            None if replays => {
                if tokens.upstream_latency {
                    headers.append("X-Kong-Upstream-Latency", b"0");
                }
                if tokens.proxy_latency {
                    append_ms(headers, PROXY_LATENCY, request.started, Instant::now());
                }
                if tokens.via {
                    self.append_via(headers, request);
                }
            }
            None if tokens.response_latency => append_ms(headers, RESPONSE_LATENCY, request.started, Instant::now()),
            None => {}
        }
        if tokens.request_id {
            headers.append_clean(REQUEST_ID, request.id.as_bytes());
        }
        if let Some(debug) = &trace.debug {
            debug.tell(headers, request, trace);
        }
    }

    fn append_via(&self, headers: &mut Headers, request: &Request) {
        // The protocol is the one the response arrives in at the client, as Kong writes it.
        let [http1, http2, http3] = &self.via;
        let own = match request.head.version {
            Version::Http10 | Version::Http11 => http1,
            Version::Http2 => http2,
            Version::Http3 => http3,
        };
        if headers.known(Known::Via).is_none() {
            headers.append_clean(VIA, own);
            return;
        }
        let mut value = self.take_buffer();
        for earlier in headers.get_all("via") {
            value.extend_from_slice(earlier);
            value.extend_from_slice(b", ");
        }
        value.extend_from_slice(own);
        headers.set("Via", &value);
        self.give_buffer(value);
    }

    /// Runs the plugins' header filters. One that fails is logged; the response goes on, as in Kong.
    pub(super) fn header_filter(&self, head: &mut ResponseHead, request: &mut Request, resolved: &Resolved<'_>, source: Source) {
        if !resolved.iter().any(|bound| bound.phases.has(Phases::HEADER_FILTER)) {
            return;
        }
        let mut context = std::mem::take(&mut request.context);
        for bound in resolved.iter().filter(|bound| bound.phases.has(Phases::HEADER_FILTER)) {
            let Ok(handler) = &bound.handler else { continue };
            let begun = super::begin(request);
            let filtered = handler.header_filter(&mut Head { request, context: &mut context, response: head, source });
            super::note(request, Stage::HeaderFilter(bound.entry.name), Some(bound.instance.id), begun);
            if let Err(cause) = filtered {
                error!(plugin = bound.entry.name, %cause, "header filter failed");
            }
        }
        request.context = context;
    }
}

/// Runs the body filters over a body that is already whole.
pub(super) fn filter_body(body: &mut Vec<u8>, request: &mut Request, resolved: &Resolved<'_>) {
    for bound in resolved.iter().filter(|bound| bound.phases.has(Phases::BODY_FILTER)) {
        let Ok(handler) = &bound.handler else { continue };
        if let Err(cause) = handler.body_filter(request, body, true) {
            error!(plugin = bound.entry.name, %cause, "body filter failed");
        }
    }
}

/// Whether an answer is in the form of gRPC already.
fn says_grpc(answer: &Answer) -> bool {
    let is_grpc = |of: &[u8]| of.starts_with(b"application/grpc");
    let named = answer.headers.iter().any(|(name, value)| name.eq_ignore_ascii_case("content-type") && is_grpc(value));
    named || matches!(&answer.body, Body::Bytes { content_type: Some(of), .. } if is_grpc(of.as_bytes()))
}

/// Adds a cookie beside the upstream's; one of the same name is replaced.
fn set_cookie(headers: &mut Headers, cookie: &[u8]) {
    let name_of = |value: &[u8]| value.split(|byte| *byte == b'=').next().unwrap_or_default().to_vec();
    let own = name_of(cookie);
    headers.retain(|name, value| !name.eq_ignore_ascii_case(b"set-cookie") || name_of(value) != own);
    headers.append("Set-Cookie", cookie);
}

/// What nginx takes as meant for itself and keeps from clients.
const NGINX_ONLY: [&str; 6] =
    ["X-Accel-Redirect", "X-Accel-Expires", "X-Accel-Buffering", "X-Accel-Charset", "X-Accel-Limit-Rate", "X-Pad"];

/// Whether the beginning is that of one in [`NGINX_ONLY`] or of Kong's own.
fn is_for_a_gateway(name: &[u8]) -> bool {
    ["x-kong-", "x-accel-", "x-pad"]
        .iter()
        .any(|start| name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start.as_bytes())))
}

fn append_ms(headers: &mut Headers, name: Name, from: Instant, to: Instant) {
    let mut text = Decimal::default();
    headers.append_clean(name, text.write(to.saturating_duration_since(from).as_millis() as u64));
}

/// Joins what plugins set before the upstream answered with the answer's headers. nginx puts the upstream's lines behind those that
/// stand already; there is but one type, the upstream's, and one `Server` and `Date`.
fn join_own(headers: &mut Headers, own: &Headers) {
    for (at, line) in own.lines().iter().enumerate() {
        let (name, value) = (own.name(line), own.value(line));
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("set-cookie") {
            set_cookie(headers, value);
        } else if is("via") || is("content-type") && headers.known(Known::ContentType).is_some() {
            // `Via` is told of the upstream's alone.
        } else if is("content-type") || is("server") || is("date") {
            headers.set_from(own, line);
        } else if !own.lines()[..at].iter().any(|earlier| own.name(earlier).eq_ignore_ascii_case(name)) {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let theirs: SmallVec<[Vec<u8>; 2]> = headers.get_all(name).map(<[u8]>::to_vec).collect();
            headers.remove(name);
            own.get_all(name).for_each(|value| headers.append(name, value));
            theirs.iter().for_each(|value| headers.append(name, value));
        }
    }
}

/// nginx names the charset after every plugin's header filter, but not of redirections.
fn add_charset(headers: &mut Headers, status: u16) {
    if !matches!(status, 301 | 302)
        && let Some(with_charset) = text_without_charset(headers)
    {
        headers.remove_known(Known::ContentType);
        headers.append_clean(CONTENT_TYPE, &with_charset);
    }
}

/// nginx' `charset UTF-8` names the charset of text types that do not.
fn text_without_charset(headers: &Headers) -> Option<SmallVec<[u8; 64]>> {
    const TEXT: [&[u8]; 6] =
        [b"text/html", b"text/plain", b"text/xml", b"text/vnd.wap.wml", b"application/javascript", b"application/rss+xml"];
    let value = headers.known(Known::ContentType)?;
    let media_type = value.split(|byte| *byte == b';').next()?.trim_ascii();
    if !TEXT.iter().any(|text| media_type.eq_ignore_ascii_case(text)) {
        return None;
    }
    if value.windows(8).any(|part| part.eq_ignore_ascii_case(b"charset=")) {
        return None;
    }
    let mut with_charset = SmallVec::from_slice(value);
    with_charset.extend_from_slice(b"; charset=UTF-8");
    Some(with_charset)
}

fn debug_headers(headers: &mut Headers, request: &Request) {
    if let Some(route) = &request.route {
        headers.set("Kong-Route-Id", route.id.to_string().as_bytes());
        if let Some(name) = &route.name {
            headers.set("Kong-Route-Name", name.as_bytes());
        }
    }
    if let Some(service) = &request.service {
        headers.set("Kong-Service-Id", service.id.to_string().as_bytes());
        if let Some(name) = &service.name {
            headers.set("Kong-Service-Name", name.as_bytes());
        }
    }
}
