//! What Lua keeps of one request, from its first turn to its last.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use mlua::{MultiValue, Table, Thread};
use portcullis_plugin::{Answer, Context, LateLogFields, ResponseHead};

use crate::state::State;

/// Makes the values that code which has waited is given.
pub type Made = Box<dyn FnOnce(&mlua::Lua) -> mlua::Result<MultiValue>>;

/// What code waits for; in the end it is given the values that this makes.
pub type Waiting = Pin<Box<dyn Future<Output = Made>>>;

/// A light thread that waits.
pub struct Light {
    pub thread: Thread,
    /// Unique within its run.
    pub id: u32,
    pub waiting: Waiting,
}

/// One request's side in Lua.
pub struct Run {
    pub state: Rc<State>,
    /// `kong.ctx` and `ngx.ctx`: one table with `shared`, `plugin` and `ngx`, made when first asked for.
    tables: OnceCell<Table>,
    /// How code wants the request to end.
    pub answer: RefCell<Option<Answer>>,
    /// What `ngx.say` and `ngx.print` have said.
    pub said: RefCell<Vec<u8>>,
    /// The status code set before there is a response.
    pub status: Cell<Option<u16>>,
    pub pending: RefCell<Option<Waiting>>,
    /// Light threads that wait.
    pub lights: RefCell<Vec<Light>>,
    /// Light threads there have been.
    pub lights_made: Cell<u32>,
    /// The head that went to the client and where it came from, for body filters.
    pub response: RefCell<Option<(ResponseHead, portcullis_plugin::Source)>>,
    /// Fields for log entries, set when the request could not be changed any more.
    pub log_fields: LateLogFields,
    /// Bodies gathered by body filters, by plugin.
    pub bodies: RefCell<HashMap<String, Vec<u8>>>,
}

impl Run {
    pub fn new(state: Rc<State>) -> Self {
        Self {
            state,
            tables: OnceCell::new(),
            answer: RefCell::default(),
            said: RefCell::default(),
            status: Cell::new(None),
            pending: RefCell::default(),
            lights: RefCell::default(),
            lights_made: Cell::new(0),
            response: RefCell::default(),
            log_fields: LateLogFields::default(),
            bodies: RefCell::default(),
        }
    }

    /// The request's run, begun if this is its first turn.
    pub fn of(state: &Rc<State>, context: &mut Context) -> Rc<Self> {
        if let Some(run) = context.get::<Rc<Self>>()
            && Rc::ptr_eq(&run.state, state)
        {
            return run.clone();
        }
        let run = Rc::new(Self::new(state.clone()));
        context.set(run.log_fields.clone());
        context.set(run.clone());
        run
    }

    /// The table of contexts.
    pub fn tables(&self) -> mlua::Result<Table> {
        if let Some(tables) = self.tables.get() {
            return Ok(tables.clone());
        }
        let lua = &self.state.lua;
        let tables = lua.create_table_with_capacity(0, 3)?;
        for name in ["shared", "plugin", "ngx"] {
            tables.raw_set(name, lua.create_table()?)?;
        }
        Ok(self.tables.get_or_init(|| tables).clone())
    }

    /// The table of contexts, if code has asked for it.
    pub fn known_tables(&self) -> Option<&Table> {
        self.tables.get()
    }

    /// The answer that code ended the request with: given whole, or said piece by piece.
    pub fn take_answer(&self) -> Option<Answer> {
        if let Some(answer) = self.answer.borrow_mut().take() {
            return Some(answer);
        }
        let said = self.said.take();
        (!said.is_empty()).then(|| Answer::bytes(self.status.get().unwrap_or(200), None, said))
    }
}
