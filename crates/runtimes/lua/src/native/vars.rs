//! `ngx.var`: what nginx and Kong know of a request, by name.

use std::time::{SystemTime, UNIX_EPOCH};

use mlua::{Lua, LuaString, Table};
use portcullis_plugin::{Request, Version};

use super::optional;
use crate::moment::{Moment, request_mut, with};
use crate::text;

pub fn add(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.set(
        "var",
        lua.create_function(|lua, name: LuaString| {
            let name = name.to_string_lossy();
            with(|moment| optional(lua, value(&moment, &name)))
        })?,
    )?;
    native.set(
        "set_var",
        lua.create_function(|_, (name, value): (String, LuaString)| {
            let value = value.as_bytes().to_vec();
            request_mut(|request| set(request, &name, value))
        })?,
    )?;
    native.set("phase", lua.create_function(|_, ()| Ok(phase()))?)?;
    native.set("contexts", lua.create_function(|_, ()| with(|moment| Ok(moment.run.clone())).and_then(|run| run.tables()))?)?;
    native.set("owner", lua.create_function(|lua, ()| with(|moment| lua.create_string(moment.owner)))?)?;
    native.set("started_at", lua.create_function(|_, ()| crate::moment::request(|request| Ok(request.started_at_ms as f64)))?)
}

/// The phase's name; `init` outside of any.
fn phase() -> &'static str {
    with(|moment| Ok(moment.phase.name())).unwrap_or("init")
}

fn set(request: &mut Request, name: &str, value: Vec<u8>) -> mlua::Result<()> {
    let upstream = &mut request.upstream;
    match name {
        "upstream_uri" => {
            let split = value.iter().position(|byte| *byte == b'?');
            if let Some(at) = split {
                upstream.query = Some(value[at + 1..].to_vec());
            }
            upstream.path = value[..split.unwrap_or(value.len())].to_vec();
        }
        "upstream_host" => upstream.host_header = Some(value),
        "upstream_scheme" => upstream.https = value == b"https",
        "args" => upstream.query = (!value.is_empty()).then_some(value),
        "uri" | "document_uri" => return Err(mlua::Error::runtime(format!("variable \"{name}\" not changeable"))),
        _ if of_request(request, name, false).is_some() && !by_prefix(name) || of_client(request, name).is_some() => {
            return Err(mlua::Error::runtime("variable not changeable"));
        }
        _ => {
            return Err(mlua::Error::runtime(format!(
                "variable \"{name}\" not found for writing; maybe it is a built-in variable that is not changeable or you forgot to use \
                 \"set ${name} '';\" in the config file to define it first"
            )));
        }
    }
    Ok(())
}

/// Whether the name stands for one of many headers, arguments or cookies.
fn by_prefix(name: &str) -> bool {
    ["http_", "arg_", "cookie_"].iter().any(|prefix| name.starts_with(prefix))
}

fn value(moment: &Moment<'_>, name: &str) -> Option<Vec<u8>> {
    if let Some(text) = of_time(name) {
        return Some(text.into_bytes());
    }
    let request = moment.request.as_ref()?.get();
    let is_routed = moment.response.is_some();
    of_request(request, name, is_routed).or_else(|| of_client(request, name)).or_else(|| of_outcome(moment, request, name))
}

fn of_time(name: &str) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match name {
        "msec" => Some(format!("{}.{:03}", now.as_secs(), now.subsec_millis())),
        "pid" => Some(std::process::id().to_string()),
        "time_iso8601" => Some(iso8601(now.as_secs())),
        _ => None,
    }
}

fn iso8601(seconds: u64) -> String {
    let (year, month, day, hour, minute, second) = super::host::civil(seconds);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00")
}

/// What the request says. Once it has been sent on (`is_sent`), what the gateway added on its way upstream counts too.
fn of_request(request: &Request, name: &str, is_sent: bool) -> Option<Vec<u8>> {
    let head = &request.head;
    let query = || request.upstream.query.clone();
    Some(match name {
        "request_uri" => head.target().to_vec(),
        "uri" | "document_uri" => text::unescape(&text::normal_path(head.path()), false),
        "args" | "query_string" => return query(),
        "is_args" => {
            if request.upstream.query.is_some() {
                b"?".to_vec()
            } else {
                Vec::new()
            }
        }
        "request_method" => request.upstream.method.as_deref().map_or(head.method_text(), str::as_bytes).to_vec(),
        "request" => {
            let mut line = head.method_text().to_vec();
            line.push(b' ');
            line.extend_from_slice(head.target());
            line.push(b' ');
            line.extend_from_slice(protocol(head.version).as_bytes());
            line
        }
        "server_protocol" => protocol(head.version).as_bytes().to_vec(),
        "http_version" => head.version.text().as_bytes().to_vec(),
        "host" => {
            let host = head.authority().or_else(|| head.headers.get("host"))?;
            text::without_port(host).to_ascii_lowercase()
        }
        "content_type" => head.headers.get("content-type")?.to_vec(),
        "content_length" => head.headers.get("content-length")?.to_vec(),
        "request_id" | "kong_request_id" => request.id.as_bytes().to_vec(),
        "request_body" => request.body.clone()?,
        "upstream_uri" => {
            let mut uri = request.upstream.path.clone();
            if let Some(query) = query().filter(|_| is_sent) {
                uri.push(b'?');
                uri.extend(query);
            }
            uri
        }
        "upstream_path" => request.upstream.path.clone(),
        "upstream_host" if is_sent => request.upstream.host_header.clone().unwrap_or_else(|| request.upstream.host.as_bytes().to_vec()),
        "upstream_host" => request.upstream.host_header.clone().unwrap_or_default(),
        "upstream_scheme" => if request.upstream.https { "https" } else { "http" }.into(),
        "kong_proxy_mode" => b"http".to_vec(),
        "forwarded_prefix" => forwarded_prefix(request)?,
        _ => {
            if let Some(header) = name.strip_prefix("http_") {
                return joined(&head.headers, &header.replace('_', "-"));
            }
            if let Some(argument) = name.strip_prefix("arg_") {
                return query_argument(&query()?, argument.as_bytes());
            }
            let cookie = name.strip_prefix("cookie_")?;
            return self::cookie(request, cookie);
        }
    })
}

