//! The process's engine, as plugins know it.

use std::sync::Arc;

use mlua::chunk::ChunkMode;
use portcullis_plugin::script::{Engine, Field, Functions, Template};
use portcullis_plugin::{Handler, Instance, Result};

use crate::expression::{FieldCode, TemplateCode};
use crate::functions::FunctionsHandler;
use crate::settings::Settings;
use crate::state::{State, chunk_name};

/// Lua for this process.
pub struct Lua {
    settings: Arc<Settings>,
}

impl Lua {
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings) }
    }
}

/// What is wrong with code, in Lua's words.
fn parse(code: &str) -> std::result::Result<(), String> {
    let lua = mlua::Lua::new();
    match lua.load(code).set_name(chunk_name(code)).set_mode(ChunkMode::Text).into_function() {
        Ok(_) => Ok(()),
        Err(mlua::Error::SyntaxError { message, .. }) => Err(message),
        Err(error) => Err(error.to_string()),
    }
}

impl Engine for Lua {
    fn check(&self, code: &str) -> std::result::Result<(), String> {
        State::may_load(&self.settings)?;
        parse(code)
    }

    fn functions(&self, plugin: &'static str, code: Functions, instance: &Instance) -> Result<Arc<dyn Handler>> {
        let name = format!("{plugin}:{}", instance.id);
        Ok(Arc::new(FunctionsHandler::new(self.settings.clone(), name, code)))
    }

    fn field(&self, code: &str) -> Result<Arc<dyn Field>> {
        self.check(code)?;
        Ok(Arc::new(FieldCode::new(self.settings.clone(), code)))
    }

    fn template(&self, text: &str) -> Result<Arc<dyn Template>> {
        State::may_load(&self.settings)?;
        Ok(Arc::new(TemplateCode::new(self.settings.clone(), text)?))
    }
}
