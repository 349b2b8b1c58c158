//! Light threads and semaphores: what `ngx.thread` and `ngx.semaphore` stand on.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Thread, UserData, UserDataRef};
use tokio::sync::Semaphore;

use crate::drive::LIGHTS;
use crate::moment::with;
use crate::run::{Light, Made, Run};

/// Permits that a semaphore may have.
const PERMITS: usize = 1 << 20;

/// A semaphore as Lua holds it.
struct Shared(Rc<Semaphore>);

impl UserData for Shared {}

pub fn add(lua: &Lua, native: &Table) -> mlua::Result<()> {
    // The number of a new light thread, or nothing if there are too many.
    native.set(
        "light",
        lua.create_function(|_, ()| {
            with(|moment| {
                let run = moment.run;
                if run.lights.borrow().len() >= LIGHTS {
                    return Ok(None);
                }
                run.lights_made.set(run.lights_made.get().wrapping_add(1));
                Ok(Some(run.lights_made.get()))
            })
        })?,
    )?;
    // What the light thread has just begun to wait for is its own, not that of whoever started it.
    native.set(
        "park",
        lua.create_function(|_, (thread, id): (Thread, u32)| {
            with(|moment| {
                let waiting = moment.run.pending.borrow_mut().take();
                let waiting = waiting.ok_or_else(|| mlua::Error::runtime("code yielded to nobody"))?;
                moment.run.lights.borrow_mut().push(Light { thread, id, waiting });
                Ok(())
            })
        })?,
    )?;
    native.set(
        "kill",
        lua.create_function(|_, id: u32| {
            with(|moment| {
                let mut lights = moment.run.lights.borrow_mut();
                let before = lights.len();
                lights.retain(|light| light.id != id);
                Ok(lights.len() < before)
            })
        })?,
    )?;
    // Makes the running code wait until one of these is none of those that wait any more.
    native.set(
        "join",
        lua.create_function(|_, ids: Vec<u32>| {
            with(|moment| {
                let run: std::rc::Weak<Run> = Rc::downgrade(moment.run);
                *moment.run.pending.borrow_mut() = Some(Box::pin(async move {
                    // Looked at after each turn of a light thread: nothing has to wake this.
                    poll_fn(|_| match run.upgrade() {
                        Some(run)
                            if ids
                                .iter()
                                .all(|id| run.lights.try_borrow().map_or(true, |lights| lights.iter().any(|light| light.id == *id))) =>
                        {
                            Poll::Pending
                        }
                        _ => Poll::Ready(()),
                    })
                    .await;
                    Box::new(|_: &Lua| Ok(MultiValue::new())) as Made
                }));
                Ok(())
            })
        })?,
    )?;
    add_semaphores(lua, native)
}

fn add_semaphores(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.set("semaphore", lua.create_function(|_, count: usize| Ok(Shared(Rc::new(Semaphore::new(count.min(PERMITS))))))?)?;
    native.set(
        "semaphore_post",
        lua.create_function(|_, (semaphore, count): (UserDataRef<Shared>, usize)| {
            let room = PERMITS.saturating_sub(semaphore.0.available_permits());
            semaphore.0.add_permits(count.min(room));
            Ok(())
        })?,
    )?;
    native.set("semaphore_count", lua.create_function(|_, semaphore: UserDataRef<Shared>| Ok(semaphore.0.available_permits()))?)?;
    native.set(
        "semaphore_try",
        lua.create_function(|_, semaphore: UserDataRef<Shared>| {
            Ok(semaphore.0.try_acquire().map(tokio::sync::SemaphorePermit::forget).is_ok())
        })?,
    )?;
    native.set(
        "semaphore_wait",
        lua.create_function(|_, (semaphore, seconds): (UserDataRef<Shared>, f64)| {
            let semaphore = semaphore.0.clone();
            let length = super::length(seconds, 0.0, super::DAY);
            with(|moment| {
                *moment.run.pending.borrow_mut() = Some(Box::pin(async move {
                    let taken = tokio::time::timeout(length, semaphore.acquire()).await;
                    let taken = taken.is_ok_and(|permit| permit.map(tokio::sync::SemaphorePermit::forget).is_ok());
                    Box::new(move |lua: &Lua| taken.into_lua_multi(lua)) as Made
                }));
                Ok(())
            })
        })?,
    )
}