/// All values of a header, as nginx joins them.
fn joined(headers: &portcullis_plugin::Headers, name: &str) -> Option<Vec<u8>> {
    let separator: &[u8] = if name.eq_ignore_ascii_case("cookie") { b"; " } else { b", " };
    let values: Vec<&[u8]> = headers.get_all(name).collect();
    (!values.is_empty()).then(|| values.join(separator))
}

fn of_client(request: &Request, name: &str) -> Option<Vec<u8>> {
    let client = &request.client;
    let address = |ip: Option<std::net::IpAddr>| ip.map_or_else(|| "unix:".to_owned(), |ip| ip.to_string());
    let text = match name {
        "scheme" => if client.https { "https" } else { "http" }.to_owned(),
        "forwarded_scheme" => if client.forwarded_https { "https" } else { "http" }.to_owned(),
        "https" => if client.https { "on" } else { "" }.to_owned(),
        "remote_addr" => address(client.forwarded_ip),
        "realip_remote_addr" => address(client.ip),
        "remote_port" | "realip_remote_port" => client.port.to_string(),
        "server_addr" => address(client.listen_ip),
        "server_port" => client.listen_port.to_string(),
        "trusted" => if client.trusted { "1" } else { "" }.to_owned(),
        "connection" => client.connection.to_string(),
        "connection_requests" => client.connection_requests.to_string(),
        "server_name" => "kong".to_owned(),
        "ssl_protocol" => client.peer.tls.as_ref()?.version.to_string(),
        "ssl_cipher" => client.peer.tls.as_ref()?.cipher.to_string(),
        "ssl_server_name" => client.peer.tls.as_ref()?.sni.as_deref()?.to_string(),
        _ => return None,
    };
    Some(text.into_bytes())
}

fn of_outcome(moment: &Moment<'_>, request: &Request, name: &str) -> Option<Vec<u8>> {
    let response = moment.response.as_ref().map(|response| response.get());
    Some(match name {
        "status" => response.map_or_else(|| "000".to_owned(), |response| response.status.to_string()).into_bytes(),
        "bytes_sent" | "body_bytes_sent" if moment.exchange.is_none() => b"0".to_vec(),
        "limit_rate" => b"0".to_vec(),
        "pipe" => b".".to_vec(),
        "request_completion" => if moment.exchange.is_some() { "OK" } else { "" }.into(),
        "binary_remote_addr" => match request.client.forwarded_ip? {
            std::net::IpAddr::V4(address) => address.octets().to_vec(),
            std::net::IpAddr::V6(address) => address.octets().to_vec(),
        },
        "proxy_add_x_forwarded_for" => {
            let address = of_client(request, "remote_addr")?;
            match joined(&request.head.headers, "x-forwarded-for") {
                Some(chain) => [chain, b", ".to_vec(), address].concat(),
                None => address,
            }
        }
        "request_time" => format!("{:.3}", request.started.elapsed().as_secs_f64()).into_bytes(),
        "request_length" => moment.exchange?.request_bytes.to_string().into_bytes(),
        "bytes_sent" => moment.exchange?.response_bytes.to_string().into_bytes(),
        "upstream_status" => moment.exchange?.upstream_status.as_bytes().to_vec(),
        "upstream_addr" => {
            let addresses: Vec<String> = moment.exchange?.tries.iter().filter_map(|one| Some(one.address?.to_string())).collect();
            addresses.join(", ").into_bytes()
        }
        _ => {
            let header = name.strip_prefix("sent_http_").or_else(|| name.strip_prefix("upstream_http_"))?;
            response?.headers.get(&header.replace('_', "-"))?.to_vec()
        }
    })
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2.0",
        Version::Http3 => "HTTP/3.0",
    }
}

fn query_argument(query: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    query.split(|byte| *byte == b'&').find_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        pair[..at].eq_ignore_ascii_case(name).then(|| pair[at + 1..].to_vec())
    })
}

fn cookie(request: &Request, name: &str) -> Option<Vec<u8>> {
    request.head.headers.get_all("cookie").flat_map(|line| line.split(|byte| *byte == b';')).find_map(|pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|byte| *byte == b'=')?;
        (pair[..at] == *name.as_bytes()).then(|| pair[at + 1..].to_vec())
    })
}

/// The part of the path that the route cuts off.
fn forwarded_prefix(request: &Request) -> Option<Vec<u8>> {
    if request.client.trusted
        && let Some(given) = request.head.headers.get("x-forwarded-prefix")
    {
        return Some(given.to_vec());
    }
    let route = request.route.as_deref().filter(|route| route.strip_path)?;
    let path = text::normal_path(request.head.path());
    let plain = route.paths.iter().flatten().map(|path| path.as_bytes()).filter(|prefix| path.starts_with(prefix));
    let longest = plain.max_by_key(|prefix| prefix.len())?;
    (longest != b"/").then(|| longest.to_vec())
}
