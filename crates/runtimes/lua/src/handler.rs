//! A handler that runs code in its phases, wherever the code comes from.

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Function, IntoLuaMulti, Thread};
use portcullis_plugin::{Answer, Exchange, Handler, Head, Phases, Request, Response, Result, Source, Step};
use tracing::error;

use crate::drive;
use crate::moment::{Lent, Moment, Phase};
use crate::run::Run;
use crate::settings::Settings;
use crate::state::{Source as Code, State, Turn};
use crate::told;

/// How much of a request body is read for functions that ask for it, in bytes.
const BODY_LIMIT: u64 = 16 << 20;

/// The places of phases among the functions that a handler's source loads.
pub const PLACES: [Phase; 6] = [Phase::Rewrite, Phase::Access, Phase::HeaderFilter, Phase::BodyFilter, Phase::Log, Phase::Response];

/// See the module's description.
pub struct CodeHandler {
    settings: Arc<Settings>,
    /// Tells states how long to keep what they loaded.
    owner: Arc<()>,
    name: String,
    source: Box<dyn Code + Send + Sync>,
    phases: Phases,
    wants_body: bool,
}

impl CodeHandler {
    /// `name` is the plugin's, a colon and the instance's id. `source` loads a function, or none, for each of [`PLACES`].
    pub fn new(settings: Arc<Settings>, name: String, source: Box<dyn Code + Send + Sync>, phases: Phases, wants_body: bool) -> Self {
        // A filter of bodies is asked about the head too.
        let phases = if phases.has(Phases::BODY_FILTER) { phases.and(Phases::HEADER_FILTER) } else { phases };
        Self { settings, owner: Arc::new(()), name, source, phases, wants_body }
    }

    fn state(&self) -> mlua::Result<Rc<State>> {
        State::of_thread(&self.settings)
    }

    fn function(&self, state: &State, phase: Phase) -> mlua::Result<Option<Function>> {
        let functions = state.functions(&self.owner, &*self.source)?;
        Ok(functions.get(place(phase)).cloned().flatten())
    }

    /// The first turn of a phase that may wait.
    fn begin<'a>(&'a self, phase: Phase, request: &'a mut Request) -> Step<'a> {
        let begun = (|| {
            let state = self.state()?;
            let run = Run::of(&state, &mut request.context);
            let Some(function) = self.function(&state, phase)? else { return Ok(None) };
            let thread = state.thread()?;
            let arguments = function.into_lua_multi(&state.lua)?;
            let moment = Moment { request: Some(Lent::Mine(request)), ..Moment::new(phase, &run, &self.name) };
            let turn = state.turn(&thread, arguments, moment)?;
            Ok(Some((run, thread, turn)))
        })();
        match begun {
            Err(error) => Step::Fail(told(&error)),
            Ok(None) => Step::Next,
            Ok(Some((run, _, turn))) if drive::is_over(&run, turn) => match finish(&run, request) {
                Some(answer) => Step::answer(answer),
                None => Step::Next,
            },
            Ok(Some((run, thread, turn))) => Step::later(self.go_on(phase, request, run, thread, turn)),
        }
    }

    /// The turns that follow, each once what the code waited for is there.
    async fn go_on(&self, phase: Phase, request: &mut Request, run: Rc<Run>, thread: Thread, first: Turn) -> Result<Option<Box<Answer>>> {
        let gone_on = drive::go_on(&run, &thread, first, |thread, arguments| {
            let moment = Moment { request: Some(Lent::Mine(request)), ..Moment::new(phase, &run, &self.name) };
            run.state.turn(thread, arguments, moment)
        });
        gone_on.await.map_err(|error| told(&error))?;
        // What is left was waiting when the request was ended.
        run.lights.borrow_mut().clear();
        Ok(finish(&run, request).map(Box::new))
    }

    /// Runs a phase that cannot wait.
    fn filter(&self, run: &Rc<Run>, moment: Moment<'_>) -> mlua::Result<()> {
        let state = run.state.clone();
        let Some(function) = self.function(&state, moment.phase)? else { return Ok(()) };
        let thread = state.thread()?;
        let arguments = function.into_lua_multi(&state.lua)?;
        let phase = moment.phase;
        match state.turn(&thread, arguments, moment)? {
            turn if drive::is_over(run, turn) => Ok(()),
            _ => {
                run.pending.take();
                run.lights.borrow_mut().clear();
                Err(mlua::Error::runtime(format!("API disabled in the context of {}_by_lua*", phase.name())))
            }
        }
    }
}

