//! A handler made of functions in configuration.

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Function, IntoLuaMulti, Thread};
use portcullis_plugin::script::Functions;
use portcullis_plugin::{Answer, Exchange, Handler, Head, Phases, Request, Result, Step};
use tracing::error;

use crate::moment::{Lent, Moment, Phase};
use crate::run::Run;
use crate::settings::Settings;
use crate::state::{Source, State, Turn};
use crate::told;

/// How much of a request body is read for functions that ask for it, in bytes.
const BODY_LIMIT: u64 = 16 << 20;

/// See the module's description.
pub struct FunctionsHandler {
    settings: Arc<Settings>,
    /// Tells states how long to keep what they loaded.
    owner: Arc<()>,
    name: String,
    code: Functions,
    phases: Phases,
    wants_body: bool,
}

impl FunctionsHandler {
    pub fn new(settings: Arc<Settings>, name: String, code: Functions) -> Self {
        let mut phases = Phases::NONE;
        for (list, phase) in [
            (&code.rewrite, Phases::REWRITE),
            (&code.access, Phases::ACCESS),
            (&code.header_filter, Phases::HEADER_FILTER),
            (&code.body_filter, Phases::BODY_FILTER),
            (&code.log, Phases::LOG),
        ] {
            if !list.is_empty() {
                phases = phases.and(phase);
            }
        }
        // A filter of bodies is asked about the head too.
        if phases.has(Phases::BODY_FILTER) {
            phases = phases.and(Phases::HEADER_FILTER);
        }
        let wants_body = code.access.iter().any(|code| reads_body(code));
        Self { settings, owner: Arc::new(()), name, code, phases, wants_body }
    }

    fn state(&self) -> mlua::Result<Rc<State>> {
        State::of_thread(&self.settings)
    }

    fn function(&self, state: &State, phase: Phase) -> mlua::Result<Option<Function>> {
        let functions = state.functions(&self.owner, self)?;
        Ok(functions.get(place(phase)).cloned().flatten())
    }

    /// The first turn of a phase that may wait.
    fn begin<'a>(&'a self, phase: Phase, request: &'a mut Request) -> Step<'a> {
        let begun = (|| {
            let state = self.state()?;
            let Some(function) = self.function(&state, phase)? else { return Ok(None) };
            let run = Run::of(&state, &mut request.context);
            let thread = state.thread()?;
            let arguments = function.into_lua_multi(&state.lua)?;
            let moment = Moment { request: Some(Lent::Mine(request)), ..Moment::new(phase, &run, &self.name) };
            let turn = state.turn(&thread, arguments, moment)?;
            Ok(Some((run, thread, turn)))
        })();
        match begun {
            Err(error) => Step::Fail(told(&error)),
            Ok(None) => Step::Next,
            Ok(Some((run, _, Turn::Done | Turn::Exit))) => match finish(&run, request) {
                Some(answer) => Step::answer(answer),
                None => Step::Next,
            },
            Ok(Some((run, thread, Turn::Wait))) => Step::later(self.go_on(phase, request, run, thread)),
        }
    }

    /// The turns that follow, each once what the code waited for is there.
    async fn go_on(&self, phase: Phase, request: &mut Request, run: Rc<Run>, thread: Thread) -> Result<Option<Box<Answer>>> {
        let state = run.state.clone();
        loop {
            let pending = run.pending.borrow_mut().take();
            let Some(pending) = pending else { return Err("code yielded to nobody".into()) };
            let make = pending.await;
            let moment = Moment { request: Some(Lent::Mine(request)), ..Moment::new(phase, &run, &self.name) };
            let turn = make(&state.lua).and_then(|arguments| state.turn(&thread, arguments, moment));
            match turn {
                Ok(Turn::Wait) => {}
                Ok(Turn::Done | Turn::Exit) => return Ok(finish(&run, request).map(Box::new)),
                Err(error) => return Err(told(&error)),
            }
        }
    }

    /// Runs a phase that cannot wait.
    fn filter(&self, run: &Rc<Run>, moment: Moment<'_>) -> mlua::Result<()> {
        let state = run.state.clone();
        let Some(function) = self.function(&state, moment.phase)? else { return Ok(()) };
        let thread = state.thread()?;
        let arguments = function.into_lua_multi(&state.lua)?;
        let phase = moment.phase;
        match state.turn(&thread, arguments, moment)? {
            Turn::Done | Turn::Exit => Ok(()),
            Turn::Wait => {
                run.pending.take();
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

/// Whether code mentions a function that reads the request's body.
fn reads_body(code: &str) -> bool {
    ["get_raw_body", "get_body", "read_body", "get_post_args", "body_data"].iter().any(|word| code.contains(word))
}

fn place(phase: Phase) -> usize {
    match phase {
        Phase::Rewrite => 0,
        Phase::Access => 1,
        Phase::HeaderFilter => 2,
        Phase::BodyFilter => 3,
        Phase::Log | Phase::Timer => 4,
    }
}

impl Source for FunctionsHandler {
    fn load(&self, state: &State) -> mlua::Result<Vec<Option<Function>>> {
        let code = &self.code;
        let lists = [&code.rewrite, &code.access, &code.header_filter, &code.body_filter, &code.log];
        let load = |list: &Vec<String>| {
            if list.is_empty() {
                return Ok(None);
            }
            let chunks = list.iter().map(|code| state.untrusted(code, None)).collect::<mlua::Result<Vec<_>>>()?;
            state.combined(chunks).map(Some)
        };
        lists.into_iter().map(load).collect()
    }
}

impl Handler for FunctionsHandler {
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
            *run.response.borrow_mut() = Some(head.response.clone());
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
            response: head.as_ref().map(Lent::Shared),
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
