//! Schemas from Lua tables, in the words of Kong's schema language.

use std::borrow::Cow;
use std::sync::Arc;

use mlua::{Function, Lua, Table, Value};
use portcullis_schema::{Check, Code, Field, Kind, OnDelete, RecordCode, Rule, Schema, build, typedefs};
use serde_json::Value as Json;

use crate::json;
use crate::moment::Phase;
use crate::settings::Settings;
use crate::state::State;

/// Text that lives as long as the process: schemas are made once.
pub fn leaked(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

/// A step on the way from a module's table to a function in it.
#[derive(Clone, Debug)]
enum Step {
    Name(String),
    At(usize),
}

/// Where in a module something stands, so that other states find it too.
#[derive(Clone)]
pub struct Site {
    settings: Arc<Settings>,
    module: String,
    steps: Vec<Step>,
}

impl Site {
    pub fn new(settings: &Arc<Settings>, module: &str) -> Self {
        Self { settings: settings.clone(), module: module.to_owned(), steps: Vec::new() }
    }

    pub fn name(&self, name: &str) -> Self {
        let mut deeper = self.clone();
        deeper.steps.push(Step::Name(name.to_owned()));
        deeper
    }

    pub fn at(&self, place: usize) -> Self {
        let mut deeper = self.clone();
        deeper.steps.push(Step::At(place));
        deeper
    }

    fn function(&self, lua: &Lua) -> mlua::Result<Function> {
        let require: Function = lua.globals().get("require")?;
        let mut value: Value = require.call(self.module.as_str())?;
        for step in &self.steps {
            let Value::Table(table) = value else { break };
            value = match step {
                Step::Name(name) => table.get(name.as_str())?,
                Step::At(place) => table.get(*place)?,
            };
        }
        match value {
            Value::Function(function) => Ok(function),
            _ => Err(mlua::Error::runtime(format!("{} has no such function any more", self.module))),
        }
    }

    /// Calls the function here with a value; it answers `true`, or `nil` and a complaint.
    fn complaint(&self, value: &Json) -> Result<(), String> {
        let checked = || -> mlua::Result<Result<(), String>> {
            let state = State::of_thread(&self.settings)?;
            let function = self.function(&state.lua)?;
            let value = json::to_lua(&state.lua, value, true)?;
            let (fits, complaint): (Value, Value) = state.bounded(Phase::Init, || function.call(value))?;
            if !matches!(fits, Value::Nil | Value::Boolean(false)) {
                return Ok(Ok(()));
            }
            let text = match complaint {
                Value::String(text) => text.to_string_lossy(),
                Value::Nil => "invalid value".to_owned(),
                other => json::from_lua(&other)?.unwrap_or_default().to_string(),
            };
            Ok(Err(text))
        };
        checked().unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// The fields of a record: a list of tables with one name each.
pub fn fields(table: &Table, site: &Site) -> mlua::Result<Vec<(Cow<'static, str>, Field)>> {
    let mut out = Vec::new();
    for at in 1..=table.raw_len() {
        let one: Table = table.get(at)?;
        for pair in one.pairs::<String, Table>() {
            let (name, definition) = pair?;
            let field = field(&definition, &site.at(at).name(&name))?;
            out.push((Cow::Owned(name), field));
        }
    }
    Ok(out)
}

fn malformed(site: &Site, problem: &str) -> mlua::Error {
    mlua::Error::runtime(format!("schema in {}: {problem}", site.module))
}

/// One field.
pub fn field(definition: &Table, site: &Site) -> mlua::Result<Field> {
    let inner = |name: &str| -> mlua::Result<Field> {
        match definition.get::<Option<Table>>(name)? {
            Some(table) => field(&table, &site.name(name)),
            None => Ok(Field::new(Kind::Json)),
        }
    };
    let kind: String = definition.get::<Option<String>>("type")?.unwrap_or_else(|| "json".to_owned());
    let typedef: Option<String> = definition.get("__typedef")?;
    let mut out = match (typedef.as_deref().and_then(known), kind.as_str()) {
        (Some(field), _) => field,
        (None, "string") => build::string(),
        (None, "integer") => build::integer(),
        (None, "number") => build::number(),
        (None, "boolean") => build::boolean(),
        (None, "array") => build::array(inner("elements")?),
        (None, "set") => build::set(inner("elements")?),
        (None, "map") => build::map(inner("keys")?, inner("values")?),
        (None, "record") => {
            let list = definition.get::<Option<Table>>("fields")?.ok_or_else(|| malformed(site, "a record needs fields"))?;
            let checks = match definition.get::<Option<Table>>("entity_checks")? {
                Some(list) => self::checks(&list, &site.name("entity_checks"))?,
                None => Vec::new(),
            };
            let fields = fields(&list, &site.name("fields"))?;
            Field::new(Kind::Record(portcullis_schema::field::Record { fields, checks, shorthands: Vec::new() }))
        }
        (None, "foreign") => {
            let entity =
                definition.get::<Option<String>>("reference")?.ok_or_else(|| malformed(site, "a foreign field needs a reference"))?;
            let on_delete = match definition.get::<Option<String>>("on_delete")?.as_deref() {
                Some("cascade") => OnDelete::Cascade,
                _ => OnDelete::Restrict,
            };
            Field::new(Kind::Foreign { entity: leaked(&entity), on_delete })
        }
        (None, "json" | "any" | "function") => build::json(),
        (None, other) => return Err(malformed(site, &format!("unknown type '{other}'"))),
    };
    let flag = |name: &str| -> mlua::Result<Option<bool>> { definition.get(name) };
    out.required = flag("required")?.unwrap_or(out.required);
    out.unique = flag("unique")?.unwrap_or(out.unique);
    out.unique_across_ws = flag("unique_across_ws")?.unwrap_or(out.unique_across_ws);
    out.auto = flag("auto")?.unwrap_or(out.auto);
    out.immutable = flag("immutable")?.unwrap_or(out.immutable);
    out.referenceable = flag("referenceable")?.unwrap_or(out.referenceable);
    out.encrypted = flag("encrypted")?.unwrap_or(out.encrypted);
    if let Some(text) = definition.get::<Option<String>>("description")? {
        out.doc = Cow::Owned(text);
    }
    if let Some(default) = json::from_lua(&definition.get("default")?)? {
        out.default = Some(of_kind(&out, default));
    }
    out.rules.extend(rules(definition, site)?);
    if let Some(text) = definition.get::<Option<String>>("err")? {
        out.error = Some(leaked(&text));
    }
    Ok(out)
}

/// An empty Lua table is a list where the field is one.
fn of_kind(field: &Field, value: Json) -> Json {
    match (&field.kind, &value) {
        (Kind::Array(_) | Kind::Set(_), Json::Object(fields)) if fields.is_empty() => Json::Array(Vec::new()),
        _ => value,
    }
}

/// The shared definitions that Lua code names.
fn known(name: &str) -> Option<Field> {
    Some(match name {
        "uuid" => typedefs::id(),
        "auto_timestamp_s" => typedefs::auto_timestamp(),
        "auto_timestamp_ms" => typedefs::auto_timestamp_ms(),
        "port" => typedefs::port(),
        "timeout" => typedefs::timeout(),
        "ttl" => typedefs::ttl(),
        "name" => typedefs::name(),
        "utf8_name" => typedefs::utf8_name(),
        "tag" => typedefs::tag(),
        "tags" => typedefs::tags(),
        "host" => typedefs::host(),
        "host_with_optional_port" => typedefs::host_with_optional_port(),
        "sni" => typedefs::sni(),
        "wildcard_host" => typedefs::wildcard_host(),
        "path" => typedefs::path(),
        "http_method" => typedefs::http_method(),
        "header_name" => typedefs::header_name(),
        "url" => typedefs::url(),
        "ip" => typedefs::ip(),
        "ip_or_cidr" => typedefs::ip_or_cidr(),
        "cookie_name" => typedefs::cookie_name(),
        "protocols" => typedefs::protocols(),
        "protocols_http" => typedefs::protocols_http(),
        "no_consumer" => typedefs::no_consumer(),
        "no_route" => typedefs::no_route(),
        "no_service" => typedefs::no_service(),
        _ => return None,
    })
}

/// The rules that a table of attributes states.
fn rules(definition: &Table, site: &Site) -> mlua::Result<Vec<Rule>> {
    let mut out = Vec::new();
    let value = |name: &str| -> mlua::Result<Option<Json>> { json::from_lua(&definition.get(name)?) };
    let list = |name: &str| -> mlua::Result<Option<Vec<Json>>> {
        Ok(value(name)?.map(|list| if let Json::Array(list) = list { list } else { Vec::new() }))
    };
    let length = |name: &str| -> mlua::Result<Option<usize>> { definition.get(name) };
    let text = |name: &str| -> mlua::Result<Option<String>> { definition.get(name) };
    let flag = |name: &str| -> mlua::Result<bool> { Ok(definition.get::<Option<bool>>(name)?.unwrap_or(false)) };
    out.extend(value("eq")?.map(Rule::Eq));
    out.extend(value("ne")?.map(Rule::Ne));
    out.extend(list("one_of")?.map(Rule::OneOf));
    out.extend(list("not_one_of")?.map(Rule::NotOneOf));
    out.extend(definition.get::<Option<f64>>("gt")?.map(Rule::Gt));
    if let Some(bounds) = definition.get::<Option<Vec<f64>>>("between")?
        && let [low, high] = bounds[..]
    {
        out.push(Rule::Between(low, high));
    }
    out.extend(length("len_eq")?.map(Rule::LenEq));
    out.extend(length("len_min")?.map(Rule::LenMin));
    out.extend(length("len_max")?.map(Rule::LenMax));
    out.extend(text("starts_with")?.map(|prefix| Rule::StartsWith(leaked(&prefix))));
    out.extend(value("contains")?.map(Rule::Contains));
    if flag("uuid")? {
        out.push(Rule::Uuid);
    }
    if flag("is_regex")? {
        out.push(Rule::IsRegex);
    }
    if flag("timestamp")? {
        out.push(Rule::Timestamp);
    }
    if let Some(pattern) = text("match")? {
        out.push(pattern_rule(site, vec![pattern], true, None));
    }
    if let Some(pattern) = text("not_match")? {
        out.push(pattern_rule(site, vec![pattern], false, None));
    }
    for (name, wanted) in [("match_all", true), ("match_none", false)] {
        for one in definition.get::<Option<Vec<Table>>>(name)?.unwrap_or_default() {
            out.push(pattern_rule(site, vec![one.get("pattern")?], wanted, one.get("err")?));
        }
    }
    if let Some(any) = definition.get::<Option<Table>>("match_any")? {
        out.push(pattern_rule(site, any.get("patterns")?, true, any.get("err")?));
    }
    if let Value::Function(_) = definition.get::<Value>("custom_validator")? {
        let site = site.name("custom_validator");
        out.push(Rule::Code(Code(Arc::new(move |value| site.complaint(value)))));
    }
    Ok(out)
}

/// A rule of Lua patterns: at least one must match, or none may.
fn pattern_rule(site: &Site, patterns: Vec<String>, wanted: bool, message: Option<String>) -> Rule {
    let settings = site.settings.clone();
    Rule::Code(Code(Arc::new(move |value| {
        let Some(text) = value.as_str() else { return Ok(()) };
        let matches = || -> mlua::Result<bool> {
            let state = State::of_thread(&settings)?;
            let find: Function = state.lua.globals().get::<Table>("string")?.get("find")?;
            for pattern in &patterns {
                if find.call::<Option<usize>>((text, pattern.as_str()))?.is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        match matches() {
            Ok(found) if found == wanted => Ok(()),
            Ok(_) => Err(message.clone().unwrap_or_else(|| format!("invalid value: {text}"))),
            Err(error) => Err(error.to_string()),
        }
    })))
}

/// Checks that span several fields.
pub fn checks(list: &Table, site: &Site) -> mlua::Result<Vec<Check>> {
    let mut out = Vec::new();
    for at in 1..=list.raw_len() {
        let one: Table = list.get(at)?;
        for pair in one.pairs::<String, Table>() {
            let (name, body) = pair?;
            out.extend(check(&name, &body, &site.at(at).name(&name))?);
        }
    }
    Ok(out)
}

fn check(name: &str, body: &Table, site: &Site) -> mlua::Result<Option<Check>> {
    let names =
        |table: &Table| -> mlua::Result<Vec<&'static str>> { table.sequence_values::<String>().map(|name| Ok(leaked(&name?))).collect() };
    let text = |name: &str| -> mlua::Result<Option<&'static str>> { Ok(body.get::<Option<String>>(name)?.map(|text| leaked(&text))) };
    let rules_of = |name: &str| -> mlua::Result<(Vec<Rule>, bool)> {
        match body.get::<Option<Table>>(name)? {
            Some(table) => Ok((rules(&table, &site.name(name))?, table.get::<Option<bool>>("required")?.unwrap_or(false))),
            None => Ok((Vec::new(), false)),
        }
    };
    Ok(Some(match name {
        "at_least_one_of" => Check::AtLeastOneOf(names(body)?),
        "only_one_of" => Check::OnlyOneOf(names(body)?),
        "mutually_exclusive" => Check::MutuallyExclusive(names(body)?),
        "mutually_required" => Check::MutuallyRequired(names(body)?),
        "distinct" => Check::Distinct(names(body)?),
        "conditional" => {
            let (then_match, then_required) = rules_of("then_match")?;
            Check::Conditional {
                if_field: text("if_field")?.unwrap_or_default(),
                if_match: rules_of("if_match")?.0,
                then_field: text("then_field")?.unwrap_or_default(),
                then_match,
                then_required,
                then_error: text("then_err")?,
            }
        }
        "conditional_at_least_one_of" => Check::ConditionalAtLeastOneOf {
            if_field: text("if_field")?.unwrap_or_default(),
            if_match: rules_of("if_match")?.0,
            then_at_least_one_of: names(&body.get::<Table>("then_at_least_one_of")?)?,
            then_error: text("then_err")?,
        },
        "custom_entity_check" => {
            let fields = names(&body.get::<Table>("field_sources")?)?;
            let site = site.name("fn");
            let code = RecordCode(Arc::new(move |record| {
                site.complaint(&Json::Object(record.clone())).map_err(|text| vec![("@entity".to_owned(), text.into())])
            }));
            Check::Code { fields, check: code }
        }
        _ => return Ok(None),
    }))
}

/// An entity of `daos.lua`.
pub fn entity(definition: &Table, site: &Site) -> mlua::Result<Schema> {
    let text = |name: &str| -> mlua::Result<Option<&'static str>> { Ok(definition.get::<Option<String>>(name)?.map(|text| leaked(&text))) };
    let flag = |name: &str| -> mlua::Result<Option<bool>> { definition.get(name) };
    let name = text("name")?.ok_or_else(|| malformed(site, "an entity needs a name"))?;
    let list = definition.get::<Option<Table>>("fields")?.ok_or_else(|| malformed(site, "an entity needs fields"))?;
    let mut schema = Schema::new(name, Vec::new());
    schema.fields = fields(&list, &site.name("fields"))?;
    schema.endpoint_key = text("endpoint_key")?;
    schema.admin_name = text("admin_api_name")?;
    schema.nested_name = text("admin_api_nested_name")?;
    schema.workspaceable = flag("workspaceable")?.unwrap_or(false);
    schema.ttl = flag("ttl")?.unwrap_or(false);
    schema.admin_api = flag("generate_admin_api")?.unwrap_or(true);
    schema.exported = flag("db_export")?.unwrap_or(true);
    if let Some(keys) = definition.get::<Option<Vec<String>>>("cache_key")? {
        schema.cache_key = keys.iter().map(|key| leaked(key)).collect::<Vec<_>>().leak();
    }
    if let Some(list) = definition.get::<Option<Table>>("entity_checks")? {
        schema.checks = checks(&list, &site.name("entity_checks"))?;
    }
    Ok(schema)
}
