//! Code that runs aside of requests: timers.

use std::cell::Cell;
use std::rc::Rc;

use mlua::{Function, IntoLuaMulti, Lua, Table, Thread};
use tracing::error;

use crate::drive;
use crate::moment::{Moment, Phase};
use crate::run::Run;
use crate::state::State;

/// Timers that may wait in one thread.
const MOST: usize = 16_384;

thread_local! {
    /// Whether this thread has a runtime that timers can run on.
    static RUNS: Cell<bool> = const { Cell::new(false) };
    static WAITING: Cell<usize> = const { Cell::new(0) };
}

/// From now on timers run on this thread.
pub fn start() {
    RUNS.set(true);
}

/// Whether timers run on this thread.
pub fn runs() -> bool {
    RUNS.get()
}

pub fn add(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.set("runs_timers", lua.create_function(|_, ()| Ok(RUNS.get()))?)?;
    native.set("timers", lua.create_function(|_, ()| Ok(WAITING.get()))?)?;
    native.set(
        "timer",
        lua.create_function(|_, (seconds, function): (f64, Function)| {
            let Some(state) = State::current().filter(|_| RUNS.get()) else { return Ok(Some("no timers here")) };
            if WAITING.get() >= MOST {
                return Ok(Some("too many pending timers"));
            }
            WAITING.set(WAITING.get() + 1);
            let length = super::length(seconds, 0.0, 1e8);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(length).await;
                WAITING.set(WAITING.get().saturating_sub(1));
                if let Err(cause) = aside(&state, function).await {
                    error!(%cause, "timer failed");
                }
            });
            Ok(None)
        })?,
    )
}

/// Runs a function that belongs to no request, and waits for what it waits for.
pub async fn aside(state: &Rc<State>, function: Function) -> mlua::Result<()> {
    let run = Rc::new(Run::new(state.clone()));
    let thread = state.thread()?;
    let arguments = function.into_lua_multi(&state.lua)?;
    let turn = |thread: &Thread, arguments| state.turn(thread, arguments, Moment::new(Phase::Timer, &run, ""));
    let first = turn(&thread, arguments)?;
    drive::go_on(&run, &thread, first, turn).await
}
