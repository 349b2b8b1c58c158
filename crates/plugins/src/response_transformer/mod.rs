//! response-transformer: changes headers and JSON bodies of responses on their way to the client.
//!
//! Headers first, then the body; within each remove, rename, replace, add, append. Only the top level of JSON objects is
//! changed. Such a body is gathered before it goes out; a body that is no JSON object, or is very large, goes out as it came.

mod config;
mod json;

use portcullis_plugin::{Env, Handler, Head, Headers, Instance, Phases, Plugin, Request, Result, Scopes};

use config::Config;
use json::Changes;

/// How much of a body is gathered, in bytes. A larger one goes out unchanged.
const MAX_BODY: usize = 64 << 20;

/// See the module's description.
pub struct ResponseTransformer {
    remove: Vec<String>,
    rename: Vec<(String, String)>,
    replace: Vec<(String, String)>,
    add: Vec<(String, String)>,
    append: Vec<(String, String)>,
    json: Option<Changes>,
}

/// Headers of which nginx keeps one: adding another replaces it.
const SINGLE: [&str; 11] = [
    "accept-ranges",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "etag",
    "expires",
    "last-modified",
    "location",
    "refresh",
    "server",
];

/// What of a JSON body has come so far.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    given_up: bool,
}

/// Splits `name:value`s. An empty value sets nothing, as in Kong.
fn pairs(list: &[String]) -> Vec<(String, String)> {
    let split = list.iter().filter_map(|item| item.split_once(':'));
    split.filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Plugin for ResponseTransformer {
    const NAME: &'static str = "response-transformer";
    const PRIORITY: i32 = 800;
    const PHASES: Phases = Phases::HEADER_FILTER.and(Phases::BODY_FILTER);
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        let name = |item: &String| item.split(':').next().unwrap_or_default().to_owned();
        Ok(Self {
            remove: config.remove.headers.iter().map(name).collect(),
            rename: pairs(&config.rename.headers),
            replace: pairs(&config.replace.headers),
            add: pairs(&config.add.headers),
            append: pairs(&config.append.headers),
            json: Changes::new(&config),
        })
    }
}

impl Handler for ResponseTransformer {
    fn header_filter(&self, head: &mut Head<'_>) -> Result<()> {
        let headers = &mut head.response.headers;
        self.change(headers);
        if self.json.is_some() && headers.get("Content-Type").is_some_and(is_json) {
            // The body's length is known when it has been changed.
            headers.remove("Content-Length");
            head.context.set(Gathered::default());
        }
        Ok(())
    }

    fn body_filter(&self, request: &mut Request, chunk: &mut Vec<u8>, last: bool) -> Result<()> {
        let (Some(changes), Some(gathered)) = (&self.json, request.context.get_mut::<Gathered>()) else { return Ok(()) };
        if gathered.given_up {
            return Ok(());
        }
        gathered.bytes.append(chunk);
        gathered.given_up = gathered.bytes.len() > MAX_BODY;
        if last || gathered.given_up {
            *chunk = std::mem::take(&mut gathered.bytes);
        }
        if last
            && !gathered.given_up
            && let Some(changed) = changes.applied(chunk)
        {
            *chunk = changed;
        }
        Ok(())
    }
}

impl ResponseTransformer {
    /// What is there is decided by the response as it came: a header that was removed is not added again, as in Kong.
    fn change(&self, headers: &mut Headers) {
        let given = headers.clone();
        for name in &self.remove {
            headers.remove(name);
        }
        for (old, new) in &self.rename {
            let kept: Vec<Vec<u8>> = given.get_all(old).map(<[u8]>::to_vec).collect();
            if kept.is_empty() {
                continue;
            }
            headers.remove(new);
            kept.iter().for_each(|value| headers.append(new, value));
            // Last, as in Kong: two spellings of one name leave nothing.
            headers.remove(old);
        }
        for (name, value) in &self.replace {
            if given.contains(name) {
                headers.set(name, value.as_bytes());
            }
        }
        for (name, value) in &self.add {
            if !given.contains(name) {
                headers.set(name, value.as_bytes());
            }
        }
        for (name, value) in &self.append {
            if SINGLE.iter().any(|single| name.eq_ignore_ascii_case(single)) {
                headers.set(name, value.as_bytes());
            } else {
                headers.append(name, value.as_bytes());
            }
        }
    }
}

/// `application/json`, or a type whose name ends with `+json`, perhaps among others.
fn is_json(content_type: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content_type).to_ascii_lowercase();
    text.split(',').any(|one| {
        let essence = one.split(';').next().unwrap_or_default().trim();
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
    })
}

#[cfg(test)]
mod tests;
