//! request-transformer: changes a request's method, path, headers, body and query arguments on its way upstream.
//!
//! Kinds are changed in the order uri, method, headers, body, query; within a kind remove, rename, replace, add, append. Values may
//! hold templates ([`template`]), which see the request as it was before this plugin changed anything.

mod body;
mod query;
mod template;

#[cfg(test)]
mod tests;

use portcullis_plugin::{Env, Error, Handler, Instance, Phases, Plugin, Request, Result, Step};
use portcullis_schema::{Field, Fields, build};
use serde::Deserialize;
use serde_json::Value;

use crate::body::may_have_fields;
use crate::header_name;
use query::Arguments;
use template::Template;

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// The method the upstream sees.
    #[field(string().matches("^%u+$", "^[A-Z]+$"))]
    pub http_method: Option<String>,
    /// What is taken out.
    #[field(record::<Names>().required())]
    pub remove: Names,
    /// What gets another name: `old:new`.
    #[field(record::<Renames>().required())]
    pub rename: Renames,
    /// What gets another value where it is there: `name:value`.
    #[field(record::<Replace>().required())]
    pub replace: Replace,
    /// What is added where it is not there: `name:value`.
    #[field(record::<Pairs>().required())]
    pub add: Pairs,
    /// What is added to what may be there: `name:value`.
    #[field(record::<Pairs>().required())]
    pub append: Pairs,
}

#[derive(Debug, Default, Deserialize, Fields)]
pub struct Names {
    /// Fields of the body.
    #[field(names(string()))]
    pub body: Vec<String>,
    /// Header names.
    #[field(names(string().custom(header_name::check_removed)))]
    pub headers: Vec<String>,
    /// Query arguments.
    #[field(names(string()))]
    pub querystring: Vec<String>,
}

#[derive(Debug, Default, Deserialize, Fields)]
pub struct Renames {
    /// Fields of the body.
    #[field(pairs())]
    pub body: Vec<String>,
    /// Headers.
    #[field(headers(check_renamed))]
    pub headers: Vec<String>,
    /// Query arguments.
    #[field(pairs())]
    pub querystring: Vec<String>,
}

#[derive(Debug, Default, Deserialize, Fields)]
pub struct Pairs {
    /// Fields of the body.
    #[field(pairs())]
    pub body: Vec<String>,
    /// Headers.
    #[field(headers(check_header))]
    pub headers: Vec<String>,
    /// Query arguments.
    #[field(pairs())]
    pub querystring: Vec<String>,
}

#[derive(Debug, Default, Deserialize, Fields)]
pub struct Replace {
    /// Fields of the body.
    #[field(pairs())]
    pub body: Vec<String>,
    /// Headers.
    #[field(headers(check_header))]
    pub headers: Vec<String>,
    /// Query arguments.
    #[field(pairs())]
    pub querystring: Vec<String>,
    /// The path the upstream is asked for.
    #[field(string().custom(check_template))]
    pub uri: Option<String>,
}

/// A list that is there even when nothing was given.
fn names(elements: Field) -> Field {
    build::array(elements).required().default(Value::Array(Vec::new()))
}

/// A list of `name:value`.
fn pairs() -> Field {
    names(build::string().custom(check_pair))
}

