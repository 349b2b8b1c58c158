//! What a line of the access log says: nginx' `log_format`, with the variables that make sense here.

/// A line's form.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    parts: Vec<Part>,
    escape: Escape,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Box<[u8]>),
    Variable(Variable),
}

/// How values keep to themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// Quotes, backslashes and bytes that are not printable ASCII as `\xHH`; absent values as `-`.
    Default,
    /// As the inside of a JSON string; absent values as nothing.
    Json,
    None,
}

/// What a line can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    RemoteAddress,
    RemotePort,
    RemoteUser,
    TimeLocal,
    TimeIso,
    /// Seconds since the epoch, with milliseconds.
    Milliseconds,
    /// The request line.
    Request,
    Method,
    /// Path and query as the client wrote them.
    RequestUri,
    Path,
    Arguments,
    Scheme,
    Host,
    Protocol,
    Status,
    BodyBytesSent,
    BytesSent,
    RequestLength,
    /// Seconds, with milliseconds.
    RequestTime,
    UpstreamAddress,
    UpstreamStatus,
    UpstreamTime,
    UpstreamHeaderTime,
    RequestHeader(Box<str>),
    ResponseHeader(Box<str>),
    RequestId,
    Connection,
    ConnectionRequests,
    /// `.` for requests that were not the first of their connection.
    Pipelined,
    ServerAddress,
    ServerPort,
    TlsProtocol,
    TlsCipher,
    TlsName,
    Process,
    /// The rest are our own.
    Route,
    Service,
    Consumer,
    /// `upstream` or `kong`.
    Source,
    /// Milliseconds spent in the gateway.
    KongLatency,
    /// One we do not have: always absent.
    Unknown,
}

/// Kong's format of that name, the default.
const KONG: &str = concat!(
    r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "#,
    r#"kong_request_id: "$kong_request_id""#
);
/// nginx' `combined`.
const COMBINED: &str =
    r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#;
const JSON: &str = concat!(
    r#"{"time":"$time_iso8601","remote_addr":"$remote_addr","method":"$request_method","scheme":"$scheme","host":"$host","#,
    r#""uri":"$request_uri","protocol":"$server_protocol","status":$status,"bytes_sent":$bytes_sent,"#,
    r#""body_bytes_sent":$body_bytes_sent,"request_length":$request_length,"request_time":$request_time,"source":"$source","#,
    r#""kong_latency_ms":$kong_latency,"upstream_addr":"$upstream_addr","upstream_status":"$upstream_status","#,
    r#""upstream_time":"$upstream_response_time","route":"$route","service":"$service","consumer":"$consumer","#,
    r#""referer":"$http_referer","user_agent":"$http_user_agent","request_id":"$kong_request_id"}"#
);

impl Format {
    /// One of the formats there always are: `kong_log_format`, `combined` or `json`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "kong_log_format" => Some(Self::parse(KONG, Escape::Default)),
            "combined" => Some(Self::parse(COMBINED, Escape::Default)),
            "json" => Some(Self::parse(JSON, Escape::Json)),
            _ => None,
        }
    }

    /// The value of an `nginx_http_log_format` directive: a name, perhaps `escape=…`, and quoted strings that stand together.
    pub fn directive(value: &str) -> Option<(String, Self)> {
        let (name, mut rest) = value.trim().split_once(char::is_whitespace)?;
        let mut escape = Escape::Default;
        let mut text = String::new();
        loop {
            rest = rest.trim_start().trim_end_matches(';');
            let Some(first) = rest.chars().next() else { break };
            if matches!(first, '\'' | '"') {
                let mut characters = rest.char_indices().skip(1);
                let end = loop {
                    match characters.next() {
                        Some((at, quote)) if quote == first => break at,
                        Some((_, '\\')) => text.push(characters.next()?.1),
                        Some((_, other)) => text.push(other),
                        None => return None,
                    }
                };
                rest = &rest[end + 1..];
            } else {
                let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                match word {
                    "escape=json" => escape = Escape::Json,
                    "escape=default" => escape = Escape::Default,
                    "escape=none" => escape = Escape::None,
                    word => text.push_str(word),
                }
                rest = after;
            }
        }
        Some((name.to_owned(), Self::parse(&text, escape)))
    }

    /// Text with `$name` or `${name}` where a value goes.
    pub fn parse(text: &str, escape: Escape) -> Self {
        let mut parts = Vec::new();
        let mut plain = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            plain.extend_from_slice(&rest.as_bytes()[..at]);
            let after = &rest[at + 1..];
            let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, left) = braced.unwrap_or_else(|| {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                after.split_at(end)
            });
            rest = left;
            if name.is_empty() {
                plain.push(b'$');
                continue;
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(Part::Variable(variable(name)));
        }
        plain.extend_from_slice(rest.as_bytes());
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Self { parts, escape }
    }

    /// Appends a line. `value` appends what a variable stands for, or nothing.
    pub fn write(&self, out: &mut Vec<u8>, mut value: impl FnMut(&Variable, &mut Vec<u8>)) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Variable(variable) => {
                    let begin = out.len();
                    value(variable, out);
                    self.escape.apply(out, begin);
                }
            }
        }
    }
}

