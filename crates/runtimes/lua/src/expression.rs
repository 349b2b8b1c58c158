//! Values of log fields, and templates.

use std::rc::Rc;
use std::sync::Arc;

use mlua::{Function, Value};
use portcullis_plugin::script::{Field, Template};
use portcullis_plugin::{Exchange, Request, Result};

use crate::moment::{Lent, Moment, Phase};
use crate::run::Run;
use crate::settings::Settings;
use crate::state::{Source, State};
use crate::{arguments, json, told};

/// Code that gives a value for each exchange.
pub struct FieldCode {
    settings: Arc<Settings>,
    owner: Arc<()>,
    code: String,
}

impl FieldCode {
    pub fn new(settings: Arc<Settings>, code: &str) -> Self {
        Self { settings, owner: Arc::new(()), code: code.to_owned() }
    }
}

impl Source for FieldCode {
    fn load(&self, state: &State) -> mlua::Result<Vec<Option<Function>>> {
        Ok(vec![Some(state.untrusted(&self.code, None)?)])
    }
}

fn run_of(state: &Rc<State>, request: &Request) -> Rc<Run> {
    let known = request.context.get::<Rc<Run>>().filter(|run| Rc::ptr_eq(&run.state, state));
    known.cloned().unwrap_or_else(|| Rc::new(Run::new(state.clone())))
}

impl Field for FieldCode {
    fn value(&self, exchange: &Exchange<'_>) -> Result<Option<serde_json::Value>> {
        let value = State::of_thread(&self.settings).and_then(|state| {
            let run = run_of(&state, exchange.request);
            let functions = state.functions(&self.owner, self)?;
            let Some(Some(function)) = functions.first() else { return Ok(None) };
            let moment = Moment {
                request: Some(Lent::Shared(exchange.request)),
                response: Some(Lent::Shared(exchange.response)),
                source: Some(exchange.source),
                exchange: Some(exchange),
                ..Moment::new(Phase::Log, &run, "")
            };
            let value = state.call(function, moment)?;
            json::from_lua(&value)
        });
        value.map_err(|error| told(&error))
    }
}

/// A piece of a template.
enum Piece {
    Text(String),
    /// The place of its function.
    Expression(usize),
}

/// Text with expressions in it.
pub struct TemplateCode {
    settings: Arc<Settings>,
    owner: Arc<()>,
    pieces: Vec<Piece>,
    expressions: Vec<String>,
}

impl TemplateCode {
    /// Errors with what is wrong with an expression.
    pub fn new(settings: Arc<Settings>, text: &str) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut expressions = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("$(") {
            let Some(length) = closing(&rest[at + 2..]) else { break };
            if at > 0 {
                pieces.push(Piece::Text(rest[..at].to_owned()));
            }
            pieces.push(Piece::Expression(expressions.len()));
            expressions.push(rest[at + 2..at + 2 + length].to_owned());
            rest = &rest[at + 3 + length..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        let template = Self { settings, owner: Arc::new(()), pieces, expressions };
        State::of_thread(&template.settings).and_then(|state| template.load(&state)).map_err(|error| told(&error))?;
        Ok(template)
    }
}

/// How far the text goes until the bracket that was opened before it closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

impl Source for TemplateCode {
    fn load(&self, state: &State) -> mlua::Result<Vec<Option<Function>>> {
        let load = |expression: &String| state.template(&format!("return {expression}")).map(Some);
        self.expressions.iter().map(load).collect()
    }
}

impl Template for TemplateCode {
    fn text(&self, request: &Request) -> Result<Option<String>> {
        let text = State::of_thread(&self.settings).and_then(|state| {
            let run = run_of(&state, request);
            let functions = state.functions(&self.owner, self)?;
            let mut out = Vec::new();
            for piece in &self.pieces {
                let at = match piece {
                    Piece::Text(text) => {
                        out.extend_from_slice(text.as_bytes());
                        continue;
                    }
                    Piece::Expression(at) => *at,
                };
                let Some(Some(function)) = functions.get(at) else { continue };
                let moment = Moment { request: Some(Lent::Shared(request)), ..Moment::new(Phase::Access, &run, "") };
                match state.call(function, moment)? {
                    Value::Nil if self.pieces.len() == 1 => return Ok(None),
                    Value::Nil => out.extend_from_slice(b"nil"),
                    Value::Boolean(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
                    value => match arguments::scalar(&value) {
                        Some(text) => out.extend(text),
                        // Tables, functions and the like, by kind and address, as Lua writes them.
                        None => out.extend_from_slice(value.to_string()?.as_bytes()),
                    },
                }
            }
            Ok(Some(String::from_utf8_lossy(&out).into_owned()))
        });
        text.map_err(|error| told(&error))
    }
}