/// A list of `Header:value`, each held to `check`.
fn headers(check: fn(&Value) -> std::result::Result<(), String>) -> Field {
    names(build::string().matches("^[^:]+:.*$", "(?s)^[^:]+:.*$").custom(check))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn check_header(value: &Value) -> std::result::Result<(), String> {
    header_name::check_header(value)?;
    Template::parse(text(value).split_once(':').unwrap_or_default().1).map(|_| ())
}

/// A renamed header gets a name that can be one.
fn check_renamed(value: &Value) -> std::result::Result<(), String> {
    check_header(value)?;
    header_name::check_renamed(value)
}

fn check_pair(value: &Value) -> std::result::Result<(), String> {
    match text(value).split_once(':') {
        Some((_, value)) if !value.is_empty() => Template::parse(value).map(|_| ()),
        Some((name, _)) => Err(format!("key '{name}' has no value")),
        None => Err(format!("key '{}' has no value", text(value))),
    }
}

fn check_template(value: &Value) -> std::result::Result<(), String> {
    Template::parse(text(value)).map(|_| ())
}

/// The operations on one kind of thing, ready to run.
#[derive(Default)]
struct Operations {
    remove: Vec<String>,
    rename: Vec<(String, Template)>,
    replace: Vec<(String, Template)>,
    add: Vec<(String, Template)>,
    append: Vec<(String, Template)>,
}

impl Operations {
    fn new(remove: &[String], rename: &[String], replace: &[String], add: &[String], append: &[String]) -> Result<Self> {
        let pairs = |list: &[String]| -> Result<Vec<(String, Template)>> {
            let pair = |item: &String| {
                let (name, value) = item.split_once(':').unwrap_or((item, ""));
                Ok((name.to_owned(), Template::parse(value).map_err(Error::from)?))
            };
            // An empty value sets nothing, as in Kong.
            list.iter().filter(|item| item.split_once(':').is_some_and(|(_, value)| !value.is_empty())).map(pair).collect()
        };
        let remove = remove.iter().map(|name| name.split(':').next().unwrap_or_default().to_owned()).collect();
        Ok(Self { remove, rename: pairs(rename)?, replace: pairs(replace)?, add: pairs(add)?, append: pairs(append)? })
    }

    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.rename.is_empty() && self.replace.is_empty() && self.add.is_empty() && self.append.is_empty()
    }

    /// The values of all templates, in order: they see the request before anything changes.
    fn values(&self, request: &Request) -> Result<Values> {
        let all = |list: &[(String, Template)]| -> Result<Rendered> {
            list.iter().map(|(name, template)| Ok((name.clone(), template.render(request)?))).collect()
        };
        Ok(Values { rename: all(&self.rename)?, replace: all(&self.replace)?, add: all(&self.add)?, append: all(&self.append)? })
    }
}

type Rendered = Vec<(String, String)>;

struct Values {
    rename: Rendered,
    replace: Rendered,
    add: Rendered,
    append: Rendered,
}

/// See the module's description.
pub struct RequestTransformer {
    method: Option<Box<str>>,
    uri: Option<Template>,
    headers: Operations,
    body: Operations,
    query: Operations,
}

/// Methods nginx knows; any other cannot be set.
const METHODS: [&str; 15] = [
    "GET",
    "HEAD",
    "PUT",
    "POST",
    "DELETE",
    "OPTIONS",
    "MKCOL",
    "COPY",
    "MOVE",
    "PROPFIND",
    "PROPPATCH",
    "LOCK",
    "UNLOCK",
    "PATCH",
    "TRACE",
];

impl Plugin for RequestTransformer {
    const NAME: &'static str = "request-transformer";
    const PRIORITY: i32 = 801;
    const PHASES: Phases = Phases::ACCESS;
    type Config = Config;

    fn new(config: Config, _instance: &Instance, _env: &Env) -> Result<Self> {
        let Config { http_method, remove, rename, replace, add, append } = config;
        Ok(Self {
            method: http_method.map(Into::into),
            uri: replace.uri.as_deref().map(Template::parse).transpose().map_err(Error::from)?,
            headers: Operations::new(&remove.headers, &rename.headers, &replace.headers, &add.headers, &append.headers)?,
            body: Operations::new(&remove.body, &rename.body, &replace.body, &add.body, &append.body)?,
            query: Operations::new(&remove.querystring, &rename.querystring, &replace.querystring, &add.querystring, &append.querystring)?,
        })
    }
}