impl Escape {
    /// Escapes what stands in `out` from `begin` on.
    fn apply(self, out: &mut Vec<u8>, begin: usize) {
        if out.len() == begin {
            if self != Escape::Json {
                out.push(b'-');
            }
            return;
        }
        let is_odd = |byte: &u8| match self {
            Escape::Default => !matches!(byte, 0x20..=0x7e) || matches!(byte, b'"' | b'\\'),
            Escape::Json => *byte < 0x20 || matches!(byte, b'"' | b'\\') || *byte >= 0x80,
            Escape::None => false,
        };
        // Nearly everything is plain, and a block that is looked through without stopping costs a few instructions.
        let plain = |block: &[u8]| !block.iter().fold(false, |odd, byte| odd | is_odd(byte));
        let skipped = match self {
            Escape::None => return,
            Escape::Default | Escape::Json => out[begin..].chunks(32).take_while(|block| plain(block)).map(<[u8]>::len).sum::<usize>(),
        };
        let Some(first) = out[begin + skipped..].iter().position(is_odd).map(|at| at + skipped) else { return };
        let value = out.split_off(begin + first);
        if self == Escape::Json {
            // Quotes of its own around it are cut off; what is not UTF-8 is replaced.
            let text = serde_json::to_string(&String::from_utf8_lossy(&value)).unwrap_or_default();
            out.extend_from_slice(&text.as_bytes()[1..text.len().saturating_sub(1).max(1)]);
            return;
        }
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        for byte in value {
            if is_odd(&byte) {
                out.extend([b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            } else {
                out.push(byte);
            }
        }
    }
}

fn variable(name: &str) -> Variable {
    let header = |prefix: &str| name.strip_prefix(prefix).map(|rest| rest.replace('_', "-").into());
    match name {
        "remote_addr" => Variable::RemoteAddress,
        "remote_port" => Variable::RemotePort,
        "remote_user" => Variable::RemoteUser,
        "time_local" => Variable::TimeLocal,
        "time_iso8601" => Variable::TimeIso,
        "msec" => Variable::Milliseconds,
        "request" => Variable::Request,
        "request_method" => Variable::Method,
        "request_uri" => Variable::RequestUri,
        "uri" | "document_uri" => Variable::Path,
        "args" | "query_string" => Variable::Arguments,
        "scheme" => Variable::Scheme,
        "host" => Variable::Host,
        "server_protocol" => Variable::Protocol,
        "status" => Variable::Status,
        "body_bytes_sent" => Variable::BodyBytesSent,
        "bytes_sent" => Variable::BytesSent,
        "request_length" => Variable::RequestLength,
        "request_time" => Variable::RequestTime,
        "upstream_addr" => Variable::UpstreamAddress,
        "upstream_status" => Variable::UpstreamStatus,
        "upstream_response_time" => Variable::UpstreamTime,
        "upstream_header_time" => Variable::UpstreamHeaderTime,
        "request_id" | "kong_request_id" => Variable::RequestId,
        "connection" => Variable::Connection,
        "connection_requests" => Variable::ConnectionRequests,
        "pipe" => Variable::Pipelined,
        "server_addr" => Variable::ServerAddress,
        "server_port" => Variable::ServerPort,
        "ssl_protocol" => Variable::TlsProtocol,
        "ssl_cipher" => Variable::TlsCipher,
        "ssl_server_name" => Variable::TlsName,
        "pid" => Variable::Process,
        "route" => Variable::Route,
        "service" => Variable::Service,
        "consumer" => Variable::Consumer,
        "source" => Variable::Source,
        "kong_latency" => Variable::KongLatency,
        "content_type" => Variable::RequestHeader("content-type".into()),
        "content_length" => Variable::RequestHeader("content-length".into()),
        _ => match (header("sent_http_"), header("http_")) {
            (Some(name), _) => Variable::ResponseHeader(name),
            (_, Some(name)) => Variable::RequestHeader(name),
            _ => Variable::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written(format: &Format, value: &str) -> String {
        let mut out = Vec::new();
        format.write(&mut out, |variable, out| {
            if *variable != Variable::Unknown {
                out.extend_from_slice(value.as_bytes());
            }
        });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_escaped_and_absent_ones_are_dashes() {
        let format = Format::parse(r#"$host "${uri}x" $nothing$"#, Escape::Default);
        assert_eq!(written(&format, "a\"\\\n\u{e9}"), r#"a\x22\x5C\x0A\xC3\xA9 "a\x22\x5C\x0A\xC3\xA9x" -$"#);
        let format = Format::parse(r#"{"a":"$host","b":"$nothing"}"#, Escape::Json);
        assert_eq!(written(&format, "\u{e9}\"\n"), "{\"a\":\"\u{e9}\\\"\\n\",\"b\":\"\"}");
    }

    #[test]
    fn a_directive_names_a_format() {
        let (name, format) = Format::directive(r#"mine escape=json '{"h":' "\"$http_x_key\"" '}';"#).unwrap();
        let same = Format::parse(r#"{"h":"$http_x_key"}"#, Escape::Json);
        assert_eq!((&*name, &format), ("mine", &same));
        assert_eq!(format.parts[1], Part::Variable(Variable::RequestHeader("x-key".into())));
        assert!(Format::directive("nameless").is_none() && Format::directive("mine 'open").is_none());
    }

    #[test]
    fn every_variable_of_the_formats_there_always_are_is_known() {
        for name in ["kong_log_format", "combined", "json"] {
            assert!(!Format::named(name).unwrap().parts.contains(&Part::Variable(Variable::Unknown)), "{name}");
        }
        assert_eq!(Format::named("other"), None);
    }
}
