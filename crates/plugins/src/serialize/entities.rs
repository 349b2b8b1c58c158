//! Entities as log records tell of them, as text.
//!
//! A record carries its whole route, service and consumer, which are the same for millions of records: each worker keeps the
//! text of those it met last.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use portcullis_entities::{Consumer, Route, Service};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// So many of a kind are remembered a worker; then it begins anew.
const REMEMBERED: usize = 1024;

/// An entity as the gateway holds it: without what is null, with its workspace if asked for.
pub fn entity(entity: &impl Serialize, workspace: Option<Uuid>) -> Option<Value> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(entity) else { return None };
    fields.retain(|_, value| !value.is_null());
    if let Some(workspace) = workspace {
        fields.insert("ws_id".to_owned(), json!(workspace));
    }
    Some(Value::Object(fields))
}

thread_local! {
    static ROUTES: RefCell<Texts<Route>> = RefCell::default();
    static SERVICES: RefCell<Texts<Service>> = RefCell::default();
    static CONSUMERS: RefCell<Texts<Consumer>> = RefCell::default();
}

/// A route's text, with its workspace.
pub fn route(route: &Arc<Route>, workspace: Uuid) -> Option<Rc<[u8]>> {
    ROUTES.with_borrow_mut(|texts| texts.of(route, Some(workspace)))
}

/// A service's text, with its workspace.
pub fn service(service: &Arc<Service>, workspace: Uuid) -> Option<Rc<[u8]>> {
    SERVICES.with_borrow_mut(|texts| texts.of(service, Some(workspace)))
}

/// A consumer's text.
pub fn consumer(consumer: &Arc<Consumer>) -> Option<Rc<[u8]>> {
    CONSUMERS.with_borrow_mut(|texts| texts.of(consumer, None))
}

/// Texts by the address of what they describe. The weak reference keeps that address from being given to another entity.
struct Texts<T>(HashMap<usize, (Weak<T>, Rc<[u8]>)>);

impl<T> Default for Texts<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Serialize> Texts<T> {
    fn of(&mut self, described: &Arc<T>, workspace: Option<Uuid>) -> Option<Rc<[u8]>> {
        let address = Arc::as_ptr(described).addr();
        if let Some((_, text)) = self.0.get(&address) {
            return Some(text.clone());
        }
        let text = Rc::<[u8]>::from(serde_json::to_vec(&entity(&**described, workspace)?).ok()?);
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(address, (Arc::downgrade(described), text.clone()));
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entity_has_its_own_text_however_many_there_were() {
        let mut texts = Texts::default();
        for number in 0..3 * REMEMBERED {
            let named = Arc::new(json!({ "name": number, "nothing": null }));
            for _ in 0..2 {
                let text = texts.of(&named, None).expect("an object");
                assert_eq!(&*text, format!(r#"{{"name":{number}}}"#).as_bytes());
            }
            assert!(texts.0.len() <= REMEMBERED);
        }
    }
}
