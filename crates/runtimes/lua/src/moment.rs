//! What running code may touch right now.
//!
//! A plugin's phase lends its arguments for the length of one turn; the functions that Lua calls find them here. Nothing is
//! kept: between turns there is no moment, and a function that needs one fails with a message.

use std::cell::RefCell;
use std::rc::Rc;

use portcullis_plugin::{Exchange, Request, ResponseHead, Source};
use scoped_tls_hkt::{ReborrowMut, scoped_thread_local};

use crate::run::Run;

/// The phase that code runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Modules are being loaded.
    Init,
    InitWorker,
    Rewrite,
    Access,
    HeaderFilter,
    BodyFilter,
    Log,
    /// The whole response is there, and nothing of it has gone out.
    Response,
    Timer,
    /// A call of the Admin API.
    Admin,
}

impl Phase {
    /// As Kong names it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Init => "init",
            Phase::InitWorker => "init_worker",
            Phase::Rewrite => "rewrite",
            Phase::Access => "access",
            Phase::HeaderFilter => "header_filter",
            Phase::BodyFilter => "body_filter",
            Phase::Log => "log",
            Phase::Response => "response",
            Phase::Timer => "timer",
            Phase::Admin => "admin_api",
        }
    }

    /// The number that Lua code knows it by: Kong's own, where Kong has one.
    pub fn number(self) -> u32 {
        match self {
            Phase::Init => 0,
            Phase::Timer => 0x1_0000,
            Phase::InitWorker => 0x1,
            Phase::Rewrite => 0x10,
            Phase::Access => 0x20,
            Phase::Response => 0x80,
            Phase::HeaderFilter => 0x200,
            Phase::BodyFilter => 0x400,
            Phase::Log => 0x2000,
            Phase::Admin => 0x1000_0000,
        }
    }
}

/// Something lent to look at, or to change as well.
pub enum Lent<'a, T> {
    Shared(&'a T),
    Mine(&'a mut T),
}

impl<T> Lent<'_, T> {
    pub fn get(&self) -> &T {
        match self {
            Lent::Shared(value) => value,
            Lent::Mine(value) => value,
        }
    }

    fn again(&mut self) -> Lent<'_, T> {
        match self {
            Lent::Shared(value) => Lent::Shared(value),
            Lent::Mine(value) => Lent::Mine(value),
        }
    }
}

/// One turn's arguments.
pub struct Moment<'a> {
    pub phase: Phase,
    pub run: &'a Rc<Run>,
    /// Whose turn it is: what `kong.ctx.plugin` is kept by.
    pub owner: &'a str,
    pub request: Option<Lent<'a, Request>>,
    pub response: Option<Lent<'a, ResponseHead>>,
    pub source: Option<Source>,
    pub exchange: Option<&'a Exchange<'a>>,
    /// A piece of a body, and whether it is the last one.
    pub chunk: Option<(&'a RefCell<Vec<u8>>, bool)>,
}

impl<'a> Moment<'a> {
    pub fn new(phase: Phase, run: &'a Rc<Run>, owner: &'a str) -> Self {
        Self { phase, run, owner, request: None, response: None, source: None, exchange: None, chunk: None }
    }
}

impl<'a> ReborrowMut<'a> for Moment<'_> {
    type Result = Moment<'a>;

    fn reborrow_mut(&'a mut self) -> Moment<'a> {
        Moment {
            phase: self.phase,
            run: self.run,
            owner: self.owner,
            request: self.request.as_mut().map(Lent::again),
            response: self.response.as_mut().map(Lent::again),
            source: self.source,
            exchange: self.exchange,
            chunk: self.chunk,
        }
    }
}

scoped_thread_local!(static mut CURRENT: for<'a> Moment<'a>);

/// Runs something that may touch these.
pub fn lend<R>(moment: Moment<'_>, f: impl FnOnce() -> R) -> R {
    CURRENT.set(moment, f)
}

/// Hands the moment to a native function.
pub fn with<R>(f: impl FnOnce(Moment<'_>) -> mlua::Result<R>) -> mlua::Result<R> {
    if !CURRENT.is_set() {
        return Err(mlua::Error::runtime("no request found"));
    }
    CURRENT.with(f)
}

/// Whose turn it is, if it is anybody's.
pub fn run() -> Option<Rc<Run>> {
    CURRENT.is_set().then(|| CURRENT.with(|moment| moment.run.clone()))
}

/// The request, to look at.
pub fn request<R>(f: impl FnOnce(&Request) -> mlua::Result<R>) -> mlua::Result<R> {
    with(|moment| match &moment.request {
        Some(request) => f(request.get()),
        None => Err(mlua::Error::runtime("no request found")),
    })
}

/// The request, to change.
pub fn request_mut<R>(f: impl FnOnce(&mut Request) -> mlua::Result<R>) -> mlua::Result<R> {
    with(|moment| match moment.request {
        Some(Lent::Mine(request)) => f(request),
        _ => Err(misplaced(moment.phase, "rewrite, access")),
    })
}

/// Kong's complaint about a function that the phase does not have.
pub fn misplaced(phase: Phase, allowed: &str) -> mlua::Error {
    mlua::Error::runtime(format!("function cannot be called in {} phase (only in: {allowed})", phase.name()))
}
