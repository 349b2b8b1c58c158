//! `ngx.re`: Perl-like expressions over Lua strings.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use fancy_regex::Regex;
use mlua::{Lua, Table, Value};

/// Compiled expressions a state keeps.
const KEPT: usize = 1000;

/// Expressions compiled in one state, by options and text.
#[derive(Default)]
pub struct Regexes(RefCell<HashMap<(String, String), Rc<Regex>>>);

impl Regexes {
    /// The expression, compiled if it is new. Errors with what is wrong with it.
    pub fn get(&self, pattern: &str, options: &str) -> Result<Rc<Regex>, String> {
        let flags: String = options.chars().filter(|flag| "ismxa".contains(*flag)).collect();
        let key = (flags, pattern.to_owned());
        if let Some(regex) = self.0.borrow().get(&key) {
            return Ok(regex.clone());
        }
        let inline: String = key.0.chars().filter(|flag| *flag != 'a').collect();
        let anchor = if key.0.contains('a') { r"\G" } else { "" };
        let text = if inline.is_empty() { format!("{anchor}(?:{pattern})") } else { format!("{anchor}(?{inline}:{pattern})") };
        let regex = Regex::new(&text).map_err(|error| error.to_string())?;
        let mut all = self.0.borrow_mut();
        if all.len() >= KEPT {
            all.clear();
        }
        Ok(all.entry(key).or_insert(Rc::new(regex)).clone())
    }
}

/// The first match at or behind a byte offset: a table of captures (0 is the whole, names beside numbers, `false` for groups
/// that took no part), where it begins and ends. Nothing if there is none.
pub fn find(lua: &Lua, regex: &Regex, subject: &[u8], start: usize) -> mlua::Result<Option<(Table, usize, usize, Table)>> {
    // Bytes that are no UTF-8 are looked at one by one.
    let (text, bytewise) = match std::str::from_utf8(subject) {
        Ok(text) => (std::borrow::Cow::Borrowed(text), false),
        Err(_) => (std::borrow::Cow::Owned(subject.iter().map(|byte| char::from(*byte)).collect()), true),
    };
    let into = |at: usize| match bytewise {
        true => text.char_indices().nth(at).map_or(text.len(), |(place, _)| place),
        false => (at..=text.len()).find(|place| text.is_char_boundary(*place)).unwrap_or(text.len()),
    };
    let back = |at: usize| if bytewise { text[..at].chars().count() } else { at };
    if start > subject.len() {
        return Ok(None);
    }
    let captures = regex.captures_from_pos(&*text, into(start)).map_err(|error| mlua::Error::runtime(error.to_string()))?;
    let Some(captures) = captures else { return Ok(None) };
    let Some(whole) = captures.get(0) else { return Ok(None) };
    let table = lua.create_table_with_capacity(captures.len(), 1)?;
    let places = lua.create_table_with_capacity(captures.len() * 2, 0)?;
    let value = |found: Option<fancy_regex::Match<'_>>| match found {
        Some(found) => lua.create_string(&subject[back(found.start())..back(found.end())]).map(Value::String),
        None => Ok(Value::Boolean(false)),
    };
    for (at, name) in regex.capture_names().enumerate() {
        let found = captures.get(at);
        table.raw_set(at, value(found)?)?;
        if let Some(name) = name {
            table.raw_set(name, value(found)?)?;
        }
        if let Some(found) = found {
            places.raw_set(at * 2, back(found.start()) + 1)?;
            places.raw_set(at * 2 + 1, back(found.end()))?;
        }
    }
    Ok(Some((table, back(whole.start()) + 1, back(whole.end()), places)))
}
