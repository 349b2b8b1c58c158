//! Goes on with code that waits, and with the light threads that it started beside itself.
//!
//! A coroutine waits by leaving a future in its run and yielding. Light threads (`ngx.thread`) leave theirs in a list of the
//! run; whichever is ready first goes on. All of it happens in the one task that serves the request, or the timer.

use std::future::poll_fn;
use std::task::Poll;

use mlua::{MultiValue, Thread};

use crate::run::{Light, Run};
use crate::state::Turn;

/// Light threads that one run may have waiting.
pub const LIGHTS: usize = 256;

fn nobody() -> mlua::Error {
    mlua::Error::runtime("code yielded to nobody")
}

/// Whether a turn leaves nothing to wait for.
pub fn is_over(run: &Run, turn: Turn) -> bool {
    match turn {
        Turn::Exit => true,
        Turn::Done => run.lights.borrow().is_empty(),
        Turn::Wait => false,
    }
}

/// Goes on with a coroutine whose turn ended like this, until it and its light threads are done, or one ends the request.
/// `turn` runs one turn of a coroutine with what it has waited for.
pub async fn go_on(
    run: &Run,
    thread: &Thread,
    first: Turn,
    mut turn: impl FnMut(&Thread, MultiValue) -> mlua::Result<Turn>,
) -> mlua::Result<()> {
    let mut mine = match first {
        Turn::Exit => return Ok(()),
        Turn::Done => None,
        Turn::Wait => Some(run.pending.borrow_mut().take().ok_or_else(nobody)?),
    };
    while mine.is_some() || !run.lights.borrow().is_empty() {
        let (light, make) = poll_fn(|context| {
            if let Some(waiting) = &mut mine
                && let Poll::Ready(make) = waiting.as_mut().poll(context)
            {
                return Poll::Ready((None, make));
            }
            let mut lights = run.lights.borrow_mut();
            for at in 0..lights.len() {
                if let Poll::Ready(make) = lights[at].waiting.as_mut().poll(context) {
                    return Poll::Ready((Some(lights.swap_remove(at)), make));
                }
            }
            Poll::Pending
        })
        .await;
        let arguments = make(&run.state.lua)?;
        match light {
            None => {
                mine = match turn(thread, arguments)? {
                    Turn::Exit => return Ok(()),
                    Turn::Done => None,
                    Turn::Wait => Some(run.pending.borrow_mut().take().ok_or_else(nobody)?),
                };
            }
            Some(Light { thread, id, .. }) => match turn(&thread, arguments)? {
                Turn::Exit => return Ok(()),
                Turn::Done => {}
                Turn::Wait => {
                    let waiting = run.pending.borrow_mut().take().ok_or_else(nobody)?;
                    run.lights.borrow_mut().push(Light { thread, id, waiting });
                }
            },
        }
    }
    Ok(())
}
