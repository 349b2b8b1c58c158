//! Routes: which requests go to which service.

use std::collections::BTreeMap;

use portcullis_schema::build::*;
use portcullis_schema::typedefs::PROTOCOLS;
use portcullis_schema::{Check, Fields, Record, Rule, Schema, Violations, lua};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::services::Protocol;
use crate::{Entity, Ref, expression};

/// Conditions on requests and the service that those which meet them go to.
#[derive(Clone, Debug, Deserialize, Serialize, Fields)]
pub struct Route {
    /// The route's id.
    #[field(id())]
    pub id: Uuid,
    /// When it was made, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since the epoch.
    #[field(auto_timestamp())]
    pub updated_at: Option<i64>,
    /// A name to find it by.
    #[field(utf8_name().unique())]
    pub name: Option<String>,
    /// What requests are spoken in; protocols of one family only.
    #[field(protocols_field())]
    pub protocols: Vec<Protocol>,
    /// The status with which plain requests to an HTTPS-only route are answered.
    #[field(integer().one_of([426, 301, 302, 307, 308]).required().default(426))]
    pub https_redirect_status_code: u16,
    /// Whether the prefix that matched is cut from the path.
    #[field(boolean().required().default(true))]
    pub strip_path: bool,
    /// Whether the upstream gets the client's Host header.
    #[field(boolean().required().default(false))]
    pub preserve_host: bool,
    /// Whether a request is read whole before it is sent on.
    #[field(boolean().required().default(true))]
    pub request_buffering: bool,
    /// Whether a response is read whole before it is sent on.
    #[field(boolean().required().default(true))]
    pub response_buffering: bool,
    /// Labels to filter by.
    #[field(tags())]
    pub tags: Option<Vec<String>>,
    /// Where requests go; without one only plugins answer.
    #[field(foreign("services"))]
    pub service: Option<Ref>,
    /// Server names of the TLS handshake.
    #[field(set(wildcard_host()))]
    pub snis: Option<Vec<String>>,
    /// Where stream connections come from.
    #[field(sources())]
    pub sources: Option<Vec<Address>>,
    /// Where stream connections were made to.
    #[field(destinations())]
    pub destinations: Option<Vec<Address>>,
    /// Methods in upper case.
    #[field(set(http_method()))]
    pub methods: Option<Vec<String>>,
    /// Host names, with a wildcard at either end and a port if wanted.
    #[field(array(host_with_wildcard()))]
    pub hosts: Option<Vec<String>>,
    /// Prefixes (`/a`) and regular expressions (`~/a/\d+`).
    #[field(array(router_path()))]
    pub paths: Option<Vec<String>>,
    /// Headers and the values any of which they must have.
    #[field(router_headers())]
    pub headers: Option<BTreeMap<String, Vec<String>>>,
    /// Of two regular expressions that match, the one with the higher number wins.
    #[field(integer().default(0))]
    pub regex_priority: Option<i64>,
    /// How the service's path and the rest of the request's are joined.
    #[field(string().one_of(["v0", "v1"]).default("v0"))]
    pub path_handling: Option<PathHandling>,
    /// A condition in the router's expression language (only under that flavour).
    #[field(skip)]
    pub expression: Option<String>,
    /// Of two expressions that match, the one with the higher number wins (only under that flavour).
    #[field(skip)]
    pub priority: Option<u64>,
}

/// One side of a stream connection: an address or network, a port, or both.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Address {
    /// An address, or a network in CIDR notation.
    pub ip: Option<String>,
    pub port: Option<u16>,
}

/// How paths are joined: v0 puts a slash between, v1 glues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PathHandling {
    #[default]
    V0,
    V1,
}

/// Protocols that may stand together on a route.
const PROTOCOL_FAMILIES: [&[&str]; 4] = [&["http", "https"], &["tcp", "tls", "udp"], &["tls_passthrough"], &["grpc", "grpcs"]];

fn protocols_field() -> portcullis_schema::Field {
    let families = PROTOCOL_FAMILIES.map(<[&str]>::to_vec).to_vec();
    set(protocol()).required().default(["http", "https"]).rule(Rule::MutuallyExclusiveSubsets(families)).shown("len_min", 1)
}

/// What finds routes: each flavour takes other things for a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavor {
    #[default]
    TraditionalCompatible,
    Traditional,
    Expressions,
}

impl Flavor {
    /// The flavour that `router_flavor` names.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "traditional_compatible" => Some(Self::TraditionalCompatible),
            "traditional" => Some(Self::Traditional),
            "expressions" => Some(Self::Expressions),
            _ => None,
        }
    }
}

