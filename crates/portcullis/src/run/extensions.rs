//! What plugins add to the Admin API, in the terms of each side.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderName, Method, StatusCode};
use portcullis_admin::{Answer, Call, Extension};
use portcullis_lua::{Lua, Route};
use portcullis_plugin::{AdminCall, Body, Endpoint, Entry, Env};
use portcullis_schema::Record;

/// The endpoints of all these plugins.
pub fn of(entries: &[Entry], env: &Env) -> Vec<Extension> {
    entries.iter().flat_map(|entry| (entry.endpoints)()).map(|endpoint| extension(endpoint, env.clone())).collect()
}

fn extension(endpoint: Endpoint, env: Env) -> Extension {
    let handle = endpoint.handle;
    Extension {
        method: endpoint.method.parse().unwrap_or(Method::GET),
        path: endpoint.path,
        handle: Arc::new(move |call| {
            let answering = handle(env.clone(), told(call));
            Box::pin(async move { answer(answering.await) })
        }),
    }
}

/// The endpoints of users' plugins in Lua. Errors with what is wrong with one.
pub fn of_lua(lua: &Lua) -> Result<Vec<Extension>, String> {
    let extension = |route: Route| {
        let lua = lua.clone();
        Extension {
            method: route.method.parse().unwrap_or(Method::GET),
            // Plugins are looked at once, when the node starts.
            path: Box::leak(route.braced().into_boxed_str()),
            handle: Arc::new(move |call| {
                let lua = lua.clone();
                Box::pin(async move { answer(lua.call(route, params(route, told(call))).await) })
            }),
        }
    };
    Ok(lua.routes()?.into_iter().map(extension).collect())
}

/// What a call says, by name: the path goes before the body, the body before the query.
fn params(route: Route, call: AdminCall) -> Record {
    let mut all: Record = call.query.into_iter().map(|(name, value)| (name, value.into())).collect();
    all.extend(call.body);
    all.extend(route.parameters().zip(call.params).map(|(name, value)| (name.to_owned(), value.into())));
    all
}

fn told(call: Call) -> AdminCall {
    let query = call.query.into_arguments().into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect();
    AdminCall { params: call.params, query, body: call.body.fields }
}

fn answer(given: portcullis_plugin::Answer) -> Answer {
    let status = StatusCode::from_u16(given.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = match given.body {
        Body::Json(value) => Answer::json(status, &value),
        Body::Negotiated(message) => Answer::message(status, message),
        Body::Bytes { content_type, bytes } => {
            // Types are named in the program text; one that was made up is not told.
            let content_type = content_type.and_then(|of| if let Cow::Borrowed(of) = of { Some(of) } else { None });
            Answer { body: bytes.into(), content_type, ..Answer::empty(status) }
        }
        Body::Default => Answer::page(status),
        Body::Empty => Answer::empty(status),
    };
    for (name, value) in given.headers {
        // The Admin API names its headers in the program text; what is not such a name is not sent.
        let (Cow::Borrowed(name), Ok(value)) = (name, String::from_utf8(value)) else { continue };
        if HeaderName::try_from(name).is_ok() && name.bytes().all(|byte| !byte.is_ascii_uppercase()) {
            answer = answer.header(name, value);
        }
    }
    answer
}
