//! redirect: sends clients elsewhere.

mod config;

use portcullis_plugin::{Answer, Env, Handler, Instance, Phases, Plugin, Request, Result, Scopes, Step};
use url::Url;

use config::Config;

/// See the module's description.
pub struct Redirect {
    status: u16,
    location: String,
    /// The location taken apart, where path and query of requests take the place of its own.
    base: Option<Url>,
}

impl Plugin for Redirect {
    const NAME: &'static str = "redirect";
    const PRIORITY: i32 = 779;
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::HTTP;
    type Config = Config;

    fn new(config: Config, _: &Instance, _: &Env) -> Result<Self> {
        let keeps_path = config.keep_incoming_path.unwrap_or_default();
        let base = keeps_path.then(|| Url::parse(&config.location)).transpose()?;
        Ok(Self { status: u16::try_from(config.status_code)?, location: config.location, base })
    }
}

impl Handler for Redirect {
    fn access<'a>(&'a self, request: &'a mut Request) -> Step<'a> {
        let location = self.base.as_ref().map(|base| on_path(base.clone(), request));
        let location = location.unwrap_or_else(|| self.location.clone());
        Step::answer(Answer::bytes(self.status, None, b"redirecting".to_vec()).header("Location", location))
    }
}

/// The location with path and query of the request as the client sent them; an empty query is left out.
fn on_path(mut url: Url, request: &Request) -> String {
    url.set_path(&String::from_utf8_lossy(request.head.path()));
    let query = request.head.query().filter(|query| !query.is_empty()).map(String::from_utf8_lossy);
    url.set_query(query.as_deref());
    url.into()
}

#[cfg(test)]
mod tests;