/// The schema under a flavour of the router.
pub fn schema_for(flavor: Flavor) -> Schema {
    let mut schema = Route::schema();
    match flavor {
        Flavor::TraditionalCompatible => {}
        Flavor::Traditional => {
            schema.checks.retain(|check| !is_compile_check(check));
            // Wildcards in server names are the compiled flavours' only.
            for (_, field) in schema.fields.iter_mut().filter(|(name, _)| name == "snis") {
                *field = set(sni()).doc("Server names of the TLS handshake.");
            }
        }
        Flavor::Expressions => add_expressions(&mut schema),
    }
    schema
}

fn is_compile_check(check: &Check) -> bool {
    matches!(check, Check::Hidden { fields, .. } if fields.as_slice() == COMPILED)
}

/// The fields that are compiled into an expression.
const COMPILED: [&str; 2] = ["paths", "headers"];

/// What the router couldn't compile: regular expressions for backtracking engines, headers without a value.
fn check_compiles(record: &Record) -> Result<(), Vec<(String, Value)>> {
    let complain = |reason: String| Err(vec![("@entity".to_owned(), format!("Router Expression failed validation: {reason}").into())]);
    let paths = record.get("paths").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for pattern in paths.filter_map(|path| path.strip_prefix('~')) {
        if let Ok(Err(reason)) = router_regex(pattern) {
            return complain(format!("'{pattern}': {reason}"));
        }
    }
    let headers = record.get("headers").and_then(Value::as_object).into_iter().flatten();
    for (name, values) in headers {
        if values.as_array().is_some_and(Vec::is_empty) {
            return complain(format!("header '{name}' has no value"));
        }
    }
    Ok(())
}

impl Entity for Route {
    const NAME: &'static str = "routes";
    const ENDPOINT_KEY: Option<&'static str> = Some("name");

    fn schema() -> Schema {
        let checks = vec![
            snis_need_tls(),
            Check::Shown(json!({ "custom_entity_check": { "field_sources": ["path_handling"] } })),
            Check::Shown(json!({ "custom_entity_check": {
                "run_with_missing_fields": true,
                "field_sources": [
                    "id", "protocols", "snis", "sources", "destinations", "methods", "hosts", "paths", "headers",
                    "expression", "regex_priority", "priority",
                ],
            } })),
            Check::Hidden { fields: vec!["protocols"], check: check_matchers },
            Check::Hidden { fields: COMPILED.to_vec(), check: check_compiles },
        ];
        Schema { checks, gate: Some(know_protocols), settle: Some(default_strip_path), ..Self::base() }
    }
}

/// Routes may have an `expression` and a `priority` in place of the other conditions.
fn add_expressions(schema: &mut Schema) {
    let expression = string().doc("A condition in the router's expression language.");
    let priority = integer()
        .between(0, 70_368_744_177_663.0)
        .required()
        .default(0)
        .doc("Of two expressions that match, the one with the higher number wins.");
    schema.fields.push(("expression".into(), expression));
    schema.fields.push(("priority".into(), priority));
    for check in &mut schema.checks {
        if let Check::Hidden { fields, check } = check
            && fields.as_slice() == ["protocols"]
        {
            *check = check_matchers_or_expression;
        }
    }
    schema.checks.push(Check::Hidden { fields: Vec::new(), check: check_mix });
}

fn snis_need_tls() -> Check {
    Check::Conditional {
        if_field: "protocols",
        if_match: vec![Rule::Elements(vec![Rule::NotOneOf(["grpcs", "https", "tls", "tls_passthrough"].map(Value::from).to_vec())])],
        then_field: "snis",
        then_match: vec![Rule::LenEq(0)],
        then_required: false,
        then_error: Some("'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'"),
    }
}

