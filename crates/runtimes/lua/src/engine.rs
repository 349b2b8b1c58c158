//! The process's engine, as plugins know it.

use std::sync::Arc;

use mlua::chunk::ChunkMode;
use portcullis_plugin::script::{Engine, Field, Functions, Template};
use portcullis_plugin::{Answer, Entry, Handler, Instance, Result, Rows};
use portcullis_schema::Record;
use tracing::error;

use crate::custom::api::{self, Desk, Route};
use crate::custom::entry;
use crate::expression::{FieldCode, TemplateCode};
use crate::functions::FunctionsCode;
use crate::handler::CodeHandler;
use crate::native::timer;
use crate::settings::Settings;
use crate::state::{State, chunk_name};

/// Lua for this process.
#[derive(Clone)]
pub struct Lua {
    settings: Arc<Settings>,
    desk: Arc<Desk>,
}

impl Lua {
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), desk: Arc::default() }
    }

    /// A user's own plugin, by name. Errors with Kong's words if it is not there, or with what is wrong with it.
    pub fn plugin(&self, name: &str) -> std::result::Result<Entry, String> {
        entry::discover(&self.settings, name)
    }

    /// The endpoints that users' plugins add to the Admin API. Errors with what is wrong with one.
    pub fn routes(&self) -> std::result::Result<Vec<Route>, String> {
        let of = |name| api::routes(&self.settings, name).map_err(|error| format!("plugin {name}: {error}"));
        let lists: Vec<Vec<Route>> = self.settings.instances.names().into_iter().map(of).collect::<std::result::Result<_, _>>()?;
        Ok(lists.into_iter().flatten().collect())
    }

    /// Runs an endpoint. `params` are those of the path, the query and the body together.
    pub async fn call(&self, route: Route, params: Record) -> Answer {
        self.desk.call(&self.settings, route, params).await
    }

    /// Where code reads and writes rows. Told once.
    pub fn rows(&self, rows: Rows) {
        let _ = self.settings.rows.set(rows);
    }

    /// Loads users' plugins in this thread, and tells them of their instances.
    fn prepare(&self) -> mlua::Result<()> {
        let names = self.settings.instances.names();
        if names.is_empty() {
            return Ok(());
        }
        let state = State::of_thread(&self.settings)?;
        for name in names {
            state.plugin(name)?;
        }
        state.configure()
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
        let code = FunctionsCode(code);
        let (phases, wants_body) = (code.phases(), code.wants_body());
        Ok(Arc::new(CodeHandler::new(self.settings.clone(), name, Box::new(code), phases, wants_body)))
    }

    fn worker_started(&self) {
        timer::start();
        self.worker_ticked();
    }

    fn worker_ticked(&self) {
        if let Err(cause) = self.prepare() {
            error!(%cause, "plugins in Lua could not be prepared");
        }
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
