//! A thread's Lua state: limits, coroutines, loaded code.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Instant;

use mlua::chunk::ChunkMode;
use mlua::{Function, HookTriggers, Lua, MultiValue, Table, Thread, Value, VmState};

use tracing::error;

use crate::json;
use crate::moment::{Moment, Phase, lend};
use crate::native;
use crate::regex::Regexes;
use crate::settings::{Settings, Untrusted};

/// Instructions between two looks at the clock. Few, because one instruction may call a function that takes its time.
const STRIDE: u32 = 1_000;
/// Coroutines kept for the next turn.
const IDLE: usize = 64;

thread_local! {
    static STATE: RefCell<Option<Rc<State>>> = const { RefCell::new(None) };
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// How a turn of code ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Done,
    /// The request is to end; how, the run knows.
    Exit,
    /// The run has something pending.
    Wait,
}

/// Code that is loaded into each state that runs it, and forgotten with its owner.
pub trait Source {
    /// Makes the functions that the state keeps for it.
    fn load(&self, state: &State) -> mlua::Result<Vec<Option<Function>>>;
}

struct Loaded {
    functions: Rc<[Option<Function>]>,
    owner: Weak<()>,
}

pub struct State {
    pub lua: Lua,
    pub settings: Arc<Settings>,
    pub regexes: Regexes,
    loaded: RefCell<HashMap<usize, Loaded>>,
    idle: RefCell<Vec<Thread>>,
    /// Runs functions one after the other in one coroutine.
    driver: Function,
    /// Makes one function of several, each of which may give another in its place.
    combine: Function,
    /// Makes the environment of a piece of code.
    environment: Function,
    /// Makes the environment of a template's expression.
    template_environment: Function,
    /// Makes a function that calls another with two arguments.
    bind: Function,
    /// Its first place holds the number of the phase that code runs in.
    at: Table,
    /// Handlers of users' plugins, by name.
    plugins: RefCell<HashMap<&'static str, Table>>,
    /// The version of the instances that `configure` was last told of.
    configured: Cell<u64>,
}

impl State {
    /// This thread's state, made if it has none for these settings.
    pub fn of_thread(settings: &Arc<Settings>) -> mlua::Result<Rc<Self>> {
        STATE.with(|slot| {
            if let Some(state) = &*slot.borrow()
                && Arc::ptr_eq(&state.settings, settings)
            {
                return Ok(state.clone());
            }
            let state = Rc::new(Self::new(settings.clone())?);
            *slot.borrow_mut() = Some(state.clone());
            Ok(state)
        })
    }

    /// This thread's state, if it has one.
    pub fn current() -> Option<Rc<Self>> {
        STATE.with(|slot| slot.try_borrow().ok()?.clone())
    }

    fn new(settings: Arc<Settings>) -> mlua::Result<Self> {
        let lua = Lua::new();
        // Compiled traces would run past the look at the clock.
        lua.load("jit.off() jit.flush()").exec()?;
        lua.set_memory_limit(settings.memory_limit)?;
        let limit = settings.time_limit;
        lua.set_global_hook(HookTriggers::new().every_nth_instruction(STRIDE), move |_, _| {
            if expired() {
                return Err(mlua::Error::runtime(format!("code ran for more than {} ms", limit.as_millis())));
            }
            Ok(VmState::Continue)
        })?;
        let prelude = native::prelude(&lua, &settings)?;
        let get = |name: &str| prelude.get::<Function>(name);
        Ok(Self {
            driver: get("driver")?,
            combine: get("combine")?,
            environment: get("environment")?,
            template_environment: get("template_environment")?,
            bind: get("bind")?,
            at: prelude.get("at")?,
            plugins: RefCell::default(),
            configured: Cell::new(0),
            lua,
            settings,
            regexes: Regexes::default(),
            loaded: RefCell::default(),
            idle: RefCell::default(),
        })
    }

    /// Whether a state like this would run code at all; complains in Kong's words.
    pub fn may_load(settings: &Settings) -> Result<(), String> {
        match settings.untrusted {
            Untrusted::Off => {
                Err("loading of untrusted Lua code disabled because 'untrusted_lua' config option is set to 'off'".to_owned())
            }
            Untrusted::Sandbox | Untrusted::On => Ok(()),
        }
    }

    /// Parses code from configuration and gives it an environment of its own.
    pub fn untrusted(&self, code: &str, extra: Option<Table>) -> mlua::Result<Function> {
        Self::may_load(&self.settings).map_err(mlua::Error::runtime)?;
        let environment: Table = self.environment.call(extra)?;
        self.lua.load(code).set_name(chunk_name(code)).set_mode(ChunkMode::Text).set_environment(environment).into_function()
    }

    /// Parses an expression of a template, in an environment of what templates see.
    pub fn template(&self, code: &str) -> mlua::Result<Function> {
        Self::may_load(&self.settings).map_err(mlua::Error::runtime)?;
        let environment: Table = self.template_environment.call(())?;
        self.lua.load(code).set_name(chunk_name(code)).set_mode(ChunkMode::Text).set_environment(environment).into_function()
    }

    /// One function that runs all of these in order.
    pub fn combined(&self, chunks: Vec<Function>) -> mlua::Result<Function> {
        self.combine.call(chunks)
    }

    /// What `source` has loaded here; `owner` is the same for as long as the source lives.
    pub fn functions(&self, owner: &Arc<()>, source: &dyn Source) -> mlua::Result<Rc<[Option<Function>]>> {
        let key = Arc::as_ptr(owner).addr();
        if let Some(loaded) = self.loaded.borrow().get(&key)
            && loaded.owner.strong_count() > 0
        {
            return Ok(loaded.functions.clone());
        }
        let functions: Rc<[Option<Function>]> = source.load(self)?.into();
        let mut all = self.loaded.borrow_mut();
        all.retain(|_, loaded| loaded.owner.strong_count() > 0);
        all.insert(key, Loaded { functions: functions.clone(), owner: Arc::downgrade(owner) });
        Ok(functions)
    }