fn protocols_of(record: &Record) -> Vec<&str> {
    record.get("protocols").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Kong picks further rules by the first protocol it knows, and without one says nothing else.
fn know_protocols(record: &Record) -> Result<(), Violations> {
    let known = |value: &Value| value.as_str().is_some_and(|text| PROTOCOLS.contains(&text));
    let unknown = |name: &str| Err(Violations::of("protocols", format!("unknown type: {name}")));
    match record.get("protocols") {
        None | Some(Value::Null) => Err(Violations::of("protocols", "required field missing")),
        Some(Value::String(text)) if !PROTOCOLS.contains(&text.as_str()) => unknown(text),
        Some(Value::Array(list)) if !list.iter().any(known) => unknown(&lua::first(list)),
        Some(Value::Object(_)) => unknown("nil"),
        _ => Ok(()),
    }
}

/// gRPC routes keep the path whole: there the method is the path.
fn default_strip_path(record: &mut Record) {
    let of_grpc = protocols_of(record).first().is_some_and(|protocol| protocol.starts_with("grpc"));
    if of_grpc && !record.contains_key("strip_path") {
        record.insert("strip_path".to_owned(), false.into());
    }
}

fn check_matchers(record: &Record) -> Result<(), Vec<(String, Value)>> {
    matcher_complaints(record, false)
}

fn check_matchers_or_expression(record: &Record) -> Result<(), Vec<(String, Value)>> {
    matcher_complaints(record, true)
}

/// What each family of protocols must and cannot match on.
fn matcher_complaints(record: &Record, expressions: bool) -> Result<(), Vec<(String, Value)>> {
    let protocols = protocols_of(record);
    let has = |protocol: &str| protocols.contains(&protocol);
    let (forbidden, named): (&[&str], &str) = match protocols.first() {
        None => return Ok(()),
        Some(&("http" | "https")) if expressions => (&[], ""),
        Some(&("http" | "https")) => (&["sources", "destinations"], "'http' or 'https'"),
        Some(&("grpc" | "grpcs")) if expressions => (&["methods"], "'grpc' or 'grpcs'"),
        Some(&("grpc" | "grpcs")) => (&["methods", "sources", "destinations"], "'grpc' or 'grpcs'"),
        Some(_) => (&["methods", "hosts", "paths", "headers"], "'tcp', 'tls', 'tls_passthrough' or 'udp'"),
    };
    let mut complaints = Vec::new();
    let cannot = |field: &str| (field.to_owned(), Value::from(format!("cannot set '{field}' when 'protocols' is {named}")));
    for field in forbidden.iter().filter(|field| record.get(**field).is_some_and(|value| !value.is_null())) {
        complaints.push(cannot(field));
    }
    if protocols[0].starts_with("grpc") && record.get("strip_path") == Some(&Value::Bool(true)) {
        complaints.push(cannot("strip_path"));
    }
    let needed: (&[&str], &str) = match protocols[0] {
        "http" | "https" if has("https") => (&["methods", "hosts", "headers", "paths", "snis"], "'https'"),
        "http" | "https" => (&["methods", "hosts", "headers", "paths"], "'http'"),
        "grpc" | "grpcs" if has("grpcs") => (&["hosts", "headers", "paths", "snis"], "'grpcs'"),
        "grpc" | "grpcs" => (&["hosts", "headers", "paths"], "'grpc'"),
        "tls_passthrough" => (&["snis"], "'tls_passthrough'"),
        _ => (&["sources", "destinations", "snis"], "'tcp', 'tls' or 'udp'"),
    };
    let (mut names, when) = (needed.0.to_vec(), needed.1);
    if expressions && when != "'tls_passthrough'" {
        names.push("expression");
    }
    let expressed = expressions && is_filled(record, "expression");
    if !expressed && !names.iter().any(|name| is_filled(record, name)) {
        let text = match names.as_slice() {
            [one] => format!("must set {one} when 'protocols' is {when}"),
            all => format!("must set one of '{}' when 'protocols' is {when}", all.join("', '")),
        };
        complaints.push(("@entity".to_owned(), text.into()));
    }
    if complaints.is_empty() { Ok(()) } else { Err(complaints) }
}

fn is_filled(record: &Record, name: &str) -> bool {
    match record.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(entries)) => !entries.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

/// An expression stands alone and can be read, and a priority stands only with an expression.
fn check_mix(record: &Record) -> Result<(), Vec<(String, Value)>> {
    const CLASSIC: [&str; 7] = ["methods", "hosts", "paths", "headers", "snis", "sources", "destinations"];
    const NAMED: &str = "'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or 'destinations' simultaneously";
    let classic = CLASSIC.iter().any(|name| is_filled(record, name));
    let number = |name: &str| record.get(name).and_then(Value::as_i64).unwrap_or(0);
    let expressed = is_filled(record, "expression");
    let complaint = if expressed && classic {
        format!("cannot set 'expression' with {NAMED}")
    } else if expressed && number("regex_priority") != 0 {
        "cannot set 'regex_priority' with 'expression' simultaneously".to_owned()
    } else if classic && number("priority") != 0 {
        format!("cannot set 'priority' with {NAMED}")
    } else {
        let text = record.get("expression").and_then(Value::as_str).filter(|_| expressed);
        let http = protocols_of(record).first().is_none_or(|first| first.starts_with("http") || first.starts_with("grpc"));
        match text.map(|text| expression::parse(text, http)) {
            Some(Err(reason)) => reason,
            _ => return Ok(()),
        }
    };
    Err(vec![("@entity".to_owned(), format!("Router Expression failed validation: {complaint}").into())])
}
