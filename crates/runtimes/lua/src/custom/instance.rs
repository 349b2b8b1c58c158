//! A configured instance of a user's plugin: its handler's functions, bound to its configuration.

use std::sync::Arc;

use mlua::{Function, Table, Value};
use portcullis_plugin::{Instance, Phases};
use serde_json::Value as Json;

use crate::handler::PLACES;
use crate::json;
use crate::moment::Phase;
use crate::settings::Settings;
use crate::state::{Source, State};

/// What a state loads for an instance.
pub struct InstanceCode {
    pub settings: Arc<Settings>,
    pub plugin: &'static str,
    pub instance: Instance,
    pub config: Json,
}

impl Drop for InstanceCode {
    fn drop(&mut self) {
        self.settings.instances.remove(self.plugin, self.instance.id, &self.config);
    }
}

/// The name of the handler's function for a phase.
pub fn function_name(phase: Phase) -> &'static str {
    phase.name()
}

/// The phases that a handler has functions for.
pub fn phases_of(handler: &Table) -> mlua::Result<Phases> {
    let mut phases = Phases::NONE;
    for (name, phase) in [
        ("rewrite", Phases::REWRITE),
        ("access", Phases::ACCESS),
        ("header_filter", Phases::HEADER_FILTER),
        ("body_filter", Phases::BODY_FILTER),
        ("log", Phases::LOG),
        ("response", Phases::RESPONSE),
    ] {
        if let Value::Function(_) = handler.get::<Value>(name)? {
            phases = phases.and(phase);
        }
    }
    Ok(phases)
}

impl Source for InstanceCode {
    fn load(&self, state: &State) -> mlua::Result<Vec<Option<Function>>> {
        let handler = state.plugin(self.plugin)?;
        let config = match json::to_lua(&state.lua, &self.config, false)? {
            Value::Table(table) => table,
            _ => state.lua.create_table()?,
        };
        config.raw_set("__plugin_id", self.instance.id.to_string())?;
        for (name, id) in
            [("route_id", self.instance.route), ("service_id", self.instance.service), ("consumer_id", self.instance.consumer)]
        {
            if let Some(id) = id {
                config.raw_set(name, id.to_string())?;
            }
        }
        state.configure()?;
        let bind = |phase: &Phase| match handler.get::<Value>(function_name(*phase))? {
            Value::Function(function) => state.bound(function, handler.clone(), config.clone()).map(Some),
            _ => Ok(None),
        };
        PLACES.iter().map(bind).collect()
    }
}