/// What a phase leaves behind for the gateway: an answer, and groups that an authentication of the user's own found.
pub fn finish(run: &Run, request: &mut Request) -> Option<Answer> {
    if let Some(tables) = run.known_tables()
        && let Ok(shared) = tables.raw_get::<mlua::Table>("shared")
        && let Ok(Some(groups)) = shared.raw_get::<Option<Vec<String>>>("authenticated_groups")
    {
        request.authenticated_groups = Some(groups);
    }
    run.take_answer()
}

fn place(phase: Phase) -> usize {
    PLACES.iter().position(|place| *place == phase).unwrap_or(PLACES.len())
}

impl Handler for CodeHandler {
    fn phases(&self) -> Phases {
        self.phases
    }

    fn body_limit(&self, _: &Request) -> Option<u64> {
        self.wants_body.then_some(BODY_LIMIT)
    }

    fn rewrite<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        self.begin(Phase::Rewrite, request)
    }

    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        self.begin(Phase::Access, request)
    }

    fn response(&self, request: &mut Request, response: Response<'_>) -> Result<()> {
        let state = self.state().map_err(|error| told(&error))?;
        let run = Run::of(&state, &mut request.context);
        let held = RefCell::new(mem::take(response.body));
        let moment = Moment {
            request: Some(Lent::Shared(request)),
            response: Some(Lent::Mine(response.head)),
            source: Some(Source::Service),
            chunk: Some((&held, true)),
            ..Moment::new(Phase::Response, &run, &self.name)
        };
        let ran = self.filter(&run, moment);
        *response.body = held.into_inner();
        ran.map_err(|error| told(&error))
    }

    fn header_filter(&self, head: &mut Head<'_>) -> Result<()> {
        let state = self.state().map_err(|error| told(&error))?;
        let run = Run::of(&state, head.context);
        let moment = Moment {
            request: Some(Lent::Shared(head.request)),
            response: Some(Lent::Mine(head.response)),
            source: Some(head.source),
            ..Moment::new(Phase::HeaderFilter, &run, &self.name)
        };
        let filtered = self.filter(&run, moment);
        if self.phases.has(Phases::BODY_FILTER) {
            *run.response.borrow_mut() = Some((head.response.clone(), head.source));
        }
        filtered.map_err(|error| told(&error))
    }

    fn body_filter(&self, request: &mut Request, chunk: &mut Vec<u8>, last: bool) -> Result<()> {
        let state = self.state().map_err(|error| told(&error))?;
        let run = Run::of(&state, &mut request.context);
        let head = run.response.take();
        let held = RefCell::new(mem::take(chunk));
        let moment = Moment {
            request: Some(Lent::Shared(request)),
            response: head.as_ref().map(|(head, _)| Lent::Shared(head)),
            source: head.as_ref().map(|(_, source)| *source),
            chunk: Some((&held, last)),
            ..Moment::new(Phase::BodyFilter, &run, &self.name)
        };
        let filtered = self.filter(&run, moment);
        *run.response.borrow_mut() = head;
        *chunk = held.into_inner();
        filtered.map_err(|error| told(&error))
    }

    fn log(&self, exchange: &Exchange<'_>) {
        let logged = self.state().and_then(|state| {
            let known = exchange.request.context.get::<Rc<Run>>().filter(|run| Rc::ptr_eq(&run.state, &state));
            let run = known.cloned().unwrap_or_else(|| Rc::new(Run::new(state)));
            let moment = Moment {
                request: Some(Lent::Shared(exchange.request)),
                response: Some(Lent::Shared(exchange.response)),
                source: Some(exchange.source),
                exchange: Some(exchange),
                ..Moment::new(Phase::Log, &run, &self.name)
            };
            self.filter(&run, moment)
        });
        if let Err(cause) = logged {
            error!(plugin = self.name, %cause, "log function failed");
        }
    }
}
