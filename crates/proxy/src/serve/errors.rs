//! The bodies of answers the gateway makes itself.
//!
//! Kong has two kinds (behaviour checklist 6.3): errors raised by rules and plugins negotiate by `Accept` alone and fall
//! back to JSON; errors of the nginx level (upstream failures, refused messages) fall back to the request's `Content-Type`
//! and then to `error_default_type`. Both share the templates. gRPC requests get no body but gRPC headers.

use portcullis_wire::Headers;
use portcullis_wire::headers::Known;

use crate::settings::ErrorTemplates;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Html,
    Plain,
    Xml,
    /// Status in `grpc-status` headers, no body.
    Grpc,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json; charset=utf-8",
            Format::Html => "text/html; charset=utf-8",
            Format::Plain => "text/plain; charset=utf-8",
            Format::Xml => "application/xml; charset=utf-8",
            Format::Grpc => "application/grpc",
        }
    }

    /// The format of a media type that Kong has a template for. Case matters, as in Kong.
    fn of(media_type: &str) -> Option<Self> {
        Some(match media_type {
            "application/json" | "application/*" => Format::Json,
            "text/html" => Format::Html,
            "text/plain" | "text/*" => Format::Plain,
            "application/xml" => Format::Xml,
            _ if media_type.starts_with("application/grpc") => Format::Grpc,
            _ => return None,
        })
    }

    /// The type `error_default_type` names.
    pub fn of_setting(media_type: &str) -> Self {
        Self::of(media_type).unwrap_or(Format::Plain)
    }
}

/// The format of an error raised by a rule or a plugin.
pub fn negotiate(headers: &Headers) -> Format {
    accepted(headers).flatten().unwrap_or(Format::Json)
}

/// The format of an error of the nginx level.
pub fn negotiate_low(headers: &Headers, default: Format) -> Format {
    if let Some(format) = accepted(headers) {
        return format.unwrap_or(Format::Json);
    }
    match headers.known(Known::ContentType) {
        Some(value) => best(&String::from_utf8_lossy(value)).unwrap_or(Format::Json),
        None => default,
    }
}

/// None without an `Accept` header; `Some(None)` when what it wants most has no template.
fn accepted(headers: &Headers) -> Option<Option<Format>> {
    headers.known(Known::Accept)?;
    let lines: Vec<_> = headers.get_all("accept").map(String::from_utf8_lossy).collect();
    Some(best(&lines.join(", ")))
}

/// The first of the media ranges with the greatest weight.
fn best(accept: &str) -> Option<Format> {
    let mut best: Option<(f64, &str)> = None;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let weight = parts.find_map(|parameter| parameter.strip_prefix("q=")).map_or(1.0, |q| q.trim().parse().unwrap_or(1.0));
        if weight > 0.0 && best.is_none_or(|(greatest, _)| weight > greatest) {
            best = Some((weight, media_type));
        }
    }
    Format::of(best?.1)
}

/// The body for a message in a format. The message is inserted as it is: Kong escapes nothing.
pub fn body(templates: &ErrorTemplates, format: Format, message: &str, request_id: &str) -> Vec<u8> {
    let (template, built_in) = match format {
        Format::Json => (&templates.json, "{\n  \"message\":\"%s\",\n  \"request_id\":\"%s\"\n}"),
        Format::Html => (
            &templates.html,
            "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n  <body>\n    \
             <h1>Error</h1>\n    <p>%s.</p>\n    <p>request_id: %s</p>\n  </body>\n</html>\n",
        ),
        Format::Plain => (&templates.plain, "%s\nrequest_id: %s\n"),
        Format::Xml => (
            &templates.xml,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>%s</message>\n  <requestid>%s</requestid>\n</error>\n",
        ),
        Format::Grpc => return Vec::new(),
    };
    let template = template.as_deref().unwrap_or(built_in);
    let mut out = String::with_capacity(template.len() + message.len() + 32);
    let mut values = [message, request_id].into_iter();
    let mut rest = template;
    while let Some(at) = rest.find("%s") {
        out.push_str(&rest[..at]);
        out.push_str(values.next().unwrap_or_default());
        rest = &rest[at + 2..];
    }
    out.push_str(rest);
    out.into_bytes()
}

/// nginx's own page of a status that Kong leaves to it. It asks nobody for a format and names no request.
pub fn nginx_page(status: u16) -> Option<Vec<u8>> {
    let reason = match status {
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        401 => "Authorization Required",
        402 | 403 | 406 | 409 | 410 | 416 | 421 | 429 | 501 | 505 | 507 => portcullis_wire::head::reason_of(status),
        _ => return None,
    };
    let title = format!("{status} {reason}");
    let page =
        format!("<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n");
    Some(page.into_bytes())
}

/// What the nginx level says for a status.
pub fn low_message(status: u16) -> std::borrow::Cow<'static, str> {
    match status {
        400 => "Bad request",
        404 => "Not found",
        405 => "Method not allowed",
        408 => "Request timeout",
        411 => "Length required",
        412 => "Precondition failed",
        413 => "Payload too large",
        414 => "URI too long",
        417 => "Expectation failed",
        494 => "Request header or cookie too large",
        497 => "The plain HTTP request was sent to HTTPS port",
        500 => "An unexpected error occurred",
        502 => "An invalid response was received from the upstream server",
        503 => "The upstream server is currently unavailable",
        504 => "The upstream server is timing out",
        other => return format!("The upstream server responded with {other}").into(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::default();
        lines.iter().for_each(|(name, value)| headers.append(name, value.as_bytes()));
        headers
    }

    #[test]
    fn the_greatest_weight_wins_and_the_first_of_equals() {
        for (accept, format) in [
            ("text/html;q=0.5, application/json;q=0.9", Format::Json),
            ("text/plain, text/html", Format::Plain),
            ("text/html;q=0.8, */*;q=0.9", Format::Json),
            ("text/html;q=0", Format::Json),
            ("text/html; charset=utf-8; q=0.4, text/plain; q=0.5", Format::Plain),
            ("image/png, text/html;q=0.9", Format::Json),
            ("TEXT/HTML", Format::Json),
            ("application/grpc", Format::Grpc),
            ("", Format::Json),
        ] {
            assert_eq!(negotiate(&headers(&[("Accept", accept)])), format, "{accept}");
        }
        assert_eq!(negotiate(&headers(&[("Accept", "text/html;q=0.1"), ("Accept", "text/plain;q=0.2")])), Format::Plain);
    }

    #[test]
    fn only_low_level_errors_look_at_the_content_type() {
        let html = headers(&[("Content-Type", "text/html")]);
        assert_eq!(negotiate(&html), Format::Json);
        assert_eq!(negotiate_low(&html, Format::Plain), Format::Html);
        assert_eq!(negotiate_low(&headers(&[("Content-Type", "application/x-www-form-urlencoded")]), Format::Plain), Format::Json);
        assert_eq!(negotiate_low(&headers(&[]), Format::Plain), Format::Plain);
    }

    #[test]
    fn a_template_of_the_users_own_gets_message_and_id() {
        let templates = ErrorTemplates { json: Some("{\"e\":\"%s\"}".into()), ..ErrorTemplates::default() };
        assert_eq!(body(&templates, Format::Json, "no", "id"), b"{\"e\":\"no\"}");
        assert_eq!(body(&templates, Format::Plain, "no", "id"), b"no\nrequest_id: id\n");
    }
}