impl Handler for RequestTransformer {
    fn body_limit(&self, request: &Request) -> Option<u64> {
        let retyped = || {
            let sets = [&self.headers.rename, &self.headers.replace, &self.headers.add, &self.headers.append];
            sets.into_iter().flatten().any(|(name, value)| name.eq_ignore_ascii_case("content-type") || value.is("content-type"))
        };
        if !self.body.is_empty() && (may_have_fields(request) || retyped()) {
            return Some(body::MAX_BODY);
        }
        // A form body joins the query when the new method is one that has no body.
        matches!(self.method.as_deref(), Some("GET" | "HEAD" | "TRACE")).then_some(1 << 20)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        match self.transform(request) {
            Ok(()) => Step::Next,
            Err(error) => Step::Fail(error),
        }
    }
}

impl RequestTransformer {
    fn transform(&self, request: &mut Request) -> Result<()> {
        let values = |operations: &Operations| (!operations.is_empty()).then(|| operations.values(request)).transpose();
        let (headers, body, query) = (values(&self.headers)?, values(&self.body)?, values(&self.query)?);
        if let Some(uri) = &self.uri {
            request.upstream.path = escaped(&uri.render(request)?);
        }
        if let Some(method) = &self.method {
            if !METHODS.contains(&&**method) {
                return Err(format!("unknown method: {method}").into());
            }
            request.upstream.method = Some(method.clone());
            join_form(request);
        }
        if let Some(values) = headers {
            self.change_headers(request, &values);
        }
        if let Some(values) = body
            && let Some(changed) = body::changed(&self.body, &values, request)
        {
            request.upstream.body = Some(changed);
        }
        if let Some(values) = query {
            self.change_query(request, &values);
        }
        Ok(())
    }

    fn change_headers(&self, request: &mut Request, values: &Values) {
        let is_host = |name: &str| name.eq_ignore_ascii_case("host");
        let headers = &mut request.head.headers;
        for name in self.headers.remove.iter().filter(|name| !is_host(name)) {
            headers.remove(name);
        }
        for (old, new) in values.rename.iter().filter(|(old, _)| !is_host(old)) {
            let kept: Vec<Vec<u8>> = headers.get_all(old).map(<[u8]>::to_vec).collect();
            if kept.is_empty() {
                continue;
            }
            headers.remove(old);
            headers.remove(new);
            kept.iter().for_each(|value| headers.append(new, value));
        }
        for (name, value) in &values.replace {
            if is_host(name) {
                request.upstream.host_header = Some(value.clone().into_bytes());
            } else if headers.contains(name) {
                headers.set(name, value.as_bytes());
            }
        }
        for (name, value) in values.add.iter().filter(|(name, _)| !is_host(name)) {
            if !headers.contains(name) {
                headers.append(name, value.as_bytes());
            }
        }
        for (name, value) in values.append.iter().filter(|(name, _)| !is_host(name)) {
            headers.append(name, value.as_bytes());
        }
    }

    fn change_query(&self, request: &mut Request, values: &Values) {
        let mut arguments = Arguments::read(request.upstream.query.as_deref().unwrap_or_default());
        arguments.change(&self.query, values);
        request.upstream.query = arguments.write();
    }
}

/// The arguments of a form body go into the query as well; the body stays.
fn join_form(request: &mut Request) {
    let is_form = request.head.headers.get("content-type").and_then(crate::body::type_of) == Some(crate::body::Type::Form);
    let Some(body) = request.body.as_ref().filter(|body| is_form && !body.is_empty()) else { return };
    if !matches!(request.upstream.method.as_deref(), Some("GET" | "HEAD" | "TRACE")) {
        return;
    }
    let mut arguments = Arguments::read(request.upstream.query.as_deref().unwrap_or_default());
    arguments.join(Arguments::read(body));
    request.upstream.query = arguments.write();
}

/// A path with everything that may not stand in one percent-encoded; escapes that are there stay.
fn escaped(path: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>') {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}
