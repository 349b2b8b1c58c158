//! cors: tells browsers which other origins may use an API, and answers their preflight requests.
//!
//! Preflights are answered in `access`, before authentication. All other responses, the gateway's own refusals included,
//! get their headers in `header_filter`. Which origin is allowed is decided once, in `allowed`, for both.

mod origin;

use portcullis_plugin::{Answer, Context, Env, Handler, Head, Headers, Instance, Method, Phases, Plugin, Request, Result, Scopes, Step};
use portcullis_schema::Fields;
use serde::Deserialize;
use serde_json::Value;

use crate::number;
use origin::{Allowed, Origins};

const METHODS: [&str; 9] = ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";
const ALLOW_CREDENTIALS: &str = "Access-Control-Allow-Credentials";

#[derive(Debug, Deserialize, Fields)]
pub struct Config {
    /// Origins that may use the API: `https://shop.test`, regular expressions, or `*` for all. None means all.
    #[field(array(string().custom(star_or_regex)))]
    pub origins: Option<Vec<String>>,
    /// Request headers that preflights allow; without any, those the browser asks for.
    #[field(array(string()))]
    pub headers: Option<Vec<String>>,
    /// Response headers that scripts may read.
    #[field(array(string()))]
    pub exposed_headers: Option<Vec<String>>,
    /// Methods that preflights allow.
    #[field(array(string().one_of(METHODS)).default(METHODS))]
    pub methods: Option<Vec<String>>,
    /// Seconds a browser may remember a preflight's answer.
    #[field(number())]
    pub max_age: Option<f64>,
    /// Whether requests may carry cookies and other credentials.
    #[field(boolean().required().default(false))]
    pub credentials: bool,
    /// Whether preflights that ask for access from a public to a private network get it.
    #[field(boolean().required().default(false))]
    pub private_network: bool,
    /// Whether preflights are left to the upstream.
    #[field(boolean().required().default(false))]
    pub preflight_continue: bool,
}

fn star_or_regex(value: &Value) -> std::result::Result<(), String> {
    match value.as_str() {
        Some(text) if text != "*" && regex::Regex::new(text).is_err() => Err(format!("'{text}' is not a valid regex")),
        _ => Ok(()),
    }
}

/// See the module's description.
pub struct Cors {
    origins: Origins,
    credentials: bool,
    private_network: bool,
    preflight_continue: bool,
    /// Header values, ready to be sent.
    headers: Option<String>,
    exposed_headers: Option<String>,
    methods: String,
    max_age: Option<String>,
}

/// Left in the context of a preflight: its response is complete.
struct LeaveAlone;

impl Plugin for Cors {
    const NAME: &'static str = "cors";
    const PRIORITY: i32 = 2000;
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER);
    const SCOPES: Scopes = Scopes::HTTP_NO_CONSUMER;
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        let listed = |list: Option<Vec<String>>| list.filter(|list| !list.is_empty()).map(|list| list.join(","));
        Ok(Self {
            origins: Origins::new(config.origins.unwrap_or_default())?,
            credentials: config.credentials,
            private_network: config.private_network,
            preflight_continue: config.preflight_continue,
            headers: listed(config.headers),
            exposed_headers: listed(config.exposed_headers),
            methods: config.methods.map_or_else(|| METHODS.join(","), |methods| methods.join(",")),
            max_age: config.max_age.map(number::text),
        })
    }
}

impl Handler for Cors {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        if request.head.method != Method::Options {
            return Step::Next;
        }
        let headers = &request.head.headers;
        let Some(origin) = headers.get("origin").filter(|_| headers.contains("access-control-request-method")) else {
            return Step::Next;
        };
        if self.preflight_continue {
            return leave_alone(&mut request.context);
        }
        let answer = self.preflight(origin, headers);
        leave_alone(&mut request.context);
        Step::answer(answer)
    }

    fn header_filter(&self, head: &mut Head<'_>) -> Result<()> {
        if head.context.get::<LeaveAlone>().is_some() {
            return Ok(());
        }
        let origin = head.request.head.headers.get("origin");
        let headers = &mut head.response.headers;
        let allowed = self.origins.allowed(origin);
        if self.origins.vary() {
            headers.append("Vary", b"Origin");
        }
        match (&allowed, origin) {
            // Credentials don't go with a star, so the star becomes the caller's own origin.
            (Allowed::All, Some(origin)) if self.credentials => {
                headers.append("Vary", b"Origin");
                headers.set(ALLOW_ORIGIN, origin);
                headers.set(ALLOW_CREDENTIALS, b"true");
            }
            (Allowed::All, _) => headers.set(ALLOW_ORIGIN, b"*"),
            (allowed, _) => {
                match allowed {
                    Allowed::Origin(origin) => headers.set(ALLOW_ORIGIN, origin),
                    _ => drop(headers.remove(ALLOW_ORIGIN)),
                }
                if self.credentials {
                    headers.set(ALLOW_CREDENTIALS, b"true");
                }
            }
        }
        if let Some(exposed) = &self.exposed_headers {
            headers.set("Access-Control-Expose-Headers", exposed.as_bytes());
        }
        Ok(())
    }
}

impl Cors {
    fn preflight(&self, origin: &[u8], asked: &Headers) -> Answer {
        let allowed = self.origins.allowed(Some(origin));
        let becomes_own = self.credentials && matches!(allowed, Allowed::All);
        let mut answer = Answer::empty(200);
        if self.origins.vary() || becomes_own {
            answer = answer.header("Vary", "Origin");
        }
        answer = match &allowed {
            Allowed::All if becomes_own => answer.header(ALLOW_ORIGIN, origin),
            Allowed::All => answer.header(ALLOW_ORIGIN, "*"),
            Allowed::Origin(origin) => answer.header(ALLOW_ORIGIN, &**origin),
            Allowed::None => answer,
        };
        if self.credentials {
            answer = answer.header(ALLOW_CREDENTIALS, "true");
        }
        let headers = self.headers.as_ref().map(String::as_bytes).or_else(|| asked.get("access-control-request-headers"));
        if let Some(headers) = headers {
            answer = answer.header("Access-Control-Allow-Headers", headers);
        }
        answer = answer.header("Access-Control-Allow-Methods", self.methods.as_str());
        if let Some(max_age) = &self.max_age {
            answer = answer.header("Access-Control-Max-Age", max_age.as_str());
        }
        if self.private_network && asked.get("access-control-request-private-network") == Some(b"true") {
            answer = answer.header("Access-Control-Allow-Private-Network", "true");
        }
        answer
    }
}

fn leave_alone<'a>(context: &mut Context) -> Step<'a> {
    context.set(LeaveAlone);
    Step::Next
}

#[cfg(test)]
mod tests;
