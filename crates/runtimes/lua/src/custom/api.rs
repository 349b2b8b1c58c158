//! Endpoints that users' plugins add to the Admin API (`api.lua`).
//!
//! They run on a thread of their own, so that no worker waits for them, and wait there as requests do on a worker.

use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use mlua::{Function, IntoLuaMulti, Table, Thread, Value};
use portcullis_plugin::Answer;
use portcullis_schema::Record;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::schema::leaked;
use crate::drive;
use crate::json;
use crate::moment::{Moment, Phase};
use crate::native::timer;
use crate::run::Run;
use crate::settings::Settings;
use crate::state::State;

/// Calls that may wait for the thread.
const WAITING: usize = 256;
/// The verbs that a path may have functions for.
const VERBS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// One verb at one path of a plugin.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub plugin: &'static str,
    pub method: &'static str,
    /// As the plugin spells it: `/notes/:id`.
    pub path: &'static str,
}

impl Route {
    /// The names of the path's parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.path.split('/').filter_map(|part| part.strip_prefix(':'))
    }

    /// The path with its parameters in braces.
    pub fn braced(&self) -> String {
        let part = |part: &str| part.strip_prefix(':').map_or_else(|| part.to_owned(), |name| format!("{{{name}}}"));
        self.path.split('/').map(part).collect::<Vec<_>>().join("/")
    }
}

struct Call {
    route: Route,
    params: Record,
    answer: oneshot::Sender<Answer>,
}

/// Where calls go: the thread is started with the first one.
#[derive(Default)]
pub struct Desk(OnceLock<mpsc::Sender<Call>>);

impl Desk {
    /// Runs an endpoint. `params` are those of the path, the query and the body together.
    pub async fn call(&self, settings: &Arc<Settings>, route: Route, params: Record) -> Answer {
        let calls = self.0.get_or_init(|| start(settings.clone()));
        let (answer, answered) = oneshot::channel();
        let busy = || Answer::error(503, "The service is busy");
        if calls.try_send(Call { route, params, answer }).is_err() {
            return busy();
        }
        answered.await.unwrap_or_else(|_| busy())
    }
}

fn start(settings: Arc<Settings>) -> mpsc::Sender<Call> {
    let (calls, mut waiting) = mpsc::channel::<Call>(WAITING);
    let started = std::thread::Builder::new().name("lua-admin".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()) {
            Ok(runtime) => runtime,
            Err(error) => return error!(%error, "no runtime for plugins' endpoints"),
        };
        runtime.block_on(async {
            timer::start();
            while let Some(Call { route, params, answer }) = waiting.recv().await {
                let settings = settings.clone();
                tokio::task::spawn_local(async move {
                    let given = run(&settings, route, params).await.unwrap_or_else(|cause| {
                        error!(plugin = route.plugin, path = route.path, %cause, "an endpoint failed");
                        Answer::json(500, serde_json::json!({ "message": "An unexpected error occurred" }))
                    });
                    // Whoever asked may have gone away.
                    let _ = answer.send(given);
                });
            }
        });
    });
    if let Err(error) = started {
        error!(%error, "no thread for plugins' endpoints");
    }
    calls
}

/// The function of a verb: beside the path, or among its `methods`.
fn function(state: &State, route: Route) -> mlua::Result<Option<Function>> {
    let Some(api) = module(state, route.plugin)? else { return Ok(None) };
    let Some(entry) = api.get::<Option<Table>>(route.path)? else { return Ok(None) };
    let methods = entry.get::<Option<Table>>("methods")?.unwrap_or(entry);
    methods.get(route.method)
}

fn module(state: &State, plugin: &str) -> mlua::Result<Option<Table>> {
    let require: Function = state.lua.globals().get("require")?;
    let name = format!("kong.plugins.{plugin}.api");
    match state.bounded(Phase::Init, || require.call::<Table>(name.as_str())) {
        Ok(table) => Ok(Some(table)),
        Err(error) if error.to_string().contains(&format!("module '{name}' not found")) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All endpoints of a plugin.
pub fn routes(settings: &Arc<Settings>, plugin: &'static str) -> mlua::Result<Vec<Route>> {
    let state = State::of_thread(settings)?;
    let Some(api) = module(&state, plugin)? else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for pair in api.pairs::<String, Table>() {
        let path = leaked(&pair?.0);
        for method in VERBS {
            let route = Route { plugin, method, path };
            if function(&state, route)?.is_some() {
                out.push(route);
            }
        }
    }
    Ok(out)
}

async fn run(settings: &Arc<Settings>, route: Route, params: Record) -> mlua::Result<Answer> {
    let state = State::of_thread(settings)?;
    state.plugin(route.plugin)?;
    let Some(function) = function(&state, route)? else { return Ok(Answer::status(404)) };
    let lua = &state.lua;
    let me = lua.create_table()?;
    me.raw_set("params", json::to_lua(lua, &params.into(), true)?)?;
    let database: Value = lua.globals().get::<Table>("kong")?.get("db")?;
    let run = Rc::new(Run::new(state.clone()));
    let thread = state.thread()?;
    let arguments = (function, me, database, lua.create_table()?).into_lua_multi(lua)?;
    let turn = |thread: &Thread, arguments| state.turn(thread, arguments, Moment::new(Phase::Admin, &run, route.plugin));
    let first = turn(&thread, arguments)?;
    drive::go_on(&run, &thread, first, turn).await?;
    Ok(run.take_answer().unwrap_or_else(|| Answer::empty(204)))
}
