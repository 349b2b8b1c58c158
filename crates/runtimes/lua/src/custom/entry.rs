//! What the gateway is told of a user's plugin.

use std::sync::Arc;

use mlua::{Function, Lua, Table, Value};
use portcullis_plugin::{Entry, Env, Handler, Instance, Phases};
use portcullis_schema::{ConfigSchema, Field, Kind, Schema};
use serde_json::Value as Json;

use super::instance::{InstanceCode, phases_of};
use super::schema::{Site, checks, entity, field, leaked};
use crate::functions::reads_body;
use crate::handler::CodeHandler;
use crate::settings::Settings;
use crate::state::State;

/// Looks at a plugin and makes its entry, which lives as long as the process.
///
/// Errors with Kong's words for a plugin that is not there, or with what is wrong with it.
pub fn discover(settings: &Arc<Settings>, name: &str) -> Result<Entry, String> {
    let missing = |error: mlua::Error| {
        let told = format!("{name} plugin is enabled but not installed");
        let text = error.to_string();
        let absent = text.contains(&format!("module 'kong.plugins.{name}.handler' not found"));
        if absent { told } else { format!("{told};\n{text}") }
    };
    let state = State::of_thread(settings).map_err(|error| error.to_string())?;
    let handler: Table = required(&state.lua, &format!("kong.plugins.{name}.handler")).map_err(missing)?;
    let wrong = |error: mlua::Error| format!("plugin {name}: {error}");
    let priority = match handler.get::<Value>("PRIORITY").map_err(wrong)? {
        Value::Integer(priority) => priority as i32,
        Value::Number(priority) if priority.fract() == 0.0 => priority as i32,
        other => return Err(format!("priority field for plugin \"{name}\" is not an integer, got {}", other.type_name())),
    };
    let version = handler.get::<Option<String>>("VERSION").map_err(wrong)?.unwrap_or_default();
    if version.split('.').count() < 2 {
        return Err(format!("version field for plugin \"{name}\" does not follow the \"x.y.z\" format, got: {version:?}"));
    }
    let phases = phases_of(&handler).map_err(wrong)?;
    if phases.has(Phases::RESPONSE) && (phases.has(Phases::HEADER_FILTER) || phases.has(Phases::BODY_FILTER)) {
        return Err(format!("{name}: response can't be used together with header_filter or body_filter"));
    }
    let module = format!("kong.plugins.{name}.schema");
    let table: Table = required(&state.lua, &module).map_err(missing)?;
    let name = leaked(name);
    let schema = config_schema(name, priority, leaked(&version), &table, &Site::new(settings, &module)).map_err(wrong)?;
    let entities = entities(settings, &state.lua, name).map_err(wrong)?;
    let wants_body = sources(&state.lua, name).iter().any(|text| reads_body(text));
    settings.instances.know(name);
    let settings = settings.clone();
    let make = move |config: Json, instance: &Instance, _: &Env| -> portcullis_plugin::Result<Arc<dyn Handler>> {
        settings.instances.add(name, instance.id, config.clone());
        let code = InstanceCode { settings: settings.clone(), plugin: name, instance: instance.clone(), config };
        let owner = format!("{name}:{}", instance.id);
        Ok(Arc::new(CodeHandler::new(settings.clone(), owner, Box::new(code), phases, wants_body)))
    };
    // A filter of bodies is asked about the head too.
    let phases = if phases.has(Phases::BODY_FILTER) { phases.and(Phases::HEADER_FILTER) } else { phases };
    Ok(Entry {
        name,
        priority,
        phases,
        schema: Box::leak(Box::new(move || schema.clone())),
        entities: Box::leak(Box::new(move || entities.clone())),
        indexes: &[],
        make: Box::leak(Box::new(make)),
        metrics: None,
        endpoints: Vec::new,
        streams: false,
        need_database: &[],
        ready: true,
    })
}

fn required(lua: &Lua, module: &str) -> mlua::Result<Table> {
    let require: Function = lua.globals().get("require")?;
    require.call(module)
}

/// The texts of a plugin's handler and of what lies beside it.
fn sources(lua: &Lua, name: &str) -> Vec<String> {
    let found = (|| -> mlua::Result<Option<String>> {
        let package: Table = lua.globals().get("package")?;
        let path: String = package.get("path")?;
        let file = format!("kong/plugins/{name}/handler");
        Ok(path.split(';').map(|pattern| pattern.replace('?', &file)).find(|path| std::path::Path::new(path).is_file()))
    })();
    let Ok(Some(handler)) = found else { return Vec::new() };
    let Some(folder) = std::path::Path::new(&handler).parent() else { return Vec::new() };
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect()
}

fn config_schema(name: &'static str, priority: i32, version: &'static str, table: &Table, site: &Site) -> mlua::Result<ConfigSchema> {
    let fields: Table = table.get("fields")?;
    let mut config = Field::new(Kind::Record(portcullis_schema::field::Record::default()));
    let mut overrides = Vec::new();
    for at in 1..=fields.raw_len() {
        let one: Table = fields.get(at)?;
        for pair in one.pairs::<String, Table>() {
            let (field_name, definition) = pair?;
            let made = field(&definition, &site.name("fields").at(at).name(&field_name))?;
            match field_name.as_str() {
                "config" => config = made,
                _ => overrides.push((leaked(&field_name), made)),
            }
        }
    }
    config.required = true;
    let checks = match table.get::<Option<Table>>("entity_checks")? {
        Some(list) => checks(&list, &site.name("entity_checks"))?,
        None => Vec::new(),
    };
    Ok(ConfigSchema { name: name.into(), priority, version, config, overrides, checks, shorthands: Vec::new() })
}

/// The entities of `daos.lua`, if there is one. Kong takes a list, and also a table by name.
fn entities(settings: &Arc<Settings>, lua: &Lua, name: &str) -> mlua::Result<Vec<Schema>> {
    let module = format!("kong.plugins.{name}.daos");
    let table = match required(lua, &module) {
        Ok(table) => table,
        Err(error) if error.to_string().contains("not found") => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let site = Site::new(settings, &module);
    let mut out = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        let (key, Value::Table(definition)) = pair? else { continue };
        let site = match &key {
            Value::Integer(at) => site.at(*at as usize),
            Value::Number(at) => site.at(*at as usize),
            Value::String(name) => site.name(&name.to_string_lossy()),
            _ => continue,
        };
        out.push(entity(&definition, &site)?);
    }
    Ok(out)
}