    /// A coroutine that is waiting for a function to run.
    pub fn thread(&self) -> mlua::Result<Thread> {
        match self.idle.borrow_mut().pop() {
            Some(thread) => Ok(thread),
            None => self.lua.create_thread(self.driver.clone()),
        }
    }

    /// Goes on with a coroutine until it is done with what it was given, ends the request, or waits.
    pub fn turn(&self, thread: &Thread, mut arguments: MultiValue, moment: Moment<'_>) -> mlua::Result<Turn> {
        // Whoever is given values is told the phase first: other code may have run since it began to wait.
        arguments.push_front(Value::Integer(moment.phase.number().into()));
        let outer = DEADLINE.replace(Some(Instant::now() + self.settings.time_limit));
        let yielded = lend(moment, || thread.resume::<Value>(arguments));
        DEADLINE.set(outer);
        let turn = match yielded {
            Ok(Value::LightUserData(mark)) => match mark.0.addr() {
                native::DONE => Turn::Done,
                native::EXIT => Turn::Exit,
                _ => Turn::Wait,
            },
            Ok(_) => return Err(mlua::Error::runtime("attempt to yield across the end of a function")),
            Err(error) => {
                self.relieve(&error);
                return Err(error);
            }
        };
        if turn == Turn::Done {
            let mut idle = self.idle.borrow_mut();
            if idle.len() < IDLE {
                idle.push(thread.clone());
            }
        }
        Ok(turn)
    }

    /// Calls a function that neither waits nor ends a request.
    pub fn call(&self, function: &Function, moment: Moment<'_>) -> mlua::Result<Value> {
        let outer = DEADLINE.replace(Some(Instant::now() + self.settings.time_limit));
        let before: Value = self.at.raw_get(1)?;
        self.at.raw_set(1, moment.phase.number())?;
        let result = lend(moment, || function.call::<Value>(()));
        self.at.raw_set(1, before)?;
        DEADLINE.set(outer);
        if let Err(error) = &result {
            self.relieve(error);
        }
        result
    }

    /// Runs something that calls Lua in a phase without a request, within the time that a turn may take.
    pub fn bounded<R>(&self, phase: Phase, f: impl FnOnce() -> mlua::Result<R>) -> mlua::Result<R> {
        let outer = DEADLINE.replace(Some(Instant::now() + self.settings.time_limit));
        let before: Value = self.at.raw_get(1)?;
        self.at.raw_set(1, phase.number())?;
        let result = f();
        self.at.raw_set(1, before)?;
        DEADLINE.set(outer);
        if let Err(error) = &result {
            self.relieve(error);
        }
        result
    }

    /// The handler of a user's plugin. When it is first asked for, its module is loaded and its `init_worker` runs.
    pub fn plugin(&self, name: &'static str) -> mlua::Result<Table> {
        if let Some(handler) = self.plugins.borrow().get(name) {
            return Ok(handler.clone());
        }
        let require: Function = self.lua.globals().get("require")?;
        let handler: Table = self.bounded(Phase::Init, || require.call(format!("kong.plugins.{name}.handler")))?;
        self.plugins.borrow_mut().insert(name, handler.clone());
        // Threads without timers are none that serve: there is nothing to set up.
        if native::timer::runs()
            && let Value::Function(init_worker) = handler.get::<Value>("init_worker")?
            && let Err(cause) = self.bounded(Phase::InitWorker, || init_worker.call::<()>(handler.clone()))
        {
            error!(plugin = name, %cause, "init_worker failed");
        }
        Ok(handler)
    }

    /// Tells users' plugins of their instances' configurations, if those changed.
    pub fn configure(&self) -> mlua::Result<()> {
        let version = self.settings.instances.version();
        if !native::timer::runs() || self.configured.replace(version) == version {
            return Ok(());
        }
        let plugins: Vec<(&'static str, Table)> = self.plugins.borrow().iter().map(|(name, handler)| (*name, handler.clone())).collect();
        for (name, handler) in plugins {
            let Value::Function(configure) = handler.get::<Value>("configure")? else { continue };
            let configs = self.settings.instances.of(name);
            let configs = if configs.is_empty() { Value::Nil } else { json::to_lua(&self.lua, &configs.into(), false)? };
            if let Err(cause) = self.bounded(Phase::InitWorker, || configure.call::<()>((handler, configs))) {
                error!(plugin = name, %cause, "configure failed");
            }
        }
        Ok(())
    }

    /// A function that calls `function` with these.
    pub fn bound(&self, function: Function, handler: Table, config: Table) -> mlua::Result<Function> {
        self.bind.call((function, handler, config))
    }

    /// After memory ran out: lets go of what is garbage, and of the whole state if that does not help.
    fn relieve(&self, error: &mlua::Error) {
        if !error.to_string().contains("not enough memory") {
            return;
        }
        let _ = self.lua.gc_collect();
        let _ = self.lua.gc_collect();
        if self.lua.used_memory() > self.settings.memory_limit / 2 {
            STATE.with(|slot| {
                if let Ok(mut slot) = slot.try_borrow_mut() {
                    *slot = None;
                }
            });
        }
    }
}

/// Whether the running code has used up its time.
pub fn expired() -> bool {
    DEADLINE.get().is_some_and(|deadline| Instant::now() >= deadline)
}

/// Lua names a piece of code by its beginning.
pub fn chunk_name(code: &str) -> String {
    code.split('\0').next().unwrap_or_default().to_owned()
}
